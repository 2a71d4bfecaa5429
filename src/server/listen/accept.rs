//! A worker's side of a listening socket that all workers share: waits for a connection that is its own to take.
#![forbid(unsafe_code)]

use super::share::{Loads, Millis, Share, Verdict};
use crate::sys::ready::watch;
use crate::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::net::{SocketFlags, accept_with};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections taken without letting anybody else have a turn.
const BATCH: u32 = 16;
/// Connections that wait in the kernel and are taken by a worker that leaves, at most: the longest backlog that can be asked for.
const LEFT_OVER: usize = 65_535;

/// A listening socket in a worker's event loop.
pub(crate) struct Acceptor {
    socket: AsyncFd<OwnedFd>,
    /// `None`: what comes to this socket is ours, for each worker has its own.
    share: Option<Share>,
    began: Instant,
    in_a_row: u32,
}

impl Acceptor {
    /// Watches `socket`, which must be non-blocking. `shared`: other workers accept from it too. Inside a runtime.
    pub(crate) fn new(socket: impl AsFd, shared: bool) -> Result<Self> {
        let socket = socket.as_fd().try_clone_to_owned().map_err(Error::system("duplicating a socket"))?;
        let share = shared.then(Share::default);
        Ok(Self { socket: watch(socket)?, share, began: Instant::now(), in_a_row: 0 })
    }

    /// Takes connections, for as long as it is polled and while there is `room`, and hands each to `begin`; the permit goes with the connection. `complain`
    /// hears, once, that none can be taken: descriptors or memory have run out, as a rule.
    pub(crate) async fn take_all(
        &mut self,
        room: &Arc<Semaphore>,
        loads: impl Fn() -> Loads,
        begin: impl Fn(OwnedFd, OwnedSemaphorePermit),
        complain: impl Fn(&io::Error),
    ) {
        let mut told = false;
        // None would mean that the semaphore was closed, which nobody does.
        while let Some(taken) = self.accept(room, &loads).await {
            match taken {
                Ok((socket, permit)) => begin(socket, permit),
                Err(error) => {
                    // The connection stays in the queue, so that trying again at once would spin; connections that end make room.
                    if !std::mem::replace(&mut told, true) {
                        complain(&error);
                    }
                    tokio::time::sleep(SHORTAGE_WAIT).await;
                }
            }
        }
    }

    /// The same for who leaves, with what the kernel has completed already, whosever it would be: those clients have no way to know that we are leaving.
    pub(crate) fn take_rest(&self, room: &Arc<Semaphore>, begin: impl Fn(OwnedFd, OwnedSemaphorePermit)) {
        for _ in 0..LEFT_OVER {
            let Ok(permit) = room.clone().try_acquire_owned() else { return };
            match take(self.socket.get_ref()) {
                Ok(socket) => begin(socket, permit),
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }

    /// The next connection that is ours: non-blocking, closed by `exec`. `loads` is asked each time before one is taken, and must count by then all that
    /// this worker has taken. Nothing is lost when the future is dropped. None when the semaphore is closed.
    ///
    /// Room is asked for only when a connection waits: who waits for one that does not come must not hold what another port could use.
    ///
    /// # Errors
    /// What `accept` says: descriptors or memory have run out. The connection stays in the queue, so that calling again at once would spin.
    pub(crate) async fn accept(
        &mut self,
        room: &Arc<Semaphore>,
        loads: impl Fn() -> Loads,
    ) -> Option<io::Result<(OwnedFd, OwnedSemaphorePermit)>> {
        if self.in_a_row >= BATCH {
            self.in_a_row = 0;
            tokio::task::yield_now().await;
        }
        loop {
            let mut ready = match self.socket.readable().await {
                Ok(ready) => ready,
                Err(error) => return Some(Err(error)),
            };
            let permit = room.clone().acquire_owned().await.ok()?;
            let now = Millis::try_from(self.began.elapsed().as_millis()).unwrap_or(Millis::MAX);
            let verdict = self.share.as_mut().map_or(Verdict::Take, |share| share.judge(loads(), now));
            let gone = match verdict {
                Verdict::Take => match take(self.socket.get_ref()) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
                    // That one is off the queue, so the loop has an end.
                    Err(error) if is_of_one_connection(&error) => continue,
                    taken => {
                        self.in_a_row += 1;
                        return Some(taken.map(|socket| (socket, permit)));
                    }
                },
                Verdict::Wait(long) => {
                    drop(permit);
                    tokio::time::sleep(Duration::from_millis(long)).await;
                    !waits(self.socket.get_ref())
                }
            };
            if gone {
                // A connection that has come since this look is a new readiness, which this does not clear.
                ready.clear_ready();
                self.in_a_row = 0;
                if let Some(share) = &mut self.share {
                    share.settled();
                }
            }
        }
    }
}

/// How long to wait before the next `accept` when descriptors or memory have run out.
pub(crate) const SHORTAGE_WAIT: Duration = Duration::from_millis(75);

/// Whether `accept` only reports that one client went away while it waited (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionAborted | K::ConnectionReset | K::Interrupted | K::HostUnreachable | K::NetworkUnreachable
    )
}

fn take(socket: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
}

/// Whether a connection waits.
fn waits(socket: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn who_leaves_takes_what_has_come_as_far_as_it_has_room() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let acceptor = Acceptor::new(&listener, true).unwrap();
            // Connected is who has come through to the queue.
            let _clients = [0; 3].map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            let (room, taken) = (Arc::new(Semaphore::new(2)), RefCell::new(Vec::new()));
            let take = || {
                acceptor.take_rest(&room, |socket, permit| taken.borrow_mut().push((socket, permit)));
                taken.borrow().len()
            };
            assert_eq!((take(), room.available_permits()), (2, 0));
            room.add_permits(5);
            assert_eq!((take(), room.available_permits()), (3, 4), "and then nobody waits any more");
        });
    }
}
