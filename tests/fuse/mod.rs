//! A fuse: a death at a chosen moment and a random instruction. A signal from outside hits a process while it sleeps, mostly; what is to be tested are the
//! few microseconds in which something is between here and there.

#![allow(unsafe_code)]

use crate::common::dice::Dice;

/// Seconds after which a process that hangs is ended, as the fork harness has it.
const ALARM: i64 = 60;

fn arm(micros: i64, seconds: i64) {
    let zero = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let timer = libc::itimerval { it_interval: zero, it_value: libc::timeval { tv_sec: seconds, tv_usec: micros } };
    // SAFETY: sets the one timer of this process, from a value that outlives the call; nobody asks for the old one.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
}

/// Runs `f`, which once in `sides` times has a fuse lit of at most so many microseconds: SIGALRM, which nobody handles, ends the process there.
pub(crate) fn risk<R>(dice: &mut Dice, sides: u64, micros: u64, f: impl FnOnce() -> R) -> R {
    if dice.roll(sides) > 0 {
        return f();
    }
    arm(1 + dice.roll(micros) as i64, 0);
    let result = f();
    arm(0, ALARM);
    result
}

/// The signal by which it ends.
pub(crate) const BURNT: i32 = libc::SIGALRM;
