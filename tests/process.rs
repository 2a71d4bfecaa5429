//! `Process` with real processes: lines, ends, and who dies with whom.
//!
//! Forking is refused where there are threads, so this file has its own `main`. What needs root is skipped, aloud, where there is none.

mod single;

use commons::process::{Exit, Link, Privileges, Process};
use commons::{Error, Lock, recover};
use rustix::process::{
    Resource, Rlimit, Signal, WaitOptions, getpid, getrlimit, kill_process, set_child_subreaper, setrlimit, waitpid,
};
use single::{PATIENCE, ends_well, for_ever, is_gone, is_root, number, pid, until};
use std::fs;
use std::time::{Duration, Instant};

const TESTS: &[single::Test] = &[
    ("messages_of_any_length_go_both_ways_in_order", messages),
    ("ends_are_told_apart_and_told_again", ends),
    ("waiting_has_bounds", waiting),
    ("what_was_sent_before_the_end_is_received_after_it", last_words),
    ("who_waits_for_the_dead_is_told", told_of_deaths),
    ("dropping_ends_it", dropping),
    ("what_it_held_is_recovered_when_its_end_is_known", recovered),
    ("a_child_dies_with_its_parent", dies_with_parent),
    ("also_when_it_has_become_somebody_else", dies_with_parent_as_nobody),
    ("a_second_thread_is_refused", threads),
    ("an_ignored_sigchld_loses_no_end", ignored_children),
    ("want_of_descriptors_leaves_nothing_behind", no_descriptors),
    ("it_belongs_to_the_process_that_made_it", belongs),
];

fn main() -> std::process::ExitCode {
    single::run(TESTS)
}

fn messages() {
    let message = |n: usize| -> Vec<u8> { (0..n * 7 % 300).map(|k| (n * 31 + k) as u8).collect() };
    let child = Process::builder("echo").buffer(1024).max_message(400).spawn(|link| {
        for _ in 0..2000 {
            link.send(&link.recv()?)?;
        }
        assert_eq!(link.parent(), rustix::process::getppid().unwrap().as_raw_nonzero().get().unsigned_abs());
        link.close()
    });
    let child = child.unwrap();
    assert!(matches!(child.send(&[0; 401]), Err(Error::TooLong { len: 401, max: 400 })));
    let (mut sent, mut received) = (0, 0);
    while received < 2000 {
        // As many as there is room for: both ends wait for room and for messages in turn.
        while sent < 2000 && child.send_timeout(&message(sent), Duration::ZERO).is_ok() {
            sent += 1;
        }
        assert_eq!(child.recv_timeout(PATIENCE).unwrap(), message(received));
        received += 1;
    }
    assert!(matches!(child.recv(), Err(Error::Closed)));
    ends_well(child);
}

fn ends() {
    let end = |child: commons::Result<Process>| {
        let mut child = child.unwrap();
        let exit = child.wait().unwrap();
        assert_eq!((child.wait().unwrap(), child.try_wait().unwrap()), (exit, Some(exit)), "told again");
        assert!(matches!(child.kill(15), Err(Error::Gone { pid }) if pid == child.pid()));
        assert!(is_gone(child.pid()));
        (exit, child.error().map(str::to_owned))
    };
    assert_eq!(end(Process::spawn("nothing", |_| {})), (Exit::Status(0), None));
    assert_eq!(end(Process::spawn("seven", |_| 7)), (Exit::Status(7), None));
    assert_eq!(end(Process::spawn("good", |_| Ok(()))), (Exit::Status(0), None));
    let too_long = "the message has 20000 bytes, at most 16384 are allowed".to_owned();
    assert_eq!(end(Process::spawn("bad", |link| link.send(&[0; 20_000]))), (Exit::Status(1), Some(too_long)));
    let quiet = |_: &Link| {
        std::panic::set_hook(Box::new(|_| {}));
        panic!("of {}", 3)
    };
    assert_eq!(end(Process::spawn::<()>("panics", quiet)), (Exit::Status(101), Some("panicked: of 3".into())));
    let killed = |signal: i32| {
        let child = Process::spawn("killed", for_ever).unwrap();
        child.kill(signal).unwrap();
        end(Ok(child)).0
    };
    assert_eq!(killed(9), Exit::Signal(9));
    assert_eq!(killed(15).to_string(), "was killed by signal 15");
}

fn waiting() {
    let mut child = Process::spawn("waits", for_ever).unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    let short = Duration::from_millis(30);
    let began = Instant::now();
    assert!(matches!(child.wait_timeout(short), Err(Error::Timeout { after }) if after == short));
    assert!(matches!(child.recv_timeout(short), Err(Error::Timeout { .. })));
    assert!(began.elapsed() >= short * 2);
    assert_eq!(child.try_recv().unwrap(), None);
    for signal in [0, -1, 32, 65] {
        assert!(matches!(child.kill(signal), Err(Error::OutOfRange { what: "the signal", .. })), "{signal}");
    }
    // Its end is an answer to what it waits for.
    child.close().unwrap();
    assert!(matches!(child.send(b"more"), Err(Error::Closed)));
    assert_eq!(child.wait().unwrap(), Exit::Status(1));
    assert_eq!(child.error(), Some("closed: the channel takes no more, or the connection is gone"));
}

fn last_words() {
    let mut child = Process::spawn("speaks", |link| {
        (0..100_u32).try_for_each(|n| link.send(&n.to_ne_bytes()))?;
        kill_process(getpid(), Signal::KILL).unwrap();
        Ok(())
    })
    .unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Signal(9));
    for n in 0..100 {
        assert_eq!(number(&child.recv().unwrap()), n);
    }
    assert!(matches!(child.recv(), Err(Error::Gone { pid }) if pid == child.pid()));
    assert!(matches!(child.try_recv(), Err(Error::Gone { .. })));
}

fn told_of_deaths() {
    // Killed while the parent waits in `recv`: by another child, for this process has one thread.
    let victim = Process::spawn("victim", for_ever).unwrap();
    let number = victim.pid();
    let killer = Process::spawn("killer", move |_| {
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get().to_string();
        let sleeps = || fs::read_to_string(format!("/proc/{parent}/wchan")).is_ok_and(|at| at.contains("poll"));
        let asleep = Instant::now() + Duration::from_secs(2);
        while !sleeps() && Instant::now() < asleep {
            std::thread::sleep(Duration::from_micros(200));
        }
        kill_process(pid(number), Signal::KILL).unwrap();
    })
    .unwrap();
    assert!(matches!(victim.recv_timeout(PATIENCE), Err(Error::Gone { .. })));
    ends_well(killer);
    // And one that waits for room.
    let full = Process::builder("full").buffer(64).spawn(|_| ()).unwrap();
    let mut result = Ok(());
    for _ in 0..9 {
        result = full.send_timeout(&[1; 16], PATIENCE);
        if result.is_err() {
            break;
        }
    }
    assert!(matches!(result, Err(Error::Gone { .. })), "{result:?}");
}

fn dropping() {
    let child = Process::spawn("dropped", for_ever).unwrap();
    let number = child.pid();
    assert!(!is_gone(number));
    drop(child);
    assert!(is_gone(number), "killed and reaped");
    // One that is stopped is ended all the same.
    let child = Process::spawn("stopped", for_ever).unwrap();
    child.kill(19).unwrap();
    let number = child.pid();
    drop(child);
    assert!(is_gone(number));
}

fn recovered() {
    let lock = Lock::new().unwrap();
    let mut child = Process::spawn("holder", |_| {
        let guard = lock.lock()?;
        kill_process(getpid(), Signal::KILL).unwrap();
        drop(guard);
        Ok(())
    })
    .unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Signal(9));
    // Nothing is left for who comes later.
    assert_eq!(recover(child.pid()).unwrap(), 0);
    let guard = lock.try_lock().unwrap().expect("free");
    assert!(guard.recovered());
}

fn dies_with_parent_as(privileges: &Privileges) {
    set_child_subreaper(Some(getpid())).unwrap();
    let middle = Process::spawn("middle", |link| {
        let inner = Process::builder("inner").privileges(privileges.clone()).spawn(for_ever)?;
        link.send(&inner.pid().to_ne_bytes())?;
        for_ever(link)
    })
    .unwrap();
    let inner = number(&middle.recv_timeout(PATIENCE).unwrap());
    assert!(!is_gone(inner));
    drop(middle);
    // It comes to us now, and is dead or about to be.
    let mut status = None;
    let end = Instant::now() + PATIENCE;
    while status.is_none() && Instant::now() < end {
        status = waitpid(Some(pid(inner)), WaitOptions::NOHANG).unwrap();
        std::thread::sleep(Duration::from_micros(200));
    }
    if status.is_none() {
        kill_process(pid(inner), Signal::KILL).unwrap();
        waitpid(Some(pid(inner)), WaitOptions::empty()).unwrap();
    }
    assert_eq!(status.and_then(|(_, status)| status.terminating_signal()), Some(9));
    set_child_subreaper(None).unwrap();
}

fn dies_with_parent() {
    dies_with_parent_as(&Privileges::new());
}

fn dies_with_parent_as_nobody() {
    if is_root() {
        dies_with_parent_as(&Privileges::new().user("nobody"));
    }
}

fn threads() {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || stopped.recv().is_err());
    let refused = Process::spawn("never", |_| ()).unwrap_err();
    assert!(matches!(refused, Error::Threads { call: "Process::spawn", threads: 2 }), "{refused}");
    drop(stop);
    assert!(other.join().unwrap());
    // The kernel may still be about to do away with it.
    until("the thread is forgiven", || Process::spawn("now", |_| ()).is_ok());
}

fn ignored_children() {
    let outer = Process::spawn("ignores", |link| {
        #[allow(unsafe_code)]
        // SAFETY: SIG_IGN is an action; this process has one thread.
        unsafe {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN)
        };
        let mut inner = Process::spawn("inner", |_| 5)?;
        let exit = inner.wait()?;
        link.send(exit.to_string().as_bytes())
    })
    .unwrap();
    assert_eq!(outer.recv_timeout(PATIENCE).unwrap(), b"left with status 5");
    ends_well(outer);
}

fn no_descriptors() {
    let open = || fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let outer = Process::spawn("few", |link| {
        let (mut failed, before) = (0_u32, open());
        let limits = getrlimit(Resource::Nofile);
        // One more each time, until it is enough: of what is made before the fork, of what is made after it, on either side.
        for spare in 0..64 {
            setrlimit(Resource::Nofile, Rlimit { current: Some(before + spare), ..limits }).unwrap();
            let made = Process::spawn("inner", |_| ());
            setrlimit(Resource::Nofile, limits).unwrap();
            let Err(error) = made else { break };
            assert!(error.to_string().contains("Too many open files"), "{error}");
            assert_eq!(open(), before, "no descriptor is left: {error}");
            assert!(waitpid(None, WaitOptions::NOHANG).is_err(), "no child is left: {error}");
            failed += 1;
        }
        link.send(&failed.to_ne_bytes())
    })
    .unwrap();
    let failed = number(&outer.recv_timeout(PATIENCE).unwrap());
    assert!((5..32).contains(&failed), "{failed}");
    ends_well(outer);
}

fn belongs() {
    let mut first = Some(Process::spawn("first", for_ever).unwrap());
    let second = Process::spawn("second", |link| {
        let mut first = first.take().unwrap();
        let refused = [first.wait().err(), first.kill(9).err(), first.send(b"x").err(), first.recv().err()];
        let all = refused.iter().all(|error| matches!(error, Some(Error::WrongProcess { .. })));
        drop(first);
        link.send(&[u8::from(all)])
    })
    .unwrap();
    assert_eq!(second.recv_timeout(PATIENCE).unwrap(), [1]);
    ends_well(second);
    let mut first = first.unwrap();
    assert_eq!(first.try_wait().unwrap(), None, "it lives, though a copy was dropped in another process");
}
