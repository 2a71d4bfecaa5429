//! What workers tell the manager for its log: events, through a channel in shared memory.
//!
//! A worker never waits for room: what finds none is counted as lost, and the log says how many were. One that is killed in the middle of telling
//! leaves nothing half said, and holds up nobody: the manager recovers what it held before it reaps it, and takes out what it had said.
#![forbid(unsafe_code)]

use super::options::EventKind;
use crate::{AtomicLong, Channel, Error, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Some 2000 events.
const BYTES: usize = 64 * 1024;
/// How often a worker tries to tell something when another, stopped in the middle of telling, is in its way; 1 ms each.
const TRIES: u32 = 20;
/// Events taken out under one lock.
const BATCH: usize = 100;

/// One event as it travels: kind, place, process, and a number that belongs to the kind; eight bytes each.
type Message = [u8; 32];

/// The channel; made before the first fork.
pub(super) struct Events {
    channel: Channel,
    /// Asked for once: who asks is to look, and it is readable then.
    readable: OwnedFd,
    lost: AtomicLong,
}

/// An event as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) worker: usize,
    pub(super) pid: u32,
    pub(super) kind: EventKind,
}

impl Events {
    pub(super) fn new() -> Result<Self> {
        let channel = Channel::new(BYTES)?;
        let readable =
            channel.notifier().as_fd().try_clone_to_owned().map_err(Error::system("duplicating an eventfd"))?;
        Ok(Self { channel, readable, lost: AtomicLong::new(0)? })
    }

    /// The process `pid` in place `worker` says what happens to it.
    pub(super) fn tell(&self, worker: usize, pid: u32, kind: EventKind) {
        let message = Event { worker, pid, kind }.message();
        for _ in 0..TRIES {
            match self.channel.try_push(&message) {
                Ok(()) => return,
                // Another worker, in the middle of telling, has no processor; that is not the end of it.
                Err(Error::Timeout { .. }) => {}
                Err(_) => break,
            }
        }
        self.lost.add(1);
    }

    /// Readable when there is something to hear; after `hear`.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }

    /// Takes out all that was told; and how many events found no room.
    pub(super) fn hear(&self) -> (Vec<Event>, i64) {
        let mut heard = Vec::new();
        // Until there is nothing more: only that makes the descriptor unreadable. A stopped worker may hold us up for 1 ms.
        while self.channel.drain(BATCH, |message| heard.extend(Event::of(message))).is_ok_and(|some| some > 0) {}
        let lost = self.lost.get();
        if lost > 0 {
            self.lost.sub(lost);
        }
        (heard, lost)
    }
}

impl Event {
    fn message(self) -> Message {
        let (kind, number) = match self.kind {
            EventKind::Serving => (1, 0),
            EventKind::Leaving { open } => (2, open),
            EventKind::Left { hits } => (3, hits),
        };
        let mut message = [0; 32];
        for (field, value) in
            message.as_chunks_mut().0.iter_mut().zip([kind, self.worker as u64, self.pid.into(), number])
        {
            *field = value.to_le_bytes();
        }
        message
    }

    /// What a message says; None for one that this version does not know.
    fn of(message: &[u8]) -> Option<Self> {
        let &[kind, worker, pid, number] = message.as_chunks().0 else { return None };
        let [kind, worker, pid, number] = [kind, worker, pid, number].map(u64::from_le_bytes);
        let kind = match kind {
            1 => EventKind::Serving,
            2 => EventKind::Leaving { open: number },
            3 => EventKind::Left { hits: number },
            _ => return None,
        };
        Some(Self { worker: worker as usize, pid: u32::try_from(pid).ok()?, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard_in_order_and_what_is_lost_is_counted() {
        let events = Events::new().unwrap();
        assert_eq!(events.hear(), (vec![], 0));
        let all = [EventKind::Serving, EventKind::Leaving { open: 7 }, EventKind::Left { hits: u64::MAX }];
        all.iter().zip(1..).for_each(|(kind, pid)| events.tell(255, pid, *kind));
        let (heard, lost) = events.hear();
        assert_eq!(heard.iter().map(|event| event.kind).collect::<Vec<_>>(), all);
        assert_eq!(
            heard.iter().map(|event| (event.worker, event.pid)).collect::<Vec<_>>(),
            [(255, 1), (255, 2), (255, 3)]
        );
        assert_eq!(lost, 0);
        (0..10_000).for_each(|_| events.tell(0, 1, EventKind::Serving));
        let (heard, lost) = events.hear();
        assert!(heard.len() > 1000 && heard.len() + usize::try_from(lost).unwrap() == 10_000, "{} {lost}", heard.len());
        assert_eq!(events.hear(), (vec![], 0), "told once");
        assert_eq!(Event::of(b"of another version"), None);
        assert_eq!(Event::of(&[9; 32]), None);
    }
}
