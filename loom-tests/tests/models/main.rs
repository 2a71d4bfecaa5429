//! The models, a protocol a file. See `src/lib.rs` for how to run them.

mod barrier;
mod channel;
mod channel_death;
mod channel_lease;
mod channel_session;
mod channel_sleep;
mod channel_told;
mod counter;
mod lock;
mod lock_death;
mod participants;
mod rwlock;
mod semaphore;
mod table;
mod table_death;
mod table_soonest;
mod timer;
mod timer_death;
mod wait;
mod wait_death;
mod watch;
