//! `Atomic::wait` and `wakeup`; nobody dies.

use std::time::Duration;

use commons::Atomic;
use commons::harness::sit;
use loom_tests::{Data, Stage, crowd, duet};

#[test]
fn no_wake_up_is_lost() {
    let tally = duet("wait, 1 sleeper, 1 waker").all(|tally| {
        let (n, data) = (Atomic::new(0).unwrap(), Data::default());
        let mut stage = Stage::default();
        let (its_n, its_data) = (n.clone(), data.clone());
        let sleeper = stage.seated(move || {
            assert!(its_n.wait(None));
            its_data.whole()
        });
        let (its_n, its_data) = (n.clone(), data.clone());
        let waker = stage.seated(move || {
            its_data.raise();
            its_n.wakeup(1)
        });
        stage.begin();
        assert_eq!(sleeper.join(), 1, "what was done before the wake-up is seen");
        tally.count(waker.join());
        assert_eq!(n.get(), 0, "one permit, taken once");
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "the sleeper has been late, and asleep");
}

#[test]
fn each_sleeper_is_granted_its_own() {
    crowd("wait, 2 asleep, wakeup(2)").all(|_| {
        let n = Atomic::new(0).unwrap();
        sit().unwrap();
        let mut stage = Stage::default();
        let sleepers = [(); 2].map(|()| {
            let n = n.clone();
            stage.asleep(move || n.wait(None))
        });
        stage.begin();
        assert_eq!(n.wakeup(3), 2);
        sleepers.iter().for_each(|part| assert!(part.join()));
        assert_eq!(n.get(), 0);
    });
}

#[test]
fn two_wake_ups_wake_two() {
    crowd("wait, 2 asleep, wakeup(1) twice").all(|_| {
        let n = Atomic::new(0).unwrap();
        sit().unwrap();
        let mut stage = Stage::default();
        let sleepers = [(); 2].map(|()| {
            let n = n.clone();
            stage.asleep(move || n.wait(None))
        });
        stage.begin();
        assert_eq!(n.wakeup(1), 1, "there are two asleep");
        assert_eq!(n.wakeup(1), 1, "and one without a permit");
        sleepers.iter().for_each(|part| assert!(part.join()));
        assert_eq!(n.get(), 0);
    });
}

/// The permit is granted, the sleeper is on its way: who comes now gets nothing.
#[test]
fn a_newcomer_cannot_steal() {
    duet("wait, a newcomer").all(|_| {
        let n = Atomic::new(0).unwrap();
        let mut stage = Stage::default();
        let its_n = n.clone();
        let sleeper = stage.asleep(move || its_n.wait(None));
        stage.begin();
        assert_eq!(n.wakeup(1), 1);
        assert!(!n.wait(Some(Duration::ZERO)), "the permit was another's");
        assert!(sleeper.join());
        assert_eq!(n.get(), 0);
    });
}
