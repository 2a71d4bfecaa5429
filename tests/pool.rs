//! `Pool` with real processes: replaced, renewed, stopped, given up; and messages from any to any.
//!
//! Each pool runs in a `Process`, its manager; what its workers do they tell in shared memory, or by the manager's line, which they inherit. Dropping
//! the manager ends everything.

mod single;

use commons::process::{Context, Cpus, Exit, Link, Pool, Privileges, Process};
use commons::{AtomicLong, Channel, Error, Lock};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, test_kill_process, waitpid,
};
use std::fs;
use std::time::{Duration, Instant};

const TESTS: &[single::Test] = &[
    ("workers_that_are_killed_are_replaced", killed),
    ("messages_from_any_to_any_arrive_in_order", messages),
    ("what_waits_in_a_mailbox_outlives_its_worker", mailbox),
    ("a_reload_renews_all_and_capacity_never_falls", reload),
    ("term_ends_all_and_who_does_not_leave_is_killed", stop),
    ("a_worker_that_returns_is_replaced", returns),
    ("a_crash_loop_gives_up_and_says_why", crash_loop),
    ("one_bad_place_does_not_end_the_others", bad_place),
    ("workers_die_with_their_manager", manager_killed),
    ("a_worker_is_who_and_where_it_was_told_to_be", told_to_be),
    ("a_worker_may_have_a_process_but_makes_no_structures", inside),
    ("what_is_out_of_range_is_refused", refused),
];

fn main() -> std::process::ExitCode {
    single::run(TESTS)
}

const PATIENCE: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(1);

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn numbers(n: usize) -> Vec<AtomicLong> {
    (0..n).map(|_| AtomicLong::new(0).unwrap()).collect()
}

fn own_pid() -> i64 {
    std::process::id().into()
}

fn pid(number: i64) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("a pid")).expect("a pid")
}

fn is_gone(number: i64) -> bool {
    test_kill_process(pid(number)).is_err()
}

/// A manager that runs a pool; its log comes by its line.
fn manage(run: impl FnOnce(&Link) -> commons::Result<()>) -> Process {
    Process::spawn("manager", run).expect("a manager")
}

/// The next line of the log that has `part` in it.
#[track_caller]
fn line(manager: &Process, part: &str) -> String {
    loop {
        let text = String::from_utf8(manager.recv_timeout(PATIENCE).expect("a line")).expect("text");
        if text.contains(part) {
            return text;
        }
    }
}

#[track_caller]
fn ends_well(mut manager: Process) {
    let exit = manager.wait_timeout(PATIENCE).expect("an end");
    assert!(exit.success(), "{exit}: {:?}", manager.error());
}

#[track_caller]
fn stop_well(manager: Process) {
    manager.kill(15).unwrap();
    ends_well(manager);
}

fn say(link: &Link, line: &str) {
    let _ = link.send(line.as_bytes());
}

fn killed() {
    let (pids, starts, lock) = (numbers(4), AtomicLong::new(0).unwrap(), Lock::new().unwrap());
    let manager = manage(|link| {
        Pool::new(4).run(|cx| {
            starts.add(1);
            pids[cx.id()].set(own_pid());
            // Killed holding it as often as not; who comes next gets it.
            while cx.sleep(Duration::ZERO)? {
                let _guard = lock.lock()?;
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
                for to in 0..WORKERS {
                    let n = sent[to];
                    let message = [&n.to_ne_bytes()[..], &vec![n as u8; n as usize % 200]].concat();
                    if n < EACH && cx.try_send(to, &message).is_ok() {
                        sent[to] += 1;
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
                say(link, &format!("stats: {} reloads, generation {}", cx.stats().reloads, cx.generation()));
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
    assert_eq!(line(&manager, "stats"), "stats: 3 reloads, generation 4");
    ends_well(manager);
}

fn stop() {
    let pids = numbers(2);
    let manager = manage(|link| {
        let pool = Pool::new(2).grace(Duration::from_millis(100)).log(|text| say(link, text));
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
            loop {
                std::thread::sleep(PATIENCE);
            }
        })
    });
    until("both have begun", || pids.iter().all(|pid| pid.get() != 0));
    manager.kill(15).unwrap();
    assert_eq!(line(&manager, "stopping"), "stopping");
    // And nothing of worker 0.
    let wanted = format!("worker 1 (pid {}) did not leave in time, 0 messages wait for it: killing it", pids[1].get());
    assert_eq!(line(&manager, "worker"), wanted);
    ends_well(manager);
    assert!(pids.iter().all(|pid| is_gone(pid.get())));
}

fn returns() {
    let runs = AtomicLong::new(0).unwrap();
    let manager = manage(|_| {
        // More often than any crash loop is allowed to; what returns well was ready.
        Pool::new(1).run(|cx| {
            if runs.add(1) == 12 {
                assert_eq!(cx.generation(), 12);
                cx.shutdown()?;
            }
            Ok(())
        })
    });
    ends_well(manager);
    assert!(runs.get() >= 12);
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
                std::thread::sleep(SOON);
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
    let other = std::thread::spawn(|| std::thread::park());
    assert!(matches!(Pool::new(1).run(|_| ()), Err(Error::Threads { call: "Pool::run", threads: 2 })));
    other.thread().unpark();
    other.join().unwrap();
}
