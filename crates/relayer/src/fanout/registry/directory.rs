//! The bots and follows in memory, about 300 bytes per follow, so that no event needs a database
//! query.
//!
//! The connections of a follower share this state, so a change of follows applies from the next
//! message on.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use wire::{EventId, PublicKey};

use super::follow::{Follow, find_follow};
use super::row::{BotName, BotRow, FollowKey};
use crate::event_log::Seq;
use crate::fanout::keys::MessageKey;
use crate::limits::{FOLLOWER_CONNECTIONS_MAX, FOLLOWS_MAX};

/// The number of follows inserted under one lock: well under a millisecond of work.
const ROWS_AT_ONCE: usize = 500;

/// A registered bot.
#[derive(Debug)]
pub struct Bot {
    /// The key that signs the bot's signals.
    pub pubkey: PublicKey,
    inner: RwLock<BotInner>,
}

#[derive(Debug)]
struct BotInner {
    row: BotRow,
    /// `None` if the bot published no signal after, or shortly before, the gateway's start.
    last_signal: Option<LastSignal>,
    followers: BTreeSet<ByKey>,
}

/// The newest signal of a bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSignal {
    pub seq: Seq,
    pub id: EventId,
    /// Unix milliseconds.
    pub received_at_ms: u64,
}

/// A key that follows bots or is connected.
#[derive(Debug)]
pub struct Follower {
    pub pubkey: PublicKey,
    /// Sorted by bot. A connection keeps the last version that it saw, to find out what has
    /// changed.
    follows: RwLock<Arc<Vec<Follow>>>,
    /// The number of connections. Changed only while the directory's write lock is held.
    connections: AtomicUsize,
    wake: Notify,
}

/// A follower that hashes and compares by its public key.
#[derive(Debug, Clone)]
struct ByKey(Arc<Follower>);

impl Borrow<PublicKey> for ByKey {
    fn borrow(&self) -> &PublicKey {
        &self.0.pubkey
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.pubkey.hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.pubkey == other.0.pubkey
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.pubkey.cmp(&other.0.pubkey)
    }
}

/// A follower in the list of a bot's followers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedFollower {
    pub follower: PublicKey,
    /// Unix milliseconds.
    pub since_ms: u64,
    pub(crate) has_secret: bool,
}

/// The follower has the maximum number of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyConnections;

/// A connection of a follower. The connection counts until this value is dropped.
#[derive(Debug)]
pub struct Presence {
    directory: Arc<Directory>,
    follower: Arc<Follower>,
}

/// A follow, and the key that is derived from its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsealedFollow {
    pub key: FollowKey,
    pub secret: Option<Arc<MessageKey>>,
    /// Unix milliseconds.
    pub since_ms: u64,
}

/// All bots and followers.
#[derive(Debug, Default)]
pub struct Directory {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    bots: HashMap<PublicKey, Arc<Bot>>,
    followers: HashSet<ByKey>,
    follows: usize,
}

impl Directory {
    /// The number of bots and the number of follows.
    pub fn len(&self) -> (usize, usize) {
        let state = self.state.read();
        (state.bots.len(), state.follows)
    }

    /// The number of keys that follow a bot or are connected.
    pub fn followers(&self) -> usize {
        self.state.read().followers.len()
    }

    pub fn bot(&self, pubkey: &PublicKey) -> Option<Arc<Bot>> {
        self.state.read().bots.get(pubkey).cloned()
    }

    /// Adds or updates a bot.
    pub fn put_bot(&self, row: BotRow) {
        self.state.write().put_bot(row);
    }

    /// Returns up to `limit` bots after a key, sorted by key.
    pub fn bots(&self, after: Option<PublicKey>, limit: usize) -> Vec<Arc<Bot>> {
        let mut bots: Vec<Arc<Bot>> = {
            let state = self.state.read();
            state.bots.values().filter(|bot| after.is_none_or(|after| bot.pubkey > after)).cloned().collect()
        };
        bots.sort_unstable_by_key(|bot| bot.pubkey);
        bots.truncate(limit);
        bots
    }

    /// Among the bots that have no followers and have published nothing, returns the bot that was
    /// registered first.
    pub(crate) fn oldest_idle_bot(&self) -> Option<PublicKey> {
        let state = self.state.read();
        let idle = state.bots.values().filter_map(|bot| {
            let inner = bot.inner.read();
            let is_idle = inner.followers.is_empty() && inner.last_signal.is_none();
            is_idle.then_some((inner.row.registered_at_ms, bot.pubkey))
        });
        idle.min().map(|(_, pubkey)| pubkey)
    }

    /// Adds or updates a follow. A follow of an unknown or unapproved bot is ignored.
    pub fn put_follow(&self, follow: UnsealedFollow) {
        self.state.write().put_follow(follow);
    }

    /// Removes a follow, if it exists.
    pub fn remove_follow(&self, key: &FollowKey) {
        self.state.write().remove_follow(key);
    }

    /// Removes a bot, if it exists, and its follows.
    pub fn remove_bot(&self, pubkey: &PublicKey) {
        self.state.write().remove_bot(pubkey);
    }

    /// Replaces all bots and follows; connections stay open. The lock is released between batches
    /// of rows, so that other callers do not wait long.
    pub fn replace(&self, bots: Vec<BotRow>, follows: Vec<UnsealedFollow>) {
        let kept_bots: HashSet<PublicKey> = bots.iter().map(|bot| bot.pubkey).collect();
        let kept: HashSet<FollowKey> = follows.iter().map(|follow| follow.key).collect();
        let known: Vec<Arc<Bot>> = self.state.read().bots.values().cloned().collect();
        for bot in known {
            if !kept_bots.contains(&bot.pubkey) {
                self.remove_bot(&bot.pubkey);
                continue;
            }
            let follows =
                bot.follower_keys().into_iter().map(|follower| FollowKey { bot: bot.pubkey, follower });
            let gone: Vec<FollowKey> = follows.filter(|key| !kept.contains(key)).collect();
            gone.iter().for_each(|key| self.remove_follow(key));
        }
        bots.into_iter().for_each(|bot| self.put_bot(bot));
        let mut follows = follows.into_iter().peekable();
        while follows.peek().is_some() {
            let mut state = self.state.write();
            follows.by_ref().take(ROWS_AT_ONCE).for_each(|follow| state.put_follow(follow));
        }
    }

    pub fn follow(&self, key: &FollowKey) -> Option<UnsealedFollow> {
        let state = self.state.read();
        let follow = state.followers.get(&key.follower)?.0.follow(&key.bot)?;
        Some(UnsealedFollow { key: *key, secret: follow.secret, since_ms: follow.since_ms })
    }

    /// Whether a follower follows [`FOLLOWS_MAX`] bots.
    pub(crate) fn is_at_follow_limit(&self, follower: &PublicKey) -> bool {
        let state = self.state.read();
        state.followers.get(follower).is_some_and(|found| found.0.follows.read().len() >= FOLLOWS_MAX)
    }

    /// Opens a connection for a key, which need not follow any bot.
    ///
    /// # Errors
    /// When the key has the maximum number of connections.
    pub fn connect(self: &Arc<Self>, pubkey: PublicKey) -> Result<Presence, TooManyConnections> {
        let mut state = self.state.write();
        let follower = state.follower(pubkey);
        if follower.connections.load(Ordering::Relaxed) >= FOLLOWER_CONNECTIONS_MAX {
            return Err(TooManyConnections);
        }
        follower.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Presence { directory: Arc::clone(self), follower })
    }

    /// Notes the newest signals of bots, and wakes the connected followers of these bots.
    pub fn signalled(&self, newest: impl IntoIterator<Item = (PublicKey, LastSignal)>) {
        for (bot, signal) in newest {
            let Some(bot) = self.bot(&bot) else { continue };
            // Waking thousands of followers takes time, so the write lock is held only for this.
            bot.inner.write().last_signal = Some(signal);
            let connected: Vec<ByKey> = {
                let inner = bot.inner.read();
                inner.followers.iter().filter(|follower| follower.0.is_connected()).cloned().collect()
            };
            connected.iter().for_each(|follower| follower.0.wake.notify_waiters());
        }
    }

    /// Wakes all followers.
    pub(crate) fn wake_all(&self) {
        self.state.read().followers.iter().for_each(|follower| follower.0.wake.notify_waiters());
    }
}

impl State {
    fn put_bot(&mut self, row: BotRow) {
        let (pubkey, is_approved) = (row.pubkey, row.is_approved);
        let bot = self.bots.entry(pubkey).or_insert_with(|| {
            let inner = BotInner { row: row.clone(), last_signal: None, followers: BTreeSet::new() };
            Arc::new(Bot { pubkey, inner: RwLock::new(inner) })
        });
        bot.inner.write().row = row;
        if !is_approved {
            // An unapproved bot must not deliver signals, no matter who added its follows.
            let followers = bot.follower_keys();
            followers
                .into_iter()
                .for_each(|follower| self.remove_follow(&FollowKey { bot: pubkey, follower }));
        }
    }

    fn put_follow(&mut self, UnsealedFollow { key, secret, since_ms }: UnsealedFollow) {
        let Some(bot) = self.bots.get(&key.bot).filter(|bot| bot.is_approved()).cloned() else { return };
        let follower = self.follower(key.follower);
        let follow = Follow { bot: key.bot, secret, since_ms };
        let mut shared = follower.follows.write();
        let follows = Arc::make_mut(&mut shared);
        match follows.binary_search_by_key(&key.bot, |follow| follow.bot) {
            Ok(index) => {
                if let Some(known) = follows.get_mut(index) {
                    *known = follow;
                }
            }
            Err(index) => {
                // Most followers have few follows; by default, the vector would reserve space for
                // four.
                follows.reserve_exact(1);
                follows.insert(index, follow);
                self.follows += 1;
            }
        }
        drop(shared);
        bot.inner.write().followers.insert(ByKey(Arc::clone(&follower)));
        // A signal may have been published just before this follow was added.
        follower.wake.notify_waiters();
    }

    fn remove_follow(&mut self, key: &FollowKey) {
        let Some(ByKey(follower)) = self.followers.get(&key.follower).cloned() else { return };
        let mut follows = follower.follows.write();
        if let Ok(index) = follows.binary_search_by_key(&key.bot, |follow| follow.bot) {
            Arc::make_mut(&mut follows).remove(index);
            self.follows -= 1;
        }
        drop(follows);
        // The follower's connections must send a notice.
        follower.wake.notify_waiters();
        if let Some(bot) = self.bots.get(&key.bot) {
            bot.inner.write().followers.remove(&key.follower);
        }
        self.forget_if_idle(&follower);
    }

    fn remove_bot(&mut self, pubkey: &PublicKey) {
        let Some(bot) = self.bots.get(pubkey).cloned() else { return };
        for follower in bot.follower_keys() {
            self.remove_follow(&FollowKey { bot: *pubkey, follower });
        }
        self.bots.remove(pubkey);
    }

    fn follower(&mut self, pubkey: PublicKey) -> Arc<Follower> {
        if let Some(ByKey(known)) = self.followers.get(&pubkey) {
            return Arc::clone(known);
        }
        let (follows, connections) = (RwLock::default(), AtomicUsize::new(0));
        let new = Arc::new(Follower { pubkey, follows, connections, wake: Notify::new() });
        self.followers.insert(ByKey(Arc::clone(&new)));
        new
    }

    /// Removes a follower that neither follows a bot nor is connected: such followers must use no
    /// memory.
    fn forget_if_idle(&mut self, follower: &Follower) {
        if !follower.is_connected() && follower.follows.read().is_empty() {
            self.followers.remove(&follower.pubkey);
        }
    }
}

impl Bot {
    pub fn name(&self) -> BotName {
        self.inner.read().row.name.clone()
    }

    /// Whether the bot may be followed.
    pub fn is_approved(&self) -> bool {
        self.inner.read().row.is_approved
    }

    /// The newest signal; `None` if the bot published none after, or shortly before, the gateway's
    /// start.
    pub(crate) fn last_signal(&self) -> Option<LastSignal> {
        self.inner.read().last_signal
    }

    /// The time of the first registration in Unix milliseconds.
    pub fn registered_at_ms(&self) -> u64 {
        self.inner.read().row.registered_at_ms
    }

    fn follower_keys(&self) -> Vec<PublicKey> {
        self.inner.read().followers.iter().map(|ByKey(follower)| follower.pubkey).collect()
    }

    /// The number of followers.
    pub fn followers(&self) -> usize {
        self.inner.read().followers.len()
    }

    /// Returns up to `limit` followers after a key, sorted by key.
    pub fn list(&self, after: Option<PublicKey>, limit: usize) -> Vec<ListedFollower> {
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let inner = self.inner.read();
        let listed = inner.followers.range::<PublicKey, _>((from, Bound::Unbounded));
        let listed = listed.filter_map(|ByKey(follower)| {
            let Follow { secret, since_ms, .. } = follower.follow(&self.pubkey)?;
            Some(ListedFollower { follower: follower.pubkey, since_ms, has_secret: secret.is_some() })
        });
        listed.take(limit).collect()
    }
}

impl Follower {
    fn follow(&self, bot: &PublicKey) -> Option<Follow> {
        find_follow(&self.follows.read(), bot).cloned()
    }

    /// The follows, sorted by bot.
    pub(crate) fn follows(&self) -> Arc<Vec<Follow>> {
        Arc::clone(&self.follows.read())
    }

    /// Whether `known` is the current version of the follows.
    pub(crate) fn still_follows(&self, known: &Arc<Vec<Follow>>) -> bool {
        Arc::ptr_eq(&self.follows.read(), known)
    }

    fn is_connected(&self) -> bool {
        self.connections.load(Ordering::Relaxed) > 0
    }

    /// Whether the key follows any bot.
    pub(crate) fn has_follows(&self) -> bool {
        !self.follows.read().is_empty()
    }

    /// Completes when there may be a signal. Wake-ups count from the moment when the future is
    /// [enabled](Notified::enable).
    pub fn woken(&self) -> Notified<'_> {
        self.wake.notified()
    }
}

impl std::ops::Deref for Presence {
    type Target = Follower;

    fn deref(&self) -> &Follower {
        &self.follower
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut state = self.directory.state.write();
        self.follower.connections.fetch_sub(1, Ordering::Relaxed);
        state.forget_if_idle(&self.follower);
    }
}
