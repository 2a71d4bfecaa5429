//! The cost gate: how many instructions the hot paths take, counted by callgrind, against the limits in `instructions.txt`.
//!
//! Time is noise on a shared machine; this count is the same every time, under any load. `cargo bench --bench instructions` runs this very
//! program under `valgrind --tool=callgrind` once for each operation, prints the table, and fails when a count exceeds its limit by more
//! than 2 %. Without valgrind it says so and succeeds. `-- --record` writes the limits anew: a decision, to be committed with its reason.
//!
//! The counts belong to one compiler and one architecture, which the file names; under another they are shown and not judged.
//! They are no times: a locked instruction counts as one, a fence too.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::Duration;

use commons::{Atomic, AtomicLong, Channel, Column, Counter, Lock, RwLock, Schema, Semaphore, Table, Timer};

/// Every operation is repeated this often in the counted part.
const TIMES: u64 = 1000;

const LIMITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");

/// A name, and what makes the structure and gives the operation on it.
type Operation = (&'static str, fn() -> Box<dyn Fn()>);

const OPERATIONS: [Operation; 21] = [
    ("Atomic::add", || {
        let hits = Atomic::new(0).expect("an atomic");
        Box::new(move || counted(|| _ = black_box(hits.add(1))))
    }),
    ("AtomicLong::cmpset", || {
        let value = AtomicLong::new(7).expect("an atomic");
        Box::new(move || counted(|| _ = black_box(value.cmpset(7, 7))))
    }),
    ("Atomic::notify, nobody asleep", || {
        let value = Atomic::new(0).expect("an atomic");
        Box::new(move || counted(|| _ = black_box(value.notify(1))))
    }),
    ("Counter::add", || {
        let count = Counter::new().expect("a counter");
        Box::new(move || counted(|| count.add(1)))
    }),
    ("Lock::lock, drop", || {
        let lock = Lock::new().expect("a lock");
        Box::new(move || counted(|| drop(lock.lock().expect("the lock"))))
    }),
    ("Lock::try_lock, drop", || {
        let lock = Lock::new().expect("a lock");
        Box::new(move || counted(|| drop(lock.try_lock().expect("the lock"))))
    }),
    ("RwLock::read, drop", || {
        let lock = RwLock::new().expect("a lock");
        Box::new(move || counted(|| drop(lock.read().expect("the lock"))))
    }),
    ("RwLock::write, drop", || {
        let lock = RwLock::new().expect("a lock");
        Box::new(move || counted(|| drop(lock.write().expect("the lock"))))
    }),
    ("Semaphore::acquire, release", || {
        let seats = Semaphore::new(2).expect("a semaphore");
        Box::new(move || {
            counted(|| {
                seats.acquire().expect("a permit");
                seats.release().expect("its end");
            });
        })
    }),
    ("Table::value", || {
        let Users { table, hits, .. } = Users::new();
        Box::new(move || counted(|| _ = black_box(table.value(black_box(KEY), hits))))
    }),
    ("Table::get_into, 3 columns", || {
        let table = Users::new().table;
        let row = std::cell::RefCell::new(table.row());
        Box::new(move || counted(|| _ = black_box(table.get_into(black_box(KEY), &mut row.borrow_mut()))))
    }),
    ("Table::set, 3 columns", || {
        let Users { table, hits, score, name } = Users::new();
        let cells = [hits.is(2), score.is(2.5), name.is(MOTTO)];
        Box::new(move || counted(|| _ = black_box(table.set(black_box(KEY), &cells).expect("room"))))
    }),
    ("Table::incr", || {
        let Users { table, hits, .. } = Users::new();
        Box::new(move || counted(|| _ = black_box(table.incr(black_box(KEY), hits, 1).expect("room"))))
    }),
    ("Table::set of a fresh row, del", || {
        let Users { table, hits, score, name } = Users::new();
        let cells = [hits.is(2), score.is(2.5), name.is(MOTTO)];
        Box::new(move || {
            counted(|| {
                table.set(black_box("user:654321"), &cells).expect("room");
                black_box(table.del(black_box("user:654321")));
            });
        })
    }),
    ("Channel::push, pop_into, 64 bytes", || there_and_out(MOTTO.as_bytes())),
    ("Channel::push, pop_into, 8 bytes", || there_and_out(b"8 bytes.")),
    ("PushSession::push, PopSession::pop_into", || {
        let channel = Channel::new(1 << 16).expect("a channel");
        Box::new(move || {
            let (mut push, mut pop) = (channel.push_session(), channel.pop_session());
            let mut message = Vec::with_capacity(MOTTO.len());
            counted_mut(|| {
                push.push(black_box(MOTTO.as_bytes())).expect("room");
                pop.pop_into(&mut message).expect("a message");
            });
        })
    }),
    ("Channel::push_many, drain, 10 of 64", || {
        let (channel, messages) = (Channel::new(1 << 16).expect("a channel"), [MOTTO; 10]);
        Box::new(move || {
            counted(|| {
                channel.push_many(black_box(&messages)).expect("room");
                channel.drain(10, |message| _ = black_box(message)).expect("messages");
            });
        })
    }),
    ("Timer::after, clear", || {
        let timer = timers();
        Box::new(move || {
            counted(|| {
                let id = timer.after(black_box(Duration::from_millis(500)), 1).expect("room");
                black_box(timer.clear(id).expect("a seat"));
            });
        })
    }),
    ("Timer::info", || {
        let timer = timers();
        let id = timer.after(Duration::from_millis(500), 1).expect("room");
        Box::new(move || counted(|| _ = black_box(timer.info(black_box(id)))))
    }),
    ("Timer::next_due", || {
        let timer = timers();
        Box::new(move || counted(|| _ = black_box(timer.next_due())))
    }),
];

/// A thousand, due within a second. Their clock stands still: valgrind does not show the page in which the kernel has its own.
fn timers() -> Timer {
    let timer = Timer::new(2000).expect("a timer").at(1_000_000_000);
    (0..1000).for_each(|n| _ = timer.after(Duration::from_millis(1 + n * 617 % 1000), n).expect("room"));
    timer
}

/// Of the table, with one row in it.
struct Users {
    table: Table,
    hits: Column<i64>,
    score: Column<f64>,
    name: Column<str>,
}

const KEY: &str = "user:123456";
const MOTTO: &str = "sixty-four bytes are what fills a string column of that size up.";

impl Users {
    fn new() -> Users {
        let mut schema = Schema::new();
        let (hits, score, name) = (schema.int("hits"), schema.float("score"), schema.string("name", 64));
        let table = Table::new(1000, schema).expect("a table");
        table.set(KEY, &[hits.is(1), name.is(MOTTO)]).expect("room");
        Users { table, hits, score, name }
    }
}

/// What callgrind counts: `--toggle-collect` knows it by this name. The loop itself is two instructions a turn.
#[inline(never)]
fn counted(operation: impl Fn()) {
    for _ in 0..black_box(TIMES) {
        operation();
    }
}

/// The same for an operation that keeps something.
#[inline(never)]
fn counted_mut(mut operation: impl FnMut()) {
    for _ in 0..black_box(TIMES) {
        operation();
    }
}

/// A message pushed and popped.
fn there_and_out(message: &'static [u8]) -> Box<dyn Fn()> {
    let channel = Channel::new(1 << 16).expect("a channel");
    Box::new(move || {
        let mut popped = Vec::with_capacity(message.len());
        counted_mut(|| {
            channel.push(black_box(message)).expect("room");
            channel.pop_into(&mut popped).expect("a message");
        });
    })
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let Some(at) = args.iter().position(|arg| arg == "--operation") {
        let name = args.get(at + 1).expect("--operation NAME");
        run(name);
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS; // a test runner asks for tests; there are none
    }
    if !args.iter().any(|arg| arg == "--bench") || args.iter().any(|arg| arg == "--test") {
        OPERATIONS.iter().for_each(|(name, _)| run(name));
        println!("bench instructions: {} loops ran", OPERATIONS.len());
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("instructions: SKIPPED, nothing was counted: valgrind is not installed");
        return ExitCode::SUCCESS;
    }
    let counts: Vec<_> = OPERATIONS.iter().map(|(name, _)| (*name, count(name))).collect();
    if args.iter().any(|arg| arg == "--record") { record(&counts) } else { judge(&counts) }
}

/// Does it [`TIMES`] times; a first call's own costs are a thousandth each in the figure.
fn run(name: &str) {
    let (_, make) = OPERATIONS.iter().find(|(of, _)| *of == name).expect("an operation of this bench");
    let operation = make();
    operation();
}

/// Instructions of one operation, loop included.
fn count(name: &str) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted*"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--operation", name])
        .output()
        .expect("running valgrind");
    let told = String::from_utf8_lossy(&output.stderr);
    let total = told.lines().find_map(|line| line.split_once("Collected : ").map(|(_, count)| count.trim()));
    let total: u64 = total.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("callgrind said: {told}"));
    assert!(output.status.success() && total > TIMES, "callgrind counted {total} instructions and said: {told}");
    total as f64 / TIMES as f64
}

/// Compiler and architecture.
fn made_by() -> String {
    let version = Command::new("rustc").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version);
    // "rustc 1.95.0 (…)": the patch release changes no code.
    let version = version.split(' ').nth(1).and_then(|v| v.rsplit_once('.')).map_or("unknown", |(minor, _)| minor);
    format!("rustc {version}, {}", std::env::consts::ARCH)
}

fn record(counts: &[(&str, f64)]) -> ExitCode {
    let mut text = format!(
        "# Instructions an operation; `cargo bench --bench instructions -- --record` writes them.\n# {}\n",
        made_by()
    );
    for (name, count) in counts {
        writeln!(text, "{count:7.1}  {name}").expect("a String takes it");
    }
    std::fs::write(LIMITS, &text).expect("writing the limits");
    print!("{text}");
    ExitCode::SUCCESS
}

fn judge(counts: &[(&str, f64)]) -> ExitCode {
    let limits = std::fs::read_to_string(LIMITS).expect("benches/instructions.txt");
    let comparable = limits.lines().any(|line| line.strip_prefix("# ") == Some(&made_by()));
    println!("\ninstructions an operation, counted by callgrind; the limit is the recorded count and 2 %");
    let mut exceeded = false;
    for (name, count) in counts {
        let limit = limits.lines().find_map(|line| line.trim().split_once("  ").filter(|(_, of)| of == name));
        let limit: Option<f64> = limit.and_then(|(limit, _)| limit.parse().ok());
        let verdict = match limit {
            None => "has no limit yet",
            Some(limit) if *count > limit * 1.02 => {
                exceeded = true;
                "EXCEEDS"
            }
            Some(limit) if *count < limit * 0.98 => "below: record it",
            Some(_) => "keeps",
        };
        println!("{name:<32} {count:>8.1} {:>8.1} {verdict}", limit.unwrap_or(0.0));
    }
    if !comparable {
        println!(
            "instructions: shown, not judged: the limits were recorded by another compiler or on another architecture"
        );
        return ExitCode::SUCCESS;
    }
    if exceeded { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
