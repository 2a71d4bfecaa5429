//! Where and with how many workers the counters server runs, and what it tells.
#![forbid(unsafe_code)]

use super::manager::{Clockwork, manage};
use crate::process::supervise::Policy;
use crate::server::config::Config;
use crate::server::listen::address::{Address, Host};
use crate::server::listen::open::{Opening, open};
use crate::sys::fork::one_thread;
use crate::{Error, Result};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;

/// The most workers that a server may have.
pub const MAX_WORKERS: usize = 256;

/// The port that [`Options`] starts with.
pub const DEFAULT_PORT: u16 = 9501;

/// Where and with how many workers to serve.
///
/// # Examples
///
/// ```
/// let options = commons::server::counters::Options::default().port(0).workers(2);
/// let server = options.bind()?;
/// assert!(server.address().ip().is_loopback());
/// # Ok::<(), commons::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    address: IpAddr,
    port: u16,
    workers: usize,
    grace: Duration,
    beat: Duration,
    quiet: bool,
}

impl Default for Options {
    /// 127.0.0.1, port 9501, a worker for each processor that this process may use (at most 256), 5 s of grace, totals every 10 s.
    fn default() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: DEFAULT_PORT,
            workers: available_parallelism().map_or(1, NonZero::get).min(MAX_WORKERS),
            grace: Duration::from_secs(5),
            beat: Duration::from_secs(10),
            quiet: false,
        }
    }
}

impl Options {
    /// The address of this machine to listen on.
    #[must_use]
    pub fn address(self, address: IpAddr) -> Self {
        Self { address, ..self }
    }

    /// The TCP port, 0 for one that the kernel chooses.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// How many worker processes, 1..=256.
    #[must_use]
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// How long a worker may take to leave when it is asked to, before it is killed; 1 ms to 1 h.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// How often [`Notice::Totals`] is told, 10 ms to 1 h; the rates of `/stats` rotate at every sixth, which makes minutes of the 10 s that it starts with.
    #[must_use]
    pub fn beat(self, beat: Duration) -> Self {
        Self { beat, ..self }
    }

    /// Whether [`Notice::Totals`] is never told.
    #[must_use]
    pub fn quiet(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }

    /// Checks the options and takes the port. Clients may connect from here on, and wait until the server runs.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] names an option, its value and its range. [`Error::Listen`]: the address is taken, or not
    /// this machine's, or not allowed.
    pub fn bind(&self) -> Result<Counters> {
        in_range("workers", self.workers as u64, 1, MAX_WORKERS as u64)?;
        let grace = u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX);
        in_range("grace in milliseconds", grace, 1, 3_600_000)?;
        in_range("beat in milliseconds", u64::try_from(self.beat.as_millis()).unwrap_or(u64::MAX), 10, 3_600_000)?;
        let listener = open(&Address::Tcp(Host::Ip(self.address), self.port), &Opening::of(&Config::default())?)?;
        let listener = TcpListener::from(listener.socket);
        let address = listener.local_addr().map_err(Error::system("getsockname"))?;
        let (workers, beat, quiet) = (self.workers, self.beat, self.quiet);
        Ok(Counters { listener, address, workers, grace, beat, quiet, home: std::process::id() })
    }
}

fn in_range(what: &'static str, value: u64, min: u64, max: u64) -> Result<()> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(Error::OutOfRange { what, value, min, max }) }
}

/// A counters server that has its port and does not run yet.
#[derive(Debug)]
pub struct Counters {
    listener: TcpListener,
    address: SocketAddr,
    workers: usize,
    grace: u64,
    beat: Duration,
    quiet: bool,
    home: u32,
}

impl Counters {
    /// The address that clients connect to, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until a signal ends it: forks the workers, replaces those that die, and returns when the last one is gone.
    ///
    /// While it runs, SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2 and SIGWINCH belong to it, and every child of this process that dies is
    /// reaped, whoever forked it. `tell` hears what an operator should know; it runs in this process, between two
    /// decisions, and must not wait for anything.
    ///
    /// # Errors
    ///
    /// [`Error::Threads`]: this process has more than one thread, so forking is not safe; nothing has happened.
    /// [`Error::WrongProcess`]: this is not the process that bound the port. [`Error::NeverReady`]: the workers die
    /// before they can serve. [`Error::System`]: the kernel refused something without which no server can run.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use commons::server::counters::Options;
    ///
    /// Options::default().bind()?.run(|notice| eprintln!("{notice}"))?;
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn run(self, mut tell: impl FnMut(Notice)) -> Result<()> {
        let (call, pid) = ("Counters::run", std::process::id());
        if pid != self.home {
            return Err(Error::WrongProcess { call, expected: "process that bound the port", pid });
        }
        one_thread(call)?;
        let policy = Policy { grace: self.grace, reload_grace: self.grace, ..Policy::default() };
        let clockwork = Clockwork { beat: self.beat, quiet: self.quiet };
        manage(self.listener, self.address, self.workers, policy, clockwork, &mut tell)
    }
}

/// What an operator should know; `Display` says it in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The workers are forked, and clients can connect.
    Started {
        /// Where.
        address: SocketAddr,
        /// The manager: the process to send signals to.
        manager: u32,
        /// The workers.
        workers: Vec<u32>,
    },
    /// Something went wrong, and what is done about it.
    Trouble(String),
    /// A worker says what happens to it.
    Event {
        /// Its place.
        worker: usize,
        /// Its process.
        pid: u32,
        /// What.
        kind: EventKind,
    },
    /// How it goes, told every 10 s unless the options say otherwise.
    Totals {
        /// Requests answered since the start.
        requests: i64,
        /// Those since the last time.
        more: i64,
        /// Workers that are alive, of how many.
        workers: (usize, usize),
        /// Connections that they hold.
        connections: i64,
        /// Workers that died without being asked to.
        crashes: i64,
    },
    /// A reload (SIGUSR1, SIGHUP) is over.
    Reloaded {
        /// Workers that were replaced by new ones.
        renewed: usize,
        /// Places that keep the worker they had, since no new one became ready.
        kept: usize,
    },
}

/// What a worker tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// It accepts connections.
    Serving,
    /// It was asked to leave.
    Leaving {
        /// Connections that it still holds.
        open: u64,
    },
    /// It leaves; its last connection has ended.
    Left {
        /// Requests that its place has answered since the start of the server.
        hits: u64,
    },
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serving => f.write_str("serves"),
            Self::Leaving { open } => write!(f, "was asked to leave, {open} connections open"),
            Self::Left { hits } => write!(f, "leaves, {hits} requests were answered in its place"),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { address, manager, workers } => {
                write!(f, "serving http://{address}/ (manager {manager}, workers")?;
                // Enough to see who is there; all of them are in /stats.
                for pid in workers.iter().take(8) {
                    write!(f, " {pid}")?;
                }
                f.write_str(if workers.len() > 8 { " …)" } else { ")" })
            }
            Self::Trouble(text) => f.write_str(text),
            Self::Event { worker, pid, kind } => write!(f, "worker {worker} (pid {pid}) {kind}"),
            Self::Totals { requests, more, workers: (alive, of), connections, crashes } => write!(
                f,
                "{requests} requests (+{more}), {alive} of {of} workers, {connections} connections, {crashes} crashes"
            ),
            Self::Reloaded { renewed, kept: 0 } => write!(f, "reloaded, {renewed} workers renewed"),
            Self::Reloaded { renewed, kept } => {
                write!(f, "reloaded, {renewed} workers renewed, {kept} could not be: the old ones go on")
            }
        }
    }
}
