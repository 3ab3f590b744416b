//! Owns the order and the pace of packets: late ones, lost ones, those that come twice, and how long to wait for them.
//! Refuses to decode: it says what is to be decoded next. It does not grow with what a sender sends.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{CLOCK, PACKET};

/// Packets that are kept at most: two seconds of the usual ones.
const MOST: usize = 100;
/// A timestamp farther than this from the newest begins another stream: the clock jumped.
const JUMP: i64 = 2 * CLOCK as i64;
/// The delays that the estimate looks back at: five seconds of packets.
const HISTORY: usize = 250;
/// The delay that a stream begins with, what is added to the usual delay of packets, and the most, in samples of RTP's
/// clock.
const FIRST: i64 = (CLOCK / 50) as i64;
const MARGIN: i64 = (CLOCK / 100) as i64;
const FARTHEST: i64 = (CLOCK / 2) as i64;
/// Losses in a row that are guessed; what follows is silence.
const GUESSES: u32 = 5;
/// Every packet of Opus, and everything that it guesses, is a multiple of this.
const GRAIN: i64 = (CLOCK / 400) as i64;

/// What is to be heard next, and for how long in samples of RTP's clock.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pull<'a> {
    Frame(&'a [u8]),
    /// So much is lost, and the next packet is here: it may hold the lost one in a coarse form.
    Recover(&'a [u8], u32),
    Conceal(u32),
    Silence(u32),
    /// Nothing has begun, or it is over.
    Nothing,
}

/// How what is held is to be played, so that it waits as long as need be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Even,
    /// A packet more is to be pulled, in the time of one.
    Faster,
    /// A packet less.
    Slower,
}

#[derive(Debug)]
struct Held {
    timestamp: i64,
    sequence: u64,
    payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    /// Packets come, and are kept until this moment.
    Filling {
        until: Instant,
    },
    Playing,
    /// Nothing came for long: the next packet is kept as the first one was.
    Paused,
}

/// What happened to a stream's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) late: u64,
    pub(crate) lost: u64,
    pub(crate) skipped: u64,
    pub(crate) stalled: u64,
}

#[derive(Debug)]
pub(super) struct JitterBuffer {
    state: State,
    /// By timestamp, unwrapped.
    held: VecDeque<Held>,
    /// The timestamp that is played next.
    cursor: i64,
    newest: i64,
    highest: Option<u64>,
    /// Of the packet that was played last.
    played: Option<u64>,
    payload: Vec<u8>,
    /// What held other packets, to hold the next ones.
    empty: Vec<Vec<u8>>,
    guesses: u32,
    stalled: u32,
    delays: Delays,
    pub(super) counts: Counts,
}

impl JitterBuffer {
    pub(super) fn new() -> Self {
        Self {
            state: State::Empty,
            held: VecDeque::new(),
            cursor: 0,
            newest: 0,
            highest: None,
            played: None,
            payload: Vec::new(),
            empty: Vec::new(),
            guesses: 0,
            stalled: 0,
            delays: Delays::default(),
            counts: Counts::default(),
        }
    }

    /// Another stream follows: nothing of the one before is waited for.
    pub(super) fn restart(&mut self) {
        self.state = State::Empty;
        self.empty.extend(self.held.drain(..).map(|held| held.payload));
        self.stalled = 0;
        self.highest = None;
        self.played = None;
    }

    /// A packet came, `sequence` being unwrapped.
    pub(super) fn insert(&mut self, now: Instant, sequence: u64, timestamp: u32, payload: &[u8]) {
        self.counts.received += 1;
        let timestamp = self.begin(now, timestamp);
        self.delays.came(now, timestamp);
        // The one before it is lost, or late: what of it can be recovered came with this one.
        if self.highest.is_some_and(|highest| highest.checked_add(2) == Some(sequence)) {
            self.delays.came(now, timestamp - i64::from(duration(payload)));
        }
        self.highest = self.highest.max(Some(sequence));
        self.hold(sequence, timestamp, payload);
    }

    /// A frame that came with a later packet: it says nothing of the network's delay.
    pub(super) fn insert_again(&mut self, sequence: u64, timestamp: u32, payload: &[u8]) {
        if matches!(self.state, State::Filling { .. } | State::Playing) {
            let timestamp = self.unwrap(timestamp);
            // What is before the first packet is not waited for, and what was played is here again.
            if timestamp >= self.cursor {
                self.hold(sequence, timestamp, payload);
            }
        }
    }

    /// The unwrapped timestamp; a stream that begins, or begins anew, with it.
    fn begin(&mut self, now: Instant, timestamp: u32) -> i64 {
        let unwrapped = self.unwrap(timestamp);
        let near = (unwrapped - self.newest).abs() <= JUMP;
        match self.state {
            State::Filling { .. } | State::Playing if near => return unwrapped,
            State::Paused => {
                self.newest = self.newest.max(unwrapped);
                self.cursor = unwrapped;
                self.state = State::Filling { until: now + clock(self.delays.target) };
                return unwrapped;
            }
            State::Empty | State::Filling { .. } | State::Playing => {}
        }
        let fresh = i64::from(timestamp);
        self.restart();
        self.delays = Delays::default();
        self.newest = fresh;
        self.cursor = fresh;
        self.state = State::Filling { until: now + clock(self.delays.target) };
        fresh
    }

    fn unwrap(&self, timestamp: u32) -> i64 {
        // The distance from the newest, as the 32 bits have it.
        let [.., a, b, c, d] = self.newest.to_be_bytes();
        let distance = timestamp.wrapping_sub(u32::from_be_bytes([a, b, c, d])).cast_signed();
        self.newest + i64::from(distance)
    }

    fn hold(&mut self, sequence: u64, timestamp: i64, payload: &[u8]) {
        if timestamp < self.cursor {
            if matches!(self.state, State::Filling { .. }) {
                self.cursor = timestamp;
            } else {
                self.counts.late += 1;
                return;
            }
        }
        self.newest = self.newest.max(timestamp);
        let at = self.held.partition_point(|held| held.timestamp < timestamp);
        if self.held.get(at).is_some_and(|held| held.timestamp == timestamp) {
            return;
        }
        let mut kept = self.empty.pop().unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(payload);
        self.held.insert(at, Held { timestamp, sequence, payload: kept });
        if self.held.len() > MOST {
            self.empty.extend(self.held.pop_front().map(|held| held.payload));
            self.cursor = self.held.front().map_or(self.cursor, |held| held.timestamp);
        }
    }

    /// Until when the first packets are kept.
    pub(super) fn begins(&self) -> Option<Instant> {
        match self.state {
            State::Filling { until } => Some(until),
            State::Empty | State::Playing | State::Paused => None,
        }
    }

    /// Whether what is to be played next is only just missing.
    pub(super) fn is_dry(&self) -> bool {
        self.state == State::Playing && self.held.is_empty() && self.stalled == 0
    }

    /// Before what is pulled at `at`.
    pub(super) fn pace(&mut self, at: Instant) -> Pace {
        if self.state != State::Playing || self.stalled > 0 {
            return Pace::Even;
        }
        let (packet, waits) = (i64::from(PACKET), self.delays.of(at, self.cursor));
        let two = self.held.back().is_some_and(|last| last.timestamp >= self.cursor + packet);
        if two && waits >= self.delays.target + packet + packet / 4 {
            self.counts.skipped += 1;
            return Pace::Faster;
        }
        if waits + packet / 2 <= self.delays.target { Pace::Slower } else { Pace::Even }
    }

    /// What is to be heard next, from `at` on.
    pub(super) fn pull(&mut self, at: Instant) -> Pull<'_> {
        match self.state {
            State::Empty => return Pull::Nothing,
            State::Paused => return Pull::Silence(PACKET),
            State::Filling { until } if at < until => return Pull::Silence(PACKET),
            State::Filling { .. } => self.state = State::Playing,
            State::Playing => {}
        }
        let Some(&Held { timestamp, sequence, .. }) = self.held.front() else { return self.stall() };
        // What was guessed while nothing was there stands for what is missing before it.
        let stood = i64::from(std::mem::take(&mut self.stalled)) * i64::from(PACKET);
        self.cursor = self.cursor.max((self.cursor + stood).min(timestamp));
        let missing = timestamp - self.cursor;
        let silent = self.played.is_some_and(|played| sequence == played.wrapping_add(1));
        if missing > 0 && (silent || missing > FARTHEST) {
            // Not lost, but never sent (DTX, a mute): wait as long as the sender did, but for what is too far.
            self.cursor = if missing > FARTHEST { timestamp - self.delays.target } else { self.cursor };
            let length = i64::from(PACKET).min(timestamp - self.cursor);
            self.cursor += length;
            return Pull::Silence(length as u32);
        }
        if missing < GRAIN {
            return self.play();
        }
        self.counts.lost += 1;
        self.guesses += 1;
        let next = self.held.front().map_or(&[][..], |next| &next.payload);
        let before = missing - i64::from(duration(next));
        if before < GRAIN {
            self.cursor = timestamp;
            return Pull::Recover(next, ((missing - before.max(0)) / GRAIN * GRAIN) as u32);
        }
        let length = i64::from(PACKET).min(before / GRAIN * GRAIN);
        self.cursor += length;
        let length = length as u32;
        if self.guesses > GUESSES { Pull::Silence(length) } else { Pull::Conceal(length) }
    }

    fn play(&mut self) -> Pull<'_> {
        let Some(Held { timestamp, sequence, payload }) = self.held.pop_front() else {
            return Pull::Silence(PACKET);
        };
        self.empty.push(std::mem::replace(&mut self.payload, payload));
        self.played = Some(sequence);
        self.guesses = 0;
        self.cursor = timestamp + i64::from(duration(&self.payload));
        Pull::Frame(&self.payload)
    }

    /// Nothing is held: what is late makes the delay longer, what is over ends.
    fn stall(&mut self) -> Pull<'static> {
        self.stalled += 1;
        self.counts.stalled += 1;
        if self.stalled > GUESSES * 2 {
            self.state = State::Paused;
            self.stalled = 0;
            return Pull::Silence(PACKET);
        }
        if self.stalled > GUESSES { Pull::Silence(PACKET) } else { Pull::Conceal(PACKET) }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// How long packets are kept.
    #[cfg(test)]
    pub(super) fn target(&self) -> Duration {
        clock(self.delays.target)
    }
}

/// How much later than the fastest each packet came, and what to wait for them.
#[derive(Debug)]
struct Delays {
    first: Option<(Instant, i64)>,
    late: VecDeque<i64>,
    sorted: Vec<i64>,
    fastest: i64,
    target: i64,
}

impl Default for Delays {
    fn default() -> Self {
        let (late, sorted) = (VecDeque::with_capacity(HISTORY), Vec::with_capacity(HISTORY));
        Self { first: None, late, sorted, fastest: 0, target: FIRST }
    }
}

impl Delays {
    fn came(&mut self, now: Instant, timestamp: i64) {
        self.first.get_or_insert((now, timestamp));
        if self.late.len() == HISTORY {
            self.late.pop_front();
        }
        self.late.push_back(self.since_first(now, timestamp));
        self.fastest = self.late.iter().min().copied().unwrap_or(0);
        self.sorted.clear();
        self.sorted.extend(self.late.iter().map(|late| late - self.fastest));
        // One packet in forty may come too late, once there are as many to judge by.
        let at = (self.sorted.len() - 1) * 39 / 40;
        let (_, usual, _) = self.sorted.select_nth_unstable(at);
        let wanted = (*usual + MARGIN).min(FARTHEST);
        // Up at once, down by and by.
        self.target = if wanted > self.target { wanted } else { self.target - (self.target - wanted) / 64 };
    }

    /// How long what is played at `at` waits, after the fastest packet would have brought it.
    fn of(&self, at: Instant, timestamp: i64) -> i64 {
        self.since_first(at, timestamp) - self.fastest
    }

    /// How much later than the first packet lets expect.
    fn since_first(&self, now: Instant, timestamp: i64) -> i64 {
        let Some((begun, from)) = self.first else { return 0 };
        let since = now.saturating_duration_since(begun).as_micros() as i64 * i64::from(CLOCK) / 1_000_000;
        since - (timestamp - from)
    }
}

pub(super) fn clock(samples: i64) -> Duration {
    Duration::from_micros(samples.unsigned_abs() * 1_000_000 / u64::from(CLOCK))
}

/// How long a packet of Opus is, in samples of RTP's clock; one that can't be read is as long as most.
pub(super) fn duration(payload: &[u8]) -> u32 {
    let samples = opus::packet::get_nb_samples(payload, CLOCK).ok();
    samples.and_then(|samples| u32::try_from(samples).ok()).filter(|samples| *samples > 0).unwrap_or(PACKET)
}
