//! The crate's one error type: each variant says what was refused, the value met, and the limit.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// What the crate's fallible calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call was refused. Nothing is half done when one of these is returned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A region has no room for what was to be placed in it.
    #[error("out of shared memory: {asked} bytes asked, {left} bytes left in the region")]
    OutOfMemory {
        /// Bytes needed, bookkeeping included.
        asked: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// The wait was bounded, and the bound was reached.
    #[error("timed out after {after:?}")]
    Timeout {
        /// The bound that the caller set.
        after: Duration,
    },
    /// The calling thread already holds what it asks for; waiting would never end.
    #[error("would deadlock: this thread already holds this {what}")]
    WouldDeadlock {
        /// The kind of structure.
        what: &'static str,
    },
    /// A number is outside the range that the call accepts.
    #[error("{what} is {value}, allowed are {min}..={max}")]
    OutOfRange {
        /// What the number stands for.
        what: &'static str,
        /// The value met.
        value: u64,
        /// The least value allowed.
        min: u64,
        /// The greatest value allowed.
        max: u64,
    },
    /// A name does not fit where it is stored.
    #[error("the name {name:?} has {len} bytes, at most {max} are allowed")]
    NameTooLong {
        /// The name given.
        name: String,
        /// Its length in bytes.
        len: usize,
        /// The most bytes allowed.
        max: usize,
    },
    /// A name holds a byte that it must not.
    #[error("the name {name:?} holds a zero byte")]
    BadName {
        /// The name given.
        name: String,
    },
    /// More threads, over all processes, want to take part than there are slots.
    #[error("{max} threads, over all processes, already take part; no slot is free for this one")]
    TooManyParticipants {
        /// How many can take part at once.
        max: usize,
    },
    /// One thread holds too many locks, read locks and kinds of permits at once.
    #[error("this thread already holds {max} locks or kinds of permits, the most that one thread may hold at once")]
    TooManyHeld {
        /// The limit of one thread.
        max: usize,
    },
    /// The caller gives back what it does not hold.
    #[error("this process holds no permit of this {what}")]
    NotHeld {
        /// The kind of structure.
        what: &'static str,
    },
    /// A structure was to be made in a process that was already forked off the one that should share it.
    #[error("{what} made in a forked worker would be shared with nobody: make it before the fork")]
    AfterFork {
        /// The kind of structure.
        what: &'static str,
    },
    /// A call that belongs to one process was made in another.
    #[error("{call} belongs to the {expected}, and this process (pid {pid}) is not it")]
    WrongProcess {
        /// The call.
        call: &'static str,
        /// The process it belongs to.
        expected: &'static str,
        /// The calling process.
        pid: u32,
    },
    /// The process has more than one thread, so forking it is not safe.
    #[error("{call} forks, and this process already has {threads} threads: start it before any thread or runtime")]
    Threads {
        /// The call.
        call: &'static str,
        /// How many threads there are.
        threads: usize,
    },
    /// A process that was said to be dead is alive.
    #[error("process {pid} is still alive: only a dead one (a zombie before it is reaped, or one gone) is recovered")]
    StillAlive {
        /// The process.
        pid: u32,
    },
    /// The server cannot listen where it was told to: the address is taken, not this machine's, or not allowed.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Every worker died before it could serve, again and again.
    #[error("gave up: no worker ever became ready, and one place failed {deaths} times in a row")]
    NeverReady {
        /// Deaths in a row.
        deaths: u32,
    },
    /// A table has all the rows, a channel all the bytes, or a heap all the timers, that it was made for.
    #[error("full: all room is taken, which is {capacity} (rows of a table, bytes of a channel, timers)")]
    Full {
        /// The rows, bytes or timers it was made for.
        capacity: usize,
    },
    /// A message is longer than the channel takes.
    #[error("the message has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The most bytes allowed.
        max: usize,
    },
    /// A timer's delay is out of range.
    #[error("a delay of {delay:?}: allowed are 1 ms ..= 86 400 000 ms; for what is to happen at once, use defer")]
    BadDelay {
        /// The delay met.
        delay: Duration,
    },
    /// A message was pushed to dead letters, whose number tells after a death whether one of theirs has arrived.
    #[error("dead letters take only what comes back to their channel: push to that channel")]
    DeadLetters,
    /// A channel was closed; what it held has been taken.
    #[error("the channel is closed")]
    Closed,
    /// A lease was inherited by a fork, and is its parent's; or its message was taken back.
    #[error("the lease is not this thread's any more")]
    LeaseLost,
    /// A key has no bytes.
    #[error("the key is empty; a key has at least 1 byte")]
    EmptyKey,
    /// A key is longer than the table has room for.
    #[error("the key has {len} bytes, at most {max} are allowed")]
    KeyTooLong {
        /// Its length in bytes.
        len: usize,
        /// The most bytes allowed.
        max: usize,
    },
    /// A value is longer than its column.
    #[error("the value for column {column:?} has {len} bytes, at most {max} are allowed")]
    ValueTooLong {
        /// The column.
        column: String,
        /// The value's length in bytes.
        len: usize,
        /// The most bytes allowed.
        max: usize,
    },
    /// A column of one schema was used with a table of another.
    #[error("the column (of type {of}) is another schema's than this table's")]
    ForeignColumn {
        /// The type that its values have.
        of: &'static str,
    },
    /// A schema has two columns of the same name, or a call gives two values for one column.
    #[error("the column {column:?} is given twice")]
    DuplicateColumn {
        /// The column.
        column: String,
    },
    /// A table has no column of this name.
    #[error("the table has no column {column:?}")]
    UnknownColumn {
        /// The name asked for.
        column: String,
    },
    /// A column holds values of another type.
    #[error("the column {column:?} holds values of type {holds}, not {asked}")]
    WrongType {
        /// The column.
        column: String,
        /// The type asked for.
        asked: &'static str,
        /// The type it holds.
        holds: &'static str,
    },
    /// The table was made without what the call needs.
    #[error("this table was made without {what}; {by} asks for it")]
    NotEnabled {
        /// What is missing.
        what: &'static str,
        /// How to ask for it.
        by: &'static str,
    },
    /// The kernel refused a call.
    #[error("{call}: {source}")]
    System {
        /// What was attempted.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// Turns a kernel error into [`Error::System`]; for `map_err`.
    pub(crate) fn system<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> Error {
        move |source| Error::System { call, source: source.into() }
    }
}
