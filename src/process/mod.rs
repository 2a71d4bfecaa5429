//! Floor 5: processes that work for a parent, and what keeps them running.
//!
//! [`Process`] is one of them: a closure in a fork, with a line both ways. A [`Pool`] is several of them that are replaced when they end. [`Cpus`] and [`Privileges`] say
//! where they run and who they are.
//!
//! # Supervision
//!
//! ```text
//!   manager (parent, one thread for ever)                worker (child)
//!   ─────────────────────────────────────                ──────────────
//!   supervise  decides: events in, commands out
//!      ▲   │
//!      │   └── fork, SIGTERM, SIGKILL, reap ──────────▶  runs, leaves, dies
//!      ├────── waitid: a death ◀───────────────────────
//!      └────── word:  "ready", "in trouble: …" ◀───────  says
//!              lifeline: open while the manager lives ▶  leaves when it ends
//! ```
//!
//! * `supervise` is a pure state machine: it makes no system call and reads no clock, so respawn storms, reloads and
//!   races at shutdown are unit tests. Whoever carries its commands out decides nothing.
//! * `crew` carries them out: the loop of a process that has children, whatever those are for.
//! * `word` is how a worker tells its manager something: fixed records in one pipe, each written in one piece.
//! * `lifeline` is how a worker learns that its manager is gone.
//! * `pool` is a crew whose workers run one closure and have a mailbox each.
//! * `spawn` is one process beside this one, with its life (`boot`), a line to it (`link`), a report of how it went (`report`) and an end (`exit`).
//! * `privileges`, `affinity` and `title` are what a process makes of itself after the fork: who it is, where it runs, what it is called.
//! * `roll` says who is in which slot; `bus` carries messages between any two of them, small ones in the receiver's inbox, large ones by way of
//!   the `vault`, whose essay says why; `bell` is where those wait who found no room.
//!
//! # A place, and the lives in it
//!
//! A place is filled for ever; who fills it has a generation, and a slot of its own (a line of a scoreboard). What one life goes
//! through:
//!
//! ```text
//!            fork fails: wait, try again
//!           ┌────────────┐
//!           ▼            │
//!        ┌─────┐  fork  ┌┴────────┐ forked ┌─────────┐ asked ┌─────────┐ deadline ┌────────┐
//!        │ Due ├───────▶│ Forking ├───────▶│ Running ├──────▶│ Leaving ├─────────▶│ Killed │
//!        └─────┘        └─────────┘        └────┬────┘       └────┬────┘          └───┬────┘
//!           ▲    died: recover, reap, wait      │                 │ died              │ died
//!           └───────────────────────────────────┘                 └──────▶ gone ◀─────┘
//! ```
//!
//! All are asked when a stop comes. In a reload a place has two lives for a while: its current one, and a successor that boots. When the
//! successor says that it is ready, it is the current one, and the other is asked. The place is never served by nobody:
//!
//! ```text
//!   old        ─── serves ──────────────────────────┬─ asked: finishes ─┤ gone
//!   successor             fork ─── boots ─── ready ─┴─ serves ────────────────────▶
//! ```
//!
//! # Who may die when
//!
//! * *A worker, at any instruction.* The manager learns of it by SIGCHLD, which is blocked and read from a descriptor,
//!   so that no instant exists in which it could be missed. While the dead is still a zombie, what it held in shared
//!   memory is recovered; then it is reaped; then its place is filled again. A word that it wrote before it died is
//!   read before its death is judged, so that a worker that was ready is not taken for one that never was.
//! * *A worker between `fork` and its first instruction of ours.* Signals are blocked across the fork, so a SIGTERM
//!   sent to a worker that is still booting waits until the worker listens.
//! * *The manager.* The kernel kills its workers (parent-death signal). A worker whose manager died before it could
//!   ask for that notices because its parent is another process by then; and should the request ever be lost (a change
//!   of credentials clears it), the lifeline's end still comes.
//! * *A successor, before it is ready.* The old one knows nothing of it and serves on. It is tried again, later each time, and
//!   given up in the end; one that hangs is killed first. *The old one, while its successor boots:* the place is as
//!   empty as after any death, and the successor fills it as soon as it is ready.
//! * *A late word of a dead worker* carries the generation that wrote it, and is dropped when its place has a newer one.

#![forbid(unsafe_code)]

mod affinity;
pub(crate) mod bell;
mod boot;
pub(crate) mod bus;
pub(crate) mod crew;
pub(crate) mod exit;
pub(crate) mod lifeline;
mod link;
mod pool;
pub(crate) mod privileges;
mod report;
pub(crate) mod roll;
mod spawn;
pub(crate) mod supervise;
pub(crate) mod title;
pub(crate) mod vault;
pub(crate) mod word;

pub use affinity::Cpus;
pub use exit::{Exit, Status};
pub use link::Link;
pub use pool::{Context, Message, Pool, PoolStats, WorkerStats};
pub use privileges::Privileges;
pub use spawn::{Process, ProcessBuilder};
