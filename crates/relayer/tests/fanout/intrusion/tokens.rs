//! Invalid NIP-98 tokens, in calls and in the upgrade.

use wire::Signer;

use super::{ADMIN_TOKEN, Scene};
use crate::client::{listing, subscription};
use crate::http::Request;
use crate::token::{Token, hash, header, now, tampered, text};

/// The attempted requests: a valid call of the follower, and the upgrade.
fn attempts(scene: &Scene) -> [Request; 2] {
    let (bot, follower) = (scene.bot.key.pubkey(), scene.follower.key.pubkey());
    [subscription(bot, follower, None), Request::upgrade("/fanout")]
}

/// Asserts that each attempt with an invalid token is refused.
async fn refused(message: &str, spoil: impl Fn(&mut Token)) {
    refused_with((401, "unauthorized"), message, spoil).await;
}

async fn refused_with((status, code): (u16, &str), message: &str, spoil: impl Fn(&mut Token)) {
    let scene = Scene::start().await;
    for request in attempts(&scene) {
        let mut token = scene.api.token(&request);
        spoil(&mut token);
        let request = request.header("Authorization", token.header(&scene.follower.key));
        let answer = scene.api.send(request).await;
        answer.assert(status, code, message);
        let schemes = (status == 401).then_some("Nostr, Bearer realm=\"moltrade-relayer\"");
        assert_eq!(answer.header("www-authenticate"), schemes);
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn without_any() {
    let scene = Scene::start().await;
    let [subscribe, _] = attempts(&scene);
    for request in [subscribe, listing(scene.bot.key.pubkey())] {
        scene.api.send(request).await.assert(401, "unauthorized", "say who you are");
    }
}

#[tokio::test]
async fn expired() {
    refused("it has expired", |token| token.created_at -= 70).await;
}

#[tokio::test]
async fn dated_ahead() {
    refused("dated ahead", |token| token.created_at += 70).await;
}

/// A token older than the gateway may have been used before. The client is not at fault, and a new
/// token is accepted.
#[tokio::test]
async fn older_than_the_gateway() {
    let before = now() - 2;
    let starting = (503, "starting");
    refused_with(starting, "before the gateway started", move |token| token.created_at = before).await;
}

#[tokio::test]
async fn for_another_path() {
    refused("another URL", |token| token.url += "x").await;
}

#[tokio::test]
async fn for_another_query() {
    refused("another URL", |token| token.url += "?cursor=0").await;
}

#[tokio::test]
async fn for_another_host() {
    refused("another URL", |token| token.url = token.url.replace("127.0.0.1", "relayer.example")).await;
}

#[tokio::test]
async fn for_another_port() {
    refused("another URL", |token| token.url = token.url.replace("127.0.0.1:", "127.0.0.1:1")).await;
}

#[tokio::test]
async fn for_another_method() {
    refused("another method", |token| token.method = "PUT".to_owned()).await;
}

#[tokio::test]
async fn for_another_body() {
    refused("`payload`", |token| token.payload = Some(hash(b"{}"))).await;
}

#[tokio::test]
async fn of_another_kind() {
    refused("kind 27235", |token| token.kind = 22_242).await;
}

/// A token without the body's hash could be used with any body.
#[tokio::test]
async fn for_no_body() {
    let scene = Scene::start().await;
    let [subscribe, _] = attempts(&scene);
    let token = Token { payload: None, ..scene.api.token(&subscribe) };
    let request = subscribe.header("Authorization", token.header(&scene.follower.key));
    scene.api.send(request).await.assert(401, "unauthorized", "`payload`");
}

#[tokio::test]
async fn used_before() {
    let scene = Scene::start().await;
    for request in attempts(&scene) {
        let token = scene.api.token(&request).header(&scene.follower.key);
        let request = request.header("Authorization", token);
        assert!(matches!(scene.api.send(request.clone()).await.status, 200 | 101));
        scene.api.send(request).await.assert(401, "unauthorized", "used before");
    }
}

#[tokio::test]
async fn with_a_signature_of_something_else() {
    let scene = Scene::start().await;
    for request in attempts(&scene) {
        let event = scene.api.token(&request).sign(&scene.follower.key);
        let forged = header(tampered(&event, &scene.follower.key).as_bytes());
        let answer = scene.api.send(request.header("Authorization", forged)).await;
        answer.assert(401, "unauthorized", "forged");
    }
}

/// One key signs a token on behalf of another key.
#[tokio::test]
async fn in_the_name_of_another() {
    let scene = Scene::start().await;
    let thief = Signer::from_seed(66);
    for request in attempts(&scene) {
        let event = text(&scene.api.token(&request).sign(&thief));
        let (thief, victim) = (thief.pubkey().to_string(), scene.follower.key.pubkey().to_string());
        let claimed = header(event.replace(&thief, &victim).as_bytes());
        let answer = scene.api.send(request.header("Authorization", claimed)).await;
        answer.assert(401, "unauthorized", "forged");
    }
}

#[tokio::test]
async fn that_are_none() {
    let scene = Scene::start().await;
    for token in ["Nostr !", "Nostr e30=", "Nostr bnVsbA==", &format!("Nostr {}", "A".repeat(9_000))] {
        for request in attempts(&scene) {
            let answer = scene.api.send(request.header("Authorization", token)).await;
            answer.assert(401, "unauthorized", "is not valid");
        }
    }
    for other in ["Nostr ", "Basic YTpi", "Bearer", "nonsense", "Bearer Nostr"] {
        for request in attempts(&scene) {
            let answer = scene.api.send(request.header("Authorization", other)).await;
            assert_eq!(answer.code(), (401, "unauthorized".to_owned()), "{other}");
        }
    }
    scene.assert_unharmed().await;
}

/// Both schemes are valid: WebSocket libraries use the `ws` scheme, and NIP-98 uses `http`.
#[tokio::test]
async fn for_the_socket_with_either_scheme() {
    let scene = Scene::start().await;
    let [_, upgrade] = attempts(&scene);
    for scheme in ["http", "ws"] {
        let mut token = scene.api.token(&upgrade);
        token.url = token.url.replacen("http", scheme, 1);
        let request = upgrade.clone().header("Authorization", token.header(&scene.follower.key));
        assert_eq!(scene.api.send(request).await.status, 101, "{scheme}");
    }
}

#[tokio::test]
async fn the_admin_may_do_everything_but_be_a_follower() {
    let scene = Scene::start().await;
    let [subscribe, upgrade] = attempts(&scene);
    let bearer = |request: Request, token: &str| request.header("Authorization", format!("Bearer {token}"));
    let answer = scene.api.send(bearer(subscribe.clone(), ADMIN_TOKEN)).await;
    assert_eq!((answer.status, answer.json()["created"].clone()), (200, false.into()));
    let answer = scene.api.send(bearer(listing(scene.bot.key.pubkey()), ADMIN_TOKEN)).await;
    assert_eq!((answer.status, answer.json()["total"].clone()), (200, 1.into()));
    for wrong in ["", "an-admin-token-of-the-test", "AN-ADMIN-TOKEN-OF-THE-TESTS"] {
        let answer = scene.api.send(bearer(subscribe.clone(), wrong)).await;
        answer.assert(401, "unauthorized", "not the admin_token");
    }
    scene.api.send(bearer(upgrade, ADMIN_TOKEN)).await.assert(401, "unauthorized", "say who you are");
}

/// Unlike other calls, admin calls always need a token, even from programs on this machine.
#[tokio::test]
async fn without_an_admin_token_nobody_is_the_admin() {
    let scene = Scene::with(|site| site.unset("RELAYER_API__ADMIN_TOKEN")).await;
    let [subscribe, _] = attempts(&scene);
    scene.api.send(subscribe.clone()).await.assert(401, "unauthorized", "say who you are");
    let answer = scene.api.send(subscribe.header("Authorization", "Bearer ")).await;
    answer.assert(401, "unauthorized", "not the admin_token");
}
