//! The same for tokio: waiting for messages and for room without holding a thread.

use std::os::fd::AsFd;

use super::{Channel, Lease, Notifier};
use crate::robust::SLICE;
use crate::sync::{Alarm, clock, ready};
use crate::{Error, Result};

impl Channel {
    /// Takes the first message, waiting for one without holding the thread. Must be called inside a tokio runtime with I/O enabled.
    ///
    /// Dropping the future loses nothing: a message is only taken when it is returned. Where another process was stopped in the middle of the ring, each
    /// attempt holds the thread for 20 ms.
    ///
    /// # Errors
    /// As [`pop`](Channel::pop); [`Error::System`] when the kernel refuses another descriptor.
    ///
    /// # Examples
    /// ```
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    /// let channel = commons::Channel::new(4096)?;
    /// channel.push(b"hello")?;
    /// assert_eq!(runtime.block_on(channel.recv())?, b"hello");
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub async fn recv(&self) -> Result<Vec<u8>> {
        wait_with(|| self.notifier(), || self.try_pop()).await
    }

    /// Leases the first message, waiting for one without holding the thread. Must be called inside a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// As [`recv`](Channel::recv).
    ///
    /// # Examples
    /// ```
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    /// let tasks = commons::Channel::new(4096)?;
    /// tasks.push(b"dig")?;
    /// runtime.block_on(tasks.recv_lease())?.ack()?;
    /// assert!(tasks.is_empty());
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub async fn recv_lease(&self) -> Result<Lease> {
        wait_with(|| self.notifier(), || self.try_pop_lease()).await
    }

    /// Puts a message at the end, waiting for room without holding the thread. Must be called inside a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// As [`push`](Channel::push); [`Error::System`] when the kernel refuses another descriptor.
    ///
    /// # Examples
    /// ```
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    /// let channel = commons::Channel::new(4096)?;
    /// runtime.block_on(channel.send(b"hello"))?;
    /// assert_eq!(channel.pop()?, b"hello");
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub async fn send(&self, message: &[u8]) -> Result<()> {
        self.send_while(message, || Ok(())).await
    }

    /// The same, for as long as `wanted`, which is asked before each attempt, does not say why not.
    pub(crate) async fn send_while(&self, message: &[u8], wanted: impl Fn() -> Result<()>) -> Result<()> {
        let attempt = || match wanted().and_then(|()| self.try_push(message)) {
            Ok(()) => Ok(Some(())),
            Err(Error::Full { .. }) => Ok(None),
            Err(other) => Err(other),
        };
        wait_with(|| self.room_notifier(), attempt).await
    }
}

/// Tries, and waits for the eventfd, until there is an answer. In slices, as all who sleep here: what the dead have leased becomes ready without a
/// signal, and one may have died between its push and the signal for it.
async fn wait_with<'c, T>(
    notifier: impl FnOnce() -> Notifier<'c>,
    attempt: impl Fn() -> Result<Option<T>>,
) -> Result<T> {
    let attempt = || match attempt() {
        // Somebody was stopped in the middle of the ring: that is waited for like anything else.
        Err(Error::Timeout { .. }) => Ok(None),
        done => done,
    };
    // Before any descriptor is made.
    if let Some(done) = attempt()? {
        return Ok(done);
    }
    // Its own descriptors: each runtime watches them for itself.
    let own = notifier().as_fd().try_clone_to_owned().map_err(Error::system("duplicating an eventfd"))?;
    let (watched, alarm) = (ready::watch(own)?, Alarm::new()?);
    let own = alarm.as_fd().try_clone_to_owned().map_err(Error::system("duplicating a timerfd"))?;
    let slice = ready::watch(own)?;
    loop {
        if let Some(done) = attempt()? {
            return Ok(done);
        }
        alarm.set(clock::now().saturating_add(SLICE))?;
        tokio::select! {
            told = watched.readable() => told.map_err(Error::system("waiting for an eventfd"))?.clear_ready(),
            over = slice.readable() => over.map_err(Error::system("waiting for a timerfd"))?.clear_ready(),
        }
    }
}
