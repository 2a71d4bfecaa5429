//! Kill at every instruction: each operation of each structure, in each interesting state, is single-stepped, and at every
//! distinct image of shared memory other processes must go on with whole data. See `run.rs` for the method, `ops_*.rs` for the
//! operations, `checker.rs` for what holds always.
//!
//! `cargo test --release --test step [-- NAME … | --exact NAME | --list]`. Each operation runs in a process of its own;
//! `STEP_JOBS` says how many at once (two), `STEP_CORE` on which core the first is (0), `STEP_BUDGET_MS` how long each may kill
//! for real (500), and in proportion how often each pair interrupts; with 0 nobody is killed inside recovery either. `STEP_DEEP` says
//! at which images of an operation its rescuers are killed at each of their instructions: all (1), every fifth (5).

#![allow(
    unsafe_code,
    unreachable_pub,
    missing_docs,
    clippy::print_stdout,
    clippy::disallowed_types,
    clippy::undocumented_unsafe_blocks
)]
#![allow(clippy::multiple_unsafe_ops_per_block)]

mod belt;
mod belt_check;
mod belt_state;
mod checker;
mod clockwork;
mod clockwork_check;
mod desk;
mod desk_check;
mod image;
mod kit;
mod num;
mod op;
mod ops_atomic;
mod ops_barrier;
mod ops_channel;
mod ops_channel_lease;
mod ops_channel_wait;
mod ops_lock;
mod ops_region;
mod ops_rwlock;
mod ops_semaphore;
mod ops_sleep;
mod ops_table;
mod ops_table_room;
mod ops_table_tree;
mod ops_timer;
mod pairs;
mod pairs_channel;
mod pairs_table;
mod pairs_timer;
mod preempt;
mod run;
mod trace;
mod world;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use op::Op;
use pairs::Pair;
use run::{Run, Tally};
use world::Bystander;

enum Test {
    Killed(Op),
    Preempted(Pair),
}

impl Test {
    fn name(&self) -> &str {
        match self {
            Test::Killed(op) => &op.name,
            Test::Preempted(pair) => pair.name,
        }
    }
}

fn tests() -> Vec<Test> {
    let ops = [
        ops_atomic::all(),
        ops_sleep::all(),
        ops_lock::all(),
        ops_rwlock::all(),
        ops_semaphore::all(),
        ops_barrier::all(),
        ops_region::all(),
        ops_table::all(),
        ops_table_tree::all(),
        ops_table_room::all(),
        ops_channel::all(),
        ops_channel_wait::all(),
        ops_channel_lease::all(),
        ops_timer::all(),
    ];
    let killed = ops.into_iter().flatten().map(Test::Killed);
    let pairs =
        pairs::all().into_iter().chain(pairs_table::all()).chain(pairs_channel::all()).chain(pairs_timer::all());
    killed.chain(pairs.map(Test::Preempted)).collect()
}

/// Milliseconds for which an operation is killed for real, and with that budget the preemptions of a pair beside those around each change.
const BUDGET: u64 = 500;
const PREEMPTIONS: usize = 150;

/// What the processes of all operations add up, in shared memory.
#[derive(Default)]
#[repr(C)]
struct Totals {
    steps: AtomicU64,
    images: AtomicU64,
    deep_steps: AtomicU64,
    deep_images: AtomicU64,
    real: AtomicU64,
    schedules: AtomicU64,
    checks: AtomicU64,
}

impl Totals {
    fn add(&self, tally: &Tally) {
        let pairs = [
            (&self.steps, tally.steps),
            (&self.images, tally.images),
            (&self.deep_steps, tally.deep_steps),
            (&self.deep_images, tally.deep_images),
            (&self.real, tally.real),
            (&self.checks, tally.checks),
        ];
        for (total, n) in pairs {
            total.fetch_add(n as u64, SeqCst);
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// See `Run::deep`. Odd.
fn deep() -> usize {
    number("STEP_DEEP", run::THOROUGH as u64) as usize | 1
}

/// Runs one test in this process, prints its line, and says whether it passed.
fn run(test: &Test, totals: &Totals) -> bool {
    let begun = Instant::now();
    let bystander = Bystander::new();
    let budget = Duration::from_millis(number("STEP_BUDGET_MS", BUDGET / run::THOROUGH as u64));
    let (result, what) = match test {
        Test::Killed(op) => {
            let mut run = Run { op, bystander: &bystander, tally: Tally::default(), budget, deep: deep() };
            let result = run.all();
            let t = run.tally;
            totals.add(&t);
            let text = format!(
                "{:6} instructions {:4} images | rescuers {:7} instructions {:4} images | {:4} SIGKILLs, stride {}",
                t.steps, t.images, t.deep_steps, t.deep_images, t.real, t.stride
            );
            (result, text)
        }
        Test::Preempted(pair) => {
            let more = budget.as_millis() as usize * PREEMPTIONS / BUDGET as usize;
            let (result, schedules, stride) = preempt::run(pair, &bystander, more);
            totals.schedules.fetch_add(schedules as u64, SeqCst);
            (result, format!("{schedules:6} schedules, stride {stride}"))
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    match &result {
        Ok(()) => println!("{:32} ok {what} | {seconds:.1} s", test.name()),
        Err(text) => println!("{:32} VIOLATION {text} | {what}", test.name()),
    }
    kit::end_and_recover(bystander.pid);
    result.is_ok()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| args.iter().any(|a| a == name);
    let value_flags = ["--format", "--test-threads", "--color", "--logfile", "-Z"];
    let takes_value = |i: usize| i > 0 && value_flags.contains(&args[i - 1].as_str());
    let names: Vec<&String> =
        args.iter().enumerate().filter(|(i, a)| !a.starts_with('-') && !takes_value(*i)).map(|(_, a)| a).collect();
    let wanted = |test: &Test| {
        let hit =
            |name: &&String| if flag("--exact") { test.name() == **name } else { test.name().contains(name.as_str()) };
        (names.is_empty() || names.iter().any(hit)) && !flag("--ignored")
    };
    let tests: Vec<Test> = tests().into_iter().filter(wanted).collect();
    if flag("--list") {
        tests.iter().for_each(|test| println!("{}: test", test.name()));
        return;
    }
    kit::install_panic_hook();
    println!("\nrunning {} tests", tests.len());
    let begun = Instant::now();
    let page = kit::shared_page(size_of::<Totals>());
    let totals = unsafe { &*(page as *const Totals) };
    let failed = run_all(&tests, totals);
    let sum = |n: &AtomicU64| n.load(SeqCst);
    println!(
        "\nkilled at {} instructions, {} distinct images, {} violations",
        sum(&totals.steps) + sum(&totals.deep_steps),
        sum(&totals.images) + sum(&totals.deep_images),
        failed
    );
    println!(
        "of these in recovery {} instructions, {} distinct images; {} real SIGKILLs; {} preemptions; {} checkers",
        sum(&totals.deep_steps),
        sum(&totals.deep_images),
        sum(&totals.real),
        sum(&totals.schedules),
        sum(&totals.checks)
    );
    if deep() > 1 {
        println!("rescuers were stepped at one image in {} only; `--release` without STEP_DEEP does all", deep());
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        tests.len() - failed,
        begun.elapsed().as_secs_f64()
    );
    println!("{} passed, {failed} failed", tests.len() - failed);
    if failed > 0 {
        std::process::exit(101);
    }
}

/// A process for each test, some at once, each on a core of its own; how many failed.
fn run_all(tests: &[Test], totals: &Totals) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = (number("STEP_JOBS", 2) as usize).clamp(1, cores);
    let first = number("STEP_CORE", 0) as usize;
    let mut running: Vec<Option<(i32, &str)>> = vec![None; jobs];
    let mut failed = 0;
    let mut left = tests.iter();
    loop {
        for (core, place) in running.iter_mut().enumerate() {
            if place.is_none()
                && let Some(test) = left.next()
            {
                let pid = kit::fork(|| {
                    kit::become_tracer();
                    kit::pin((first + core) % cores);
                    i32::from(!run(test, totals))
                });
                *place = Some((pid, test.name()));
            }
        }
        if running.iter().all(Option::is_none) {
            return failed;
        }
        let (pid, status) = kit::wait_any();
        for place in &mut running {
            if let Some((_, name)) = place.filter(|(p, _)| *p == pid) {
                *place = None;
                if status != 0 {
                    failed += 1;
                    if !libc::WIFEXITED(status) || libc::WEXITSTATUS(status) != 1 {
                        println!("{name:32} VIOLATION the harness itself ended with status {status:#x}");
                    }
                }
            }
        }
    }
}
