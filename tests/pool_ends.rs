//! `Pool` with real processes: renewed, stopped, and without a manager.

mod managed;
mod single;

use commons::process::{Context, Pool, Privileges};
use commons::{AtomicLong, Error};
use managed::{line, manage, numbers, own_pid, say};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};
use single::{PATIENCE, ends_well, is_gone, pid, until};
use std::time::Duration;

const TESTS: &[single::Test] = &[
    ("a_reload_renews_all_and_capacity_never_falls", reload),
    ("a_worker_may_ask_for_a_reload", asked_from_within),
    ("term_ends_all_and_who_does_not_leave_is_killed", stop),
    ("workers_die_with_their_manager", manager_killed),
    ("who_is_stopped_in_a_mailbox_is_no_error_to_who_tries", stopped),
];

fn main() -> std::process::ExitCode {
    single::run(TESTS)
}

/// Serves until it is asked to leave; says how many serve when it has left.
fn serve(cx: &Context, serving: &AtomicLong, pids: &[AtomicLong]) -> commons::Result<i64> {
    serving.add(1);
    pids[cx.id()].set(own_pid());
    while cx.recv()?.is_some() {}
    assert!(cx.exiting() && !cx.sleep(PATIENCE)?, "it stays so");
    Ok(serving.sub(1))
}

fn reload() {
    let (serving, least, pids) = (AtomicLong::new(0).unwrap(), AtomicLong::new(99).unwrap(), numbers(3));
    let stopping = AtomicLong::new(0).unwrap();
    let manager = manage(|link| {
        Pool::new(3).log(|text| say(link, text)).run(|cx| {
            let left = serve(cx, &serving, &pids)?;
            if stopping.get() == 0 {
                least.set(least.get().min(left));
            } else if cx.id() == 0 {
                let stats = cx.stats();
                let own = i64::from(stats.workers[0].pid) == own_pid();
                say(link, &format!("stats: {} reloads, generation {}, own pid {own}", stats.reloads, cx.generation()));
            }
            Ok(())
        })
    });
    until("all serve", || serving.get() == 3);
    for signal in [10, 12, 1] {
        let before: Vec<i64> = pids.iter().map(AtomicLong::get).collect();
        manager.kill(signal).unwrap();
        assert_eq!(line(&manager, "reloaded"), "reloaded: 3 renewed");
        assert!(pids.iter().zip(&before).all(|(now, before)| now.get() != *before), "all are new");
        until("the old ones are gone", || before.iter().all(|pid| is_gone(*pid)));
    }
    assert_eq!(least.get(), 3, "whoever left, three served");
    stopping.set(1);
    manager.kill(15).unwrap();
    assert_eq!(line(&manager, "stats"), "stats: 3 reloads, generation 4, own pid true");
    ends_well(manager);
}

fn asked_from_within() {
    let manager = manage(|link| {
        Pool::new(2).log(|text| say(link, text)).run(|cx| {
            // Before it is ready, and so before the end of the reload.
            if (cx.id(), cx.generation()) == (0, 2) {
                say(link, &format!("stats: {} starts", cx.stats().workers[0].starts));
            }
            cx.ready();
            if (cx.id(), cx.generation()) == (0, 1) {
                cx.reload()?;
            }
            while cx.recv()?.is_some() {}
            Ok(())
        })
    });
    assert_eq!(line(&manager, "stats"), "stats: 2 starts");
    assert_eq!(line(&manager, "reloaded"), "reloaded: 2 renewed", "the other one too");
    manager.kill(15).unwrap();
    ends_well(manager);
}

fn stop() {
    let pids = numbers(4);
    let manager = manage(|link| {
        let pool = Pool::new(4).mailbox(1024).grace(Duration::from_millis(100)).log(|text| say(link, text));
        pool.run(|cx| {
            pids[cx.id()].set(own_pid());
            cx.ready();
            if cx.id() == 0 {
                // It never runs out of messages, and leaves all the same.
                cx.send(0, b"again")?;
                while let Some(message) = cx.recv()? {
                    cx.send(0, &message.bytes)?;
                }
                assert!(cx.try_recv()?.is_some_and(|message| message.from == 0));
                return Ok(());
            }
            if cx.id() == 1 {
                assert!(cx.recv()?.is_none(), "nobody sends anything");
                return Ok(());
            }
            if cx.id() == 2 {
                let refused = (0..100).find_map(|_| cx.send(2, &[0; 100]).err());
                assert!(matches!(refused, Some(commons::Error::Full { capacity: 1024 })), "{refused:?}");
                return Ok(());
            }
            loop {
                std::thread::sleep(PATIENCE);
            }
        })
    });
    until("all have begun", || pids.iter().all(|pid| pid.get() != 0));
    manager.kill(15).unwrap();
    assert_eq!(line(&manager, "stopping"), "stopping");
    // And nothing of the others.
    let wanted = format!("worker 3 (pid {}) did not leave in time, 0 messages wait for it: killing it", pids[3].get());
    assert_eq!(line(&manager, "worker"), wanted);
    ends_well(manager);
    assert!(pids.iter().all(|pid| is_gone(pid.get())));
}

/// A grandchild that has become ours; killed and reaped when the test fails.
struct Orphan(Pid);

impl Drop for Orphan {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = kill_process(self.0, Signal::KILL);
            let _ = waitpid(Some(self.0), WaitOptions::empty());
        }
    }
}

fn manager_killed() {
    set_child_subreaper(Some(getpid())).unwrap();
    let root = rustix::process::geteuid().is_root();
    let pids = numbers(2);
    let manager = manage(|_| {
        let pool = Pool::new(2);
        let pool = if root { pool.privileges(Privileges::new().user("nobody")) } else { pool };
        pool.run(|cx| {
            pids[cx.id()].set(own_pid());
            // One that neither asks nor waits dies as well.
            while cx.id() == 1 || cx.recv()?.is_some() {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        })
    });
    until("both have begun", || pids.iter().all(|pid| pid.get() != 0));
    drop(manager);
    let end = |of: &AtomicLong| {
        let _orphan = Orphan(pid(of.get()));
        let mut status = None;
        until("an orphan ends", || {
            status = waitpid(Some(pid(of.get())), WaitOptions::NOHANG).unwrap();
            status.is_some()
        });
        status.unwrap().1
    };
    // The end of the lifeline comes a little before the signal: who waits may leave by it.
    let (waits, works) = (end(&pids[0]), end(&pids[1]));
    assert!(waits.terminating_signal() == Some(9) || waits.exit_status() == Some(0), "{waits:?}");
    assert_eq!(works.terminating_signal(), Some(9));
    set_child_subreaper(None).unwrap();
}

fn stopped() {
    let manager = manage(|link| {
        Pool::new(2).run(|cx| {
            if cx.id() == 0 {
                // Mostly it is in the middle of its own mailbox.
                while !cx.exiting() {
                    for _ in 0..100 {
                        let _ = (cx.try_send(0, b"mine"), cx.try_recv());
                    }
                }
                return Ok(());
            }
            until("it works", || cx.stats().workers[0].received > 1000);
            let pid = Pid::from_raw(cx.stats().workers[0].pid.cast_signed()).expect("it lives");
            let tried: Vec<_> = (0..300)
                .map(|_| {
                    kill_process(pid, Signal::STOP).unwrap();
                    let tried = cx.try_send(0, b"yours");
                    kill_process(pid, Signal::CONT).unwrap();
                    tried
                })
                .collect();
            let other = tried.iter().find(|tried| !matches!(tried, Ok(()) | Err(Error::Full { .. })));
            say(link, &format!("tried: {other:?}, {}", tried.iter().filter(|tried| tried.is_err()).count()));
            cx.shutdown()?;
            while cx.recv()?.is_some() {}
            Ok(())
        })
    });
    assert!(line(&manager, "tried").starts_with("tried: None"));
    ends_well(manager);
}
