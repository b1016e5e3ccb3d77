//! A registry in PostgreSQL: shared by two gateways, during and after an outage, and unusable at
//! startup.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use moltrade_relayer::config::Secret;
use moltrade_relayer::fanout::registry::{
    BotName, BotRow, Change, FollowKey, FollowRow, Postgres, Row, Sealer, Store,
};
use prometheus_client::metrics::counter::Counter;
use relay_sim::Sim;
use sqlx::{Connection, PgConnection};
use wire::Signer;

use crate::bots::{Bot, relays};
use crate::client::{Api, registration, subscription};
use crate::connection::{Connection as FollowerConnection, Follower};
use crate::http::{Request, until};
use crate::postgres::{Database, PASSWORD};
use crate::program::Site;

/// The time for a change to reach the other gateway, even on a busy machine. `SOON` is less than
/// `REGISTRY_TIMEOUT`, so a wait for that timeout fails the test.
const SOON: Duration = Duration::from_secs(4);

/// A gateway that uses this database. Gateways with the same key share a registry.
fn site(sim: &Sim, dsn: &str, key: u64) -> Site {
    let key = faster_hex::hex_string(&*Signer::from_seed(key).secret());
    Site::on(sim).set("RELAYER_NOSTR__SECRET_KEY", key).set("RELAYER_POSTGRES__DSN", dsn)
}

/// Whether the only follower of a bot shares a secret; `None` without a follower.
async fn listed(api: &Api, bot: &Bot) -> Option<bool> {
    let answer = api.call(&bot.key, crate::client::listing(bot.key.pubkey())).await.json();
    answer["subscriptions"].get(0).map(|follow| follow["shared_secret"].as_bool().expect("a flag"))
}

/// Waits until the other gateway lists the bot's follower as expected.
async fn soon(what: &str, api: &Api, bot: &Bot, expected: Option<bool>) {
    let took = until(what, async || listed(api, bot).await == expected).await;
    println!("{what}: in effect at the other gateway after {took:.0?}");
    assert!(took < SOON, "{what}: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_at_one_gateway_soon_applies_at_the_other() {
    let (sim, database) = (relays(2).await, Database::fresh());
    let sites = [site(&sim, &database.dsn, 7), site(&sim, &database.dsn, 7)];
    let _running = [sites[0].start().await, sites[1].start().await];
    let [here, there] = [Api::of(&sites[0]), Api::of(&sites[1])];
    assert_eq!(here.identity().await, there.identity().await);
    let gateway = here.identity().await;
    // The other gateway may learn of the bot only with the bot's first follow.
    let bot = Bot::registered(1, &here).await;
    let key = bot.key.pubkey();
    let bell = Bot::registered(2, &here).await;
    let follower = Follower::new(11);
    follower.follow(&there, bell.key.pubkey()).await;
    let mut connection = follower.connect(&there, "").await;

    follower.follow(&here, key).await;
    soon("a subscription", &there, &bot, Some(false)).await;
    let signal = bot.publish(&sim);
    assert_eq!(follower.opener(&gateway).open(&connection.next().await), signal);

    let sharing = follower.clone().sharing("the secret that came later");
    sharing.follow(&here, key).await;
    soon("a secret", &there, &bot, Some(true)).await;
    let signal = bot.publish(&sim);
    assert_eq!(sharing.opener(&gateway).open(&connection.next().await), signal);

    here.unsubscribe(key, &follower.key).await;
    soon("an end", &there, &bot, None).await;
    bot.publish(&sim);
    there.until_head(3).await;
    let signal = bell.publish(&sim);
    assert_eq!(follower.opener(&gateway).open(&connection.next().await), signal);
}

/// Both gateways write at the same time, and end with the same follows.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_end_in_the_same_state() {
    const FOLLOWERS: u64 = 40;
    let (sim, database) = (relays(1).await, Database::fresh());
    let sites = [site(&sim, &database.dsn, 7), site(&sim, &database.dsn, 7)];
    let _running = [sites[0].start().await, sites[1].start().await];
    let apis = [Api::of(&sites[0]), Api::of(&sites[1])];
    let bot = Bot::registered(1, &apis[0]).await;
    let key = bot.key.pubkey();
    let write = async |number: u64| {
        let (follower, api) = (Follower::new(100 + number), &apis[number as usize % 2]);
        follower.follow(api, key).await;
        follower
            .clone()
            .sharing("a secret of sixteen bytes")
            .follow(&apis[(number as usize + 1) % 2], key)
            .await;
        if number.is_multiple_of(4) {
            api.unsubscribe(key, &follower.key).await;
        }
    };
    futures_util::future::join_all((0..FOLLOWERS).map(write)).await;
    let expected = FOLLOWERS as usize * 3 / 4;
    for api in &apis {
        until("all is known", async || api.followers(&bot.key).await.len() == expected).await;
        let status = api.status().await;
        assert_eq!(status["follows"], expected, "{status}");
    }
    assert_eq!(apis[0].followers(&bot.key).await, apis[1].followers(&bot.key).await);
}

/// Asserts that all functions continue except changes of the registry.
async fn assert_delivery_continues(
    sim: &Sim,
    api: &Api,
    bot: &Bot,
    follower: &Follower,
    connection: &mut FollowerConnection,
) {
    let gateway = api.identity().await;
    for _ in 0..3 {
        let signal = bot.publish(sim);
        let message = connection.next().await;
        assert_eq!(follower.opener(&gateway).open(&message), signal);
        // The signal is in the log, so a new connection gets it, too.
        let cursor = format!("?cursor={}", message.seq - 1);
        let mut other = follower.connect(api, &cursor).await;
        assert_eq!(other.next().await.seq, message.seq);
        other.leave().await;
    }
    // Followers are still listed.
    assert_eq!(api.followers(&bot.key).await.len(), 1);
}

async fn is(api: &Api, state: &str) -> Duration {
    until(state, async || api.status().await["registry"]["state"] == state).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_down_known_followers_are_served() {
    let (sim, database) = (relays(2).await, Database::alone());
    let site = site(&sim, &database.dsn, 7);
    let running = site.start().await;
    let api = Api::of(&site);
    let bot = Bot::registered(1, &api).await;
    let follower = Follower::new(11);
    follower.follow(&api, bot.key.pubkey()).await;
    let mut connection = follower.connect(&api, "").await;
    let mut everything = site.consumer("?cursor=0").await;

    database.cluster().stop();
    println!("it was noticed after {:.0?}", is(&api, "down").await);
    let status = api.status().await;
    assert_eq!((&status["bots"], &status["follows"]), (&1.into(), &1.into()), "{status}");
    assert!(status["registry"]["down_since"].as_u64().is_some(), "{status}");
    assert!(status["registry"]["reason"].as_str().unwrap().contains("cannot be reached"), "{status}");
    let metrics = running.get("/metrics").await.unwrap();
    assert!(metrics.contains("registry_up 0\n"), "{metrics}");
    assert_delivery_continues(&sim, &api, &bot, &follower, &mut connection).await;
    for _ in 0..3 {
        everything.next().await.expect("an event");
    }
    let late = Follower::new(12);
    for (key, request) in [
        (&*late.key, subscription(bot.key.pubkey(), late.key.pubkey(), None)),
        (&bot.key, registration(bot.key.pubkey(), "another name")),
        (&follower.key, crate::client::unsubscription(bot.key.pubkey(), follower.key.pubkey())),
    ] {
        let began = Instant::now();
        let answer = api.call(key, request).await;
        // While the database is known to be down, a call fails at once.
        assert!(began.elapsed() < SOON, "the call was refused after {:.1?}", began.elapsed());
        answer.assert(503, "registry_unavailable", "try again later");
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    // The refused changes have no effect.
    assert_delivery_continues(&sim, &api, &bot, &follower, &mut connection).await;

    database.cluster().start();
    println!("it was well again after {:.0?}", is(&api, "up").await);
    late.follow(&api, bot.key.pubkey()).await;
    assert_eq!(api.followers(&bot.key).await.len(), 2);
    assert!(running.get("/metrics").await.unwrap().contains("registry_up 1\n"));
}

/// The server accepts connections but never answers, which is the worst kind of failure.
#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_hangs_known_followers_are_served() {
    let (sim, database) = (relays(2).await, Database::alone());
    let site = site(&sim, &database.dsn, 7);
    let _running = site.start().await;
    let api = Api::of(&site);
    let bot = Bot::registered(1, &api).await;
    let follower = Follower::new(11);
    follower.follow(&api, bot.key.pubkey()).await;
    let mut connection = follower.connect(&api, "").await;
    database.cluster().freeze();
    let late = Follower::new(12);
    let writes = async {
        for _ in 0..2 {
            let request = subscription(bot.key.pubkey(), late.key.pubkey(), None);
            api.call(&late.key, request).await.assert(503, "registry_unavailable", "try again later");
        }
    };
    tokio::join!(writes, assert_delivery_continues(&sim, &api, &bot, &follower, &mut connection));
    database.cluster().thaw();
    is(&api, "up").await;
    until("it can be written", async || {
        let request = subscription(bot.key.pubkey(), late.key.pubkey(), None);
        matches!(api.call(&late.key, request).await.status, 200 | 201)
    })
    .await;
}

/// Changes the owner of the registry while a gateway with the old key runs. This gateway keeps its
/// directory and cannot write, and works as before when the owner is changed back.
async fn the_owner_changes(tells_whose: bool) {
    let (sim, database) = (relays(2).await, Database::fresh());
    let old = site(&sim, &database.dsn, 7);
    let running = old.start().await;
    let api = Api::of(&old);
    let bot = Bot::registered(1, &api).await;
    let follower = Follower::new(11).sharing("a secret of the old key's");
    follower.follow(&api, bot.key.pubkey()).await;
    let mut connection = follower.connect(&api, "").await;
    if !tells_whose {
        // The row is changed directly, so that only a notification reaches the gateway.
        let mut hand = PgConnection::connect(&database.dsn).await.unwrap();
        let mute = "ALTER TABLE moltrade_relayer.meta DISABLE TRIGGER tell_change";
        sqlx::raw_sql(mute).execute(&mut hand).await.unwrap();
    }
    let rekey = |from: u64, to: u64| {
        let new = site(&sim, &database.dsn, to);
        let file = new.folder().join("old.key");
        std::fs::write(&file, faster_hex::hex_string(&*Signer::from_seed(from).secret())).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let output = new.run_with(&["registry", "rekey", "--old-key-file", &file.display().to_string()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };

    rekey(7, 8);
    is(&api, "down").await;
    let status = api.status().await;
    assert_eq!(status["registry"]["reason"], "it belongs to another key", "{status}");
    let found = Signer::from_seed(8).pubkey().to_string();
    assert_eq!((&status["bots"], &status["follows"]), (&1.into(), &1.into()), "{status}");
    running.until_stderr_contains(&format!("belongs to the gateway key {found}")).await;
    assert_delivery_continues(&sim, &api, &bot, &follower, &mut connection).await;
    let late = Follower::new(12);
    for (key, request) in [
        (&*late.key, subscription(bot.key.pubkey(), late.key.pubkey(), None)),
        (&*follower.key, subscription(bot.key.pubkey(), follower.key.pubkey(), Some("another secret of it"))),
        (&bot.key, registration(bot.key.pubkey(), "another name")),
    ] {
        api.call(key, request).await.assert(503, "registry_unavailable", "try again later");
    }
    assert_delivery_continues(&sim, &api, &bot, &follower, &mut connection).await;

    rekey(8, 7);
    is(&api, "up").await;
    assert_delivery_continues(&sim, &api, &bot, &follower, &mut connection).await;
    late.follow(&api, bot.key.pubkey()).await;
    running.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_keeps_its_directory_when_the_owner_changes() {
    the_owner_changes(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_ignores_rows_sealed_by_another_key() {
    the_owner_changes(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_starts_while_postgres_is_down() {
    let (sim, database) = (relays(2).await, Database::alone());
    let site = site(&sim, &database.dsn, 7);
    database.cluster().stop();
    let running = site.start().await;
    let api = Api::of(&site);
    let (bot, follower) = (Bot::new(1), Follower::new(11));
    for request in [
        Request::upgrade("/fanout"),
        registration(bot.key.pubkey(), "a name"),
        crate::client::listing(bot.key.pubkey()),
    ] {
        let answer = api.call(&bot.key, request).await;
        answer.assert(503, "registry_unavailable", "try again later");
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    assert_eq!(api.status().await["registry"]["state"], "down");
    // All other functions work.
    let signal = bot.publish(&sim);
    api.until_head(1).await;
    assert_eq!(api.log().await[0].1["id"], signal.id().to_string());
    database.cluster().start();
    is(&api, "up").await;
    api.register(&bot.key, "a name").await;
    follower.follow(&api, bot.key.pubkey()).await;
    let mut connection = follower.connect(&api, "?cursor=0").await;
    assert_eq!(follower.opener(&api.identity().await).open(&connection.next().await), signal);
    running.kill();
}

/// An older version stored the secrets without checking them.
#[tokio::test(flavor = "multi_thread")]
async fn stored_weak_secrets_are_served_and_logged_once() {
    let (sim, database) = (relays(1).await, Database::fresh());
    let site = site(&sim, &database.dsn, 7);
    let gateway = Signer::from_seed(7);
    let (bot, weak, strong) = (Bot::new(1), Follower::new(11), Follower::new(12));
    let secret = weak.key.pubkey().to_string();
    {
        let store =
            Postgres::new(&Secret::new(&*database.dsn), 5.try_into().unwrap(), Counter::default()).unwrap();
        store.prepare(*gateway.pubkey()).await.unwrap();
        let sealer = Sealer::new(&gateway);
        let row = |follower: &Follower, secret: &str| {
            let key = FollowKey { bot: *bot.key.pubkey(), follower: *follower.key.pubkey() };
            let secret = Some(sealer.seal(&key, secret.as_bytes()));
            Change::Put(Row::Follow(FollowRow { key, secret, since_ms: 1 }))
        };
        let name = BotName::new("a bot").unwrap();
        let bot = BotRow { pubkey: *bot.key.pubkey(), name, registered_at_ms: 1, is_approved: true };
        let changes =
            vec![Change::Put(Row::Bot(bot)), row(&weak, &secret), row(&strong, "kxN0x4kTDdPmw8ZBtDMZWQ==")];
        store.write(*gateway.pubkey(), changes).await.unwrap();
    }
    let running = site.start().await;
    running.until_stderr_contains("some follows have a weak shared secret").await;
    running.until_stderr_contains("follows=1").await;
    let api = Api::of(&site);
    let weak = weak.sharing(&secret);
    let mut connection = weak.connect(&api, "").await;
    let signal = bot.publish(&sim);
    assert_eq!(weak.opener(&api.identity().await).open(&connection.next().await), signal);
    running.kill();
}

/// Calls, the status and the metrics show the state. The gateway logs the state once.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_postgres_is_reported_once() {
    let (sim, database) = (relays(1).await, Database::alone());
    let site = site(&sim, &database.dsn, 7);
    let running = site.start().await;
    let api = Api::of(&site);
    let bot = Bot::registered(1, &api).await;
    let mut hand = PgConnection::connect(&database.dsn).await.unwrap();
    let mut set = async |value: &str| {
        let statements = [
            "SET default_transaction_read_only = off".to_owned(),
            format!("ALTER SYSTEM SET default_transaction_read_only = {value}"),
            "SELECT pg_reload_conf()".to_owned(),
        ];
        for statement in statements {
            sqlx::raw_sql(&statement).execute(&mut hand).await.unwrap();
        }
    };
    set("on").await;
    until("a write is refused", async || {
        api.call(&bot.key, registration(bot.key.pubkey(), "a name")).await.status == 503
    })
    .await;
    is(&api, "read_only").await;
    for _ in 0..50 {
        let answer = api.call(&bot.key, registration(bot.key.pubkey(), "a name")).await;
        answer.assert(503, "registry_unavailable", "try again later");
    }
    // The gateway retries by itself, with a few statements each time.
    let statements = async || running.metric("registry_queries_total").await;
    let before = statements().await;
    until("the gateway keeps trying", async || statements().await >= before + 15).await;
    let metrics = running.get("/metrics").await.unwrap();
    assert!(metrics.contains("registry_up 0\n") && metrics.contains("registry_read_only 1\n"), "{metrics}");
    running.signal("KILL");
    let log = running.stderr();
    assert_eq!(log.matches("the registry's database is read-only").count(), 1, "{log}");
    // Startup does not wait for the database either.
    let running = site.start().await;
    is(&api, "read_only").await;
    set("off").await;
    is(&api, "up").await;
    api.register(&bot.key, "another name").await;
    running.kill();
}

/// Asserts that a gateway refuses to start and states the reason in its last line.
fn assert_refused(site: &Site, code: i32, expected: &[&str]) {
    let output = site.run();
    let stderr = String::from_utf8([output.stderr, output.stdout].concat()).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let last = stderr.lines().last().expect("a line");
    for expected in expected {
        assert!(last.contains(expected), "{expected:?} is not in: {last}");
    }
    assert!(!stderr.contains("panicked") && !stderr.contains("hunter2"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_used_stops_the_start() {
    let (sim, database) = (relays(1).await, Database::alone());
    let refused = |dsn: &str, code, expected: &[&str]| assert_refused(&site(&sim, dsn, 7), code, expected);
    for dsn in [
        &format!("mysql://relayer:{PASSWORD}@127.0.0.1/moltrade"),
        &format!("relayer:{PASSWORD}@127.0.0.1/moltrade"),
        &format!("host=127.0.0.1 password={PASSWORD}"),
        &format!("postgres://relayer:{PASSWORD}@127.0.0.1/moltrade?sslmode={PASSWORD}"),
        &format!("postgres://relayer:{PASSWORD}@127.0.0.1/moltrade?pasword={PASSWORD}"),
        &format!("postgres://relayer@127.0.0.1/moltrade?sslkey=/{PASSWORD}"),
        "",
    ] {
        refused(dsn, 78, &["RELAYER_POSTGRES__DSN", "postgres://"]);
    }
    let wrong = database.dsn_with(|url| url.set_password(Some("wrong-hunter2-not-shown")).unwrap());
    refused(&wrong, 1, &["the registry's database refuses: password authentication failed"]);
    let missing = database.dsn_with(|url| url.set_path("nowhere"));
    refused(&missing, 1, &["database \"nowhere\" does not exist"]);
    let plain = database.dsn_with(|url| url.set_query(Some("sslmode=require")));
    refused(&plain, 1, &["TLS"]);

    site(&sim, &database.dsn, 7).start().await.kill();
    assert_refused(
        &site(&sim, &database.dsn, 8),
        1,
        &["belongs to the gateway key", &Signer::from_seed(7).pubkey().to_string(), "registry rekey"],
    );
    let mut hand = PgConnection::connect(&database.dsn).await.unwrap();
    let later = "INSERT INTO moltrade_relayer._sqlx_migrations (version, description, success, checksum,
        execution_time) VALUES (99, 'later', true, '', 0)";
    sqlx::raw_sql(later).execute(&mut hand).await.unwrap();
    refused(&database.dsn, 1, &["made by a later version (migration 99)"]);
}
