//! A client of the REST API, for bots, followers and the admin.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use wire::{PublicKey, Signer};

use crate::http::{Request, Response, until};
use crate::program::Site;
use crate::token::Token;

/// A gateway's API.
#[derive(Debug, Clone)]
pub struct Api {
    pub address: SocketAddr,
    /// The part of signed URLs that precedes the path.
    pub url: String,
}

impl Api {
    pub fn of(site: &Site) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, site.port()));
        Self { address, url: format!("http://{address}") }
    }

    /// Adds a NIP-98 token, signed by a key, to a request.
    pub fn signed(&self, signer: &Signer, request: Request) -> Request {
        let token = self.token(&request).header(signer);
        request.header("Authorization", token)
    }

    /// The unsigned token of a request.
    pub fn token(&self, request: &Request) -> Token {
        Token::new(&request.method, format!("{}{}", self.url, request.path), &request.body)
    }

    pub async fn send(&self, request: Request) -> Response {
        request.send(self.address).await
    }

    pub async fn call(&self, signer: &Signer, request: Request) -> Response {
        self.send(self.signed(signer, request)).await
    }

    pub async fn get(&self, path: &str) -> Response {
        self.send(Request::new("GET", path)).await
    }

    pub async fn register(&self, bot: &Signer, name: &str) {
        let answer = self.call(bot, registration(bot.pubkey(), name)).await;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    }

    pub async fn subscribe(&self, bot: &PublicKey, follower: &Signer, secret: Option<&str>) {
        let answer = self.call(follower, subscription(bot, follower.pubkey(), secret)).await;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        assert_eq!(answer.json()["shared_secret"], secret.is_some());
    }

    pub async fn unsubscribe(&self, bot: &PublicKey, follower: &Signer) {
        let answer = self.call(follower, unsubscription(bot, follower.pubkey())).await;
        assert_eq!((answer.status, &answer.json()["deleted"]), (200, &true.into()), "{answer:?}");
    }

    /// The followers of a bot, as listed for that bot.
    pub async fn followers(&self, bot: &Signer) -> Vec<String> {
        let answer = self.call(bot, listing(bot.pubkey())).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let listed = answer.json()["subscriptions"].as_array().expect("a list").clone();
        listed.iter().map(|follow| follow["follower_pubkey"].as_str().expect("a key").to_owned()).collect()
    }

    /// The gateway's public key.
    pub async fn identity(&self) -> PublicKey {
        let answer = self.get("/api/identity").await.json();
        answer["pubkey"].as_str().expect("a key").parse().expect("a key")
    }

    /// The part of `/status` about the fan-out.
    pub async fn status(&self) -> Value {
        self.get("/status").await.json()["fanout"].clone()
    }

    /// The newest sequence.
    pub async fn head(&self) -> u64 {
        self.get("/status").await.json()["log"]["head"].as_u64().expect("a number")
    }

    /// Waits until the log has `head` events.
    pub async fn until_head(&self, head: usize) {
        until(&format!("{head} events are in the log"), async || self.head().await >= head as u64).await;
    }

    /// The log as pairs of sequence and event.
    pub async fn log(&self) -> Vec<(u64, Value)> {
        let mut log: Vec<(u64, Value)> = Vec::new();
        loop {
            let after = log.last().map_or(0, |(seq, _)| *seq);
            let page = self.get(&format!("/api/events?cursor={after}&limit=1000")).await.json();
            let events = page["events"].as_array().expect("a list").clone();
            if events.is_empty() {
                return log;
            }
            log.extend(events.iter().map(|one| (one["seq"].as_u64().expect("a seq"), one["event"].clone())));
        }
    }
}

pub fn registration(bot: &PublicKey, name: &str) -> Request {
    let body = json!({ "bot_pubkey": bot, "name": name }).to_string();
    Request::new("POST", "/api/bots/register").json(body)
}

pub fn subscription(bot: &PublicKey, follower: &PublicKey, secret: Option<&str>) -> Request {
    let mut body = json!({ "bot_pubkey": bot, "follower_pubkey": follower });
    if let Some(secret) = secret {
        body["shared_secret"] = secret.into();
    }
    Request::new("POST", "/api/subscriptions").json(body.to_string())
}

pub fn unsubscription(bot: &PublicKey, follower: &PublicKey) -> Request {
    Request::new("DELETE", &format!("/api/subscriptions/{bot}/{follower}"))
}

pub fn listing(bot: &PublicKey) -> Request {
    Request::new("GET", &format!("/api/subscriptions/{bot}"))
}
