//! The manager: forks all others, and replaces them. It decides nothing itself (`process::supervise` does), and has one thread for ever.
//!
//! Its parent is the master. When that one is gone the manager stops in good order, and takes over what the master would have removed from the disk; when the
//! manager itself is gone the kernel kills those it has forked, and the master starts another one.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::config::Config;
use super::handler::WorkerError;
use super::land::Land;
use super::life;
use super::log::Level;
use crate::Result;
use crate::process::crew::{Crew, Demand, Duty, Member, Post, Role, Told, Trade, slots};
use crate::process::supervise::{Millis, Outcome, Policy};
use crate::process::word::{Mouth, What};
use crate::sys::child::End;

/// It left as it was asked to.
const LEFT: i32 = 0;
/// It could not go on.
const FAILED: i32 = 1;
/// No worker ever became ready; the board says after how many deaths.
pub(super) const GAVE_UP: i32 = 2;

/// The name under which errors speak of this call.
pub(super) const CALL: &str = "Server::run";

/// How long those may take to die whom the kernel kills.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

struct Manager {
    land: Rc<Land>,
    mouth: Mouth,
    /// The master's end is closed: it is gone.
    lifeline: OwnedFd,
    orphaned: bool,
    /// Places that have not been ready yet, since this manager began.
    missing: Vec<usize>,
    told_ready: bool,
}

/// Runs the manager; returns its exit status.
pub(super) fn manage(land: Rc<Land>, post: Post) -> i32 {
    land.log.become_role("manager");
    let Post { mouth, lifeline, mask, .. } = post;
    let run = || -> Result<Outcome> {
        mask.make_mask()?;
        land.show_title("manager")?;
        let mut crew = Crew::new(CALL, duties(&land))?;
        if !land.board.take_over(PATIENCE) {
            land.log.line(Level::Error, "a process of the manager before this one is still there");
        }
        land.board.closes(false);
        land.purge(0..slots(land.workers()));
        let missing = (0..land.workers() + land.task_workers()).collect();
        let mut manager = Manager { land: land.clone(), mouth, lifeline, orphaned: false, missing, told_ready: false };
        land.hook("manager_start", |calls| calls.manager_start());
        let outcome = crew.run(&mut manager);
        land.hook("manager_stop", |calls| calls.manager_stop());
        // Its master would have done it, and this process leaves without dropping anything. While signals still wait: one more would end it before.
        land.clean_up();
        outcome
    };
    let outcome = run();
    land.clean_up();
    match outcome {
        Ok(Outcome::Stopped) => LEFT,
        Ok(Outcome::NeverReady { deaths }) => {
            land.board.give_up(deaths);
            GAVE_UP
        }
        Err(error) => {
            land.log.line(Level::Error, format_args!("cannot go on: {error}"));
            FAILED
        }
    }
}

fn duties(land: &Land) -> Vec<Duty> {
    let policy = policy(&land.config.borrow());
    let duty = |role, places| Duty { role, places, policy };
    vec![duty(Role::Worker, land.workers()), duty(Role::Task, land.task_workers()), duty(Role::User, land.users.len())]
}

fn millis(time: Duration) -> Millis {
    Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX)
}

fn policy(config: &Config) -> Policy {
    Policy {
        grace: millis(config.stop_grace),
        reload_grace: millis(config.reload_grace),
        boot: millis(config.boot_deadline),
        boot_all: true,
        ..Policy::default()
    }
}

impl Manager {
    fn log(&self, level: Level, text: impl std::fmt::Display) {
        self.land.log.line(level, text);
    }

    fn ready(&mut self, member: Member) {
        self.missing.retain(|id| *id != member.id);
        if self.missing.is_empty() && !std::mem::replace(&mut self.told_ready, true) {
            self.mouth.say(&What::Ready);
        }
    }

    fn vacated(&mut self, member: Member, crashed: bool) {
        self.land.board.moved_out(member.slot, crashed);
        self.land.purge([member.slot]);
        // What it had in hand is taken up now, not after somebody's slice.
        if let Some(Err(error)) = self.land.tasks.as_ref().map(|tasks| tasks.sweep()) {
            self.log(Level::Warning, format_args!("cannot look after the tasks of the dead: {error}"));
        }
    }

    fn died(&self, member: Member, pid: i32, end: End, again: Option<Millis>) {
        let (status, signal) = match end {
            End::Exit(status) => (Some(status), None),
            End::Signal(signal) => (None, Some(signal)),
        };
        let again = again.map(Duration::from_millis);
        let error = WorkerError { id: member.id, pid: pid.unsigned_abs(), status, signal, again };
        self.land.hook("worker_error", |calls| calls.worker_error(&error));
    }
}

impl Trade for Manager {
    fn work(&mut self, post: Post) -> i32 {
        life::live(&self.land, post)
    }

    fn told(&mut self, told: Told<'_>) {
        let level = match told {
            Told::Died { .. } | Told::Killing { .. } | Told::Trouble { .. } | Told::Kept { .. } => Level::Warning,
            Told::NotStarted { .. } | Told::StartsLater { .. } | Told::Failed { .. } => Level::Error,
            Told::Starting { .. } | Told::Started { .. } | Told::Vacated { .. } | Told::Begun => Level::Debug,
            _ => Level::Info,
        };
        self.log(level, told);
        match told {
            Told::Started { .. } => self.land.board.started(),
            Told::Ready { member, .. } => self.ready(member),
            // Before anybody is asked.
            Told::Closing => self.land.board.closes(true),
            Told::Vacated { member, crashed, .. } => self.vacated(member, crashed),
            Told::Died { member, pid, end, again } => self.died(member, pid, end, again),
            Told::Reloading => self.land.hook("before_reload", |calls| calls.before_reload()),
            Told::Reloaded { .. } => {
                self.land.board.reloaded();
                self.land.hook("after_reload", |calls| calls.after_reload());
                self.mouth.say(&What::Renewed);
            }
            _ => {}
        }
    }

    fn holds(&self, member: &Member) -> String {
        self.land.board.holds(member.slot)
    }

    fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        if !self.orphaned {
            fds.push(PollFd::from_borrowed_fd(self.lifeline.as_fd(), PollFlags::IN));
        }
    }

    fn turn(&mut self, demands: &mut Vec<Demand>) -> Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let gone = poll(&mut [PollFd::new(&self.lifeline, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0);
        if gone && !std::mem::replace(&mut self.orphaned, true) {
            self.log(Level::Error, "the master is gone: stopping");
            self.land.inherit();
            demands.push(Demand::Stop);
        }
        Ok(())
    }

    fn reconfigure(&mut self) -> bool {
        match self.land.reconfigure() {
            Ok(kept) => {
                if !kept.is_empty() {
                    let keys = kept.join(", ");
                    self.log(
                        Level::Warning,
                        format_args!("what changed in {keys} needs a restart, and is left as it was"),
                    );
                }
                true
            }
            Err(error) => {
                self.log(
                    Level::Error,
                    format_args!("the settings were read again and are not used, nothing is reloaded: {error}"),
                );
                self.mouth.say(&What::Renewed);
                false
            }
        }
    }

    fn signal(&mut self, signal: Signal) -> Option<Vec<Demand>> {
        if signal != Signal::WINCH {
            return None;
        }
        self.land.log.reopen();
        Some(vec![Demand::Pass(signal)])
    }
}
