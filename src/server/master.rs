//! The master: made everything that is shared, owns what is on the disk, and watches over the manager.
//!
//! Signals come here, for this is the process in the pid file. TERM and INT stop the manager in good order, QUIT at once; all others are passed on. A manager
//! that dies is replaced: its children were killed by the kernel, come to the master (which has said that it takes orphans), are recovered and reaped, and
//! what they shared is as whole as ever.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;

use super::config::Config;
use super::daemon::Report;
use super::land::Land;
use super::log::Level;
use super::manager::{CALL, GAVE_UP, PATIENCE, manage};
use super::notify::Notifier;
use crate::process::crew::{Crew, Demand, Duty, Post, Role, Told, Trade};
use crate::process::supervise::{Millis, Outcome, Policy};
use crate::sys::child::{self, End};
use crate::{Error, Result};

/// What the manager may take longer than those it waits for.
const MORE: Duration = Duration::from_secs(2);

struct Master<'a> {
    land: Rc<Land>,
    notifier: Notifier,
    report: Option<&'a mut Report>,
    started: bool,
    /// What ends the server before anybody asked for it.
    end: Cell<Option<Error>>,
    /// For systemd's watchdog: when it wants to hear from us again.
    alive: Option<(Duration, std::time::Instant)>,
}

/// Takes hold of the signals: before anything is on the disk that one of them could leave behind. Until there is a server, they wait.
pub(super) fn crew(config: &Config) -> Result<Crew> {
    let grace = config.stop_grace + MORE;
    let policy = Policy {
        grace: Millis::try_from(grace.as_millis()).unwrap_or(Millis::MAX),
        // However long it took to find that no worker becomes ready: another manager is not forked before the status of that one was looked at.
        healthy: Millis::MAX,
        ..Policy::default()
    };
    Crew::new(CALL, vec![Duty { role: Role::Worker, places: 1, policy }])
}

/// Runs the server; `report` is told when it is ready.
pub(super) fn run(mut crew: Crew, land: Land, notifier: Notifier, report: Option<&mut Report>) -> Result<()> {
    land.show_title("master")?;
    // Orphans of a dead manager come to this process, to be recovered and reaped.
    child::take_orphans()?;
    let alive = notifier.alive_every().map(|every| (every, std::time::Instant::now()));
    let land = Rc::new(land);
    let mut master = Master { land: land.clone(), notifier, report, started: false, end: Cell::new(None), alive };
    let outcome = crew.run(&mut master);
    let Master { end, .. } = master;
    // A manager that was killed leaves it to the kernel to kill the others, which takes a moment.
    if !land.board.take_over(PATIENCE) {
        land.log.line(Level::Error, "a process of the server is still there");
    }
    land.hook("shutdown", |calls| calls.shutdown());
    // Last of all signals mean again what they meant before: one that came earlier would leave behind what is on the disk.
    land.clean_up();
    drop(crew);
    if let Some(error) = end.take() {
        return Err(error);
    }
    match outcome? {
        Outcome::Stopped => {
            land.log.line(Level::Info, "stopped");
            Ok(())
        }
        Outcome::NeverReady { deaths } => Err(Error::NeverReady { deaths }),
    }
}

impl Master<'_> {
    fn log(&self, level: Level, text: impl std::fmt::Display) {
        self.land.log.line(level, text);
    }

    /// Everybody is ready for the first time.
    fn ready(&mut self) {
        if std::mem::replace(&mut self.started, true) {
            // The manager before this one may have died in the middle of a reload, whose end would be waited for.
            return self.tell_ready();
        }
        self.log(Level::Info, format_args!("ready: {}", self.land.addresses()));
        self.tell_ready();
        // Whoever started a daemon and has not waited for it saw a start that failed.
        if let Some(Err(error)) = self.report.as_mut().map(|report| report.ready()) {
            self.end.set(Some(error));
        }
        self.land.hook("start", |calls| calls.start(&self.land.stats()));
    }

    fn tell_ready(&self) {
        let told = self.notifier.ready(std::process::id(), &self.land.addresses());
        self.complain("tell the service manager", told);
    }

    fn complain(&self, what: &str, done: Result<()>) {
        if let Err(error) = done {
            self.log(Level::Warning, format_args!("cannot {what}: {error}"));
        }
    }

    fn died(&mut self, pid: i32, end: End) {
        // What has been ready once can be again: a machine without processes or memory for a second is no reason to end for good.
        if end == End::Exit(GAVE_UP) && !self.started {
            let deaths = self.land.board.given_up().unwrap_or(1);
            return self.end.set(Some(Error::NeverReady { deaths }));
        }
        let text = format_args!("the manager (pid {pid}) is gone, and with it all workers: starting another");
        self.log(Level::Error, text);
    }
}

impl Trade for Master<'_> {
    fn work(&mut self, post: Post) -> i32 {
        manage(self.land.clone(), post)
    }

    /// The manager stops in good order when this process is gone, however it went.
    fn last_signal(&self) -> Signal {
        Signal::TERM
    }

    fn told(&mut self, told: Told<'_>) {
        match told {
            Told::Ready { .. } => self.ready(),
            Told::Renewed { .. } => self.tell_ready(),
            Told::Died { pid, end, .. } => self.died(pid, end),
            Told::Killing { pid, .. } => {
                self.log(Level::Error, format_args!("the manager (pid {pid}) did not leave in time: killing it"));
            }
            Told::Failed { .. } | Told::NotStarted { .. } | Told::StartsLater { .. } => self.log(Level::Error, told),
            Told::Closing => {
                self.complain("tell the service manager", self.notifier.stopping());
                self.land.hook("before_shutdown", |calls| calls.before_shutdown());
            }
            _ => {}
        }
    }

    fn signal(&mut self, signal: Signal) -> Option<Vec<Demand>> {
        match signal {
            Signal::TERM | Signal::INT => None,
            Signal::QUIT => Some(vec![Demand::Pass(signal), Demand::Stop]),
            _ => {
                if signal == Signal::WINCH {
                    self.land.log.reopen();
                } else {
                    if signal == Signal::HUP {
                        // For the manager after this one, should there be one. This one says what is wrong with them.
                        let _ = self.land.reconfigure();
                    }
                    self.complain("tell the service manager", self.notifier.reloading());
                }
                Some(vec![Demand::Pass(signal)])
            }
        }
    }

    fn next_due(&self) -> Option<Duration> {
        self.alive.map(|(_, next)| next.saturating_duration_since(std::time::Instant::now()))
    }

    fn turn(&mut self, demands: &mut Vec<Demand>) -> Result<()> {
        if let Some((every, next)) = &mut self.alive
            && *next <= std::time::Instant::now()
        {
            *next = std::time::Instant::now() + *every;
            let told = self.notifier.alive();
            self.complain("tell the service manager", told);
        }
        let end = self.end.take();
        if end.is_some() {
            demands.push(Demand::Stop);
        }
        self.end.set(end);
        Ok(())
    }
}
