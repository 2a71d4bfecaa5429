//! The workers: forked once, pinned, driven through a board in shared memory.
//!
//! The jobs are fixed before the fork, so a worker is told only a number: which job, and how often. Each does a warm-up, meets the
//! others at a spinning barrier, and notes when it began and ended; the time of a job is from the first start to the last end.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Pid;

use super::kernel::{Zeroed, cores, die_with_parent, fork, futex_wait, futex_wake, has_ended, kill, now, pin, shared};
use super::work::Work;

/// Workers at most; more than there are cores tell nothing about the structures.
pub(crate) const HANDS: usize = 4;

#[repr(C)]
struct Board {
    /// Goes up by one for each job; the workers sleep on it.
    epoch: AtomicU32,
    job: AtomicU32,
    iterations: AtomicU64,
    /// Workers that stand at the barrier.
    ready: AtomicU32,
    /// Workers that are through with the job, those without a part in it included; the leader sleeps on it.
    done: AtomicU32,
    start: [AtomicU64; HANDS],
    end: [AtomicU64; HANDS],
}

#[allow(unsafe_code, reason = "the promise that the board is made only of atomics")]
// SAFETY: it is, and zero is a value of each.
unsafe impl Zeroed for Board {}

/// The persistent workers; killed when this is dropped, or when this process ends.
pub(crate) struct Crew {
    board: &'static Board,
    workers: Vec<Pid>,
}

impl Crew {
    /// Forks `hands` workers that know `jobs`, worker `i` on the `i`-th core unless the job says otherwise; each begins with `warm`.
    pub(crate) fn fork(hands: usize, jobs: &[Work], warm: &dyn Fn()) -> Crew {
        assert!(hands <= HANDS, "at most {HANDS} workers");
        let board = shared::<Board>();
        let cores = cores();
        let worker = |index: usize| {
            fork(|| {
                die_with_parent();
                warm();
                board.serve(index, &cores, jobs);
            })
        };
        Crew { board, workers: (0..hands).map(worker).collect() }
    }

    /// Has the first workers do job `number`, which is `work`, `iterations` times each; nanoseconds from the first start to the last end.
    pub(crate) fn time(&self, number: usize, work: &Work, iterations: u64) -> u64 {
        let board = self.board;
        // Relaxed: published by the epoch.
        board.job.store(number as u32, Ordering::Relaxed);
        board.iterations.store(iterations, Ordering::Relaxed);
        board.ready.store(0, Ordering::Relaxed);
        board.done.store(0, Ordering::Relaxed);
        // Release: pairs with the Acquire in `serve`.
        board.epoch.fetch_add(1, Ordering::Release);
        futex_wake(&board.epoch, u32::MAX);
        loop {
            // Acquire: pairs with the Release in `serve`.
            let done = board.done.load(Ordering::Acquire);
            if done as usize == self.workers.len() {
                break;
            }
            futex_wait(&board.done, done, Some(Duration::from_secs(1)));
            let dead = self.workers.iter().position(|worker| has_ended(*worker));
            assert!(dead.is_none(), "worker {dead:?} died in job {number}");
        }
        // Relaxed: ordered by `done`.
        let of = |words: &[AtomicU64; HANDS]| {
            words[..work.hands].iter().map(|word| word.load(Ordering::Relaxed)).collect::<Vec<_>>()
        };
        let (start, end) = (of(&board.start), of(&board.end));
        end.into_iter().max().unwrap_or(0) - start.into_iter().min().unwrap_or(0)
    }
}

impl Board {
    fn serve(&self, index: usize, cores: &[usize], jobs: &[Work]) {
        let own = cores[index % cores.len()];
        let mut core = usize::MAX;
        let mut epoch = 0;
        loop {
            // Acquire: pairs with the Release in `time`.
            while self.epoch.load(Ordering::Acquire) == epoch {
                futex_wait(&self.epoch, epoch, None);
            }
            epoch += 1;
            let work = &jobs[self.job.load(Ordering::Relaxed) as usize];
            if index < work.hands {
                let wanted = if work.one_core { cores[0] } else { own };
                if core != wanted {
                    pin(wanted);
                    core = wanted;
                }
                let iterations = self.iterations.load(Ordering::Relaxed);
                (work.run)(index, iterations / 16 + 1);
                self.meet(work.hands as u32);
                self.start[index].store(now(), Ordering::Relaxed);
                (work.run)(index, iterations);
                self.end[index].store(now(), Ordering::Relaxed);
            }
            // Release: pairs with the Acquire in `time`; it has read the last epoch's job, so a new one may be written.
            self.done.fetch_add(1, Ordering::Release);
            futex_wake(&self.done, 1);
        }
    }

    /// Waits, spinning, until all who take part are here.
    fn meet(&self, hands: u32) {
        self.ready.fetch_add(1, Ordering::AcqRel);
        let mut spins = 0_u32;
        while self.ready.load(Ordering::Acquire) < hands {
            spins += 1;
            if spins.is_multiple_of(1000) {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.workers.drain(..).for_each(kill);
    }
}
