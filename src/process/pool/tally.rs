//! What a pool counts, in shared memory.
//!
//! `pid`, `starts`, `crashes` and `reloads` are written by the manager alone; `sent` and `received` are added to by the workers of the place, of which there may be
//! two while it is renewed, by atomic additions after the message was sent or taken.
#![forbid(unsafe_code)]

use super::mail::Mail;
use crate::process::crew::Told;
use crate::{AtomicLong, Result};

/// Figures of a pool; see [`Context::stats`](super::Context::stats).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// One of each place, in order.
    pub workers: Vec<WorkerStats>,
    /// Reloads that were carried through.
    pub reloads: u64,
}

/// Figures of one place of a pool, since the start of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// The worker's process; 0 while there is none.
    pub pid: u32,
    /// Processes started in this place.
    pub starts: u64,
    /// Those that ended though nobody had asked them to, and not with status 0.
    pub crashes: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Messages that wait to be received.
    pub waiting: u64,
}

struct Line {
    pid: AtomicLong,
    starts: AtomicLong,
    crashes: AtomicLong,
    sent: AtomicLong,
    received: AtomicLong,
}

/// The numbers; made before the fork.
pub(super) struct Tally {
    lines: Vec<Line>,
    reloads: AtomicLong,
}

impl Tally {
    pub(super) fn new(places: usize) -> Result<Tally> {
        let line = |_| {
            let (pid, starts, crashes) = (AtomicLong::packed(0)?, AtomicLong::packed(0)?, AtomicLong::packed(0)?);
            Ok(Line { pid, starts, crashes, sent: AtomicLong::new(0)?, received: AtomicLong::new(0)? })
        };
        Ok(Tally { lines: (0..places).map(line).collect::<Result<_>>()?, reloads: AtomicLong::packed(0)? })
    }

    pub(super) fn sent(&self, by: usize) {
        self.lines[by].sent.add(1);
    }

    pub(super) fn received(&self, by: usize) {
        self.lines[by].received.add(1);
    }

    /// In the manager: what has happened to whom.
    pub(super) fn note(&self, told: &Told<'_>) {
        let line = |id: usize| self.lines.get(id);
        match *told {
            Told::Started { member, pid, successor } => {
                if let Some(line) = line(member.index) {
                    line.starts.add(1);
                    if !successor {
                        line.pid.set(pid.into());
                    }
                }
            }
            Told::Ready { member, pid } => {
                if let Some(line) = line(member.index) {
                    line.pid.set(pid.into());
                }
            }
            Told::Vacated { member, pid, crashed } => {
                if let Some(line) = line(member.index) {
                    line.crashes.add(crashed.into());
                    // Its successor's number may stand there already.
                    line.pid.cmpset(pid.into(), 0);
                }
            }
            Told::Reloaded { .. } => {
                self.reloads.add(1);
            }
            _ => {}
        }
    }

    pub(super) fn stats(&self, mail: &Mail) -> PoolStats {
        let count = |number: &AtomicLong| number.get().unsigned_abs();
        let worker = |(line, id): (&Line, usize)| WorkerStats {
            pid: u32::try_from(line.pid.get()).unwrap_or(0),
            starts: count(&line.starts),
            crashes: count(&line.crashes),
            sent: count(&line.sent),
            received: count(&line.received),
            waiting: mail.waiting(id) as u64,
        };
        PoolStats { workers: self.lines.iter().zip(0..).map(worker).collect(), reloads: count(&self.reloads) }
    }
}
