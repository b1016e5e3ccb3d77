//! The state that readers are checked against: all written numbers, how far readers may read, and
//! the floors of the log.

use wire::EventId;

use moltrade_relayer::event_log::Entry;

/// The expected log.
#[derive(Debug, Default)]
pub struct Truth {
    /// Every number with its event, in order, including trimmed events.
    written: Vec<(u64, EventId)>,
    /// The last number whose publication has begun.
    published: u64,
    /// The first and last number of the newest batch published since the log was opened.
    newest: Option<(u64, u64)>,
    /// All floors, in order. The last floor may not be in force yet.
    floors: Vec<u64>,
    /// The floor that is certainly in force.
    floor: u64,
    /// Whether readers may be told that the log has ended.
    pub is_closing: bool,
}

impl Truth {
    pub fn new() -> Self {
        Self { floors: vec![1], floor: 1, ..Self::default() }
    }

    /// Reopens the log. Its memory is then empty.
    pub fn reopen(&mut self) {
        self.newest = None;
        self.is_closing = false;
    }

    /// Adds a batch that is about to be committed.
    pub fn write(&mut self, batch: impl IntoIterator<Item = (u64, EventId)>) {
        self.written.extend(batch);
    }

    /// Allows readers to see the committed events.
    pub fn publish(&mut self) {
        let first = self.first_after(self.published).map(|place| self.written[place].0);
        self.published = self.written.last().map_or(0, |(seq, _)| *seq);
        self.newest = first.map(|first| (first, self.published));
    }

    /// Allows readers to see the new floor.
    pub fn announce_floor(&mut self, floor: u64) {
        self.floors.push(floor);
    }

    /// Requires readers to see the announced floor.
    pub fn enforce_floor(&mut self) {
        self.floor = self.announced_floor();
    }

    pub const fn floor(&self) -> u64 {
        self.floor
    }

    pub const fn published(&self) -> u64 {
        self.published
    }

    fn announced_floor(&self) -> u64 {
        *self.floors.last().expect("there is always one")
    }

    /// The index of the first number after `seq`.
    fn first_after(&self, seq: u64) -> Option<usize> {
        let place = self.written.partition_point(|(written, _)| *written <= seq);
        (place < self.written.len()).then_some(place)
    }

    /// The published numbers that are not trimmed.
    pub fn kept(&self) -> impl Iterator<Item = u64> + '_ {
        let kept = self.floor..=self.published;
        let first = self.written.partition_point(|(seq, _)| *seq < self.floor);
        self.written[first..].iter().map(|(seq, _)| *seq).take_while(move |seq| kept.contains(seq))
    }

    /// Whether a reader that has every event up to `at` still lacks later events.
    pub fn owes(&self, at: u64) -> bool {
        let after = if at == 0 { self.floor - 1 } else { at };
        self.first_after(after).is_some_and(|place| self.written[place].0 <= self.published)
    }

    /// Whether the next event must be in memory. The newest batch stays in memory unless it is
    /// trimmed.
    pub fn is_in_memory(&self, at: u64) -> bool {
        self.newest.is_some_and(|(first, last)| {
            at > 0 && at + 1 >= first && at < last && last >= self.announced_floor()
        })
    }

    /// Checks the entries of a reader that had every event up to `at`, and returns the number that
    /// it has reached.
    pub fn check_entries(&self, at: u64, entries: &[Entry]) -> Result<u64, String> {
        let (first, last) = match entries {
            [] => return Err("got an empty chunk".into()),
            [first, .., last] => (first.seq.get(), last.seq.get()),
            [only] => (only.seq.get(), only.seq.get()),
        };
        let after = if at == 0 { first - 1 } else { at };
        let place = self.first_after(after).ok_or_else(|| format!("got {first}, which was never written"))?;
        if at == 0 && place > 0 && self.written[place - 1].0 >= self.announced_floor() {
            return Err(format!("0 is the oldest kept, and {first} is not the oldest"));
        }
        let got = entries.iter().map(|entry| (entry.seq.get(), entry.event.id()));
        if !got.eq(self.written[place..].iter().copied().take(entries.len())) {
            let got: Vec<_> = entries.iter().map(|entry| entry.seq.get()).collect();
            return Err(format!("what follows {at} is other than what was written: {got:?}"));
        }
        if last > self.published {
            return Err(format!("got up to {last}, of which only {} is published", self.published));
        }
        Ok(last)
    }

    /// Checks that a reader that has every event up to `at` may be told that the log now begins at
    /// `oldest`, if the floor was at least `since` while the reader waited.
    pub fn check_trimmed(&self, at: u64, oldest: u64, since: u64) -> Result<(), String> {
        if oldest <= at + 1 {
            return Err(format!(
                "was told that the log begins at {oldest}, though that takes nothing from it"
            ));
        }
        if oldest < since || !self.floors.contains(&oldest) {
            return Err(format!("was told that the log begins at {oldest}, which is no floor of that time"));
        }
        Ok(())
    }

    /// Checks that a reader that began at 0 and has received no event may be at `cursor`. This is
    /// allowed only if, at some time, no event up to `cursor` was kept.
    pub fn check_start(&self, cursor: u64) -> Result<(), String> {
        let has_nothing_from =
            |floor: &u64| self.first_after(floor - 1).is_none_or(|place| self.written[place].0 > cursor);
        if cursor == 0 || !self.floors.iter().any(has_nothing_from) {
            return Err(format!("began at 0, stands at {cursor}, and was told that it is behind"));
        }
        Ok(())
    }

    /// Checks that a reader at `at` may be told that the log has ended.
    pub fn check_end(&self, at: u64) -> Result<(), String> {
        if !self.is_closing || self.owes(at) {
            return Err(format!("was told that this is the end, of a log up to {}", self.published));
        }
        Ok(())
    }
}
