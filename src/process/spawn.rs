//! One process beside this one: a closure that runs in a fork, a line to it, and its end.
//!
//! ```text
//!   parent                                          child
//!   ──────                                          ─────
//!   names looked up, memory made, a pipe
//!   fork ─────────────────────────────────────────▶ processors, name, privileges; then: die with the parent
//!   waits for one of: begun, why not, dead  ◀────── "begun"
//!   line ◀──────────── messages ──────────────────▶ the closure
//!   end: recover what it held, then reap    ◀────── _exit
//! ```
//!
//! # Who may die when
//! * *The child.* The pidfd says so; a `recv` that waits for it ends. While it is a zombie, what it held in shared memory is recovered; then it is reaped.
//!   Everything goes by the pidfd, so that a number given out again names nobody.
//! * *The parent.* The kernel kills the child. It asks for that last of its preparations, for a change of credentials takes the request back; a parent that
//!   died before is noticed, because its child has another one by then.
#![forbid(unsafe_code)]

use super::affinity::Cpus;
use super::boot::{Boot, FAILED, run};
use super::exit::{Exit, Status};
use super::link::{Line, Link, Wires};
use super::privileges::Privileges;
use super::report::{Ear, Report, report};
use super::title::Title;
use crate::robust::{Patience, at_once};
use crate::sync::clock;
use crate::sys::child;
use crate::sys::fork::{for_own_children, fork_and_run, one_thread};
use crate::sys::pidfd::{PidFd, wait_for_any};
use crate::sys::signal::keep_the_dead;
use crate::{Error, Result};
use rustix::process::{Pid, Signal, getpid};
use std::fmt;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

/// The name under which errors speak of this call.
const CALL: &str = "Process::spawn";
/// What is sent in one direction and not received yet, unless said otherwise.
const BUFFER: usize = 1 << 16;
/// A child process that runs a closure, with a line to it.
///
/// The child dies with the parent, and **with this value**: dropping it kills the child and waits for its end, so that nothing runs that nobody holds.
/// Who wants it to end by itself calls [`wait`](Process::wait). In a process forked later the value is a stranger's: its methods are
/// [`Error::WrongProcess`], and dropping it does nothing.
///
/// # Examples
/// ```
/// use commons::process::{Exit, Process};
///
/// let mut child = Process::spawn("doubler", |link| {
///     let number = link.recv()?;
///     link.send(&[number[0] * 2])
/// })?;
/// child.send(&[21])?;
/// assert_eq!(child.recv()?, [42]);
/// assert_eq!(child.wait()?, Exit::Status(0));
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Process {
    name: String,
    line: Line,
    ear: Ear,
    /// The process that this value belongs to.
    home: Pid,
    ended: Option<Exit>,
    error: Option<String>,
}

/// Sets how a process is to run; see [`Process::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `spawn`"]
pub struct ProcessBuilder {
    name: String,
    buffer: usize,
    max_message: Option<usize>,
    cpus: Option<Cpus>,
    privileges: Privileges,
}

impl ProcessBuilder {
    /// Bytes of each direction's channel, 16 ..= 512 MiB; 64 KiB unless said otherwise. Who sends more waits until it was received.
    pub fn buffer(mut self, bytes: usize) -> ProcessBuilder {
        self.buffer = bytes;
        self
    }

    /// The longest message in bytes; a quarter of the [buffer](ProcessBuilder::buffer) unless said otherwise.
    pub fn max_message(mut self, bytes: usize) -> ProcessBuilder {
        self.max_message = Some(bytes);
        self
    }

    /// The processors that the child may use.
    pub fn cpus(mut self, cpus: Cpus) -> ProcessBuilder {
        self.cpus = Some(cpus);
        self
    }

    /// Who the child is to become. It does not begin otherwise.
    pub fn privileges(mut self, privileges: Privileges) -> ProcessBuilder {
        self.privileges = privileges;
        self
    }

    /// Forks a process that runs `closure`, and returns when that has begun.
    ///
    /// The child has this process's memory and descriptors as they are, no signal is blocked in it, and it leaves without running what this process would at its end. When
    /// `closure` returns an error or panics, the parent is [told](Process::error).
    ///
    /// # Errors
    /// Before there is a child: [`Error::Threads`] when this process has more than one; [`Error::NameTooLong`] for a name of more than 15 bytes, the kernel's
    /// limit; [`Error::UnknownUser`], [`Error::UnknownGroup`], [`Error::BadFile`]; [`Error::OutOfRange`] and [`Error::System`] as
    /// [`ChannelBuilder::build`](crate::ChannelBuilder::build). Afterwards, when there is none any more: [`Error::Boot`] says what went wrong in it.
    pub fn spawn<S: Status>(self, closure: impl FnOnce(&Link) -> S) -> Result<Process> {
        let boot = Boot {
            title: Title::new(&self.name, &self.name)?,
            privileges: self.privileges.resolve()?,
            cpus: self.cpus,
        };
        one_thread(CALL)?;
        // Also in a worker of a server, which makes it for its own child.
        let max_message = self.max_message.unwrap_or(self.buffer / 4);
        let wires = for_own_children(|| Wires::new(&self.name, self.buffer, max_message))?;
        let (ear, mouth) = report()?;
        keep_the_dead()?;
        // What stands in the buffer now would be written by both.
        let _ = std::io::stdout().flush();
        let home = getpid();
        let mut shared = Some((wires, mouth, ear));
        let pid = fork_and_run(CALL, || match shared.take() {
            Some((wires, mouth, ear)) => {
                drop(ear);
                run(home, &boot, wires, &mouth, closure)
            }
            None => FAILED,
        })?;
        let number = pid.as_raw_nonzero().get().unsigned_abs();
        let Some((wires, mouth, ear)) = shared.take() else { return Err(Error::Gone { pid: number }) };
        drop(mouth);
        let other = PidFd::open(pid).inspect_err(|_| {
            // No descriptor is left to hold it by: it must not run on unheld. Nobody reaps meanwhile, so its number is its own.
            if child::put_down(pid).is_ok() {
                let _ = (crate::recover(number), child::reap(pid));
            }
        })?;
        let line = wires.upper(other, number);
        let mut process = Process { name: self.name, line, ear, home, ended: None, error: None };
        process.begin()?;
        Ok(process)
    }
}

impl Process {
    /// Forks a process that runs `child`, with a name of at most 15 bytes that the process list shows; see [`ProcessBuilder::spawn`].
    ///
    /// # Errors
    /// As [`ProcessBuilder::spawn`].
    pub fn spawn<S: Status>(name: &str, child: impl FnOnce(&Link) -> S) -> Result<Process> {
        Process::builder(name).spawn(child)
    }

    /// Sets how a process is to run.
    ///
    /// # Examples
    /// ```
    /// use commons::process::{Cpus, Process};
    ///
    /// let builder = Process::builder("pinned").buffer(1 << 20).cpus(Cpus::allowed()?.nth(0));
    /// let child = builder.spawn(|link| link.send(&vec![7; 1 << 18]))?;
    /// assert_eq!(child.recv()?.len(), 1 << 18);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn builder(name: &str) -> ProcessBuilder {
        let privileges = Privileges::new();
        ProcessBuilder { name: name.into(), buffer: BUFFER, max_message: None, cpus: None, privileges }
    }

    /// Waits until the child has begun, or has told why not.
    fn begin(&mut self) -> Result<()> {
        loop {
            let over = self.line.other.is_over()?;
            let Report { begun, wrong } = self.ear.hear()?;
            if begun {
                // One so quick may have failed as well by now.
                self.error = wrong;
                return Ok(());
            }
            if wrong.is_some() || over {
                let exit = self.wait()?;
                let why = wrong.unwrap_or_else(|| exit.to_string());
                return Err(Error::Boot { name: self.name.clone(), why });
            }
            let _ = wait_for_any(&[self.ear.as_fd(), self.line.other.as_fd()], None)?;
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number; it is nobody else's before the end was waited for.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.line.pid
    }

    /// Waits for its end. Recovers what it held in shared memory, then reaps it; from then on the answer is the same for ever.
    ///
    /// A child that waits for room to send in, or for a message, waits for ever unless its closure is told otherwise; see [`close`](Process::close).
    ///
    /// # Errors
    /// [`Error::System`] when somebody else reaped it, so that nobody knows; [`Error::WrongProcess`].
    pub fn wait(&mut self) -> Result<Exit> {
        self.end(Patience::Endless)
    }

    /// Its end, if it has ended.
    ///
    /// # Errors
    /// As [`wait`](Process::wait).
    pub fn try_wait(&mut self) -> Result<Option<Exit>> {
        at_once(self.end(Patience::None))
    }

    /// Waits for its end for at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`wait`](Process::wait).
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Exit> {
        self.end(Patience::lasting(timeout))
    }

    fn end(&mut self, patience: Patience) -> Result<Exit> {
        self.at_home("Process::wait")?;
        loop {
            if let Some(exit) = self.ended {
                return Ok(exit);
            }
            if let Some(end) = self.line.other.end()? {
                self.bury(end.into())?;
                continue;
            }
            patience.check()?;
            let deadline = match patience {
                Patience::Until { deadline, .. } => Some(deadline),
                Patience::None => Some(clock::now()),
                Patience::Endless => None,
            };
            wait_for_any(&[self.line.other.as_fd()], deadline)?;
        }
    }

    /// It is dead and still has its number: what it held is recovered first.
    fn bury(&mut self, exit: Exit) -> Result<()> {
        // An error leaves what it held to those who wait for it; they find out by themselves.
        let _ = crate::recover(self.pid());
        self.line.other.reap()?;
        self.ended = Some(exit);
        if let Some(why) = self.ear.hear()?.wrong {
            self.error = Some(why);
        }
        Ok(())
    }

    /// What its closure ended with, when that was an error or a panic; known once the end was waited for.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Sends it a signal, by its number: 15 asks it to end, 9 ends it.
    ///
    /// # Errors
    /// [`Error::Gone`] when it has ended and that is known; [`Error::OutOfRange`] for what is no signal; [`Error::WrongProcess`].
    pub fn kill(&self, signal: i32) -> Result<()> {
        self.at_home("Process::kill")?;
        let named = Signal::from_named_raw(signal).ok_or(Error::OutOfRange {
            what: "the signal",
            value: u64::try_from(signal).unwrap_or(0),
            min: 1,
            max: 31,
        })?;
        if self.ended.is_none() && self.line.other.signal(named)? {
            Ok(())
        } else {
            Err(Error::Gone { pid: self.pid() })
        }
    }

    /// Sends it a message, waiting for room. What is sent to a child that has ended, or never receives, is lost.
    ///
    /// # Errors
    /// [`Error::TooLong`]; [`Error::Closed`] after [`close`](Process::close); [`Error::Gone`] when there is no room and it has ended; [`Error::WrongProcess`].
    pub fn send(&self, message: &[u8]) -> Result<()> {
        self.at_home("Process::send")?;
        self.line.send(message, Patience::Endless)
    }

    /// Sends it a message, waiting for room for at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`send`](Process::send).
    pub fn send_timeout(&self, message: &[u8], timeout: Duration) -> Result<()> {
        self.at_home("Process::send_timeout")?;
        self.line.send(message, Patience::lasting(timeout))
    }

    /// Receives its next message, waiting for it.
    ///
    /// # Errors
    /// [`Error::Gone`] when it has ended and all that it sent was received; [`Error::Closed`] when it has closed its end; [`Error::WrongProcess`].
    pub fn recv(&self) -> Result<Vec<u8>> {
        self.at_home("Process::recv")?;
        self.line.receive(Patience::Endless)
    }

    /// Receives its next message, waiting for it for at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`recv`](Process::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Vec<u8>> {
        self.at_home("Process::recv_timeout")?;
        self.line.receive(Patience::lasting(timeout))
    }

    /// Receives its next message, if there is one.
    ///
    /// # Errors
    /// As [`recv`](Process::recv).
    pub fn try_recv(&self) -> Result<Option<Vec<u8>>> {
        self.at_home("Process::try_recv")?;
        at_once(self.line.receive(Patience::None))
    }

    /// Says that nothing more is sent to it: its `recv` takes what is left, and is told then.
    ///
    /// # Errors
    /// [`Error::WrongProcess`].
    pub fn close(&self) -> Result<()> {
        self.at_home("Process::close")?;
        self.line.close()
    }

    fn at_home(&self, call: &'static str) -> Result<()> {
        let here = getpid();
        if self.home == here {
            return Ok(());
        }
        Err(Error::WrongProcess {
            call,
            expected: "parent of the process",
            pid: here.as_raw_nonzero().get().unsigned_abs(),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() && self.home == getpid() && self.line.other.signal(Signal::KILL).is_ok() {
            // Killed, it ends soon; an error says that somebody else reaped it.
            let _ = self.wait();
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name)
            .field("pid", &self.pid())
            .field("ended", &self.ended)
            .finish()
    }
}
