//! The manager: carries out what [`crate::process::supervise`] decides, and decides nothing itself.
//!
//! One thread, one loop: wait for a signal, a word or a deadline; turn what came into events; carry out the commands. No
//! step of it blocks except the wait. All signals are blocked and read from a descriptor, so none can slip in between
//! the look and the wait.
#![forbid(unsafe_code)]

use super::board::Board;
use super::events::{Event as Told, Events};
use super::options::Notice;
use super::rates::Rates;
use super::worker::{self, Post};
use crate::process::lifeline::Lifeline;
use crate::process::supervise::{Command, Event, Millis, Outcome, Policy, Supervisor};
use crate::process::word::{What, Words};
use crate::sys::child::{self, End};
use crate::sys::fork::fork_and_run;
use crate::sys::signal::{SignalFd, SignalSet, default_action};
use crate::{Error, Result, Timer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid};
use std::collections::VecDeque;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// The name under which errors speak of this call.
const CALL: &str = "Counters::run";

/// What the manager holds. A worker's half of it is moved into its [`Post`] after the fork.
pub(super) struct Manager<'a> {
    machine: Supervisor,
    began: Instant,
    tell: &'a mut dyn FnMut(Notice),
    signals: SignalFd,
    mask: SignalSet,
    /// Taken out when the stop begins; and, like the four below, in each worker.
    listener: Option<TcpListener>,
    board: Option<Board>,
    lifeline: Option<Lifeline>,
    words: Option<Words>,
    events: Option<Events>,
    /// Shared with the workers; the manager lets it fire.
    timer: Timer,
    /// Requests when totals were told last.
    told: i64,
    outcome: Option<Outcome>,
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

/// The signal mask from before, put back when the manager is done.
struct Restore(SignalSet);

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = self.0.make_mask();
    }
}

/// Runs `workers` workers on `listener` until a signal ends it.
pub(super) fn manage(
    listener: TcpListener,
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
    let events = Events::new()?;
    let (lifeline, words) = (Lifeline::new()?, Words::new()?);
    // Left ignored by whoever started us, children would be reaped by the kernel before anybody could recover them.
    default_action(Signal::CHILD)?;
    let ours = SignalSet::of(&[Signal::CHILD, Signal::TERM, Signal::INT, Signal::QUIT]);
    let mask = ours.block()?;
    let restore = Restore(mask);
    let mut manager = Manager {
        machine: Supervisor::new(workers, policy),
        began: Instant::now(),
        tell,
        signals: SignalFd::new(&ours)?,
        mask,
        listener: Some(listener),
        board: Some(board),
        lifeline: Some(lifeline),
        words: Some(words),
        events: Some(events),
        timer,
        told: 0,
        outcome: None,
    };
    let outcome = manager.run();
    // The last words of those who have left.
    manager.log();
    // Signals that came too late to mean anything must not end the process when the mask is lifted.
    while let Ok(Some(_)) = manager.signals.next() {}
    drop(restore);
    match outcome? {
        Outcome::Stopped => Ok(()),
        Outcome::NeverReady { deaths } => Err(Error::NeverReady { deaths }),
    }
}

impl Manager<'_> {
    fn run(&mut self) -> Result<Outcome> {
        let address = self.listener.as_ref().and_then(|listener| listener.local_addr().ok());
        self.happen(Event::Tick);
        if let Some(address) = address {
            let workers = self.board.as_ref().map(Board::pids).unwrap_or_default();
            self.tell(Notice::Started { address, manager: std::process::id(), workers });
        }
        loop {
            if let Some(outcome) = self.outcome {
                return Ok(outcome);
            }
            self.wait()?;
            self.hear()?;
            self.log();
            self.fire()?;
            let stop = self.take_signals()?;
            // A stop goes first: those who died of the same signal (sent to the whole group) are not to be replaced.
            if let Some(event) = stop {
                self.happen(event);
            }
            self.bury()?;
            self.happen(Event::Tick);
        }
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.began.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    fn tell(&mut self, notice: Notice) {
        (self.tell)(notice);
    }

    /// Sleeps until there is something to do.
    fn wait(&self) -> Result<()> {
        let deadline = self.machine.next_deadline().map(|at| Duration::from_millis(at.saturating_sub(self.now())));
        let soonest = [deadline, self.timer.next_due()].into_iter().flatten().min();
        // It fits: deadlines are hours away at most.
        let timeout =
            soonest.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        fds.extend(self.words.as_ref().map(|words| PollFd::from_borrowed_fd(words.as_fd(), PollFlags::IN)));
        fds.extend(self.events.as_ref().map(|events| PollFd::from_borrowed_fd(events.fd(), PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Error::system("poll")(error)),
        }
    }

    /// Takes in what the workers said.
    fn hear(&mut self) -> Result<()> {
        while let Some(word) = self.words.as_ref().map_or(Ok(None), Words::next)? {
            match (usize::try_from(word.id), word.what) {
                (Ok(id), What::Ready) => self.happen(Event::Ready { id, generation: word.generation }),
                (_, What::Trouble(text)) => self.tell(Notice::Trouble(format!("worker {}: {text}", word.id))),
                (Err(_), What::Ready) => {}
            }
        }
        Ok(())
    }

    /// Tells of the events that workers reported.
    fn log(&mut self) {
        let (heard, lost) = self.events.as_ref().map(Events::hear).unwrap_or_default();
        for Told { worker, pid, kind } in heard {
            self.tell(Notice::Event { worker, pid, kind });
        }
        if lost > 0 {
            self.tell(Notice::Trouble(format!("{lost} events were not told: there was no room for them")));
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
            self.tell(Notice::Totals { requests, more, workers, connections, crashes });
        }
        Ok(())
    }

    /// Reads all pending signals; returns the strongest demand among them.
    fn take_signals(&mut self) -> Result<Option<Event>> {
        let mut demand = None;
        while let Some(signal) = self.signals.next()? {
            if signal == Signal::QUIT {
                demand = Some(Event::Kill);
            } else if signal != Signal::CHILD && demand.is_none() {
                demand = Some(Event::Stop);
            }
        }
        Ok(demand)
    }

    /// Reports every dead child, once each: the machine's answer to a death includes its reaping.
    fn bury(&mut self) -> Result<()> {
        while let Some((pid, end)) = child::next_death()? {
            // What it said before it died is still in the pipe, and decides how its death is judged.
            self.hear()?;
            self.happen(Event::Died { pid: pid.as_raw_nonzero().get(), end });
        }
        Ok(())
    }

    /// Gives the machine an event and carries out what it commands, and so on until it has nothing more to say.
    fn happen(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for command in self.machine.handle(self.now(), event) {
                events.extend(self.carry_out(command));
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Fork { id, generation } => return Some(self.fork(id, generation)),
            Command::Recover { pid } => {
                if let Err(error) = crate::recover(pid.unsigned_abs()) {
                    self.tell(Notice::Trouble(format!("cannot recover what process {pid} held: {error}")));
                }
            }
            Command::Reap { pid } => self.report("reap", pid, Pid::from_raw(pid).map(child::reap)),
            Command::Vacate { id, crashed } => {
                if let Some(board) = &self.board {
                    board.vacated(id, crashed);
                }
            }
            Command::Ask { pid, .. } => {
                self.report("signal", pid, Pid::from_raw(pid).map(|pid| child::signal(pid, Signal::TERM)));
            }
            Command::Kill { id, pid, overdue } => {
                if overdue {
                    let open = self.board.as_ref().map_or(0, |board| board.open(id));
                    let text =
                        format!("worker {id} (pid {pid}) did not leave in time, {open} connections open: killing it");
                    self.tell(Notice::Trouble(text));
                }
                self.report("kill", pid, Pid::from_raw(pid).map(|pid| child::signal(pid, Signal::KILL)));
            }
            Command::TellDeath { id, pid, end, again } => {
                let next = match again {
                    Some(0) => ": starting the next one".to_owned(),
                    Some(wait) => format!(": starting the next one in {wait} ms"),
                    None => String::new(),
                };
                let how = match end {
                    End::Exit(status) => format!("left with status {status}"),
                    End::Signal(number) => format!("was killed by signal {number}"),
                };
                self.tell(Notice::Trouble(format!("worker {id} (pid {pid}) {how}{next}")));
            }
            Command::TellForkFailed { id, again } => {
                self.tell(Notice::Trouble(format!("cannot start worker {id}: trying again in {again} ms")));
            }
            Command::CloseListener => self.listener = None,
            Command::Finish(outcome) => self.outcome = Some(outcome),
        }
        None
    }

    fn report(&mut self, what: &str, pid: i32, result: Option<Result<()>>) {
        if let Some(Err(error)) = result {
            self.tell(Notice::Trouble(format!("cannot {what} process {pid}: {error}")));
        }
    }

    fn fork(&mut self, id: usize, generation: u32) -> Event {
        if let Some(board) = &self.board {
            board.starting(id);
        }
        let manager = getpid();
        let forked = fork_and_run(CALL, || match self.post(id, generation, manager) {
            Some(post) => worker::work(post),
            None => 1,
        });
        match forked {
            Ok(pid) => {
                let pid = pid.as_raw_nonzero().get();
                if let Some(board) = &self.board {
                    board.occupied(id, pid);
                }
                Event::Forked { id, pid }
            }
            Err(error) => {
                if let Some(board) = &self.board {
                    board.not_started(id);
                }
                self.tell(Notice::Trouble(format!("worker {id}: {error}")));
                Event::ForkFailed { id }
            }
        }
    }

    /// Runs in the child only: takes out what a worker needs, and closes what it must not hold. The manager's end of
    /// the lifeline goes first of all, for while any worker holds it none can see that the manager is gone.
    fn post(&mut self, id: usize, generation: u32, manager: Pid) -> Option<Post> {
        let Lifeline { held, watched } = self.lifeline.take()?;
        drop(held);
        Some(Post {
            id,
            manager,
            board: self.board.take()?,
            events: self.events.take()?,
            listener: self.listener.take()?,
            lifeline: watched,
            mouth: self.words.take()?.into_mouth(u32::try_from(id).ok()?, generation),
            mask: self.mask,
        })
    }
}
