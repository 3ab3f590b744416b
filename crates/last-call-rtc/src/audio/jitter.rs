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
/// The delay that a stream begins with, the least and the most, in samples of RTP's clock.
const FIRST: i64 = (CLOCK / 25) as i64;
const LEAST: i64 = PACKET as i64;
const FARTHEST: i64 = (CLOCK / 2) as i64;
/// Losses in a row that are guessed; what follows is silence.
const GUESSES: u32 = 5;
/// Ticks over which a buffer that is fuller than need be is watched before a frame is skipped.
const WATCH: u32 = 25;

/// What is to be heard next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pull {
    Frame(Vec<u8>),
    /// A packet is lost, and the next one is here: it may hold the lost one in a coarse form.
    Recover(Vec<u8>),
    Conceal,
    Silence,
    /// Nothing has begun, or it is over.
    Nothing,
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
    /// Of the packet that was played last.
    played: Option<u64>,
    guesses: u32,
    stalled: u32,
    delays: Delays,
    /// The least that was held, over the ticks that are watched.
    spare: i64,
    watched: u32,
    pub(super) counts: Counts,
}

impl JitterBuffer {
    pub(super) fn new() -> Self {
        Self {
            state: State::Empty,
            held: VecDeque::new(),
            cursor: 0,
            newest: 0,
            played: None,
            guesses: 0,
            stalled: 0,
            delays: Delays::default(),
            spare: i64::MAX,
            watched: 0,
            counts: Counts::default(),
        }
    }

    /// Another stream follows: nothing of the one before is waited for.
    pub(super) fn restart(&mut self) {
        self.state = State::Empty;
        self.held.clear();
        self.played = None;
    }

    /// A packet came, `sequence` being unwrapped.
    pub(super) fn insert(&mut self, now: Instant, sequence: u64, timestamp: u32, payload: &[u8]) {
        self.counts.received += 1;
        let timestamp = self.begin(now, timestamp);
        self.delays.came(now, timestamp);
        self.hold(sequence, timestamp, payload);
    }

    /// A frame that came with a later packet: it says nothing of the network's delay.
    pub(super) fn insert_again(&mut self, sequence: u64, timestamp: u32, payload: &[u8]) {
        if matches!(self.state, State::Filling { .. } | State::Playing) {
            let timestamp = self.unwrap(timestamp);
            self.hold(sequence, timestamp, payload);
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
        self.held.insert(at, Held { timestamp, sequence, payload: payload.to_vec() });
        if self.held.len() > MOST {
            self.held.pop_front();
            self.cursor = self.held.front().map_or(self.cursor, |held| held.timestamp);
        }
    }

    /// Once a tick, before what is pulled in it: whether one frame is to be skipped, since more is held than need be.
    pub(super) fn is_too_far_behind(&mut self) -> bool {
        if self.state != State::Playing {
            return false;
        }
        self.spare = self.spare.min(self.newest + i64::from(PACKET) - self.cursor);
        self.watched += 1;
        if self.watched < WATCH {
            return false;
        }
        let spare = std::mem::replace(&mut self.spare, i64::MAX);
        self.watched = 0;
        let skip = spare > self.delays.target + 2 * i64::from(PACKET);
        self.counts.skipped += u64::from(skip);
        skip
    }

    /// What is to be heard next.
    pub(super) fn pull(&mut self, now: Instant) -> Pull {
        match self.state {
            State::Empty => return Pull::Nothing,
            State::Paused => return Pull::Silence,
            State::Filling { until } if now < until => return Pull::Silence,
            State::Filling { .. } => self.state = State::Playing,
            State::Playing => {}
        }
        let Some(next) = self.held.front() else { return self.stall() };
        // What was guessed while nothing was there stands for what is missing before it.
        let stood = i64::from(std::mem::take(&mut self.stalled)) * i64::from(PACKET);
        self.cursor = self.cursor.max((self.cursor + stood).min(next.timestamp));
        if next.timestamp <= self.cursor {
            return self.play();
        }
        let missing = next.timestamp - self.cursor;
        let silent = self.played.is_some_and(|played| next.sequence == played.wrapping_add(1));
        if silent || missing > FARTHEST {
            // Not lost, but never sent (DTX, a mute): wait as long as the sender did, but for what is too far.
            self.cursor = if missing > FARTHEST { next.timestamp - self.delays.target } else { self.cursor };
            self.cursor += i64::from(PACKET).min(next.timestamp - self.cursor);
            return Pull::Silence;
        }
        self.cursor += i64::from(PACKET).min(missing);
        self.counts.lost += 1;
        self.guesses += 1;
        if missing <= i64::from(PACKET) {
            return Pull::Recover(next.payload.clone());
        }
        if self.guesses > GUESSES { Pull::Silence } else { Pull::Conceal }
    }

    fn play(&mut self) -> Pull {
        let Some(Held { timestamp, sequence, payload }) = self.held.pop_front() else { return Pull::Silence };
        self.played = Some(sequence);
        self.guesses = 0;
        self.cursor = timestamp + i64::from(duration(&payload));
        Pull::Frame(payload)
    }

    /// Nothing is held: what is late makes the delay longer, what is over ends.
    fn stall(&mut self) -> Pull {
        self.stalled += 1;
        self.counts.stalled += 1;
        self.spare = 0;
        if self.stalled > GUESSES * 2 {
            self.state = State::Paused;
            self.stalled = 0;
            return Pull::Silence;
        }
        if self.stalled > GUESSES { Pull::Silence } else { Pull::Conceal }
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
    target: i64,
}

impl Default for Delays {
    fn default() -> Self {
        Self { first: None, late: VecDeque::with_capacity(HISTORY), sorted: Vec::new(), target: FIRST }
    }
}

impl Delays {
    fn came(&mut self, now: Instant, timestamp: i64) {
        let (begun, from) = *self.first.get_or_insert((now, timestamp));
        let since = now.saturating_duration_since(begun).as_micros() as i64 * i64::from(CLOCK) / 1_000_000;
        if self.late.len() == HISTORY {
            self.late.pop_front();
        }
        self.late.push_back(since - (timestamp - from));
        let fastest = self.late.iter().min().copied().unwrap_or(0);
        self.sorted.clear();
        self.sorted.extend(self.late.iter().map(|late| late - fastest));
        // One packet in forty may come too late, once there are as many to judge by.
        let at = (self.sorted.len() - 1) * 39 / 40;
        let (_, usual, _) = self.sorted.select_nth_unstable(at);
        let wanted = (*usual + LEAST).clamp(LEAST, FARTHEST);
        // Up at once, down by and by.
        self.target = if wanted > self.target { wanted } else { self.target - (self.target - wanted) / 64 };
    }
}

fn clock(samples: i64) -> Duration {
    Duration::from_micros(samples.unsigned_abs() * 1_000_000 / u64::from(CLOCK))
}

/// How long a packet of Opus is, in samples of RTP's clock; one that can't be read is as long as most.
pub(super) fn duration(payload: &[u8]) -> u32 {
    let samples = opus::packet::get_nb_samples(payload, CLOCK).ok();
    samples.and_then(|samples| u32::try_from(samples).ok()).filter(|samples| *samples > 0).unwrap_or(PACKET)
}
