//! What processes of a server tell each other: messages of their handlers, and what is for a connection that another one holds.
//!
//! An inbox belongs to a place, not to a life: who takes over the place takes over what waits. In a reload the successor comes into it as soon as the one that
//! leaves has let go, which it does when it is asked to; so at no time do two read, and the order of each sender's messages is kept.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::board::no_place;
use super::calls::{Calls, guarded};
use super::conn::ConnId;
use super::worker::Worker;
use crate::process::bus::Bus;
use crate::process::roll::{Address, Tenancy};
use crate::{Error, Result};

/// Between two tries to come into an inbox that the one before has not let go yet.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// What is sent.
pub(super) enum Order<'d> {
    Message(&'d [u8]),
    Send(ConnId, &'d [u8]),
    Close(ConnId),
}

const MESSAGE: u8 = 0;
const SEND: u8 = 1;
const CLOSE: u8 = 2;

impl Order<'_> {
    fn to_bytes(&self) -> Vec<u8> {
        let (kind, id, data) = match self {
            Order::Message(data) => (MESSAGE, None, *data),
            Order::Send(id, data) => (SEND, Some(id.0), *data),
            Order::Close(id) => (CLOSE, Some(id.0), &[][..]),
        };
        let mut bytes = Vec::with_capacity(9 + data.len());
        bytes.push(kind);
        bytes.extend(id.into_iter().flat_map(u64::to_le_bytes));
        bytes.extend_from_slice(data);
        bytes
    }

    /// None for what no process of this server writes.
    fn of_bytes(bytes: &[u8]) -> Option<Order<'_>> {
        let (kind, rest) = bytes.split_first()?;
        if *kind == MESSAGE {
            return Some(Order::Message(rest));
        }
        let (id, data) = rest.split_first_chunk()?;
        let id = ConnId(u64::from_le_bytes(*id));
        match *kind {
            SEND => Some(Order::Send(id, data)),
            CLOSE => Some(Order::Close(id)),
            _ => None,
        }
    }
}

/// A process's end.
pub(super) struct Mail {
    bus: Bus,
    place: u32,
    tenancy: RefCell<Option<Tenancy>>,
}

impl Mail {
    pub(super) fn new(bus: Bus, place: usize) -> Result<Mail> {
        Ok(Mail { place: slot(&bus, place)?, bus, tenancy: RefCell::new(None) })
    }

    pub(super) async fn send(&self, to: usize, order: &Order<'_>) -> Result<()> {
        self.bus.send(self.address(), slot(&self.bus, to)?, &order.to_bytes()).await
    }

    pub(super) fn try_send(&self, to: usize, order: &Order<'_>) -> Result<()> {
        self.bus.try_send(self.address(), slot(&self.bus, to)?, &order.to_bytes())
    }

    /// Of a process that has not come into its inbox yet the place alone.
    fn address(&self) -> Address {
        let generation = self.tenancy.borrow().as_ref().map_or(0, |tenancy| tenancy.address().generation);
        Address { slot: self.place, generation }
    }

    /// Receives until the process is asked to leave; then lets go of the inbox.
    pub(super) async fn receive(worker: &Worker, calls: &Rc<dyn Calls>) -> Result<()> {
        let mail = &worker.inner.mail;
        let inbox = loop {
            let mine = mail.tenancy.borrow().clone();
            // Its own already, when it is called again.
            match mine.map_or_else(|| mail.bus.roll().attach(mail.place), Ok) {
                Ok(tenancy) => {
                    let inbox = mail.bus.inbox(&tenancy)?;
                    *mail.tenancy.borrow_mut() = Some(tenancy);
                    break inbox;
                }
                Err(Error::Occupied { .. }) if !worker.is_exiting() => tokio::time::sleep(TRY_AGAIN).await,
                Err(Error::Occupied { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        };
        loop {
            let message = tokio::select! {
                biased;
                () = worker.exiting() => break,
                message = inbox.recv() => message?,
            };
            let from = message.from.slot as usize;
            // Who leaves finishes what it has taken off.
            let under_way = worker.under_way();
            carry_out(worker, calls, from, &message.data).await;
            drop(under_way);
        }
        // Both go, and with them the slot is free for the successor.
        mail.tenancy.borrow_mut().take();
        drop(inbox);
        Ok(())
    }
}

/// The slot of a place's inbox.
fn slot(bus: &Bus, place: usize) -> Result<u32> {
    let places = bus.roll().slots();
    u32::try_from(place).ok().filter(|_| place < places).ok_or_else(|| no_place(place, places))
}

async fn carry_out(worker: &Worker, calls: &Rc<dyn Calls>, from: usize, message: &[u8]) {
    match Order::of_bytes(message) {
        Some(Order::Message(data)) => {
            let call = calls.pipe_message(worker, from, data.to_vec());
            if let Err(why) = worker.call(guarded(call)).await {
                worker.complain(format_args!("pipe_message from process {from}: {why}"));
            }
        }
        Some(Order::Send(id, data)) => {
            let Some(conn) = worker.conn(id) else { return };
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
        Some(Order::Close(id)) => {
            let Some(conn) = worker.conn(id) else { return };
            // After what was sent before, and is still waiting for room.
            conn.close_in_turn(worker).await;
        }
        None => {}
    }
}
