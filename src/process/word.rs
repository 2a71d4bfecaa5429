//! What a worker tells its manager: fixed records in one pipe that all workers share.
//!
//! A record is shorter than PIPE_BUF, so the kernel writes it whole or not at all: a worker killed in the middle of
//! `write` leaves no half record that would garble the next worker's. A full pipe means that the manager has not run for
//! hundreds of words; the word is then dropped, and the worker goes on. Only the word that it is ready waits for a while.
#![forbid(unsafe_code)]

use crate::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::time::{Duration, Instant};

/// Bytes of one record: id and generation (4 each), kind (1), length of the text (1), text.
const RECORD: usize = 160;
const HEAD: usize = 10;

/// How long the word "ready" waits for room at most; and how long until it looks again.
const PATIENCE: Duration = Duration::from_secs(5);
const SLICE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

const READY: u8 = 1;
const TROUBLE: u8 = 2;

/// What was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The worker has booted and serves.
    Ready,
    /// Something that the operator should know, in a few words (cut at 150 bytes).
    Trouble(String),
}

/// One word, and who said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// The worker's place.
    pub(crate) id: u32,
    /// Which process in that place: 1 for the first, and one more for each that followed.
    pub(crate) generation: u32,
    /// What it said.
    pub(crate) what: What,
}

/// The pipe, as the manager holds it.
pub(crate) struct Words {
    read: OwnedFd,
    write: OwnedFd,
}

impl Words {
    /// Makes the pipe.
    pub(crate) fn new() -> Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(Error::system("pipe"))?;
        Ok(Self { read, write })
    }

    /// A worker's half; closes the manager's in this process.
    pub(crate) fn into_mouth(self, id: u32, generation: u32) -> Mouth {
        Mouth { write: self.write, id, generation }
    }

    /// The next word, if there is one. Never waits.
    pub(crate) fn next(&self) -> Result<Option<Word>> {
        let mut record = [0; RECORD];
        loop {
            match rustix::io::read(&self.read, &mut record) {
                Ok(RECORD) => match decode(&record) {
                    Some(word) => return Ok(Some(word)),
                    None => continue,
                },
                // A torn record cannot be written; this process holds a writing end, so neither can there be an end.
                Ok(_) | Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::system("read(words)")(error)),
            }
        }
    }
}

impl AsFd for Words {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

/// A worker's half: says words.
pub(crate) struct Mouth {
    write: OwnedFd,
    id: u32,
    generation: u32,
}

impl Mouth {
    /// Says one word, or drops it when the pipe is full or the manager gone (of which the lifeline tells).
    ///
    /// That it is ready a worker says but once, and a reload waits for it: that word waits a while for room in the pipe.
    pub(crate) fn say(&self, what: &What) {
        let record = encode(self.id, self.generation, what);
        let until = Instant::now() + PATIENCE;
        loop {
            match rustix::io::write(&self.write, &record) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if *what == What::Ready && Instant::now() < until => {
                    // Whatever it returns, the next write tells.
                    let _ = poll(&mut [PollFd::new(&self.write, PollFlags::OUT)], Some(&SLICE));
                }
                _ => return,
            }
        }
    }
}

fn encode(id: u32, generation: u32, what: &What) -> [u8; RECORD] {
    let (kind, text) = match what {
        What::Ready => (READY, ""),
        What::Trouble(text) => (TROUBLE, text.as_str()),
    };
    let text = &text.as_bytes()[..text.floor_char_boundary(RECORD - HEAD)];
    let mut record = [0; RECORD];
    record[0..4].copy_from_slice(&id.to_ne_bytes());
    record[4..8].copy_from_slice(&generation.to_ne_bytes());
    record[8] = kind;
    record[9] = u8::try_from(text.len()).unwrap_or(0);
    record[HEAD..HEAD + text.len()].copy_from_slice(text);
    record
}

fn decode(record: &[u8; RECORD]) -> Option<Word> {
    let number = |at: usize| Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let what = match record[8] {
        READY => What::Ready,
        TROUBLE => {
            let text = record.get(HEAD..HEAD + usize::from(record[9]))?;
            What::Trouble(String::from_utf8_lossy(text).into_owned())
        }
        _ => return None,
    };
    Some(Word { id: number(0)?, generation: number(4)?, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_out_as_they_went_in_and_long_ones_are_cut_at_a_character() {
        let words = Words::new().unwrap();
        assert_eq!(words.next().unwrap(), None);
        let mouth = Mouth { write: words.write.try_clone().unwrap(), id: 7, generation: 3 };
        mouth.say(&What::Ready);
        mouth.say(&What::Trouble("no descriptors".into()));
        mouth.say(&What::Trouble("ä".repeat(200)));
        let said: Vec<_> = std::iter::from_fn(|| words.next().unwrap()).take(9).collect();
        assert_eq!(said[0], Word { id: 7, generation: 3, what: What::Ready });
        assert_eq!(said[1].what, What::Trouble("no descriptors".into()));
        assert_eq!(said[2].what, What::Trouble("ä".repeat(75)));
        assert_eq!(said.len(), 3);
    }

    #[test]
    fn a_full_pipe_drops_words_and_blocks_nobody() {
        let words = Words::new().unwrap();
        let mouth = Mouth { write: words.write.try_clone().unwrap(), id: 0, generation: 1 };
        for _ in 0..10_000 {
            mouth.say(&What::Trouble("much".into()));
        }
        // But that it is ready is not lost: it waits for the manager to read.
        std::thread::scope(|scope| {
            scope.spawn(|| mouth.say(&What::Ready));
            let all = || std::iter::from_fn(|| words.next().unwrap()).take(10_000);
            let (mut held, deadline) = (0, Instant::now() + PATIENCE);
            while !all().inspect(|_| held += 1).any(|word| word.what == What::Ready) {
                assert!(Instant::now() < deadline, "the word got lost");
            }
            assert!((2..10_000).contains(&held), "{held}");
        });
    }

    #[test]
    fn garbage_is_skipped() {
        let words = Words::new().unwrap();
        rustix::io::write(&words.write, &[0xff; RECORD]).unwrap();
        Mouth { write: words.write.try_clone().unwrap(), id: 1, generation: 1 }.say(&What::Ready);
        assert_eq!(words.next().unwrap().map(|word| word.id), Some(1));
    }
}
