//! The timer, and those who die at any operation: adding, clearing, firing, or building anew what another dead one has left.

use commons::harness::world;
use loom_tests::{Stage, crowd, duet};

use crate::timer::{MS, begun, fire, in_order, ms};

#[test]
fn an_adder_dies_and_one_fires() {
    let tally = crowd("timer, adder dies, 1 fires").each_death(|life, tally| {
        let timer = begun(2);
        let tick = timer.tick(ms(10), 1).unwrap();
        let mut stage = Stage::default();
        let its = timer.clone();
        let mortal = stage.mortal(life, move || its.after(ms(8), 2).unwrap());
        let its = timer.clone();
        let driver = stage.seated(move || fire(&its, 15));
        stage.begin();
        let fired = driver.join();
        let lived = mortal.join();
        // Without a manager: the next one looks for itself.
        let again = fire(&timer, 15);
        assert!([1, 21, 12].contains(&fired) && [0, 2].contains(&again), "{fired}, then {again}");
        let both = fired != 1 || again == 2;
        assert!(both || lived.is_none(), "it was made, and is lost");
        tally.count(usize::from(lived.is_none()) + 2 * usize::from(both));
        assert_eq!(timer.info(tick).unwrap().fired, 1);
        assert_eq!(timer.list().len(), 1);
        in_order(&timer, &[tick]);
    });
    assert!(tally.seen(1) > 0 && tally.seen(3) > 0, "it has died before its commit and after it");
}

#[test]
fn a_clearer_dies_and_one_fires() {
    let tally = duet("timer, clearer dies, 1 fires").each_death(|life, tally| {
        let timer = begun(2);
        let (id, other) = (timer.after(ms(10), 1).unwrap(), timer.after(ms(12), 2).unwrap());
        let mut stage = Stage::default();
        let its = timer.clone();
        let mortal = stage.mortal(life, move || its.clear(id).unwrap());
        let its = timer.clone();
        let driver = stage.seated(move || fire(&its, 11));
        stage.begin();
        let fired = driver.join();
        let cleared = mortal.join();
        assert!(!timer.exists(id), "it was due");
        assert!(cleared.is_none_or(|cleared| u64::from(cleared) + fired == 1), "{cleared:?}, fired {fired}");
        tally.count(usize::from(cleared.is_none()) + 2 * fired as usize);
        in_order(&timer, &[id, other]);
    });
    assert!(tally.seen(1) > 0 && tally.seen(3) > 0, "it has died after its commit and before it");
}

#[test]
fn a_driver_dies_and_one_reads() {
    let tally = duet("timer, driver dies, 1 reads").each_death(|life, tally| {
        let timer = begun(1);
        let id = timer.tick(ms(10), 1).unwrap();
        let mut stage = Stage::default();
        let its = timer.clone();
        let mortal = stage.mortal(life, move || fire(&its, 11));
        let its = timer.clone();
        let reader = stage.standing(move || its.info(id).unwrap());
        stage.begin();
        let seen = reader.join();
        let lived = mortal.bury().is_some();
        let last = timer.info(id).unwrap();
        for info in [seen, last] {
            assert_eq!(info.due, ms(10 * (info.fired + 1)), "{info:?}");
        }
        assert!(last.fired >= seen.fired && (last.fired == 1 || !lived));
        tally.count(usize::from(!lived) * (1 + last.fired as usize));
        assert_eq!(fire(&timer, 11), 1 - last.fired);
        in_order(&timer, &[id]);
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "it has died before its commit and after it");
}

/// The wake-up comes before the timer: if it is there, nobody sleeps over it, although whoever made it is dead and no slice ever ends.
#[test]
fn an_adder_dies_and_a_driver_sleeps() {
    let tally = crowd("timer, adder dies, a driver sleeps").each_death(|life, tally| {
        let timer = begun(1);
        let mut stage = Stage::default();
        world::endless_slices();
        let its = timer.clone();
        let mortal = stage.mortal(life, move || its.after(ms(10), 2).unwrap());
        let its = timer.at(20 * MS);
        let driver = stage.asleep(move || {
            while its.next_due().is_none() {
                its.rest(u64::MAX);
            }
        });
        stage.begin();
        let lived = mortal.bury().is_some();
        let there = timer.list().len() == 1;
        assert!(there || !lived, "it was made, and is lost");
        tally.count(usize::from(there) + 2 * usize::from(lived));
        if !there {
            // Another one, lest it sleeps for ever.
            timer.after(ms(10), 2).unwrap();
        }
        driver.join();
        assert_eq!(fire(&timer, 20), 2);
        in_order(&timer, &[]);
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "it has died before its commit and after it");
}

/// Two deaths, one after the other: of one at any operation of its change, and of whoever builds anew what it has left, at any.
fn dies_and_so_does_the_rescuer(name: &'static str, clears: bool) {
    let tally = crowd(name).each_two_deaths(move |[first, second], tally| {
        let timer = begun(2);
        let id = timer.after(ms(10), 1).unwrap();
        let mut stage = Stage::default();
        let its = timer.clone();
        let change = move || if clears { its.clear(id).is_ok() } else { its.after(ms(12), 2).is_ok() };
        let mortal = stage.asleep_mortal(first, change);
        let its = timer.clone();
        let rescuer = stage.mortal(second, move || its.stats().unwrap().live);
        stage.begin();
        let (changed, counted) = (mortal.join(), rescuer.join());
        let listed = timer.list().len();
        assert_eq!(timer.exists(id), !clears || listed == 1);
        assert!(changed.is_none() || listed == if clears { 0 } else { 2 });
        assert!(counted.is_none_or(|counted| counted == listed), "{counted:?} were counted of {listed}");
        tally.count(2 * usize::from(changed.is_none()) + usize::from(counted.is_none()));
        in_order(&timer, &[id]);
        [changed.is_none(), counted.is_none()]
    });
    assert!(tally.seen(2) > 5 && tally.seen(3) > 20, "one has died, and both");
}

#[test]
fn who_builds_anew_after_an_adder_dies_too() {
    dies_and_so_does_the_rescuer("timer, adder and rescuer die", false);
}

#[test]
fn who_builds_anew_after_a_clearer_dies_too() {
    dies_and_so_does_the_rescuer("timer, clearer and rescuer die", true);
}
