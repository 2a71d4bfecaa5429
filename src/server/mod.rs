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
//!
//! What all servers have in common: sockets, regions and pipes are made before the first fork and come to the children by inheritance; the manager
//! stays a single thread for ever, so that forking it is safe; a child that dies takes with it what it had accepted, and nothing else.

#![forbid(unsafe_code)]

pub mod counters;
