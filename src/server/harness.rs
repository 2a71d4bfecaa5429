//! For the project's own tests and measurements, which are programs with one thread. Not part of the contract: it changes without notice.
#![forbid(unsafe_code)]

use super::config::Config;
use super::daemon;
use super::listen::accept::Acceptor;
use super::listen::activation;
use super::listen::address::Address;
use super::listen::open::{Listener, Opening, open, open_each};
use super::listen::share::Loads;
use super::log::{Level, Log};
use super::pidfile::PidFile;
use crate::sys::child;
use crate::sys::fork::fork_and_run;
use crate::{AtomicLong, Error, Result};
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

const CALL: &str = "harness";

/// Runs `serve` in a daemon; see `daemon::daemonize`. It is handed what says that it is ready.
pub fn daemonize(
    log: Option<&Path>,
    patience: Duration,
    serve: impl FnOnce(&mut dyn FnMut() -> Result<()>) -> Result<()>,
) -> Result<()> {
    let log = log.map(|path| Log::new(Some(path), Level::Info)).transpose()?.and_then(|log| log.duplicate());
    let log = log.as_ref().map(AsFd::as_fd);
    daemon::daemonize(CALL, log, patience, |report| serve(&mut || report.ready()))
}

/// Holds a pid file while `inside` runs.
pub fn with_pid_file(path: &Path, inside: impl FnOnce()) -> Result<()> {
    let _file = PidFile::new(path)?;
    inside();
    Ok(())
}

/// Takes over what the service manager passed, and opens what it did not; where the sockets are in the end.
pub fn open_all(listen: &[String]) -> Result<Vec<String>> {
    let config = Config::default().listen(listen.iter().cloned());
    let how = Opening::of(&config)?;
    let mut passed = activation::passed()?;
    let mut all: Vec<Listener> = Vec::new();
    for address in config.addresses()? {
        let taken = passed.take(&address);
        if taken.is_empty() {
            all.push(open(&address, &how)?);
        }
        all.extend(taken);
    }
    passed.all_taken()?;
    Ok(all.iter().map(|listener| listener.address.to_string()).collect())
}

/// Writes `lines` lines to a log in each of `processes` processes at once.
pub fn log_from_processes(path: &Path, processes: usize, lines: usize) -> Result<()> {
    let log = Log::new(Some(path), Level::Info)?;
    let pids: Vec<_> = (0..processes)
        .map(|id| {
            fork_and_run(CALL, || {
                log.become_role(format!("worker {id}"));
                (0..lines)
                    .for_each(|line| log.line(Level::Info, format_args!("{line} {}", "x".repeat(100 + line % 500))));
                0
            })
        })
        .collect::<Result<_>>()?;
    pids.into_iter()
        .try_for_each(|pid| waitpid(Some(pid), WaitOptions::empty()).map(drop))
        .map_err(Error::system("waitpid"))
}

/// Writes lines to standard error; how many were lost.
pub fn log_to_standard_error(lines: usize) -> Result<u64> {
    let log = Log::new(None, Level::Info)?;
    (0..lines).for_each(|line| log.line(Level::Info, line));
    Ok(log.lost())
}

/// How workers share what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// One socket, all accept from it.
    All,
    /// One socket, of the waiting ones one is woken, and takes one connection.
    Exclusive,
    /// A socket for each, by SO_REUSEPORT.
    Each,
    /// One socket, and the rule of `listen::share`.
    Share,
}

/// How many of so many connections each worker gets, and how long it took. `burst`: all connect before any is waited for. `stopped`: the first worker is
/// (SIGSTOP).
pub fn spread(
    how: Spread,
    workers: usize,
    connections: usize,
    burst: bool,
    stopped: bool,
) -> Result<(Vec<i64>, Duration)> {
    let cells = (0..=workers).map(|_| AtomicLong::new(0)).collect::<Result<Vec<_>>>()?;
    let (held, ready) = cells.split_at(workers);
    let (address, opening) = (Address::parse("tcp://127.0.0.1:0")?, Opening::of(&Config::default())?);
    let sockets =
        if how == Spread::Each { open_each(&address, &opening, workers)? } else { vec![open(&address, &opening)?] };
    let address = sockets[0].local_address().ok_or(Error::Closed)?;
    let mut crowd = Crowd(Vec::new());
    for id in 0..workers {
        let socket = &sockets[id % sockets.len()].socket;
        crowd.0.push(fork_and_run(CALL, || i32::from(work(how, id, socket, held, &ready[0]).is_err()))?);
    }
    let wait = |what: &'static str, cell: &dyn Fn() -> i64, n: usize| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while cell() < n as i64 {
            if Instant::now() > deadline {
                return Err(Error::System { call: what, source: std::io::ErrorKind::TimedOut.into() });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    };
    wait("workers to be ready", &|| ready[0].get(), workers)?;
    if stopped {
        child::signal(crowd.0[0], Signal::STOP)?;
    }
    let began = Instant::now();
    let clients = connect(address, connections, burst).map_err(Error::system("connect"))?;
    wait("all connections to be accepted", &|| held.iter().map(AtomicLong::get).sum(), connections)?;
    let took = began.elapsed();
    drop(clients);
    Ok((held.iter().map(AtomicLong::get).collect(), took))
}

/// Processes that end with this.
struct Crowd(Vec<Pid>);

impl Drop for Crowd {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = child::signal(*pid, Signal::KILL);
            let _ = waitpid(Some(*pid), WaitOptions::empty());
        }
    }
}

fn connect(address: SocketAddr, n: usize, burst: bool) -> std::io::Result<Vec<OwnedFd>> {
    let one = |_| {
        if !burst {
            return TcpStream::connect(address).map(OwnedFd::from);
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(socket.into()),
        }
    };
    (0..n).map(one).collect()
}

fn work(how: Spread, id: usize, socket: &Socket, held: &[AtomicLong], ready: &AtomicLong) -> Result<()> {
    let mut kept: Vec<OwnedFd> = Vec::new();
    if how == Spread::Exclusive {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::system("epoll_create"))?;
        let wanted = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        epoll::add(&epoll, socket, epoll::EventData::new_u64(0), wanted).map_err(Error::system("epoll_ctl"))?;
        ready.add(1);
        loop {
            let mut events = Vec::with_capacity(1);
            let spare = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(&epoll, spare, None).map_err(Error::system("epoll_wait"))?;
            if let Ok(connection) = accept_with(socket, SocketFlags::CLOEXEC) {
                held[id].add(1);
                kept.push(connection);
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Error::system("tokio runtime"))?.block_on(async {
        let mut acceptor = Acceptor::new(socket, how == Spread::Share)?;
        let room = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        ready.add(1);
        loop {
            let loads = || Loads {
                mine: held[id].get().unsigned_abs(),
                total: held.iter().map(|cell| cell.get().unsigned_abs()).sum(),
                workers: held.len() as u64,
            };
            let Some(taken) = acceptor.accept(&room, loads).await else { return Ok(()) };
            let (connection, permit) = taken.map_err(Error::system("accept"))?;
            permit.forget();
            kept.push(connection);
            held[id].add(1);
        }
    })
}
