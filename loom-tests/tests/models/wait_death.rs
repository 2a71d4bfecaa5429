//! `Atomic::wait` and `wakeup`, and sleepers and wakers that die.

use commons::Atomic;
use commons::harness::{sit, world};
use loom_tests::{Stage, crowd};

/// Two sleep and two permits are granted; one of the two dies anywhere, on the way to sleep or awake again.
#[test]
fn a_sleeper_dies_and_the_other_does_not_notice() {
    crowd("wait, a sleeper dies").each_death(|life, _| {
        let n = Atomic::new(0).unwrap();
        sit().unwrap();
        let mut stage = Stage::default();
        let its_n = n.clone();
        let mortal = stage.asleep_mortal(life, move || its_n.wait(None));
        let its_n = n.clone();
        let sleeper = stage.asleep(move || its_n.wait(None));
        stage.begin();
        assert!(n.wakeup(2) > 0);
        assert!(sleeper.join());
        let _ = mortal.join();
        assert_eq!(n.get(), 0);
    });
}

/// Operations of a sleeper from its awakening until it has its permit, at the least.
const UNTIL_GRANTED: u32 = 8;

/// One permit, granted while both sleep; the one that is woken for it dies before it takes it.
#[test]
fn the_permit_of_a_dead_sleeper_goes_on() {
    for delay in 0..UNTIL_GRANTED {
        crowd("wait, the permit of the dead").all(move |_| {
            let n = Atomic::new(0).unwrap();
            // Now, or its claim of a slot would bury the dead.
            sit().unwrap();
            let mut stage = Stage::default();
            let its_n = n.clone();
            let mortal = stage.asleep_mortal(u32::MAX, move || {
                world::dies_after_waking(delay);
                its_n.wait(None)
            });
            let its_n = n.clone();
            let sleeper = stage.asleep(move || its_n.wait(None));
            stage.begin();
            assert_eq!(n.wakeup(1), 1);
            assert!(sleeper.join(), "the permit is there, and nobody else can want it");
            assert!(mortal.join().is_none());
        });
    }
}

/// The same with nobody else asleep: whoever waits next has it.
#[test]
fn the_permit_of_the_dead_is_for_the_next() {
    for delay in 0..UNTIL_GRANTED {
        crowd("wait, the permit of the dead, next").all(move |_| {
            let n = Atomic::new(0).unwrap();
            // Now, or its claim of a slot would bury the dead.
            sit().unwrap();
            let mut stage = Stage::default();
            let its_n = n.clone();
            let mortal = stage.asleep_mortal(u32::MAX, move || {
                world::dies_after_waking(delay);
                its_n.wait(None)
            });
            let its_n = n.clone();
            let waker = stage.seated(move || its_n.wakeup(1));
            stage.begin();
            assert_eq!(waker.join(), 1);
            assert!(mortal.join().is_none());
            assert!(n.wait(None));
        });
    }
}

#[test]
fn a_waker_dies() {
    crowd("wait, the waker dies").each_death(|life, _| {
        let n = Atomic::new(0).unwrap();
        sit().unwrap();
        let mut stage = Stage::default();
        let its_n = n.clone();
        let sleeper = stage.seated(move || its_n.wait(None));
        let its_n = n.clone();
        let waker = stage.mortal(life, move || its_n.wakeup(1));
        stage.begin();
        if waker.join().is_none() {
            n.wakeup(1);
        }
        assert!(sleeper.join());
        assert!(n.get() <= 1);
    });
}

/// Granted and not woken: the sleeper finds out by itself.
#[test]
fn a_waker_dies_and_nobody_helps() {
    let tally = crowd("wait, the waker dies, no help").each_death(|life, tally| {
        let n = Atomic::new(0).unwrap();
        let mut stage = Stage::default();
        let its_n = n.clone();
        let sleeper = stage.asleep(move || its_n.wait(None));
        let its_n = n.clone();
        let waker = stage.mortal(life, move || its_n.wakeup(1));
        stage.begin();
        let lived = waker.join().is_some();
        // Until the grant nothing has happened; that is 16 operations or so into the call.
        if !lived && n.wakeup(1) == 0 {
            tally.count(0);
        }
        assert!(sleeper.join());
    });
    assert!(tally.seen(0) > 0, "it has never died between the grant and the system call");
}
