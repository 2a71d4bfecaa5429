//! Timers with closures: the closure stays in this process, the timer is in shared memory, where any process can list it and end it.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use super::calls::{guarded, guarded_now};
use super::worker::Worker;
use crate::{Result, Timer, TimerId};

/// Timers of one process at once.
pub(super) const TIMERS: usize = 16_384;

type Pending = Pin<Box<dyn Future<Output = Result<()>>>>;

enum Closure {
    Once(Box<dyn FnOnce() -> Pending>),
    Again(Box<dyn FnMut() -> Pending>),
}

/// The closures of one process, by the payload of their timers.
pub(super) struct Timers {
    heap: Timer,
    next: Cell<u64>,
    closures: RefCell<HashMap<u64, Closure>>,
}

impl Timers {
    /// On the heap of this process's line; what its last tenant left in it is nobody's to run.
    pub(super) fn new(heap: Timer) -> Result<Timers> {
        heap.clear_all()?;
        Ok(Timers { heap, next: Cell::new(1), closures: RefCell::default() })
    }

    pub(super) fn after<F: Future<Output = Result<()>> + 'static>(
        &self,
        delay: Duration,
        f: impl FnOnce() -> F + 'static,
    ) -> Result<TimerId> {
        self.put(Closure::Once(Box::new(|| Box::pin(f()))), |heap, payload| heap.after(delay, payload))
    }

    pub(super) fn tick<F: Future<Output = Result<()>> + 'static>(
        &self,
        interval: Duration,
        mut f: impl FnMut() -> F + 'static,
    ) -> Result<TimerId> {
        self.put(Closure::Again(Box::new(move || Box::pin(f()))), |heap, payload| heap.tick(interval, payload))
    }

    fn put(&self, closure: Closure, add: impl FnOnce(&Timer, u64) -> Result<TimerId>) -> Result<TimerId> {
        let payload = self.next.replace(self.next.get() + 1);
        // First the closure: the timer may be due as soon as it is there.
        self.closures.borrow_mut().insert(payload, closure);
        add(&self.heap, payload).inspect_err(|_| self.forget(payload))
    }

    fn forget(&self, payload: u64) {
        let gone = self.closures.borrow_mut().remove(&payload);
        // Only now, for what it held may end other timers as it goes.
        drop(gone);
    }

    pub(super) fn clear(&self, id: TimerId) -> Result<bool> {
        let payload = self.heap.info(id).map(|info| info.payload);
        let cleared = self.heap.clear(id)?;
        if let Some(payload) = payload.filter(|_| cleared) {
            self.forget(payload);
        }
        Ok(cleared)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.heap.list().len()
    }

    /// Lets them fire, for as long as it is polled.
    pub(super) async fn run(&self, worker: &Worker) -> Result<()> {
        let end = self.heap.run(|id, payload| {
            // Taken out for the call, which may itself add timers, and end this one.
            let Some(closure) = self.closures.borrow_mut().remove(&payload) else { return };
            // The closure itself may panic too, before there is a future; the other timers must not end with it.
            let call = match closure {
                Closure::Once(f) => guarded_now(|| Ok(f())),
                Closure::Again(mut f) => {
                    let call = guarded_now(|| Ok(f()));
                    if self.heap.exists(id) {
                        self.closures.borrow_mut().insert(payload, Closure::Again(f));
                    }
                    call
                }
            };
            let call = match call {
                Ok(call) => call,
                Err(why) => return worker.complain(format_args!("timer {id:?}: {why}")),
            };
            let of = worker.clone();
            worker.spawn(async move {
                if let Err(why) = of.call(guarded(call)).await {
                    of.complain(format_args!("timer {id:?}: {why}"));
                }
            });
        });
        end.await.map(|never| match never {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    /// Ends another timer when it goes.
    struct Guard(Rc<Timers>, TimerId);

    impl Drop for Guard {
        fn drop(&mut self) {
            assert!(self.0.clear(self.1).unwrap());
        }
    }

    #[test]
    fn what_the_one_before_had_set_is_nobody_s_to_run() {
        let heap = Timer::new(4).unwrap();
        let before = Timers::new(heap.clone()).unwrap();
        // Its payload is the one that the first of the next one's gets as well.
        before.tick(Duration::from_secs(3600), async || Ok(())).unwrap();
        before.after(Duration::from_secs(3600), async || Ok(())).unwrap();
        assert_eq!(before.len(), 2);
        assert_eq!(Timers::new(heap).unwrap().len(), 0);
    }

    #[test]
    fn what_a_closure_held_may_end_other_timers_when_it_goes() {
        let timers = Rc::new(Timers::new(Timer::new(4).unwrap()).unwrap());
        let (long, quiet) = (Duration::from_secs(60), || async { Ok(()) });
        let other = timers.after(long, quiet).unwrap();
        let guard = Guard(timers.clone(), other);
        let id = timers
            .after(long, move || {
                drop(guard);
                async { Ok(()) }
            })
            .unwrap();
        assert!(timers.clear(id).unwrap());
        assert_eq!((timers.len(), timers.closures.borrow().len()), (0, 0));
        // The same of one for which there is no room.
        let all: Vec<_> = (0..4).map(|_| timers.after(long, quiet).unwrap()).collect();
        let guard = Guard(timers.clone(), all[0]);
        let refused = timers.tick(long, move || {
            let _ = &guard;
            async { Ok(()) }
        });
        assert!(refused.is_err());
        assert_eq!((timers.len(), timers.closures.borrow().len()), (3, 3));
    }
}
