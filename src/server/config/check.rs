//! Whether the settings fit together, and what follows from several of them.
#![forbid(unsafe_code)]

use super::{Config, each_once, not_allowed};
use crate::server::listen::address::Address;
use crate::{Error, Result};
use std::path::PathBuf;

/// Descriptors of a worker that are no connections: listeners, pipes, epoll, log, regions, what handlers open.
const RESERVED: u64 = 64;
/// Connections when nothing is set, at most.
const CONNECTIONS: u64 = 100_000;

impl Config {
    /// Checks every value, and whether they fit together. Looks at nothing but the settings and this process's limit of open files.
    ///
    /// # Errors
    ///
    /// [`Error::BadSetting`] names the key, its value and what is allowed; [`Error::BadAddress`] is one of `listen`.
    pub fn validate(&self) -> Result<()> {
        self.each_in_range()?;
        let addresses = self.addresses()?;
        if !each_once(&addresses) {
            return Err(clash("listen", &format!("{:?}", self.listen), "each address once"));
        }
        self.fits(0)?;
        self.requests("max_request_grace", self.max_request_grace, self.max_request)?;
        self.requests("task_max_request_grace", self.task_max_request_grace, self.task_max_request)?;
        if self.task_max_request > 0 && self.task_workers == 0 {
            return Err(clash("task_max_request", &self.task_max_request, "0 while task_workers is 0"));
        }
        self.watermarks()?;
        self.keepalive()?;
        self.affinity()?;
        self.paths()
    }

    /// Whether there is a port at which each worker can have a socket of its own, of all there are: the program has perhaps named more than stand in `listen`.
    ///
    /// # Errors
    /// [`Error::BadSetting`].
    pub(crate) fn can_share<'a>(&self, mut addresses: impl Iterator<Item = &'a Address>) -> Result<()> {
        if self.reuse_port && !addresses.any(Address::can_share_port) {
            return Err(clash("reuse_port", &true, "only with a tcp or udp address to listen on"));
        }
        Ok(())
    }

    /// `listen`, parsed.
    pub(crate) fn addresses(&self) -> Result<Vec<Address>> {
        self.listen.iter().map(|text| Address::parse(text)).collect()
    }

    /// Waiting output from which on a connection counts as full.
    pub(crate) fn high_watermark(&self) -> u64 {
        self.buffer_high_watermark.unwrap_or(self.socket_buffer_size / 5 * 4)
    }

    /// Connections that one worker may hold by its limit of open files.
    pub(crate) fn connections_of_a_worker(files: u64) -> u64 {
        files.saturating_sub(RESERVED)
    }

    /// Connections that the whole server may hold.
    pub(crate) fn connections(&self, files: u64) -> u64 {
        let possible = Self::connections_of_a_worker(files).saturating_mul(self.workers.into());
        self.max_connections.map_or(possible.min(CONNECTIONS), u64::from)
    }

    /// After how many requests a worker is replaced: `lot` is any number, by chance. `None`: never.
    pub(crate) fn max_request_by_lot(&self, lot: u64) -> Option<u64> {
        by_lot(self.max_request, self.max_request_grace, lot)
    }

    /// The same of a task worker.
    pub(crate) fn task_max_request_by_lot(&self, lot: u64) -> Option<u64> {
        by_lot(self.task_max_request, self.task_max_request_grace, lot)
    }

    /// Whether the limit of open files allows for as many connections as are promised, where each process has `taken` descriptors before it has any.
    ///
    /// # Errors
    /// [`Error::BadSetting`].
    pub(crate) fn fits(&self, taken: u64) -> Result<()> {
        let (files, not_free) = (open_files(), RESERVED + taken);
        let each = Self::connections_of_a_worker(files.saturating_sub(taken));
        let possible = each.saturating_mul(self.workers.into());
        if each == 0 {
            let allowed = format!("more than {not_free} for a server");
            return Err(Error::BadSetting {
                key: "the limit of open files (ulimit -n)".into(),
                value: files.to_string(),
                allowed,
            });
        }
        let workers = self.workers;
        match self.max_connections {
            // One that accepts holds one at least.
            Some(asked) if asked < workers || u64::from(asked) > possible => Err(clash(
                "max_connections",
                &asked,
                &format!(
                    "{workers}..={possible} with {workers} workers and a limit of {files} open files (ulimit -n) for each, \
                     of which {not_free} are for other things"
                ),
            )),
            _ => Ok(()),
        }
    }

    fn requests(&self, key: &'static str, grace: Option<u32>, of: u32) -> Result<()> {
        match grace {
            Some(asked) if asked > 0 && of == 0 => Err(clash(key, &asked, "0 while there is no limit of requests")),
            _ => Ok(()),
        }
    }

    fn watermarks(&self) -> Result<()> {
        let (size, high, low) = (self.socket_buffer_size, self.high_watermark(), self.buffer_low_watermark);
        if high > size {
            return Err(clash("buffer_high_watermark", &high, &format!("1..={size}, which is socket_buffer_size")));
        }
        if low >= high {
            return Err(clash(
                "buffer_low_watermark",
                &low,
                &format!("less than buffer_high_watermark, which is {high}"),
            ));
        }
        Ok(())
    }

    fn keepalive(&self) -> Result<()> {
        let details = [
            ("tcp_keepalive_idle", self.tcp_keepalive_idle.map(|d| format!("{d:?}"))),
            ("tcp_keepalive_interval", self.tcp_keepalive_interval.map(|d| format!("{d:?}"))),
            ("tcp_keepalive_count", self.tcp_keepalive_count.map(|n| n.to_string())),
        ];
        for (key, value) in details {
            if let (Some(value), false) = (value, self.tcp_keepalive) {
                return Err(clash(key, &value, "set only while tcp_keepalive is true"));
            }
        }
        Ok(())
    }

    fn affinity(&self) -> Result<()> {
        if !self.cpu_affinity && !self.cpu_affinity_ignore.is_empty() {
            return Err(clash(
                "cpu_affinity_ignore",
                &format!("{:?}", self.cpu_affinity_ignore),
                "empty while cpu_affinity is false",
            ));
        }
        Ok(())
    }

    fn paths(&self) -> Result<()> {
        if let (Some(pid), Some(log)) = (&self.pid_file, &self.log_file)
            && pid == log
        {
            return Err(clash("log_file", &format!("{log:?}"), "another file than pid_file"));
        }
        // A daemon works in the root directory, so as to keep no file system from being unmounted.
        let absolute = |key, path: &Option<PathBuf>| match path {
            Some(path) if self.daemonize && !path.is_absolute() => {
                Err(clash(key, &format!("{path:?}"), "an absolute path while daemonize is true"))
            }
            _ => Ok(()),
        };
        absolute("pid_file", &self.pid_file)?;
        absolute("log_file", &self.log_file)
    }
}

fn clash(key: &str, value: &dyn std::fmt::Display, allowed: &str) -> Error {
    not_allowed(key, value.to_string(), allowed)
}

fn by_lot(limit: u32, grace: Option<u32>, lot: u64) -> Option<u64> {
    let grace = u64::from(grace.unwrap_or(if limit > 10 { limit / 2 } else { 0 }));
    // 1..=grace, or exactly the limit when there is none.
    let later = if grace == 0 { 0 } else { 1 + lot % grace };
    (limit > 0).then(|| u64::from(limit) + later)
}

/// The soft limit of open files of this process; what has none counts as what the kernel could count.
pub(crate) fn open_files() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}
