//! The barrier, with and without deaths.

use commons::Barrier;
use commons::harness::{sit, world};
use loom_tests::{Data, Stage, crowd, duet};

#[test]
fn two_meet() {
    let tally = duet("barrier, 2 parties").all(|tally| {
        let (barrier, before) = (Barrier::new(2).unwrap(), [Data::default(), Data::default()]);
        let mut stage = Stage::default();
        let parts = [0, 1].map(|me: usize| {
            let (barrier, before) = (barrier.clone(), before.clone());
            stage.seated(move || {
                before[me].raise();
                let leads = barrier.wait().unwrap();
                assert_eq!(before[1 - me].whole(), 1, "what the other did before is seen");
                leads
            })
        });
        stage.begin();
        let leads = parts.map(|part| part.join());
        assert!(leads[0] != leads[1], "one of the two leads");
        tally.count(usize::from(leads[0]));
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "each has led");
}

#[test]
fn they_meet_again() {
    crowd("barrier, 2 parties, 2 rounds").all(|_| {
        let barrier = Barrier::new(2).unwrap();
        let mut stage = Stage::default();
        let parts = [(); 2].map(|()| {
            let barrier = barrier.clone();
            stage.seated(move || u32::from(barrier.wait().unwrap()) + u32::from(barrier.wait().unwrap()))
        });
        stage.begin();
        assert_eq!(parts.iter().map(|part| part.join()).sum::<u32>(), 2, "a leader a round");
    });
}

/// One that is asleep there dies; two more come, and meet each other. One that lives is met by main.
#[test]
fn one_that_dies_asleep_is_not_counted() {
    crowd("barrier, one dies asleep").each_death(|life, _| {
        let barrier = Barrier::new(2).unwrap();
        // Everybody has a slot before the death, or the claim would bury the dead.
        sit().unwrap();
        let mut stage = Stage::default();
        let others = [(); 2].map(|()| {
            let barrier = barrier.clone();
            stage.seated(move || world::deaths() > 0 && barrier.wait().unwrap())
        });
        let its_barrier = barrier.clone();
        let mortal = stage.asleep_mortal(life, move || its_barrier.wait().unwrap());
        let died = world::deaths() > 0;
        if !died {
            stage.begin();
            others.iter().for_each(|part| assert!(!part.join()));
            assert!(barrier.wait().unwrap());
            assert!(mortal.join() != Some(true));
            return;
        }
        stage.begin();
        let leads = others.map(|part| part.join());
        assert!(leads[0] != leads[1], "the two have met each other");
    });
}

#[test]
fn the_last_to_arrive_dies() {
    crowd("barrier, the last dies").each_death(|life, tally| {
        let barrier = Barrier::new(2).unwrap();
        let mut stage = Stage::default();
        let its_barrier = barrier.clone();
        let first = stage.asleep(move || its_barrier.wait().unwrap());
        let its_barrier = barrier.clone();
        let mortal = stage.mortal(life, move || its_barrier.wait().unwrap());
        stage.begin();
        let through = mortal.join().is_some();
        // If it did not complete the round, another does in its place; if it did, nobody is there to meet.
        let alone = barrier.wait_timeout(std::time::Duration::ZERO).is_err();
        assert!(alone || !through, "somebody was left behind");
        assert!(!first.join());
        tally.count(usize::from(alone));
    });
}
