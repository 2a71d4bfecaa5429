//! The counters server: a page and its statistics, served by several processes that count in shared memory.
//!
//! `GET /` is a page that shows the numbers, `GET /stats` the numbers as JSON:
//! `{"total": 3, "workers": [{"id": 0, "pid": 4711, "hits": 2, "starts": 1, "crashes": 0}, …], "paths": [{"path": "/", "hits": 2,
//! "bytes": 14020, "last_seen": 1760000000000}, …], "clients": [{"client": "127.0.0.1", …}, …]}`. A request is counted
//! before its response is written, so `total` is never less than the responses that clients have received, whichever
//! worker was killed when.
//!
//! `paths` and `clients` are the ten with the most hits of those that are kept: of the 512 or more seen last of each, with the bytes of the bodies sent and
//! when they were last seen, in milliseconds since 1970. Whatever was answered counts, also a 404. Paths of more than 128 bytes count together, as
//! `(long paths)`; so do requests without a path, `(no path)`, and what was no HTTP, `(not HTTP)`.
//!
//! `"rates": {"this_minute": 12, "minutes": [60, 59, …], "next_in": 41000}` are the requests of the minute that is running, those of the last fifteen full
//! ones, the last one first, and in how many milliseconds the next one begins.
//!
//! SIGTERM and SIGINT stop it in good order, SIGQUIT at once. SIGUSR1 and SIGHUP renew the workers one by one, and no request fails for it.
//!
//! ```text
//!        manager  (Counters::run; manager.rs)
//!           │ makes, before the first fork: the listening socket, the board, the pipes
//!     ┌─────┴─────┐  fork
//!  worker 0 … worker N-1  (worker.rs): all accept from the one socket; each connection is served where it was accepted
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `options` | the public face: options, binding, running |
//! | `manager` | carries out what `process::supervise` decides |
//! | `worker` | a worker's life: boot, accept, leave |
//! | `connection` | one connection: HTTP/1.1, its time limits, its end at a shutdown |
//! | `http` | requests to responses |
//! | `board` | the shared numbers |
//! | `visits` | the shared tables: visits by path and by client |
//! | `rates` | requests a minute, rotated by the shared timer |
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
mod connection;
mod events;
mod http;
mod manager;
mod options;
mod rates;
mod visits;
mod worker;

pub use options::{Counters, DEFAULT_PORT, EventKind, MAX_WORKERS, Notice, Options};
