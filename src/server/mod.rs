//! Floor 6: the process server.
//!
//! ```text
//!   process (floor 5): who forks, who is recovered and reaped, when a place is filled again
//!      ▲
//!   a server: what its processes do with the sockets they inherited, and what they tell each other in shared memory
//! ```
//!
//! | room | what it does |
//! |---|---|
//! | [`counters`] | a page and its statistics, served by as many processes as there are processors, all of whose numbers live in shared memory |
//! | `config` | all settings: from the builder, a TOML file, the environment; checked as a whole |
//! | `listen` | addresses, sockets, socket activation, and which worker takes a connection |
//! | `pidfile` `daemon` `log` `notify` | what a server does in a system: one only, detached, written down, told to the service manager |
//!
//! What all servers have in common: sockets, regions and pipes are made before the first fork and come to the children by inheritance; the manager
//! stays a single thread for ever, so that forking it is safe; a child that dies takes with it what it had accepted, and nothing else.

#![forbid(unsafe_code)]

mod board;
mod builder;
mod calls;
mod config;
mod conn;
pub mod counters;
mod daemon;
mod handler;
#[doc(hidden)]
pub mod harness;
mod http;
mod land;
mod life;
mod listen;
mod log;
mod mail;
mod manager;
mod master;
mod notify;
mod packet;
mod pidfile;
mod ports;
#[cfg(test)]
mod testing;
mod timers;
mod watched;
mod worker;

pub use board::{ProcessStats, State, Stats};
pub use builder::{Builder, Server};
pub use config::Config;
pub use conn::{Conn, ConnId};
pub use handler::{Bytes, Handler, Task, WorkerError};
pub use log::Level;
pub use packet::{Packet, Peer};
pub use worker::Worker;

pub use crate::task::Ledger;
