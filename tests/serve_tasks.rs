//! Tasks: submitted, waited for, tried again when a task worker dies, lost after so many deaths, failed; and their workers' lives.

#[path = "under_test/mod.rs"]
mod under_test;

use std::process::ExitCode;

use rustix::process::Signal;
use under_test::{Running, Test, send, until};

const TESTS: &[Test] = &[
    ("tasks_are_done_and_their_results_come_back", results),
    ("tasks_that_fail_say_why", failures),
    ("a_task_whose_worker_dies_is_tried_again_and_then_lost", deaths),
    ("a_task_worker_killed_in_the_middle_costs_time_only", killed),
    ("large_tasks_and_large_results", large),
    ("a_full_queue_says_so_or_has_one_wait", full),
    ("task_workers_are_renewed_alone_and_lose_nothing", renewed),
    ("task_workers_are_renewed_after_task_max_request", worn),
    ("without_task_workers_there_are_no_tasks", none),
    ("who_leaves_waits_for_its_answers", leaving),
    ("a_task_worker_hears_that_it_is_asked_to_leave_also_between_two_of_many_tasks", busy),
    ("asynchronous_tasks_let_others_run_and_lose_nothing", asynchronous),
    ("a_worker_s_handle_works_on_its_thread_and_refuses_elsewhere", by_handle),
];

fn main() -> ExitCode {
    under_test::main(TESTS)
}

const ONE: &[(&str, &str)] = &[("workers", "1"), ("task_workers", "1")];

fn results() {
    let mut server = Running::start(ONE, &[]);
    let mut client = server.client();
    let id = client.ask("task double 21");
    let id = id.strip_prefix("ok: ").expect("an id");
    assert_eq!(server.told.next("finish "), format!("finish {id} ok: 42"));
    assert!(client.ask("trytask double 4").starts_with("ok: "));
    server.told.next("ok: 8");
    assert_eq!(client.ask("wait 5000 double 5"), "ok: 10");
    let all = client.ask("all 5000 double 1,double 2,error,double 3");
    let parts: Vec<_> = all.split(" | ").collect();
    assert_eq!((parts[0], parts[1], parts[3]), ("ok: 2", "ok: 4", "ok: 6"));
    assert!(parts[2].contains("failed: a task: as it should"), "{all}");
    assert_eq!(client.ask("wait 5000"), "ok:", "an empty one");
    until("all are counted", || client.ask("stats").contains(" tasks=8 "));
    assert_eq!(server.told.count("finish "), 2, "those that are waited for are told to who waits, and not to finish");
    drop(client);
    server.stop();
}

fn failures() {
    let mut server = Running::start(ONE, &[]);
    let mut client = server.client();
    assert!(client.ask("wait 5000 error").ends_with("failed: a task: as it should"));
    server.log.next("a task: as it should");
    assert!(client.ask("wait 5000 panic").ends_with("failed: panicked: in a task"));
    let pid = client.ask("wait 5000 pid");
    assert!(client.ask("task panic").starts_with("ok"));
    assert!(server.told.next("finish ").ends_with("panicked: in a task"));
    assert_eq!(client.ask("wait 5000 pid"), pid, "the same process after all that");
    assert_eq!(client.ask("wait 30 sleep 150"), "error: timed out after 30ms");
    assert_eq!(client.ask("wait 5000 double 2"), "ok: 4", "the late answer is nobody's");
    drop(client);
    server.stop();
}

fn deaths() {
    let settings = [ONE, &[("task_attempts", "3")]].concat();
    let mut server = Running::start(&settings, &[]);
    let mut client = server.client();
    assert_eq!(client.ask("wait 20000 die 2"), "ok: done at try 3");
    let lost = client.ask("wait 20000 die 6");
    assert!(lost.contains("is lost: it was tried 3 times"), "{lost}");
    // What was told comes by another way than the answers, and perhaps later.
    until("each try was told", || server.told.count("dying ") == 6);
    assert!(client.ask("task die 9").starts_with("ok"));
    let finish = server.told.next("finish ");
    assert!(finish.contains("is lost: it was tried 3 times"), "{finish}");
    until("each death was told", || server.told.count("worker_error 1 ") == 8);
    assert_eq!(client.ask("wait 20000 double 1"), "ok: 2");
    drop(client);
    server.stop();
}

fn killed() {
    let mut server = Running::start(&[("workers", "1"), ("task_workers", "2")], &[]);
    let mut client = server.client();
    client.say("wait 20000 sleep 300");
    let asleep = server.told.next("asleep ");
    send(asleep["asleep ".len()..].parse().unwrap(), Signal::KILL);
    assert_eq!(client.line(), "ok: slept");
    assert_eq!(server.told.count("asleep "), 2);
    drop(client);
    server.stop();
}

fn large() {
    let server = Running::start(ONE, &[]);
    let mut client = server.client();
    for len in [1, 2000, 65_536, 1 << 20, (4 << 20) + 3] {
        assert_eq!(client.ask(&format!("large {len}")), format!("ok: {len} true"));
    }
    drop(client);
    server.stop();
}

fn full() {
    // Room for 32 tasks.
    let settings = [ONE, &[("task_queue_bytes", "64K")]].concat();
    let mut server = Running::start(&settings, &[]);
    let mut client = server.client();
    assert!(client.ask("task sleep 300").starts_with("ok"));
    server.told.next("asleep ");
    let full = (0..100).find(|at| client.ask(&format!("trytask double {at}")).contains("error: full"));
    let full = full.expect("room for a hundred");
    assert!((15..=32).contains(&full), "{full}");
    // Waits for room, and is done like all others.
    assert!(client.ask("task double 500").starts_with("ok"));
    server.told.next("ok: 1000");
    assert_eq!(server.told.count("finish "), full + 2);
    drop(client);
    server.stop();
}

fn renewed() {
    let mut server = Running::start(&[("workers", "1"), ("task_workers", "2")], &[]);
    let worker = server.client().who().pid;
    let mut client = server.client();
    for round in 0..3 {
        client.say(&format!("all 20000 {}", vec!["double 7"; 200].join(",")));
        server.signal(Signal::USR2);
        assert_eq!(client.line(), vec!["ok: 14"; 200].join(" | "));
        server.told.next("after_reload");
        until("both have left", || server.told.count("worker_stop ") >= 2 * (round + 1));
    }
    assert_eq!(server.told.count("worker_stop "), 6);
    assert_eq!(client.who().pid, worker, "no worker was renewed");
    drop(client);
    server.stop();
}

fn worn() {
    let settings = [ONE, &[("task_max_request", "5"), ("task_max_request_grace", "0")]].concat();
    let mut server = Running::start(&settings, &[]);
    let mut client = server.client();
    let mut at = 0;
    until("it was renewed, twice", || {
        assert_eq!(client.ask(&format!("wait 20000 double {at}")), format!("ok: {}", 2 * at));
        at += 1;
        server.told.count("worker_stop 1 ") >= 2
    });
    assert_eq!(server.told.count("worker_error"), 0);
    drop(client);
    server.stop();
}

fn none() {
    let server = Running::start(&[("workers", "1")], &[]);
    let mut client = server.client();
    for command in ["task x", "trytask x", "wait 100 x"] {
        assert_eq!(client.ask(command), "error: there are no task workers; the setting task_workers says how many");
    }
    drop(client);
    server.stop();
}

fn leaving() {
    let mut server = Running::start(ONE, &[]);
    let mut client = server.client();
    assert!(client.ask("task sleep 200").starts_with("ok"));
    server.told.next("asleep ");
    drop(client);
    server.signal(Signal::USR1);
    // Before that it might be the old one that is asked, which would hold it as well.
    server.told.next("worker_exit 0 ");
    let mut client = server.client();
    assert_eq!(client.ask("wait 20000 double 2"), "ok: 4");
    assert!(server.told.next("finish ").ends_with("ok: slept"), "the old worker hears of it before it goes");
    server.told.next("worker_stop 0 ");
    assert_eq!(server.told.count("after_reload"), 1);
    drop(client);
    server.stop();
}

fn busy() {
    let mut server = Running::start(ONE, &[]);
    let mut client = server.client();
    let pid: i32 = client.ask("wait 5000 pid")["ok: ".len()..].parse().unwrap();
    client.say(&format!("all 20000 {}", vec!["sleep 5"; 100].join(",")));
    server.told.next("asleep ");
    send(pid, Signal::TERM);
    server.told.next(&format!("worker_exit 1 {pid}"));
    let before = server.told.count("asleep ");
    assert!(before < 50, "after {before} of 100");
    assert_eq!(client.line(), vec!["ok: slept"; 100].join(" | "));
    drop(client);
    server.stop();
}

fn asynchronous() {
    let mut server = Running::start(ONE, &["--async-tasks"]);
    let (mut client, mut other) = (server.client(), server.client());
    // It ends when its own process, which a plain task would have to itself, has received a message.
    client.say("wait 20000 await message");
    server.told.next("awaiting message ");
    assert_eq!(other.ask("say 1 shared x"), "ok: sent");
    assert_eq!(client.line(), "ok: message awaited");
    assert_eq!(client.ask("wait 5000 double 4"), "ok: 8", "plain ones as well");
    for (task, why) in [("error", "failed: a task: as it should"), ("panic", "failed: panicked: in a task")] {
        assert!(client.ask(&format!("wait 5000 {task}")).ends_with(why));
    }
    // Renewed in the middle of one: it is finished first. Killed in the middle of one: it is tried again.
    client.say("wait 20000 await exit");
    server.told.next("awaiting exit ");
    server.signal(Signal::USR2);
    assert_eq!(client.line(), "ok: exit awaited");
    server.told.next("worker_stop 1 ");
    client.say("wait 20000 await death");
    let awaiting = server.told.next("awaiting death ");
    send(awaiting["awaiting death ".len()..].parse().unwrap(), Signal::KILL);
    assert_eq!(client.line(), "ok: death awaited");
    until("both tries were told", || server.told.count("awaiting death ") == 2);
    drop((client, other));
    server.stop();
}

fn by_handle() {
    let mut server = Running::start(ONE, &[]);
    let mut client = server.client();
    let answer = client.ask("handle");
    let (done, why) = answer.split_once("; ").expect("two parts");
    assert_eq!(done, "thread true, child true, here 42 2 true");
    assert!(why.starts_with("task belongs to the worker's own thread, and the caller (pid "), "{why}");
    server.told.next("message 0 0 by its handle ");
    assert_eq!(server.told.count("from elsewhere"), 0, "nothing of it was sent");
    assert_eq!(client.ask("wait 5000 double 2"), "ok: 4", "nothing is broken");
    until("no other task was submitted", || client.ask("stats").contains(" tasks=4 "));
    drop(client);
    server.stop();
}
