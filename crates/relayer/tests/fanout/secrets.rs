//! Invariant 8 over a whole run at the most verbose log level: secrets appear only where they
//! belong.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use moltrade_relayer::nip19::{nsec, secret_key};
use relay_sim::wait::within;
use ring::hmac;
use rocksdb::{DB, IteratorMode, Options};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row};
use tokio_websockets::Message;
use wire::Signer;

use crate::bots::{Bot, relays};
use crate::client::{Api, listing, registration, subscription, unsubscription};
use crate::connection::{Connection, Follower};
use crate::http::{Request, Response};
use crate::postgres::{Database, PASSWORD};
use crate::program::Site;

const ADMIN_TOKEN: &str = "Adm1n-T0ken-of-the-secrets-test";
const SHARED: &str = "Shared-Secret-one-zq81";
const SHARED_LATER: &str = "Shared-Secret-two-zq82";
/// A secret that is put in a wrong place.
const MISPLACED: &str = "Misplaced-Secret-zq83";
/// A misplaced secret in the form of a number.
const MISPLACED_NUMBER: &str = "9182736450918273645";
const MISPLACED_TOKEN: &str = "Tm9zdHItdG9rZW4taW4tYS13cm9uZy1wbGFjZQ==";
/// Not a secret. The search must find this name, which proves that the search works.
const CANARY: &str = "Canary-Bot-zq84";

#[tokio::test(flavor = "multi_thread")]
async fn invariant_8_no_secret_leaks_with_the_embedded_registry() {
    let site = Site::empty();
    let needles = run(&site, None).await;
    // RocksDB's values must be decompressed before the search.
    let database = rows(&site.log_path());
    needles.search("rows of RocksDB", &database);
    assert!(contains(&database, CANARY), "the name of the bot is not in RocksDB");
    needles.search_files(site.folder());
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_8_no_secret_leaks_into_a_log_of_json() {
    let site = Site::empty().set("RELAYER_MONITORING__LOG_FORMAT", "json");
    run(&site, None).await.search_files(site.folder());
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_8_no_secret_leaks_with_postgres() {
    let database = Database::alone();
    let site = Site::empty().set("RELAYER_POSTGRES__DSN", &*database.dsn);
    let mut needles = run(&site, Some(&database)).await;
    needles.search("rows of RocksDB", &rows(&site.log_path()));
    needles.search_files(site.folder());
    let (dump, folder) = dump(&database.dsn).await;
    assert!(contains(&dump, CANARY), "the name of the bot is not in the dump");
    needles.search("the tables of Postgres", &dump);
    // The server's own files contain the server's password.
    needles.forget("the DSN's password");
    assert!(needles.search_files(Path::new(&folder)).contains(CANARY.as_bytes()));
}

/// The secrets to search for, in all usual encodings.
#[derive(Default)]
pub struct Needles(Vec<(String, Vec<u8>)>);

impl Needles {
    /// Adds a secret as bytes and in the usual encodings.
    pub fn add(&mut self, what: &str, secret: &[u8]) {
        let url = secret.iter().map(|byte| format!("%{byte:02x}")).collect::<String>();
        for (form, bytes) in [
            ("", secret.to_vec()),
            (" in hex", faster_hex::hex_string(secret).into_bytes()),
            (" in base64", STANDARD.encode(secret).into_bytes()),
            (" in a URL", url.into_bytes()),
        ] {
            self.0.push((format!("{what}{form}"), bytes));
        }
    }

    fn forget(&mut self, what: &str) {
        self.0.retain(|(name, _)| !name.starts_with(what));
    }

    fn found(&self, text: &[u8]) -> Vec<&str> {
        let found = self.0.iter().filter(|(_, secret)| memmem::find(text, secret).is_some());
        found.map(|(what, _)| &**what).collect()
    }

    #[track_caller]
    pub fn search(&self, place: &str, text: &[u8]) {
        let found = self.found(text);
        if found.is_empty() {
            return;
        }
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !self.found(line).is_empty()).take(20);
        let lines: BTreeSet<String> =
            lines.map(|line| String::from_utf8_lossy(&line[..line.len().min(600)]).into_owned()).collect();
        panic!("{place} has {found:?}: {lines:#?}");
    }

    /// Searches all files except the gateway's key, and returns all contents.
    fn search_files(&self, folder: &Path) -> Haystack {
        let mut all = Vec::new();
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                all.extend(self.search_files(&path).0);
            } else if path.file_name().is_some_and(|name| name != "relayer.key")
                && let Ok(bytes) = fs::read(&path)
            {
                self.search(&path.display().to_string(), &bytes);
                all.extend(bytes);
            }
        }
        Haystack(all)
    }
}

struct Haystack(Vec<u8>);

impl Haystack {
    fn contains(&self, text: &[u8]) -> bool {
        memmem::find(&self.0, text).is_some()
    }
}

fn contains(text: &[u8], canary: &str) -> bool {
    memmem::find(text, canary.as_bytes()).is_some()
}

/// Sends requests, and records every token and every response.
struct Scribe {
    api: Api,
    tokens: Vec<String>,
    answers: String,
}

impl Scribe {
    async fn call(&mut self, key: &Signer, request: Request) -> Response {
        let event = self.api.token(&request).sign(key);
        let token = crate::token::header(event.json());
        // The signature is enough to rebuild the token.
        let (_, signature) = std::str::from_utf8(event.json()).unwrap().split_once(r#""sig":""#).unwrap();
        self.tokens.extend([token["Nostr ".len()..].to_owned(), signature[..128].to_owned()]);
        self.send(request.header("Authorization", token)).await
    }

    async fn send(&mut self, request: Request) -> Response {
        let answer = self.api.send(request).await;
        self.answers += &format!("{}\n{}\n", answer.head, answer.body);
        answer
    }

    async fn reload(&mut self) -> Response {
        let reload = Request::new("POST", "/api/config/reload").json("{}");
        self.send(reload.header("Authorization", format!("Bearer {ADMIN_TOKEN}"))).await
    }

    async fn get(&mut self, path: &str) -> Response {
        self.send(Request::new("GET", path)).await
    }
}

/// A whole run, with valid and invalid requests of every kind.
async fn run(site: &Site, database: Option<&Database>) -> Needles {
    let sim = relays(2).await;
    let config = site.folder().join("config.toml");
    let relays_line = format!("[relay]\nbootstrap_relays = [{:?}, {:?}]\n", sim.url(0), sim.url(1));
    // A signal is handled later, and must not find a file that is only partly written.
    let configured = |more: &str| {
        let new = config.with_extension("new");
        fs::write(&new, format!("{relays_line}{more}")).expect("written");
        fs::rename(&new, &config).expect("replaced");
    };
    let right = format!("[api]\nadmin_token = \"{ADMIN_TOKEN}\"\n");
    configured(&right);
    // A password file for PostgreSQL's programs, with one invalid line.
    let passwords = tempfile::NamedTempFile::new().expect("a file");
    fs::write(passwords.path(), format!("{MISPLACED}\n")).expect("written");
    let environment = [
        ("RUST_LOG", "trace".to_owned()),
        ("RELAY_URLS", sim.urls().join(",")),
        ("PGPASSFILE", passwords.path().display().to_string()),
    ];
    let running = site.start_with(&environment).await;
    let api = Api::of(site);
    crate::http::until("it listens", async || tokio::net::TcpStream::connect(api.address).await.is_ok())
        .await;
    let gateway = api.identity().await;
    let mut scribe = Scribe { api: api.clone(), tokens: Vec::new(), answers: String::new() };

    let (bot, follower) = (Bot::new(1), Follower::new(2).sharing(SHARED));
    let (bot_key, key) = (*bot.key.pubkey(), *follower.key.pubkey());
    assert_eq!(scribe.call(&bot.key, registration(&bot_key, CANARY)).await.status, 201);
    let subscribe = |secret| subscription(&bot_key, &key, Some(secret));
    assert_eq!(scribe.call(&follower.key, subscribe(SHARED)).await.status, 201);
    within("the relays are asked", sim.wait_subscribed(2)).await;

    let mut connection = follower.connect(&api, "?consumer=desk").await;
    let signal = bot.publish(&sim);
    let message = connection.next().await;
    assert_eq!(follower.opener(&gateway).open(&message), signal);
    connection.ack(message.seq).await;
    assert_eq!(scribe.call(&follower.key, subscribe(SHARED_LATER)).await.status, 200);
    let later = follower.clone().sharing(SHARED_LATER);
    let signal = bot.publish(&sim);
    assert_eq!(later.opener(&gateway).open(&connection.next().await), signal);
    scribe.call(&bot.key, listing(&bot_key)).await;

    misplace(&mut scribe, &bot, &follower).await;
    // After the proof of the key: a message that is not JSON, and a consumer's invalid message.
    connection.say(Message::text(MISPLACED)).await;
    scribe.answers += &format!("{:?}", connection.text().await.unwrap_err());

    for wrong in [
        format!("[api]\nadmin_token = \"{MISPLACED}\n"),
        format!("[api]\nadmin_tokn = \"{MISPLACED}\"\n"),
        format!("[api]\nadmin_token = [\"{MISPLACED}\"]\n"),
        format!("[postgres]\ndsn = \"mysql://u:{MISPLACED}@127.0.0.1/x\"\n"),
        format!("[postgres]\ndsn = \"postgres://u@127.0.0.1/x?pasword={MISPLACED}\"\n"),
        format!("[postgres]\ndsn = \"postgres://u@127.0.0.1/x?{MISPLACED}=1\"\n"),
        format!("[postgres]\ndsn = \"postgres://u@127.0.0.1/x?sslmode={MISPLACED}\"\n"),
        format!("[postgres]\ndsn = \"postgres://u@127.0.0.1/x?sslkey=/{MISPLACED}\"\n"),
        format!("[nostr]\nsecret_key = \"nsec1{MISPLACED}\"\n"),
    ] {
        configured(&wrong);
        let answer = scribe.reload().await;
        assert_eq!(answer.status, 422, "{wrong}: {answer:?}");
        running.signal("HUP");
    }
    running.until_stderr_contains("the configuration was not reloaded").await;
    // If the DSN has no password, the gateway reads the password file.
    configured(&format!("{right}[postgres]\ndsn = \"postgres://u@127.0.0.1/x\"\n"));
    assert_eq!(scribe.reload().await.status, 200);
    configured(&right);
    running.signal("HUP");
    if let Some(database) = database {
        // Errors of a database that is down.
        database.cluster().stop();
        let answer = scribe.call(&follower.key, subscribe(SHARED)).await;
        assert_eq!(answer.status, 503);
        scribe.get("/status").await;
        database.cluster().start();
        crate::http::until("the registry is back", async || api.status().await["registry"]["state"] == "up")
            .await;
    }
    for path in [
        "/status",
        "/metrics",
        "/ready",
        "/api/metrics/summary",
        "/api/metrics/memory",
        "/api/identity",
        "/api/relays",
        "/api/downstreams",
        "/api/consumers",
        "/api/events?cursor=0",
    ] {
        assert_eq!(scribe.get(path).await.status, 200, "{path}");
    }

    let secret = secret_key(fs::read_to_string(site.folder().join("relayer.key")).unwrap().trim()).unwrap();
    let mut needles = Needles::default();
    for (what, secret) in [
        ("the admin token", ADMIN_TOKEN),
        ("the first shared secret", SHARED),
        ("the second shared secret", SHARED_LATER),
        ("the misplaced secret", MISPLACED),
        ("the misplaced number", MISPLACED_NUMBER),
        ("the misplaced token", MISPLACED_TOKEN),
        ("the DSN's password", PASSWORD),
        ("the gateway's key as nsec", &nsec(&secret)),
    ] {
        needles.add(what, secret.as_bytes());
    }
    needles.add("the gateway's key", &*secret);
    for secret in [SHARED, SHARED_LATER] {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"moltrade-fanout-v1"), secret.as_bytes());
        needles.add("what follows from a shared secret", key.as_ref());
    }
    let tokens = scribe.tokens.iter().map(|token| ("a token".to_owned(), token.clone().into_bytes()));
    needles.0.extend(tokens);

    // The write-ahead log is uncompressed; other files may be compressed.
    let files =
        fs::read_dir(site.log_path()).unwrap().flatten().filter_map(|file| fs::read(file.path()).ok());
    let files: Vec<u8> = files.flatten().collect();
    assert_eq!(contains(&files, CANARY), database.is_none(), "the name of the bot in RocksDB's files");
    needles.search("RocksDB's files", &files);
    let mut running = running;
    running.signal("TERM");
    assert!(running.ended().await.success());
    fs::remove_file(&config).unwrap();
    let log = running.stderr();
    let is_json = log.starts_with('{');
    let trace = if is_json { "\"level\":\"TRACE\"" } else { " TRACE " };
    assert!(log.contains(CANARY) && log.contains(trace), "the log is not searched");
    needles.search("the log", log.as_bytes());
    if is_json {
        needles.search("the log without escapes", unescaped(&log).as_bytes());
    }
    assert!(scribe.answers.contains(CANARY), "the answers are not searched");
    needles.search("the answers", scribe.answers.as_bytes());
    needles
}

/// All texts of a log of JSON.
fn unescaped(log: &str) -> String {
    let line = |line: &str| -> serde_json::Map<String, Value> {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let texts = |mut line: serde_json::Map<String, Value>| {
        let fields = line.remove("fields").and_then(|fields| Some(fields.as_object()?.clone()));
        let values = line.into_iter().chain(fields.expect("fields"));
        values.map(|(key, value)| {
            format!("{key}={}\n", value.as_str().map_or(value.to_string(), str::to_owned))
        })
    };
    log.lines().map(line).flat_map(texts).collect()
}

/// Puts secrets in places where they do not belong.
async fn misplace(scribe: &mut Scribe, bot: &Bot, follower: &Follower) {
    let (bot_key, key) = (bot.key.pubkey(), follower.key.pubkey());
    let body = |body: String| Request::new("POST", "/api/subscriptions").json(body);
    let other = |field: &str, value: Value| {
        let mut object = json!({ "bot_pubkey": bot_key, "follower_pubkey": key });
        object[field] = value;
        body(object.to_string())
    };
    for request in [
        other("secret", MISPLACED.into()),
        other("shared_secret", json!([MISPLACED])),
        other("shared_secret", json!({ MISPLACED: 1 })),
        other("shared_secret", serde_json::from_str(MISPLACED_NUMBER).unwrap()),
        other("bot_pubkey", serde_json::from_str(MISPLACED_NUMBER).unwrap()),
        other("bot_pubkey", MISPLACED.into()),
        other("follower_pubkey", MISPLACED.into()),
        other("shared_secret", MISPLACED.repeat(20).into()),
        body(MISPLACED.to_owned()),
        body(format!("\"{MISPLACED}\"")),
        body(format!("{{\"{MISPLACED}")),
        body(format!("{{{MISPLACED}}}")),
        body(MISPLACED_NUMBER.to_owned()),
        registration(bot_key, &format!("\u{7}{MISPLACED}")),
        Request::new("POST", &format!("/api/subscriptions?shared_secret={MISPLACED}")).json("{}"),
        Request::new("GET", &format!("/api/subscriptions/{MISPLACED}")),
        Request::new("GET", &format!("/api/subscriptions/{bot_key}?token={MISPLACED_TOKEN}")),
        Request::new("GET", &format!("/api/subscriptions/{bot_key}?after={MISPLACED}")),
        Request::new("GET", &format!("/api/subscriptions/{bot_key}?limit={MISPLACED}")),
        Request::new("DELETE", &format!("/api/subscriptions/{bot_key}/{MISPLACED}")),
        Request::new("DELETE", &format!("/api/subscriptions/{MISPLACED}/{bot_key}")),
        unsubscription(key, key),
        Request::upgrade(&format!("/fanout?token={MISPLACED_TOKEN}")),
        Request::upgrade(&format!("/fanout?token={MISPLACED}%zz")),
        Request::upgrade(&format!("/fanout?cursor={MISPLACED}")),
        Request::upgrade(&format!("/fanout?cursor=0&consumer={MISPLACED}%zz")),
        Request::upgrade(&format!("/fanout?consumer=%20{MISPLACED}")),
    ] {
        // Each request is sent with a valid proof, without a proof, and with an invalid proof.
        for key in [&follower.key, &bot.key] {
            let answer = scribe.call(key, request.clone()).await;
            assert!((400..500).contains(&answer.status), "{request:?}: {answer:?}");
        }
        scribe.send(request.clone()).await;
        for authorization in [
            format!("Bearer {MISPLACED}"),
            format!("Nostr {MISPLACED}"),
            format!("Nostr {MISPLACED_TOKEN}"),
            format!("Nostr {}", STANDARD.encode(MISPLACED)),
            MISPLACED.to_owned(),
        ] {
            scribe.send(request.clone().header("Authorization", authorization)).await;
        }
    }
    for path in [
        format!("/{MISPLACED}"),
        format!("/ws?access_token={ADMIN_TOKEN}"),
        format!("/api/events?token={ADMIN_TOKEN}"),
        format!("/api/events/{MISPLACED}"),
        format!("/api/relays/{MISPLACED}"),
        format!("/api/downstreams/{MISPLACED}"),
    ] {
        scribe.get(&path).await;
    }
    for message in [
        Message::text(MISPLACED),
        Message::text(format!(r#"["AUTH","{MISPLACED}"]"#)),
        Message::text(format!(r#"["AUTH",{{"id":"{MISPLACED}"}}]"#)),
        Message::text(format!(r#"["REQ","{MISPLACED}",{{}}]"#)),
        Message::binary(MISPLACED),
        Message::ping(MISPLACED),
    ] {
        let mut connection = Connection::open(&scribe.api, "").await;
        connection.challenge().await;
        let is_ping = message.is_ping();
        connection.say(message).await;
        if is_ping {
            connection.leave().await;
        } else {
            scribe.answers += &format!("{:?}", connection.text().await.unwrap_err());
        }
    }
}

/// All keys and values of a closed database.
pub fn rows(path: &Path) -> Vec<u8> {
    let families = DB::list_cf(&Options::default(), path).expect("column families");
    let database = DB::open_cf_for_read_only(&Options::default(), path, &families, false).expect("it opens");
    let mut all = Vec::new();
    for family in &families {
        let family = database.cf_handle(family).expect("it is there");
        for row in database.iterator_cf(family, IteratorMode::Start) {
            let (key, value) = row.expect("readable");
            all.extend([&*key, b"\n", &*value, b"\n"].concat());
        }
    }
    all
}

/// Returns all rows of all tables as text, with bytes in hex, and the server's data folder.
async fn dump(dsn: &str) -> (Vec<u8>, String) {
    let mut hand = PgConnection::connect(dsn).await.unwrap();
    sqlx::raw_sql("CHECKPOINT").execute(&mut hand).await.unwrap();
    let tables = "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
        WHERE table_schema NOT IN ('pg_catalog', 'information_schema')";
    let tables = sqlx::query(tables).fetch_all(&mut hand).await.unwrap();
    assert!(tables.len() >= 4, "bots, follows, meta, and the migrations");
    let mut all = String::new();
    for table in tables {
        let table: String = table.get(0);
        let rows = sqlx::query(&format!("SELECT t::text FROM {table} t")).fetch_all(&mut hand).await.unwrap();
        rows.iter().for_each(|row| all += &format!("{table}: {}\n", row.get::<String, _>(0)));
    }
    let folder: String = sqlx::query("SHOW data_directory").fetch_one(&mut hand).await.unwrap().get(0);
    (all.into_bytes(), folder)
}
