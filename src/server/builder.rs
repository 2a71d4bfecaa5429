//! Building a server, and running it: what is looked at before anything is made, and what is made before the first fork.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use rustix::io::Errno;
use tower_service::Service;

use super::answer::BoxError;
use super::calls::Calls;
use super::config::Config;
use super::config::check::open_files;
use super::daemon::{Report, daemonize};
use super::handler::{Bytes, Handler};
use super::http::erased;
use super::land::{Land, Plan, Source, User};
use super::listen::activation::{Passed, passed};
use super::listen::address::Address;
use super::listen::open::{Listener, Opening, open, open_each};
use super::log::Log;
use super::manager::CALL;
use super::master;
use super::notify::Notifier;
use super::pidfile::PidFile;
use super::ports::{Port, Serve};
use super::worker::Worker;
use crate::process::crew::slots;
use crate::process::{Cpus, Privileges};
use crate::sys::fork::thread_count;
use crate::{Error, Result};

/// A server of several processes; see [`Server::builder`].
#[derive(Debug)]
pub enum Server {}

/// Where something is served, and by whom; None: by the handler that the server is run with.
type Wanted = (Address, Option<Serve>);

/// What a server is to be. Nothing is opened or forked before [`run`](Builder::run).
pub struct Builder {
    source: Source,
    ports: Vec<Wanted>,
    users: Vec<User>,
    async_tasks: bool,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.source.base).field("ports", &self.ports.len()).finish()
    }
}

impl Server {
    /// A server with the default settings, which listens nowhere yet.
    ///
    /// # Examples
    /// ```no_run
    /// use commons::{AtomicLong, server::{Bytes, Conn, Handler, Server, Worker}};
    ///
    /// struct Echo { hits: AtomicLong } // shared: made before the fork
    ///
    /// impl Handler for Echo {
    ///     async fn receive(&self, _: &Worker, conn: &Conn, data: Bytes) -> commons::Result<()> {
    ///         self.hits.add(1);
    ///         conn.send(data).await
    ///     }
    /// }
    ///
    /// Server::builder()
    ///     .listen("tcp://127.0.0.1:9501")?
    ///     .workers(2)
    ///     .run(Echo { hits: AtomicLong::new(0)? })?; // returns when the server has shut down
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn builder() -> Builder {
        let source = Source { base: Config::default(), file: None, environment: false };
        Builder { source, ports: Vec::new(), users: Vec::new(), async_tasks: false }
    }
}

impl Builder {
    /// Starts from these settings; what was set before is dropped.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.source.base = config;
        self
    }

    /// Reads settings from this TOML file too, which count over those of the program; again at SIGHUP.
    #[must_use]
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.source.file = Some(path.into());
        self
    }

    /// Reads settings from variables like `COMMONS_WORKERS` too, which count over all others.
    #[must_use]
    pub fn environment(mut self) -> Self {
        self.source.environment = true;
        self
    }

    /// Changes settings, by the methods of [`Config`].
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(Config) -> Config) -> Self {
        self.source.base = change(self.source.base);
        self
    }

    /// Worker processes, 1 ..= 1024.
    #[must_use]
    pub fn workers(self, n: u32) -> Self {
        self.with(|config| config.workers(n))
    }

    /// Task workers, 0 ..= 1024.
    #[must_use]
    pub fn task_workers(self, n: u32) -> Self {
        self.with(|config| config.task_workers(n))
    }

    /// Tasks are run by [`Handler::task_async`].
    #[must_use]
    pub fn async_tasks(mut self) -> Self {
        self.async_tasks = true;
        self
    }

    /// Listens there, for the handler that the server is run with: `tcp://host:port`, `udp://host:port`, `unix:///path`, `unix-dgram:///path`, or
    /// `systemd://name`.
    ///
    /// # Errors
    /// [`Error::BadAddress`].
    pub fn listen(mut self, address: &str) -> Result<Self> {
        self.ports.push((Address::parse(address)?, None));
        Ok(self)
    }

    /// Listens there, for a handler of its own.
    ///
    /// # Errors
    /// [`Error::BadAddress`].
    pub fn listen_with(mut self, address: &str, handler: impl Handler) -> Result<Self> {
        self.ports.push((Address::parse(address)?, Some(Serve::Calls(Rc::new(handler)))));
        Ok(self)
    }

    /// Serves HTTP there (of an address without a scheme: TCP), by the service that `make` returns; it is called once in each worker. HTTP/1.1, and HTTP/2 with
    /// prior knowledge. A client has 10 s for the head of a request (or `heartbeat_idle_time`, where that is less), and of HTTP/1.1 may be silent for as long in the middle of
    /// its body; one that takes nothing of a response for 10 s is given up. A head of HTTP/1.1 has at most 64 KiB. Who serves HTTP/2 to
    /// strangers limits by a layer of his own how long a request may take. Each request has the client's [`Peer`](super::Peer) among its extensions.
    ///
    /// # Errors
    /// [`Error::BadAddress`].
    pub fn http<M, S, B>(mut self, address: &str, make: M) -> Result<Self>
    where
        M: Fn(&Worker) -> S + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>> + Clone + 'static,
        B: Body<Data = Bytes, Error: Into<BoxError>> + 'static,
    {
        let address = if address.contains("://") { address.to_owned() } else { format!("tcp://{address}") };
        self.ports.push((Address::parse(&address)?, Some(Serve::Http(erased(make)))));
        Ok(self)
    }

    /// Adds a process of your own, which is supervised like a worker. It is to end when [`Worker::exiting`] resolves; when it ends before, it is started again.
    #[must_use]
    pub fn process<F>(mut self, name: &str, body: impl Fn(Worker) -> F + 'static) -> Self
    where
        F: Future<Output = Result<()>> + 'static,
    {
        self.users.push(User { name: name.to_owned(), body: Rc::new(move |worker| Box::pin(body(worker))) });
        self
    }

    /// Runs the server until a signal ends it: TERM and INT in good order, a second one of them and QUIT at once. USR1 renews workers and task workers, USR2 task workers only, HUP
    /// reads the settings again and renews all, WINCH opens the log again. USR1 to one of the workers or task workers renews that one.
    ///
    /// # Errors
    /// Before anything is started: [`Error::BadSetting`], [`Error::UnknownSetting`], [`Error::BadToml`] and [`Error::BadAddress`] for the settings, [`Error::BadFile`] for the
    /// files that they name; [`Error::Threads`] in a process that has more than one; [`Error::NoPorts`]; [`Error::OutOfRange`] for more than 1365 processes in all;
    /// [`Error::UnknownUser`], [`Error::UnknownGroup`]; [`Error::AlreadyRunning`]; [`Error::Activation`]; [`Error::Listen`]; [`Error::NoStream`] for HTTP where datagrams
    /// arrive; [`Error::Daemon`]; [`Error::AfterFork`] in a process of a server or pool; [`Error::System`]. Afterwards: [`Error::NeverReady`] when no worker ever
    /// became ready.
    pub fn run(self, handler: impl Handler) -> Result<()> {
        let config = self.source.read()?;
        let threads = thread_count()?;
        if threads > 1 {
            return Err(Error::Threads { call: CALL, threads });
        }
        let log = Log::new(config.log_file.as_deref(), config.log_level)?;
        if !config.daemonize {
            return self.serve(config, log, handler, None);
        }
        let copy = log.duplicate();
        // As long as a worker may take, and what opening and forking takes.
        let patience = config.boot_deadline + Duration::from_secs(5);
        let mut parts = Some((self, config, log, handler));
        daemonize(CALL, copy.as_ref().map(AsFd::as_fd), patience, |report| match parts.take() {
            Some((builder, config, log, handler)) => builder.serve(config, log, handler, Some(report)),
            None => Ok(()),
        })
    }

    fn serve(self, config: Config, log: Log, handler: impl Handler, report: Option<&mut Report>) -> Result<()> {
        let Builder { source, mut ports, users, async_tasks } = self;
        // Before anything else is opened, which might get a number that was announced and not passed.
        let mut inherited = passed()?;
        let notifier = Notifier::of_environment()?;
        ports.extend(config.addresses()?.into_iter().map(|address| (address, None)));
        config.can_share(ports.iter().map(|(address, _)| address))?;
        if ports.is_empty() && users.is_empty() && config.task_workers == 0 {
            return Err(Error::NoPorts);
        }
        let places = config.workers as usize + config.task_workers as usize + users.len();
        let max = super::conn::ConnId::PLACES.min(crate::process::roll::SLOTS_MAX / slots(1));
        if places > max {
            return Err(Error::OutOfRange {
                what: "the number of processes",
                value: places as u64,
                min: 1,
                max: max as u64,
            });
        }
        let privileges = privileges(&config).resolve()?;
        let cpus = config.cpu_affinity.then(|| cpus(&config)).transpose()?;
        let crew = master::crew(&config)?;
        let pid_file = config.pid_file.as_deref().map(PidFile::new).transpose()?;
        let calls: Rc<dyn Calls> = Rc::new(handler);
        let how = Opening::of(&config)?;
        let mut opened = Vec::new();
        for (address, serve) in ports {
            let serve = serve.unwrap_or_else(|| Serve::Calls(calls.clone()));
            for listeners in listeners(&address, &how, &config, &mut inherited)? {
                opened.push(Port::new(listeners, serve.clone())?);
            }
        }
        let ports = opened;
        inherited.all_taken()?;
        let plan = Plan { config, source, calls, ports, pid_file, users, async_tasks, log, privileges, cpus };
        let land = Land::new(plan).map_err(|error| crowded(error, places))?;
        master::run(crew, land, notifier, report)
    }
}

/// What the places share takes descriptors, some 20 for each, and every process has all of them. When there are too few, that is what is said.
fn crowded(error: Error, places: usize) -> Error {
    match error {
        Error::System { source, .. } if source.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
            Error::BadSetting {
                key: "workers".into(),
                value: format!("too many, {places} processes in all"),
                allowed: format!(
                    "some 20 descriptors for each; the limit of open files (ulimit -n) is {}",
                    open_files()
                ),
            }
        }
        other => other,
    }
}

/// The sockets of each port there: of one as a rule, but the service manager may pass several sockets under one name.
fn listeners(address: &Address, how: &Opening, config: &Config, inherited: &mut Passed) -> Result<Vec<Vec<Listener>>> {
    let passed = inherited.take(address);
    if !passed.is_empty() {
        return Ok(passed.into_iter().map(|one| vec![one]).collect());
    }
    let workers = config.workers as usize;
    if config.reuse_port && workers > 1 && address.can_share_port() {
        return open_each(address, how, workers).map(|each| vec![each]);
    }
    open(address, how).map(|one| vec![vec![one]])
}

fn privileges(config: &Config) -> Privileges {
    let mut wanted = Privileges::new();
    if let Some(user) = &config.user {
        wanted = wanted.user(user);
    }
    if let Some(group) = &config.group {
        wanted = wanted.group(group);
    }
    if let Some(root) = &config.chroot {
        wanted = wanted.chroot(root);
    }
    wanted
}

fn cpus(config: &Config) -> Result<Cpus> {
    let all = Cpus::allowed()?;
    let ignored = |cpu: &usize| config.cpu_affinity_ignore.iter().any(|other| *other as usize == *cpu);
    let left: Vec<_> = all.list().iter().copied().filter(|cpu| !ignored(cpu)).collect();
    if left.is_empty() {
        return Err(Error::BadSetting {
            key: "cpu_affinity_ignore".into(),
            value: format!("{:?}", config.cpu_affinity_ignore),
            allowed: format!("lists that leave one of those that this process may use, which are {all}"),
        });
    }
    Cpus::of(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_starts_no_server() {
        let error = Server::builder().listen("tcp://127.0.0.1:0").unwrap().run(()).unwrap_err();
        assert!(matches!(error, Error::Threads { call: "Server::run", threads: 2.. }), "{error}");
    }

    #[test]
    fn what_is_no_address_is_refused_at_once() {
        assert!(matches!(Server::builder().listen("127.0.0.1:80"), Err(Error::BadAddress { .. })));
        assert!(matches!(Server::builder().listen_with("tcp://127.0.0.1", ()), Err(Error::BadAddress { .. })));
    }
}
