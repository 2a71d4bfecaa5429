//! The timer's contract.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use commons::{Error, Timer};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_hundred_thousand_come_and_go() {
    let timer = Timer::new(100_000).unwrap();
    let mut x = 1u64;
    let mut random = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let ids: Vec<_> = (0..100_000)
        .map(|n| timer.after(Duration::from_micros(1_000_000 + random() % 80_000_000), n).unwrap())
        .collect();
    assert!(matches!(timer.after(MS, 0), Err(Error::Full { capacity: 100_000 })));
    assert_eq!(timer.list().len(), 100_000);
    for id in &ids {
        assert!(timer.clear(*id).unwrap());
    }
    assert!(ids.iter().all(|id| !timer.exists(*id)) && timer.next_due().is_none());
    let again = timer.after(MS, 0).unwrap();
    assert!(!ids.contains(&again), "an id is never used again");
}

#[test]
fn they_fire_in_order_and_equal_ones_as_they_were_made() {
    let timer = Timer::new(10_000).unwrap();
    let mut model = BTreeMap::new();
    let mut x = 1u64;
    for n in 0..5000u64 {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let id = timer.after(MS + Duration::from_micros((x >> 33) % 30_000), n).unwrap();
        model.insert(n, id);
        if x >> 60 == 3 {
            let gone = *model.keys().nth((x >> 40) as usize % model.len()).unwrap();
            assert!(timer.clear(model.remove(&gone).unwrap()).unwrap());
        }
    }
    let mut seen = Vec::new();
    let mut last = Duration::ZERO;
    let begun = Instant::now();
    timer
        .run_for(Duration::from_millis(100), |id, payload| {
            assert!(!timer.exists(id) && begun.elapsed() >= last);
            last = begun.elapsed();
            seen.push(payload);
        })
        .unwrap();
    seen.sort_unstable();
    assert_eq!(seen, model.keys().copied().collect::<Vec<_>>());
}

#[test]
fn a_tick_keeps_its_phase_and_skips_what_was_missed() {
    let timer = Timer::new(10).unwrap();
    let id = timer.tick(10 * MS, 1).unwrap();
    let begun = Instant::now();
    // Away for three periods and a half.
    while begun.elapsed() < 35 * MS {
        std::thread::park_timeout(35 * MS - begun.elapsed().min(35 * MS));
    }
    assert_eq!(timer.expire(|_, _| ()).unwrap(), 1, "one call, however many were missed");
    let info = timer.info(id).unwrap();
    assert_eq!(info.fired, 1);
    assert!(info.due <= 10 * MS);
    let mut instants = Vec::new();
    timer.run_for(55 * MS, |_, _| instants.push(begun.elapsed())).unwrap();
    assert!((4..=6).contains(&instants.len()), "{instants:?}");
    assert!(timer.clear(id).unwrap() && !timer.clear(id).unwrap());
}

#[test]
fn what_is_no_delay_is_refused() {
    let (timer, other) = (Timer::new(10).unwrap(), Timer::new(10).unwrap());
    for delay in [Duration::ZERO, Duration::from_micros(999), Duration::from_millis(86_400_001)] {
        let refused = timer.after(delay, 0).unwrap_err();
        assert!(matches!(refused, Error::BadDelay { .. }) && refused.to_string().contains("defer"));
        assert!(timer.tick(delay, 0).is_err());
    }
    let id = timer.after(Duration::from_millis(86_400_000), 0).unwrap();
    assert!(!other.exists(id) && !other.clear(id).unwrap() && timer.exists(id));
    assert_eq!(timer.clear_all().unwrap(), 1);
}

#[test]
fn one_made_in_a_call_waits_for_the_next_pass() {
    let timer = Timer::new(10).unwrap();
    timer.after(MS, 0).unwrap();
    let mut calls = 0;
    while calls == 0 {
        calls = timer
            .expire(|_, _| {
                timer.after(MS, 1).unwrap();
                let begun = Instant::now();
                while begun.elapsed() < 2 * MS {}
            })
            .unwrap();
    }
    assert_eq!((calls, timer.stats().unwrap().live), (1, 1));
}

#[test]
fn a_driver_wakes_for_an_earlier_one() {
    let timer = Timer::new(10).unwrap();
    timer.after(Duration::from_secs(60), 0).unwrap();
    std::thread::scope(|s| {
        let driver = s.spawn(|| {
            let begun = Instant::now();
            let mut at = None;
            timer.run_for(200 * MS, |_, _| at = Some(begun.elapsed())).unwrap();
            at.unwrap()
        });
        timer.after(20 * MS, 1).unwrap();
        assert!(driver.join().unwrap() < 150 * MS);
    });
}
