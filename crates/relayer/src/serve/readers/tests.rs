//! Readers without the API.

use std::collections::HashSet;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::advance;

use super::*;
use crate::config::{ReaderOptions, SinkName};
use crate::limits::TICKET_LIFETIME;

fn config(name: &str, token: &str) -> ReaderConfig {
    let options = ReaderOptions { token: Some(token.parse().unwrap()), ..ReaderOptions::default() };
    ReaderConfig { name: SinkName::new(name).unwrap(), options }
}

const A: &str = "token-of-reader-a";
const B: &str = "token-of-reader-b";

fn readers(configs: &[ReaderConfig]) -> Readers {
    Readers::new(configs, &Arc::default())
}

fn reason(admitted: Result<Grant, Refused>) -> Option<&'static str> {
    admitted.err().map(|refused| refused.reason.into())
}

fn name(admitted: Result<Grant, Refused>) -> String {
    admitted.unwrap().reader_name().unwrap().to_owned()
}

#[test]
fn each_token_is_its_readers() {
    let readers = readers(&[config("a", A), config("b", B)]);
    assert_eq!(name(readers.admit(Credential::Token(A.as_bytes()))), "a");
    assert_eq!(name(readers.admit(Credential::Token(B.as_bytes()))), "b");
    assert_eq!(readers.admit(Credential::Admin).unwrap().reader_name(), None);
    assert_eq!(reason(readers.admit(Credential::Nothing)), Some("no_token"));
    for wrong in ["", "token-of-reader", "token-of-reader-c", "token-of-reader-a ", "TOKEN-OF-READER-A"] {
        assert_eq!(
            reason(readers.admit(Credential::Token(wrong.as_bytes()))),
            Some("wrong_token"),
            "{wrong}"
        );
    }
}

#[test]
fn without_readers_anyone_may_read() {
    let readers = readers(&[]);
    for credential in
        [Credential::Nothing, Credential::Token(b"x"), Credential::Admin, Credential::Ticket("x")]
    {
        let grant = readers.admit(credential).unwrap();
        assert!(grant.may_read_state() && grant.reader_name().is_none());
        let ticket = readers.issue_ticket(&grant).unwrap();
        assert!(readers.admit(Credential::Ticket(&ticket.reveal())).is_ok());
    }
}

fn is_ended(session: &mut Session) -> bool {
    session.revoked().now_or_never().is_some()
}

#[test]
fn sessions_end_with_their_readers() {
    let readers = readers(&[config("a", A), config("b", B), config("c", "token-of-reader-c")]);
    let mut of_admin = readers.admit(Credential::Admin).unwrap().connect().unwrap();
    let mut sessions = [A, B, "token-of-reader-c"]
        .map(|token| readers.admit(Credential::Token(token.as_bytes())).unwrap().connect().unwrap());
    let changed = config("b", "another-token-of-b");
    let replaced = readers.replace(&[config("a", A), changed.clone(), config("d", "token-of-reader-d")]);
    assert_eq!(replaced, ReadersReplaced { added: 1, changed: 1, removed: 1 });
    assert_eq!(sessions.each_mut().map(is_ended), [false, true, true]);
    assert!(!is_ended(&mut of_admin));
    assert_eq!(reason(readers.admit(Credential::Token(B.as_bytes()))), Some("wrong_token"));
    assert_eq!(name(readers.admit(Credential::Token(b"another-token-of-b"))), "b");
    assert_eq!(
        readers.replace(&[config("a", A), changed]),
        ReadersReplaced { removed: 1, ..Default::default() }
    );
    assert!(!is_ended(&mut sessions[0]));
}

#[test]
fn sessions_of_the_operator_end_with_the_token() {
    let readers = readers(&[config("a", A)]);
    let grant = readers.admit(Credential::Admin).unwrap();
    let (mut session, ticket) = (grant.connect().unwrap(), readers.issue_ticket(&grant).unwrap().reveal());
    let mut of_a = readers.admit(Credential::Token(A.as_bytes())).unwrap().connect().unwrap();
    readers.revoke_admin();
    assert!(is_ended(&mut session) && !is_ended(&mut of_a));
    assert_eq!(reason(readers.admit(Credential::Ticket(&ticket))), Some("wrong_ticket"));
    assert!(!is_ended(&mut readers.admit(Credential::Admin).unwrap().connect().unwrap()));
}

#[test]
fn anonymous_sessions_end_when_there_is_a_reader() {
    let readers = readers(&[]);
    let mut anonymous = readers.admit(Credential::Nothing).unwrap().connect().unwrap();
    assert_eq!(readers.replace(&[]), ReadersReplaced::default());
    assert!(!is_ended(&mut anonymous));
    readers.replace(&[config("a", A)]);
    assert!(is_ended(&mut anonymous));
    readers.replace(&[]);
    let mut anonymous = readers.admit(Credential::Nothing).unwrap().connect().unwrap();
    assert!(!is_ended(&mut anonymous));
    readers.replace(&[config("a", A)]);
    assert!(is_ended(&mut anonymous));
}

/// A request may be admitted just before its reader is removed.
#[test]
fn a_session_that_begins_too_late_ends_at_once() {
    let readers = readers(&[config("a", A)]);
    let grant = readers.admit(Credential::Token(A.as_bytes())).unwrap();
    readers.replace(&[config("b", B)]);
    assert!(is_ended(&mut grant.connect().unwrap()));
    assert_eq!(readers.metrics.connections_of(&SinkName::new("a").unwrap()).get(), 0);
}

#[test]
fn connections_are_limited_for_each_reader() {
    let mut limited = config("a", A);
    limited.options.max_connections = NonZeroUsize::new(2);
    let readers = readers(&[limited, config("b", B)]);
    let grant = readers.admit(Credential::Token(A.as_bytes())).unwrap();
    let [first, _second] = [grant.connect().unwrap(), grant.connect().unwrap()];
    assert_eq!(grant.connect().unwrap_err(), ReadRefusal::TooManyConnections.into());
    let gauge = readers.metrics.connections_of(&SinkName::new("a").unwrap());
    assert_eq!(gauge.get(), 2);
    assert!(readers.admit(Credential::Token(B.as_bytes())).unwrap().connect().is_ok());
    drop(first);
    assert_eq!(gauge.get(), 1);
    assert!(grant.connect().is_ok());
}

#[test]
fn requests_are_limited_for_each_reader() {
    let mut limited = config("a", A);
    limited.options.max_requests_per_minute = NonZeroU32::new(2);
    let readers = readers(&[limited, config("b", B)]);
    let request = || readers.admit(Credential::Token(A.as_bytes()));
    assert!(request().is_ok() && request().is_ok());
    let refused = request().unwrap_err();
    assert_eq!(refused.reason, ReadRefusal::TooManyRequests);
    let wait = refused.retry_after.unwrap();
    assert!(wait > Duration::from_secs(20) && wait <= Duration::from_secs(30), "{wait:?}");
    assert!(readers.admit(Credential::Token(B.as_bytes())).is_ok());
    assert!(readers.admit(Credential::Admin).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_ticket_is_valid_once_and_for_a_short_time() {
    let readers = readers(&[config("a", A), config("b", B)]);
    let ticket = |credential| readers.issue_ticket(&readers.admit(credential).unwrap()).unwrap().reveal();
    let use_up = |ticket: &str| readers.admit(Credential::Ticket(ticket));
    let used = ticket(Credential::Token(B.as_bytes()));
    assert_eq!(name(use_up(&used)), "b");
    assert_eq!(reason(use_up(&used)), Some("wrong_ticket"), "a second time");
    assert_eq!(use_up(&ticket(Credential::Admin)).unwrap().reader_name(), None);
    let expired = ticket(Credential::Token(A.as_bytes()));
    advance(TICKET_LIFETIME - Duration::from_millis(1)).await;
    let late = ticket(Credential::Token(A.as_bytes()));
    advance(Duration::from_millis(1)).await;
    assert_eq!(reason(use_up(&expired)), Some("wrong_ticket"));
    assert_eq!(name(use_up(&late)), "a");
    for invalid in ["", "0", &"0".repeat(32), &"g".repeat(32), &"+".repeat(32), &"0".repeat(33), "é"] {
        assert_eq!(reason(use_up(invalid)), Some("wrong_ticket"), "{invalid}");
    }
}

#[test]
fn tickets_of_a_removed_reader_and_of_another_gateway_are_worthless() {
    let [readers, other] = [readers(&[config("a", A)]), readers(&[config("a", A)])];
    let grant = readers.admit(Credential::Token(A.as_bytes())).unwrap();
    let ticket = readers.issue_ticket(&grant).unwrap().reveal();
    assert_eq!(reason(other.admit(Credential::Ticket(&ticket))), Some("wrong_ticket"));
    readers.replace(&[config("b", B)]);
    assert_eq!(reason(readers.admit(Credential::Ticket(&ticket))), Some("wrong_ticket"));
    // A ticket that was issued before the first reader was added.
    readers.replace(&[]);
    let anonymous = readers.admit(Credential::Nothing).unwrap();
    let ticket = readers.issue_ticket(&anonymous).unwrap().reveal();
    readers.replace(&[config("b", B)]);
    assert_eq!(reason(readers.admit(Credential::Ticket(&ticket))), Some("wrong_ticket"));
}

#[tokio::test(start_paused = true)]
async fn unused_tickets_are_limited_for_each_reader() {
    let readers = readers(&[config("a", A), config("b", B)]);
    let [a, b] = [A, B].map(|token| readers.admit(Credential::Token(token.as_bytes())).unwrap());
    let tickets: Vec<_> =
        (0..TICKETS_PER_READER_MAX).map(|_| readers.issue_ticket(&a).unwrap().reveal()).collect();
    assert_eq!(tickets.iter().collect::<HashSet<_>>().len(), TICKETS_PER_READER_MAX);
    let refused = readers.issue_ticket(&a).unwrap_err();
    assert_eq!(refused.reason, ReadRefusal::TooManyTickets);
    assert_eq!(refused.retry_after, Some(TICKET_LIFETIME));
    assert!(readers.issue_ticket(&b).is_ok());
    // Used and expired tickets make room for new ones.
    assert!(readers.admit(Credential::Ticket(&tickets[0])).is_ok());
    assert!(readers.issue_ticket(&a).is_ok() && readers.issue_ticket(&a).is_err());
    advance(TICKET_LIFETIME).await;
    for _ in 0..TICKETS_PER_READER_MAX {
        assert!(readers.issue_ticket(&a).is_ok());
    }
    assert!(readers.issue_ticket(&a).is_err());
}

#[test]
fn nothing_prints_a_ticket() {
    let readers = readers(&[config("a", A)]);
    let grant = readers.admit(Credential::Token(A.as_bytes())).unwrap();
    let ticket = readers.issue_ticket(&grant).unwrap();
    let shown = format!("{readers:?} {grant:?} {ticket:?}");
    let number = u128::from_str_radix(&ticket.reveal(), 16).unwrap();
    for secret in [ticket.reveal(), number.to_string(), A.to_owned()] {
        assert!(!shown.contains(&secret), "{shown}");
    }
}
