//! The semaphore, with and without deaths.

use commons::harness::world;
use commons::{Semaphore, recover};
use loom_tests::{Data, Part, Stage, crowd, duet};

#[test]
fn one_permit_excludes() {
    duet("semaphore, 1 permit, 2 threads").all(|_| {
        let (seats, data) = (Semaphore::new(1).unwrap(), Data::default());
        let mut stage = Stage::default();
        let parts = [(); 2].map(|()| {
            let (seats, data) = (seats.clone(), data.clone());
            stage.seated(move || {
                seats.acquire().unwrap();
                data.raise();
                seats.release().unwrap();
            })
        });
        stage.begin();
        parts.iter().for_each(Part::join);
        assert_eq!((data.whole(), seats.available()), (2, 1));
    });
}

#[test]
fn one_release_wakes_one_of_two() {
    crowd("semaphore, 2 asleep").all(|_| {
        let seats = Semaphore::new(1).unwrap();
        seats.acquire().unwrap();
        let mut stage = Stage::default();
        let parts = [(); 2].map(|()| {
            let seats = seats.clone();
            stage.asleep(move || {
                seats.acquire().unwrap();
                seats.release().unwrap();
            })
        });
        stage.begin();
        seats.release().unwrap();
        parts.iter().for_each(Part::join);
        assert_eq!(seats.available(), 1);
    });
}

#[test]
fn one_who_only_tries() {
    let tally = duet("semaphore, try_acquire").all(|tally| {
        let (seats, data) = (Semaphore::new(1).unwrap(), Data::default());
        let mut stage = Stage::default();
        let (its_seats, its_data) = (seats.clone(), data.clone());
        let holder = stage.seated(move || {
            its_seats.acquire().unwrap();
            its_data.raise();
            its_seats.release().unwrap();
        });
        let (its_seats, its_data) = (seats.clone(), data.clone());
        let tries = stage.seated(move || {
            let got = its_seats.try_acquire().unwrap();
            if got {
                its_data.raise();
                its_seats.release().unwrap();
            }
            got
        });
        stage.begin();
        holder.join();
        let got = tries.join();
        assert_eq!((data.whole(), seats.available()), (1 + u32::from(got), 1));
        tally.count(usize::from(got));
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0);
}

#[test]
fn a_holder_dies() {
    crowd("semaphore, the holder dies").each_death(|life, _| {
        let seats = Semaphore::new(1).unwrap();
        let mut stage = Stage::default();
        let its_seats = seats.clone();
        let mortal = stage.mortal(life, move || {
            its_seats.acquire().unwrap();
            its_seats.release().unwrap();
        });
        let its_seats = seats.clone();
        let other = stage.seated(move || {
            its_seats.acquire().unwrap();
            its_seats.release().unwrap();
        });
        stage.begin();
        other.join();
        if mortal.join().is_none() {
            assert!(recover(mortal.id).unwrap() <= 1);
        }
        assert!(seats.try_acquire().unwrap(), "a permit is lost");
        assert!(!seats.try_acquire().unwrap(), "a permit too many");
    });
}

/// Dies holding the only permit while another sleeps; no slice ends, so burial must wake it.
#[test]
fn the_manager_wakes_those_who_wait_for_the_dead() {
    duet("semaphore, the holder dies, manager").all(|_| {
        let seats = Semaphore::new(1).unwrap();
        let mut stage = Stage::default();
        world::endless_slices();
        let its_seats = seats.clone();
        let mortal = stage.mortal(u32::MAX, move || {
            its_seats.acquire().unwrap();
            world::perish();
        });
        let its_seats = seats.clone();
        let other = stage.seated(move || {
            its_seats.acquire().unwrap();
            its_seats.release().unwrap();
        });
        stage.begin();
        assert!(mortal.join().is_none() || unreachable!());
        recover(mortal.id).unwrap();
        other.join();
        assert!(seats.try_acquire().unwrap(), "a permit is lost");
        assert!(!seats.try_acquire().unwrap(), "a permit too many");
    });
}
