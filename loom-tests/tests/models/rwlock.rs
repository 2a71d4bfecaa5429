//! The read-write lock, with and without deaths.

use std::cell::Cell;
use std::rc::Rc;

use commons::harness::world;
use commons::{RwLock, recover};
use loom_tests::{Data, Part, Stage, crowd, duet};

fn reader(stage: &mut Stage, lock: &RwLock, data: &Data) -> Part<u32> {
    let (lock, data) = (lock.clone(), data.clone());
    stage.seated(move || {
        let guard = lock.read().unwrap();
        assert!(!guard.recovered());
        data.whole()
    })
}

fn writer(stage: &mut Stage, lock: &RwLock, data: &Data) -> Part<()> {
    let (lock, data) = (lock.clone(), data.clone());
    stage.seated(move || {
        let guard = lock.write().unwrap();
        assert!(!guard.recovered());
        data.whole();
        data.raise();
    })
}

#[test]
fn a_reader_and_a_writer() {
    let tally = duet("rwlock, reader and writer").all(|tally| {
        let (lock, data) = (RwLock::new().unwrap(), Data::default());
        let mut stage = Stage::default();
        let reader = reader(&mut stage, &lock, &data);
        let writer = writer(&mut stage, &lock, &data);
        stage.begin();
        tally.count(reader.join() as usize);
        writer.join();
        assert_eq!(data.whole(), 1);
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "each has been first");
}

#[test]
fn two_writers() {
    duet("rwlock, 2 writers").all(|_| {
        let (lock, data) = (RwLock::new().unwrap(), Data::default());
        let mut stage = Stage::default();
        let writers = [(); 2].map(|()| writer(&mut stage, &lock, &data));
        stage.begin();
        writers.iter().for_each(Part::join);
        assert_eq!(data.whole(), 2);
    });
}

/// A writer waits for one reader to leave, and another reader comes meanwhile.
#[test]
fn two_readers_and_a_writer() {
    let tally = crowd("rwlock, 2 readers, 1 writer").all(|tally| {
        let (lock, data) = (RwLock::new().unwrap(), Data::default());
        let mine = lock.read().unwrap();
        let mut stage = Stage::default();
        let (its_lock, its_data) = (lock.clone(), data.clone());
        let writer = stage.asleep(move || {
            let _guard = its_lock.write().unwrap();
            its_data.raise();
        });
        let other = reader(&mut stage, &lock, &data);
        stage.begin();
        assert_eq!(data.whole(), 0, "the writer waits");
        drop(mine);
        tally.count(other.join() as usize);
        writer.join();
    });
    assert!(tally.seen(1) > 0, "the other reader has come after the writer");
}

#[test]
fn those_who_only_try() {
    let tally = duet("rwlock, tries").all(|tally| {
        let (lock, data) = (RwLock::new().unwrap(), Data::default());
        let mut stage = Stage::default();
        let (its_lock, its_data) = (lock.clone(), data.clone());
        let writer = stage.seated(move || {
            let guard = its_lock.try_write().unwrap();
            guard.map(|_guard| its_data.raise()).is_some()
        });
        let (its_lock, its_data) = (lock.clone(), data.clone());
        let reader = stage.seated(move || {
            let guard = its_lock.try_read().unwrap();
            guard.map(|_guard| its_data.whole()).is_some()
        });
        stage.begin();
        tally.count(usize::from(writer.join()) + 2 * usize::from(reader.join()));
    });
    assert!((1..4).all(|what| tally.seen(what) > 0), "one, the other, and both");
}

#[test]
fn a_reader_dies() {
    crowd("rwlock, the reader dies").each_death(|life, _| {
        let (lock, data) = (RwLock::new().unwrap(), Data::default());
        let mut stage = Stage::default();
        let (its_lock, its_data) = (lock.clone(), data.clone());
        let mortal = stage.mortal(life, move || {
            let _guard = its_lock.read().unwrap();
            its_data.whole();
            world::breathe();
        });
        let (its_lock, its_data) = (lock.clone(), data.clone());
        let writer = stage.seated(move || {
            let _guard = its_lock.write().unwrap();
            its_data.raise();
        });
        stage.begin();
        writer.join();
        if mortal.join().is_none() {
            assert!(recover(mortal.id).unwrap() <= 1);
        }
        assert!(lock.try_write().unwrap().is_some(), "nobody reads");
    });
}

/// No slices: burial alone must wake the writer.
#[test]
fn a_reader_dies_and_the_manager_wakes_the_writer() {
    crowd("rwlock, the reader dies, manager").each_death(|life, _| {
        let lock = RwLock::new().unwrap();
        let mut stage = Stage::default();
        world::endless_slices();
        let its_lock = lock.clone();
        let mortal = stage.mortal(life, move || {
            let _guard = its_lock.read().unwrap();
            world::breathe();
        });
        let its_lock = lock.clone();
        let writer = stage.seated(move || drop(its_lock.write().unwrap()));
        stage.begin();
        if mortal.join().is_none() {
            assert!(recover(mortal.id).unwrap() <= 1);
        }
        writer.join();
    });
}

#[test]
fn a_writer_dies() {
    let tally = crowd("rwlock, the writer dies").each_death(|life, tally| {
        let (lock, data, inside) = (RwLock::new().unwrap(), Data::default(), Rc::new(Cell::new(false)));
        let mut stage = Stage::default();
        let (its_lock, its_data, its_inside) = (lock.clone(), data.clone(), inside.clone());
        let mortal = stage.mortal(life, move || {
            let guard = its_lock.write().unwrap();
            its_inside.set(true);
            its_data.raise();
            drop(guard);
            its_inside.set(false);
        });
        let (its_lock, its_data) = (lock.clone(), data.clone());
        let reader = stage.seated(move || {
            let guard = its_lock.read().unwrap();
            if !guard.recovered() {
                its_data.whole();
            }
            guard.recovered()
        });
        stage.begin();
        let told = reader.join();
        let lived = mortal.join().is_some();
        // A writer that dies before it has waited for the readers has not written; they are told all the same.
        assert!(!told || !lived);
        tally.count(usize::from(told));
        let guard = lock.write().unwrap();
        assert!(guard.recovered() || !told, "a reader passes the news on");
        if guard.recovered() {
            data.repair();
        }
        data.whole();
        drop(guard);
        assert!(!lock.read().unwrap().recovered(), "repaired");
    });
    assert!(tally.seen(1) > 0, "no reader was told");
}
