//! A connected follower: proves its key, and receives, decrypts and verifies messages.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use nostr::nips::nip44::v2::{ConversationKey, decrypt_to_bytes};
use ring::hmac;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_websockets::{ClientBuilder, MaybeTlsStream, Message, WebSocketStream};
use wire::{PublicKey, Signer, UnverifiedEvent, VerifiedEvent, Verifier};

use crate::client::Api;
use crate::http::Request;
use crate::program::PATIENCE;
use crate::token;

/// A client of `/fanout`.
pub struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// A message with a signal. Unknown fields are an error.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Delivered {
    pub seq: u64,
    pub log: String,
    pub target_pubkey: String,
    pub bot_pubkey: String,
    pub kind: u16,
    pub original_event_id: String,
    pub created_at: u64,
    #[serde(default)]
    pub stale: bool,
    pub encryption: String,
    pub ciphertext: String,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub code: u16,
    pub reason: String,
}

impl Connection {
    /// Connects without a proof of a key.
    pub async fn open(api: &Api, query: &str) -> Self {
        Self::connect(api, query, None).await
    }

    /// Connects with a NIP-98 token.
    pub async fn with_token(api: &Api, query: &str, signer: &Signer) -> Self {
        let request = Request::new("GET", &format!("/fanout{query}"));
        let mut token: HeaderValue = api.token(&request).header(signer).parse().expect("a header");
        token.set_sensitive(true);
        Self::connect(api, query, Some(token)).await
    }

    /// Connects and answers the challenge.
    pub async fn with_answer(api: &Api, query: &str, signer: &Signer) -> Self {
        let mut connection = Self::open(api, query).await;
        connection.prove(api, signer).await;
        connection
    }

    /// Answers the challenge on this connection.
    pub async fn prove(&mut self, api: &Api, signer: &Signer) {
        let challenge = self.challenge().await;
        let answer = token::AuthEvent::new(&challenge, ws(api)).sign(signer);
        self.auth(&token::text(&answer)).await;
        let accepted = self.text().await.expect("an answer");
        assert_eq!(accepted, format!(r#"["OK","{}",true,""]"#, answer.id()));
    }

    async fn connect(api: &Api, query: &str, token: Option<HeaderValue>) -> Self {
        let url = format!("ws://{}/fanout{query}", api.address);
        let mut builder = ClientBuilder::new().uri(&url).expect("a URL");
        if let Some(token) = token {
            builder = builder.add_header(header::AUTHORIZATION, token).expect("a header");
        }
        let connected = timeout(PATIENCE, builder.connect()).await.expect("in time");
        Self { socket: connected.expect("it is admitted").0 }
    }

    /// Reads the NIP-42 challenge.
    pub async fn challenge(&mut self) -> String {
        let text = self.text().await.expect("a challenge");
        let (kind, challenge): (String, String) = serde_json::from_str(&text).expect("[\"AUTH\",…]");
        assert_eq!(kind, "AUTH");
        challenge
    }

    /// Sends an AUTH message.
    pub async fn auth(&mut self, event: &str) {
        self.say(Message::text(format!(r#"["AUTH",{event}]"#))).await;
    }

    pub async fn say(&mut self, message: Message) {
        // If the connection is closed already, the test sees why.
        let _ = self.socket.send(message).await;
    }

    /// The next text, or how the connection ended.
    pub async fn text(&mut self) -> Result<String, Closed> {
        self.text_within(PATIENCE).await.expect("something comes")
    }

    /// The next text, or how the connection ended; `None` if neither happens in time.
    pub async fn text_within(&mut self, patience: Duration) -> Option<Result<String, Closed>> {
        timeout(patience, async {
            loop {
                let Some(Ok(message)) = self.socket.next().await else {
                    return Err(Closed { code: 0, reason: "it broke".to_owned() });
                };
                if let Some((code, reason)) = message.as_close() {
                    return Err(Closed { code: code.into(), reason: reason.to_owned() });
                }
                if let Some(text) = message.as_text() {
                    return Ok(text.to_owned());
                }
            }
        })
        .await
        .ok()
    }

    /// The next signal. Skips notices.
    pub async fn next(&mut self) -> Delivered {
        let mut text = self.text().await.expect("a message");
        while text.starts_with(r#"{"type":"#) {
            text = self.text().await.expect("a message");
        }
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// The next message. It must not be a signal.
    pub async fn notice(&mut self) -> serde_json::Value {
        let text = self.text().await.expect("a message");
        let notice: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert!(notice.get("seq").is_none(), "{notice}");
        notice
    }

    pub async fn ack(&mut self, seq: u64) {
        self.say(Message::text(format!("{{\"ack\":{seq}}}"))).await;
    }

    /// Waits until the gateway has read all messages. The gateway must not be sending a text.
    pub async fn flush(&mut self) {
        self.say(Message::ping("heard?")).await;
        let answered =
            async { while !self.socket.next().await.expect("it lives").expect("it lives").is_pong() {} };
        timeout(PATIENCE, answered).await.expect("in time");
    }

    /// Closes the connection, and waits until the gateway has read all messages and has closed its
    /// side.
    pub async fn leave(mut self) {
        let _ = self.socket.close().await;
        while let Some(Ok(_)) = timeout(PATIENCE, self.socket.next()).await.expect("in time") {}
    }
}

/// The gateway's WebSocket URL, for a `relay` tag.
pub fn ws(api: &Api) -> String {
    format!("{}/fanout", api.url.replacen("http", "ws", 1))
}

/// Decrypts and verifies the messages of a follower.
pub struct Opener {
    follower: PublicKey,
    conversation: ConversationKey,
    secret: Option<ConversationKey>,
    verifier: Verifier,
}

impl Opener {
    pub fn new(follower: &Signer, gateway: &PublicKey) -> Self {
        let own = nostr::key::SecretKey::from_slice(&*follower.secret()).expect("a key");
        let theirs = nostr::key::PublicKey::from_byte_array(*gateway.as_bytes());
        let conversation = ConversationKey::derive(&own, &theirs).expect("on the curve");
        Self { follower: *follower.pubkey(), conversation, secret: None, verifier: Verifier::new() }
    }

    /// Sets the secret that the follower and the gateway share.
    pub fn sharing(self, secret: Option<&str>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"moltrade-fanout-v1");
        let extracted = secret.map(|secret| hmac::sign(&key, secret.as_bytes()));
        let secret = extracted.map(|bytes| ConversationKey::from_slice(bytes.as_ref()).expect("32 bytes"));
        Self { secret, ..self }
    }

    /// Decrypts a message, verifies the bot's signature, and checks that the message describes the
    /// event.
    pub fn open(&mut self, message: &Delivered) -> VerifiedEvent {
        self.try_open(message).expect("it decrypts")
    }

    /// Like `open`, but returns `None` if the message is encrypted with another key.
    pub fn try_open(&mut self, message: &Delivered) -> Option<VerifiedEvent> {
        let (key, encryption) = match &self.secret {
            Some(secret) => (secret, "nip44-v2-shared-secret"),
            None => (&self.conversation, "nip44-v2"),
        };
        let payload = STANDARD.decode(&message.ciphertext).expect("base64");
        let plaintext = decrypt_to_bytes(key, &payload).ok()?;
        assert_eq!(message.encryption, encryption);
        let event = UnverifiedEvent::parse(&plaintext).expect("an event");
        let event = self.verifier.verify(&event).expect("it is signed");
        assert_eq!(message.target_pubkey, self.follower.to_string());
        assert_eq!(message.bot_pubkey, event.pubkey().to_string());
        assert_eq!(message.original_event_id, event.id().to_string());
        assert_eq!((message.kind, message.created_at), (event.kind(), event.created_at()));
        Some(event)
    }
}

#[derive(Clone)]
pub struct Follower {
    pub key: Arc<Signer>,
    pub secret: Option<String>,
}

impl Follower {
    pub fn new(seed: u64) -> Self {
        Self { key: Arc::new(Signer::from_seed(seed)), secret: None }
    }

    pub fn sharing(self, secret: &str) -> Self {
        Self { secret: Some(secret.to_owned()), ..self }
    }

    pub async fn follow(&self, api: &Api, bot: &PublicKey) {
        api.subscribe(bot, &self.key, self.secret.as_deref()).await;
    }

    pub fn opener(&self, gateway: &PublicKey) -> Opener {
        Opener::new(&self.key, gateway).sharing(self.secret.as_deref())
    }

    /// Connects with a NIP-98 token.
    pub async fn connect(&self, api: &Api, query: &str) -> Connection {
        Connection::with_token(api, query, &self.key).await
    }
}
