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
//! | `manager` | what the manager's crew (`process::crew`) is for, and what is told of it |
//! | `worker` | a worker's life: boot, accept, leave |
//! | `connection` | one connection: HTTP/1.1, its time limits, its end at a shutdown |
//! | `watched` | a socket that knows whether a request is under way, gives up on a peer that does not read, and closes so that it is heard |
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
//! `starts`, `crashes` and `pid` are written by the manager alone: the pid of a place is that of the worker that was forked for it when it
//! was empty, or that has taken it over; a death takes it away only if it is still the dead one's. Two workers may be in
//! one place, in a reload; the connections that each holds are counted in a line of its own (its slot), which is zeroed when it is dead.
//!
//! # A shutdown, and a reload
//!
//! SIGTERM or SIGINT: the manager closes its copy of the listening socket and sends each worker SIGTERM. A worker takes
//! over what already waits in the kernel's queue, closes the socket, and answers whatever is asked with `Connection: close`. It leaves
//! when the last connection has ended. Who has not left when its
//! time is over is killed, and the log says how many connections it still held. SIGQUIT, or a second SIGTERM, kills at once.
//! The manager returns when no child is left.
//!
//! SIGUSR1 or SIGHUP: the same, one place after the other, each with a successor that accepts from the same socket before
//! the old worker is asked. No request may fail for it, and that hangs on how connections are closed:
//!
//! * One on which a request is under way is closed after the response, which says so. What the client has sent behind that
//!   request is read and dropped, for a while: closed with something unread, the kernel would reset the connection, and the response might be lost.
//! * One on which nothing is under way is not closed at once. A request may be on its way, and whoever closes then answers it with
//!   nothing. It stays open for a second (`connection::LINGER`; less where the grace is short); who asks in that time is answered, and told to
//!   close. Who does not is closed, after a last look into the kernel's buffer, in the same turn of the loop. What remains is the time
//!   that a request travels, and a client that asks just then after a second of silence: HTTP/1.1 has no way to exclude it.
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
pub mod counters;
mod events;
mod http;
mod manager;
mod rates;
mod visits;
mod watched;
mod worker;
