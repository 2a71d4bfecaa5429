//! Requests a minute: rotated by the manager when the shared timer says so, read by every worker.
//!
//! The cells go round: a rotation fills the cell after the newest and then counts itself, so nothing is ever moved, and who reads meanwhile finds either
//! the minutes as they were or one more.
#![forbid(unsafe_code)]

use crate::{AtomicLong, Result, Timer, TimerId};
use serde::Serialize;
use std::time::Duration;

/// Minutes that are shown.
const SHOWN: usize = 15;
/// One more than that: the cell that is being filled is shown to nobody.
const CELLS: usize = SHOWN + 1;

/// The minutes; made before the first fork.
pub(super) struct Rates {
    /// The total at the last rotation.
    base: AtomicLong,
    /// How many rotations there were.
    turns: AtomicLong,
    cells: Vec<AtomicLong>,
    timer: Timer,
    /// The timer that rotates.
    rotation: TimerId,
}

/// What `/stats` says of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Shown {
    /// Requests since the last rotation.
    this_minute: i64,
    /// The requests of each full minute, the last one first.
    minutes: Vec<i64>,
    /// When the next rotation is due, in milliseconds.
    next_in: u64,
}

impl Rates {
    /// `rotation`, a tick of `timer`, is what rotates.
    pub(super) fn new(timer: Timer, rotation: TimerId) -> Result<Self> {
        let cells = (0..CELLS).map(|_| AtomicLong::new(0)).collect::<Result<_>>()?;
        Ok(Self { base: AtomicLong::new(0)?, turns: AtomicLong::new(0)?, cells, timer, rotation })
    }

    /// A minute is over.
    pub(super) fn rotate(&self, total: i64) {
        if let Some(cell) = self.cell(self.turns.get()) {
            cell.set(total - self.base.get());
        }
        self.base.set(total);
        self.turns.add(1);
    }

    pub(super) fn shown(&self, total: i64) -> Shown {
        let turns = self.turns.get();
        let minutes = (1..=turns.min(SHOWN as i64)).filter_map(|ago| Some(self.cell(turns - ago)?.get()));
        let next_in = self.timer.info(self.rotation).map_or(Duration::ZERO, |rotation| rotation.due);
        Shown {
            this_minute: (total - self.base.get()).max(0),
            minutes: minutes.collect(),
            next_in: u64::try_from(next_in.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn cell(&self, turn: i64) -> Option<&AtomicLong> {
        self.cells.get(usize::try_from(turn).ok()? % CELLS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_quarter_of_an_hour_is_shown() {
        let timer = Timer::new(1).unwrap();
        let rotation = timer.tick(Duration::from_secs(60), 0).unwrap();
        let rates = Rates::new(timer, rotation).unwrap();
        assert_eq!(rates.shown(5).this_minute, 5);
        assert!(rates.shown(5).minutes.is_empty());
        assert!((50_000..=60_000).contains(&rates.shown(5).next_in));
        let mut total = 0;
        for minute in 1..100 {
            total += minute;
            rates.rotate(total);
            let shown = rates.shown(total + 3);
            let last: Vec<_> = (1..=minute).rev().take(SHOWN).collect();
            assert_eq!((shown.this_minute, shown.minutes), (3, last));
        }
    }
}
