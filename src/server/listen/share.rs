//! Whether a worker takes the connection that waits, or leaves it to a worker that has fewer. Pure: numbers in, a verdict out.
//!
//! A worker takes while it has less than the mean and a little more. Else it waits for a moment in which others may take, and looks again. Since those
//! who should may be stopped, or busy, or dead and not buried yet, waiting has an end: after [`PATIENCE`] the worker takes beyond its share, one
//! connection the first time, twice as many each time after that (but a quarter of what it has at most), until the loads are even again. So a stopped
//! worker costs the clients some milliseconds now and then, not each of them. What was granted lapses soon ([`LAPSE`]): when the stopped one goes on, what comes next is its own.
#![forbid(unsafe_code)]

/// Milliseconds of any clock that does not jump.
pub(crate) type Millis = u64;

/// How long a connection may wait for those who have fewer.
pub(crate) const PATIENCE: Millis = 10;
/// For how long a worker that was let beyond its share may make use of it.
pub(crate) const LAPSE: Millis = 200;
/// Between two looks.
pub(crate) const LOOK: Millis = 1;

/// What a worker knows when a connection waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loads {
    /// Connections that it holds.
    pub(crate) mine: u64,
    /// Connections that all hold.
    pub(crate) total: u64,
    /// Workers that accept.
    pub(crate) workers: u64,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    /// Look again after so long, if the connection still waits.
    Wait(Millis),
}

/// What a worker remembers between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Since when a connection has been waiting that is not ours.
    since: Option<Millis>,
    /// How far beyond its share patience has brought it.
    beyond: u64,
    /// Up to so many connections, and up to this instant.
    until: (u64, Millis),
}

impl Share {
    /// A connection waits: whose is it?
    #[must_use]
    pub(crate) fn judge(&mut self, loads: Loads, now: Millis) -> Verdict {
        let workers = loads.workers.max(1);
        let mean = loads.total / workers;
        if workers == 1 || loads.mine < loads.total.div_ceil(workers) + slack(mean) {
            *self = Self::default();
            return Verdict::Take;
        }
        if loads.mine < self.until.0 && now < self.until.1 {
            return Verdict::Take;
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_sub(since) < PATIENCE {
            return Verdict::Wait(LOOK);
        }
        self.since = None;
        self.beyond = self.beyond.saturating_mul(2).clamp(1, slack(mean).max(loads.mine / 4));
        self.until = (loads.mine.saturating_add(self.beyond), now.saturating_add(LAPSE));
        Verdict::Take
    }

    /// Nothing waits any more: others have taken what we left.
    pub(crate) fn settled(&mut self) {
        self.since = None;
    }
}

/// How far above the mean a worker may go: an eighth of it, and one, so that few connections are taken by whoever is awake.
fn slack(mean: u64) -> u64 {
    1 + mean / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers that come round in some order; `asleep` never do.
    struct World {
        held: Vec<u64>,
        shares: Vec<Share>,
        asleep: Vec<bool>,
        now: Millis,
    }

    impl World {
        fn new(workers: usize) -> Self {
            Self {
                held: vec![0; workers],
                shares: vec![Share::default(); workers],
                asleep: vec![false; workers],
                now: 0,
            }
        }

        /// One connection arrives, and the workers look in the order that `first` begins. How long it waits.
        fn arrive(&mut self, first: usize) -> Millis {
            let began = self.now;
            for _ in 0..100 {
                for at in 0..self.held.len() {
                    let id = (first + at) % self.held.len();
                    if self.asleep[id] {
                        continue;
                    }
                    let loads =
                        Loads { mine: self.held[id], total: self.held.iter().sum(), workers: self.held.len() as u64 };
                    if self.shares[id].judge(loads, self.now) == Verdict::Take {
                        self.held[id] += 1;
                        self.shares.iter_mut().for_each(Share::settled);
                        return self.now - began;
                    }
                }
                self.now += LOOK;
            }
            panic!("nobody takes it: {:?} {:?}", self.held, self.shares);
        }

        fn most(&self) -> f64 {
            let mean = self.held.iter().sum::<u64>() as f64 / self.held.len() as f64;
            self.held.iter().copied().max().unwrap() as f64 / mean
        }
    }

    #[test]
    fn the_same_worker_may_be_first_always_and_gets_no_more_than_its_share() {
        for workers in [2, 3, 4, 7, 16] {
            let mut world = World::new(workers);
            let waited: Millis = (0..25 * workers).map(|_| world.arrive(0)).sum();
            assert!(world.most() <= 1.3, "{:?}", world.held);
            assert_eq!(waited, 0, "somebody is always below the mean");
        }
    }

    #[test]
    fn any_order_of_the_workers_spreads_evenly() {
        let mut order = 1_u32;
        for workers in [2, 4, 5, 8] {
            let mut world = World::new(workers);
            for _ in 0..25 * workers {
                order = order.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                world.arrive(order as usize >> 8);
            }
            assert!(world.most() <= 1.3, "{:?}", world.held);
        }
    }

    #[test]
    fn one_worker_takes_all_at_once() {
        let mut world = World::new(1);
        assert_eq!((0..1000).map(|_| world.arrive(0)).sum::<Millis>(), 0);
        let nobody = Loads { mine: 5, total: 5, workers: 0 };
        assert_eq!(Share::default().judge(nobody, 0), Verdict::Take);
    }

    #[test]
    fn one_that_sleeps_holds_up_the_others_for_milliseconds_in_all() {
        let mut world = World::new(4);
        world.asleep[2] = true;
        let waits: Vec<_> = (0..100).map(|at| world.arrive(at)).collect();
        assert!(waits.iter().all(|wait| *wait <= PATIENCE));
        assert!(waits.iter().sum::<Millis>() <= 40 * PATIENCE, "{waits:?}");
        assert_eq!(world.held.iter().sum::<u64>(), 100);
        assert!(world.held.iter().all(|n| *n <= 45), "the others share what is not its: {:?}", world.held);
        // It wakes up a while later, and gets what comes until the others are within their shares again.
        world.now += LAPSE;
        world.asleep[2] = false;
        (0..60).for_each(|at| _ = world.arrive(at));
        assert!(world.held[2] >= 20 && world.most() <= 1.3, "{:?}", world.held);
    }

    #[test]
    fn all_but_one_asleep_is_no_standstill() {
        let mut world = World::new(8);
        (1..8).for_each(|id| world.asleep[id] = true);
        let waited: Millis = (0..1000).map(|_| world.arrive(0)).sum();
        assert!(waited <= 40 * PATIENCE, "{waited} ms for 1000 connections");
        assert_eq!(world.held[0], 1000);
    }

    #[test]
    fn connections_that_end_make_a_worker_the_next_one() {
        let mut world = World::new(2);
        (0..100).for_each(|at| _ = world.arrive(at));
        world.held[1] = 0;
        (0..40).for_each(|_| _ = world.arrive(0));
        assert!(world.held[1] >= 35, "{:?}", world.held);
    }

    #[test]
    fn what_was_granted_is_forgotten_when_the_loads_are_even() {
        let mut share = Share::default();
        let (all_mine, even) =
            (|mine| Loads { mine, total: mine, workers: 2 }, Loads { mine: 50, total: 100, workers: 2 });
        let mut granted = |now| {
            share.settled();
            assert_eq!(share.judge(all_mine(100), now), Verdict::Wait(LOOK));
            (100..).take_while(|mine| share.judge(all_mine(*mine), now + PATIENCE) == Verdict::Take).count()
        };
        assert_eq!((granted(0), granted(1_000), granted(2_000)), (1, 2, 4));
        assert_eq!(share.judge(even, 3_000), Verdict::Take);
        assert_eq!(share.judge(all_mine(100), 4_000), Verdict::Wait(LOOK));
        assert_eq!(share.judge(all_mine(100), 4_000 + PATIENCE), Verdict::Take);
        assert_eq!(share.judge(all_mine(101), 4_000 + PATIENCE), Verdict::Wait(LOOK));
    }

    #[test]
    fn numbers_at_their_ends_overflow_nothing() {
        let mut share = Share::default();
        for _ in 0..200 {
            let _ = share.judge(Loads { mine: u64::MAX, total: u64::MAX, workers: 2 }, u64::MAX);
            let _ = share.judge(Loads { mine: u64::MAX, total: 0, workers: u64::MAX }, 0);
        }
    }
}
