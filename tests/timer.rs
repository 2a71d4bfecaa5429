//! The timer's contract in one process; most of it by a clock that stands still where a test puts it.

mod common;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use commons::{Error, Region, Timer, TimerId};

use common::dice::Dice;

const MS: Duration = Duration::from_millis(1);
/// Nanoseconds in one.
const M: u64 = 1_000_000;
const SECOND: u64 = 1000 * M;

/// What fires in a pass at `now`: payloads, in order.
fn fired(timer: &Timer, now: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    let called = timer.at(now).expire(|_, payload| seen.push(payload)).unwrap();
    assert_eq!(called, seen.len());
    seen
}

#[test]
fn a_hundred_thousand_come_and_go() {
    const ALL: usize = 100_000;
    let timer = Timer::new(ALL).unwrap();
    let (now, mut dice) = (timer.at(SECOND), Dice::new(1));
    let mut all: Vec<(u64, u64, TimerId)> = (0..ALL as u64)
        .map(|n| {
            let delay = M + dice.roll(80_000 * M);
            (SECOND + delay, n, now.after(Duration::from_nanos(delay), n).unwrap())
        })
        .collect();
    assert!(matches!(timer.after(MS, 0), Err(Error::Full { capacity: ALL })));
    assert_eq!((timer.list().len(), timer.stats().unwrap().live), (ALL, ALL));
    assert_eq!(all.iter().map(|(.., id)| *id).collect::<HashSet<_>>().len(), ALL, "an id for each");
    // A third is cleared, the rest fires in order.
    for (.., id) in all.extract_if(.., |(_, n, _)| *n % 3 == 0) {
        assert!(timer.clear(id).unwrap() && !timer.exists(id) && !timer.clear(id).unwrap());
    }
    all.sort_unstable();
    assert_eq!(now.next_due().unwrap(), Duration::from_nanos(all[0].0 - SECOND));
    let middle = all[all.len() / 2].0;
    let (first, second): (Vec<_>, Vec<_>) = all.iter().partition(|(due, ..)| *due <= middle);
    for (now, expected) in [(middle, first), (100_000 * M, second)] {
        assert_eq!(fired(&timer, now), expected.iter().map(|(_, n, _)| *n).collect::<Vec<_>>());
    }
    assert!(timer.next_due().is_none() && timer.list().is_empty());
    let again = timer.after(MS, 0).unwrap();
    assert!(all.iter().all(|(.., id)| *id != again), "an id is never used again");
}

#[test]
fn equal_deadlines_fire_as_they_were_made() {
    let timer = Timer::new(1000).unwrap();
    let mut dice = Dice::new(7);
    let mut model: Vec<(u64, u64, TimerId)> = Vec::new();
    for n in 0..1000 {
        // Made at different times, due at few: those made last come first to some of them.
        let (now, due) = (SECOND + dice.roll(3) * M, SECOND + (10 + dice.roll(4)) * M);
        let id = timer.at(now).after(Duration::from_nanos(due - now), n).unwrap();
        model.push((due, n, id));
        // A free entry is used again, so the order is not that of the entries.
        if dice.roll(3) == 0 {
            let (.., id) = model.swap_remove(dice.roll(model.len() as u64) as usize);
            assert!(timer.clear(id).unwrap());
        }
    }
    model.sort_unstable();
    assert_eq!(fired(&timer, 2 * SECOND), model.iter().map(|(_, n, _)| *n).collect::<Vec<_>>());
}

#[test]
fn a_tick_keeps_its_phase_and_skips_what_was_missed() {
    let timer = Timer::new(10).unwrap();
    let id = timer.at(SECOND).tick(10 * MS, 1).unwrap();
    let mut count = 0;
    let mut pass = |at: u64, calls: usize, due: u64| {
        assert_eq!(fired(&timer, at).len(), calls, "at {at}");
        count += calls as u64;
        let info = timer.at(at).info(id).unwrap();
        assert_eq!((info.fired, info.due, info.interval), (count, Duration::from_nanos(due), Some(10 * MS)), "at {at}");
    };
    pass(SECOND + 10 * M - 1, 0, 1);
    pass(SECOND + 10 * M, 1, 10 * M);
    pass(SECOND + 10 * M, 0, 10 * M);
    // Late: the next one is not.
    pass(SECOND + 23 * M, 1, 7 * M);
    // Away for three periods and a half: one call.
    pass(SECOND + 65 * M, 1, 5 * M);
    // At the very instant of one, with others missed before.
    pass(SECOND + 90 * M, 1, 10 * M);
    // Half a century later.
    let far = SECOND + 50 * 365 * 86_400 * SECOND;
    pass(far + 3 * M, 1, 7 * M);
    pass(far + 10 * M, 1, 10 * M);
    assert!(timer.clear(id).unwrap() && !timer.clear(id).unwrap());
}

#[test]
fn a_clock_at_its_end_is_no_trap() {
    let timer = Timer::new(10).unwrap();
    let end = timer.at(u64::MAX - 1);
    let tick = timer.at(SECOND).tick(7 * MS, 1).unwrap();
    end.after(3 * MS, 2).unwrap();
    end.tick(3 * MS, 3).unwrap();
    assert_eq!(end.next_due(), Some(Duration::ZERO), "the first is long overdue");
    assert_eq!(fired(&timer, u64::MAX - 2), [1], "the others are due at the last instant");
    assert_eq!(end.info(tick).unwrap().due, Duration::ZERO);
    assert_eq!(timer.list().len(), 3);
}

#[test]
fn an_unbroken_clock_is_kept() {
    let timer = Timer::new(10).unwrap();
    let (begun, id) = (Instant::now(), timer.tick(10 * MS, 1).unwrap());
    let mut instants = Vec::new();
    timer
        .drive(10_000 * MS, |_, _| {
            instants.push(begun.elapsed());
            instants.len() < 4
        })
        .unwrap();
    // None comes early; how late depends on the machine.
    assert!(instants.iter().zip(1..).all(|(at, n)| *at >= n * 10 * MS), "{instants:?}");
    assert_eq!(timer.info(id).unwrap().fired, 4);
}

#[test]
fn what_is_no_delay_is_refused_by_name() {
    let (timer, other) = (Timer::new(10).unwrap(), Timer::new(10).unwrap());
    let bad = [Duration::ZERO, MS - Duration::from_nanos(1), 86_400_000 * MS + Duration::from_nanos(1), Duration::MAX];
    for wrong in bad {
        for refused in [timer.after(wrong, 0), timer.tick(wrong, 0)] {
            let refused = refused.unwrap_err();
            assert!(matches!(refused, Error::BadDelay { delay } if delay == wrong), "{refused:?}");
            assert!(refused.to_string().contains("defer"), "{refused}");
        }
    }
    assert_eq!(timer.stats().unwrap().live, 0);
    for right in [MS, Duration::from_nanos(1_500_001), 86_400_000 * MS] {
        let id = timer.at(SECOND).tick(right, 0).unwrap();
        let info = timer.at(SECOND).info(id).unwrap();
        assert_eq!((info.due, info.interval), (right, Some(right)), "nothing is rounded");
        assert!(!other.exists(id) && other.info(id).is_none() && !other.clear(id).unwrap());
    }
    assert_eq!((timer.clear_all().unwrap(), timer.clear_all().unwrap()), (3, 0));
    for capacity in [0, 1 << 24, usize::MAX] {
        assert!(matches!(Timer::new(capacity), Err(Error::OutOfRange { max: 16_777_215, .. })));
    }
}

#[test]
fn a_heap_is_full_at_its_capacity_and_not_before() {
    for capacity in [1, 2, 5, 64] {
        let timer = Timer::new(capacity).unwrap();
        for round in 0..3 {
            let ids: Vec<_> = (0..capacity).map(|_| timer.after(MS * 1000, 0).unwrap()).collect();
            let before = timer.list();
            assert!(matches!(timer.tick(MS, 0), Err(Error::Full { capacity: c }) if c == capacity), "round {round}");
            assert_eq!(timer.list().len(), before.len(), "what is refused changes nothing");
            assert!(timer.next_due().unwrap() > MS * 500);
            if round == 0 {
                assert_eq!(timer.clear_all().unwrap(), capacity);
            } else {
                assert!(ids.iter().all(|id| timer.clear(*id).unwrap()));
            }
        }
    }
}

#[test]
fn next_due_follows_what_comes_and_goes() {
    let timer = Timer::new(10).unwrap().at(SECOND);
    let due = || timer.next_due().map(|due| due.as_millis());
    assert_eq!(due(), None);
    let [slow, soon, first] = [50, 20, 10].map(|ms| timer.after(ms * MS, 0).unwrap());
    assert_eq!(due(), Some(10));
    assert!(timer.clear(soon).unwrap());
    assert_eq!(due(), Some(10));
    assert!(timer.clear(first).unwrap());
    assert_eq!(due(), Some(50));
    let tick = timer.tick(30 * MS, 0).unwrap();
    assert_eq!((due(), fired(&timer, SECOND + 30 * M).len()), (Some(30), 1));
    assert_eq!(due(), Some(50));
    assert!(timer.clear(slow).unwrap());
    assert_eq!(due(), Some(60));
    assert!(timer.clear(tick).unwrap());
    assert_eq!(due(), None);
}

#[test]
fn one_made_in_a_call_waits_for_the_next_pass() {
    let timer = Timer::new(10).unwrap();
    let now = timer.at(SECOND);
    now.after(MS, 0).unwrap();
    now.after(2 * MS, 1).unwrap();
    // Long overdue; what is made in the calls is due at once by the clock of the next pass.
    let late = timer.at(2 * SECOND);
    let mut seen = Vec::new();
    let calls = late
        .expire(|id, payload| {
            seen.push(payload);
            assert!(!late.exists(id), "it is gone before it is called");
            late.after(MS, 10 + payload).unwrap();
            late.tick(MS, 20 + payload).unwrap();
        })
        .unwrap();
    assert_eq!((calls, seen), (2, vec![0, 1]));
    assert_eq!(fired(&timer, 2 * SECOND + M), [10, 20, 11, 21]);
}

#[test]
fn a_call_may_clear_itself_and_others() {
    let timer = Timer::new(10).unwrap();
    let now = timer.at(SECOND);
    let ids: Vec<_> = (0..4).map(|n| now.tick(MS, n).unwrap()).collect();
    let mut seen = Vec::new();
    let late = timer.at(2 * SECOND);
    late.expire(|id, payload| {
        seen.push(payload);
        if payload == 1 {
            assert!(late.clear(id).unwrap() && late.clear(ids[2]).unwrap(), "itself, and one that is due next");
        }
    })
    .unwrap();
    assert_eq!(seen, [0, 1, 3]);
    assert_eq!(fired(&timer, 3 * SECOND), [0, 3]);
}

#[test]
fn two_heaps_in_one_region_are_two() {
    let region = Region::new("timers", 2 * Timer::memory_for(10)).unwrap();
    let [one, other] = [(); 2].map(|()| Timer::new_in(&region, 10).unwrap());
    assert_eq!(region.used(), region.size(), "it takes what it says");
    assert!(matches!(Timer::new_in(&region, 10), Err(Error::OutOfMemory { .. })));
    let ids = [one.after(MS, 1).unwrap(), other.after(MS, 2).unwrap()];
    assert!(ids[0] != ids[1] && !one.exists(ids[1]) && !other.clear(ids[0]).unwrap());
    assert!(one.clear(ids[0]).unwrap() && other.clear(ids[1]).unwrap());
}

#[test]
fn an_id_travels_as_bytes() {
    let timer = Timer::new(10).unwrap();
    timer.after(MS, 0).unwrap();
    let id = timer.after(MS, 1).unwrap();
    assert_eq!(TimerId::from_bytes(id.to_bytes()), id);
    for n in 0..20 {
        let mut bytes = id.to_bytes();
        bytes[n] ^= 0x81;
        let wrong = TimerId::from_bytes(bytes);
        assert!(!timer.exists(wrong) && timer.info(wrong).is_none() && !timer.clear(wrong).unwrap(), "{wrong:?}");
    }
    assert!(!timer.exists(TimerId::from_bytes([0; 20])) && timer.exists(id));
}

/// How late those fire that are due at random times; printed, for a busy machine says nothing. None ever fires early.
#[test]
fn accuracy() {
    const ALL: usize = 500;
    let _alone = common::alone();
    let (timer, mut dice, mut late) = (Timer::new(ALL).unwrap(), Dice::new(3), Vec::new());
    for _ in 0..ALL {
        let delay = M + dice.roll(400 * M);
        timer.after(Duration::from_nanos(delay), common::now() as u64 + delay).unwrap();
    }
    timer
        .drive(20_000 * MS, |_, due| {
            late.push((common::now() as u64).checked_sub(due).expect("fired early"));
            late.len() < ALL
        })
        .unwrap();
    late.sort_unstable();
    assert_eq!(late.len(), ALL);
    let us = |percent: usize| late[ALL * percent / 100] as f64 / 1e3;
    common::note(&format!("timers are late by p50 {:.0} us, p99 {:.0} us", us(50), us(99)));
}

#[test]
fn a_driver_wakes_for_an_earlier_one() {
    let timer = Timer::new(10).unwrap();
    timer.after(Duration::from_secs(60), 0).unwrap();
    std::thread::scope(|s| {
        let driver = s.spawn(|| {
            let mut seen = None;
            timer
                .drive(Duration::from_secs(60), |_, payload| {
                    seen = Some(payload);
                    false
                })
                .unwrap();
            seen
        });
        timer.after(20 * MS, 1).unwrap();
        assert_eq!(driver.join().unwrap(), Some(1));
    });
}

#[test]
fn a_driver_comes_back_in_time() {
    let timer = Timer::new(10).unwrap();
    timer.after(Duration::from_secs(60), 0).unwrap();
    let begun = Instant::now();
    assert_eq!(timer.run_for(30 * MS, |_, _| ()).unwrap(), 0);
    assert!(begun.elapsed() >= 30 * MS && begun.elapsed() < Duration::from_secs(30));
}

#[cfg(feature = "tokio")]
mod awaited {
    use super::*;

    /// Runs `timer` until `wanted` have fired.
    fn run(timer: &Timer, wanted: usize, begin: impl FnOnce()) -> Vec<u64> {
        // Without tokio's clock: the driver has its own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let mut seen = Vec::new();
        runtime.block_on(async {
            begin();
            let all = async {
                while seen.len() < wanted {
                    seen.push(receive.recv().await.unwrap());
                }
            };
            tokio::select! {
                stopped = timer.run(|_, payload| send.send(payload).unwrap()) => panic!("{stopped:?}"),
                () = all => {}
            }
        });
        seen
    }

    #[test]
    fn timers_fire_in_a_runtime() {
        let timer = Timer::new(10).unwrap();
        timer.after(20 * MS, 3).unwrap();
        timer.after(5 * MS, 1).unwrap();
        timer.tick(9 * MS, 2).unwrap();
        let begun = Instant::now();
        let seen = run(&timer, 4, || ());
        assert!(begun.elapsed() >= 20 * MS);
        assert!(seen[0] == 1 && seen.contains(&3) && seen.contains(&2), "{seen:?}");
        // The future is gone, and nothing with it.
        assert_eq!(timer.list().len(), 1);
    }

    #[test]
    fn a_runtime_wakes_for_an_earlier_one() {
        let timer = Timer::new(10).unwrap();
        timer.after(Duration::from_secs(60), 0).unwrap();
        let other = timer.clone();
        let mut thread = None;
        let seen = run(&timer, 1, || {
            thread = Some(std::thread::spawn(move || {
                std::thread::sleep(20 * MS); // so that it is asleep; it need not be
                other.after(10 * MS, 1).unwrap();
            }));
        });
        thread.unwrap().join().unwrap();
        assert_eq!(seen, [1]);
    }
}
