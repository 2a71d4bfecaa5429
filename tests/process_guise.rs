//! What a `Process` makes of itself before its closure runs: its name, where it runs, who it is.
//!
//! Forking is refused where there are threads, so this file has its own `main`. What needs root is skipped, aloud, where there is none.

mod single;

use commons::process::{Cpus, Privileges, Process};
use commons::{AtomicLong, Error, Lock};
use rustix::process::{Signal, kill_process};
use single::{PATIENCE, ends_well, for_ever, is_root, pid, until};
use std::fs;
use std::path::PathBuf;

const TESTS: &[single::Test] = &[
    ("it_has_its_name_in_the_process_list", named),
    ("it_runs_where_it_was_told_to", pinned),
    ("privileges_are_given_up_with_all_groups", nobody),
    ("a_new_root_directory_is_all_there_is", chrooted),
    ("who_has_no_right_to_does_not_begin", refused),
    ("what_is_missing_is_named_before_there_is_a_process", missing),
];

fn main() -> std::process::ExitCode {
    single::run(TESTS)
}

/// A line of its own status file, without its first word, as words.
fn status_line(of: &str, head: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{of}/status")).expect("status");
    let line = text.lines().find_map(|line| line.strip_prefix(head)).expect("a line");
    line.split_ascii_whitespace().skip(1).map(str::to_owned).collect()
}

/// Whether the kernel knows PR_SET_MM_MAP (it is asked how long its argument is).
fn shows_command_lines() -> bool {
    const PR_SET_MM_MAP_SIZE: libc::c_int = 15;
    let mut size = 0_u32;
    #[allow(unsafe_code)]
    // SAFETY: the kernel writes one number to `size`.
    let answer = unsafe { libc::prctl(libc::PR_SET_MM, PR_SET_MM_MAP_SIZE, &raw mut size, 0_usize, 0_usize) };
    answer == 0
}

fn named() {
    let child = Process::spawn("fifteen letters", for_ever).unwrap();
    let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", child.pid())).unwrap();
    assert_eq!(read("comm"), "fifteen letters\n");
    // A kernel without CONFIG_CHECKPOINT_RESTORE has the name alone.
    let line = read("cmdline");
    if shows_command_lines() {
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
    assert!(lines == b"outer\0inner\0" || !shows_command_lines(), "{:?}", String::from_utf8_lossy(&lines));
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
        let inner = Process::spawn("inner", |link| {
            Privileges::new().user("nobody").assume()?;
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
    assert!(spawn(privileges.chroot("/no/place")).starts_with("the new root directory \"/no/place\": No such file"));
    let out = Process::builder("never").buffer(8).spawn(|_| ()).unwrap_err();
    assert!(matches!(out, Error::OutOfRange { value: 8, .. }), "{out}");
}
