//! What is measured: a loop, and how good its ratio has to be.

/// A loop that one or several processes run.
pub(crate) struct Work {
    pub(super) name: &'static str,
    pub(super) hands: usize,
    pub(super) one_core: bool,
    /// Operations in one iteration, over all processes; a time is quoted for one of them.
    pub(super) operations: u64,
    pub(super) run: Box<dyn Fn(usize, u64)>,
}

impl Work {
    /// `run(n)`: does it `n` times, in one process.
    pub(crate) fn alone(name: &'static str, run: impl Fn(u64) + 'static) -> Work {
        Work { name, hands: 1, one_core: false, operations: 1, run: Box::new(move |_, n| run(n)) }
    }

    /// `run(hand, n)`: process number `hand` of `hands` does its part `n` times. An iteration of all of them together counts as one
    /// operation: a round trip, a message passed on.
    pub(crate) fn together(name: &'static str, hands: usize, run: impl Fn(usize, u64) + 'static) -> Work {
        Work { name, hands, one_core: false, operations: 1, run: Box::new(run) }
    }

    /// An iteration is this many operations: for processes that work side by side, or a loop that does batches.
    pub(crate) fn operations(self, operations: u64) -> Work {
        Work { operations, ..self }
    }

    /// Under another name.
    pub(crate) fn named(self, name: &'static str) -> Work {
        Work { name, ..self }
    }

    /// All processes on one core: each can only go on when the other sleeps. So a ping-pong is one of sleeping and waking, every time; on
    /// two cores the other often looks again before it has fallen asleep.
    pub(crate) fn on_one_core(self) -> Work {
        Work { one_core: true, ..self }
    }
}

/// How a measured ratio is judged.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    /// Our time is at most this many times the floor's.
    Cost(f64),
    /// Our rate is at least this many times the floor's.
    Speed(f64),
    /// Our time is at most so many nanoseconds; the ratio stands beside it.
    Time(f64),
    /// Only shown: our time over the floor's.
    Shown,
}

impl Bar {
    pub(super) fn ratio(self, ours: f64, floor: f64) -> f64 {
        match self {
            Bar::Cost(_) | Bar::Time(_) | Bar::Shown => ours / floor,
            Bar::Speed(_) => floor / ours,
        }
    }

    pub(super) fn is_met(self, ratio: f64, ours: f64) -> bool {
        match self {
            Bar::Time(most) => ours <= most,
            Bar::Cost(most) => ratio <= most,
            Bar::Speed(least) => ratio >= least,
            Bar::Shown => true,
        }
    }

    pub(super) fn verdict(self, met: bool) -> &'static str {
        match (self, met) {
            (Bar::Shown, _) => "",
            (_, true) => "meets",
            (_, false) => "MISSES",
        }
    }
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bar::Cost(most) => f.pad(&format!("<= {most:.2}")),
            Bar::Speed(least) => f.pad(&format!(">= {least:.2}")),
            Bar::Time(most) => f.pad(&format!("<= {most:.0} ns")),
            Bar::Shown => f.pad("-"),
        }
    }
}
