//! The counters server's manager: a crew of workers, and what is told of it.
//!
//! The [`crew`](crate::process::crew) forks, buries, renews and stops; here is what its workers are given, what their places' numbers
//! are when somebody comes or goes, and what of all that an operator hears.
#![forbid(unsafe_code)]

use super::board::Board;
use super::events::{Event, Events};
use super::options::Notice;
use super::rates::Rates;
use super::worker::{self, Tools};
use crate::process::crew::{Crew, Demand, Duty, Member, Post, Role, Told, Trade};
use crate::process::supervise::{Outcome, Policy};
use crate::server::parting::linger;
use crate::{Error, Result, Timer};
use rustix::event::{PollFd, PollFlags};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// The name under which errors speak of this call.
const CALL: &str = "Counters::run";

/// What the manager holds. A worker takes its half out after the fork.
struct Manager<'a> {
    tell: &'a mut dyn FnMut(Notice),
    address: SocketAddr,
    /// Taken out when the stop begins; and, like the two below, in each worker.
    listener: Option<TcpListener>,
    board: Option<Board>,
    events: Option<Events>,
    /// Shared with the workers; the manager lets it fire.
    timer: Timer,
    /// Requests when totals were told last.
    told: i64,
    /// How long a worker that leaves may wait for connections to show whether they are idle.
    linger: Duration,
}

/// How often the shared timer fires, and for what.
pub(super) struct Clockwork {
    /// Between two lines of totals; a sixth of a minute of the rates.
    pub(super) beat: Duration,
    /// No totals.
    pub(super) quiet: bool,
}

/// What the shared timer's payloads mean.
const ROTATE: u64 = 1;
const TOTALS: u64 = 2;

/// Runs `workers` workers on `listener`, which listens at `address`, until a signal ends it.
pub(super) fn manage(
    listener: TcpListener,
    address: SocketAddr,
    workers: usize,
    policy: Policy,
    clockwork: Clockwork,
    tell: &mut dyn FnMut(Notice),
) -> Result<()> {
    let timer = Timer::new(2)?;
    // First the rotation, so that where both are due the minute is over before it is told.
    let rotation = timer.tick(clockwork.beat * 6, ROTATE)?;
    if !clockwork.quiet {
        timer.tick(clockwork.beat, TOTALS)?;
    }
    let board = Board::new(workers, Rates::new(timer.clone(), rotation)?)?;
    let mut manager = Manager {
        tell,
        address,
        listener: Some(listener),
        board: Some(board),
        events: Some(Events::new()?),
        timer,
        told: 0,
        linger: linger(Duration::from_millis(policy.grace)),
    };
    let mut crew = Crew::new(CALL, vec![Duty { role: Role::Worker, places: workers, policy }])?;
    match crew.run(&mut manager)? {
        Outcome::Stopped => Ok(()),
        Outcome::NeverReady { deaths } => Err(Error::NeverReady { deaths }),
    }
}

impl Trade for Manager<'_> {
    fn work(&mut self, post: Post) -> i32 {
        match (self.listener.take(), self.board.take(), self.events.take()) {
            (Some(listener), Some(board), Some(events)) => {
                worker::work(post, Tools { listener, board, events, linger: self.linger })
            }
            _ => worker::NOT_BOOTED,
        }
    }

    fn told(&mut self, told: Told<'_>) {
        self.note(&told);
        let notice = match told {
            Told::Begun => {
                let workers = self.board.as_ref().map(Board::pids).unwrap_or_default();
                Notice::Started { address: self.address, manager: std::process::id(), workers }
            }
            Told::Reloaded { renewed, kept } => Notice::Reloaded { renewed, kept },
            Told::NotStarted { .. }
            | Told::StartsLater { .. }
            | Told::Trouble { .. }
            | Told::Killing { .. }
            | Told::Died { .. }
            | Told::Kept { .. }
            | Told::Failed { .. } => Notice::Trouble(told.to_string()),
            _ => return,
        };
        (self.tell)(notice);
    }

    fn holds(&self, member: &Member) -> String {
        format!("{} connections open", self.board.as_ref().map_or(0, |board| board.open(member.slot)))
    }

    fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        fds.extend(self.events.as_ref().map(|events| PollFd::from_borrowed_fd(events.fd(), PollFlags::IN)));
    }

    fn next_due(&self) -> Option<Duration> {
        self.timer.next_due()
    }

    fn turn(&mut self, _demands: &mut Vec<Demand>) -> Result<()> {
        self.log();
        self.fire()
    }
}

impl Manager<'_> {
    /// Keeps the numbers of the places.
    fn note(&mut self, told: &Told<'_>) {
        if let Told::Closing = told {
            self.listener = None;
        }
        let Some(board) = &self.board else { return };
        match *told {
            Told::Starting { member } => board.starting(member.id),
            Told::NotStarted { member, .. } => board.not_started(member.id),
            Told::Started { member, pid, successor: false } | Told::Ready { member, pid } => {
                board.occupied(member.id, pid);
            }
            Told::Vacated { member, pid, crashed } => board.vacated(member.id, member.slot, pid, crashed),
            _ => {}
        }
    }

    /// Tells of the events that workers reported.
    fn log(&mut self) {
        let (heard, lost) = self.events.as_ref().map(Events::hear).unwrap_or_default();
        for Event { worker, pid, kind } in heard {
            (self.tell)(Notice::Event { worker, pid, kind });
        }
        if lost > 0 {
            (self.tell)(Notice::Trouble(format!("{lost} events were not told: there was no room for them")));
        }
    }

    /// Does what the shared timer says is due.
    fn fire(&mut self) -> Result<()> {
        let (mut rotate, mut totals) = (false, false);
        self.timer.expire(|_, payload| match payload {
            ROTATE => rotate = true,
            _ => totals |= payload == TOTALS,
        })?;
        let Some(board) = self.board.as_ref().filter(|_| rotate || totals) else { return Ok(()) };
        if rotate {
            board.rotate();
        }
        if totals {
            let (requests, alive, connections, crashes) = board.totals();
            let more = requests - std::mem::replace(&mut self.told, requests);
            let workers = (alive, board.places());
            (self.tell)(Notice::Totals { requests, more, workers, connections, crashes });
        }
        Ok(())
    }
}
