//! The timer: readers without the lock, who fires and who clears, drivers that sleep. Clocks stand where a model puts them.

use std::time::Duration;

use commons::{Timer, TimerId};
use loom_tests::{Stage, duet};

pub const MS: u64 = 1_000_000;

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Fires what is due so many milliseconds after the beginning; what they carry, a digit each.
pub fn fire(timer: &Timer, at: u64) -> u64 {
    let mut digits = 0;
    timer.at(at * MS).expire(|_, payload| digits = digits * 10 + payload).unwrap();
    digits
}

/// A timer at its beginning, with room for so many.
pub fn begun(capacity: usize) -> Timer {
    Timer::new(capacity).unwrap().at(MS)
}

/// What must hold when nobody is in the middle of anything: it lists as many as it counts, `next_due` is the first of them, there is room for
/// the rest, and no id comes twice.
pub fn in_order(timer: &Timer, known: &[TimerId]) {
    let listed = timer.list();
    let live = timer.stats().unwrap().live;
    assert_eq!(listed.len(), live);
    assert_eq!(timer.list(), listed, "to take the lock changes nothing");
    assert_eq!(timer.next_due(), listed.iter().map(|(_, info)| info.due).min());
    let mut known = known.to_vec();
    for _ in live..timer.capacity() {
        let id = timer.after(ms(90), 9).unwrap();
        assert!(!known.contains(&id), "{id:?} was another's");
        known.push(id);
    }
    assert!(timer.after(ms(90), 9).is_err());
    // In the order of their due times, each once.
    let mut all: Vec<_> = timer.list().into_iter().map(|(_, info)| (info.due, info.payload)).collect();
    all.sort_unstable();
    let mut fired = Vec::new();
    timer.at(1000 * MS).expire(|_, payload| fired.push(payload)).unwrap();
    assert_eq!(fired, all.into_iter().map(|(_, payload)| payload).collect::<Vec<_>>());
}

/// It fires twice while somebody reads: the half that counted is written, and counts again.
#[test]
fn a_reader_sees_a_tick_whole() {
    let tally = duet("timer, 1 fires twice, 1 reads").all(|tally| {
        let timer = begun(1);
        let id = timer.tick(ms(10), 1).unwrap();
        let mut stage = Stage::default();
        let its = timer.clone();
        let driver = stage.seated(move || fire(&its, 11) + fire(&its, 21));
        let its = timer.clone();
        let reader = stage.standing(move || its.info(id).unwrap());
        stage.begin();
        let seen = reader.join();
        assert_eq!(seen.due, ms(10 * (seen.fired + 1)), "{seen:?}");
        tally.count(seen.fired as usize);
        assert_eq!(driver.join(), 2);
    });
    assert!((0..3).all(|n| tally.seen(n) > 0), "it has been seen before, between and after");
}

/// Another timer moves into its entry while somebody reads.
#[test]
fn a_reader_sees_no_mixture() {
    let tally = duet("timer, 1 replaces, 1 reads").all(|tally| {
        let timer = begun(1);
        let id = timer.after(ms(10), 1).unwrap();
        let mut stage = Stage::default();
        let its = timer.clone();
        let writer = stage.seated(move || {
            assert!(its.clear(id).unwrap());
            its.tick(ms(20), 2).unwrap()
        });
        let its = timer.clone();
        let reader = stage.standing(move || (its.info(id), its.list()));
        stage.begin();
        let (old, listed) = reader.join();
        let new = writer.join();
        if let Some(info) = old {
            assert_eq!((info.payload, info.due, info.interval), (1, ms(10), None));
        }
        for (of, info) in listed {
            let whole = if of == id { (1, ms(10), None) } else { (2, ms(20), Some(ms(20))) };
            assert!(of == id || of == new);
            assert_eq!((info.payload, info.due, info.interval), whole);
            tally.count(usize::from(of == new));
        }
        tally.count(2 + usize::from(old.is_some()));
    });
    assert!((0..4).all(|n| tally.seen(n) > 0), "both have been seen, and none");
}

#[test]
fn one_is_fired_or_cleared() {
    let tally = duet("timer, 1 fires, 1 clears").all(|tally| {
        let timer = begun(1);
        let id = timer.after(ms(10), 1).unwrap();
        let mut stage = Stage::default();
        let its = timer.clone();
        let driver = stage.seated(move || fire(&its, 20));
        let its = timer.clone();
        let clearer = stage.seated(move || its.clear(id).unwrap());
        stage.begin();
        let (fired, cleared) = (driver.join(), clearer.join());
        assert_eq!(fired + u64::from(cleared), 1, "exactly one of the two");
        tally.count(fired as usize);
        in_order(&timer, &[id]);
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0);
}

#[test]
fn two_drivers_share_what_is_due() {
    duet("timer, 2 fire").all(|_| {
        let timer = begun(2);
        let (tick, _) = (timer.tick(ms(10), 1).unwrap(), timer.after(ms(12), 2).unwrap());
        let mut stage = Stage::default();
        let drivers = [(); 2].map(|()| {
            let its = timer.clone();
            stage.seated(move || fire(&its, 15))
        });
        stage.begin();
        let fired = drivers.map(|part| part.join());
        assert!([[0, 12], [12, 0], [1, 2], [2, 1]].contains(&fired), "{fired:?}");
        assert_eq!(timer.info(tick).unwrap().fired, 1);
    });
}

/// Drives until one has fired; which.
fn driven(timer: &Timer) -> u64 {
    let mut fired = 0;
    let first = |_, payload| {
        fired = payload;
        false
    };
    timer.at(20 * MS).drive(Duration::MAX, first).unwrap();
    fired
}

#[test]
fn a_driver_sleeps_over_nobody() {
    duet("timer, a driver sleeps, 1 adds").all(|_| {
        let timer = begun(2);
        timer.after(ms(50), 1).unwrap();
        let mut stage = Stage::default();
        let its = timer.clone();
        let driver = stage.seated(move || driven(&its));
        let its = timer.clone();
        let adder = stage.seated(move || its.after(ms(10), 2).unwrap());
        stage.begin();
        assert_eq!(driver.join(), 2);
        adder.join();
    });
}

/// One that waits with epoll sees the time, or is signalled.
#[test]
fn a_descriptor_tells_or_the_time_does() {
    let tally = duet("timer, a descriptor is watched, 1 adds").all(|tally| {
        let timer = begun(1);
        let mut stage = Stage::default();
        let its = timer.clone();
        let watcher = stage.standing(move || {
            let _descriptor = its.notifier();
            let seen = its.next_due().is_some();
            if !seen {
                its.await_notifier().unwrap(); // for ever, if nobody tells
            }
            seen
        });
        let its = timer.clone();
        let adder = stage.seated(move || its.after(ms(10), 2).unwrap());
        stage.begin();
        adder.join();
        tally.count(if watcher.join() { 1 } else { 2 });
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "it has seen, and has been told");
}
