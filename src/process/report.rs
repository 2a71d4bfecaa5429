//! What a child says of itself, once or twice: that it has begun, or why it could not; and what it ended with.
//!
//! A pipe. Each report is at most PIPE_BUF bytes and written in one piece, so a child killed in the middle has said it or has not. The parent's
//! end never blocks: what a child said is there when it is dead, and its own children may hold the writing end for long after.
#![forbid(unsafe_code)]

use crate::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// The most bytes of one report (PIPE_BUF is 4096).
const LONGEST: usize = 4000;

/// The child has begun.
const BEGUN: u8 = b'+';
/// The child could not begin, or ended badly; why, follows.
const WRONG: u8 = b'-';

/// The child's end.
pub(crate) struct Mouth(OwnedFd);

/// The parent's end.
#[derive(Debug)]
pub(crate) struct Ear(OwnedFd);

/// What was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// It has begun.
    pub(crate) begun: bool,
    /// Why it could not, or what it ended with.
    pub(crate) wrong: Option<String>,
}

/// Both ends.
pub(crate) fn report() -> Result<(Ear, Mouth)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(Error::system("pipe"))?;
    Ok((Ear(read), Mouth(write)))
}

impl Mouth {
    pub(crate) fn begun(&self) {
        self.say(&[BEGUN]);
    }

    /// Cut at 3999 bytes.
    pub(crate) fn wrong(&self, text: &str) {
        let mut record = vec![WRONG];
        record.extend_from_slice(&text.as_bytes()[..text.floor_char_boundary(LONGEST - 1)]);
        self.say(&record);
    }

    /// Two reports have room in any pipe; and a parent that is gone hears nothing.
    fn say(&self, record: &[u8]) {
        while rustix::io::write(&self.0, record) == Err(Errno::INTR) {}
    }
}

impl Ear {
    /// All that was said since the last time.
    pub(crate) fn hear(&self) -> Result<Report> {
        let mut record = [0; 2 * LONGEST];
        loop {
            let said = match rustix::io::read(&self.0, &mut record) {
                Ok(n) => record.get(..n).unwrap_or_default(),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(Report::default()),
                Err(error) => return Err(Error::system("read(report)")(error)),
            };
            let after = said.strip_prefix(&[BEGUN]);
            let wrong = after.unwrap_or(said).strip_prefix(&[WRONG]);
            return Ok(Report {
                begun: after.is_some(),
                wrong: wrong.map(|text| String::from_utf8_lossy(text).into_owned()),
            });
        }
    }
}

impl AsFd for Ear {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_heard_whole_and_once() {
        let (ear, mouth) = report().unwrap();
        assert_eq!(ear.hear().unwrap(), Report::default());
        mouth.begun();
        assert_eq!(ear.hear().unwrap(), Report { begun: true, wrong: None });
        mouth.begun();
        mouth.wrong(&"ä".repeat(3000));
        assert_eq!(ear.hear().unwrap(), Report { begun: true, wrong: Some("ä".repeat(1999)) });
        mouth.wrong("no");
        assert_eq!(ear.hear().unwrap(), Report { begun: false, wrong: Some("no".into()) });
        assert_eq!(ear.hear().unwrap(), Report::default());
    }
}
