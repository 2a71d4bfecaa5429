//! The shared harness of all benches: forked and pinned workers, paired measurement, a table of ratios.
//!
//! A bench is a `main` that makes its structures, names its pairs, and runs them:
//!
//! ```ignore
//! fn main() -> ExitCode {
//!     let mut suite = Suite::new("atomic");
//!     let hits = Atomic::new(0).unwrap();
//!     suite.pair(Work::alone("Atomic::add", move |n| for _ in 0..n { black_box(hits.add(1)); }), floors::fetch_add(), Bar::Cost(1.1));
//!     suite.run()
//! }
//! ```
//!
//! * Structures are made before `run`, which forks the workers; so all share them. The loops run in the workers only, each on a core.
//! * Machines are noisy and differ, so all that counts is a **ratio in one run**: ours and the floor alternate, A B A B, half
//!   a millisecond each; every round gives a ratio, and their median is quoted with the least and the greatest.
//! * Under `cargo bench` the table is printed; `cargo bench --bench lock -- mutex` runs the pairs whose name has `mutex` in it. The exit
//!   code is 0 unless `COMMONS_BARS=enforce` is set and a bar is missed.
//! * Under `cargo test` (no `--bench` among the arguments) every loop runs a few times, so that benches do not rot, and nothing is timed.
//!
//! Floors and peers are pairs like any other (`floors`, `posix`).

#![allow(dead_code, reason = "each bench uses its part")]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "what is measured here is the bare atomics")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its table")]

pub(crate) mod crew;
pub(crate) mod floors;
pub(crate) mod helper;
pub(crate) mod kernel;
pub(crate) mod posix;
pub(crate) mod work;

use std::process::ExitCode;

use crew::Crew;
pub(crate) use work::{Bar, Work};

/// Rounds of A B a pair; odd, so that the median is one of them.
const ROUNDS: usize = 101;

/// How long one measurement is to take, in nanoseconds: long beside the reading of a clock, short beside a time slice, so that on a busy
/// machine most rounds still pass undisturbed, and the median is one of them.
const SAMPLE: u64 = 500_000;

/// Iterations where nothing is timed.
const SMOKE: u64 = 10;

/// The pause of a spinning loop.
#[inline]
pub(crate) fn pause() {
    std::hint::spin_loop();
}

struct Pair {
    ours: usize,
    floor: usize,
    bar: Bar,
    sample: u64,
}

/// A figure that is no time.
struct Figure {
    name: &'static str,
    value: f64,
    bar: Bar,
}

/// The pairs of one bench.
pub(crate) struct Suite {
    name: &'static str,
    timed: bool,
    filters: Vec<String>,
    jobs: Vec<Work>,
    pairs: Vec<Pair>,
    figures: Vec<Figure>,
    sample: u64,
    warm: Box<dyn Fn()>,
}

/// One measured pair, a round's times in nanoseconds an operation.
struct Measured {
    ours: f64,
    floor: f64,
    ratio: f64,
    least: f64,
    greatest: f64,
}

impl Suite {
    /// Reads the arguments that cargo passes.
    pub(crate) fn new(name: &'static str) -> Suite {
        let args: Vec<_> = std::env::args().skip(1).collect();
        let timed = args.iter().any(|arg| arg == "--bench") && !args.iter().any(|arg| arg == "--test");
        let filters = args.into_iter().filter(|arg| !arg.starts_with('-')).collect();
        Suite {
            name,
            timed,
            filters,
            jobs: Vec::new(),
            pairs: Vec::new(),
            figures: Vec::new(),
            sample: SAMPLE,
            warm: Box::new(|| ()),
        }
    }

    /// Whether this run is timed. Otherwise large structures can be made small.
    pub(crate) fn is_timed(&self) -> bool {
        self.timed
    }

    /// Measures `ours` beside `floor`.
    pub(crate) fn pair(&mut self, ours: Work, floor: Work, bar: Bar) {
        if !self.wants(ours.name) {
            return;
        }
        self.jobs.extend([ours, floor]);
        let last = self.jobs.len() - 1;
        self.pairs.push(Pair { ours: last - 1, floor: last, bar, sample: self.sample });
    }

    /// How long a measurement takes in the pairs that follow, in nanoseconds: longer for work that walks through memory, so that what it
    /// finds in the cache is what it would find there in the long run.
    pub(crate) fn sample_for(&mut self, nanoseconds: u64) {
        self.sample = nanoseconds;
    }

    /// What each worker does before anything is timed: to walk once through memory that it has inherited and not yet touched, for the kernel
    /// gives a process its view of shared memory page by page.
    pub(crate) fn warm(&mut self, warm: impl Fn() + 'static) {
        self.warm = Box::new(warm);
    }

    /// A figure that is known and not measured, such as a number of bytes.
    pub(crate) fn figure(&mut self, name: &'static str, value: f64, bar: Bar) {
        if self.wants(name) {
            self.figures.push(Figure { name, value, bar });
        }
    }

    /// Whether the arguments ask for this one.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter.as_str()))
    }

    /// Forks the workers, runs all pairs, prints the table.
    pub(crate) fn run(self) -> ExitCode {
        if std::env::args().any(|arg| arg == "--list") {
            return ExitCode::SUCCESS; // a test runner asks for tests; there are none
        }
        let hands = self.jobs.iter().map(|job| job.hands).max().unwrap_or(1);
        let crew = Crew::fork(hands, &self.jobs, &self.warm);
        if !self.timed {
            for (number, job) in self.jobs.iter().enumerate() {
                crew.time(number, job, SMOKE);
            }
            println!("bench {}: {} loops ran", self.name, self.jobs.len());
            return ExitCode::SUCCESS;
        }
        println!(
            "\n{}: nanoseconds an operation, ours beside the floor; ratio: median [least .. greatest] of {ROUNDS} rounds",
            self.name
        );
        println!("{:<40} {:>9} {:<30} {:>9} {:>7} {:<16} {:>8}", "ours", "ns", "  floor", "ns", "ratio", "", "bar");
        let mut missed = 0;
        for pair in &self.pairs {
            let measured = self.measure(&crew, pair);
            let met = pair.bar.is_met(measured.ratio, measured.ours);
            missed += usize::from(!met);
            println!(
                "{:<40} {:>9.1}   {:<28} {:>9.1} {:>7.2} {:<16} {:>8} {}",
                self.jobs[pair.ours].name,
                measured.ours,
                self.jobs[pair.floor].name,
                measured.floor,
                measured.ratio,
                format!("[{:.2} .. {:.2}]", measured.least, measured.greatest),
                pair.bar,
                pair.bar.verdict(met),
            );
        }
        drop(crew);
        for Figure { name, value, bar } in &self.figures {
            let met = bar.is_met(*value, *value);
            missed += usize::from(!met);
            println!("{name:<40} {value:>9.1} {:>64} {bar:>8} {}", "", bar.verdict(met));
        }
        let bars = self.pairs.iter().map(|pair| pair.bar).chain(self.figures.iter().map(|figure| figure.bar));
        let barred = bars.filter(|bar| !matches!(bar, Bar::Shown)).count();
        println!("{}: {} of {barred} bars met", self.name, barred - missed);
        let enforce = std::env::var("COMMONS_BARS").is_ok_and(|value| value == "enforce");
        if enforce && missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn measure(&self, crew: &Crew, pair: &Pair) -> Measured {
        let calibrated = |job| self.calibrate(crew, job, pair.sample);
        let (n_ours, n_floor) = (calibrated(pair.ours), calibrated(pair.floor));
        let rounds: Vec<_> = (0..ROUNDS)
            .map(|_| (self.sample(crew, pair.ours, n_ours), self.sample(crew, pair.floor, n_floor)))
            .collect();
        let ratios = sorted(rounds.iter().map(|(ours, floor)| pair.bar.ratio(*ours, *floor)));
        Measured {
            ours: sorted(rounds.iter().map(|round| round.0))[ROUNDS / 2],
            floor: sorted(rounds.iter().map(|round| round.1))[ROUNDS / 2],
            ratio: ratios[ROUNDS / 2],
            least: ratios[0],
            greatest: ratios[ROUNDS - 1],
        }
    }

    /// Iterations of a job that take about `sample`.
    fn calibrate(&self, crew: &Crew, job: usize, sample: u64) -> u64 {
        let mut n = 16_u64;
        loop {
            // The least of three: one that was interrupted says nothing.
            let took = (0..3).map(|_| crew.time(job, &self.jobs[job], n)).min().unwrap_or(0).max(1);
            if took >= sample / 8 {
                return (n as u128 * u128::from(sample) / u128::from(took)).max(1) as u64;
            }
            n = n.saturating_mul(4);
        }
    }

    fn sample(&self, crew: &Crew, job: usize, n: u64) -> f64 {
        let work = &self.jobs[job];
        crew.time(job, work, n) as f64 / (n * work.operations) as f64
    }
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}
