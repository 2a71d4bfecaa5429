//! No request is lost: workers and task workers are renewed over and over under load, and no client sees it, but for answers that say `Connection: close`.
//!
//! `COMMONS_LONG=1`: thirty seconds, else six.

#![allow(clippy::disallowed_types, reason = "threads of this test count together; nothing is shared between processes")]

mod fleet;
mod served;
mod single;

use fleet::load::{self, Seen};
use fleet::{Fleet, lasting, page};
use rustix::process::Signal;
use served::until;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const TESTS: &[single::Test] = &[
    ("no_request_is_lost_by_reloads", no_request_is_lost),
    ("a_connection_that_says_nothing_holds_up_no_reload", silent),
    ("a_task_for_which_nobody_waits_any_more_holds_up_no_reload", abandoned),
    ("no_worker_has_much_more_than_the_others", spread),
];

const WORKERS: u64 = 2;
const TASK_WORKERS: u64 = 2;
/// Clients of our own beside wrk's, or alone where that is not installed.
const CLIENTS: usize = 12;
const EVERY: Duration = Duration::from_secs(1);
const TASKS_EVERY: Duration = Duration::from_millis(700);

fn main() -> ExitCode {
    let play = |role: &str| match role {
        "spread" => page::builder()?.workers(4).run(()),
        _ => page::builder()?.workers(WORKERS as u32).task_workers(TASK_WORKERS as u32).run(page::Backwards),
    };
    fleet::role(play).unwrap_or_else(|| single::run(TESTS))
}

/// `wrk` with a hundred connections, if it is installed.
fn wrk(fleet: &Fleet, time: Duration) -> Option<Child> {
    let url = format!("http://{}/", fleet.address);
    let seconds = format!("-d{}", time.as_secs());
    Command::new("wrk").args(["-t1", "-c100", &seconds, &url]).stdout(Stdio::piped()).spawn().ok()
}

fn no_request_is_lost() {
    let time = Duration::from_secs(if fleet::setting("COMMONS_LONG", 0) > 0 { 30 } else { 6 });
    lasting(time);
    let fleet = Fleet::start("reload", &[]);
    let (seen, tasks_renewed) = (Seen::default(), AtomicU64::new(0));
    let began = Instant::now();
    let wrk = wrk(&fleet, time);
    let clients = if wrk.is_some() { CLIENTS } else { 100 };
    let (mut rounds, mut longest) = (0_u64, Duration::ZERO);
    std::thread::scope(|scope| {
        let stop = Stop(&seen);
        load::start(scope, clients, fleet.address, &["/", "/pid", "/task/abcdef", "/"], &seen);
        scope.spawn(|| {
            while !seen.stop.load(SeqCst) {
                let round = Instant::now();
                fleet.signal(Signal::USR2);
                tasks_renewed.fetch_add(1, SeqCst);
                std::thread::sleep(TASKS_EVERY.saturating_sub(round.elapsed()));
            }
        });
        // The last round has its second too, so that what it lost is seen.
        while began.elapsed() + EVERY * 3 / 2 < time {
            let round = Instant::now();
            let all = 0..WORKERS + TASK_WORKERS;
            let before = fleet.stats().serving(all.clone());
            fleet.signal(Signal::USR1);
            until("all processes are others", || {
                let now = fleet.stats().serving(all.clone());
                now.len() as u64 == all.end && now.iter().all(|pid| !before.contains(pid))
            });
            rounds += 1;
            longest = longest.max(round.elapsed());
            std::thread::sleep(EVERY.saturating_sub(round.elapsed()));
        }
        drop(stop);
    });
    let wrk = wrk.map(|wrk| wrk.wait_with_output().expect("wrk")).map(|output| output.stdout);
    let said = wrk.map_or_else(|| "wrk is not installed".to_owned(), |out| String::from_utf8_lossy(&out).into_owned());
    let figures = fleet.stats();
    single::println(&format!(
        "  {rounds} reloads of all, the longest {longest:?}, {} of the task workers; {}; wrk: {said}",
        tasks_renewed.load(SeqCst),
        seen.words()
    ));
    let log = fleet.log();
    let bad = [&seen.refused, &seen.broken, &seen.short, &seen.failed].map(|cell| cell.load(SeqCst));
    assert_eq!(bad, [0; 4], "{}", seen.words());
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    assert!(rounds * 2 >= time.as_secs() && seen.turned_away.load(SeqCst) > 0 && seen.done.load(SeqCst) > 0);
    assert_eq!((figures.number("crashes"), figures.of_tasks("lost")), (0, 0));
    for word in ["killing", "panicked", "still here", "error", "warning"] {
        assert!(!log.contains(word), "{word}: {log}");
    }
    assert!(figures.number("requests") >= seen.answered.load(SeqCst));
    until("only the one who asks is connected", || fleet.stats().number("connections") == 1);
}

/// The clients end when this does, also when the test fails.
struct Stop<'a>(&'a Seen);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Clients that hold a connection and ask nothing, or nothing more: the reload closes them in its own time, and kills nobody for it.
fn silent() {
    let fleet = Fleet::start("reload", &[]);
    let mut asked: Vec<_> = (0..4).map(|_| fleet.connect()).collect();
    asked.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    let mut silent: Vec<_> = (0..4).map(|_| fleet.connect()).collect();
    until("all are connected", || fleet.stats().number("connections") == 9);
    let before = fleet.all();
    fleet.signal(Signal::USR1);
    assert!(asked.iter_mut().chain(&mut silent).all(served::Client::is_closed));
    until("only master and manager are who they were", || before.intersection(&fleet.all()).count() == 2);
    assert!(!fleet.log().contains("killing"), "{}", fleet.log());
}

/// Its client is gone before its answer comes. The worker leaves when it has come, not at the end of its grace.
fn abandoned() {
    let fleet = Fleet::start("reload", &[]);
    let before = fleet.stats().serving(0..WORKERS);
    let mut client = fleet.connect();
    client.write("GET /task/long HTTP/1.1\r\nHost: x\r\n\r\n").expect("write");
    until("it is run", || fleet.stats().of_tasks("running") == 1);
    drop(client);
    until("it is run for nobody", || {
        fleet.stats().those("serving", 0..WORKERS).iter().map(|of| of.2).sum::<u64>() == 1
    });
    fleet.signal(Signal::USR1);
    let asked = Instant::now();
    until("the workers before have left", || !before.iter().any(|pid| served::is_alive(*pid)));
    assert!(asked.elapsed() < Duration::from_secs(10) && !fleet.log().contains("still here"), "{}", fleet.log());
    assert_eq!(fleet.stats().of_tasks("finished"), 1);
}

/// The most that one of four workers has of a hundred connections, over the mean; the middle of five rounds.
fn spread() {
    let fleet = Fleet::start("spread", &[]);
    let round = |_| {
        until("those of the last round are closed", || fleet.stats().number("connections") == 1);
        let mut clients: Vec<_> = (0..100).map(|_| fleet.connect()).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
        let held: Vec<_> = fleet.stats().those("serving", 0..4).into_iter().map(|(.., held)| held).collect();
        assert_eq!((held.len(), held.iter().sum::<u64>()), (4, 101), "{held:?}");
        held
    };
    let rounds: Vec<Vec<u64>> = (0..5).map(round).collect();
    single::println(&format!("  connections of each worker: {rounds:?}"));
    let mut most: Vec<_> = rounds.iter().filter_map(|held| held.iter().max()).collect();
    most.sort_unstable();
    assert!(*most[2] as f64 <= 1.3 * 25.25, "{rounds:?}");
}
