//! Detaching from the terminal, so that whoever started the server learns how the start went.
//!
//! ```text
//!   starter ── fork ──▶ leader ── setsid, fork ──▶ daemon: no terminal, and not a leader, so it never gets one
//!      │                  └ leaves at once            │ "/", standard streams to nowhere or the log
//!      └────── waits ◀───────── ready / why not / end of file ─────────┘
//! ```
//!
//! Processes that the daemon forks before it is ready hold its end of the report too, so that the end of file may not come; the starter's patience does.
//! It happens before anything else exists: every descriptor, lock and region of the server is the daemon's own.
//! A starter that is killed, or has lost its patience, closes its end; the daemon then finds nobody to tell that it is ready, and ends: a start that
//! somebody saw fail leaves nothing running.
#![forbid(unsafe_code)]

use crate::sys::fork::fork_and_run;
use crate::{Error, Result};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, chdir, setsid, waitpid};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The most of a daemon's last words that is passed on.
const WORDS: usize = 4096;
const READY: u8 = b'R';
const FAILED: u8 = b'E';

/// How the daemon tells its starter that it is ready.
#[derive(Debug)]
pub(crate) struct Report {
    to: Option<UnixStream>,
}

impl Report {
    /// The server serves: the starter returns.
    ///
    /// # Errors
    /// [`Error::Daemon`]: the starter is gone, and the start has failed for whoever waited for it; leave.
    pub(crate) fn ready(&mut self) -> Result<()> {
        let Some(mut to) = self.to.take() else { return Ok(()) };
        to.write_all(&[READY]).map_err(|_| Error::Daemon { why: "whoever started it has not waited for it".to_owned() })
    }

    /// After it was ready there is nobody to tell.
    fn failed(&mut self, why: &str) {
        if let Some(mut to) = self.to.take() {
            let why = &why.as_bytes()[..why.floor_char_boundary(WORDS)];
            // Who does not listen is not waiting.
            let _ = to.write_all(&[&[FAILED], why].concat());
        }
    }
}

/// Runs `serve` in a daemon, and returns in the calling process when the daemon says that it is ready, or cannot be. Standard output and error go to
/// `log`, if there is one. The daemon leaves with status 0 when `serve` returns, or 1 with its error.
///
/// # Errors
/// [`Error::Threads`]; [`Error::Daemon`]: what `serve` said before it was ready, or that it ended without a word, or took longer than `patience`.
pub(crate) fn daemonize(
    call: &'static str,
    log: Option<BorrowedFd<'_>>,
    patience: Duration,
    serve: impl FnOnce(&mut Report) -> Result<()>,
) -> Result<()> {
    let (from, to) = UnixStream::pair().map_err(Error::system("socketpair"))?;
    let mut from = Some(from);
    let leader = fork_and_run(call, || {
        // While this process held it too, the starter's end would not be known to be closed.
        drop(from.take());
        let mut report = Some(Report { to: Some(to) });
        let led = setsid()
            .map_err(Error::system("setsid"))
            .and_then(|_| fork_and_run(call, || report.take().map_or(1, |report| live(report, log, serve))).map(drop));
        match led {
            Ok(()) => 0,
            Err(error) => {
                if let Some(report) = &mut report {
                    report.failed(&error.to_string());
                }
                1
            }
        }
    })?;
    await_end(leader)?;
    match from {
        Some(from) => listen(from, patience),
        None => Err(Error::Daemon { why: "its report was lost".to_owned() }),
    }
}

/// The daemon itself.
fn live(mut report: Report, log: Option<BorrowedFd<'_>>, serve: impl FnOnce(&mut Report) -> Result<()>) -> i32 {
    let served = detach(log).and_then(|()| serve(&mut report));
    match served {
        Ok(()) => 0,
        Err(error) => {
            report.failed(&error.to_string());
            1
        }
    }
}

fn detach(log: Option<BorrowedFd<'_>>) -> Result<()> {
    // So as to keep no file system from being unmounted.
    chdir("/").map_err(Error::system("chdir(/)"))?;
    let nowhere =
        open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(Error::system("open(/dev/null)"))?;
    rustix::stdio::dup2_stdin(&nowhere).map_err(Error::system("dup2"))?;
    match log {
        Some(log) => rustix::stdio::dup2_stdout(log).and_then(|()| rustix::stdio::dup2_stderr(log)),
        None => rustix::stdio::dup2_stdout(&nowhere).and_then(|()| rustix::stdio::dup2_stderr(&nowhere)),
    }
    .map_err(Error::system("dup2"))
}

/// The leader leaves as soon as it has forked.
fn await_end(leader: Pid) -> Result<()> {
    loop {
        match waitpid(Some(leader), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            // Somebody ignores SIGCHLD, and the kernel has reaped it.
            Ok(_) | Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(Error::system("waitpid")(error)),
        }
    }
}

fn listen(mut from: UnixStream, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    let mut said = Vec::new();
    let failed = |why: &str| Err(Error::Daemon { why: why.to_owned() });
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return failed(&format!("it was not ready within {patience:?}"));
        }
        from.set_read_timeout(Some(left)).map_err(Error::system("setting a timeout"))?;
        let mut some = [0; 512];
        let n = match from.read(&mut some) {
            Ok(n) => n,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => continue,
            // Reset: it ended with something of ours unread, which is never written.
            Err(_) => 0,
        };
        said.extend_from_slice(&some[..n]);
        match said.split_first() {
            Some((&READY, _)) => return Ok(()),
            None if n == 0 => return failed("it ended before it was ready, and did not say why; its log may"),
            Some((_, why)) if n == 0 || said.len() > WORDS => return failed(&String::from_utf8_lossy(why)),
            _ => {}
        }
    }
}
