//! A worker's life: boot, accept, leave.
//!
//! ```text
//!   fork ─▶ own signals ─▶ runtime ─▶ "ready" ─▶ accept ─▶ (SIGTERM) ─▶ drain ─▶ exit 0
//! ```
//!
//! The manager blocked SIGTERM before the fork, and it stays blocked here: it is read from a descriptor of the worker's
//! own, so one that arrives during the boot is found when the loop starts. The manager's other signals stay blocked and unread.
#![forbid(unsafe_code)]

use super::board::Board;
use super::connection::{Desk, serve};
use super::events::Events;
use super::options::EventKind;
use crate::Result;
use crate::process::crew::{ORPHAN, Post};
use crate::process::word::{Mouth, What};
use crate::server::life::runtime;
use crate::server::listen::accept::Acceptor;
use crate::server::listen::share::Loads;
use crate::sys::ready::watch;
use crate::sys::signal::{SignalFd, SignalSet};
use rustix::fd::OwnedFd;
use rustix::process::Signal;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch as channel};
use tokio::task::spawn_local;

/// Connections that one worker holds at most; more wait in the kernel's queue.
const CONNECTIONS: usize = 10_000;

/// The worker left as it was asked to.
const LEFT: i32 = 0;
/// The worker could not boot.
pub(super) const NOT_BOOTED: i32 = 1;

/// What a worker works with; everything else of the manager's is closed in this process.
pub(super) struct Tools {
    pub(super) listener: TcpListener,
    pub(super) board: Board,
    pub(super) events: Events,
    /// How long it waits, when it leaves, for connections to show whether they are idle.
    pub(super) linger: Duration,
}

/// Runs a worker; returns its exit status.
pub(super) fn work(post: Post, tools: Tools) -> i32 {
    let mouth = Rc::new(post.mouth);
    crate::sys::fork::seal_structures();
    let Tools { listener, board, events, linger } = tools;
    let desk = Rc::new(Desk { id: post.member.id, slot: post.member.slot, board, events, linger });
    boot(desk, listener, post.lifeline, mouth.clone(), &post.mask).unwrap_or_else(|error| {
        mouth.say(&What::Trouble(format!("cannot start: {error}")));
        NOT_BOOTED
    })
}

fn boot(desk: Rc<Desk>, listener: TcpListener, life: OwnedFd, mouth: Rc<Mouth>, mask: &SignalSet) -> Result<i32> {
    let asked = SignalFd::new(&SignalSet::of(&[Signal::TERM]))?;
    // In one step: were SIGTERM unblocked for an instant, one that is already pending would end us right there.
    mask.make_mask()?;
    runtime()?.block_on(async {
        let acceptor = Acceptor::new(&listener, false)?;
        // It has its own handle, and nobody is let in from when that is gone.
        drop(listener);
        let (asked, life) = (watch(asked.into())?, watch(life)?);
        mouth.say(&What::Ready);
        desk.tell(EventKind::Serving);
        tokio::select! {
            biased;
            // Nothing is ever written into the lifeline: readable means end of file, or a broken descriptor.
            _ = life.readable() => Ok(ORPHAN),
            code = run(desk, acceptor, &asked, &mouth) => Ok(code),
        }
    })
}

/// Accepts until SIGTERM comes, then sees all connections to their end.
async fn run(desk: Rc<Desk>, mut acceptor: Acceptor, asked: &AsyncFd<OwnedFd>, mouth: &Mouth) -> i32 {
    let (leave, leaving) = channel::channel(false);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let begin = |socket, permit| begin(socket, permit, &desk, &leaving);
    let complain = |error: &io::Error| {
        mouth.say(&What::Trouble(format!("cannot accept, trying again until it works: {error}")));
    };
    tokio::select! {
        biased;
        _ = asked.readable() => {}
        () = acceptor.take_all(&room, Loads::default, begin, complain) => {}
    }
    leave.send_replace(true);
    desk.tell(EventKind::Leaving { open: desk.board.open(desk.slot).unsigned_abs() });
    acceptor.take_rest(&room, begin);
    drop(acceptor);
    // Each connection holds a receiver, so this resolves when the last one has ended.
    drop(leaving);
    leave.closed().await;
    desk.tell(EventKind::Left { hits: desk.board.hits(desk.id).unsigned_abs() });
    LEFT
}

/// Serves a connection beside the others.
fn begin(socket: OwnedFd, permit: OwnedSemaphorePermit, desk: &Rc<Desk>, leaving: &channel::Receiver<bool>) {
    // An error: nothing is left to watch it with, and the client sees it closed.
    let Ok(stream) = TcpStream::from_std(socket.into()) else { return };
    let (desk, leaving) = (desk.clone(), leaving.clone());
    spawn_local(async move {
        serve(stream, desk, leaving).await;
        drop(permit);
    });
}
