//! The bus: messages between any two processes of a family, of any size, in order from each sender, bounded, whoever dies.
//!
//! Each slot of the [roll](super::roll) has an inbox, a channel made before the fork; whoever moves into the slot takes over what is in it. A message of up to
//! [`Bus::inline`] bytes lies in the inbox itself; of a larger one there lies a ticket, and the payload in the [vault](super::vault). So a message
//! is one push whatever its size: nothing is ever put together from pieces, a sender that dies in the middle has sent nothing, and two senders cannot
//! get mixed up. The order of one sender's messages is the order of its pushes.
//!
//! Where two lives of one place overlap, as in a reload, the old one moves out of the bus (it drops its tenancy) when it is asked to leave, and the new one
//! waits for that ([`Roll::attach_timeout`]): so each message is for one of them, and none for both.
//!
//! # Who may die when
//! | dies | then |
//! |---|---|
//! | sending, before the push | nothing was sent; a payload in the vault is taken out by who needs the room next |
//! | after the push, before `send` returned | the message is there, or (a large one, whose locker somebody took from the dead) it is passed over |
//! | receiving, before it took the message off | its successor gets it: it was leased, and comes back to the front |
//! | after the payload's locker was freed | the message went with it; its ticket is passed over by the successor |
//!
//! A message that nobody ever comes for stays, and keeps its room in that inbox and perhaps a locker: who retires a slot for good calls [`Bus::purge`].
//!
//! # For one life alone
//! What is for a life, and not for whoever has its slot ([`Bus::send_to`]), is void once that life is gone: the sender is told so, also while it waits for room, and
//! who buries the dead, or has the slot next, purges the inbox. The race one would fear: the sender sees the receiver alive, it dies and is purged, and only then
//! the message is pushed, with a locker that nobody frees before the slot has a tenant again. So the sender looks once more after the push, and takes its payload
//! back; between push and look, as between burial and purge, there is a fence, so that one of the two sees what the other did.
//!
//! # Bounds
//! The inbox's bytes; the vault's lockers and bytes, of which one receiver has at most half of the lockers. Without room a sender waits, or is told
//! [`Error::Full`]. In descriptors, which every process inherits: two for each slot, two for each locker, and half a dozen.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use super::roll::{Address, Roll, Tenancy};
use super::vault::{Deposit, Ticket, Vault};
use crate::robust::Patience;
use crate::shm::Region;
use crate::sync::{Ordering, clock, fence};
use crate::{Channel, Error, Lease, Notifier, Result};

#[cfg(test)]
mod tests;

/// What a message in an inbox begins with: slot and kind, generation.
const HEAD: usize = 16;
const INLINE: u32 = 0;
const BY_TICKET: u32 = 1;

/// An inbox has room for at least so many of the longest messages that lie in it.
const LONGEST: usize = 8;

/// How much a bus holds.
#[derive(Clone, Copy, Debug)]
pub struct BusSize {
    /// Bytes of each inbox: at least 1024.
    pub inbox: usize,
    /// Large messages under way at once, over all receivers; each costs every process two descriptors. 2 ..= 256.
    pub large: usize,
    /// Bytes of all large messages under way together, and so the longest message.
    pub bytes: usize,
}

impl Default for BusSize {
    fn default() -> BusSize {
        BusSize { inbox: 256 << 10, large: 8, bytes: 256 << 20 }
    }
}

/// Messages between the slots of a roll; made before the fork.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    roll: Roll,
    inboxes: Vec<Channel>,
    vault: Vault,
    inline: usize,
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub from: Address,
    /// What.
    pub data: Vec<u8>,
}

/// The receiver's end of a slot; see [`Bus::inbox`].
pub struct Inbox {
    bus: Bus,
    tenancy: Tenancy,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("slots", &self.inner.inboxes.len()).field("vault", &self.usage()).finish()
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("of", &self.tenancy.address()).finish()
    }
}

/// What is to be pushed, and the payload that goes with it until it is.
struct Parcel {
    message: Vec<u8>,
    deposit: Option<Deposit>,
}

/// Channels of `bytes` bytes each in one region, so that they cost one memfd.
pub(crate) fn inboxes(name: &str, slots: usize, bytes: usize, longest: Option<usize>) -> Result<Vec<Channel>> {
    // Beside the ring a channel takes 320 bytes, and what says so in the region.
    let region = Region::new(name, slots.saturating_mul(bytes.next_multiple_of(64) + 1024))?;
    let mut builder = Channel::builder().capacity(bytes);
    if let Some(longest) = longest {
        builder = builder.max_message(longest);
    }
    (0..slots).map(|_| builder.clone().build_in(&region)).collect()
}

impl Bus {
    /// An inbox for every slot of `roll`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; as [`Channel::new`]; [`Error::System`].
    pub fn new(roll: &Roll, size: BusSize) -> Result<Bus> {
        Bus::for_first(roll.slots(), roll, size)
    }

    /// An inbox for each of the first `slots` slots of `roll`.
    ///
    /// # Errors
    /// As [`new`](Bus::new).
    pub(crate) fn for_first(slots: usize, roll: &Roll, size: BusSize) -> Result<Bus> {
        if size.inbox < 1024 {
            let (value, max) = (size.inbox as u64, 512 << 20);
            return Err(Error::OutOfRange { what: "an inbox's size in bytes", value, min: 1024, max });
        }
        let inboxes = inboxes("bus", slots, size.inbox, None)?;
        let inline = (size.inbox / LONGEST - HEAD - 8).min(32 << 10);
        let vault = Vault::new(size.large, size.bytes)?;
        Ok(Bus { inner: Arc::new(Inner { roll: roll.clone(), inboxes, vault, inline }) })
    }

    /// The longest message that lies in the inbox itself.
    pub fn inline(&self) -> usize {
        self.inner.inline
    }

    /// The longest message of all.
    pub fn max_message(&self) -> usize {
        self.inner.vault.bytes().max(self.inner.inline)
    }

    /// Large messages under way, and their bytes.
    pub fn usage(&self) -> (usize, u64) {
        self.inner.vault.usage()
    }

    /// The receiver's end for the tenant of a slot.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for the tenant of another, larger roll.
    pub fn inbox(&self, tenancy: &Tenancy) -> Result<Inbox> {
        self.to(tenancy.address().slot)?;
        Ok(Inbox { bus: self.clone(), tenancy: tenancy.clone() })
    }

    fn to(&self, slot: u32) -> Result<&Channel> {
        let inboxes = &self.inner.inboxes;
        inboxes.get(slot as usize).ok_or(Error::OutOfRange {
            what: "the slot",
            value: slot.into(),
            min: 0,
            max: inboxes.len() as u64 - 1,
        })
    }

    /// Whether the slot has an inbox.
    pub(crate) fn covers(&self, slot: u32) -> bool {
        self.to(slot).is_ok()
    }

    fn parcel(&self, from: Address, deposit: Option<Deposit>, data: &[u8]) -> Parcel {
        let mut message = Vec::with_capacity(HEAD + data.len().min(self.inner.inline));
        let kind = if deposit.is_some() { BY_TICKET } else { INLINE };
        message.extend_from_slice(&(u64::from(kind) << 32 | u64::from(from.slot)).to_le_bytes());
        message.extend_from_slice(&from.generation.to_le_bytes());
        match &deposit {
            Some(deposit) => message.extend(deposit.ticket().words().iter().flat_map(|word| word.to_le_bytes())),
            None => message.extend_from_slice(data),
        }
        Parcel { message, deposit }
    }

    fn is_large(&self, data: &[u8]) -> bool {
        data.len() > self.inner.inline
    }

    /// Sends a message to a slot, if there is room.
    ///
    /// # Errors
    /// [`Error::Full`]; [`Error::TooLong`]; [`Error::OutOfRange`] for a slot that is not there; [`Error::System`]; [`Error::TooManyParticipants`].
    pub fn try_send(&self, from: Address, to: u32, data: &[u8]) -> Result<()> {
        let inbox = self.to(to)?;
        let deposit = self.is_large(data).then(|| self.inner.vault.deposit(to.into(), data)).transpose()?;
        let parcel = self.parcel(from, deposit, data);
        inbox.push_now(&parcel.message)?;
        parcel.arrived();
        Ok(())
    }

    /// Sends a message to a slot, waiting for room for at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`]; as [`try_send`](Bus::try_send), but not [`Error::Full`].
    pub fn send_timeout(&self, from: Address, to: u32, data: &[u8], timeout: Duration) -> Result<()> {
        let (inbox, patience) = (self.to(to)?, Patience::lasting(timeout));
        let large = self.is_large(data);
        let deposit = large.then(|| self.inner.vault.deposit_waiting(to.into(), data, patience)).transpose()?;
        let parcel = self.parcel(from, deposit, data);
        let left = match patience {
            Patience::Until { deadline, .. } => Duration::from_nanos(deadline.saturating_sub(clock::now())),
            Patience::None | Patience::Endless => Duration::MAX,
        };
        inbox.push_timeout(&parcel.message, left).map_err(|error| match error {
            Error::Timeout { .. } => Error::Timeout { after: timeout },
            other => other,
        })?;
        parcel.arrived();
        Ok(())
    }

    /// Sends a message to a slot, waiting for room without holding the thread. Dropping the future sends nothing. Must be called inside a tokio runtime with
    /// I/O and time enabled.
    ///
    /// # Errors
    /// As [`try_send`](Bus::try_send), but not [`Error::Full`].
    pub async fn send(&self, from: Address, to: u32, data: &[u8]) -> Result<()> {
        self.send_while(from, to, data, || Ok(())).await
    }

    /// The same to one life, and not to whoever has its slot next.
    ///
    /// # Errors
    /// [`Error::Closed`] when that life is gone, as far as anybody found out, or goes while its inbox is full; as [`send`](Bus::send).
    pub async fn send_to(&self, from: Address, to: Address, data: &[u8]) -> Result<()> {
        let lives = || if self.inner.roll.is_there(to) { Ok(()) } else { Err(Error::Closed) };
        self.send_while(from, to.slot, data, lives).await
    }

    async fn send_while(&self, from: Address, to: u32, data: &[u8], wanted: impl Fn() -> Result<()>) -> Result<()> {
        let (inbox, vault) = (self.to(to)?, &self.inner.vault);
        let deposit = || wanted().and_then(|()| vault.deposit(to.into(), data));
        let deposit = if self.is_large(data) { Some(vault.bell().until_async(deposit).await?) } else { None };
        let parcel = self.parcel(from, deposit, data);
        inbox.send_while(&parcel.message, &wanted).await?;
        // Pairs with the fence in `purge`.
        fence(Ordering::SeqCst);
        wanted()?;
        parcel.arrived();
        Ok(())
    }

    /// Throws away what waits in the inbox of a slot that nobody is in, and frees what goes with it; how many messages. For one who retires
    /// a slot, or buries its tenant, and for a tenant to whom nobody can have sent anything yet.
    ///
    /// # Errors
    /// As [`Channel::try_pop`].
    pub fn purge(&self, slot: u32) -> Result<usize> {
        let (inbox, mut purged) = (self.to(slot)?, 0);
        // Pairs with the fence in `send_while`.
        fence(Ordering::SeqCst);
        // At most what is in there now: others may go on sending.
        for _ in 0..inbox.len() {
            let Some(lease) = inbox.try_pop_lease()? else { break };
            if let Some((_, BY_TICKET, rest)) = opened(&lease) {
                self.inner.vault.free(ticket(rest));
            }
            lease.ack()?;
            purged += 1;
        }
        Ok(purged)
    }

    /// The roll whose slots these are.
    pub fn roll(&self) -> &Roll {
        &self.inner.roll
    }
}

impl Parcel {
    fn arrived(self) {
        if let Some(deposit) = self.deposit {
            deposit.sent();
        }
    }
}

/// Sender, kind, and what follows; None for what no sender here writes.
fn opened(message: &[u8]) -> Option<(Address, u32, &[u8])> {
    let (first, rest) = message.split_first_chunk()?;
    let (generation, rest) = rest.split_first_chunk()?;
    let first = u64::from_le_bytes(*first);
    let from = Address { slot: first as u32, generation: u64::from_le_bytes(*generation) };
    Some((from, (first >> 32) as u32, rest))
}

fn ticket(rest: &[u8]) -> Ticket {
    let word = |at: usize| rest.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes);
    Ticket::of_words([word(0), word(8)])
}

impl Inbox {
    fn channel(&self) -> Result<&Channel> {
        if !self.tenancy.is_mine() {
            let call = "receiving from an inbox";
            return Err(Error::WrongProcess { call, expected: "tenant of its slot", pid: std::process::id() });
        }
        self.bus.to(self.tenancy.address().slot)
    }

    /// The next message, if there is one.
    ///
    /// # Errors
    /// [`Error::WrongProcess`] for who is not the tenant; [`Error::System`] when this process has no memory or descriptors left for a large message, which then
    /// stays; [`Error::TooManyParticipants`].
    pub fn try_recv(&self) -> Result<Option<Message>> {
        let channel = self.channel()?;
        loop {
            let lease = match channel.try_pop_lease() {
                Ok(Some(lease)) => lease,
                // Somebody was stopped in the middle of it: nothing can be had now.
                Ok(None) | Err(Error::Timeout { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            if let Some(message) = self.open(lease)? {
                return Ok(Some(message));
            }
        }
    }

    /// The next message, waiting for one for at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`]; as [`try_recv`](Inbox::try_recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message> {
        let channel = self.channel()?;
        loop {
            // Passed over is only what the dead left; each of those was one push.
            if let Some(message) = self.open(channel.pop_lease_timeout(timeout)?)? {
                return Ok(message);
            }
        }
    }

    /// The next message, waiting without holding the thread; dropping the future loses nothing. Must be called inside a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// As [`try_recv`](Inbox::try_recv).
    pub async fn recv(&self) -> Result<Message> {
        loop {
            if let Some(message) = self.open(self.channel()?.recv_lease().await?)? {
                return Ok(message);
            }
        }
    }

    /// An eventfd for epoll: as [`Channel::notifier`], after a [`try_recv`](Inbox::try_recv) that found nothing.
    ///
    /// # Errors
    /// As [`try_recv`](Inbox::try_recv).
    pub fn notifier(&self) -> Result<Notifier<'_>> {
        Ok(self.channel()?.notifier())
    }

    /// Takes a message off: reads it, frees its locker, and only then acknowledges, so that a death in between leaves nothing behind. None for one whose
    /// payload went with the dead.
    fn open(&self, lease: Lease) -> Result<Option<Message>> {
        let vault = &self.bus.inner.vault;
        let message = match opened(&lease) {
            Some((from, INLINE, data)) => Some(Message { from, data: data.to_vec() }),
            Some((from, BY_TICKET, rest)) => {
                let ticket = ticket(rest);
                let data = vault.read(ticket)?;
                vault.free(ticket);
                data.map(|data| Message { from, data })
            }
            _ => None,
        };
        lease.ack()?;
        Ok(message)
    }
}
