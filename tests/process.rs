//! `Process` with real processes: lines, ends, and what a process makes of itself.
//!
//! Forking is refused where there are threads, so this file has its own `main`. What needs root is skipped, aloud, where there is none.

mod single;

use commons::process::{Cpus, Exit, Link, Privileges, Process};
use commons::{AtomicLong, Error, Lock, recover};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, test_kill_process, waitpid,
};
use std::fs;
use std::path::PathBuf;
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
    ("it_has_its_name_in_the_process_list", named),
    ("it_runs_where_it_was_told_to", pinned),
    ("privileges_are_given_up_with_all_groups", nobody),
    ("a_new_root_directory_is_all_there_is", chrooted),
    ("who_has_no_right_to_does_not_begin", refused),
    ("what_is_missing_is_named_before_there_is_a_process", missing),
    ("a_second_thread_is_refused", threads),
    ("an_ignored_sigchld_loses_no_end", ignored_children),
    ("it_belongs_to_the_process_that_made_it", belongs),
];

fn main() -> std::process::ExitCode {
    single::run(TESTS)
}

const PATIENCE: Duration = Duration::from_secs(20);

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root() || {
        single::println("  skipped: this needs root");
        false
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed()).expect("a pid")
}

fn is_gone(number: u32) -> bool {
    test_kill_process(pid(number)).is_err()
}

#[track_caller]
fn ends_well(mut child: Process) {
    let exit = child.wait_timeout(PATIENCE).expect("an end");
    assert!(exit.success(), "{} {exit}: {:?}", child.name(), child.error());
}

/// Waits until it is killed.
fn for_ever(link: &Link) -> commons::Result<()> {
    loop {
        link.recv()?;
    }
}

fn number(message: &[u8]) -> u32 {
    u32::from_ne_bytes(message.try_into().expect("four bytes"))
}

/// A line of its own status file, without its first word, as words.
fn status_line(of: &str, head: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{of}/status")).expect("status");
    let line = text.lines().find_map(|line| line.strip_prefix(head)).expect("a line");
    line.split_ascii_whitespace().skip(1).map(str::to_owned).collect()
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
    assert_eq!(child.error(), Some("the channel is closed"));
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

fn named() {
    let child = Process::spawn("fifteen letters", for_ever).unwrap();
    let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", child.pid())).unwrap();
    assert_eq!(read("comm"), "fifteen letters\n");
    // A kernel without CONFIG_CHECKPOINT_RESTORE has the name alone.
    let line = read("cmdline");
    if fs::exists("/proc/self/map_files").unwrap_or(false) {
        assert_eq!(line, "fifteen letters\0");
    }
    // A child of a child has a page of its own, and arguments are what they were.
    let nested = Process::spawn("outer", |link| {
        let inner = Process::spawn("inner", |link| {
            link.send(std::env::args().next().unwrap_or_default().as_bytes())?;
            for_ever(link)
        })?;
        let arguments = inner.recv()?;
        let line = |of: u32| fs::read(format!("/proc/{of}/cmdline")).unwrap();
        link.send(&[line(std::process::id()), line(inner.pid())].concat())?;
        link.send(&arguments)
    })
    .unwrap();
    let lines = nested.recv_timeout(PATIENCE).unwrap();
    assert!(lines == b"outer\0inner\0" || line != "fifteen letters\0", "{:?}", String::from_utf8_lossy(&lines));
    assert_eq!(nested.recv_timeout(PATIENCE).unwrap(), std::env::args().next().unwrap().as_bytes());
    ends_well(nested);
    let said = Process::spawn("sixteen letters!", |_| ()).unwrap_err().to_string();
    assert_eq!(said, "the name \"sixteen letters!\" has 16 bytes, at most 15 are allowed");
}

fn pinned() {
    let all = Cpus::allowed().unwrap();
    for k in 0..all.list().len() + 1 {
        let place = all.nth(k);
        let child = Process::builder("pinned").cpus(place.clone()).spawn(for_ever).unwrap();
        assert_eq!(status_line(&child.pid().to_string(), "Cpus_allowed_list"), [place.to_string()]);
    }
    assert_eq!(Cpus::allowed().unwrap(), all, "the parent stays where it was");
    // In one that may use the first alone, the others are refused by name.
    let child = Process::builder("narrow").cpus(all.nth(0)).spawn(|link| {
        link.send(Cpus::of(all.list().iter().copied()).map_or_else(|e| e.to_string(), |_| String::new()).as_bytes())
    });
    let said = String::from_utf8(child.unwrap().recv_timeout(PATIENCE).unwrap()).unwrap();
    if let [first, second, ..] = all.list() {
        assert_eq!(said, format!("CPU {second} is not for this process to use; this process may use {first}"));
    }
    assert!(Cpus::of([999_999]).unwrap_err().to_string().starts_with("CPU 999999 does not exist; "));
}

fn nobody() {
    if !is_root() {
        return;
    }
    let ids = || ["Uid", "Gid", "Groups"].map(|head| status_line("self", head).join(" ")).join("; ");
    // The outer one has a group that the inner one must not keep.
    let outer = Process::builder("outer").privileges(Privileges::new().group("4242")).spawn(|link| {
        link.send(ids().as_bytes())?;
        let inner = Process::builder("inner").privileges(Privileges::new().user("nobody")).spawn(|link| {
            link.send(ids().as_bytes())?;
            let kept = fs::read("/etc/shadow").is_ok() || fs::write("/proc/sys/kernel/hostname", "x").is_ok();
            link.send(&[u8::from(kept)])
        })?;
        link.send(&inner.recv()?)?;
        link.send(&inner.recv()?)
    });
    let outer = outer.unwrap();
    let said = || String::from_utf8(outer.recv_timeout(PATIENCE).unwrap()).unwrap();
    assert_eq!(said(), "0 0 0 0; 4242 4242 4242 4242; 4242");
    assert_eq!(said(), "65534 65534 65534 65534; 65534 65534 65534 65534; 65534");
    assert_eq!(said(), "\0", "root's rights are gone");
    ends_well(outer);
}

/// A directory of its own, gone when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("commons-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn chrooted() {
    if !is_root() {
        return;
    }
    let root = Directory::new("root");
    fs::write(root.0.join("inside"), "here").unwrap();
    let (lock, held) = (Lock::new().unwrap(), AtomicLong::new(0).unwrap());
    let holder = Process::spawn("holder", |link| {
        let _guard = lock.lock()?;
        held.set(1);
        for_ever(link)
    })
    .unwrap();
    until("the lock is held", || held.get() == 1);
    let privileges = Privileges::new().user("nobody").chroot(&root.0);
    let child = Process::builder("in a cage").privileges(privileges).spawn(|link| {
        link.send(&fs::read("/inside").unwrap_or_default())?;
        link.send(&fs::read("../../../inside").unwrap_or_default())?;
        link.send(&[u8::from(fs::exists("/etc").unwrap() || fs::exists("/proc").unwrap())])?;
        // A dead owner is found out without /proc, though nobody recovers what it held or reaps it.
        let guard = lock.lock_timeout(PATIENCE)?;
        link.send(&[u8::from(guard.recovered())])
    });
    let child = child.unwrap();
    for wanted in [&b"here"[..], b"here", &[0]] {
        assert_eq!(child.recv_timeout(PATIENCE).unwrap(), wanted);
    }
    kill_process(pid(holder.pid()), Signal::KILL).unwrap();
    assert_eq!(child.recv_timeout(PATIENCE).unwrap(), [1]);
    ends_well(child);
}

fn refused() {
    if !is_root() {
        return;
    }
    let cage = Directory::new("cage");
    let nobody = Process::builder("nobody").privileges(Privileges::new().user("nobody")).spawn(|link| {
        let attempts = [
            Privileges::new().user("root"),
            Privileges::new().group("root"),
            Privileges::new().chroot(&cage.0),
            Privileges::new().user("nobody"),
        ];
        attempts.into_iter().try_for_each(|privileges| {
            let inner = Process::builder("inner").privileges(privileges).spawn(|_| ());
            link.send(inner.map_or_else(|error| error.to_string(), |_| "begun".into()).as_bytes())
        })
    });
    let nobody = nobody.unwrap();
    let said = || String::from_utf8(nobody.recv_timeout(PATIENCE).unwrap()).unwrap();
    let why = "Operation not permitted (os error 1)";
    assert_eq!(said(), format!("process \"inner\" could not start: cannot setgroups to [0]: {why}"));
    assert_eq!(said(), format!("process \"inner\" could not start: cannot setgroups to [0]: {why}"));
    assert_eq!(said(), format!("process \"inner\" could not start: cannot chroot to {}: {why}", cage.0.display()));
    assert_eq!(said(), "begun", "who is it already needs no right to become it");
    ends_well(nobody);
}

fn missing() {
    let spawn = |privileges| Process::builder("never").privileges(privileges).spawn(|_| ()).unwrap_err().to_string();
    let privileges = Privileges::new();
    assert_eq!(spawn(privileges.clone().user("nemo")), "there is no user \"nemo\" on this machine");
    assert_eq!(spawn(privileges.clone().group("nulli")), "there is no group \"nulli\" on this machine");
    assert!(spawn(privileges.chroot("/no/place")).starts_with("chroot \"/no/place\": No such file"));
    let out = Process::builder("never").buffer(8).spawn(|_| ()).unwrap_err();
    assert!(matches!(out, Error::OutOfRange { value: 8, .. }), "{out}");
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
