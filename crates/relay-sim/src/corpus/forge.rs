//! Forgeries: texts that claim the id of a genuine event.

use wire::VerifiedEvent;

use super::{Item, Origin};

/// The part of a genuine event that a forgery alters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forgery {
    /// The same id with different content, so the id is not the event's hash.
    OtherContent,
    /// The same fields with an invalid signature.
    BadSignature,
}

pub fn forge(event: &VerifiedEvent, forgery: Forgery) -> Item {
    let text = String::from_utf8_lossy(event.json()).into_owned();
    let forged = match forgery {
        // A quote inside a string is escaped, so this matches only the key.
        Forgery::OtherContent => text.replacen(r#","content":""#, r#","content":"forged "#, 1),
        Forgery::BadSignature => with_other_signature(&text),
    };
    Item { text: forged.into(), claims: event.clone(), origin: Origin::Forged(forgery) }
}

/// Changes one digit in the middle of the signature, which ends the text: `…"}`.
fn with_other_signature(text: &str) -> String {
    let at = text.len().saturating_sub(40);
    let (before, rest) = text.split_at(at);
    let mut digits = rest.chars();
    let other = if digits.next() == Some('0') { '1' } else { '0' };
    format!("{before}{other}{}", digits.as_str())
}

#[cfg(test)]
mod tests {
    use wire::{Signer, UnverifiedEvent, Verifier, VerifyError};

    use super::*;

    #[test]
    fn forgeries_claim_the_id_and_do_not_verify() {
        let tags = [vec!["content".to_owned(), ",\"content\":\"".to_owned()]];
        let event = Signer::from_seed(1).sign(7, 1, &tags, "x\",\"content\":\"y");
        for (forgery, error) in [
            (Forgery::OtherContent, VerifyError::IdMismatch),
            (Forgery::BadSignature, VerifyError::BadSignature),
        ] {
            let forged = forge(&event, forgery);
            let parsed = UnverifiedEvent::parse(&forged.text).expect("well-formed");
            assert_eq!(event.id(), parsed.id);
            assert_eq!(Verifier::new().verify(&parsed), Err(error));
        }
    }
}
