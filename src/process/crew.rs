//! A crew: a process, the children that work for it, and the loop that keeps them working.
//!
//! The crew carries out what [`super::supervise`] decides, and decides nothing itself. What it is for comes as a [`Trade`]: what a child
//! does, and what the parent wants to be told. The server's workers under their manager are a crew, so is the manager under its
//! master, and so are pools.
//!
//! One thread, one loop: wait for a signal, a word, a deadline, or what the trade waits for; turn what came into events; carry
//! out the commands. No step of it blocks except the wait. All signals are blocked and read from a descriptor, so none can
//! slip in between the look and the wait.
#![forbid(unsafe_code)]

use super::lifeline::Lifeline;
use super::supervise::{Command, Event, Group, Millis, Outcome, Seat, Supervisor, Which, Why};
use super::word::{What, Words};
use crate::sys::child;
use crate::sys::fork::fork_and_run;
use crate::sys::signal::{SignalFd, SignalSet, default_action};
use crate::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

mod told;
mod trade;

pub(crate) use told::Told;
pub(crate) use trade::{Demand, Duty, Member, Post, Role, Trade, slots};

/// The signals that a crew reads, apart from SIGCHLD.
const SIGNALS: [Signal; 7] =
    [Signal::TERM, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::HUP, Signal::WINCH];

/// The parent is gone: the exit status of a child that finds no more to do than to say so.
pub(crate) const ORPHAN: i32 = 3;
/// The child could not even begin.
const NOT_BEGUN: i32 = 1;

/// The parent's side.
pub(crate) struct Crew {
    /// The name under which errors speak of the call that runs it.
    call: &'static str,
    machine: Supervisor,
    duties: Vec<Duty>,
    began: Instant,
    signals: Option<SignalFd>,
    /// Both are taken out in each child.
    lifeline: Option<Lifeline>,
    words: Option<Words>,
    /// Those that are forked and not reaped.
    members: Vec<(i32, Member)>,
    before: SignalSet,
    outcome: Option<Outcome>,
}

impl Drop for Crew {
    fn drop(&mut self) {
        // Signals that came too late to mean anything must not end the process when the mask is lifted.
        while let Some(Ok(Some(_))) = self.signals.as_ref().map(SignalFd::next) {}
        let _ = self.before.make_mask();
    }
}

impl Crew {
    /// Takes hold of the signals, and forks nobody yet.
    pub(crate) fn new(call: &'static str, duties: Vec<Duty>) -> Result<Self> {
        let groups: Vec<_> = duties
            .iter()
            .map(|duty| Group { places: duty.places, vital: duty.role != Role::User, policy: duty.policy })
            .collect();
        let (lifeline, words) = (Lifeline::new()?, Words::new()?);
        // Left ignored by whoever started us, children would be reaped by the kernel before anybody could recover them.
        default_action(Signal::CHILD)?;
        let ours = SignalSet::of(&SIGNALS).with(&[Signal::CHILD]);
        let signals = SignalFd::new(&ours)?;
        let before = ours.block()?;
        Ok(Self {
            call,
            machine: Supervisor::new(&groups),
            duties,
            began: Instant::now(),
            signals: Some(signals),
            lifeline: Some(lifeline),
            words: Some(words),
            members: Vec::new(),
            before,
            outcome: None,
        })
    }

    /// Forks the children, replaces those that die, and returns when it is over and no child is left.
    pub(crate) fn run(&mut self, trade: &mut impl Trade) -> Result<Outcome> {
        self.happen(trade, Event::Tick);
        trade.told(Told::Begun);
        loop {
            if let Some(outcome) = self.outcome {
                // The last words of those who have left.
                self.hear(trade)?;
                trade.turn(&mut Vec::new())?;
                return Ok(outcome);
            }
            self.wait(trade)?;
            self.hear(trade)?;
            let mut demands = Vec::new();
            trade.turn(&mut demands)?;
            self.take_signals(trade, &mut demands)?;
            // Passed on first: a stop that a child gets from us must not overtake what its parent was sent.
            for demand in &demands {
                if let Demand::Pass(signal) = demand {
                    self.pass(trade, *signal);
                }
            }
            // A stop goes before the dead: those who died of the same signal (sent to the whole group) are not to be replaced.
            let end = demands.iter().find(|demand| **demand == Demand::Kill);
            match end.or_else(|| demands.iter().find(|demand| **demand == Demand::Stop)) {
                Some(Demand::Kill) => self.happen(trade, Event::Kill),
                Some(_) => self.happen(trade, Event::Stop),
                None => {}
            }
            self.bury(trade)?;
            for demand in demands {
                if let Demand::Reload(which) = demand {
                    self.happen(trade, Event::Reload(which));
                }
            }
            self.happen(trade, Event::Tick);
        }
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.began.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Sleeps until there is something to do.
    fn wait(&self, trade: &impl Trade) -> Result<()> {
        let deadline = self.machine.next_deadline().map(|at| Duration::from_millis(at.saturating_sub(self.now())));
        let soonest = [deadline, trade.next_due()].into_iter().flatten().min();
        // Deadlines are hours away at most, and whoever wakes up early only looks.
        let timeout = soonest.map(|left| left.min(Duration::from_secs(3600)));
        let timeout =
            timeout.map(|left| Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() });
        let mut fds = Vec::new();
        fds.extend(self.signals.as_ref().map(|signals| PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)));
        fds.extend(self.words.as_ref().map(|words| PollFd::from_borrowed_fd(words.as_fd(), PollFlags::IN)));
        trade.watch(&mut fds);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Error::system("poll")(error)),
        }
    }

    /// Takes in what the children said.
    fn hear(&mut self, trade: &mut impl Trade) -> Result<()> {
        while let Some(word) = self.words.as_ref().map_or(Ok(None), Words::next)? {
            let Ok(id) = usize::try_from(word.id) else { continue };
            let generation = word.generation;
            match word.what {
                What::Ready => self.happen(trade, Event::Ready { id, generation }),
                What::Worn => self.happen(trade, Event::Worn { id, generation }),
                What::Renewed => self.tell(trade, Seat { id, generation, slot: 0 }, |member| Told::Renewed { member }),
                What::Trouble(text) => {
                    let mut known = self.members.iter().map(|(_, member)| *member);
                    let said_by = known.find(|of| (of.id, of.generation) == (id, generation));
                    if let Some(member) = said_by.or_else(|| self.member(Seat { id, generation, slot: 0 })) {
                        trade.told(Told::Trouble { member, text: &text });
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads all pending signals, and what they mean.
    fn take_signals(&mut self, trade: &mut impl Trade, demands: &mut Vec<Demand>) -> Result<()> {
        while let Some(signal) = self.signals.as_ref().map_or(Ok(None), SignalFd::next)? {
            if signal == Signal::CHILD {
                continue;
            }
            match trade.signal(signal) {
                Some(wanted) => demands.extend(wanted),
                None => self.meaning(trade, signal, demands),
            }
        }
        Ok(())
    }

    /// What a signal means to every crew.
    fn meaning(&self, trade: &mut impl Trade, signal: Signal, demands: &mut Vec<Demand>) {
        let reload = |roles: &[Role]| {
            let groups = self.duties.iter().zip(0..).filter(|(duty, _)| roles.contains(&duty.role));
            groups.map(|(_, group)| Demand::Reload(Which::Group(group))).collect::<Vec<_>>()
        };
        match signal {
            Signal::QUIT => demands.push(Demand::Kill),
            Signal::USR2 => demands.extend(reload(&[Role::Task])),
            Signal::HUP if !trade.reconfigure() => {}
            Signal::USR1 | Signal::HUP => demands.extend(reload(&[Role::Worker, Role::Task])),
            Signal::WINCH => trade.reopen(),
            _ => demands.push(Demand::Stop),
        }
    }

    /// Reports every dead child, once each: the machine's answer to a death includes its reaping.
    fn bury(&mut self, trade: &mut impl Trade) -> Result<()> {
        while let Some((pid, end)) = child::next_death()? {
            // What it said before it died is still in the pipe, and decides how its death is judged.
            self.hear(trade)?;
            self.happen(trade, Event::Died { pid: pid.as_raw_nonzero().get(), end });
        }
        Ok(())
    }

    fn pass(&mut self, trade: &mut impl Trade, signal: Signal) {
        for (pid, _) in &self.members {
            report(trade, "signal", *pid, |pid| child::signal(pid, signal));
        }
    }

    /// Gives the machine an event and carries out what it commands, and so on until it has nothing more to say.
    fn happen(&mut self, trade: &mut impl Trade, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for command in self.machine.handle(self.now(), event) {
                events.extend(self.carry_out(trade, command));
            }
        }
    }

    fn carry_out(&mut self, trade: &mut impl Trade, command: Command) -> Option<Event> {
        match command {
            Command::Fork { seat, successor } => return Some(self.fork(trade, seat, successor)),
            Command::Recover { pid } => {
                if let Err(error) = crate::recover(pid.unsigned_abs()) {
                    trade.told(Told::Failed { what: "recover what was held by", pid, error: &error });
                }
            }
            Command::Reap { pid } => report(trade, "reap", pid, child::reap),
            Command::Ask { seat, pid } => {
                self.tell(trade, seat, |member| Told::Asked { member, pid });
                report(trade, "signal", pid, |pid| child::signal(pid, Signal::TERM));
            }
            Command::Kill { seat, pid, why } => {
                if let Some(member) = self.member(seat).filter(|_| why != Why::Ending) {
                    let holds = trade.holds(&member);
                    let late = why == Why::Overdue;
                    trade.told(Told::Killing { member, pid, asked: late, holds: if late { &holds } else { "" } });
                }
                report(trade, "kill", pid, |pid| child::signal(pid, Signal::KILL));
            }
            Command::Vacate { seat, pid, crashed } => {
                self.members.retain(|(of, _)| *of != pid);
                self.tell(trade, seat, |member| Told::Vacated { member, pid, crashed });
            }
            Command::TellReady { seat, pid } => self.tell(trade, seat, |member| Told::Ready { member, pid }),
            Command::TellDeath { seat, pid, end, again } => {
                self.tell(trade, seat, |member| Told::Died { member, pid, end, again });
            }
            Command::TellForkFailed { id, again } => {
                self.tell(trade, nobody(id), |member| Told::StartsLater { member, again });
            }
            Command::TellReload => trade.told(Told::Reloading),
            Command::TellKept { id, deaths } => self.tell(trade, nobody(id), |member| Told::Kept { member, deaths }),
            Command::TellReloaded { renewed, kept } => trade.told(Told::Reloaded { renewed, kept }),
            Command::CloseListener => trade.told(Told::Closing),
            Command::Finish(outcome) => self.outcome = Some(outcome),
        }
        None
    }

    fn tell(&self, trade: &mut impl Trade, seat: Seat, told: impl FnOnce(Member) -> Told<'static>) {
        if let Some(member) = self.member(seat) {
            trade.told(told(member));
        }
    }

    fn member(&self, Seat { id, generation, slot }: Seat) -> Option<Member> {
        let mut index = id;
        for (duty, group) in self.duties.iter().zip(0..) {
            if index < duty.places {
                return Some(Member { group, role: duty.role, index, id, generation, slot });
            }
            index -= duty.places;
        }
        None
    }

    fn fork(&mut self, trade: &mut impl Trade, seat: Seat, successor: bool) -> Event {
        let id = seat.id;
        let Some(member) = self.member(seat) else { return Event::ForkFailed { id } };
        trade.told(Told::Starting { member });
        let (call, parent) = (self.call, getpid());
        let forked = fork_and_run(call, || self.begin(trade, member, parent));
        match forked {
            Ok(pid) => {
                let pid = pid.as_raw_nonzero().get();
                self.members.push((pid, member));
                trade.told(Told::Started { member, pid, successor });
                Event::Forked { id, pid }
            }
            Err(error) => {
                trade.told(Told::NotStarted { member, error: &error });
                Event::ForkFailed { id }
            }
        }
    }

    /// Runs in the child only. The parent's end of the lifeline goes first of all, for while any child holds it none can see
    /// that the parent is gone.
    fn begin(&mut self, trade: &mut impl Trade, member: Member, parent: Pid) -> i32 {
        let (Some(Lifeline { held, watched }), Some(words)) = (self.lifeline.take(), self.words.take()) else {
            return NOT_BEGUN;
        };
        drop((held, self.signals.take()));
        let Ok(id) = u32::try_from(member.id) else { return NOT_BEGUN };
        let mouth = words.into_mouth(id, member.generation);
        let (mask, last_signal) = (self.before.with(&SIGNALS), trade.last_signal());
        let post = Post { member, parent, last_signal, lifeline: watched, mouth, mask };
        match post.die_with_parent() {
            Ok(true) => trade.work(post),
            Ok(false) => ORPHAN,
            Err(error) => {
                post.mouth.say(&What::Trouble(format!("cannot start: {error}")));
                NOT_BEGUN
            }
        }
    }
}

/// A place, when it is not about one of its lives.
fn nobody(id: usize) -> Seat {
    Seat { id, generation: 0, slot: 0 }
}

fn report(trade: &mut impl Trade, what: &'static str, pid: i32, act: impl FnOnce(Pid) -> Result<()>) {
    if let Some(Err(error)) = Pid::from_raw(pid).map(act) {
        trade.told(Told::Failed { what, pid, error: &error });
    }
}
