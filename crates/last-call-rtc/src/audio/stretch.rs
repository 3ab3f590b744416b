//! Owns how long sound is: takes a few milliseconds out of it, or puts a few in, where the wave repeats itself, so that
//! nobody hears it. Refuses to know why.

/// What is taken out or put in at once, at least and at most, and over how much one wave becomes the other: in fractions
/// of a second.
const LEAST: usize = 400;
const MOST: usize = 66;
const FADE: usize = 133;
/// Quieter than this, nobody hears what is missing.
const QUIET: u16 = 100;
/// How alike the waves have to be; each time that none are, so much less will do.
const ALIKE: f32 = 0.9;
const EASIER: f32 = 0.05;
const ANYHOW: f32 = 0.3;
/// Of two lags that are as good as each other, the longer one.
const AS_GOOD: f32 = 0.01;
/// What lags are looked for at, in samples a second.
const COARSE: usize = 8_000;

/// Sound on its way to a listener, of which some is too much.
#[derive(Debug)]
pub(super) struct Stretch {
    rate: usize,
    channels: usize,
    samples: Vec<i16>,
    /// So many of them are not to be given: they are to be taken out, or stand for a packet that is not played yet.
    surplus: usize,
    alike: f32,
    coarse: Vec<f32>,
    seam: Vec<i16>,
}

impl Stretch {
    pub(super) fn new(sample_rate: u32, channels: u16) -> Self {
        Self {
            rate: sample_rate as usize,
            channels: usize::from(channels),
            samples: Vec::new(),
            surplus: 0,
            alike: ALIKE,
            coarse: Vec::new(),
            seam: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, samples: &[i16]) {
        self.samples.extend_from_slice(samples);
    }

    /// Whether all that can be taken out is.
    pub(super) fn is_even(&self) -> bool {
        self.surplus < self.rate / LEAST * 2 * self.channels
    }

    /// Whether as much was put in as `clock` samples of RTP's clock are.
    pub(super) fn has(&self, clock: u32) -> bool {
        self.surplus >= self.of(clock)
    }

    /// So much of what is here is too much.
    pub(super) fn add(&mut self, clock: u32) {
        self.surplus += self.of(clock);
    }

    /// So much of what was put in is to be given.
    pub(super) fn spend(&mut self, clock: u32) {
        self.surplus = self.surplus.saturating_sub(self.of(clock));
    }

    fn of(&self, clock: u32) -> usize {
        clock as usize * self.rate / super::CLOCK as usize * self.channels
    }

    /// Everything but what is too much.
    pub(super) fn give(&mut self, into: impl FnOnce(&[i16])) {
        let (given, _) = self.samples.split_at(self.samples.len().saturating_sub(self.surplus));
        let length = given.len();
        into(given);
        self.samples.drain(..length);
    }

    /// Takes something out, if there is too much.
    pub(super) fn shorten(&mut self) {
        let surplus = self.surplus / self.channels;
        let lag = if self.is_quiet() { surplus.min(self.room()) } else { self.lag(surplus) };
        let (lag, fade) = (lag * self.channels, self.fade());
        if lag == 0 {
            return;
        }
        self.blend(0, lag);
        self.samples.splice(..fade + lag, self.seam.iter().copied());
        self.surplus -= lag;
    }

    /// Puts something in, until it is as much as `clock` samples of RTP's clock are.
    pub(super) fn lengthen(&mut self, clock: u32) {
        let wanted = self.of(clock).saturating_sub(self.surplus) / self.channels;
        if wanted == 0 {
            return;
        }
        let lag =
            if self.is_quiet() { wanted.min(self.room()) } else { self.lag(wanted + self.rate / LEAST) };
        let (lag, fade) = (lag * self.channels, self.fade());
        if lag == 0 {
            return;
        }
        // From where the wave comes again, back to where it was.
        self.blend(lag, 0);
        self.seam.splice(..0, self.samples.iter().copied().take(lag));
        self.samples.splice(..fade, self.seam.iter().copied());
        self.surplus += lag;
    }

    fn fade(&self) -> usize {
        self.rate / FADE * self.channels
    }

    /// The longest lag, in moments, that leaves something to fade to.
    fn room(&self) -> usize {
        self.samples.len().saturating_sub(self.fade()) / self.channels
    }

    fn is_quiet(&self) -> bool {
        self.samples.iter().all(|sample| sample.unsigned_abs() < QUIET)
    }

    /// What is at `from`, which becomes what is at `to`.
    fn blend(&mut self, from: usize, to: usize) {
        let fade = self.fade();
        let [from, to] = [from, to].map(|at| self.samples.iter().skip(at).take(fade));
        self.seam.clear();
        self.seam.extend(from.zip(to).enumerate().map(|(index, (from, to))| {
            let (from, to, index) = (i64::from(*from), i64::from(*to), index as i64);
            (from + (to - from) * index / fade as i64) as i16
        }));
    }

    /// After how many moments, at most `most`, the wave that begins what is here comes again; 0 if it does not.
    fn lag(&mut self, most: usize) -> usize {
        let (least, most) = (self.rate / LEAST, most.min(self.rate / MOST).min(self.room()));
        if most < least {
            return 0;
        }
        let step = (self.rate / COARSE).max(1);
        self.coarse.clear();
        let whole = self.samples.chunks_exact(step * self.channels);
        self.coarse.extend(whole.map(|part| part.iter().map(|sample| f32::from(*sample)).sum::<f32>()));
        let window = self.rate / FADE / step;
        let (mut best, mut alike) = (0, 0.0);
        for lag in (least.div_ceil(step)..=most / step).rev() {
            let likeness = likeness(&self.coarse, lag, window);
            if likeness > alike + AS_GOOD {
                (best, alike) = (lag * step, likeness);
            }
        }
        if alike < self.alike {
            self.alike = (self.alike - EASIER).max(ANYHOW);
            return 0;
        }
        self.alike = ALIKE;
        // Every channel's samples as they are, around what was found.
        self.coarse.clear();
        self.coarse.extend(self.samples.iter().map(|sample| f32::from(*sample)));
        let near = best.saturating_sub(step).max(least)..=(best + step).min(most);
        let fine = near.map(|lag| (lag, likeness(&self.coarse, lag * self.channels, self.fade())));
        fine.max_by(|(_, one), (_, other)| one.total_cmp(other)).map_or(best, |(lag, _)| lag)
    }
}

/// The normalised correlation of the beginning with what is `lag` later.
fn likeness(samples: &[f32], lag: usize, window: usize) -> f32 {
    let (mut both, mut one, mut other) = (0.0, 0.0, 0.0);
    for (left, right) in samples.iter().zip(samples.iter().skip(lag)).take(window) {
        both += left * right;
        one += left * left;
        other += right * right;
    }
    if one > 0.0 && other > 0.0 { both / (one * other).sqrt() } else { 0.0 }
}
