//! All 4095 slots taken, by as many living threads: a test binary of its own, for it leaves no slot to others. Each
//! newcomer looks at all who are there, so this takes a minute and runs with COMMONS_LONG=1 only.

mod common;

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use common::{skipped, until, until_within};
use commons::{Atomic, AtomicLong, Counter, Error, Lock, RwLock, Semaphore};

#[test]
fn the_4096th_participant_is_told() {
    const MAX: usize = 4095;
    if std::env::var_os("COMMONS_LONG").is_none() {
        skipped("it takes a minute; COMMONS_LONG=1 runs it");
        return;
    }
    let (lock, rw, seats) = (Lock::new().unwrap(), RwLock::new().unwrap(), Semaphore::new(9).unwrap());
    let (n, counter, sum) = (AtomicLong::new(0).unwrap(), Counter::new().unwrap(), AtomicLong::new(0).unwrap());
    let (here, ended) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    // How many may end.
    let exit = (Mutex::new(0_u32), Condvar::new());
    let let_go = |n| {
        *exit.0.lock().unwrap() += n;
        exit.1.notify_all();
    };
    let start = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..MAX {
            let take_part = || {
                drop(rw.read().unwrap());
                sum.add(1);
                counter.add(1);
                here.add(1);
                let mut may = exit.0.lock().unwrap();
                // Bounded: should this test fail, its threads end all the same.
                while *may == 0 && start.elapsed() < Duration::from_secs(100) {
                    may = exit.1.wait_timeout(may, Duration::from_secs(100)).unwrap().0;
                }
                *may = may.saturating_sub(1);
                ended.add(1);
            };
            std::thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, take_part).unwrap();
        }
        until_within(Duration::from_secs(90), "all take part", || here.get() as usize == MAX);
        assert_eq!(commons::harness::census(), MAX);
        // This thread made the structures and has taken part in nothing so far.
        let told = lock.lock().unwrap_err();
        assert!(matches!(told, Error::TooManyParticipants { max: MAX }));
        assert_eq!(
            told.to_string(),
            "4095 threads, over all processes, already take part; no slot is free for this one"
        );
        assert!(matches!(rw.read(), Err(Error::TooManyParticipants { .. })));
        assert!(matches!(rw.try_write(), Err(Error::TooManyParticipants { .. })));
        assert!(matches!(seats.acquire(), Err(Error::TooManyParticipants { .. })));
        // Numbers need no slot.
        counter.add(5);
        assert_eq!((counter.get(), n.add(2), n.sub(2)), (MAX as i64 + 5, 2, 0));
        assert!(!n.wait(Some(Duration::from_millis(25))));
        assert_eq!((n.wakeup(1), n.get()), (0, 1));
        assert!(n.wait(None));
        // One ends, and there is room for one; its destructors run a moment after its last line.
        let_go(1);
        until("one has ended", || ended.get() == 1);
        until("its slot is free", || lock.lock().is_ok());
        assert_eq!(commons::harness::census(), MAX);
        drop(rw.write().unwrap());
        let_go(MAX as u32);
    });
    until("all slots are free again", || commons::harness::census() == 1);
    assert_eq!((sum.get(), counter.get()), (MAX as i64, MAX as i64 + 5));
    assert!(!lock.lock().unwrap().recovered(), "nobody has died");
}
