//! The real binary as a child process, and a small HTTP client, for the tests of the counters server.
//!
//! Every wait is for an event, with a deadline; whatever a test does, the server it started is killed when it ends, and
//! the workers die with their manager.

#![allow(dead_code, unreachable_pub)] // each test file uses its own part

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// A bound for what should take milliseconds; generous, for machines under load.
pub const SOON: Duration = Duration::from_secs(20);

pub const BINARY: &str = env!("CARGO_BIN_EXE_commons");

/// Waits until `done` is true; panics with `what` when it is not within [`SOON`].
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A running server.
pub struct Served {
    child: Child,
    pub address: SocketAddr,
    lines: mpsc::Receiver<String>,
    errors: mpsc::Receiver<String>,
}

impl Served {
    pub fn start(workers: usize) -> Self {
        Self::start_by(Command::new(BINARY).args(["--port", "0", "--workers", &workers.to_string()]))
    }

    /// Starts it with a temporary directory of its own.
    pub fn start_in(workers: usize, temp: &std::path::Path) -> Self {
        let workers = workers.to_string();
        Self::start_by(Command::new(BINARY).args(["--port", "0", "--workers", &workers]).env("TMPDIR", temp))
    }

    /// Starts it with further arguments.
    pub fn start_with(workers: usize, arguments: &[&str]) -> Self {
        let workers = workers.to_string();
        Self::start_by(Command::new(BINARY).args(["--port", "0", "--workers", &workers]).args(arguments))
    }

    /// Starts it through a shell that does `before` first.
    pub fn start_after(before: &str, workers: usize) -> Self {
        let script = format!("{before}; exec \"$0\" --port 0 --workers {workers}");
        Self::start_by(Command::new("sh").args(["-c", &script, BINARY]))
    }

    /// Starts it with these signals ignored. (No shell does: what it hands down of a `trap` on SIGCHLD is nothing.)
    pub fn start_ignoring(signals: &'static [Signal], workers: usize) -> Self {
        let ignore = move || {
            for signal in signals {
                #[allow(unsafe_code)]
                // SAFETY: SIG_IGN is an action, and to set one is safe between fork and exec.
                unsafe {
                    libc::signal(signal.as_raw(), libc::SIG_IGN)
                };
            }
            Ok(())
        };
        let workers = workers.to_string();
        let mut command = Command::new(BINARY);
        command.args(["--port", "0", "--workers", &workers]);
        #[allow(unsafe_code)]
        // SAFETY: as said there; it allocates nothing and takes no lock.
        Self::start_by(unsafe { command.pre_exec(ignore) })
    }

    fn start_by(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary");
        let stdout = child.stdout.take().expect("piped");
        Self::adopt(stdout, child)
    }

    /// Takes over one that is starting.
    pub fn adopt(stdout: ChildStdout, mut child: Child) -> Self {
        let lines = lines_of(stdout);
        let errors = child.stderr.take().map_or_else(|| mpsc::channel().1, lines_of);
        let line = lines.recv_timeout(SOON);
        let address = line.as_ref().ok().and_then(|line| {
            line.split_once("http://")
                .and_then(|(_, rest)| rest.split_once('/'))
                .and_then(|(address, _)| address.parse().ok())
        });
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("no address in {line:?}; stderr: {:?}", errors.try_iter().collect::<Vec<_>>());
        };
        Self { child, address, lines, errors }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address).expect("connect")
    }

    pub fn stats(&self) -> Stats {
        Stats(self.connect().get("/stats").json())
    }

    fn try_stats(&self) -> Option<Stats> {
        let mut client = self.connect();
        client.write("GET /stats HTTP/1.1\r\nHost: test\r\n\r\n").ok()?;
        client.read(false).ok().map(|response| Stats(response.json()))
    }

    /// Waits until each place has a live worker that is not among `but`; returns their pids.
    pub fn workers_but(&self, but: &[i32]) -> Vec<i32> {
        let mut pids = Vec::new();
        until("a live worker in each place", || {
            // A connection that a worker took just before it was killed dies with it; the next one is answered.
            let Some(stats) = self.try_stats() else { return false };
            pids = stats.each("pid").into_iter().map(|pid| i32::try_from(pid).expect("a pid")).collect();
            pids.iter().all(|pid| !but.contains(pid) && *pid > 0 && is_alive(*pid))
        });
        pids
    }

    pub fn workers(&self) -> Vec<i32> {
        self.workers_but(&[])
    }

    /// Whether it has left; never waits.
    pub fn left(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// Waits for it to leave.
    pub fn leave(&mut self) -> ExitStatus {
        let mut status = None;
        until("the manager leaves", || {
            status = self.left();
            status.is_some()
        });
        status.expect("until says so")
    }

    /// Waits for a line on its standard output that `wanted` likes, and passes over those before it.
    pub fn line(&mut self, what: &str, mut wanted: impl FnMut(&str) -> bool) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no line within {SOON:?}: {what}"));
            if wanted(&line) {
                return line;
            }
        }
    }

    /// Lines on its standard output so far; after it has left, all of them.
    pub fn lines(&mut self) -> Vec<String> {
        if self.left().is_some() {
            return self.lines.iter().collect();
        }
        self.lines.try_iter().collect()
    }

    /// Lines on its standard error so far; after it has left, all of them.
    pub fn errors(&mut self) -> Vec<String> {
        if self.left().is_some() {
            let mut lines = Vec::new();
            while let Ok(line) = self.errors.recv_timeout(SOON) {
                lines.push(line);
            }
            return lines;
        }
        self.errors.try_iter().collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(source: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

pub fn send(pid: i32, signal: Signal) {
    // Gone already is fine: the tests look at what follows.
    let _ = kill_process(Pid::from_raw(pid).expect("a pid"), signal);
}

/// (state, parent) of a process, from /proc.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut rest = text.rsplit_once(") ")?.1.split(' ');
    Some((rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}

/// Whether a process runs (a zombie does not).
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// Whether a process is stopped (SIGSTOP).
pub fn is_stopped(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state == 'T')
}

/// The children of a process: (pid, whether it is a zombie).
pub fn children(parent: i32) -> Vec<(i32, bool)> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| stat(pid).filter(|(_, of)| *of == parent).map(|(state, _)| (pid, state == 'Z')))
        .collect()
}

/// `GET /stats`.
pub struct Stats(pub serde_json::Value);

impl Stats {
    pub fn total(&self) -> i64 {
        self.0["total"].as_i64().expect("total")
    }

    /// One number of each worker.
    pub fn each(&self, key: &str) -> Vec<i64> {
        let workers = self.0["workers"].as_array().expect("workers");
        workers.iter().map(|worker| worker[key].as_i64().expect("a number")).collect()
    }

    pub fn sum(&self, key: &str) -> i64 {
        self.each(key).iter().sum()
    }
}

pub struct Response {
    pub status: u16,
    /// Status line and headers, in lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    /// Bytes read and not yet used.
    held: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> std::io::Result<Self> {
        Self::within(address, SOON)
    }

    /// One that waits for no step of what it does longer than `patience`.
    pub fn within(address: SocketAddr, patience: Duration) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, held: Vec::new() })
    }

    pub fn write(&mut self, text: &str) -> std::io::Result<()> {
        self.stream.write_all(text.as_bytes())
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.ask("GET", path)
    }

    pub fn ask(&mut self, method: &str, path: &str) -> Response {
        self.write(&format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n")).expect("write");
        self.read(method == "HEAD").expect("a response")
    }

    /// Reads one response. The error is `UnexpectedEof` when the connection ended first.
    pub fn read(&mut self, head_only: bool) -> std::io::Result<Response> {
        let end = loop {
            if let Some(at) = self.held.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let head = String::from_utf8_lossy(&self.held[..end]).to_lowercase();
        let mut response =
            Response { status: head[9..12].parse().map_err(|_| ErrorKind::InvalidData)?, head, body: Vec::new() };
        let length: usize = response.header("content-length").map_or(0, |text| text.parse().expect("a length"));
        let length = if head_only { 0 } else { length };
        while self.held.len() < end + length {
            self.fill()?;
        }
        response.body = self.held[end..end + length].to_vec();
        self.held.drain(..end + length);
        Ok(response)
    }

    fn fill(&mut self) -> std::io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            n => {
                self.held.extend_from_slice(&bytes[..n]);
                Ok(())
            }
        }
    }

    /// What has gone wrong on the connection, apart from what a call has returned.
    pub fn error(&self) -> Option<std::io::Error> {
        self.stream.take_error().expect("SO_ERROR")
    }

    /// Waits until the server has closed the connection, with nothing left to read.
    pub fn is_closed(&mut self) -> bool {
        match self.fill() {
            Ok(()) => false,
            Err(error) => matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset),
        }
    }
}
