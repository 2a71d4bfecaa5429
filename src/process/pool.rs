//! A pool: workers that run one closure, each in its place, supervised, with messages between any two. The server's supervision without sockets.
//!
//! The manager is a [crew](super::crew) of one group. What it shares with its workers, mailboxes and numbers, is made before the first fork. A worker
//! reads SIGTERM from a descriptor and finds it when it next waits or asks, so a worker that does neither is killed when its time is over.
#![forbid(unsafe_code)]

mod context;
mod mail;
mod tally;

pub use context::Context;
pub use mail::Message;
pub use tally::{PoolStats, WorkerStats};

use super::affinity::Cpus;
use super::crew::{Crew, Demand, Duty, Member, ORPHAN, Post, Role, Told, Trade};
use super::exit::{Status, panic_text};
use super::privileges::{Privileges, Resolved};
use super::supervise::{Outcome, Policy, Which};
use super::title::Title;
use super::word::What;
use crate::sys::fork::{one_thread, seal_structures};
use crate::sys::signal::{SignalFd, SignalSet};
use crate::{Error, Result};
use mail::Mail;
use rustix::process::{Pid, Signal, getpid};
use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use tally::Tally;

/// The name under which errors speak of this call.
const CALL: &str = "Pool::run";
/// The most workers that a pool may have.
const MAX_WORKERS: usize = 256;
/// Bytes of a mailbox, unless said otherwise.
const MAILBOX: usize = 1 << 18;
/// The status of a worker that could not begin, or whose closure returned an error.
const FAILED: i32 = 1;
/// The status of one whose closure panicked.
const PANICKED: i32 = 101;

/// Workers that run one closure, each in a process of its own.
///
/// A worker that ends, however it ends, is replaced: at once when it was [ready](Context), else after a wait that doubles.
///
/// | signal to the manager | |
/// |---|---|
/// | TERM, INT | all are asked to leave, and `run` returns when the last one is gone; a second one kills them |
/// | QUIT | all are killed |
/// | USR1, USR2, HUP | all are renewed one by one: the new one is ready before the old one is asked to leave |
///
/// # Examples
/// ```
/// use commons::{AtomicLong, process::Pool};
///
/// let sum = AtomicLong::new(0)?; // shared: made before the fork
/// Pool::new(3).run(|cx| {
///     if cx.id() == 0 {
///         for n in 1..=100 {
///             cx.send(n % 2 + 1, &[n as u8])?;
///         }
///     }
///     while let Some(message) = cx.recv()? {
///         if sum.add(message.bytes[0].into()) == 5050 {
///             cx.shutdown()?;
///         }
///     }
///     Ok(())
/// })?;
/// assert_eq!(sum.get(), 5050);
/// # Ok::<(), commons::Error>(())
/// ```
#[must_use = "a pool does nothing before `run`"]
pub struct Pool<'a> {
    workers: usize,
    name: String,
    mailbox: usize,
    max_message: Option<usize>,
    policy: Policy,
    grace: Duration,
    boot: Duration,
    spread: Option<Cpus>,
    privileges: Privileges,
    log: Option<Log<'a>>,
}

/// Hears a line.
type Log<'a> = Box<dyn FnMut(&str) + 'a>;

impl<'a> Pool<'a> {
    /// A pool of so many workers, 1 ..= 256.
    pub fn new(workers: usize) -> Pool<'a> {
        let policy = Policy::default();
        Pool {
            workers,
            name: "pool".into(),
            mailbox: MAILBOX,
            max_message: None,
            policy,
            grace: Duration::from_millis(policy.grace),
            boot: Duration::from_millis(policy.boot),
            spread: None,
            privileges: Privileges::new(),
            log: None,
        }
    }

    /// The name that the process list shows, "pool" unless said otherwise: worker 3 of "mail" is "mail-3", which is at most 15 bytes.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Bytes of each worker's mailbox, 64 ..= 512 MiB; 256 KiB unless said otherwise.
    pub fn mailbox(mut self, bytes: usize) -> Self {
        self.mailbox = bytes;
        self
    }

    /// The longest message in bytes; nearly a quarter of the mailbox unless said otherwise.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = Some(bytes);
        self
    }

    /// How long a worker may take to leave when it was asked to, before it is killed; 1 ms to 1 h, 5 s unless said otherwise.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long a new worker may take to be ready when it is to follow one that works; 1 ms to 1 h, 60 s unless said otherwise.
    pub fn boot(mut self, boot: Duration) -> Self {
        self.boot = boot;
        self
    }

    /// Each worker runs on one processor of `cpus`: worker k on the k-th, and over again.
    pub fn spread(mut self, cpus: Cpus) -> Self {
        self.spread = Some(cpus);
        self
    }

    /// Who the workers are to become. The manager stays who it is: it could not signal them else.
    pub fn privileges(mut self, privileges: Privileges) -> Self {
        self.privileges = privileges;
        self
    }

    /// Hears what an operator should know, a line at a time: in this process, between two decisions, and must not wait for anything.
    pub fn log(mut self, log: impl FnMut(&str) + 'a) -> Self {
        self.log = Some(Box::new(log));
        self
    }

    /// Runs `worker` in each of the workers, replaces those that end, and returns when a signal has stopped the pool and no child is left.
    ///
    /// While it runs, SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2 and SIGWINCH of this process belong to it, and every child of this process that
    /// dies is reaped, whoever forked it.
    ///
    /// # Errors
    /// Before anything is started: [`Error::Threads`] when this process has more than one; [`Error::OutOfRange`] names what, the value and the range;
    /// [`Error::NameTooLong`]; [`Error::UnknownUser`], [`Error::UnknownGroup`], [`Error::BadFile`]. Afterwards: [`Error::NeverReady`] when the workers die again and
    /// again before any of them is ready; [`Error::System`].
    pub fn run<S: Status>(mut self, worker: impl FnMut(&Context) -> S) -> Result<()> {
        one_thread(CALL)?;
        in_range("the number of workers", self.workers, 1, MAX_WORKERS)?;
        in_range("a mailbox's size in bytes", self.mailbox, 64, 512 << 20)?;
        self.policy.grace = milliseconds("the grace in milliseconds", self.grace)?;
        self.policy.boot = milliseconds("the time to boot in milliseconds", self.boot)?;
        let max = self.max_message.unwrap_or(Mail::usual_max(self.mailbox));
        in_range("the longest message in bytes", max, 1, self.mailbox - 16)?;
        // The longest of them.
        self.title(self.workers - 1)?;
        let root = self.privileges.resolve()?;
        let shared = Shared {
            places: self.workers,
            manager: getpid(),
            mail: Rc::new(Mail::new(self.workers, self.mailbox, max)?),
            tally: Rc::new(Tally::new(self.workers)?),
        };
        let duty = Duty { role: Role::Worker, places: self.workers, policy: self.policy };
        let mut crew = Crew::new(CALL, vec![duty])?;
        // What stands in the buffer now would be written by all.
        let _ = std::io::stdout().flush();
        match crew.run(&mut Work { pool: self, shared, privileges: root, worker })? {
            Outcome::Stopped => Ok(()),
            Outcome::NeverReady { deaths } => Err(Error::NeverReady { deaths }),
        }
    }

    fn title(&self, id: usize) -> Result<Title> {
        let name = format!("{}-{id}", self.name);
        Title::new(&name, &format!("{}: worker {id} of {}", self.name, self.workers))
    }
}

fn in_range(what: &'static str, value: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::OutOfRange { what, value: value as u64, min: min as u64, max: max as u64 })
}

fn milliseconds(what: &'static str, time: Duration) -> Result<u64> {
    let (value, min, max) = (u64::try_from(time.as_millis()).unwrap_or(u64::MAX), 1, 3_600_000);
    if (min..=max).contains(&value) { Ok(value) } else { Err(Error::OutOfRange { what, value, min, max }) }
}

/// What manager and workers share.
#[derive(Clone)]
struct Shared {
    places: usize,
    manager: Pid,
    mail: Rc<Mail>,
    tally: Rc<Tally>,
}

/// A pool at work.
struct Work<'a, F> {
    pool: Pool<'a>,
    shared: Shared,
    privileges: Resolved,
    worker: F,
}

impl<S: Status, F: FnMut(&Context) -> S> Work<'_, F> {
    /// What a worker makes of itself before its closure runs: where it will find that it was asked to leave. None when the manager is gone.
    fn prepare(&self, post: &Post) -> Result<Option<SignalFd>> {
        seal_structures();
        let asked = SignalFd::new(&SignalSet::of(&[Signal::TERM]))?;
        post.mask.make_mask()?;
        // These two look into /proc, which the new root directory may not have.
        if let Some(cpus) = &self.pool.spread {
            cpus.nth(post.member.index).confine()?;
        }
        self.pool.title(post.member.index)?.show()?;
        self.privileges.assume()?;
        // Once more: a change of credentials has taken the first request back.
        Ok(post.die_with_parent()?.then_some(asked))
    }
}

impl<S: Status, F: FnMut(&Context) -> S> Trade for Work<'_, F> {
    fn work(&mut self, post: Post) -> i32 {
        let context = match self.prepare(&post) {
            Ok(Some(asked)) => Context::new(post, asked, self.shared.clone()),
            Ok(None) => return ORPHAN,
            Err(error) => {
                post.mouth.say(&What::Trouble(format!("cannot start: {error}")));
                return FAILED;
            }
        };
        let status = match catch_unwind(AssertUnwindSafe(|| (self.worker)(&context).status())) {
            Ok(Ok(status)) => {
                if status == 0 {
                    context.ready();
                }
                status
            }
            Ok(Err(error)) => {
                context.trouble(error.to_string());
                FAILED
            }
            Err(payload) => {
                context.trouble(panic_text(payload));
                PANICKED
            }
        };
        // What the closure has printed; `_exit` would leave it behind.
        let _ = catch_unwind(|| std::io::stdout().flush());
        status
    }

    fn told(&mut self, told: Told<'_>) {
        self.shared.tally.note(&told);
        let worth_telling = matches!(
            told,
            Told::NotStarted { .. }
                | Told::StartsLater { .. }
                | Told::Trouble { .. }
                | Told::Killing { .. }
                | Told::Died { .. }
                | Told::Reloading
                | Told::Kept { .. }
                | Told::Reloaded { .. }
                | Told::Closing
                | Told::Failed { .. }
        );
        if let Some(log) = self.pool.log.as_mut().filter(|_| worth_telling) {
            log(&told.to_string());
        }
    }

    fn holds(&self, member: &Member) -> String {
        format!("{} messages wait for it", self.shared.mail.waiting(member.index))
    }

    fn signal(&mut self, signal: Signal) -> Option<Vec<Demand>> {
        (signal == Signal::USR2).then(|| vec![Demand::Reload(Which::All)])
    }
}

impl fmt::Debug for Pool<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.name).field("workers", &self.workers).finish_non_exhaustive()
    }
}
