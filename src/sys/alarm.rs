//! A timerfd: a descriptor that becomes readable at an instant, for those who wait with epoll.

use std::os::fd::{AsFd, OwnedFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::{Error, Result};

/// A timerfd on the clock of `clock::now`.
pub(crate) fn new() -> Result<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    timerfd_create(TimerfdClockId::Monotonic, flags).map_err(Error::system("making a timerfd"))
}

/// It becomes readable at `nanoseconds`, which may be over, and not before: what was set earlier is forgotten.
pub(crate) fn set(alarm: impl AsFd, nanoseconds: u64) -> Result<()> {
    // 0 would be never.
    let at = nanoseconds.max(1);
    let it_value = Timespec { tv_sec: (at / 1_000_000_000).cast_signed(), tv_nsec: (at % 1_000_000_000) as _ };
    let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
    timerfd_settime(alarm, TimerfdTimerFlags::ABSTIME, &spec).map_err(Error::system("setting a timerfd"))?;
    Ok(())
}
