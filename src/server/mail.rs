//! What processes of a server tell each other: messages of their handlers, and what is for a connection that another one holds.
//!
//! | | messages | what is for a connection |
//! |---|---|---|
//! | for | the place: who takes it over takes over what waits | the life that holds the connection, and nobody after it |
//! | inbox of | the place, in the bus of places | the line, in the bus of lines: three a worker, for so many lives of it may overlap |
//! | read until | its process is asked to leave | its process ends |
//! | the receiver is gone | they wait for the next one | [`Error::Closed`], also for one who waits for room; what waits is purged |
//! | in order | of each sender to each place | of each sender to each connection |
//!
//! A connection stays with its life for as long as that one's grace lasts, so what is for it must reach a life that leaves; a message is for whoever does the work
//! of the place, and in a reload that is the successor. It comes into the inbox of the place as soon as the one that leaves has let go, which that one does when
//! it is asked to; so at no time do two read, and the order of each sender's messages is kept. The inbox of a line belongs to its life from its birth on, and a
//! line is given to another life when the one before is dead and reaped.
//!
//! # Who may die when
//! * *The receiver, with orders in its inbox.* Its connections are gone, so nothing is lost with them. The manager buries it, which is when all know that it is
//!   gone, and purges its line; the next life in it purges it once more, for a sender may have been between its look and its push. Until then who sends waits, or
//!   sends to nobody; afterwards it is told [`Error::Closed`].
//! * *The receiver, between taking an order off and carrying it out.* As if it had died a moment before.
//! * *The manager.* The next one purges all lines before it forks anybody.
//! * *The sender.* It has sent, or it has not (`process::bus`).
#![forbid(unsafe_code)]

use std::rc::Rc;
use std::time::Duration;

use super::board::no_place;
use super::calls::{Calls, guarded};
use super::conn::ConnId;
use super::worker::Worker;
use crate::process::bus::{Bus, Inbox};
use crate::process::roll::{Address, Tenancy};
use crate::{Error, Result};

/// Between two tries to come into an inbox that the one before has not let go yet.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// What is to be done with a connection.
pub(super) enum Order<'d> {
    Send(&'d [u8]),
    Close,
}

const SEND: u8 = 1;
const CLOSE: u8 = 2;

impl Order<'_> {
    fn to_bytes(&self, id: ConnId) -> Vec<u8> {
        let (kind, data) = match self {
            Order::Send(data) => (SEND, *data),
            Order::Close => (CLOSE, &[][..]),
        };
        [&[kind][..], &u64::from(id).to_le_bytes(), data].concat()
    }

    /// None for what no process of this server writes.
    fn of_bytes(bytes: &[u8]) -> Option<(ConnId, Order<'_>)> {
        let (kind, rest) = bytes.split_first()?;
        let (id, data) = rest.split_first_chunk()?;
        let order = match *kind {
            SEND => Order::Send(data),
            CLOSE => Order::Close,
            _ => return None,
        };
        Some((ConnId::from(u64::from_le_bytes(*id)), order))
    }
}

/// What a process sends by.
pub(super) struct Mail {
    places: Bus,
    lines: Bus,
    place: u32,
    life: Address,
}

impl Mail {
    /// Of the life in a line; what waits for those who had it before is thrown away.
    pub(super) fn new(places: Bus, lines: Bus, place: usize, life: &Tenancy) -> Result<Mail> {
        let mail = Mail { place: slot(&places, place)?, places, life: life.address(), lines };
        if mail.lines.covers(mail.life.slot) {
            mail.lines.purge(mail.life.slot)?;
        }
        Ok(mail)
    }

    /// Sends a message to a place.
    pub(super) async fn send(&self, to: usize, data: &[u8]) -> Result<()> {
        self.places.send(self.address(), slot(&self.places, to)?, data).await
    }

    pub(super) fn try_send(&self, to: usize, data: &[u8]) -> Result<()> {
        self.places.try_send(self.address(), slot(&self.places, to)?, data)
    }

    /// The place alone: that is what a message is from.
    fn address(&self) -> Address {
        Address { slot: self.place, generation: 0 }
    }

    /// The life that holds a connection, if it is another one than this.
    pub(super) fn other_holder(&self, id: ConnId) -> Result<Option<Address>> {
        slot(&self.places, id.worker())?;
        let holder = id.holder(self.lines.roll()).ok_or(Error::Closed)?;
        Ok((holder != self.life).then_some(holder))
    }

    /// Has the one that holds a connection do something with it.
    pub(super) async fn order(&self, holder: Address, id: ConnId, order: &Order<'_>) -> Result<()> {
        self.lines.send_to(self.life, holder, &order.to_bytes(id)).await
    }

    /// Receives messages until the process is asked to leave; then lets go of the inbox. `held`: what it came into when it was called before, and failed.
    pub(super) async fn receive(worker: &Worker, calls: &Rc<dyn Calls>, held: &mut Option<Inbox>) -> Result<()> {
        let mail = worker.mail();
        while held.is_none() {
            match mail.places.roll().attach(mail.place) {
                Ok(tenancy) => *held = Some(mail.places.inbox(&tenancy)?),
                Err(Error::Occupied { .. }) if !worker.is_exiting() => tokio::time::sleep(TRY_AGAIN).await,
                Err(Error::Occupied { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        while let Some(inbox) = &*held {
            let message = tokio::select! {
                biased;
                () = worker.exiting() => break,
                message = inbox.recv() => message?,
            };
            // Who leaves finishes what it has taken off.
            let under_way = worker.under_way();
            let from = message.from.slot as usize;
            if let Err(why) = worker.call(guarded(calls.pipe_message(worker, from, message.data))).await {
                worker.complain(format_args!("pipe_message from process {from}: {why}"));
            }
            drop(under_way);
            // As in `obey`.
            tokio::task::consume_budget().await;
        }
        // With it the slot is free for the successor.
        *held = None;
        Ok(())
    }

    /// Does what others want done with the connections of this life, until the process ends.
    pub(super) async fn obey(worker: &Worker) -> Result<()> {
        let inbox = worker.mail().lines.inbox(&worker.inner.handle.inner.tenancy)?;
        loop {
            let order = inbox.recv().await?;
            if let Some((id, order)) = Order::of_bytes(&order.data) {
                carry_out(worker, id, &order).await;
            }
            // Without it nothing else would run in this process for as long as orders come.
            tokio::task::consume_budget().await;
        }
    }
}

/// The slot of a place's inbox.
fn slot(places: &Bus, place: usize) -> Result<u32> {
    let all = places.roll().slots();
    u32::try_from(place).ok().filter(|_| place < all).ok_or_else(|| no_place(place, all))
}

/// Waits for nobody: one client that does not read holds up nobody else's.
async fn carry_out(worker: &Worker, id: ConnId, order: &Order<'_>) {
    let Some(conn) = worker.conn(id) else { return };
    match order {
        Order::Send(data) => {
            if let Err(error @ (Error::Full { .. } | Error::TooLong { .. })) =
                conn.take_in(data.to_vec().into(), worker).await
            {
                worker.complain(format_args!(
                    "connection {id} ({}) does not take what others send to it, and is given up: {error}",
                    conn.peer()
                ));
                conn.give_up();
            }
        }
        // After what was sent before, and is still waiting for room.
        Order::Close => conn.close_in_turn(worker).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::bus::BusSize;
    use crate::process::roll::Roll;

    #[test]
    fn what_came_late_for_the_one_before_is_thrown_away() {
        let (roll, small) = (Roll::new(1).unwrap(), BusSize { inbox: 4096, large: 2, bytes: 1 << 20 });
        let (places, lines) = (Bus::new(&roll, small).unwrap(), Bus::new(&roll, small).unwrap());
        let life = roll.attach(0).unwrap();
        // Between the look and the push of its sender the manager has buried the one before, and purged the line.
        lines.try_send(Address::NOBODY, 0, &Order::Close.to_bytes(ConnId::from(1))).unwrap();
        let _mail = Mail::new(places, lines.clone(), 0, &life).unwrap();
        assert_eq!(lines.inbox(&life).unwrap().try_recv().unwrap(), None);
    }
}
