//! Timers of several processes, which die.

mod common;

use std::time::{Duration, Instant};

use commons::{Atomic, AtomicLong, Error, Timer, TimerId};

use common::dice::Dice;
use common::{Exit, in_child, until};

const MS: Duration = Duration::from_millis(1);
const SECOND: u64 = 1_000_000_000;

fn atomics(n: usize) -> Vec<Atomic> {
    (0..n).map(|_| Atomic::new(0).unwrap()).collect()
}

/// What must hold whatever happened: listed are as many as are counted, `next_due` is the first of them, and there is room for exactly the rest.
#[track_caller]
fn in_order(timer: &Timer) -> usize {
    let now = timer.at(SECOND);
    let live = timer.stats().unwrap().live;
    let all = now.list();
    assert_eq!(all.len(), live);
    assert_eq!(now.next_due(), all.iter().map(|(_, info)| info.due).min());
    let mut more = Vec::new();
    let full = loop {
        match now.after(Duration::from_secs(86_400), 0) {
            Ok(id) => more.push(id),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::Full { .. }), "{full}");
    assert_eq!(live + more.len(), timer.capacity());
    assert!(more.iter().all(|id| timer.clear(*id).unwrap()));
    live
}

#[test]
fn any_process_adds_lists_and_clears() {
    let timer = Timer::new(10).unwrap();
    let mine = timer.at(SECOND).after(MS, 1).unwrap();
    in_child(|| {
        let now = timer.at(SECOND);
        assert!(now.info(mine).is_some_and(|info| info.payload == 1) && timer.clear(mine).unwrap());
        now.tick(5 * MS, 2).unwrap();
    })
    .join();
    assert!(!timer.exists(mine));
    let all = timer.at(SECOND).list();
    assert_eq!(all.len(), 1);
    let (id, info) = all[0];
    assert_eq!((info.payload, info.interval, info.due), (2, Some(5 * MS), 5 * MS));
    assert!(timer.clear(id).unwrap());
}

#[test]
fn what_a_dead_process_has_made_stays_listed_and_clearable() {
    let timer = Timer::new(20).unwrap();
    for reaped in [false, true] {
        let mut owner = in_child(|| {
            for n in 0..10 {
                timer.at(SECOND).after(Duration::from_millis(n + 1), n).unwrap();
            }
            common::die();
        });
        owner.until_dead();
        if reaped {
            assert_eq!(owner.wait(), Exit::Signal(9));
        }
        let mut all = timer.at(SECOND).list();
        all.sort_by_key(|(_, info)| info.due);
        assert_eq!(all.iter().map(|(_, info)| info.payload).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        for (id, info) in all.iter().filter(|(_, info)| info.payload % 2 == 1) {
            assert!(timer.clear(*id).unwrap() && timer.info(*id).is_none(), "{info:?}");
        }
        let mut seen = Vec::new();
        timer.at(2 * SECOND).expire(|_, payload| seen.push(payload)).unwrap();
        assert_eq!(seen, [0, 2, 4, 6, 8]);
        assert_eq!(in_order(&timer), 0);
    }
}

#[test]
fn a_sleeping_driver_wakes_for_what_another_process_adds() {
    let (timer, seen) = (Timer::new(10).unwrap(), AtomicLong::new(0).unwrap());
    timer.after(Duration::from_secs(3600), 0).unwrap();
    let drivers = [(); 2].map(|()| {
        in_child(|| {
            timer.run_for(Duration::from_secs(3600), |_, payload| _ = seen.add(payload as i64)).unwrap();
        })
    });
    drivers.iter().for_each(|driver| driver.until_asleep());
    timer.after(MS, 100).unwrap();
    until("it has fired", || seen.get() == 100);
    // By either, and by one of them alone.
    drivers.iter().for_each(|driver| driver.until_asleep());
    in_child(|| _ = timer.after(MS, 1000).unwrap()).join();
    until("it has fired", || seen.get() == 1100);
    drivers[0].kill();
    timer.after(MS, 10_000).unwrap();
    until("the other one does it", || seen.get() == 11_100);
}

#[cfg(feature = "tokio")]
#[test]
fn a_runtime_wakes_for_what_another_process_adds() {
    let (timer, seen) = (Timer::new(10).unwrap(), AtomicLong::new(0).unwrap());
    timer.after(Duration::from_secs(3600), 0).unwrap();
    let driver = in_child(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(timer.run(|_, payload| _ = seen.add(payload as i64))).unwrap();
    });
    driver.until_asleep();
    timer.after(MS, 100).unwrap();
    until("it has fired", || seen.get() == 100);
    driver.until_asleep();
    in_child(|| {
        timer.after(2 * MS, 1000).unwrap();
        timer.after(MS, 10_000).unwrap();
        common::die();
    })
    .until_dead();
    until("both have fired", || seen.get() == 11_100);
    assert_eq!(timer.list().len(), 1);
}

/// Each either fires or is cleared, and only one of the two, whoever gets there first.
#[test]
fn cleared_by_another_process_while_they_fire() {
    const ALL: usize = 3000;
    let timer = Timer::new(ALL).unwrap();
    let (fired, cleared, through) = (atomics(ALL), atomics(ALL), Atomic::new(0).unwrap());
    let mut dice = Dice::new(5);
    let ids: Vec<TimerId> =
        (0..ALL as u64).map(|n| timer.after(Duration::from_micros(1000 + dice.roll(100_000)), n).unwrap()).collect();
    let drivers = [(); 2].map(|()| {
        in_child(|| {
            while through.get() == 0 || timer.next_due().is_some() {
                timer.run_for(5 * MS, |_, n| _ = fired[n as usize].add(1)).unwrap();
            }
        })
    });
    let clearer = in_child(|| {
        // Those that are about to fire: the two meet.
        while let Some(due) = timer.next_due() {
            let soon = timer.list().into_iter().filter(|(_, info)| info.due <= due + MS / 4);
            for (id, info) in soon.take(8) {
                if timer.clear(id).unwrap() {
                    cleared[info.payload as usize].add(1);
                }
            }
        }
        through.set(1);
    });
    clearer.join();
    drivers.into_iter().for_each(common::Child::join);
    let sum = |all: &[Atomic]| all.iter().map(Atomic::get).sum::<u32>();
    assert!(fired.iter().zip(&cleared).all(|(fired, cleared)| fired.get() + cleared.get() == 1), "not once each");
    common::note(&format!("{} fired, {} were cleared", sum(&fired), sum(&cleared)));
    assert!(ids.iter().all(|id| !timer.exists(*id)) && in_order(&timer) == 0);
}

/// Adders, clearers and drivers are killed at any point for a while. What was made and has not gone is there; whatever else, all is in order.
#[test]
fn killed_at_random() {
    const ROOM: usize = 300;
    let _alone = common::alone();
    let timer = Timer::new(ROOM).unwrap();
    let (made, gone) = (AtomicLong::new(0).unwrap(), AtomicLong::new(0).unwrap());
    let tick = timer.tick(2 * MS, u64::MAX).unwrap();
    let role = |which: usize, seed: u64| {
        let mut dice = Dice::new(seed);
        loop {
            match which {
                0 => match timer.after(Duration::from_micros(1000 + dice.roll(20_000)), 1) {
                    Ok(_) => _ = made.add(1),
                    Err(Error::Full { .. }) => std::thread::yield_now(),
                    Err(other) => panic!("{other}"),
                },
                1 => {
                    for (id, _) in
                        timer.list().into_iter().filter(|(id, _)| *id != tick).take(1 + dice.roll(9) as usize)
                    {
                        if timer.clear(id).unwrap() {
                            gone.add(1);
                        }
                    }
                }
                _ => {
                    let count = |id, _| if id != tick { gone.add(1) } else { 0 };
                    timer.run_for(3 * MS, |id, payload| _ = count(id, payload)).unwrap();
                }
            }
        }
    };
    let mut crew: Vec<_> = (0..4).map(|n| in_child(|| role(n % 3, n as u64))).collect();
    let seconds = std::env::var("COMMONS_CHAOS_SECS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let (end, mut dice, mut kills) = (Instant::now() + Duration::from_secs(seconds), Dice::new(9), 0);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_micros(dice.roll(3000)));
        let n = dice.roll(4) as usize;
        crew[n].kill();
        kills += 1;
        if dice.roll(2) == 0 {
            commons::recover(crew[n].pid()).unwrap();
        }
        crew[n] = in_child(|| role(n % 3, kills));
    }
    crew.iter().for_each(common::Child::kill);
    let live = in_order(&timer) as i64;
    // Who was killed between the timer and its count has miscounted by one; by no more.
    let off = made.get() - gone.get() - (live - 1);
    assert!(off.unsigned_abs() <= kills + 4, "{} made, {} gone, {live} there; {kills} kills", made.get(), gone.get());
    let (fired, beyond) = (timer.info(tick).unwrap().fired, common::now() as u64);
    common::note(&format!("{kills} kills, {} made, {} gone, the tick fired {fired} times", made.get(), gone.get()));
    // The tick is in phase with what it was, and goes on.
    assert!(fired > 0 && timer.at(beyond + SECOND).expire(|_, _| ()).unwrap() as i64 == live);
    assert_eq!(timer.info(tick).unwrap().fired, fired + 1);
    assert_eq!(timer.clear_all().unwrap(), 1);
}

/// A driver comes back in time although whoever holds the lock is stopped; and once that one is dead, it holds up nobody.
#[test]
fn a_driver_does_not_wait_for_one_who_is_stopped() {
    let (timer, turns) = (Timer::new(100).unwrap(), AtomicLong::new(0).unwrap());
    let busy = in_child(|| {
        loop {
            let id = timer.after(Duration::from_secs(60), 1).unwrap();
            timer.clear(id).unwrap();
            turns.add(1);
        }
    });
    // It is stopped somewhere; after a few times, inside.
    let stopped_inside = (0..200).find_map(|_| {
        let due = timer.after(MS, 2).unwrap();
        let before = turns.get();
        until("it goes round", || turns.get() > before + 1);
        busy.stop();
        let begun = Instant::now();
        timer.run_for(20 * MS, |_, _| ()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        if timer.exists(due) {
            return Some(due);
        }
        busy.cont();
        None
    });
    let due = stopped_inside.expect("it spends half of its time inside");
    busy.kill();
    let mut fired = Vec::new();
    let first = |id, _| {
        fired.push(id);
        false
    };
    timer.drive(common::PATIENCE, first).unwrap();
    assert_eq!(fired, [due], "the dead hold up nobody");
    in_order(&timer);
}
