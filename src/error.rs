//! The crate's one error type: each variant says what was refused, the value met, and the limit.

use std::io;
use std::path::PathBuf;
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
    /// A call that belongs to one process, or to one thread of it, was made in another.
    #[error("{call} belongs to the {expected}, and the caller (pid {pid}) is not it")]
    WrongProcess {
        /// The call.
        call: &'static str,
        /// The process, or thread, it belongs to.
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
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// An address to listen on is none.
    #[error("the address {address:?} is not like tcp://127.0.0.1:9501 or unix:///run/x.sock: {why}")]
    BadAddress {
        /// The address as it was given.
        address: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// What the service manager passed is not what was asked for.
    #[error("socket activation: {why}")]
    Activation {
        /// What is wrong.
        why: String,
    },
    /// There is no setting of this name.
    #[error("there is no setting {key}{near}")]
    UnknownSetting {
        /// The name given.
        key: String,
        /// A question that names the one which was meant, perhaps.
        near: String,
    },
    /// A setting has a value that is not allowed, or not together with another one.
    #[error("the setting {key} is {value}, allowed are {allowed}")]
    BadSetting {
        /// Its name.
        key: String,
        /// The value met.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A text is no TOML.
    #[error("the config is no TOML, line {line}: {why}")]
    BadToml {
        /// The line, from 1; 0 when it is not known.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// A file cannot be read, made or written; a directory cannot be what it was named for.
    #[error("the {what} {path:?}: {source}")]
    BadFile {
        /// Which file or directory.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A pid file is locked by a process that lives.
    #[error("the pid file {path:?} is that of a living server{pid}")]
    AlreadyRunning {
        /// Its path.
        path: PathBuf,
        /// Its process id in brackets, where it can be read.
        pid: String,
    },
    /// A daemon ended, or took too long, before it was ready.
    #[error("the daemon did not start: {why}")]
    Daemon {
        /// What it said, or how it ended.
        why: String,
    },
    /// Every worker died before it could serve, again and again.
    #[error("gave up: no worker ever became ready, and one place failed {deaths} times in a row")]
    NeverReady {
        /// Deaths in a row.
        deaths: u32,
    },
    /// A table has all the rows, a channel all the bytes, a heap all the timers, or a queue all the tasks, that it was made for.
    #[error("full: all room is taken, which is {capacity} (rows of a table, bytes of a channel, timers)")]
    Full {
        /// The rows, bytes, timers or tasks it was made for.
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
    /// A channel was closed, and what it held has been taken; or a connection is closed, or its worker is gone.
    #[error("closed: the channel takes no more, or the connection is gone")]
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
    /// Somebody else lives in the slot that was asked for.
    #[error("slot {slot} is taken: the process that has it is alive")]
    Occupied {
        /// The slot.
        slot: u32,
    },
    /// A task was tried as often as is allowed, and each time the process that ran it died.
    #[cfg(feature = "server")]
    #[error("task {id} is lost: it was tried {attempts} times, and each time the process that ran it died")]
    TaskLost {
        /// The task.
        id: crate::TaskId,
        /// How often it was tried.
        attempts: u32,
    },
    /// A task ran to its end, which was an error.
    #[cfg(feature = "server")]
    #[error("task {id} failed: {why}")]
    TaskFailed {
        /// The task.
        id: crate::TaskId,
        /// What the one that ran it said.
        why: String,
    },
    /// There is no such user.
    #[error("there is no user {name:?} on this machine")]
    UnknownUser {
        /// The name, or number, asked for.
        name: String,
    },
    /// There is no such group.
    #[error("there is no group {name:?} on this machine")]
    UnknownGroup {
        /// The name asked for.
        name: String,
    },
    /// The kernel did not let this process become who it is to be.
    #[error("cannot {step} {wanted}: {source}")]
    Privileges {
        /// What was attempted.
        step: &'static str,
        /// Who or what it was to be.
        wanted: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Privileges were to be given up, no call failed, and yet they are there.
    #[error("privileges were not given up: {what} should be {wanted}, and {found} was found")]
    NotGivenUp {
        /// What was read back.
        what: &'static str,
        /// What was to be there.
        wanted: String,
        /// What is there.
        found: String,
    },
    /// A processor does not exist, or is not this process's to use.
    #[error("CPU {cpu} {}; this process may use {allowed}", if *.online { "is not for this process to use" } else { "does not exist" })]
    Cpu {
        /// The processor.
        cpu: usize,
        /// Whether this machine has it.
        online: bool,
        /// The processors that this process may use.
        allowed: String,
    },
    /// A list of processors cannot be read.
    #[error("{text:?} is no list of CPUs; one is written like 0-3,8")]
    CpuList {
        /// The text.
        text: String,
    },
    /// A process was forked, and could not become what it is to be.
    #[error("process {name:?} could not start: {why}")]
    Boot {
        /// Its name.
        name: String,
        /// What went wrong in it.
        why: String,
    },
    /// The process at the other end has ended, and left nothing more to receive.
    #[error("process {pid} has ended")]
    Gone {
        /// The process.
        pid: u32,
    },
    /// A server was run that listens nowhere and has nothing else to do.
    #[cfg(feature = "server")]
    #[error("the server listens nowhere, and has no task workers and no processes of its own")]
    NoPorts,
    /// A task was submitted to a server without task workers.
    #[cfg(feature = "server")]
    #[error("there are no task workers; the setting task_workers says how many")]
    NoTaskWorkers,
    /// A datagram is to be answered whose sender has no address.
    #[cfg(feature = "server")]
    #[error("the sender of the datagram has no address")]
    NoAddress,
    /// HTTP is to be served where there are only datagrams.
    #[cfg(feature = "server")]
    #[error("cannot serve HTTP at {address}: datagrams arrive there")]
    NoStream {
        /// The address.
        address: String,
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
