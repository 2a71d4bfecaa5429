//! What can be set about a server: one [`Config`], checked as a whole before anything is forked.
//!
//! ```text
//!   TOML file ──▶ Given ─┐
//!   COMMONS_…  ──▶ Given ─┼─ read ──▶ Config ── validate ──▶ the server
//!   builder methods ─────┘   key known? right kind?   in range? no contradiction?
//! ```
//!
//! The table in this file is all there is to a setting: its name, its type, what it starts with, what is allowed, in words and as a check.
//! Everything else (the field, the builder method, the key of the file, the variable of the environment, the errors) follows from it, so that no
//! place knows a key that another one does not.
//!
//! Nothing is clamped, and nothing that was given is ignored: a key that does not exist, a value of the wrong kind or out of range, and two settings
//! that contradict each other are errors that name the key, the value and what is allowed. Later sources win over earlier ones, key by key.
#![forbid(unsafe_code)]

mod again;
pub(super) mod check;
mod given;
#[cfg(test)]
mod tests;

use super::log::Level;
use crate::{Error, Result};
use given::{Given, Setting};
use serde::de::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;

/// The most workers, and the most task workers, that a server may have.
const MAX_PROCESSES: u32 = 1024;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const MILLISECOND: Duration = Duration::from_millis(1);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The builder method of one field.
macro_rules! setter {
    ($(#[$doc:meta])* $name:ident plain $type:ty) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, value: $type) -> Self {
            self.$name = value;
            self
        }
    };
    ($(#[$doc:meta])* $name:ident some $type:ty) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, value: $type) -> Self {
            self.$name = Some(value);
            self
        }
    };
    ($(#[$doc:meta])* $name:ident text $type:ty) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, value: impl Into<$type>) -> Self {
            self.$name = Some(value.into());
            self
        }
    };
    ($(#[$doc:meta])* $name:ident list $type:ty) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, values: impl IntoIterator<Item = impl Into<$type>>) -> Self {
            self.$name = values.into_iter().map(Into::into).collect();
            self
        }
    };
}

macro_rules! field {
    (plain $type:ty) => { $type };
    (some $type:ty) => { Option<$type> };
    (text $type:ty) => { Option<$type> };
    (list $type:ty) => { Vec<$type> };
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $kind:ident $type:ty = $default:expr, $allowed:expr, $check:expr;)*) => {
        /// All settings of a server.
        ///
        /// # Examples
        ///
        /// ```
        /// use commons::server::Config;
        /// use std::time::Duration;
        ///
        /// let config = Config::default().workers(2).listen(["tcp://127.0.0.1:9501"]).stop_grace(Duration::from_secs(3));
        /// config.validate()?;
        ///
        /// let config = Config::from_toml("workers = 2\nlisten = ['tcp://127.0.0.1:9501']\nstop_grace = '3s'")?;
        /// let error = Config::from_toml("workers = 0")?.validate().unwrap_err();
        /// assert_eq!(error.to_string(), "the setting workers is 0, allowed are 1..=1024");
        /// # Ok::<(), commons::Error>(())
        /// ```
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        #[non_exhaustive]
        pub struct Config {
            $($(#[$doc])* pub $name: field!($kind $type),)*
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Config {
            $(setter!($(#[$doc])* $name $kind $type);)*

            /// All keys there are.
            pub(super) const KEYS: &[&str] = &[$(stringify!($name)),*];

            /// Takes in one value by its key. Its kind is looked at here, its range by `validate`.
            fn take(&mut self, key: &str, given: &Given) -> Result<()> {
                match key {
                    $(stringify!($name) => {
                        self.$name = Setting::read(given).ok_or_else(|| not_allowed(key, given.to_string(), $allowed))?;
                    })*
                    _ => return Err(unknown(key)),
                }
                Ok(())
            }

            /// Every value by itself.
            fn each_in_range(&self) -> Result<()> {
                $({
                    let check: fn(&field!($kind $type)) -> bool = $check;
                    if !check(&self.$name) {
                        return Err(not_allowed(stringify!($name), self.$name.show(), $allowed));
                    }
                })*
                Ok(())
            }
        }
    };
}

settings! {
    /// Where to listen: `tcp://host:port`, `udp://host:port`, `unix:///path`, `unix-dgram:///path`, or `systemd://name` for what the service manager passes
    /// under that name.
    listen: list String = Vec::new(), "addresses like tcp://127.0.0.1:9501, each once", |_| true;
    /// Worker processes; starts as the number of processors that affinity and the control group's quota allow.
    workers: plain u32 = processors(), "1..=1024", |n| (1..=MAX_PROCESSES).contains(n);
    /// Task workers.
    task_workers: plain u32 = 0, "0..=1024", |n| (0..=MAX_PROCESSES).contains(n);
    /// How often a task is tried before it is reported lost.
    task_attempts: plain u32 = 2, "1..=31", |n| (1..=31).contains(n);
    /// Room for tasks that wait or run, in bytes: 2 KiB for each. What is longer than 1 KiB lies elsewhere, for which there is as much room as is used, up to 256 MiB.
    task_queue_bytes: plain u64 = 8 * MIB, "64K..=128M", |n| (64 * KIB..=128 * MIB).contains(n);
    /// Room for messages between processes, in bytes for each receiver. A worker takes it up to four times: for messages, and three times, of which one is in use
    /// except in reloads, for what others send to its connections. Memory is taken as it is used, and kept.
    message_queue_bytes: plain u64 = MIB, "64K..=256M", |n| (64 * KIB..=256 * MIB).contains(n);
    /// Connections that the server holds at most, over all workers; unset: what the limit of open files allows, and no more than 100 000.
    max_connections: some u32 = None, "1..=1048576", |n| n.is_none_or(|n| (1..=1 << 20).contains(&n));
    /// Requests after which a worker is replaced; 0: never.
    max_request: plain u32 = 0, "0..=4294967295", |_| true;
    /// A worker is replaced up to this many requests later, by lot, so that not all go at once; unset: half of `max_request` if that is above 10.
    max_request_grace: some u32 = None, "0..=4294967295", |_| true;
    /// As `max_request`, of task workers.
    task_max_request: plain u32 = 0, "0..=4294967295", |_| true;
    /// As `max_request_grace`, of task workers.
    task_max_request_grace: some u32 = None, "0..=4294967295", |_| true;
    /// A connection on which nothing arrives for so long is closed; zero: never. Of HTTP/1.1 that holds between two requests, where it is
    /// never more than 10 s; of HTTP/2 a client stays that answers pings.
    heartbeat_idle_time: plain Duration = Duration::ZERO, "0 or 10ms..=1d", |d| d.is_zero() || (MILLISECOND * 10..=DAY).contains(d);
    /// How long a send may wait for a client that does not read before the connection is given up; zero: for ever. Of HTTP/1.1 it is always 10 s.
    send_timeout: plain Duration = Duration::ZERO, "0 or 10ms..=1d", |d| d.is_zero() || (MILLISECOND * 10..=DAY).contains(d);
    /// The most output of one connection that is kept, in bytes; whoever sends more waits.
    socket_buffer_size: plain u64 = 8 * MIB, "4K..=1G", |n| (4 * KIB..=GIB).contains(n);
    /// From so many bytes of waiting output on a connection counts as full; unset: four fifths of `socket_buffer_size`.
    buffer_high_watermark: some u64 = None, "1..=1G", |n| n.is_none_or(|n| (1..=GIB).contains(&n));
    /// Down to so many bytes of waiting output a full connection counts as empty again.
    buffer_low_watermark: plain u64 = 0, "0..=1G", |n| *n <= GIB;
    /// The kernel's buffer for what a connection receives, in bytes, no more than its net.core.rmem_max; 0: as the kernel thinks best.
    kernel_receive_buffer: plain u64 = 0, "0 or 4K..=256M", |n| *n == 0 || (4 * KIB..=256 * MIB).contains(n);
    /// The kernel's buffer for what a connection sends, in bytes, no more than its net.core.wmem_max; 0: as the kernel thinks best.
    kernel_send_buffer: plain u64 = 0, "0 or 4K..=256M", |n| *n == 0 || (4 * KIB..=256 * MIB).contains(n);
    /// Connections that may wait for a worker, no more than net.core.somaxconn; unset: 4096, or that where it is less.
    backlog: some u32 = None, "1..=65535", |n| n.is_none_or(|n| (1..=65_535).contains(&n));
    /// A listening socket for each worker (SO_REUSEPORT) instead of one for all. Which worker gets a connection is then up to the kernel's hash.
    reuse_port: plain bool = false, "true or false", |_| true;
    /// Permissions of the sockets in the file system.
    unix_mode: some u32 = None, "0..=0o777", |n| n.is_none_or(|n| n <= 0o777);
    /// Small packets go out at once.
    tcp_nodelay: plain bool = true, "true or false", |_| true;
    /// The kernel probes silent connections.
    tcp_keepalive: plain bool = false, "true or false", |_| true;
    /// Silence before the first probe; unset: the kernel's.
    tcp_keepalive_idle: some Duration = None, "1s..=32767s, in whole seconds", |d| d.is_none_or(|d| whole_seconds(d, 32_767));
    /// Between two probes; unset: the kernel's.
    tcp_keepalive_interval: some Duration = None, "1s..=32767s, in whole seconds", |d| d.is_none_or(|d| whole_seconds(d, 32_767));
    /// Probes without an answer before the connection is given up; unset: the kernel's.
    tcp_keepalive_count: some u32 = None, "1..=127", |n| n.is_none_or(|n| (1..=127).contains(&n));
    /// How long sent data may stay unacknowledged; zero: as the kernel thinks best.
    tcp_user_timeout: plain Duration = Duration::ZERO, "0 or 1ms..=1d", |d| d.is_zero() || (MILLISECOND..=DAY).contains(d);
    /// A connection is shown to a worker only when data has arrived, or this time is over; zero: at once.
    tcp_defer_accept: plain Duration = Duration::ZERO, "0s..=3600s, in whole seconds", |d| d.is_zero() || whole_seconds(*d, 3600);
    /// Connections that may wait with data in their first packet, no more than net.core.somaxconn; 0: none.
    tcp_fastopen: plain u32 = 0, "0..=65535", |n| *n <= 65_535;
    /// How long a process may take to leave when the server stops, before it is killed.
    stop_grace: plain Duration = Duration::from_secs(5), "1ms..=1h", |d| (MILLISECOND..=HOUR).contains(d);
    /// How long a process may take to leave when it is replaced, before it is killed. When nine tenths of it are over, or in a stop of `stop_grace`, it says in the log what it
    /// still waits for, and closes its connections.
    reload_grace: plain Duration = Duration::from_secs(30), "1ms..=1d", |d| (MILLISECOND..=DAY).contains(d);
    /// How long a process may take to become ready, before it is killed.
    boot_deadline: plain Duration = Duration::from_secs(30), "10ms..=1h", |d| (MILLISECOND * 10..=HOUR).contains(d);
    /// Workers run as this user.
    user: text String = None, "the name of a user", |name| name.as_ref().is_none_or(|name| is_name(name));
    /// Workers run with this group; unset: the user's.
    group: text String = None, "the name of a group", |name| name.as_ref().is_none_or(|name| is_name(name));
    /// Workers see only what is below this directory. Where that, or `user`, keeps them from opening the log again at WINCH, they say so and go on with the old file until they
    /// are renewed.
    chroot: text PathBuf = None, "an absolute path", |path| path.as_ref().is_none_or(|path| is_path(path) && path.is_absolute());
    /// Where the master's process id is written, and locked for the server's life.
    pid_file: text PathBuf = None, "a path", |path| path.as_ref().is_none_or(|path| is_path(path));
    /// Detaches from the terminal; the start returns when the server is ready.
    daemonize: plain bool = false, "true or false", |_| true;
    /// Where the log is written; unset: standard error.
    log_file: text PathBuf = None, "a path", |path| path.as_ref().is_none_or(|path| is_path(path));
    /// The least that is logged.
    log_level: plain Level = Level::Info, "\"debug\", \"info\", \"warning\", \"error\" or \"none\"", |_| true;
    /// Pins each worker to a processor.
    cpu_affinity: plain bool = false, "true or false", |_| true;
    /// Processors to which none is pinned.
    cpu_affinity_ignore: list u32 = Vec::new(), "processors 0..=1023, each once", |list| list.iter().all(|cpu| *cpu < 1024) && each_once(list);
    /// How the processes are called in the process list; unset: the program's name.
    title: text String = None, "1..=64 bytes without control characters", |title| title.as_ref().is_none_or(|title| is_title(title));
}

impl Config {
    /// Reads the text of a TOML file. Keys that it does not hold are as in [`Config::default`]; ranges are looked at by [`Config::validate`].
    ///
    /// # Errors
    ///
    /// [`Error::BadToml`]; [`Error::UnknownSetting`]; [`Error::BadSetting`] for a value of the wrong kind.
    pub fn from_toml(text: &str) -> Result<Self> {
        Self::default().with_toml(text)
    }

    /// These settings, and over them those of a TOML file's text.
    ///
    /// # Errors
    ///
    /// As [`Config::from_toml`].
    pub fn with_toml(mut self, text: &str) -> Result<Self> {
        let entries: BTreeMap<String, Given> = toml::from_str(text).map_err(|error| bad_toml(text, &error))?;
        for (key, given) in &entries {
            self.take(key, given)?;
        }
        Ok(self)
    }

    /// These settings, and over them those of a TOML file.
    ///
    /// # Errors
    ///
    /// [`Error::BadFile`] when it cannot be read; else as [`Config::from_toml`].
    pub fn with_file(self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| Error::BadFile {
            what: "config file",
            path: path.to_owned(),
            source,
        })?;
        self.with_toml(&text)
    }

    /// These settings, and over them those of variables like `COMMONS_WORKERS=4`, as `std::env::vars_os()` gives them. Lists have commas between their items.
    ///
    /// # Errors
    ///
    /// As [`Config::from_toml`].
    pub fn with_environment<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Result<Self>
    where
        N: AsRef<std::ffi::OsStr>,
        V: AsRef<std::ffi::OsStr>,
    {
        for (name, value) in variables {
            let Some(key) = name.as_ref().to_str().and_then(|name| name.strip_prefix("COMMONS_")) else { continue };
            if OF_THE_CHECKS.contains(&key) {
                continue;
            }
            let lower = key.to_ascii_lowercase();
            // What is not UTF-8 shows what it is by its replacement characters, which no setting allows either.
            self.take(&lower, &Given::Raw(value.as_ref().to_string_lossy().into_owned()))?;
        }
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut config = Self::default();
        for (key, given) in &BTreeMap::<String, Given>::deserialize(from)? {
            config.take(key, given).map_err(serde::de::Error::custom)?;
        }
        Ok(config)
    }
}

/// Variables that the project's own checks read, and hand down to the servers that they start.
const OF_THE_CHECKS: [&str; 12] = [
    "BARS",
    "CHAOS_SECS",
    "CHAOS_SEED",
    "FIRST_ROUND",
    "FUZZ_SECS",
    "LONG",
    "LOOM_BOUND",
    "LOOM_TRACE",
    "MUTANT",
    "PROPERTY_SECS",
    "SOAK_MESSAGES",
    "STEP_DEEP",
];

fn not_allowed(key: &str, value: String, allowed: &str) -> Error {
    Error::BadSetting { key: key.to_owned(), value, allowed: allowed.to_owned() }
}

fn unknown(key: &str) -> Error {
    let near = Config::KEYS.iter().min_by_key(|known| distance(known, key)).filter(|known| distance(known, key) <= 3);
    Error::UnknownSetting {
        key: key.to_owned(),
        near: near.map(|near| format!("; did you mean {near}?")).unwrap_or_default(),
    }
}

/// How many letters must be changed, put in or taken out to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (a, i) in a.chars().take(64).zip(1..) {
        let mut corner = std::mem::replace(&mut row[0], i);
        for (j, b) in b.iter().enumerate() {
            let cost = (corner + usize::from(a != *b)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row.last().copied().unwrap_or_default()
}

/// In one line.
fn bad_toml(text: &str, error: &toml::de::Error) -> Error {
    let line =
        error.span().and_then(|span| text.get(..span.start)).map_or(0, |before| before.matches('\n').count() + 1);
    Error::BadToml { line, why: error.message().replace('\n', ", ") }
}

/// What affinity and quota allow, as far as a server may have workers.
fn processors() -> u32 {
    let n = available_parallelism().map_or(1, NonZero::get);
    u32::try_from(n).unwrap_or(MAX_PROCESSES).min(MAX_PROCESSES)
}

fn whole_seconds(d: Duration, most: u64) -> bool {
    d.subsec_nanos() == 0 && (1..=most).contains(&d.as_secs())
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && !name.chars().any(|c| c.is_control() || c == ':' || c == '/')
}

fn is_path(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    !bytes.is_empty() && !bytes.contains(&0)
}

fn is_title(title: &str) -> bool {
    (1..=64).contains(&title.len()) && !title.chars().any(char::is_control)
}

fn each_once<T: PartialEq>(list: &[T]) -> bool {
    list.iter().enumerate().all(|(at, item)| !list[..at].contains(item))
}
