//! Servers as processes of their own, for the tests of the server's API: the test binary starts itself again in a role, so that server and test are one
//! program. And the tests' own `main`: a server has to begin in a process with one thread, which libtest's never have. It understands libtest's arguments, and
//! runs a few tests side by side, for they mostly wait.
//!
//! Every wait is for an event, with a deadline. A server leads a process group, which is killed when the test ends, however it ends.

#![allow(clippy::disallowed_types, reason = "not through the door: a test's own numbers, shared by its threads")]
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod client;
pub(crate) mod faults;
mod handle;
mod run;
pub(crate) mod server;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};

pub(crate) type Test = (&'static str, fn());

/// How long anything may take that ought to be quick.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Tests at once.
const ABREAST: usize = 4;

/// Runs the server, or those of `tests` that the arguments ask for.
pub(crate) fn main(tests: &[Test]) -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--role=server") {
        return match run::run(&arguments[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = std::io::stderr().write_all(format!("{error}\n").as_bytes());
                ExitCode::FAILURE
            }
        };
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(ABREAST);
    let trial = |&(name, test): &Test| {
        let run = move || {
            test();
            Ok(())
        };
        Trial::test(name, run)
    };
    libtest_mimic::run(&arguments, tests.iter().map(trial).collect()).exit_code()
}

pub(crate) fn println(line: &str) {
    let _ = std::io::stdout().lock().write_all(format!("{line}\n").as_bytes());
}

#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A folder of this test's own.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        static NUMBER: Mutex<u32> = Mutex::new(0);
        let number = {
            let mut next = NUMBER.lock().expect("nobody panics with it");
            *next += 1;
            *next
        };
        let path = std::env::temp_dir().join(format!("commons-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a folder");
        Scratch(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// Writes a file of settings, over the one before; the argument that names it.
    pub(crate) fn config(&self, settings: &str) -> String {
        std::fs::write(self.path("config"), settings).expect("a file of settings");
        format!("--config={}", self.text("config"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The service manager's end of a socket.
pub(crate) struct Notified(UnixDatagram);

impl Notified {
    /// At this path.
    pub(crate) fn at(path: &Path) -> Notified {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Notified(socket)
    }

    /// What it is told next.
    #[track_caller]
    pub(crate) fn next(&self) -> String {
        let mut buffer = [0; 500];
        let n = self.0.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    }
}

/// Lines of one stream of a process, in order.
pub(crate) struct Lines {
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
    /// All before this one were looked at.
    at: usize,
}

impl Lines {
    pub(crate) fn of(source: impl Read + Send + 'static) -> Lines {
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let whole = BufReader::new(source).split(b'\n').map_while(Result::ok);
            for line in whole {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        Lines { lines, seen: Vec::new(), at: 0 }
    }

    fn more(&mut self, wait: Duration) -> Result<(), RecvTimeoutError> {
        self.lines.recv_timeout(wait).map(|line| self.seen.push(line))
    }

    /// The next line with `part` in it; those before it are passed over.
    #[track_caller]
    pub(crate) fn next(&mut self, part: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            while let Some(line) = self.seen.get(self.at) {
                self.at += 1;
                if line.contains(part) {
                    return line.clone();
                }
            }
            let more = self.more(end.saturating_duration_since(Instant::now()));
            assert!(more.is_ok(), "no line with {part:?} ({more:?}) in {:#?}", self.seen);
        }
    }

    /// All lines from the first one on, passed over or not.
    pub(crate) fn all(&mut self) -> &[String] {
        while self.more(Duration::ZERO).is_ok() {}
        &self.seen
    }

    /// All lines, when nobody can write any more.
    #[track_caller]
    pub(crate) fn until_the_end(&mut self) -> &[String] {
        let end = Instant::now() + PATIENCE;
        while match self.more(end.saturating_duration_since(Instant::now())) {
            Ok(()) => true,
            Err(RecvTimeoutError::Disconnected) => false,
            Err(RecvTimeoutError::Timeout) => panic!("somebody still writes to {:#?}", self.seen),
        } {}
        &self.seen
    }

    /// How many of all lines so far have `part` in them.
    pub(crate) fn count(&mut self, part: &str) -> usize {
        self.all().iter().filter(|line| line.contains(part)).count()
    }
}

/// A server that runs, or is about to.
pub(crate) struct Running {
    pub(crate) child: Child,
    /// What its handler tells.
    pub(crate) told: Lines,
    /// Its log.
    pub(crate) log: Lines,
    pub(crate) address: SocketAddr,
}

/// The command that starts it; `settings` as in a file.
pub(crate) fn command(settings: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("--role=server").args(arguments);
    settings.iter().for_each(|(key, value)| {
        command.env(format!("COMMONS_{}", key.to_ascii_uppercase()), value);
    });
    piped(&mut command);
    command
}

/// The same, once a shell has done this.
pub(crate) fn command_after(script: &str, settings: &[(&str, &str)], arguments: &[&str]) -> Command {
    let direct = command(settings, arguments);
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("{script}; exec \"$0\" \"$@\"")]).arg(direct.get_program()).args(direct.get_args());
    shell.envs(direct.get_envs().filter_map(|(key, value)| Some((key, value?))));
    piped(&mut shell);
    shell
}

/// Its output comes to the test, and it leads a group.
pub(crate) fn piped(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0)
}

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

impl Running {
    /// Starts it on some port of this machine, and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(settings: &[(&str, &str)], arguments: &[&str]) -> Running {
        let all = [&["--listen=tcp://127.0.0.1:0"], arguments].concat();
        let mut running = Running::by(&mut command(settings, &all));
        running.wait_ready();
        running
    }

    #[track_caller]
    pub(crate) fn by(command: &mut Command) -> Running {
        let mut child = command.spawn().expect("it starts");
        let told = Lines::of(child.stdout.take().expect("piped"));
        let log = Lines::of(child.stderr.take().expect("piped"));
        Running { child, told, log, address: NOWHERE }
    }

    #[track_caller]
    pub(crate) fn wait_ready(&mut self) {
        let line = self.log.next("ready: ");
        let first = line.split("://").nth(1).and_then(|rest| rest.split(',').next());
        self.address = first.and_then(|address| address.parse().ok()).unwrap_or(NOWHERE);
    }

    /// Starts it as a service manager would, with these sockets as descriptors 3 and more, by these names.
    #[track_caller]
    pub(crate) fn activated(
        sockets: &[impl AsFd],
        names: &str,
        settings: &[(&str, &str)],
        arguments: &[&str],
    ) -> Running {
        let copy = |socket: &_| {
            let copy = AsFd::as_fd(socket).try_clone_to_owned().expect("a descriptor");
            rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).expect("inherited");
            copy
        };
        // The shell puts them where they belong; to it they come under the numbers that they have here.
        let copies: Vec<_> = sockets.iter().map(copy).collect();
        let moves: String = copies.iter().zip(3..).map(|(from, to)| format!("{to}<&{} ", from.as_raw_fd())).collect();
        let variables = format!("LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={names}", sockets.len());
        Running::by(&mut command_after(&format!("exec {moves}; export {variables}"), settings, arguments))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    pub(crate) fn manager(&self) -> i32 {
        let mut found = None;
        until("there is a manager", || {
            found = children(self.pid()).first().copied();
            found.is_some()
        });
        found.expect("found")
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the server has left", || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        status.expect("it left")
    }

    /// Stops it, in good order.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{:#?}", self.log.until_the_end());
        let group = self.pid();
        assert!(members(group).is_empty(), "left behind: {:?}", members(group));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill_process_group(pid(self.pid()), Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let (log, told) = (self.log.all().join("\n"), self.told.all().join("\n"));
            let _ = std::io::stderr().write_all(format!("its log:\n{log}\nwhat it told:\n{told}\n").as_bytes());
        }
    }
}

#[track_caller]
pub(crate) fn pid(number: i32) -> Pid {
    Pid::from_raw(number).expect("a pid")
}

pub(crate) fn send(to: i32, signal: Signal) {
    // Gone already is fine: the tests look at what follows.
    let _ = kill_process(pid(to), signal);
}

pub(crate) fn is_gone(number: i32) -> bool {
    test_kill_process(pid(number)).is_err()
}

/// A process's state, parent and group.
fn stat(of: i32) -> Option<(char, i32, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{of}/stat")).ok()?;
    let mut rest = text.rsplit_once(") ")?.1.split(' ');
    Some((rest.next()?.chars().next()?, rest.next()?.parse().ok()?, rest.next()?.parse().ok()?))
}

fn processes() -> impl Iterator<Item = (i32, (char, i32, i32))> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(|pid| Some((pid, stat(pid)?)))
}

/// The living children of a process.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    processes().filter(|(_, (state, of, _))| *of == parent && *state != 'Z').map(|(pid, _)| pid).collect()
}

/// The living processes of a group.
pub(crate) fn members(group: i32) -> Vec<i32> {
    processes().filter(|(_, (state, _, of))| *of == group && *state != 'Z').map(|(pid, _)| pid).collect()
}

pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
