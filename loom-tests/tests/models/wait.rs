//! `Atomic::wait` and `wakeup`; nobody dies.

use std::time::Duration;

use commons::Atomic;
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
fn two_wakers_wake_two() {
    crowd("wait, 2 asleep, 2 wakers").all(|_| {
        let n = Atomic::new(0).unwrap();
        let mut stage = Stage::default();
        let sleepers = [(); 2].map(|()| {
            let n = n.clone();
            stage.asleep(move || n.wait(None))
        });
        let its_n = n.clone();
        let waker = stage.seated(move || its_n.wakeup(1));
        stage.begin();
        assert_eq!(n.wakeup(1), 1, "there are two asleep");
        assert_eq!(waker.join(), 1);
        sleepers.iter().for_each(|part| assert!(part.join()));
        assert_eq!(n.get(), 0);
    });
}

#[test]
fn a_newcomer_cannot_steal() {
    crowd("wait, a newcomer").all(|_| {
        let n = Atomic::new(0).unwrap();
        let mut stage = Stage::default();
        let its_n = n.clone();
        let sleeper = stage.asleep(move || its_n.wait(None));
        let its_n = n.clone();
        let waker = stage.seated(move || its_n.wakeup(1));
        let its_n = n.clone();
        let newcomer = stage.seated(move || its_n.wait(Some(Duration::ZERO)));
        stage.begin();
        assert!(sleeper.join());
        assert_eq!(waker.join(), 1);
        assert!(!newcomer.join(), "the permit was another's");
        assert_eq!(n.get(), 0);
    });
}
