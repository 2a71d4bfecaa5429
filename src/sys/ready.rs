//! Descriptors of ours in tokio's event loop.
//!
//! What is registered there stays registered until it is deregistered through the very event loop: so a process that inherits the registration by a
//! fork must not touch it, not even to end it, for the event loop behind it is its parent's.
#![allow(unsafe_code)]

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};

use super::fork::{gated, generation};
use crate::{Error, Result};

/// Watches `fd` for being readable. Must be called inside a runtime.
pub(crate) fn watch(fd: OwnedFd) -> Result<AsyncFd<OwnedFd>> {
    // SAFETY:
    // - valid and open: an `OwnedFd` owns an open descriptor, and it moves into the `AsyncFd`, which keeps it until dropped;
    // - always the same: an `OwnedFd` names one descriptor for its whole life.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Error::system("register with epoll"))
}

/// A descriptor that any number of futures of one runtime wait for, all of whom are told.
pub(crate) struct Watched {
    /// There until it is dropped.
    io: Option<AsyncFd<RawFd>>,
    fd: OwnedFd,
    /// In which process; see [`generation`].
    process: u64,
}

impl Watched {
    /// Must be called inside a runtime.
    pub(crate) fn new(fd: OwnedFd) -> Result<Watched> {
        // SAFETY:
        // - valid and open: `fd` owns it and goes into the same value, where it outlives the registration, which `drop` ends first;
        // - always the same: it is a number.
        let io = unsafe { AsyncFd::register_with_interest(fd.as_raw_fd(), Interest::READABLE) };
        Ok(Watched { io: Some(io.map_err(Error::system("register with epoll"))?), fd, process: generation() })
    }

    fn io(&self) -> &AsyncFd<RawFd> {
        self.io.as_ref().unwrap_or_else(|| unreachable!("taken only by drop"))
    }

    /// Waits until it has become readable, and leaves that known, for others wait as well.
    pub(crate) async fn readable(&self) -> std::io::Result<()> {
        self.io().readable().await.map(drop)
    }

    /// Calls `look`. If it finds nothing, what was known to be readable before is known no more; what has become readable since then is.
    pub(crate) fn look<T>(&self, look: impl Fn() -> Result<Option<T>>) -> Result<Option<T>> {
        let mut looked = None;
        let _ = self.io().try_io(Interest::READABLE, |_| match looked.insert(look()) {
            Ok(None) => Err(ErrorKind::WouldBlock.into()),
            Ok(Some(_)) | Err(_) => Ok(()),
        });
        looked.unwrap_or_else(look)
    }

    /// Whether it can still be waited for here: in the process that registered it, and as long as its runtime is there.
    fn serves(&self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        self.process == generation() && !matches!(pin!(self.io().readable()).poll(&mut nobody), Poll::Ready(Err(_)))
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRef<Watched> for Watched {
    fn as_ref(&self) -> &Watched {
        self
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.process != generation() {
            // The parent's. It would be deregistered there.
            std::mem::forget(self.io.take());
        }
        self.io = None;
    }
}

/// What each runtime of a process makes for itself when it first needs it, and keeps.
pub(crate) struct PerRuntime<T> {
    /// Locked only inside the gate, so that a fork never copies it half written.
    all: Mutex<Vec<(Id, Arc<T>)>>,
}

impl<T: AsRef<Watched>> PerRuntime<T> {
    pub(crate) const fn new() -> PerRuntime<T> {
        PerRuntime { all: Mutex::new(Vec::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Id, Arc<T>)>> {
        // Poisoned: a thread panicked between two whole states of a Vec; there is no half state to fear.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That of the runtime that the caller is in, made if there is none that serves.
    pub(crate) fn get(&self, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let runtime = Handle::current().id();
        // The number of a runtime that has ended may be given to another one.
        let found = gated(|| self.lock().iter().find(|(id, _)| *id == runtime).map(|(_, it)| it.clone()));
        if let Some(found) = found.filter(|found| (**found).as_ref().serves()) {
            return Ok(found);
        }
        let made = Arc::new(make()?);
        let gone: Vec<_> = gated(|| {
            let mut all = self.lock();
            let gone = all.extract_if(.., |(_, it)| !(**it).as_ref().serves()).collect();
            // Another thread may have been faster: then both serve, the first one is found, and this one goes with its wait.
            if all.iter().all(|(id, _)| *id != runtime) {
                all.push((runtime, made.clone()));
            }
            gone
        });
        // Only now, for what is dropped talks to its runtime.
        drop(gone);
        Ok(made)
    }
}
