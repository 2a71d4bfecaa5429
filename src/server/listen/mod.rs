//! Where clients arrive: addresses, the sockets at them, and which worker takes whom.
//!
//! ```text
//!   Config.listen ── address ──▶ activation: passed on by the service manager?  ── yes ─▶ verified, taken over
//!                                    │ no
//!                                    ▼
//!                                  open: tcp, udp; unix: knock, lock, bind         (in the master, before the first fork)
//!                                    │ fork
//!                                    ▼
//!                                  accept ◀── share: is it mine?                   (in each worker)
//! ```
//!
//! Sockets are made once, in the master, which keeps them for its whole life: what waits in the kernel's queue belongs to the socket, so that a worker's
//! death, and a reload, lose no connection that nobody has accepted.
//!
//! # One socket for all, or one for each
//!
//! Measured with 4 processes and 100 connections on 2 processors, 20 rounds (`COMMONS_LONG=1 cargo test --test launch spread` does it again): the most that
//! one worker got, as a multiple of the mean, in the median round and in the worst. "Burst": all 100 connect before any is waited for; "drip": one after
//! another.
//!
//! | | burst | drip |
//! |---|---|---|
//! | one socket, all accept | 2.24, 4.00 | 2.00, 4.00 |
//! | one socket, exclusive waking (EPOLLEXCLUSIVE), one at a time | 3.84, 4.00 | 3.92, 4.00 |
//! | a socket for each (SO_REUSEPORT) | 1.20, 1.36 | 1.20, 1.40 |
//! | one socket, and the rule of [`share`] | 1.12, 1.16 | 1.12, 1.16 |
//!
//! Beside eight processes that want both processors all the time the last line's median stays (1.12), and one round of 20 had 1.64: whoever gets no
//! processor for long enough is passed over. With one of the four workers stopped (SIGSTOP) the others hold all hundred after 130 ms instead of 10, none more
//! than 41.
//!
//! A socket that all accept from gives to whoever runs first; exclusive waking wakes the same one as a rule. A socket for each leaves it to a hash: a hundred
//! throws of a die with four sides, and in 18 of 100 such games one side comes more than 1.3 times as often as it should; and what the hash gave to a worker
//! that is stopped or busy waits for it. A program of the classic filter (cBPF) could not do better, for it keeps no state between two packets. So the
//! default is one socket, and a rule: who has more than the mean and a little leaves the connection to the others for some milliseconds ([`share`]). It
//! keeps what one socket is good for: a worker that is stopped keeps nobody from being served.
//!
//! The price: every worker that waits is woken for each connection, and all but one go back to sleep. Workers that are busy are not woken.
//!
//! # What is in the file system
//!
//! The file of a unix socket is left behind by a server that is killed. Who comes next knocks, and removes it if nobody answers; all under a lock of the
//! directory ([`unix`]), so that of two that come at once one is refused. A file that is no socket is never removed. The process that made it removes it,
//! if it is still the same file; a forked worker that drops its copy removes nothing; a manager whose master has died adopts it.
#![forbid(unsafe_code)]

pub(crate) mod accept;
pub(crate) mod activation;
pub(crate) mod address;
pub(crate) mod open;
pub(crate) mod share;
#[cfg(test)]
mod tests;
pub(crate) mod unix;
