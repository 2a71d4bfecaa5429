//! Running tests of the copy, and making an end of them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::Engine;

/// Which mutant is switched on. No name that begins with `COMMONS_`: a server takes those for settings.
const ON: &str = "MUTANT_ON";
/// In the environment of all that a run has started: who began it, and which run it is.
const RUN: &str = "MUTANT_RUN";

/// Runs the jobs (a mutant's number, tests), a few at once; for each the first test that went red, and how.
pub fn all(engine: &Engine, copy: &Path, executables: &[PathBuf], jobs: &[(usize, Vec<&str>)]) -> Vec<Option<String>> {
    let results = Mutex::new(vec![None; jobs.len()]);
    let next = Mutex::new(0..jobs.len());
    std::thread::scope(|scope| {
        for worker in 0..engine.at_once {
            let (results, next) = (&results, &next);
            scope.spawn(move || {
                loop {
                    let Some(job) = next.lock().unwrap().next() else { return };
                    let (mutant, tests) = &jobs[job];
                    let red = tests.iter().find_map(|test| red(engine, copy, executables, *mutant, test, worker));
                    results.lock().unwrap()[job] = red;
                }
            });
        }
    });
    results.into_inner().unwrap()
}

/// Whether this is the program of that name ("lib" for the tests within the crate): cargo adds a dash and a number.
fn is_program(executable: &Path, name: &str) -> bool {
    let stem = executable.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.rsplit_once('-'));
    stem.is_some_and(|(stem, _)| stem == if name == "lib" { "commons" } else { name })
}

/// Runs one test under one mutant; how it went red, if it did. A test that no executable knows counts as red only for the control.
fn red(
    engine: &Engine,
    copy: &Path,
    executables: &[PathBuf],
    mutant: usize,
    named: &str,
    worker: usize,
) -> Option<String> {
    let (program, test) = match named.split_once("::") {
        Some((program, test)) if engine.programs => (Some(program), test),
        _ => (None, named),
    };
    let mut ran = false;
    for executable in executables.iter().filter(|path| program.is_none_or(|name| is_program(path, name))) {
        let listed =
            Command::new(executable).args(["--list", "--format", "terse"]).env(ON, "0").current_dir(copy).output();
        let knows = listed.is_ok_and(|out| {
            String::from_utf8_lossy(&out.stdout).lines().any(|line| line.strip_suffix(": test") == Some(test))
        });
        if !knows {
            continue;
        }
        ran = true;
        let started = Instant::now();
        let mut command = Command::new(executable);
        if mutant == 0 {
            command.env(engine.quick.0, engine.quick.1);
        }
        command
            .args(["--exact", test])
            .env(ON, mutant.to_string())
            .env("STEP_CORE", worker.to_string())
            .current_dir(copy)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        match end_of(command, engine.limit)? {
            Some(status) if status.success() => {}
            Some(status) => return Some(format!("{named}: {status}, {:.1} s", started.elapsed().as_secs_f64())),
            None => return Some(format!("{named}: hangs")),
        }
    }
    (!ran && mutant == 0).then(|| "there is no such test".into())
}

/// How the run ends, `Some(None)` when it did not within `limit`; None when it cannot begin. What it has started ends with it: what a broken server leaves
/// behind must not slow down the others.
fn end_of(mut command: Command, limit: Duration) -> Option<Option<ExitStatus>> {
    static RUNS: Mutex<u32> = Mutex::new(0);
    let run = {
        let mut runs = RUNS.lock().unwrap();
        *runs += 1;
        format!("{}.{runs}", std::process::id())
    };
    let mut child = command.env(RUN, &run).process_group(0).spawn().ok()?;
    let started = Instant::now();
    while !is_over(&child) && started.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(5));
    }
    let over = is_over(&child);
    // Before it is reaped: until then its number, which is that of its group, is nobody else's.
    kill(&format!("-{}", child.id()));
    let status = child.wait().ok();
    sweep(&run);
    Some(status.filter(|_| over))
}

/// Whether it is dead, and not reaped yet.
fn is_over(child: &Child) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    // The state follows the name, which may have any character in it.
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// Ends those who have a group of their own, and whoever they start meanwhile.
fn sweep(run: &str) {
    let mark = format!("{RUN}={run}");
    let marked = |pid: &str| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    };
    for _ in 0..20 {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let names = pids.filter_map(|entry| entry.file_name().into_string().ok());
        let left: Vec<String> = names.filter(|name| name.parse::<u32>().is_ok() && marked(name)).collect();
        if left.is_empty() {
            return;
        }
        left.iter().for_each(|pid| kill(pid));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill(whom: &str) {
    let _ = Command::new("kill").args(["-KILL", "--", whom]).stderr(Stdio::null()).status();
}
