//! The same for tokio: waiting for messages and for room without holding a thread.

use std::os::fd::AsFd;

use super::{Channel, Lease, Notifier};
use crate::sync::ready;
use crate::{Error, Result};

impl Channel {
    /// Takes the first message, waiting for one without holding the thread. Must be called inside a tokio runtime with I/O enabled.
    ///
    /// Dropping the future loses nothing: a message is only taken when it is returned.
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
        if let Some(message) = self.try_pop()? {
            return Ok(message);
        }
        wait_with(self.notifier(), || self.try_pop()).await
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
        if let Some(lease) = self.try_pop_lease()? {
            return Ok(lease);
        }
        wait_with(self.notifier(), || self.try_pop_lease()).await
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
        let attempt = || match self.try_push(message) {
            Ok(()) => Ok(Some(())),
            Err(Error::Full { .. }) => Ok(None),
            Err(other) => Err(other),
        };
        if attempt()?.is_some() {
            return Ok(());
        }
        wait_with(self.room_notifier(), attempt).await
    }
}

/// Tries, and waits for the eventfd, until there is an answer.
async fn wait_with<T>(notifier: Notifier<'_>, attempt: impl Fn() -> Result<Option<T>>) -> Result<T> {
    // Its own descriptor: each runtime watches it for itself.
    let own = notifier.as_fd().try_clone_to_owned().map_err(Error::system("duplicating an eventfd"))?;
    let watched = ready::watch(own)?;
    loop {
        if let Some(done) = attempt()? {
            return Ok(done);
        }
        let mut guard = watched.readable().await.map_err(Error::system("waiting for an eventfd"))?;
        guard.clear_ready();
    }
}
