//! Floor 6: the process server.
//!
//! ```text
//!        master       made all shared memory, the sockets, the pid file; signals come here; takes orphans
//!          │ one child, started again when it dies
//!       manager       one thread for ever; forks, recovers, reaps, replaces; renews one by one
//!   ┌──────┼──────────────┐
//! workers  task workers   processes of the user's
//! ```
//!
//! | room | what it does |
//! |---|---|
//! | `builder` `land` | what a server is to be; what all its processes stand on, made before the first fork |
//! | `master` `manager` | crews (`process::crew`): one watches over the other, the other over everybody else |
//! | `life` `worker` `handle` | a process's life: boot, work, leave; what its handler can ask of it, and what a future that must be `Send` can |
//! | `handler` `calls` | what is called where; calls without their type, and what becomes of one that fails |
//! | `ports` `conn` `packet` | what arrives: connections whose bytes the handler reads, datagrams |
//! | `http` `answer` `watched` `parting` | HTTP by a tower service: a connection, a request, the clocks of its socket, its end |
//! | `mail` `timers` | messages between processes; closures on the shared timer |
//! | `board` | the scoreboard: a cache line a life |
//! | `config` | all settings: from the builder, a TOML file, the environment; checked as a whole |
//! | `listen` | addresses, sockets, socket activation, and which worker takes a connection |
//! | `pidfile` `daemon` `log` `notify` | what a server does in a system: one only, detached, written down, told to the service manager |
//! | [`counters`] | the server of the `commons` command: a page and its statistics, all of whose numbers live in shared memory |
//!
//! # Who may die when
//!
//! * *A worker.* The connections that it had accepted end with it, and what others had sent to them; what nobody has accepted waits in the kernel's queue, which
//!   belongs to the socket, and the socket to the master. Its tasks' answers are nobody's; messages that wait in the inbox of its place are its successor's. The
//!   manager recovers what it held, reaps it, empties its line of the board and the inbox of that, and forks the next one.
//! * *A task worker.* Its task is taken up by another one, or reported lost after `task_attempts` tries (`task`).
//! * *The manager.* The kernel kills its children; they come to the master, which recovers and reaps them. The next manager waits until they are dead, and
//!   begins with an empty board: it adopts nobody. Shared memory, sockets, tasks and messages are as they were.
//! * *The master.* Its end of the lifeline closes: the manager stops everybody in good order and removes what is on the disk.
//! * *Master and manager at once.* The kernel kills the rest. What stays on the disk (a pid file, unix sockets) is recognised as stale by the next server.
//!
//! # A reload
//!
//! One place after the other: a successor is forked, with a line of the board of its own; when it is ready the old one is asked to leave. Both accept from
//! the same socket meanwhile. The old one takes what is left in the kernel's queue, answers what is under way (`http` says how no request is lost), lets go of its
//! place's inbox, goes on taking what others send to its connections (`mail`), waits for the answers to its tasks, and leaves; shortly before its time is over it
//! says in the log what it still waits for.

#![forbid(unsafe_code)]

mod answer;
mod board;
mod builder;
mod calls;
mod config;
mod conn;
pub mod counters;
mod daemon;
mod handle;
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
mod parting;
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
pub use handle::WorkerHandle;
pub use handler::{Bytes, Handler, Task, WorkerError};
pub use log::Level;
pub use packet::{Packet, Peer};
pub use worker::Worker;

pub use crate::task::Ledger;
