//! The messages for one follower: the signals of the bots that the follower currently follows,
//! encrypted for the follower.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;

use super::keys::ConversationKeys;
use super::registry::directory::Presence;
use super::registry::follow::{Follow, Notice, SignalKey, notices, signal_key};
use super::signals::{SignalLookup, Signals};

use crate::event_log::reader::{Chunk, ReadError, Reader};
use crate::event_log::{Cursor, Entry};
use crate::serve::{Damaged, Source};

/// The message is encrypted with the NIP-44 conversation key.
pub(crate) const ENCRYPTION: &str = "nip44-v2";
/// The message is encrypted by NIP-44 v2 with the key that is derived from the shared secret.
pub(crate) const ENCRYPTION_SECRET: &str = "nip44-v2-shared-secret";

#[derive(Debug)]
pub struct FollowerSource {
    presence: Presence,
    signals: Arc<Signals>,
    keys: Arc<ConversationKeys>,
    cursor: Cursor,
    /// The follows that the follower has been told about. Messages use these follows, so that the
    /// follower learns of a change before the change takes effect.
    announced: Arc<Vec<Follow>>,
    pending_notices: VecDeque<Utf8Bytes>,
    /// Reads the log while the cursor is before the signals in memory.
    log_reader: Option<Reader>,
    /// The age above which a signal is stale.
    max_age: Option<Duration>,
}

impl FollowerSource {
    /// Starts after `cursor`.
    pub fn new(
        presence: Presence,
        signals: Arc<Signals>,
        keys: Arc<ConversationKeys>,
        cursor: Cursor,
        max_age: Option<Duration>,
    ) -> Self {
        let (announced, pending_notices) = (presence.follows(), VecDeque::new());
        Self { presence, signals, keys, cursor, announced, pending_notices, log_reader: None, max_age }
    }

    fn has_notices(&self) -> bool {
        !self.pending_notices.is_empty() || !self.presence.still_follows(&self.announced)
    }

    fn notice_text(&self, notice: Notice) -> Utf8Bytes {
        let target = self.presence.pubkey;
        match notice {
            Notice::Unsubscribed(bot) => {
                format!(r#"{{"type":"unsubscribed","target_pubkey":"{target}","bot_pubkey":"{bot}"}}"#)
            }
            Notice::SecretChanged { bot, has_secret } => {
                let encryption = if has_secret { ENCRYPTION_SECRET } else { ENCRYPTION };
                format!(
                    r#"{{"type":"secret_changed","target_pubkey":"{target}","bot_pubkey":"{bot}","encryption":"{encryption}"}}"#
                )
            }
        }
        .into()
    }

    /// Reads a chunk of the log, once a read permit is free.
    async fn read_log(&mut self) -> Result<Option<Chunk>, ReadError> {
        let Ok(_permit) = self.signals.read_permits().acquire().await else { return Ok(None) };
        let (log, cursor) = (self.signals.log(), self.cursor);
        let reader = self.log_reader.get_or_insert_with(|| log.reader(cursor));
        let chunk = reader.next().await?;
        self.cursor = reader.cursor();
        Ok(chunk)
    }

    /// Records that there are no signals for this follower up to `cursor`.
    fn skip_to(&mut self, cursor: Cursor) {
        self.log_reader = None;
        self.cursor = cursor;
    }

    fn take(&mut self, chunk: Chunk) -> Chunk {
        self.log_reader = None;
        self.cursor = chunk.last().unwrap_or(self.cursor);
        chunk
    }
}

/// Whether a signal is too old to trade on. A signal that is dated after its receipt ages from the
/// receipt.
fn is_stale(created_at: u64, received_at_ms: u64, now_ms: u64, max_age: Option<Duration>) -> bool {
    let made_ms = created_at.saturating_mul(1_000).min(received_at_ms);
    max_age.is_some_and(|max| u128::from(now_ms.saturating_sub(made_ms)) > max.as_millis())
}

impl Source for FollowerSource {
    async fn next(&mut self) -> Result<Option<Chunk>, ReadError> {
        let signals = Arc::clone(&self.signals);
        loop {
            if self.has_notices() {
                // There is a notice to send, but no signal.
                return Ok(Some(Chunk::after(self.cursor, Arc::default())));
            }
            match signals.after(self.cursor) {
                SignalLookup::Signals(chunk) => return Ok(Some(self.take(chunk))),
                SignalLookup::Closed => return Ok(None),
                // A follower without follows need not read the log. Adding a follow wakes the
                // follower.
                SignalLookup::Behind if self.presence.has_follows() => return self.read_log().await,
                SignalLookup::Behind => {}
                SignalLookup::NoneUpTo(cursor) => self.skip_to(cursor),
            }
            let mut woken = pin!(self.presence.woken());
            // From here on, wake-ups are noticed. The check below finds earlier changes.
            woken.as_mut().enable();
            if self.has_notices() {
                continue;
            }
            match signals.after(self.cursor) {
                SignalLookup::NoneUpTo(_) => woken.await,
                SignalLookup::Behind if !self.presence.has_follows() => woken.await,
                SignalLookup::Behind | SignalLookup::Signals(_) | SignalLookup::Closed => {}
            }
        }
    }

    fn next_in_memory(&mut self) -> Option<Chunk> {
        match self.signals.after(self.cursor) {
            SignalLookup::Signals(chunk) => Some(self.take(chunk)),
            SignalLookup::NoneUpTo(cursor) => {
                self.skip_to(cursor);
                None
            }
            SignalLookup::Closed | SignalLookup::Behind => None,
        }
    }

    fn notice(&mut self) -> Option<Utf8Bytes> {
        if !self.presence.still_follows(&self.announced) {
            let now = self.presence.follows();
            let texts: Vec<_> =
                notices(&self.announced, &now).map(|notice| self.notice_text(notice)).collect();
            self.pending_notices.extend(texts);
            self.announced = now;
        }
        self.pending_notices.pop_front()
    }

    fn cursor(&self) -> Cursor {
        self.cursor
    }

    fn head(&self) -> Cursor {
        self.signals.log().head()
    }

    fn message(&mut self, entry: &Entry) -> Result<Option<Utf8Bytes>, Damaged> {
        let event = &entry.event;
        if !self.signals.is_signal(event) {
            return Ok(None);
        }
        let (encryption, ciphertext) = match signal_key(&self.announced, event.pubkey()) {
            None => return Ok(None),
            Some(SignalKey::SharedSecret(key)) => (ENCRYPTION_SECRET, key.encrypt(event.json())),
            Some(SignalKey::Conversation) => {
                // A key that has signed a valid proof is on the curve.
                let key = self.keys.with(&self.presence.pubkey).ok_or(Damaged)?;
                (ENCRYPTION, key.encrypt(event.json()))
            }
        };
        let ciphertext = ciphertext.ok_or(Damaged)?;
        let is_stale = is_stale(
            event.created_at(),
            entry.received_at_ms,
            self.signals.log().clock().unix_ms(),
            self.max_age,
        );
        let stale = if is_stale { r#""stale":true,"# } else { "" };
        let message = format!(
            r#"{{"seq":{},"log":"{}","target_pubkey":"{}","bot_pubkey":"{}","kind":{},"original_event_id":"{}","created_at":{},{stale}"encryption":"{encryption}","ciphertext":"{ciphertext}"}}"#,
            entry.seq,
            entry.log,
            self.presence.pubkey,
            event.pubkey(),
            event.kind(),
            event.id(),
            event.created_at(),
        );
        Ok(Some(message.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::mpsc::sync_channel;
    use std::time::Instant;

    use tempfile::TempDir;
    use wire::{Signer, VerifiedEvent};

    use super::*;
    use crate::event_log::sequencer::{Sequencer, SequencerOptions};
    use crate::event_log::{EventLog, StoreOptions, Submission, Verified};
    use crate::fanout::keys::MessageKey;
    use crate::fanout::registry::directory::{Directory, UnsealedFollow};
    use crate::fanout::registry::{BotName, BotRow, FollowKey};

    fn logged(log: &Arc<EventLog>, event: VerifiedEvent) -> Entry {
        let (inbox, bursts) = sync_channel(1);
        let relay = "wss://relay.example".into();
        let verified = Verified { event, relay, received_at_ms: 1, received: Instant::now(), budget: None };
        inbox.send(vec![Submission::Event(verified)]).unwrap();
        drop(inbox);
        let options = SequencerOptions { batch_size: 1 };
        let sequencer = Sequencer::new(Arc::clone(log), options, Arc::default()).unwrap();
        sequencer.run(&bursts, |_| {}).unwrap();
        log.page(Cursor::START, 1, &[]).unwrap().entries.remove(0)
    }

    /// A change between `has_notices` and `message` must not affect the message.
    #[test]
    fn messages_use_the_follows_that_the_follower_was_told_about() {
        const KIND: u16 = 30_931;
        let folder = TempDir::new().unwrap();
        let log =
            EventLog::open(folder.path(), StoreOptions { fsync: false, ..StoreOptions::default() }, 1 << 20)
                .unwrap();
        let directory = Arc::<Directory>::default();
        let (bot, follower) = (Signer::from_seed(1), *Signer::from_seed(2).pubkey());
        let key = FollowKey { bot: *bot.pubkey(), follower };
        let name = BotName::new("a bot").unwrap();
        directory.put_bot(BotRow { pubkey: key.bot, name, registered_at_ms: 1, is_approved: true });
        let follow = |secret| directory.put_follow(UnsealedFollow { key, secret, since_ms: 1 });
        follow(None);
        let signals =
            Signals::new(&log, BTreeSet::from([KIND]), Arc::clone(&directory), Cursor::START, 1 << 20);
        let keys = Arc::new(ConversationKeys::new(&Signer::from_seed(3)).unwrap());
        let presence = directory.connect(follower).unwrap();
        let mut source = FollowerSource::new(presence, Arc::new(signals), keys, Cursor::START, None);
        let event = bot.sign(1, KIND, &[["d", "x"]], "a signal");
        let entry = logged(&log, event);
        let encryption = |source: &mut FollowerSource| {
            let message = source.message(&entry).unwrap()?;
            let message: serde_json::Value = serde_json::from_str(&message).unwrap();
            Some(message["encryption"].as_str().unwrap().to_owned())
        };
        follow(Some(Arc::new(MessageKey::from_shared_secret(b"what the two agree upon"))));
        assert_eq!(encryption(&mut source).as_deref(), Some(ENCRYPTION));
        assert!(source.notice().unwrap().contains("secret_changed"));
        assert_eq!(encryption(&mut source).as_deref(), Some(ENCRYPTION_SECRET));
        directory.remove_follow(&key);
        assert_eq!(encryption(&mut source).as_deref(), Some(ENCRYPTION_SECRET));
        assert!(source.notice().unwrap().contains("unsubscribed"));
        assert_eq!(encryption(&mut source), None);
    }

    #[test]
    fn a_signal_is_stale_when_created_or_received_too_long_ago() {
        const NOW: u64 = 1_000_000;
        let max = Some(Duration::from_secs(600));
        for (created_at, received_at_ms, stale) in [
            (1_000, NOW, false),
            (400, NOW, false),
            (399, NOW, true),
            (1_000, 400_000, false),
            (1_000, 399_999, true),
            (1_500, NOW, false),
            (1_500, 399_999, true),
            (u64::MAX, NOW, false),
            (0, 0, true),
        ] {
            assert_eq!(
                is_stale(created_at, received_at_ms, NOW, max),
                stale,
                "{created_at} {received_at_ms}"
            );
            assert!(!is_stale(created_at, received_at_ms, NOW, None));
        }
    }
}
