//! A server's life: reloads, worn workers, user processes, stopping in good order and at once, and the deaths of its parts.

#[path = "under_test/mod.rs"]
mod under_test;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use under_test::{Running, Scratch, Test, children, command, exists, is_gone, members, send, until};

const TESTS: &[Test] = &[
    ("usr1_renews_workers_and_task_workers_and_loses_nothing", usr1),
    ("one_process_is_renewed_and_no_other", one),
    ("a_worker_is_renewed_after_max_request_and_loses_nothing", max_request),
    ("a_killed_worker_is_replaced", killed_worker),
    ("user_processes_are_started_again_however_they_end", user_processes),
    ("term_and_int_let_what_is_under_way_finish", graceful),
    ("quit_ends_all_at_once", quit),
    ("a_second_term_ends_all_at_once", second_term),
    ("exiting_resolves", exiting),
    ("what_holds_a_worker_is_named_before_it_is_killed", held),
    ("a_process_that_blocks_is_named_and_killed", blocked),
    ("each_grace_is_that_of_its_own_end", graces),
    ("tasks_that_hold_a_process_are_named", held_by_tasks),
    ("the_figures_of_each_process_are_its_own", figures),
    ("a_paused_connection_holds_who_leaves_as_long_as_its_grace_does", paused),
    ("a_reload_whose_successors_fail_keeps_the_old_ones", bad_reload),
    ("the_manager_is_replaced_within_a_second", manager_dies),
    ("a_server_is_ready_when_all_are", all_ready),
    ("who_blocks_dies_with_its_manager", blocked_orphan),
    ("a_manager_that_gives_up_later_is_replaced_as_well", never_again),
    ("without_the_master_all_leave_and_clean_up", master_dies),
    ("the_end_of_the_process_group_is_one_stop", whole_group),
];

fn main() -> ExitCode {
    under_test::main(TESTS)
}

const TWO: &[(&str, &str)] = &[("workers", "2")];

/// Asks on a new connection each time until `done`; how often. Every question must be answered.
fn ask_until(server: &mut Running, mut done: impl FnMut(&mut Running) -> bool) -> BTreeSet<String> {
    let (mut pids, end) = (BTreeSet::new(), Instant::now() + under_test::PATIENCE);
    while !done(server) {
        let who = server.ask("who");
        pids.insert(who.split(' ').nth(1).unwrap_or_default().to_owned());
        assert!(Instant::now() < end, "not done after {} answers", pids.len());
    }
    pids
}

fn usr1() {
    let settings = [TWO, &[("task_workers", "1")]].concat();
    let mut server = Running::start(&settings, &["--user=idle"]);
    let before: BTreeSet<_> = children(server.manager()).into_iter().collect();
    assert_eq!(before.len(), 4);
    let user: i32 = server.told.next("user 3 ")["user 3 ".len()..].parse().unwrap();
    server.signal(Signal::USR1);
    ask_until(&mut server, |server| server.told.count("worker_stop ") == 3);
    server.log.next("reloaded: 3 renewed");
    let after: BTreeSet<_> = children(server.manager()).into_iter().collect();
    assert_eq!(before.intersection(&after).copied().collect::<Vec<_>>(), [user], "a user's process stays");
    // Again, and in the middle of it once more.
    server.signal(Signal::USR1);
    server.told.next("before_reload");
    server.signal(Signal::USR1);
    ask_until(&mut server, |server| server.told.count("worker_stop ") >= 6);
    until("it comes to rest", || children(server.manager()).len() == 4);
    assert_eq!(server.told.count("worker_error"), 0);
    server.stop();
}

fn one() {
    let mut server = Running::start(&[TWO, &[("task_workers", "1")]].concat(), &[]);
    let manager = server.manager();
    let all = || -> BTreeSet<_> { children(manager).into_iter().collect() };
    for by_signal in [true, false] {
        let (before, (mut client, old)) = (all(), server.client_of(usize::from(by_signal)));
        match by_signal {
            true => send(old.pid, Signal::USR1),
            false => assert_eq!(client.ask("renew"), "asked"),
        }
        server.told.next(&format!("worker_exit {} {}", old.worker, old.pid));
        // It is asked to leave when another one is ready, and is still there for those who are with it.
        assert_eq!(client.ask("echo still"), "still");
        let states = client.ask("states");
        assert!(
            ["Leaving", "Serving"].iter().all(|state| states.contains(&format!("{} {state}", old.worker))),
            "{states}"
        );
        drop(client);
        until("the old one has left", || is_gone(old.pid));
        let (after, gone) = (all(), BTreeSet::from([old.pid]));
        assert_eq!((&before - &after, after.len()), (gone, before.len()), "{before:?} {after:?}");
    }
    let answer = server.ask("wait 10000 pid");
    let task = answer.strip_prefix("ok: ").expect("a result");
    send(task.parse().expect("a pid"), Signal::USR1);
    server.told.next(&format!("worker_exit 2 {task}"));
    assert_eq!(server.told.count("worker_exit"), 3);
    assert_eq!(server.told.count("worker_error"), 0);
    server.stop();
}

fn max_request() {
    let settings = [TWO, &[("max_request", "20"), ("max_request_grace", "10")]].concat();
    let mut server = Running::start(&settings, &[]);
    let pids = ask_until(&mut server, |server| server.told.count("worker_stop ") >= 4);
    assert!(pids.len() >= 4, "{pids:?}");
    assert_eq!(server.told.count("worker_error"), 0);
    server.stop();
    // A connection that goes on asking is served by whoever leaves as long as it asks.
    let mut server = Running::start(&[("workers", "1"), ("max_request", "10")], &[]);
    let mut client = server.client();
    let pid = client.who().pid;
    server.told.next("worker_start 0");
    let mut asked = 0;
    while server.told.count("worker_exit ") == 0 || asked < 40 {
        assert_eq!(client.ask("echo more"), "more");
        asked += 1;
        assert!(asked < 100_000);
    }
    assert_eq!(client.who().pid, pid);
    assert_ne!(server.client().who().pid, pid);
    drop(client);
    server.told.next("worker_stop 0");
    server.stop();
}

fn killed_worker() {
    let mut server = Running::start(TWO, &[]);
    let (mut other, _) = server.client_of(0);
    let (mut client, who) = server.client_of(1);
    send(who.pid, Signal::KILL);
    assert!(client.is_over());
    let error = server.told.next("worker_error ");
    assert_eq!(error, format!("worker_error 1 {} None Some(9)", who.pid));
    let again = server.told.next("again 1 ");
    // At once, for it had been ready; but for the time that lies between any two forks of a place.
    assert!((0..=50).contains(&again["again 1 ".len()..].parse().unwrap()), "{again}");
    assert_eq!(other.ask("echo x"), "x", "the other's connections live on");
    let (mut next, again) = server.client_of(1);
    assert_ne!(again.pid, who.pid);
    assert_ne!(again.id, who.id, "names of connections are not used again");
    until("it is counted", || next.ask("stats").ends_with("crashes=1"));
    // An exit is a death too.
    next.say("exit 7");
    assert_eq!(server.told.next("worker_error "), format!("worker_error 1 {} Some(7) None", again.pid));
    assert!(server.log.next("left with status 7").contains("worker 1"));
    drop((client, other, next));
    server.stop();
}

fn user_processes() {
    let mut server =
        Running::start(TWO, &["--user=ends", "--user=errs", "--user=panics", "--user=panics early", "--user=idle"]);
    for id in [2, 3, 4] {
        until("it was started again", || server.told.count(&format!("user {id} ")) >= 3);
    }
    until("it was started again", || server.told.count("worker_start 5 ") >= 2);
    for why in ["errs: a user process", "panics: panicked: a user process", "panics early: panicked: before there is"] {
        until(why, || server.log.count(why) > 0);
    }
    assert_eq!(server.told.count("user 6 "), 1);
    assert_eq!(server.ask("echo x"), "x");
    server.signal(Signal::TERM);
    server.told.next("user 6 ends");
    assert_eq!(server.wait().code(), Some(0));
}

fn graceful() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Running::start(&[("workers", "2"), ("task_workers", "1")], &["--user=idle"]);
        let mut client = server.client();
        client.say("slow 250");
        server.told.next("slow");
        let mut task = server.client();
        task.say("wait 20000 sleep 200");
        server.told.next("asleep");
        server.signal(signal);
        server.told.next("before_shutdown");
        assert_eq!(client.line(), "waited");
        assert_eq!(task.line(), "ok: slept");
        drop((client, task));
        assert_eq!(server.wait().code(), Some(0));
        let told = server.told.until_the_end();
        let count = |part: &str| told.iter().filter(|line| line.starts_with(part)).count();
        assert_eq!((count("worker_exit "), count("worker_stop "), count("worker_error ")), (4, 4, 0), "{told:#?}");
        assert_eq!(told.last().map(String::as_str), Some("shutdown"));
        assert_eq!((count("manager_stop"), count("shutdown")), (1, 1));
        assert!(server.log.until_the_end().last().unwrap().ends_with("stopped"));
        assert!(server.try_client().is_err(), "nobody listens");
        assert!(members(server.pid()).is_empty());
    }
}

fn quit() {
    let mut server = Running::start(TWO, &["--user=idle"]);
    let mut client = server.client();
    client.say("slow 60000");
    server.told.next("slow");
    let began = Instant::now();
    server.signal(Signal::QUIT);
    assert_eq!(server.wait().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(client.is_over());
    assert_eq!(server.told.count("worker_stop"), 0);
    assert!(members(server.pid()).is_empty());
}

fn second_term() {
    let folder = Scratch::new();
    let pid_file = folder.text("pid");
    let settings = [TWO, &[("stop_grace", "1h"), ("pid_file", &pid_file)]].concat();
    let mut server = Running::start(&settings, &["--user=idle"]);
    let mut client = server.client();
    client.say("slow 60000");
    server.told.next("slow");
    server.signal(Signal::TERM);
    server.told.next("before_shutdown");
    // Those that come close together are taken for one, and those that come when all is over kill it.
    until("it has left", || {
        server.signal(Signal::TERM);
        (0..150).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            server.child.try_wait().unwrap().is_some()
        })
    });
    assert_eq!(server.wait().code(), Some(0));
    assert!(client.is_over() && members(server.pid()).is_empty() && !exists(&folder.path("pid")));
}

fn exiting() {
    let mut server = Running::start(&[("workers", "1")], &[]);
    let mut client = server.client();
    client.say("untilexit");
    server.told.next("waiting for the end");
    server.signal(Signal::TERM);
    assert_eq!(client.line(), "exiting");
    server.told.next("exiting true");
    drop(client);
    assert_eq!(server.wait().code(), Some(0));
}

fn held() {
    let mut server = Running::start(&[("workers", "1"), ("stop_grace", "300ms")], &[]);
    let mut client = server.client();
    client.say("slow 60000");
    server.told.next("slow");
    let began = Instant::now();
    server.signal(Signal::TERM);
    let line = server.log.next("still here, 0.3 s after it was asked to leave");
    assert!(line.contains("1 connections open") && line.contains("of 127.0.0.1:"), "{line}");
    let line = server.log.next("did not leave in time");
    assert!(line.contains("worker 0"), "{line}");
    assert_eq!(server.wait().code(), Some(0));
    let took = began.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert!(client.is_over());
}

fn blocked() {
    let mut server = Running::start(&[("workers", "1"), ("stop_grace", "200ms")], &[]);
    let mut client = server.client();
    client.say("block 60000");
    server.told.next("blocking");
    server.signal(Signal::TERM);
    let line = server.log.next("did not leave in time");
    // It says nothing itself; the board does.
    assert!(line.contains("worker 0") && line.contains("1 connection"), "{line}");
    assert_eq!(server.wait().code(), Some(0));
}

/// A reload has its own, longer or shorter than that of a stop; and a stop that comes in the middle of one has no more patience than any other.
fn graces() {
    let mut server = Running::start(&[("workers", "1"), ("reload_grace", "20s"), ("stop_grace", "200ms")], &[]);
    let (mut client, mut forgotten) = (server.client(), server.client());
    assert_eq!(client.ask("pause 350"), "paused");
    assert_eq!(forgotten.ask("pause 60000"), "paused");
    client.say("echo in time");
    server.signal(Signal::USR1);
    server.told.next("worker_exit 0 ");
    assert_eq!(client.line(), "in time", "longer than a stop would have waited");
    server.signal(Signal::TERM);
    let line = server.log.next("still here, ");
    assert!(line.contains("1 connections open ("), "{line}");
    assert!(forgotten.is_over());
    drop((client, forgotten));
    assert_eq!(server.wait().code(), Some(0));

    let mut server = Running::start(&[("workers", "1"), ("reload_grace", "100ms"), ("stop_grace", "20s")], &[]);
    let (mut client, who) = server.client_of(0);
    client.say("block 60000");
    server.told.next("blocking");
    server.signal(Signal::USR1);
    let line = server.log.next("did not leave in time");
    assert!(line.contains(&format!("worker 0 (pid {})", who.pid)), "{line}");
    assert!(client.is_over());
    assert_eq!(server.ask("echo next"), "next");
    let mut client = server.client();
    client.say("slow 300");
    server.told.next("slow");
    server.signal(Signal::TERM);
    assert_eq!(client.line(), "waited", "longer than a reload would have waited");
    drop(client);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(server.log.count("still here"), 0);
}

/// A server that is told to stop while a task runs that does not end; and the task's id.
fn stopped_at_a_task(arguments: &[&str], task: &str, begun: &str) -> (Running, String) {
    let settings = [("workers", "1"), ("task_workers", "1"), ("stop_grace", "200ms")];
    let mut server = Running::start(&settings, arguments);
    let mut client = server.client();
    let id = client.ask(task);
    let id = id.strip_prefix("ok: ").expect("an id").to_owned();
    server.told.next(begun);
    drop(client);
    server.signal(Signal::TERM);
    (server, id)
}

fn held_by_tasks() {
    let (mut server, id) = stopped_at_a_task(&[], "task sleep 60000", "asleep ");
    let log: Vec<_> = {
        assert_eq!(server.wait().code(), Some(0));
        server.log.until_the_end().to_vec()
    };
    let line = |part: &str| log.iter().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {log:#?}"));
    // The worker says it itself; the task worker blocks, so the manager says it.
    let said = line("still here, 0.2 s after it was asked to leave: ");
    assert!(said.contains("worker 0[") && said.contains(&format!("1 tasks without an answer ({id} for ")), "{said}");
    let said = line("did not leave in time, 0 connections open, 1 calls of the handler under way, the newest for ");
    assert!(said.contains("] task worker 0 (pid "), "{said}");
    assert!(said.contains(&format!("of which one runs task {id}: killing it")), "{said}");

    let (mut server, id) = stopped_at_a_task(&["--async-tasks"], "task await ever", "awaiting ever ");
    until("the task worker itself says it", || server.log.count(&format!("1 task that it runs ({id})")) == 1);
    assert_eq!(server.wait().code(), Some(0));
}

fn figures() {
    let mut server = Running::start(&[("workers", "2"), ("task_workers", "1")], &["--user=idle"]);
    let (mut first, who) = server.client_of(0);
    let (second, other) = server.client_of(1);
    (0..3).for_each(|at| assert_eq!(first.ask(&format!("wait 20000 double {at}")), format!("ok: {}", 2 * at)));
    let json = |client: &mut under_test::client::Client| -> serde_json::Value {
        serde_json::from_str(&client.ask("json")).expect("JSON")
    };
    let mut stats = json(&mut first);
    // A task is counted when it has ended, which its answer may overtake.
    until("all tasks are counted", || {
        stats = json(&mut first);
        stats["tasks"] == 3
    });
    let all = stats["processes"].as_array().expect("processes").clone();
    assert_eq!(all.iter().map(|one| one["id"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(all.iter().all(|one| one["state"] == "serving"), "{all:?}");
    assert_eq!((&all[0]["pid"], &all[1]["pid"]), (&who.pid.into(), &other.pid.into()));
    // The call that asks is under way itself.
    assert!(all[0]["busy"] == 1 && all[0]["busy_for"].is_object(), "{stats}");
    assert!(all[1]["busy"] == 0 && all[1]["busy_for"].is_null(), "{stats}");
    let sum = |key: &str| all.iter().map(|one| one[key].as_u64().unwrap()).sum::<u64>();
    for key in ["connections", "requests", "accepted", "tasks"] {
        assert_eq!(sum(key), stats[key].as_u64().unwrap(), "{key}: {stats}");
    }
    assert!(all[2]["tasks"] == 3 && all[0]["requests"].as_u64() > Some(4) && all[1]["accepted"] != 0, "{stats}");
    assert_eq!(stats["starts"], 4);
    assert_eq!((&stats["crashes"], &stats["reloads"]), (&0.into(), &0.into()));
    let ledger = &stats["ledger"];
    assert_eq!((&ledger["accepted"], &ledger["finished"], &ledger["lost"]), (&3.into(), &3.into(), &0.into()));
    // What its dead lives have counted counts on in a place.
    let before = all[1]["requests"].as_u64().unwrap();
    send(other.pid, Signal::KILL);
    server.told.next("worker_error ");
    let (mut second_again, _) = server.client_of(1);
    let stats = json(&mut second_again);
    let one = &stats["processes"][1];
    assert!(one["requests"].as_u64().unwrap() >= before + 2 && one["state"] == "serving", "{stats}");
    assert_eq!((&stats["starts"], &stats["crashes"]), (&5.into(), &1.into()));
    server.signal(Signal::USR1);
    server.told.next("after_reload");
    until("it is counted", || json(&mut server.client())["reloads"] == 1);
    drop((first, second, second_again));
    server.stop();
}

fn paused() {
    // Idle connections are closed after a twelfth of the shorter grace, all after nine tenths of the one that counts.
    let mut server = Running::start(&[("workers", "1"), ("reload_grace", "20s"), ("stop_grace", "1200ms")], &[]);
    let mut client = server.client();
    assert_eq!(client.ask("pause 450"), "paused");
    client.say("echo in time");
    server.signal(Signal::USR1);
    server.told.next("worker_exit 0 ");
    assert_eq!(client.line(), "in time", "what was sent while it was paused is not lost");
    assert!(client.is_closed(), "from then on it is as any other");
    drop(client);
    server.told.next("worker_stop 0 ");
    assert_eq!(server.log.count("still here"), 0);
    // One that nobody resumes.
    let mut client = server.client();
    assert_eq!(client.ask("pause 60000"), "paused");
    client.say("echo too late");
    let began = Instant::now();
    server.signal(Signal::TERM);
    let line = server.log.next("still here, 1.1 s after it was asked to leave");
    assert!(line.contains("1 connections open"), "{line}");
    assert!(client.is_over() && began.elapsed() >= Duration::from_millis(1050), "{:?}", began.elapsed());
    drop(client);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!((server.told.count("too late"), server.log.count("killing it")), (0, 0), "it has closed that itself");
}

fn bad_reload() {
    let mut server = Running::start(&[("workers", "1")], &["--fault=error:second_start"]);
    let pid = server.client().who().pid;
    server.signal(Signal::USR1);
    let line = server.log.next("keeps its process");
    assert!(line.contains("worker 0") && line.contains("successors in a row"), "{line}");
    server.told.next("after_reload");
    assert_eq!(server.client().who().pid, pid);
    server.stop();
}

/// In how long somebody answers who was not there before.
fn answers_again(server: &Running, old: &[i32]) -> Duration {
    let from = Instant::now();
    until("somebody new answers", || {
        let answer = server.try_ask("who").unwrap_or_default();
        answer.split(' ').nth(1).and_then(|pid| pid.parse().ok()).is_some_and(|pid| !old.contains(&pid))
    });
    from.elapsed()
}

fn manager_dies() {
    let mut server = Running::start(&[("workers", "2"), ("task_workers", "1")], &["--user=idle"]);
    let mut client = server.client();
    assert_eq!(client.ask("shared 5"), "5");
    // So that the next lives do not come to have the lines of those that are killed by chance.
    server.signal(Signal::USR1);
    server.log.next("reloaded: 3 renewed");
    for _ in 0..3 {
        let manager = server.manager();
        let old = children(manager);
        send(manager, Signal::KILL);
        let took = answers_again(&server, &old);
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert!(old.iter().all(|pid| is_gone(*pid)), "nobody of the old ones is left");
        server.log.next("starting another");
        server.told.next("manager_start ");
    }
    assert!(client.is_over());
    let mut client = server.client();
    assert_eq!(client.ask("shared 1"), "6", "what is shared is still there");
    assert_eq!(client.ask("wait 20000 double 4"), "ok: 8");
    until("those are shown who are there", || client.ask("states") == "0 Serving, 1 Serving, 2 Serving, 3 Serving");
    assert_eq!(server.told.count("all are ready"), 1);
    drop(client);
    server.stop();
}

/// One that neither waits nor asks, and has become somebody else since it was told to die with its manager.
fn blocked_orphan() {
    let root = rustix::process::geteuid().is_root();
    let settings = [("workers", "1"), ("user", "nobody")];
    let mut server = Running::start(if root { &settings } else { &settings[..1] }, &[]);
    let mut client = server.client();
    let pid = client.who().pid;
    client.say("block 60000");
    server.told.next("blocking");
    send(server.manager(), Signal::KILL);
    until("it is gone all the same", || is_gone(pid));
    server.log.next("starting another");
    drop(client);
    server.stop();
}

/// Who is first waits for the others, though one of them takes long.
fn all_ready() {
    let mut server = Running::start(&[("workers", "2"), ("task_workers", "1")], &["--fault=slow:second_start"]);
    server.told.next("all are ready");
    let all = server.told.all();
    let ready = all.iter().position(|line| line == "all are ready").expect("just now");
    assert_eq!(all[..ready].iter().filter(|line| line.starts_with("worker_start ")).count(), 3, "{all:?}");
    server.stop();
}

/// What has been ready once can be again, however often nobody was since.
fn never_again() {
    let mut server = Running::start(&[("workers", "1")], &["--fault=error:second_start"]);
    send(server.manager(), Signal::KILL);
    // The one that was killed, and the one after it, which has given up.
    (0..2).for_each(|_| drop(server.log.next("starting another")));
    server.signal(Signal::QUIT);
    assert_eq!(server.wait().code(), Some(0));
}

fn master_dies() {
    let folder = Scratch::new();
    let (pid_file, socket) = (folder.path("pid"), folder.path("socket"));
    for busy in [false, true] {
        let listen = format!("--listen=unix://{}", socket.display());
        let settings = [TWO, &[("task_workers", "1"), ("pid_file", pid_file.to_str().unwrap())]].concat();
        let mut server = Running::by(&mut command(&settings, &["--listen=tcp://127.0.0.1:0", &listen, "--user=idle"]));
        server.wait_ready();
        assert!(exists(&pid_file) && exists(&socket));
        let mut client = server.client();
        if busy {
            client.say("slow 300");
            server.told.next("slow");
        }
        let began = Instant::now();
        send(server.pid(), Signal::KILL);
        if busy {
            assert_eq!(client.line(), "waited", "what is under way is finished");
        }
        drop(client);
        until("all have left", || members(server.pid()).is_empty());
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(!exists(&pid_file), "the pid file is gone");
        assert!(!exists(&socket), "the socket is gone");
        server.log.next("the master is gone");
    }
}

fn whole_group() {
    let mut server = Running::start(TWO, &["--user=idle"]);
    rustix::process::kill_process_group(under_test::pid(server.pid()), Signal::TERM).unwrap();
    assert_eq!(server.wait().code(), Some(0));
    let told = server.told.until_the_end();
    let count = |part: &str| told.iter().filter(|line| line.starts_with(part)).count();
    assert_eq!((count("worker_stop "), count("worker_error ")), (3, 0), "{told:#?}");
}
