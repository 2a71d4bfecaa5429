//! `Atomic::wait_while` and `notify`.

use commons::Atomic;
use loom_tests::{Data, Stage, crowd, duet};

#[test]
fn no_notification_is_lost() {
    let tally = duet("watch, 1 waits").all(|tally| {
        let (n, data) = (Atomic::new(0).unwrap(), Data::default());
        let mut stage = Stage::default();
        let (its_n, its_data) = (n.clone(), data.clone());
        let waiter = stage.seated(move || {
            assert!(its_n.wait_while(0, None));
            its_data.whole()
        });
        let (its_n, its_data) = (n.clone(), data.clone());
        let notifier = stage.seated(move || {
            its_data.raise();
            its_n.set(1);
            its_n.notify(1)
        });
        stage.begin();
        assert_eq!(waiter.join(), 1);
        tally.count(notifier.join());
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "it has been asleep, and has not");
}

/// Two changes in a row: the bit that the first wait leaves must not hide the second.
#[test]
fn a_bit_left_behind_is_harmless() {
    duet("watch, twice").all(|_| {
        let n = Atomic::new(0).unwrap();
        let mut stage = Stage::default();
        let its_n = n.clone();
        let waiter = stage.seated(move || {
            assert!(its_n.wait_while(0, None));
            assert!(its_n.wait_while(1, None));
        });
        let its_n = n.clone();
        let notifier = stage.seated(move || {
            its_n.set(1);
            its_n.notify(1);
            its_n.set(2);
            its_n.notify(1);
        });
        stage.begin();
        waiter.join();
        notifier.join();
    });
}

#[test]
fn all_are_notified() {
    crowd("watch, 2 wait").all(|_| {
        let n = Atomic::new(0).unwrap();
        let mut stage = Stage::default();
        let waiters = [(); 2].map(|()| {
            let n = n.clone();
            stage.seated(move || n.wait_while(0, None))
        });
        let its_n = n.clone();
        let notifier = stage.seated(move || {
            its_n.add(1);
            its_n.notify(usize::MAX)
        });
        stage.begin();
        waiters.iter().for_each(|part| assert!(part.join()));
        assert!(notifier.join() <= 2);
    });
}

#[test]
fn a_waiter_dies() {
    duet("watch, a waiter dies").each_death(|life, _| {
        let n = Atomic::new(0).unwrap();
        let mut stage = Stage::default();
        let its_n = n.clone();
        let mortal = stage.asleep_mortal(life, move || its_n.wait_while(0, None));
        let its_n = n.clone();
        let waiter = stage.asleep(move || its_n.wait_while(0, None));
        stage.begin();
        n.set(1);
        n.notify(1);
        if mortal.join().is_some() {
            // It may have been the one that was notified.
            n.notify(1);
        }
        assert!(waiter.join());
    });
}

#[test]
fn a_notifier_dies() {
    duet("watch, the notifier dies").each_death(|life, _| {
        let n = Atomic::new(0).unwrap();
        let mut stage = Stage::default();
        let its_n = n.clone();
        let waiter = stage.seated(move || its_n.wait_while(0, None));
        let its_n = n.clone();
        let notifier = stage.mortal(life, move || {
            its_n.set(1);
            its_n.notify(1);
        });
        stage.begin();
        if notifier.join().is_none() && n.get() == 0 {
            n.set(1);
            n.notify(1);
        }
        assert!(waiter.join());
    });
}
