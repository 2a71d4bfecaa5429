//! The log: lines with time, level, process and text, to standard error or a file.
//!
//! Each line is one `write`, at the file's end wherever that is by then (O_APPEND): lines of several processes never mix. It never waits. Where a write
//! would, or fails, as on a full disk, the line is lost; lines that were lost are counted, and told by the next line that finds room.
#![forbid(unsafe_code)]

use crate::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, ReadWriteFlags, pwritev2, write};
use std::cell::{Cell, RefCell};
use std::fmt::{self, Write};
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The most bytes of one line: what a pipe takes in one piece, or not at all (PIPE_BUF).
const LINE: usize = 4096;
/// Room for the words that say how much of a line is missing.
const CUT: usize = 40;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What only a developer wants to know.
    Debug,
    /// What happens.
    Info,
    /// What should not happen, and was dealt with.
    Warning,
    /// What went wrong.
    Error,
    /// As a least level: nothing is logged.
    None,
}

impl Level {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Debug, "debug"),
        (Self::Info, "info"),
        (Self::Warning, "warning"),
        (Self::Error, "error"),
        (Self::None, "none"),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(level, _)| *level)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::ALL.iter().find(|(level, _)| level == self).map_or("", |(_, name)| name))
    }
}

/// A process's log. A forked child goes on with its copy, under a name of its own.
#[derive(Debug)]
pub(crate) struct Log {
    /// `None`: standard error.
    file: RefCell<Option<OwnedFd>>,
    path: Option<PathBuf>,
    level: Level,
    role: RefCell<String>,
    lost: Cell<u64>,
    /// The last write ended in the middle of a line.
    torn: Cell<bool>,
}

impl Log {
    /// A log to the file at `path`, or to standard error, of what is at least `level`.
    ///
    /// # Errors
    /// [`Error::BadFile`]
    pub(crate) fn new(path: Option<&Path>, level: Level) -> Result<Self> {
        Ok(Self {
            file: RefCell::new(path.map(open_file).transpose()?),
            path: path.map(Path::to_owned),
            level,
            role: RefCell::new("master".to_owned()),
            lost: Cell::new(0),
            torn: Cell::new(false),
        })
    }

    /// What this process is called in its lines. Lines that its parent lost are the parent's to tell.
    pub(crate) fn become_role(&self, role: impl Into<String>) {
        *self.role.borrow_mut() = role.into();
        self.lost.set(0);
    }

    /// Whether a line of this level is written at all.
    pub(crate) fn wants(&self, level: Level) -> bool {
        level >= self.level && level != Level::None
    }

    /// Writes one line, or loses it.
    pub(crate) fn line(&self, level: Level, text: impl fmt::Display) {
        if !self.wants(level) {
            return;
        }
        let lost = self.lost.get();
        if lost > 0 {
            let (lines, are) = if lost == 1 { ("line", "is") } else { ("lines", "are") };
            let told = self.write(
                Level::Warning,
                format_args!("{lost} {lines} of this process {are} missing here: there was no room"),
            );
            if !told {
                self.lost.set(lost.saturating_add(1));
                return;
            }
            self.lost.set(0);
        }
        if !self.write(level, text) {
            self.lost.set(self.lost.get().saturating_add(1));
        }
    }

    /// Lines that were lost and not told yet.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Opens the file anew, by its path: whoever rotates logs has moved the old one away. The old one stays in use when that fails, and is told.
    pub(crate) fn reopen(&self) {
        let Some(path) = &self.path else { return };
        match open_file(path) {
            Ok(file) => {
                *self.file.borrow_mut() = Some(file);
                self.torn.set(false);
            }
            Err(error) => {
                self.line(Level::Error, format_args!("cannot reopen the log, going on with the old file: {error}"))
            }
        }
    }

    /// The file, for a daemon's standard error.
    pub(crate) fn duplicate(&self) -> Option<OwnedFd> {
        self.file.borrow().as_ref().and_then(|file| file.try_clone().ok())
    }

    fn write(&self, level: Level, text: impl fmt::Display) -> bool {
        let mut line = String::with_capacity(128);
        if self.torn.get() {
            line.push('\n');
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (role, pid) = (self.role.borrow(), std::process::id());
        // Neither can fail: a String takes everything, and a `Display` that fails has written what it could.
        let _ = write!(line, "{} {level:<7} {role}[{pid}] ", Stamp(now.as_secs(), now.subsec_millis()));
        let _ = write!(Clean(&mut line), "{text}");
        if line.len() >= LINE {
            let end = line.floor_char_boundary(LINE - CUT);
            let missing = line.len() - end;
            line.truncate(end);
            let _ = write!(line, " … ({missing} bytes more)");
        }
        line.push('\n');
        let file = self.file.borrow();
        match &*file {
            Some(file) => self.put(file.as_fd(), line.as_bytes()),
            None => self.put_shared(rustix::stdio::stderr(), line.as_bytes()),
        }
    }

    /// It is shared with others, so that it cannot be made non-blocking. A pipe that polls writable takes LINE bytes, unless another process is faster: so each write to
    /// one says that it is not to wait. A file might then refuse what it has room for.
    fn put_shared(&self, fd: BorrowedFd<'_>, line: &[u8]) -> bool {
        let pipe = fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        can_take_a_line(fd) && self.put_by(line, || if pipe { write_now(fd, line) } else { write(fd, line) })
    }

    fn put(&self, fd: BorrowedFd<'_>, line: &[u8]) -> bool {
        self.put_by(line, || write(fd, line))
    }

    fn put_by(&self, line: &[u8], write: impl Fn() -> rustix::io::Result<usize>) -> bool {
        loop {
            match write() {
                Ok(n) => {
                    // The disk became full in the middle. What is there stays, and the next line begins on one of its own.
                    self.torn.set(n < line.len());
                    return n == line.len();
                }
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

/// Not to wait for a reader is for pipes; files never make anybody wait in that sense.
fn open_file(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    open(path, flags, Mode::from_raw_mode(0o640)).map_err(|error| Error::BadFile {
        what: "log file",
        path: path.to_owned(),
        source: error.into(),
    })
}

/// Writes without waiting, whatever the descriptor says; a kernel that cannot (an old one) may wait.
fn write_now(fd: BorrowedFd<'_>, line: &[u8]) -> rustix::io::Result<usize> {
    // No place of its own: at the end, as `write`.
    match pwritev2(fd, &[IoSlice::new(line)], u64::MAX, ReadWriteFlags::NOWAIT) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => write(fd, line),
        written => written,
    }
}

fn can_take_a_line(fd: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Keeps a text on one line, whoever made it: control characters come out as escapes.
struct Clean<'a>(&'a mut String);

impl Write for Clean<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() {
                self.0.extend(c.escape_default());
            } else {
                self.0.push(c);
            }
        }
        Ok(())
    }
}

/// Seconds since 1970, and milliseconds, in UTC as RFC 3339 has it.
struct Stamp(u64, u32);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, seconds) = (self.0 / 86_400, self.0 % 86_400);
        // The civil calendar from a count of days, in eras of 400 years that begin on a 1st of March (Howard Hinnant, "chrono-compatible low-level
        // date algorithms").
        let shifted = days + 719_468;
        let (era, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let date = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + u64::from(month <= 2);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", self.1)
    }
}

#[cfg(test)]
mod tests;
