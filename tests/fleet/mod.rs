//! A whole server of the builder's: master, manager, workers, task workers. This test binary is started again in a role, for a server begins in a process
//! with one thread; it serves `fleet::page`, and is gone with all its processes when the test ends, however that ends.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(unsafe_code)]

#[path = "../dice/mod.rs"]
pub(crate) mod dice;
pub(crate) mod harm;
pub(crate) mod load;
pub(crate) mod page;

use crate::served::{Client, Response, children, is_alive, send, until};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

/// The argument by which this binary knows that it is to be a server.
const ROLE: &str = "FLEET_ROLE";

/// Plays the role in which this binary was started, if it was.
pub(crate) fn role(play: impl FnOnce(&str) -> commons::Result<()>) -> Option<ExitCode> {
    let role = std::env::var(ROLE).ok()?;
    let ended = play(&role);
    if let Err(error) = &ended {
        // Where the log goes too.
        let _ = rustix::io::write(rustix::stdio::stderr(), format!("{error}\n").as_bytes());
    }
    Some(ExitCode::from(u8::from(ended.is_err())))
}

/// A server that runs.
pub(crate) struct Fleet {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Its directory: the log, and what else it makes.
    pub(crate) folder: Folder,
}

/// A directory, removed with all that is in it.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(Folder::make())
    }

    /// One that nobody removes.
    pub(crate) fn make() -> PathBuf {
        let name = format!("commons-fleet-{}", std::process::id());
        let mut paths = (0..1000).map(|n| std::env::temp_dir().join(format!("{name}-{n}")));
        paths.find(|path| fs::create_dir(path).is_ok()).expect("a directory")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("its directory").flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Fleet {
    /// Starts this binary in `role`, with further arguments, and waits until all are ready.
    pub(crate) fn start(role: &str, arguments: &[&str]) -> Fleet {
        Fleet::start_in(Folder::new(), role, arguments)
    }

    /// The same of an example, whose number of workers comes by the environment.
    pub(crate) fn start_example(role: &str, arguments: &[&str], workers: u32) -> Fleet {
        Fleet::start_by(Folder::new(), role, |command| {
            _ = command.args(arguments).env("COMMONS_WORKERS", workers.to_string())
        })
    }

    pub(crate) fn start_in(folder: Folder, role: &str, arguments: &[&str]) -> Fleet {
        Fleet::start_by(folder, role, |command| _ = command.args(arguments))
    }

    fn start_by(folder: Folder, role: &str, with: impl FnOnce(&mut Command)) -> Fleet {
        let log = File::create(folder.path("log")).expect("a log");
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        with(&mut command);
        command.env(ROLE, role).env("FLEET_FOLDER", &folder.0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(log));
        let die_with_us = || set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into);
        // SAFETY: a system call, which allocates nothing and takes no lock.
        unsafe { command.pre_exec(die_with_us) };
        let child = command.spawn().expect("this binary");
        let mut fleet = Fleet { child, address: ([127, 0, 0, 1], 0).into(), folder };
        until("the server is ready", || {
            let log = fleet.log();
            assert!(fleet.left().is_none(), "it has left: {log}");
            let Some(line) = log.lines().find(|line| line.contains(" ready: tcp://")) else { return false };
            let text = line.split("tcp://").nth(1).and_then(|rest| rest.split(',').next());
            fleet.address = text.and_then(|text| text.parse().ok()).expect("an address");
            true
        });
        fleet
    }

    /// What it has written to standard error, and to a log of its own on a disk of its own.
    pub(crate) fn log(&self) -> String {
        // In this order: the second one goes on.
        let all = ["log", "disk/log"].map(|name| fs::read(self.folder.path(name)).unwrap_or_default());
        String::from_utf8_lossy(&all.concat()).into_owned()
    }

    /// Moves what is in a file to the log.
    pub(crate) fn keep(&self, name: &str) {
        let (from, to) = (self.folder.path(name), self.folder.path("log"));
        let text = fs::read(&from).unwrap_or_default();
        let _ = fs::remove_file(from);
        let log = File::options().append(true).open(to);
        let _ = log.and_then(|mut log| std::io::Write::write_all(&mut log, &text));
    }

    pub(crate) fn master(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// None while it is being replaced.
    pub(crate) fn manager(&self) -> Option<i32> {
        // Orphans of a manager that was killed come to the master too; they have no children.
        let all = children(self.master());
        all.iter().find(|(pid, zombie)| !zombie && !children(*pid).is_empty()).map(|(pid, _)| *pid)
    }

    /// All processes of it, the master too.
    pub(crate) fn all(&self) -> BTreeSet<i32> {
        let mut all = BTreeSet::from([self.master()]);
        for (manager, _) in children(self.master()) {
            all.insert(manager);
            all.extend(children(manager).iter().map(|(pid, _)| pid));
        }
        all
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.master(), signal);
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address).expect("connect")
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.connect().get(path)
    }

    pub(crate) fn stats(&self) -> Figures {
        // A worker that is killed meanwhile takes the connection with it.
        let mut figures = None;
        until("the figures are told", || {
            figures = self.try_stats();
            figures.is_some()
        });
        figures.expect("until says so")
    }

    fn try_stats(&self) -> Option<Figures> {
        let mut client = Client::connect(self.address).ok()?;
        client.write("GET /stats HTTP/1.1\r\nHost: test\r\n\r\n").ok()?;
        client.read(false).ok().map(|response| Figures(response.json()))
    }

    /// Whether it has left; never waits.
    pub(crate) fn left(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// Waits for it to leave.
    pub(crate) fn leave(&mut self) -> ExitStatus {
        let mut status = None;
        until("the server leaves", || {
            status = self.left();
            status.is_some()
        });
        status.expect("until says so")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::single::println(&format!("the log of the server:\n{}", tail(&self.log(), 400)));
        }
        let all = self.all();
        // Without its master a manager forks nobody any more; without their manager workers are killed by the kernel.
        let _ = self.child.kill();
        let _ = self.child.wait();
        all.into_iter().filter(|pid| is_alive(*pid)).for_each(|pid| send(pid, Signal::KILL));
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// `GET /stats`.
#[derive(Debug)]
pub(crate) struct Figures(pub(crate) serde_json::Value);

impl Figures {
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.0[key].as_u64().unwrap_or_else(|| panic!("{key} in {}", self.0))
    }

    pub(crate) fn of_tasks(&self, key: &str) -> u64 {
        self.0["ledger"][key].as_u64().unwrap_or_else(|| panic!("{key} in {}", self.0))
    }

    /// The processes in this state, in these places: (place, pid, connections).
    pub(crate) fn those(&self, state: &str, places: std::ops::Range<u64>) -> Vec<(u64, i32, u64)> {
        let all = self.0["processes"].as_array().expect("processes");
        let here = all.iter().filter(|process| process["state"] == state);
        let told = here.map(|of| {
            let number = |key: &str| of[key].as_u64().expect("a number");
            (number("id"), i32::try_from(number("pid")).expect("a pid"), number("connections"))
        });
        told.filter(|(id, ..)| places.contains(id)).collect()
    }

    pub(crate) fn serving(&self, places: std::ops::Range<u64>) -> Vec<i32> {
        self.those("serving", places).into_iter().map(|(_, pid, _)| pid).collect()
    }
}

/// A number from the environment.
pub(crate) fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// One that takes long says how long, to the alarm of `single::run`.
pub(crate) fn lasting(time: Duration) {
    let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX / 2) + 120;
    // SAFETY: sets a timer of this process, nothing else.
    unsafe { libc::alarm(seconds) };
}

/// What bears this server's name in a directory that belongs to all.
pub(crate) fn left_in(folder: impl AsRef<Path>, before: &BTreeSet<std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    let now = names_in(folder);
    now.difference(before).filter(|name| name.to_string_lossy().contains("commons")).cloned().collect()
}

pub(crate) fn names_in(folder: impl AsRef<Path>) -> BTreeSet<std::ffi::OsString> {
    let entries = fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.file_name()).collect());
    entries.unwrap_or_default()
}
