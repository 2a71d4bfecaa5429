//! The robust lock, and owners and waiters that die at any operation.

use std::cell::Cell;
use std::rc::Rc;

use commons::harness::world;
use commons::{Lock, recover};
use loom_tests::{Data, Part, Stage, crowd, duet};

/// Takes the lock, repairs what a dead owner left, and changes both words; whether there was a dead owner.
fn visit(lock: &Lock, data: &Data) -> bool {
    let guard = lock.lock().unwrap();
    if guard.recovered() {
        data.repair();
    }
    // Torn, and nobody was told: fails here.
    data.whole();
    data.raise();
    guard.recovered()
}

/// The same of a mortal thread, which notes that it has the lock.
fn mortal_visit(stage: &mut Stage, life: u32, lock: &Lock, data: &Data) -> (Part<Option<bool>>, Rc<Cell<bool>>) {
    let (lock, data, inside) = (lock.clone(), data.clone(), Rc::new(Cell::new(false)));
    let its_inside = inside.clone();
    let part = stage.mortal(life, move || {
        let guard = lock.lock().unwrap();
        its_inside.set(true);
        if guard.recovered() {
            data.repair();
        }
        data.whole();
        data.raise();
        let recovered = guard.recovered();
        drop(guard);
        its_inside.set(false);
        recovered
    });
    (part, inside)
}

#[test]
fn an_owner_dies_and_one_waits() {
    let tally = duet("lock, owner dies, 1 waits").each_death(|life, tally| {
        let (lock, data) = (Lock::new().unwrap(), Data::default());
        let mut stage = Stage::default();
        let (mortal, inside) = mortal_visit(&mut stage, life, &lock, &data);
        let (its_lock, its_data) = (lock.clone(), data.clone());
        let waiter = stage.seated(move || visit(&its_lock, &its_data));
        stage.begin();
        let recovered = waiter.join();
        let lived = mortal.join().is_some();
        assert!(!recovered || (!lived && inside.get()), "told of a death that was none");
        tally.count(usize::from(recovered));
        // Whatever it left is still to be had.
        let guard = lock.lock().unwrap();
        assert!(!guard.recovered() || inside.get());
        if guard.recovered() {
            data.repair();
        }
        data.whole();
    });
    assert!(tally.seen(1) > 0, "nobody was told");
}

/// Dies in the middle of its change.
fn die_inside(lock: &Lock, data: &Data) {
    let _guard = lock.lock().unwrap();
    data.tear();
    world::perish();
}

#[test]
fn an_owner_dies_and_two_wait() {
    crowd("lock, owner dies, 2 wait").all(|_| {
        let (lock, data) = (Lock::new().unwrap(), Data::default());
        let mut stage = Stage::default();
        let waiters = [(); 2].map(|()| {
            let (lock, data) = (lock.clone(), data.clone());
            stage.seated(move || visit(&lock, &data))
        });
        // Dead before the curtain rises, and when all have their slots: a claim would bury it.
        let (its_lock, its_data) = (lock.clone(), data.clone());
        let mortal = stage.asleep_mortal(u32::MAX, move || die_inside(&its_lock, &its_data));
        stage.begin();
        let told = waiters.map(|part| part.join());
        assert!(mortal.join().is_none());
        assert!(!(told[0] && told[1]), "two rescuers");
        let guard = lock.lock().unwrap();
        assert_eq!(guard.recovered(), !(told[0] || told[1]), "exactly one is told");
    });
}

#[test]
fn a_rescuer_dies_too() {
    let tally = crowd("lock, the rescuer dies too").each_death(|life, tally| {
        let (lock, data) = (Lock::new().unwrap(), Data::default());
        let mut stage = Stage::default();
        let (rescuer, inside) = mortal_visit(&mut stage, life, &lock, &data);
        let (its_lock, its_data) = (lock.clone(), data.clone());
        let last = stage.seated(move || visit(&its_lock, &its_data));
        let (its_lock, its_data) = (lock.clone(), data.clone());
        let first = stage.asleep_mortal(u32::MAX, move || die_inside(&its_lock, &its_data));
        stage.begin();
        let recovered = last.join();
        let rescued = rescuer.join();
        assert!(first.join().is_none());
        if let Some(first_told) = rescued {
            assert!(first_told != recovered, "one of the two is told");
            tally.count(0);
        } else if recovered && inside.get() {
            tally.count(1);
        }
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "the rescuer has died with the lock, and has not");
}

#[test]
fn a_manager_recovers_while_others_wait() {
    crowd("lock, owner dies, 1 waits, manager").each_death(|life, _| {
        let (lock, data) = (Lock::new().unwrap(), Data::default());
        let mut stage = Stage::default();
        let (mortal, inside) = mortal_visit(&mut stage, life, &lock, &data);
        let (its_lock, its_data) = (lock.clone(), data.clone());
        let waiter = stage.seated(move || visit(&its_lock, &its_data));
        stage.begin();
        let lived = mortal.join().is_some();
        if lived {
            assert!(recover(mortal.id).is_err());
        } else {
            assert!(recover(mortal.id).unwrap() <= 1);
            assert_eq!(recover(mortal.id).unwrap(), 0, "nothing is left to do");
        }
        let recovered = waiter.join();
        assert!(!recovered || (!lived && inside.get()), "told of a death that was none");
        let held = commons::harness::census();
        assert_eq!(held, if lived { 2 } else { 1 }, "the dead one's slot is free, the others' are not");
    });
}

/// With a manager that wakes them, waiters need no slices: the model lets none end.
#[test]
fn a_manager_alone_is_enough() {
    duet("lock, owner dies, manager, no slices").each_death(|life, _| {
        let (lock, data) = (Lock::new().unwrap(), Data::default());
        let mut stage = Stage::default();
        world::endless_slices();
        let (mortal, _) = mortal_visit(&mut stage, life, &lock, &data);
        let (its_lock, its_data) = (lock.clone(), data.clone());
        let waiter = stage.seated(move || visit(&its_lock, &its_data));
        stage.begin();
        if mortal.join().is_none() {
            assert!(recover(mortal.id).unwrap() <= 1);
        }
        waiter.join();
    });
}

#[test]
fn one_who_only_tries_takes_over() {
    crowd("lock, try_lock after a death").all(|_| {
        let (lock, data) = (Lock::new().unwrap(), Data::default());
        let mut stage = Stage::default();
        let tries = [(); 2].map(|()| {
            let (lock, data) = (lock.clone(), data.clone());
            stage.seated(move || {
                let guard = lock.try_lock().unwrap()?;
                if guard.recovered() {
                    data.repair();
                }
                data.whole();
                Some(guard.recovered())
            })
        });
        let (its_lock, its_data) = (lock.clone(), data.clone());
        let first = stage.asleep_mortal(u32::MAX, move || die_inside(&its_lock, &its_data));
        stage.begin();
        assert!(first.join().is_none());
        let told = tries.map(|part| part.join() == Some(true));
        assert!(!(told[0] && told[1]), "two rescuers");
        assert!(told[0] || told[1], "nobody has taken it, and its owner is dead");
        drop(lock.try_lock().unwrap().expect("it is free"));
    });
}
