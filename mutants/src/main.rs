//! Breaks `commons` on purpose and expects its harnesses to notice.
//!
//! A harness that passes proves something only if it would have failed otherwise. Each mutant is one place of the real source and what
//! to put there instead (an ordering weakened, a step dropped, two steps swapped), with the tests that must go red on it. The source
//! itself knows nothing of this: the runner copies the tree, puts `if mutant(N) { broken } else { original }` in each of those places, builds the
//! copy *once*, and runs the named tests with one mutant switched on at a time, and first with none, when they must pass.
//!
//! `cargo run --release --manifest-path mutants/Cargo.toml -- loom|step|server [NAME…]`, `-- all` (loom and step) or, to build what `all` runs, `-- build`

mod loom;
mod loom_channel;
mod loom_table;
mod loom_timer;
mod loom_words;
mod run;
mod server;
mod server_below;
mod step;
mod step_channel;
mod step_table;
mod step_timer;
mod tree;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// One place, broken.
#[derive(Debug)]
pub struct Mutant {
    /// What is broken, in a few words joined by underscores.
    pub name: &'static str,
    /// The file, from the root of the crate.
    pub file: &'static str,
    /// What stands there: an expression or statements that occur exactly once in the file.
    pub find: &'static str,
    /// What to put there instead.
    pub replace: &'static str,
    /// Tests of which at least one must go red; in the harness of the server with the program that has them: "serve::a_test", or "lib::a::test".
    pub caught_by: &'static [&'static str],
}

/// A harness: where its tests are built, and how many may run at once.
struct Engine {
    name: &'static str,
    mutants: &'static [&'static [Mutant]],
    folder: &'static str,
    build: &'static [&'static str],
    /// Its tests are in many programs: only those that are named are built, and each test is run in its own.
    programs: bool,
    /// Whether `all` runs it.
    in_all: bool,
    at_once: usize,
    /// No single test takes longer than a fraction of this; a mutant that makes one hang is caught by the clock.
    limit: Duration,
    /// Makes the tests quick where no mutant is on: then they only have to show that the copy is sound. The harness itself has run them in full.
    quick: (&'static str, &'static str),
}

const ENGINES: [Engine; 3] = [
    Engine {
        name: "loom",
        mutants: &[loom::MUTANTS, loom_words::MUTANTS, loom_channel::MUTANTS, loom_table::MUTANTS, loom_timer::MUTANTS],
        folder: "loom-tests",
        build: &["test", "--release", "--no-run", "--message-format=json-render-diagnostics"],
        programs: false,
        in_all: true,
        at_once: 2,
        limit: Duration::from_secs(120),
        quick: ("COMMONS_LOOM_BOUND", "1"),
    },
    Engine {
        name: "step",
        mutants: &[step::MUTANTS, step_table::MUTANTS, step_channel::MUTANTS, step_timer::MUTANTS],
        folder: ".",
        build: &[
            "test",
            "--release",
            "--no-default-features",
            "--test",
            "step",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ],
        programs: false,
        in_all: true,
        // Each on the core of its worker: see STEP_CORE.
        at_once: 2,
        limit: Duration::from_secs(120),
        quick: ("STEP_BUDGET_MS", "0"),
    },
    Engine {
        name: "server",
        mutants: &[server::MUTANTS, server_below::MUTANTS],
        folder: ".",
        build: &["test", "--no-run", "--message-format=json-render-diagnostics"],
        programs: true,
        in_all: false,
        at_once: 2,
        limit: Duration::from_secs(10),
        quick: ("MUTANT_ON", "0"),
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let named = args.first().map_or("", String::as_str);
    let every = named == "all" || named == "build";
    let engines: Vec<&Engine> =
        ENGINES.iter().filter(|engine| every && engine.in_all || engine.name == named).collect();
    if engines.is_empty() {
        eprintln!("usage: mutants loom|step|server [NAME…] | all | build");
        return ExitCode::from(2);
    }
    // A build is one long optimization, on one core: so they are made beside each other. What is timed in them runs alone.
    let ready: Vec<_> = std::thread::scope(|scope| {
        let builds: Vec<_> = engines.iter().map(|engine| scope.spawn(|| prepare(engine, &args[1..]))).collect();
        builds
            .into_iter()
            .map(|build| build.join().unwrap_or_else(|_| Err("the preparation panicked".into())))
            .collect()
    });
    if named == "build" {
        return if ready.iter().all(Result::is_ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let failed = ready.into_iter().map(|ready| ready.map(|ready| judge(&ready))).sum::<Result<usize, String>>();
    match failed {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("mutants: {why}");
            ExitCode::from(2)
        }
    }
}

/// A copy of the tree with its mutants, built.
struct Ready<'e> {
    engine: &'e Engine,
    chosen: Vec<(usize, &'static Mutant)>,
    copy: PathBuf,
    tests: Vec<PathBuf>,
}

/// Copies the tree and builds it with the chosen mutants (all, when none is named).
fn prepare<'e>(engine: &'e Engine, names: &[String]) -> Result<Ready<'e>, String> {
    let mutants: Vec<&'static Mutant> = engine.mutants.iter().copied().flatten().collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    let chosen: Vec<(usize, &'static Mutant)> =
        (1..).zip(mutants.iter().copied()).filter(|(_, m)| wanted(m.name)).collect();
    if chosen.is_empty() {
        return Err(format!(
            "no such mutant; there are {}",
            mutants.iter().map(|m| m.name).collect::<Vec<_>>().join(", ")
        ));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no parent folder")?;
    let copy = root.join("target/mutants").join(engine.name);
    tree::plant(root, &copy, &mutants)?;
    let tests = build(engine, &copy, &chosen)?;
    Ok(Ready { engine, chosen, copy, tests })
}

/// Runs them; how many failed to be caught, or how many tests fail without any.
fn judge(Ready { engine, chosen, copy, tests }: &Ready<'_>) -> usize {
    let mut failed = 0;
    let control: BTreeSet<&str> = chosen.iter().flat_map(|(_, mutant)| mutant.caught_by).copied().collect();
    println!("{}: {} tests without any mutant", engine.name, control.len());
    let jobs: Vec<_> = control.iter().map(|test| (0, vec![*test])).collect();
    for (job, red) in jobs.iter().zip(run::all(engine, copy, tests, &jobs)) {
        if let Some(how) = red {
            println!("  {} fails without a mutant: {how}", job.1[0]);
            failed += 1;
        }
    }
    println!("{}: {} mutants", engine.name, chosen.len());
    let jobs: Vec<_> = chosen.iter().map(|(number, mutant)| (*number, mutant.caught_by.to_vec())).collect();
    for ((_, mutant), red) in chosen.iter().zip(run::all(engine, copy, tests, &jobs)) {
        match red {
            Some(how) => println!("  {:<44} {how}", mutant.name),
            None => {
                println!("  {:<44} SURVIVES: {} ({})", mutant.name, mutant.caught_by.join(", "), mutant.file);
                failed += 1;
            }
        }
    }
    println!("{} passed, {failed} failed", control.len() + chosen.len() - failed);
    failed
}

/// Builds the tests of the copy; their executables.
fn build(engine: &Engine, copy: &Path, chosen: &[(usize, &Mutant)]) -> Result<Vec<PathBuf>, String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(engine.build).current_dir(copy.join(engine.folder)).stderr(Stdio::inherit());
    if engine.programs {
        let named = chosen.iter().flat_map(|(_, mutant)| mutant.caught_by).filter_map(|test| test.split_once("::"));
        for program in named.map(|(program, _)| program).collect::<BTreeSet<_>>() {
            match program {
                "lib" => cargo.arg("--lib"),
                _ => cargo.args(["--test", program]),
            };
        }
    }
    // What cargo told this runner is about this runner.
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("CARGO_")) {
        if key != "CARGO_HOME" {
            cargo.env_remove(key);
        }
    }
    let output = cargo.output().map_err(|e| format!("cargo: {e}"))?;
    if !output.status.success() {
        return Err("the copy with the mutants does not build".into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let found: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split_once("\"executable\":\"")?.1.split_once('"').map(|(path, _)| path.into()))
        .collect();
    if found.is_empty() { Err("the build made no test".into()) } else { Ok(found) }
}
