//! What all processes of a server stand on: made by the master before the first fork, and inherited.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::board::{Board, Stats};
use super::calls::{Calls, guarded_now};
use super::config::Config;
use super::handle::stats;
use super::listen::open::{Listener, Opening};
use super::log::{Level, Log};
use super::pidfile::PidFile;
use super::ports::Port;
use super::timers::TIMERS;
use super::worker::Worker;
use crate::process::Cpus;
use crate::process::bus::{Bus, BusSize};
use crate::process::crew::{Role, slots};
use crate::process::privileges::Resolved;
use crate::process::roll::Roll;
use crate::process::title::Title;
use crate::task::{TaskQueue, TaskSize};
use crate::{Region, Result, Timer};

/// From so long on a plain function of the handler's is told to take long.
const LONG: Duration = Duration::from_millis(250);

/// Where the settings come from: what the program set, and over it a file and the environment, where it said so.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) base: Config,
    pub(super) file: Option<PathBuf>,
    pub(super) environment: bool,
}

impl Source {
    /// Reads them, and looks at them as a whole.
    pub(super) fn read(&self) -> Result<Config> {
        let mut config = self.base.clone();
        if let Some(file) = &self.file {
            config = config.with_file(file)?;
        }
        if self.environment {
            config = config.with_environment(std::env::vars_os())?;
        }
        config.validate()?;
        Ok(config)
    }
}

/// What a process that the user added does: it ends when it is asked to leave, or is started again.
pub(super) type Body = Rc<dyn Fn(Worker) -> Pin<Box<dyn Future<Output = Result<()>>>>>;

/// A process that the user added.
#[derive(Clone)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) body: Body,
}

pub(super) struct Land {
    /// As the manager has read it last; a process goes by what was there when it was forked.
    pub(super) config: RefCell<Config>,
    /// From where SIGHUP reads it again.
    pub(super) source: Source,
    pub(super) calls: Rc<dyn Calls>,
    pub(super) ports: RefCell<Vec<Port>>,
    pub(super) pid_file: RefCell<Option<PidFile>>,
    pub(super) users: Vec<User>,
    pub(super) async_tasks: bool,
    pub(super) log: Log,
    pub(super) board: Board,
    /// A slot for each life: whose tasks are answered.
    pub(super) lines: Roll,
    /// An inbox for each place.
    pub(super) places_bus: Bus,
    /// An inbox for each line of a worker, for what is sent to the connections of that life: six descriptors a worker.
    pub(super) lines_bus: Bus,
    pub(super) tasks: Option<TaskQueue>,
    heaps: Vec<Timer>,
    pub(super) privileges: Resolved,
    pub(super) cpus: Option<Cpus>,
    /// Descriptors that every process inherits.
    pub(super) descriptors: u64,
}

/// What the land is made for.
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) source: Source,
    pub(super) calls: Rc<dyn Calls>,
    pub(super) ports: Vec<Port>,
    pub(super) pid_file: Option<PidFile>,
    pub(super) users: Vec<User>,
    pub(super) async_tasks: bool,
    pub(super) log: Log,
    pub(super) privileges: Resolved,
    pub(super) cpus: Option<Cpus>,
}

impl Land {
    pub(super) fn new(plan: Plan) -> Result<Land> {
        let Plan { config, source, calls, ports, pid_file, users, async_tasks, log, privileges, cpus } = plan;
        let places = config.workers as usize + config.task_workers as usize + users.len();
        let lines = Roll::new(slots(places))?;
        let inboxes = Roll::new(places)?;
        let size = BusSize { inbox: config.message_queue_bytes as usize, ..BusSize::default() };
        let tasks = (config.task_workers > 0).then(|| TaskQueue::new(&lines, task_size(&config))).transpose()?;
        // In one region, so that all of them cost every process one descriptor.
        let region = Region::new("heaps", slots(places) * Timer::memory_for(TIMERS))?;
        let heaps = (0..slots(places)).map(|_| Timer::new_in(&region, TIMERS)).collect::<Result<Vec<_>>>()?;
        let land = Land {
            board: Board::new(places)?,
            places_bus: Bus::new(&inboxes, size)?,
            lines_bus: Bus::for_first(slots(config.workers as usize), &lines, size)?,
            config: RefCell::new(config),
            source,
            calls,
            ports: RefCell::new(ports),
            pid_file: RefCell::new(pid_file),
            users,
            async_tasks,
            log,
            lines,
            tasks,
            heaps,
            privileges,
            cpus,
            // The last thing that is made.
            descriptors: std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count() as u64),
        };
        // Only now it is known how many descriptors are left for connections.
        land.config.borrow().fits(land.descriptors)?;
        Ok(land)
    }

    pub(super) fn workers(&self) -> usize {
        self.config.borrow().workers as usize
    }

    pub(super) fn task_workers(&self) -> usize {
        self.config.borrow().task_workers as usize
    }

    /// Calls one of the handler's plain functions; what goes wrong in it is told, and that is all. So is one that takes long, for nobody is replaced meanwhile.
    pub(super) fn hook(&self, what: &str, call: impl FnOnce(&dyn Calls)) {
        let began = Instant::now();
        let called = guarded_now(|| {
            call(&*self.calls);
            Ok(())
        });
        if let Err(why) = called {
            self.log.line(Level::Error, format_args!("{what}: {why}"));
        }
        let took = began.elapsed();
        if took >= LONG {
            let took = took.as_secs_f64();
            self.log
                .line(Level::Warning, format_args!("{what} took {took:.1} s, in which this process did nothing else"));
        }
    }

    /// What the process list shows of a process, where a title is set.
    pub(super) fn show_title(&self, name: &str) -> Result<()> {
        let Some(title) = self.config.borrow().title.clone() else { return Ok(()) };
        let line = format!("{title}: {name}");
        // The kernel's limit for the short one, of bytes.
        let short = &line[..line.floor_char_boundary(15)];
        Title::new(short, &line)?.show().map(drop)
    }

    /// Removes from the disk what this process is the one to remove.
    pub(super) fn clean_up(&self) {
        for port in self.ports.take() {
            port.listeners.iter().for_each(Listener::close);
        }
        self.pid_file.take();
    }

    /// Where it listens.
    pub(super) fn addresses(&self) -> String {
        let ports = self.ports.borrow();
        let all: Vec<_> = ports.iter().filter_map(|port| Some(port.listeners.first()?.address.to_string())).collect();
        all.join(", ")
    }

    /// The calling process is the one from here on that removes what is on the disk: its master has died.
    pub(super) fn inherit(&self) {
        for listener in self.ports.borrow_mut().iter_mut().flat_map(|port| &mut port.listeners) {
            listener.adopt();
        }
        if let Some(file) = self.pid_file.borrow_mut().as_mut()
            && let Err(error) = file.adopt()
        {
            self.log.line(Level::Warning, error);
        }
    }

    /// Reads the settings again; which keys have changed that only a restart would heed. Those that it heeds are heeded by processes forked from here on.
    ///
    /// # Errors
    /// As when they were read first; then all is left as it was.
    pub(super) fn reconfigure(&self) -> Result<Vec<String>> {
        let new = self.source.read()?;
        let mut next = self.config.borrow().clone();
        next.take_over(&new);
        // Each by itself is right, and what is heeded of the new ones has to fit to what is left of the old ones too.
        next.validate()?;
        next.fits(self.descriptors)?;
        Opening::of(&next)?;
        let differing = next.differing(&new);
        *self.config.borrow_mut() = next;
        Ok(differing)
    }

    /// The figures of the whole server.
    pub(super) fn stats(&self) -> Stats {
        stats(&self.board, self.tasks.as_ref())
    }

    /// Throws away what was sent to the connections of lives that are gone.
    pub(super) fn purge(&self, lines: impl IntoIterator<Item = usize>) {
        let lines = lines.into_iter().filter_map(|slot| u32::try_from(slot).ok());
        for slot in lines.filter(|slot| self.lines_bus.covers(*slot)) {
            if let Err(error) = self.lines_bus.purge(slot) {
                let what = "cannot throw away what was sent to the connections of the dead";
                self.log.line(Level::Warning, format_args!("{what}: {error}"));
            }
        }
    }

    /// The timers of a line.
    pub(super) fn heap(&self, slot: usize) -> Option<Timer> {
        self.heaps.get(slot).cloned()
    }

    /// How a process is called in the log and in the process list.
    pub(super) fn name(&self, role: Role, index: usize) -> String {
        match role {
            Role::Worker => format!("worker {index}"),
            Role::Task => format!("task worker {index}"),
            Role::User => self.users.get(index).map_or_else(|| format!("process {index}"), |user| user.name.clone()),
        }
    }
}

/// Of the bytes that may wait: each task takes about 2 KiB. The range of the setting is that of the queue.
fn task_size(config: &Config) -> TaskSize {
    let tasks = usize::try_from(config.task_queue_bytes / 2048).unwrap_or(usize::MAX);
    TaskSize { tasks, attempts: config.task_attempts, ..TaskSize::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_allowed_of_tasks_is_given() {
        let roll = Roll::new(3).unwrap();
        for (bytes, attempts, tasks) in [(64 << 10, 1, 32), (8 << 20, 2, 4096), (128 << 20, 31, 65_536)] {
            let config = Config::default().task_queue_bytes(bytes).task_attempts(attempts);
            config.validate().unwrap();
            let size = task_size(&config);
            assert_eq!((size.tasks, size.attempts), (tasks, attempts));
            TaskQueue::new(&roll, size).unwrap();
        }
    }
}
