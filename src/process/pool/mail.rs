//! Messages from any worker of a pool to any other.
//!
//! A mailbox is a place's, not a process's: what waits in it when its worker dies or is renewed is received by the next one there. A message is in
//! the mailbox for ever once `send` returned, and taken by `recv`; who dies after that has taken it along. The messages of one worker are
//! received in the order in which it sent them. While a place is being renewed, the old worker and the new one both receive for a moment.
#![forbid(unsafe_code)]

use crate::{Channel, Error, Region, Result};

/// A message in a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The worker that sent it.
    pub from: usize,
    /// What it sent.
    pub bytes: Vec<u8>,
}

/// Bytes after a message in its channel: the sender.
const SENDER: usize = 4;

/// Bytes beside the ring that a channel takes of a region, alignment and deed included.
const BESIDE: usize = 1024;

/// A mailbox for each place; made before the fork.
pub(super) struct Mail {
    boxes: Vec<Channel>,
    max: usize,
}

impl Mail {
    /// `bytes` for each of so many places, and messages of at most `max` bytes.
    pub(super) fn new(places: usize, bytes: usize, max: usize) -> Result<Mail> {
        let region = Region::new("mail", places * (bytes + BESIDE) + BESIDE)?;
        let mailbox = |_| Channel::builder().capacity(bytes).max_message(max + SENDER).build_in(&region);
        Ok(Mail { boxes: (0..places).map(mailbox).collect::<Result<_>>()?, max })
    }

    /// The longest message in a mailbox of so many bytes, unless said otherwise.
    pub(super) fn usual_max(bytes: usize) -> usize {
        (bytes / 4).saturating_sub(SENDER).max(1)
    }

    /// The mailbox of a place.
    pub(super) fn mailbox(&self, of: usize) -> Result<&Channel> {
        let max = self.boxes.len() as u64 - 1;
        self.boxes.get(of).ok_or(Error::OutOfRange { what: "the worker", value: of as u64, min: 0, max })
    }

    /// A message as it lies in the channel.
    pub(super) fn pack(&self, from: usize, bytes: &[u8]) -> Result<Vec<u8>> {
        if bytes.len() > self.max {
            return Err(Error::TooLong { len: bytes.len(), max: self.max });
        }
        let from = u32::try_from(from).unwrap_or(u32::MAX);
        Ok([bytes, &from.to_ne_bytes()].concat())
    }

    /// A message as it lay in the channel.
    pub(super) fn unpack(mut bytes: Vec<u8>) -> Message {
        let from = bytes.last_chunk().map_or(usize::MAX, |from| u32::from_ne_bytes(*from) as usize);
        bytes.truncate(bytes.len().saturating_sub(SENDER));
        Message { from, bytes }
    }

    /// How many messages wait for a place.
    pub(super) fn waiting(&self, of: usize) -> usize {
        self.boxes.get(of).map_or(0, Channel::len)
    }
}
