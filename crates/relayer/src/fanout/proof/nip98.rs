//! NIP-98: a request carries an event that was signed for this request alone.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;
use wire::{PublicKey, UnverifiedEvent};

use super::used_tokens::TokenUse;
use super::{BadProof, ProofVerifier, check};
use crate::clock::Now;
use crate::limits::{PROOF_BYTES_MAX, TOKEN_SECS_MAX};

/// The kind of a NIP-98 event.
const KIND: u16 = 27_235;

/// The request that a token must be signed for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method in upper case.
    pub method: &'a str,
    /// Path and query as received.
    pub(crate) path_and_query: &'a str,
    /// The body; empty if the request has none.
    pub body: &'a [u8],
}

impl ProofVerifier {
    /// Returns the key that signed a token for a request. A token can be used only once.
    pub(crate) fn verify_token(&self, token: &[u8], request: Request<'_>) -> Result<PublicKey, BadProof> {
        self.verify_token_at(token, request, self.clock.now(), self.clock.uptime())
    }

    fn verify_token_at(
        &self,
        token: &[u8],
        request: Request<'_>,
        now: Now,
        uptime: Duration,
    ) -> Result<PublicKey, BadProof> {
        if !self.can_verify() {
            return Err(BadProof::NoPublicUrl);
        }
        if token.len() > PROOF_BYTES_MAX {
            return Err(BadProof::NotEncoded);
        }
        let json = STANDARD.decode(token).map_err(|_| BadProof::NotEncoded)?;
        let event = UnverifiedEvent::parse(&json).map_err(BadProof::Malformed)?;
        check(&event, KIND, TOKEN_SECS_MAX, now.secs())?;
        // The time of the start is computed from the current clock: the clock may have been wrong
        // at the start.
        let uptime_ms = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
        if event.created_at < now.ms.saturating_sub(uptime_ms) / 1_000 {
            return Err(BadProof::BeforeStart);
        }
        if !self.gateway_url.matches(event.tag_value("u").unwrap_or_default(), request.path_and_query) {
            let expected = self.gateway_url.expected(request.path_and_query);
            return Err(BadProof::Url { tag: "u", expected });
        }
        if !event.tag_value("method").is_some_and(|method| method.eq_ignore_ascii_case(request.method)) {
            return Err(BadProof::Method);
        }
        if !is_payload(event.tag_value("payload"), request.body) {
            return Err(BadProof::Payload);
        }
        let signer = self.verify(&event)?;
        // This check comes last, so that only tokens with valid signatures use memory.
        match self.used_tokens.lock().use_once(&event.id, event.created_at, now) {
            TokenUse::First => Ok(signer),
            TokenUse::Replayed => Err(BadProof::Replayed),
            TokenUse::Unknown => Err(BadProof::BeforeStart),
            TokenUse::TooMany => Err(BadProof::TooMany),
        }
    }
}

/// Whether the `payload` tag is the hash of the body. Without a body the tag may be absent.
fn is_payload(tag: Option<&str>, body: &[u8]) -> bool {
    match tag {
        None => body.is_empty(),
        Some(tag) => {
            let hash = faster_hex::hex_string(digest(&SHA256, body).as_ref());
            tag.to_ascii_lowercase().as_bytes().ct_eq(hash.as_bytes()).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::Signer;

    use super::*;
    use crate::clock::Clock;
    use crate::fanout::proof::gateway_url::GatewayUrl;

    const NOW: u64 = 2_000_000_000;
    const BODY: &[u8] = br#"{"a":1}"#;
    /// SHA-256 of `BODY`, from `sha256sum`.
    const HASH: &str = "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862";
    const REQUEST: Request<'_> = Request { method: "POST", path_and_query: "/api/x", body: BODY };

    fn prover() -> ProofVerifier {
        ProofVerifier::new(GatewayUrl::Loopback(80), Clock::system())
    }

    impl ProofVerifier {
        /// Verifies a token at a given second, in a process that started 30 seconds before `NOW`.
        fn verify_token_in(
            &self,
            token: &[u8],
            request: Request<'_>,
            second: u64,
        ) -> Result<PublicKey, BadProof> {
            let now = Now { ms: second * 1_000, ..self.clock.now() };
            self.verify_token_at(token, request, now, Duration::from_secs(second + 30 - NOW))
        }
    }

    fn token(created_at: u64, kind: u16, tags: &[[&str; 2]]) -> String {
        let tags: Vec<Vec<String>> = tags.iter().map(|tag| tag.map(str::to_owned).to_vec()).collect();
        STANDARD.encode(Signer::from_seed(5).sign(created_at, kind, &tags, "").json())
    }

    const RIGHT: [[&str; 2]; 3] = [["u", "http://127.0.0.1/api/x"], ["method", "POST"], ["payload", HASH]];

    fn with(index: usize, tag: [&'static str; 2]) -> Vec<[&'static str; 2]> {
        let mut tags = RIGHT.to_vec();
        tags[index] = tag;
        tags
    }

    #[test]
    fn a_token_is_valid_once_for_its_request() {
        let prover = prover();
        let right = token(NOW, KIND, &RIGHT);
        assert_eq!(
            prover.verify_token_in(right.as_bytes(), REQUEST, NOW),
            Ok(*Signer::from_seed(5).pubkey())
        );
        assert_eq!(prover.verify_token_in(right.as_bytes(), REQUEST, NOW + 1), Err(BadProof::Replayed));
        let get = Request { method: "GET", body: b"", ..REQUEST };
        let without = token(NOW, KIND, &[RIGHT[0], ["method", "get"]]);
        assert!(prover.verify_token_in(without.as_bytes(), get, NOW).is_ok());
    }

    #[test]
    fn every_other_token_is_refused_with_its_reason() {
        let prover = prover();
        let check = |token: String, expected| {
            assert_eq!(prover.verify_token_in(token.as_bytes(), REQUEST, NOW), Err(expected));
        };
        check(token(NOW - 61, KIND, &RIGHT), BadProof::Expired(60));
        check(token(NOW + 61, KIND, &RIGHT), BadProof::Future(60));
        check(token(NOW - 31, KIND, &RIGHT), BadProof::BeforeStart);
        check(token(NOW, 1, &RIGHT), BadProof::Kind { expected: KIND });
        let expected = "http://127.0.0.1:80/api/x, or with localhost".into();
        let another_url = BadProof::Url { tag: "u", expected };
        assert!(
            another_url
                .to_string()
                .ends_with("its `u` tag must be http://127.0.0.1:80/api/x, or with localhost")
        );
        check(token(NOW, KIND, &with(0, ["u", "http://127.0.0.1/api/y"])), another_url.clone());
        check(token(NOW, KIND, &with(0, ["u", "http://evil.example/api/x"])), another_url.clone());
        check(token(NOW, KIND, &with(1, ["method", "DELETE"])), BadProof::Method);
        check(token(NOW, KIND, &with(2, ["payload", &HASH[1..]])), BadProof::Payload);
        check(token(NOW, KIND, &with(2, ["x", HASH])), BadProof::Payload);
        check(token(NOW, KIND, &[]), another_url);
        check("!".to_owned(), BadProof::NotEncoded);
        check("A".repeat(PROOF_BYTES_MAX + 4), BadProof::NotEncoded);
        check(STANDARD.encode("{}"), BadProof::Malformed(wire::ParseError::Missing(wire::Field::Id)));
        let json = String::from_utf8(STANDARD.decode(token(NOW, KIND, &RIGHT)).unwrap()).unwrap();
        let later = json.replace("2000000000", "2000000001");
        check(STANDARD.encode(later), BadProof::Forged(wire::VerifyError::IdMismatch));
        let sig = json.split(r#""sig":""#).nth(1).unwrap();
        let forged = json.replace(
            sig,
            &Signer::from_seed(6)
                .sign(1, 1, &[[""]; 0], "")
                .json()
                .iter()
                .rev()
                .take(sig.len())
                .rev()
                .map(|byte| char::from(*byte))
                .collect::<String>(),
        );
        check(STANDARD.encode(forged), BadProof::Forged(wire::VerifyError::BadSignature));
        let unnamed = ProofVerifier::new(GatewayUrl::Unknown, Clock::system());
        let token = token(NOW, KIND, &RIGHT);
        assert_eq!(unnamed.verify_token_in(token.as_bytes(), REQUEST, NOW), Err(BadProof::NoPublicUrl));
    }

    /// Creates a token with the current time of `clock`.
    fn present(clock: &Clock, nonce: &str) -> String {
        let tags = [RIGHT[0], RIGHT[1], RIGHT[2], ["nonce", nonce]];
        token(clock.unix_secs(), KIND, &tags)
    }

    #[test]
    fn a_start_with_a_wrong_clock_refuses_no_token_once_the_clock_is_right() {
        for wrong in [10, 300, 7_200, 32 * 86_400] {
            for wrong in [wrong, -wrong] {
                let (clock, manual_clock) = Clock::manual();
                manual_clock.step_secs(wrong);
                let prover = ProofVerifier::new(GatewayUrl::Loopback(80), clock.clone());
                manual_clock.pass(Duration::from_secs(5));
                manual_clock.step_secs(-wrong);
                let token = present(&clock, "1");
                assert!(prover.verify_token(token.as_bytes(), REQUEST).is_ok(), "{wrong}");
                assert_eq!(
                    prover.verify_token(token.as_bytes(), REQUEST),
                    Err(BadProof::Replayed),
                    "{wrong}"
                );
            }
        }
    }

    /// Even a sweep of expired tokens must not let a token in twice.
    #[test]
    fn no_step_of_the_clock_lets_a_token_in_twice() {
        for away in [10, 61, 300, 7_200, 32 * 86_400] {
            for away in [away, -away] {
                let (clock, manual_clock) = Clock::manual();
                let prover = ProofVerifier::new(GatewayUrl::Loopback(80), clock.clone());
                manual_clock.pass(Duration::from_secs(3_600));
                let used = present(&clock, "used");
                assert!(prover.verify_token(used.as_bytes(), REQUEST).is_ok());
                manual_clock.step_secs(away);
                prover.used_tokens.lock().forget_expired(clock.unix_secs());
                let meanwhile = present(&clock, "meanwhile");
                assert!(prover.verify_token(meanwhile.as_bytes(), REQUEST).is_ok(), "{away}");
                manual_clock.step_secs(-away);
                let again = prover.verify_token(used.as_bytes(), REQUEST);
                assert!(
                    matches!(again, Err(BadProof::Replayed | BadProof::BeforeStart)),
                    "{away}: {again:?}"
                );
                manual_clock.pass(Duration::from_secs(5));
                assert!(prover.verify_token(present(&clock, "new").as_bytes(), REQUEST).is_ok(), "{away}");
            }
        }
    }
}
