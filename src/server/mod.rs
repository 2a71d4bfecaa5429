//! Floor 6: the process server.
//!
//! So far one server is built on it, [`counters`]: a page and its statistics, served by as many processes as there are
//! processors, all of whose numbers live in shared memory.
//!
//! ```text
//!        manager  (counters::Counters::run; manager.rs)
//!           │ makes, before the first fork: the listening socket, the board, the pipes
//!     ┌─────┴─────┐  fork
//!  worker 0 … worker N-1  (worker.rs): all accept from the one socket; each connection is served where it was accepted
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `counters` | the public face: options, binding, running |
//! | `manager` | carries out what `process::supervise` decides |
//! | `worker` | a worker's life: boot, accept, leave |
//! | `connection` | one connection: HTTP/1.1, its time limits, its end at a shutdown |
//! | `watched` | a socket that knows whether a request is under way, and gives up on a peer that does not read |
//! | `http` | requests to responses |
//! | `board` | the shared numbers |
//! | `visits` | the shared tables: visits by path and by client |
//! | `rates` | requests a minute, rotated by the shared timer |
//! | `config` | all settings: from the builder, a TOML file, the environment; checked as a whole |
//! | `listen` | addresses, sockets, socket activation, and which worker takes a connection |
//! | `pidfile` `daemon` `log` `notify` | what a server does in a system: one only, detached, written down, told to the service manager |
//! | `events` | the shared channel by which workers tell the manager what happens |
//!
//! # What the socket's place in the parent buys
//!
//! There is one listening socket, made once. A worker that dies takes with it the connections it had accepted, and
//! nothing else: connections that nobody has accepted yet wait in the kernel's queue, which belongs to the socket, and
//! the next worker takes them.
//!
//! # Who may write which number when
//!
//! `hits` of a place and the `total` are added to by the worker in that place, by atomic addition, before the response
//! is written: a client that has read n responses finds a total of at least n, whoever was killed meanwhile. A worker
//! that dies between the two additions leaves `total` one ahead of the sum of hits; nothing is ever lost or torn.
//! `starts`, `crashes` are added to by the manager alone. `pid` is written by the manager after the fork and also by
//! the worker before it accepts (the same value, so their order does not matter), and zeroed by the manager after the
//! death; two workers are never in one place at the same time, for a place is filled only when its last worker has been
//! reaped.
//!
//! # A shutdown
//!
//! SIGTERM or SIGINT: the manager closes its copy of the listening socket and sends each worker SIGTERM. A worker takes
//! over what already waits in the kernel's queue, closes the socket, closes idle connections, answers the requests that
//! are under way with `Connection: close`, and leaves when the last connection has ended. Who has not left when its
//! time is over is killed, and the log says how many connections it still held. SIGQUIT, or a second SIGTERM, kills at once.
//! The manager returns when no child is left.
//!
//! # What is told
//!
//! Whether a worker is ready, and why it is in trouble, comes by the pipe of words (`process::word`), for the manager decides by it. What is only for
//! the log comes by the channel: a push costs a worker no system call while the manager is awake, and none of it is waited for.
//! The manager's waits end for a signal, a word, an event, a deadline of the supervision, or the shared timer, which it lets fire: totals for the
//! log, and the rotation of the rates. Any worker can ask that timer when the next rotation is due.
//!
//! Should the manager itself fail (the kernel refuses `poll`, or the callback that hears its notices panics), its end of
//! the lifeline closes as it unwinds, and the workers leave.

#![forbid(unsafe_code)]

mod board;
mod config;
mod connection;
pub mod counters;
mod daemon;
mod events;
#[doc(hidden)]
pub mod harness;
mod http;
mod listen;
mod log;
mod manager;
#[cfg_attr(not(test), expect(dead_code, reason = "the server that is being built on it is its user"))]
mod notify;
mod pidfile;
mod rates;
#[cfg(test)]
mod testing;
mod visits;
mod watched;
mod worker;

pub use config::Config;
pub use log::Level;
