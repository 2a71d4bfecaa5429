//! Slots: claimed, given back, and taken from the dead.

use commons::harness::{census, leave, sit, world};
use commons::{Lock, recover};
use loom_tests::{Stage, crowd, duet};

#[test]
fn claims_are_distinct() {
    duet("participants, 2 claim").all(|_| {
        let _lock = Lock::new().unwrap();
        let mut stage = Stage::default();
        let parts = [(); 2].map(|()| stage.standing(|| sit().unwrap()));
        stage.begin();
        let slots = parts.map(|part| part.join());
        assert!(slots[0] != slots[1], "{slots:?}");
        assert_eq!(census(), 2);
    });
}

#[test]
fn slots_are_used_again() {
    let tally = duet("participants, come and go").all(|tally| {
        let _lock = Lock::new().unwrap();
        let mut stage = Stage::default();
        let parts = [(); 2].map(|()| {
            stage.standing(|| {
                let slot = sit().unwrap();
                leave();
                slot
            })
        });
        stage.begin();
        let slots = parts.map(|part| part.join());
        assert_eq!(census(), 0);
        assert!(slots.iter().all(|slot| *slot <= 2), "no more slots than threads at once");
        tally.count(usize::from(slots[0] == slots[1]));
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "they have shared a slot, and have not");
}

/// Comes, takes the lock and dies anywhere from its first operation on; another comes meanwhile.
#[test]
fn a_newcomer_buries_the_dead() {
    let tally = crowd("participants, a newcomer buries").each_death(|life, tally| {
        let lock = Lock::new().unwrap();
        let mut stage = Stage::default();
        let its_lock = lock.clone();
        let mortal = stage.standing_mortal(life, move || {
            let slot = sit().unwrap();
            drop(its_lock.lock().unwrap());
            leave();
            slot
        });
        let newcomer = stage.standing(|| {
            let slot = sit().unwrap();
            leave();
            slot
        });
        stage.begin();
        let slot = newcomer.join();
        let lived = mortal.join();
        tally.count(usize::from(lived.is_none() && slot == 1));
        if lived.is_none() {
            assert!(recover(mortal.id).unwrap() <= 1);
        }
        assert_eq!(census(), 0, "a slot has leaked");
        assert!(lock.try_lock().unwrap().is_some());
        leave();
        assert_eq!(census(), 0, "a slot has leaked");
    });
    assert!(tally.seen(1) > 0, "it has never taken the slot of the dead");
}

/// The dead one is buried by a waiter, a newcomer and the manager at once.
#[test]
fn three_bury_at_once() {
    crowd("participants, 3 bury").all(|_| {
        let lock = Lock::new().unwrap();
        let mut stage = Stage::default();
        let its_lock = lock.clone();
        let waiter = stage.seated(move || its_lock.lock().unwrap().recovered());
        let its_lock = lock.clone();
        let mortal = stage.asleep_mortal(u32::MAX, move || {
            let _guard = its_lock.lock().unwrap();
            world::perish();
        });
        let newcomer = stage.standing(|| sit().unwrap());
        stage.begin();
        assert!(recover(mortal.id).unwrap() <= 1);
        assert!(waiter.join(), "the lock was its");
        assert!(newcomer.join() <= 3);
        assert_eq!(census(), 2);
    });
}

/// Every slot is taken, one by a dead thread: a newcomer still finds room.
#[test]
fn a_full_house_with_a_death_has_room() {
    duet("participants, full house").all(|_| {
        let lock = Lock::new().unwrap();
        let mut stage = Stage::default();
        sit().unwrap();
        let others = [(); 2].map(|()| stage.seated(|| ()));
        let its_lock = lock.clone();
        let mortal = stage.asleep_mortal(u32::MAX, move || {
            let _guard = its_lock.lock().unwrap();
            world::perish();
        });
        let newcomer = stage.standing(|| sit().unwrap());
        stage.begin();
        assert_eq!(newcomer.join(), 4);
        others.iter().for_each(|part| part.join());
        assert!(mortal.join().is_none());
        assert_eq!(census(), 4);
    });
}
