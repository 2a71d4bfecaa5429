//! How a process ended, and what its closure may end with.
#![forbid(unsafe_code)]

use crate::Result;
use crate::sys::child::End;
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It left with this status.
    Status(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// Whether it left with status 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Exit::Status(0)
    }
}

impl From<End> for Exit {
    fn from(end: End) -> Exit {
        match end {
            End::Exit(status) => Exit::Status(status),
            End::Signal(number) => Exit::Signal(number),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Status(status) => write!(f, "left with status {status}"),
            Exit::Signal(number) => write!(f, "was killed by signal {number}"),
        }
    }
}

/// What the closure of a process may end with: nothing, a status (of which the kernel keeps the lowest 8 bits), or a result, whose error is
/// status 1 and is told to the parent. A panic is status 101.
pub trait Status {
    /// The status, or what went wrong.
    fn status(self) -> Result<i32>;
}

impl Status for () {
    fn status(self) -> Result<i32> {
        Ok(0)
    }
}

impl Status for i32 {
    fn status(self) -> Result<i32> {
        Ok(self)
    }
}

impl Status for Result<()> {
    fn status(self) -> Result<i32> {
        self.map(|()| 0)
    }
}

/// The words of a panic, if it had any. What it carried is dropped here, where it does no harm if that panics too.
pub(crate) fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    let text = format!("panicked: {}", text.unwrap_or("without words"));
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // Its end might be as bad.
        std::mem::forget(another);
    }
    text
}
