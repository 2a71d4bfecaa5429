//! Outcomes: where a result is put, how it gets to its sender; and what is taken up from the dead.

use super::desk::{Desk, Outcome, SLICE_LONG};
use super::state::{Phase, State};
use super::told::Told;
use crate::process::roll::Address;
use crate::process::vault::{Deposit, Ticket};
use crate::robust::{Patience, me, unhurried};
use crate::shm::load_bytes;
use crate::sync::Look;
use crate::{Error, Result};

impl Desk {
    /// A large result's locker; None when its sender went meanwhile.
    pub(super) fn deposit_result(&self, from: Address, result: &[u8]) -> Result<Option<Deposit>> {
        loop {
            match self.results.deposit_waiting(from.slot.into(), result, Patience::lasting(SLICE_LONG)) {
                Err(Error::Timeout { .. }) => {}
                deposit => return deposit.map(Some),
            }
            self.clear_boxes()?;
            if !self.roll.is_certainly_there(from) {
                return Ok(None);
            }
        }
    }

    /// Takes up what the dead have left: what they were writing goes, what had been tried too often is lost, what has its outcome is delivered. With
    /// `take` the first that is to be run again comes back, in this thread's hands; without, somebody is told of it.
    pub(super) fn look_around(&self, take: bool) -> Result<Option<(usize, State)>> {
        let tag = me()?.tag().bits();
        let mut told = false;
        for n in 0..self.len() {
            let seen = self.state(n);
            if !seen.is_left(Look::Close) {
                continue;
            }
            match seen.phase() {
                Phase::Filling | Phase::Clearing => self.abandon(n, seen, tag),
                Phase::Running if seen.tries() < self.size.attempts => {
                    if !take {
                        told = true;
                        continue;
                    }
                    let mine = seen.taken(tag);
                    if self.exchange(n, seen, mine) {
                        self.drop_result(n);
                        return Ok(Some((n, mine)));
                    }
                }
                Phase::Running => self.lose(n, seen, seen.losing(tag))?,
                Phase::Losing => self.lose(n, seen, seen.in_hands_of(tag))?,
                Phase::Done => {
                    let mine = seen.in_hands_of(tag);
                    if self.exchange(n, seen, mine) {
                        self.deliver(n, mine, false)?;
                    }
                }
                Phase::Free | Phase::Queued => {}
            }
        }
        if told {
            self.stir();
        }
        self.clear_boxes()?;
        Ok(None)
    }

    /// Throws away what lies in the boxes of slots that nobody is in, which may be for a long time, and the lockers that go with it.
    fn clear_boxes(&self) -> Result<()> {
        for (slot, answers) in (0..).zip(&self.answers) {
            if answers.is_empty() || self.roll.is_occupied(slot) {
                continue;
            }
            // At most what is in there now.
            for _ in 0..answers.len() {
                let Some(lease) = unhurried(answers.try_pop_lease())? else { break };
                let answer = Told::of(&lease);
                // Somebody has moved in meanwhile, and this one is for him: it goes back to the front.
                if self.roll.is_certainly_there(Address { slot, generation: answer.generation }) {
                    break;
                }
                self.results.free(answer.large);
                lease.ack()?;
            }
        }
        Ok(())
    }

    /// A result that was not committed is nobody's.
    fn drop_result(&self, n: usize) {
        self.results.free(self.record(n).result());
        self.record(n).set_result(Ticket::NONE);
    }

    fn lose(&self, n: usize, seen: State, mine: State) -> Result<()> {
        if !self.exchange(n, seen, mine) {
            return Ok(()); // somebody else does
        }
        self.drop_result(n);
        self.record(n).set_outcome(Outcome::Lost, 0);
        if self.commit(n, mine, true, mine.tag()) {
            self.deliver(n, mine.done(mine.tag()), false)?;
        }
        Ok(())
    }

    /// Brings an outcome, which is in the caller's hands, to its sender, and frees the record. May be done twice when the first one to do it dies: the
    /// sender goes by the name. Without room for it, it `wait`s, or leaves it to who looks around next.
    pub(super) fn deliver(&self, n: usize, state: State, wait: bool) -> Result<()> {
        let record = self.record(n);
        self.payloads.free(record.payload());
        let (id, (outcome, len)) = (record.id(), record.outcome());
        let large = record.result();
        let mut small = vec![0; if large.is_none() { len } else { 0 }];
        load_bytes(self.result_bytes(n), &mut small);
        let told = Told { sequence: id.sequence, generation: id.from.generation, outcome, tries: state.tries(), large };
        let message = told.message(&small);
        let answers = self.answers.get(id.from.slot as usize).filter(|_| !record.is_quiet());
        // A look at whether the sender lives, closer each time the box has no room.
        let mut wanted = self.roll.is_there(id.from);
        while let Some(answers) = answers.filter(|_| wanted) {
            let pushed = if wait { answers.push_timeout(&message, SLICE_LONG) } else { answers.try_push(&message) };
            match pushed {
                Ok(()) => {
                    self.release(n, state);
                    return Ok(());
                }
                Err(Error::Timeout { .. } | Error::Full { .. }) => wanted = self.roll.is_certainly_there(id.from),
                Err(error) => {
                    let _ = self.exchange(n, state, state.in_hands_of(0));
                    return Err(error);
                }
            }
            if wanted && !wait {
                // To nobody's hands: the next one that looks around tries again.
                let _ = self.exchange(n, state, state.in_hands_of(0));
                return Ok(());
            }
        }
        self.results.free(large);
        self.release(n, state);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::roll::Roll;
    use crate::task::desk::INLINE;
    use crate::task::{TaskQueue, TaskSize};

    fn queue() -> (Roll, TaskQueue) {
        let roll = Roll::new(2).unwrap();
        let queue = TaskQueue::new(&roll, TaskSize { tasks: 4, ..TaskSize::default() }).unwrap();
        (roll, queue)
    }

    /// By a thread that ends with it: for everybody else, a death.
    fn dies<R: Send>(in_the_middle: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| scope.spawn(in_the_middle).join().unwrap())
    }

    #[test]
    fn a_result_whose_worker_died_before_the_commit_is_nobody_s() {
        let (roll, queue) = queue();
        let tenancy = roll.attach(0).unwrap();
        let (sender, desk) = (queue.sender(&tenancy).unwrap(), &queue.desk);
        let id = sender.try_submit(b"much").unwrap();
        // The first two of three steps of an end with a large result; the second time the task is lost with it.
        for _ in 0..2 {
            dies(|| {
                let task = queue.worker().try_take().unwrap().expect("it is there");
                assert_eq!(task.id(), id);
                let deposit = desk.deposit_result(id.from, &[1; INLINE + 1]).unwrap().expect("its sender lives");
                // One task, one record.
                let n = (0..desk.len()).find(|n| desk.state(*n).phase() == Phase::Running).expect("it runs");
                desk.record(n).set_result(deposit.ticket());
                deposit.sent();
                std::mem::forget(task);
            });
            assert_eq!(queue.ledger().large.0, 1, "of the one before nothing is left");
        }
        queue.sweep().unwrap();
        assert!(matches!(sender.try_recv().unwrap().unwrap().result, Err(Error::TaskLost { attempts: 2, .. })));
        assert_eq!(queue.ledger().large, (0, 0));
    }

    #[test]
    fn a_payload_whose_sender_died_handing_it_in_is_nobody_s() {
        let (_roll, queue) = queue();
        let desk = &queue.desk;
        dies(|| {
            let deposit = desk.payloads.deposit(0, &[1; INLINE + 1]).unwrap();
            let (n, _) = desk.claim().unwrap();
            desk.record(n).set_large_payload(deposit.ticket());
            deposit.sent();
        });
        assert_eq!(queue.ledger().large.0, 1);
        desk.room.arm();
        queue.sweep().unwrap();
        assert_eq!((queue.ledger().large, desk.room.rings()), ((0, 0), 1), "and who waits for a record is told");
    }

    #[test]
    fn a_large_result_waits_for_room_no_longer_than_its_sender_lives() {
        let roll = Roll::new(3).unwrap();
        let queue = TaskQueue::new(&roll, TaskSize { large: 2, ..TaskSize::default() }).unwrap();
        // Those who live fetch nothing, and have all the room.
        let others = [0, 1].map(|slot| roll.attach(slot).unwrap());
        for other in &others {
            queue.sender(other).unwrap().try_submit(b"much").unwrap();
        }
        dies(|| {
            let tenancy = roll.attach(2).unwrap();
            queue.sender(&tenancy).unwrap().try_submit(b"much").unwrap();
            std::mem::forget(tenancy);
        });
        for _ in 0..3 {
            queue.worker().try_take().unwrap().expect("it is there").finish(&[1; INLINE + 1]).unwrap();
        }
        assert_eq!((queue.ledger().finished, queue.ledger().undelivered, queue.ledger().large.0), (3, 0, 2));
    }

    #[test]
    fn an_answer_that_comes_late_for_the_one_before_is_not_taken_for_ours() {
        let (roll, queue) = queue();
        let first = roll.attach(0).unwrap().address();
        let tenancy = roll.attach(0).unwrap();
        let sender = queue.sender(&tenancy).unwrap();
        // Its first task, as it was the other one's first; whoever answered that looked before the other one went.
        let id = sender.try_submit(b"ours").unwrap();
        let (sequence, outcome) = (id.sequence, Outcome::Result);
        let theirs = Told { sequence, generation: first.generation, outcome, tries: 1, large: Ticket::NONE };
        queue.desk.answers[0].try_push(&theirs.message(b"theirs")).unwrap();
        assert!(sender.try_recv().unwrap().is_none() && sender.unanswered() == 1);
        queue.worker().try_take().unwrap().expect("it is there").finish(b"done").unwrap();
        assert_eq!(sender.try_recv().unwrap().unwrap().result.unwrap(), b"done");
    }
}
