//! The living keep what they have: stopped owners, forks while something is held, numbers that the kernel gives out again, storms of
//! signals.

mod common;

use std::cell::RefCell;
use std::mem::forget;
use std::time::{Duration, Instant};

use common::{alone, in_child, skipped, sleep_for_ever, until, until_within};
use commons::{Atomic, AtomicLong, Error, Lock, RwLock, Semaphore, recover};

const LONG: Duration = Duration::from_secs(30);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Five seconds, which is more than twice what Swoole waits before it robs a living owner.
#[test]
fn a_stopped_owner_is_never_robbed() {
    let (lock, written, read) = (Lock::new().unwrap(), RwLock::new().unwrap(), RwLock::new().unwrap());
    let seat = Semaphore::new(1).unwrap();
    let (held, go, got) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let owner = in_child(|| {
        let guards = (lock.lock().unwrap(), written.write().unwrap(), read.read().unwrap());
        seat.acquire().unwrap();
        held.set(1);
        assert!(go.wait(Some(LONG)));
        assert_eq!(got.get(), 0, "nobody else had anything");
        drop(guards);
        seat.release().unwrap();
    });
    until("all is held", || held.get() == 1);
    owner.until_asleep();
    owner.stop();
    let patient = [
        in_child(|| {
            assert!(!lock.lock().unwrap().recovered());
            got.add(1);
        }),
        in_child(|| {
            assert!(!written.read().unwrap().recovered());
            got.add(1);
        }),
        in_child(|| {
            assert!(!read.write().unwrap().recovered());
            got.add(1);
        }),
        in_child(|| {
            seat.acquire().unwrap();
            got.add(1);
        }),
    ];
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        let timed_out = |error: Option<Error>| matches!(error, Some(Error::Timeout { .. }));
        assert!(timed_out(lock.lock_timeout(ms(100)).err()));
        assert!(timed_out(written.write_timeout(ms(30)).err()) && timed_out(written.read_timeout(ms(30)).err()));
        assert!(timed_out(read.write_timeout(ms(30)).err()) && timed_out(seat.acquire_timeout(ms(30)).err()));
        assert!(lock.try_lock().unwrap().is_none() && written.try_read().unwrap().is_none());
        assert!(matches!(recover(owner.pid()), Err(Error::StillAlive { .. })));
    }
    assert_eq!(got.get(), 0);
    assert_eq!(go.wakeup(1), 1, "a stopped sleeper is alive, too");
    owner.cont();
    owner.join();
    patient.into_iter().for_each(|child| child.join());
    assert_eq!(got.get(), 4);
}

#[test]
fn a_childs_copy_of_a_guard_is_nothing() {
    let (lock, rw) = (Lock::new().unwrap(), RwLock::new().unwrap());
    let seats = Semaphore::new(1).unwrap();
    seats.acquire().unwrap();
    let writer = rw.write().unwrap();
    let held = RefCell::new(Some((lock.lock().unwrap(), writer)));
    in_child(|| {
        drop(held.take());
        assert!(lock.try_lock().unwrap().is_none() && rw.try_read().unwrap().is_none(), "they are the parent's");
        assert!(matches!(seats.release(), Err(Error::NotHeld { .. })), "and so is the permit");
        assert!(matches!(lock.lock_timeout(ms(5)), Err(Error::Timeout { .. })), "waiting for it is no deadlock");
    })
    .join();
    let outsider = || in_child(|| assert!(lock.try_lock().unwrap().is_none() && !seats.try_acquire().unwrap()));
    outsider().join();
    drop(held.take());
    assert!(!lock.lock().unwrap().recovered(), "the child's end was no owner's death");
    let reading = RefCell::new(Some(rw.read().unwrap()));
    in_child(|| {
        drop(reading.take());
        // Also once the child has a seat, and reads and dies itself.
        forget(rw.read().unwrap());
    })
    .join();
    in_child(|| assert!(rw.try_write().unwrap().is_none(), "the parent still reads")).join();
}

/// A child inherits the parent's memory, not its identity: what both do at once does not mix.
#[test]
fn parent_and_child_take_turns_after_a_fork_in_the_middle() {
    let (lock, sum) = (Lock::new().unwrap(), AtomicLong::new(0).unwrap());
    let guard = lock.lock().unwrap();
    let child = in_child(|| {
        for _ in 0..5_000 {
            let _guard = lock.lock().unwrap();
            sum.set(sum.get() + 1);
        }
    });
    child.until_asleep();
    assert_eq!(sum.get(), 0);
    drop(guard);
    for _ in 0..5_000 {
        let _guard = lock.lock().unwrap();
        sum.set(sum.get() + 1);
    }
    child.join();
    assert_eq!(sum.get(), 10_000);
}

/// The owner is dead and reaped, and its number is a living thread's: the thread is not taken for the owner. Thread ids come from the
/// same numbers and cost little, so all of them are gone through until the right one comes up.
#[test]
fn a_number_given_out_again_is_somebody_else() {
    let max: u32 = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse().unwrap();
    if max > 65_536 && std::env::var_os("COMMONS_LONG").is_none() {
        skipped(&format!("pid_max is {max}; COMMONS_LONG=1 runs it"));
        return;
    }
    let _turn = alone();
    let (lock, seat) = (Lock::new().unwrap(), Semaphore::new(1).unwrap());
    let held = Atomic::new(0).unwrap();
    let mut owner = in_child(|| {
        forget(lock.lock().unwrap());
        seat.acquire().unwrap();
        held.set(1);
        sleep_for_ever();
    });
    until("it is held", || held.get() == 1);
    owner.kill();
    owner.wait();
    let wanted = owner.pid();
    let mut found = false;
    // Somebody else on this machine may get the number instead, so a few rounds.
    for _ in 0..4 * max {
        found = std::thread::spawn({
            let (lock, seat) = (lock.clone(), seat.clone());
            move || {
                if rustix::thread::gettid().as_raw_nonzero().get() as u32 != wanted {
                    return false;
                }
                // This thread is alive and has the owner's number; another one now asks for the lock.
                std::thread::scope(|scope| {
                    let waiter = scope.spawn(|| {
                        assert!(lock.lock_timeout(LONG).unwrap().recovered());
                        seat.acquire_timeout(LONG).unwrap();
                    });
                    waiter.join().unwrap();
                });
                true
            }
        })
        .join()
        .unwrap();
        if found {
            break;
        }
    }
    if !found {
        skipped(&format!("other processes took the number {wanted} each time"));
    }
}

/// Signals every 100 µs, without SA_RESTART.
#[allow(unsafe_code)]
fn storm() {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: all zeroes is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
    // SAFETY: the handler does nothing, so it may run at any time.
    unsafe { libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()) };
    let often = libc::timeval { tv_sec: 0, tv_usec: 100 };
    let timer = libc::itimerval { it_interval: often, it_value: often };
    // SAFETY: reads `timer`, and replaces the child's alarm; the test that waits for the child bounds it.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
}

#[test]
fn signals_do_not_shorten_a_timeout() {
    let (n, lock, rw, seat) =
        (Atomic::new(0).unwrap(), Lock::new().unwrap(), RwLock::new().unwrap(), Semaphore::new(1).unwrap());
    let (_lock, _rw) = (lock.lock().unwrap(), rw.write().unwrap());
    seat.acquire().unwrap();
    in_child(|| {
        storm();
        for wait in [7, 50] {
            let full = |what: &str, timed_out: &dyn Fn() -> bool| {
                let start = Instant::now();
                assert!(timed_out(), "{what}");
                assert!(start.elapsed() >= ms(wait), "{what} ended after {:?}", start.elapsed());
            };
            full("wait", &|| !n.wait(Some(ms(wait))));
            full("wait_while", &|| !n.wait_while(0, Some(ms(wait))));
            full("lock", &|| matches!(lock.lock_timeout(ms(wait)), Err(Error::Timeout { .. })));
            full("read", &|| matches!(rw.read_timeout(ms(wait)), Err(Error::Timeout { .. })));
            full("write", &|| matches!(rw.write_timeout(ms(wait)), Err(Error::Timeout { .. })));
            full("acquire", &|| matches!(seat.acquire_timeout(ms(wait)), Err(Error::Timeout { .. })));
        }
    })
    .join();
}

#[test]
fn signals_lose_no_wakeup() {
    let (here, there) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let (lock, sum) = (Lock::new().unwrap(), AtomicLong::new(0).unwrap());
    let count = || {
        for _ in 0..3_000 {
            let _guard = lock.lock().unwrap();
            sum.set(sum.get() + 1);
        }
    };
    let child = in_child(|| {
        storm();
        for _ in 0..300 {
            assert!(here.wait(Some(LONG)));
            there.wakeup(1);
        }
        count();
    });
    for _ in 0..300 {
        here.wakeup(1);
        assert!(there.wait(Some(LONG)));
    }
    count();
    child.join();
    assert_eq!(sum.get(), 6_000);
}

/// The sleeper wakes all the time, so its slices never pass asleep; it still has to look whether the owner is alive.
#[test]
fn signals_do_not_hide_a_death() {
    let _turn = alone();
    let (lock, rw, seat) = (Lock::new().unwrap(), RwLock::new().unwrap(), Semaphore::new(1).unwrap());
    let held = Atomic::new(0).unwrap();
    let owner = in_child(|| {
        forget((lock.lock().unwrap(), rw.read().unwrap()));
        seat.acquire().unwrap();
        held.set(1);
        sleep_for_ever();
    });
    until("it is held", || held.get() == 1);
    let waiters = [
        in_child(|| {
            storm();
            assert!(lock.lock().unwrap().recovered());
        }),
        in_child(|| {
            storm();
            assert!(!rw.write().unwrap().recovered());
        }),
        in_child(|| {
            storm();
            seat.acquire().unwrap();
        }),
    ];
    std::thread::sleep(ms(50));
    assert!(waiters.iter().all(|child| !child.is_zombie()), "they wait");
    owner.kill();
    until_within(ms(2_000), "all went on", || waiters.iter().all(|child| child.is_zombie()));
    waiters.into_iter().for_each(|child| child.join());
}
