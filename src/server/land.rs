//! What all processes of a server stand on: made by the master before the first fork, and inherited.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;

use super::board::Board;
use super::calls::Calls;
use super::config::Config;
use super::log::Log;
use super::ports::Port;
use super::timers::TIMERS;
use super::worker::Worker;
use crate::process::Cpus;
use crate::process::bus::{Bus, BusSize};
use crate::process::crew::{Role, slots};
use crate::process::privileges::Resolved;
use crate::process::roll::Roll;
use crate::task::{TaskQueue, TaskSize};
use crate::{Result, Timer};

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
    /// Read again by SIGHUP.
    pub(super) file: Option<PathBuf>,
    pub(super) calls: Rc<dyn Calls>,
    pub(super) ports: RefCell<Vec<Port>>,
    pub(super) users: Vec<User>,
    pub(super) async_tasks: bool,
    pub(super) log: Log,
    pub(super) board: Board,
    /// A slot for each life: whose tasks are answered.
    pub(super) lines: Roll,
    /// An inbox for each place.
    pub(super) bus: Bus,
    pub(super) tasks: Option<TaskQueue>,
    heaps: Vec<Timer>,
    pub(super) privileges: Resolved,
    pub(super) cpus: Option<Cpus>,
}

/// What the land is made for.
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) file: Option<PathBuf>,
    pub(super) calls: Rc<dyn Calls>,
    pub(super) ports: Vec<Port>,
    pub(super) users: Vec<User>,
    pub(super) async_tasks: bool,
    pub(super) log: Log,
    pub(super) privileges: Resolved,
    pub(super) cpus: Option<Cpus>,
}

impl Land {
    pub(super) fn new(plan: Plan) -> Result<Land> {
        let Plan { config, file, calls, ports, users, async_tasks, log, privileges, cpus } = plan;
        let places = config.workers as usize + config.task_workers as usize + users.len();
        let lines = Roll::new(slots(places))?;
        let inboxes = Roll::new(places)?;
        let size = BusSize { inbox: config.message_queue_bytes as usize, ..BusSize::default() };
        let tasks = (config.task_workers > 0).then(|| TaskQueue::new(&lines, task_size(&config))).transpose()?;
        let heaps = (0..slots(places)).map(|_| Timer::new(TIMERS)).collect::<Result<Vec<_>>>()?;
        Ok(Land {
            board: Board::new(places)?,
            bus: Bus::new(&inboxes, size)?,
            config: RefCell::new(config),
            file,
            calls,
            ports: RefCell::new(ports),
            users,
            async_tasks,
            log,
            lines,
            tasks,
            heaps,
            privileges,
            cpus,
        })
    }

    pub(super) fn workers(&self) -> usize {
        self.config.borrow().workers as usize
    }

    pub(super) fn task_workers(&self) -> usize {
        self.config.borrow().task_workers as usize
    }

    pub(super) fn places(&self) -> usize {
        self.workers() + self.task_workers() + self.users.len()
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

/// Of the bytes that may wait: each task takes about 2 KiB.
fn task_size(config: &Config) -> TaskSize {
    let tasks = usize::try_from(config.task_queue_bytes / 2048).unwrap_or(usize::MAX).clamp(16, 65_536);
    TaskSize { tasks, attempts: config.task_attempts, ..TaskSize::default() }
}
