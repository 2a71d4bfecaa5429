//! A pipe in which nothing is ever written: its end of file says that the parent is gone.
#![forbid(unsafe_code)]

use crate::{Error, Result};
use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, pipe_with};

/// Both ends, as the manager holds them.
///
/// Each worker inherits both, and must drop `held` first of all: an end of file comes when the last holder is gone.
pub(crate) struct Lifeline {
    /// The manager's end. The kernel closes it when the manager dies, however it dies.
    pub(crate) held: OwnedFd,
    /// The workers' end: readable (end of file) once `held` is closed everywhere.
    pub(crate) watched: OwnedFd,
}

impl Lifeline {
    /// Makes the pipe.
    pub(crate) fn new() -> Result<Self> {
        let (watched, held) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(Error::system("pipe"))?;
        Ok(Self { held, watched })
    }
}
