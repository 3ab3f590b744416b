//! Owns what differs between two runs of a cell: equal seeds, equal choices. Refuses the system's randomness.

use std::time::Duration;

use super::Cell;
use crate::relay::pump::split_mix;

/// Numbers of one cell's run.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(cell: Cell, seed: u64) -> Self {
        let place = Cell::all().position(|known| known == cell).unwrap_or_default() as u64;
        Self(split_mix(seed.wrapping_mul(64).wrapping_add(place)))
    }

    /// From `least` to `most`.
    pub(super) fn number(&mut self, least: u64, most: u64) -> u64 {
        self.0 = split_mix(self.0);
        least + self.0 % (most - least + 1)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.number(0, 1) == 1
    }

    /// Up to `most`, by milliseconds.
    pub(super) fn while_up_to(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.number(0, most.as_millis() as u64))
    }
}
