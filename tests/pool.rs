//! `Pool` with real processes: replaced, given up; and messages from any to any.

mod managed;
mod single;

use commons::process::{Context, Cpus, Exit, Pool, Privileges, Process};
use commons::{AtomicLong, Channel, Error, Lock};
use managed::{line, manage, numbers, own_pid, say, stop_well};
use rustix::process::{Signal, WaitId, WaitIdOptions, getpid, kill_process, waitid};
use single::{PATIENCE, ends_well, is_gone, pid, until};
use std::fs;
use std::time::Duration;

const TESTS: &[single::Test] = &[
    ("workers_that_are_killed_are_replaced", killed),
    ("messages_from_any_to_any_arrive_in_order", messages),
    ("what_waits_in_a_mailbox_outlives_its_worker", mailbox),
    ("a_worker_that_returns_is_replaced", returns),
    ("a_crash_loop_gives_up_and_says_why", crash_loop),
    ("one_bad_place_does_not_end_the_others", bad_place),
    ("what_one_said_before_it_died_decides_how_its_death_is_judged", last_word),
    ("who_died_when_the_stop_came_is_not_replaced", died_with_the_stop),
    ("a_worker_is_who_and_where_it_was_told_to_be", told_to_be),
    ("a_worker_may_have_a_process_but_makes_no_structures", inside),
    ("what_is_out_of_range_is_refused", refused),
];

fn main() -> std::process::ExitCode {
    single::run(TESTS)
}

fn killed() {
    let (pids, starts, lock) = (numbers(4), AtomicLong::new(0).unwrap(), Lock::new().unwrap());
    // What each received last: of which life of the one before it, and which of its messages.
    let last = numbers(4);
    let manager = manage(|link| {
        Pool::new(4).run(|cx| {
            starts.add(1);
            pids[cx.id()].set(own_pid());
            let mut n = i64::from(cx.generation()) << 32;
            while cx.sleep(Duration::ZERO)? {
                // Killed holding it as often as not; who comes next gets it.
                let _guard = lock.lock()?;
                n += i64::from(cx.try_send((cx.id() + 1) % 4, &n.to_ne_bytes()).is_ok());
                if let Some(message) = cx.try_recv()? {
                    let n = i64::from_ne_bytes(message.bytes.try_into().expect("a number"));
                    let before = last[cx.id()].get();
                    last[cx.id()].set(n);
                    // A panic here is a crash too many.
                    assert!(message.from == (cx.id() + 3) % 4 && n > before, "{before} and then {n}");
                }
            }
            if cx.id() == 0 {
                let stats = cx.stats();
                say(link, &format!("{:?}", stats.workers.iter().map(|w| (w.starts, w.crashes)).collect::<Vec<_>>()));
            }
            Ok(())
        })
    });
    until("all have begun", || pids.iter().all(|pid| pid.get() != 0));
    let mut kills = [0_u64; 4];
    let mut seed = 0x9e37_79b9_u64;
    for _ in 0..16 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let id = (seed >> 60) as usize % 4;
        let victim = pids[id].get();
        let generation = starts.get();
        kill_process(pid(victim), Signal::KILL).unwrap();
        until("it is replaced", || pids[id].get() != victim && starts.get() > generation);
        kills[id] += 1;
    }
    let all: Vec<i64> = pids.iter().map(AtomicLong::get).collect();
    assert_eq!(starts.get(), 4 + 16);
    manager.kill(15).unwrap();
    let wanted: Vec<_> = kills.iter().map(|kills| (kills + 1, *kills)).collect();
    assert_eq!(line(&manager, "["), format!("{wanted:?}"));
    ends_well(manager);
    assert!(all.into_iter().all(is_gone), "nobody is left");
    assert!(last.iter().all(|last| last.get() > 0), "all have heard from the one before them");
}

fn messages() {
    const EACH: u32 = 300;
    const WORKERS: usize = 4;
    let done = AtomicLong::new(0).unwrap();
    let manager = manage(|link| {
        // Mailboxes far smaller than what is sent.
        Pool::new(WORKERS).mailbox(2048).max_message(300).run(|cx| {
            let (mut sent, mut received) = ([0; WORKERS], [0; WORKERS]);
            while received != [EACH; WORKERS] || sent != [EACH; WORKERS] {
                for (to, next) in sent.iter_mut().enumerate() {
                    let n = *next;
                    let message = [&n.to_ne_bytes()[..], &vec![n as u8; n as usize % 200]].concat();
                    if n < EACH && cx.try_send(to, &message).is_ok() {
                        *next += 1;
                    }
                }
                while let Ok(Some(message)) = cx.recv_timeout(Duration::ZERO) {
                    let (head, rest) = message.bytes.split_first_chunk().expect("a number");
                    let n = u32::from_ne_bytes(*head);
                    assert_eq!(n, received[message.from], "from {}", message.from);
                    assert!(rest.len() == n as usize % 200 && rest.iter().all(|byte| *byte == n as u8));
                    received[message.from] += 1;
                }
            }
            assert!(matches!(cx.send(WORKERS, b"x"), Err(Error::OutOfRange { value: 4, max: 3, .. })));
            assert!(matches!(cx.send(0, &[0; 301]), Err(Error::TooLong { len: 301, max: 300 })));
            if done.add(1) == WORKERS as i64 {
                for worker in cx.stats().workers {
                    let each = u64::from(EACH) * WORKERS as u64;
                    assert_eq!((worker.sent, worker.received, worker.waiting, worker.starts), (each, each, 0, 1));
                }
                say(link, "counted");
                cx.shutdown()?;
            }
            while cx.recv()?.is_some() {}
            Ok(())
        })
    });
    line(&manager, "counted");
    ends_well(manager);
}

fn mailbox() {
    let manager = manage(|link| {
        Pool::new(2).mailbox(1024).run(|cx| {
            if cx.id() == 0 {
                for n in 0..200_u8 {
                    cx.send(1, &[n])?;
                }
            }
            while let Some(message) = cx.recv()? {
                link.send(&message.bytes)?;
                if message.bytes[0] % 50 == 49 {
                    kill_process(getpid(), Signal::KILL).unwrap();
                }
            }
            Ok(())
        })
    });
    for n in 0..200 {
        assert_eq!(manager.recv_timeout(PATIENCE).unwrap(), [n]);
    }
    stop_well(manager);
}

fn returns() {
    let runs = AtomicLong::new(0).unwrap();
    let manager = manage(|_| {
        // More often than any crash loop is allowed to; what returns well was ready.
        Pool::new(1).run(|cx| {
            if runs.add(1) == 8 {
                assert_eq!(cx.generation(), 8);
                cx.shutdown()?;
            }
            Ok(())
        })?;
        // And another pool when the first is through.
        Pool::new(1).run(|cx| {
            assert_eq!(cx.generation(), 1);
            cx.shutdown()?;
            cx.recv().map(drop)
        })
    });
    ends_well(manager);
    assert!(runs.get() >= 8);
}

fn crash_loop() {
    let mut failing = manage(|link| {
        let failing = |_: &Context| Err::<(), Error>(Error::NotHeld { what: "thing" });
        Pool::new(2).log(|text| say(link, text)).run(failing)
    });
    // At the same time, for they take their time.
    let mut panicking = manage(|link| {
        Pool::new(1).log(|text| say(link, text)).run(|cx| -> () {
            std::panic::set_hook(Box::new(|_| {}));
            panic!("of worker {}", cx.id())
        })
    });
    assert_eq!(line(&failing, "worker 0:"), "worker 0: this process holds no permit of this thing");
    assert!(line(&failing, "left with status 1").ends_with(": starting the next one in 50 ms"));
    assert_eq!(line(&panicking, "worker 0:"), "worker 0: panicked: of worker 0");
    assert!(line(&panicking, "left with").contains("left with status 101"));
    for manager in [&mut failing, &mut panicking] {
        assert_eq!(manager.wait_timeout(PATIENCE).unwrap(), Exit::Status(1));
        let why = "gave up: no worker ever became ready, and one place failed 5 times in a row";
        assert_eq!(manager.error(), Some(why));
    }
}

fn bad_place() {
    let starts = numbers(2);
    let manager = manage(|_| {
        Pool::new(2).run(|cx| {
            starts[cx.id()].add(1);
            if cx.id() == 1 {
                until("the other one is ready", || cx.stats().workers[0].pid != 0 && starts[0].get() > 0);
                std::process::exit(9);
            }
            while cx.recv()?.is_some() {}
            Ok(())
        })
    });
    until("it has failed more often than a lone one may", || starts[1].get() > 5);
    assert_eq!(starts[0].get(), 1);
    stop_well(manager);
}

/// One that says that it is ready and dies, both while the manager buries another: it is no early death, after which the next one would have to wait.
fn last_word() {
    let (pid_of_1, go) = (AtomicLong::new(0).unwrap(), AtomicLong::new(0).unwrap());
    let manager = manage(|link| {
        let hear = |text: &str| {
            // Of the second in its place, which began when the other place might have forked again.
            if text.starts_with("worker 0") && text.contains("left with status 2") {
                go.set(1);
                let other = WaitId::Pid(pid(pid_of_1.get()));
                waitid(other, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).expect("it dies");
            }
            say(link, text);
        };
        Pool::new(2).log(hear).run(|cx| {
            match (cx.id(), cx.generation()) {
                (0, early @ 1..=2) => {
                    until("the other one has begun", || pid_of_1.get() != 0);
                    std::process::exit(early as i32);
                }
                (1, 1) => {
                    pid_of_1.set(own_pid());
                    until("the other one is being buried", || go.get() == 1);
                    cx.ready();
                    std::process::exit(8);
                }
                _ => while cx.recv()?.is_some() {},
            }
            Ok(())
        })
    });
    assert!(line(&manager, "left with status 8").ends_with(": starting the next one"));
    stop_well(manager);
}

/// A death and a stop that the manager finds at once, as when a signal was sent to the whole group.
fn died_with_the_stop() {
    let pid_of_0 = AtomicLong::new(0).unwrap();
    let manager = manage(|link| {
        Pool::new(1).log(|text| say(link, text)).run(|cx| {
            cx.ready();
            pid_of_0.set(own_pid());
            cx.recv().map(drop)
        })
    });
    let is = |of: i64, state: char| {
        let stat = fs::read_to_string(format!("/proc/{of}/stat")).unwrap();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(state))
    };
    until("it has begun", || pid_of_0.get() != 0);
    manager.kill(19).unwrap();
    until("the manager is stopped", || is(manager.pid().into(), 'T'));
    kill_process(pid(pid_of_0.get()), Signal::KILL).unwrap();
    until("the worker is dead", || is(pid_of_0.get(), 'Z'));
    manager.kill(15).unwrap();
    manager.kill(18).unwrap();
    assert!(line(&manager, "worker 0").ends_with("was killed by signal 9"), "and nobody comes after it");
    ends_well(manager);
}

fn told_to_be() {
    let root = rustix::process::geteuid().is_root();
    let all = Cpus::allowed().unwrap();
    let manager = manage(|link| {
        let pool = Pool::new(3).name("mail").spread(all.clone());
        let pool = if root { pool.privileges(Privileges::new().user("nobody")) } else { pool };
        pool.run(|cx| {
            let name = fs::read_to_string("/proc/self/comm").expect("a name");
            let uid = rustix::process::geteuid().as_raw();
            say(link, &format!("{} {} {uid}", name.trim(), Cpus::allowed()?));
            while cx.recv()?.is_some() {}
            Ok(())
        })
    });
    let mut said: Vec<_> = (0..3).map(|_| line(&manager, "mail")).collect();
    said.sort();
    let uid = if root { 65_534 } else { rustix::process::geteuid().as_raw() };
    let wanted: Vec<_> = (0..3).map(|k| format!("mail-{k} {} {uid}", all.nth(k))).collect();
    assert_eq!(said, wanted);
    stop_well(manager);
    // A user that cannot be become: nobody begins, and that is the end.
    if root {
        let mut manager = manage(|link| {
            // Who is nobody cannot become root.
            let inner = Process::builder("inner").privileges(Privileges::new().user("nobody")).spawn(|link| {
                let pool = Pool::new(1).privileges(Privileges::new().user("root"));
                pool.log(|text| say(link, text)).run(|_| Ok(()))
            })?;
            link.send(&inner.recv()?)?;
            while inner.recv().is_ok() {}
            Ok(())
        });
        let said = line(&manager, "worker 0");
        assert!(said.starts_with("worker 0: cannot start: cannot setgroups to [0]: Operation not permitted"), "{said}");
        assert!(manager.wait_timeout(PATIENCE).unwrap().success());
    }
}

fn inside() {
    let manager = manage(|link| {
        Pool::new(1).run(|cx| {
            assert!(matches!(Channel::new(4096), Err(Error::AfterFork { .. })));
            let mut child = Process::spawn("a child", |link| link.send(b"hello"))?;
            assert!(matches!(Channel::new(4096), Err(Error::AfterFork { .. })), "sealed again");
            link.send(&child.recv()?)?;
            assert!(child.wait()?.success());
            // It is not deaf to what its parent has blocked.
            let mut child = Process::spawn("a child", |link| link.recv().map(drop))?;
            child.kill(15)?;
            assert_eq!(child.wait()?, Exit::Signal(15));
            cx.shutdown()
        })
    });
    assert_eq!(manager.recv_timeout(PATIENCE).unwrap(), b"hello");
    ends_well(manager);
}

fn refused() {
    let said = |pool: Pool| pool.run(|_| ()).unwrap_err().to_string();
    assert_eq!(said(Pool::new(0)), "the number of workers is 0, allowed are 1..=256");
    assert_eq!(said(Pool::new(257)), "the number of workers is 257, allowed are 1..=256");
    assert_eq!(said(Pool::new(1).mailbox(63)), "a mailbox's size in bytes is 63, allowed are 64..=536870912");
    assert_eq!(
        said(Pool::new(1).mailbox(64).max_message(49)),
        "the longest message in bytes is 49, allowed are 1..=48"
    );
    assert_eq!(said(Pool::new(1).grace(Duration::ZERO)), "the grace in milliseconds is 0, allowed are 1..=3600000");
    assert!(
        said(Pool::new(1).boot(Duration::from_secs(3601))).starts_with("the time to boot in milliseconds is 3601000")
    );
    assert_eq!(
        said(Pool::new(12).name("thirteen char")),
        "the name \"thirteen char-11\" has 16 bytes, at most 15 are allowed"
    );
    assert_eq!(
        said(Pool::new(1).privileges(Privileges::new().user("nemo"))),
        "there is no user \"nemo\" on this machine"
    );
    let other = std::thread::spawn(std::thread::park);
    assert!(matches!(Pool::new(1).run(|_| ()), Err(Error::Threads { call: "Pool::run", threads: 2 })));
    other.thread().unpark();
    other.join().unwrap();
}
