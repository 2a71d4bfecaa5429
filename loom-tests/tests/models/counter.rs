//! The striped counter, and a stripe that goes from one tenant to the next.

use commons::harness::leave;
use commons::{Counter, recover};
use loom_tests::{Stage, crowd, duet};

#[test]
fn nothing_is_lost_when_a_stripe_is_handed_on() {
    duet("counter, 2 add, come and go").all(|_| {
        let n = Counter::new().unwrap();
        let mut stage = Stage::default();
        let parts = [1, 2].map(|by| {
            let n = n.clone();
            stage.standing(move || {
                n.add(by);
                leave();
            })
        });
        stage.begin();
        assert!((0..=3).contains(&n.get()));
        parts.iter().for_each(|part| part.join());
        assert_eq!(n.get(), 3);
    });
}

#[test]
fn a_stripe_of_the_dead_is_handed_on() {
    crowd("counter, one dies").each_death(|life, tally| {
        let n = Counter::new().unwrap();
        let mut stage = Stage::default();
        let its_n = n.clone();
        let mortal = stage.standing_mortal(life, move || {
            its_n.add(1);
            leave();
        });
        let its_n = n.clone();
        let other = stage.standing(move || its_n.add(2));
        stage.begin();
        other.join();
        let lived = mortal.join().is_some();
        if !lived {
            recover(mortal.id).unwrap();
        }
        assert!(n.get() == 3 || (n.get() == 2 && !lived));
        tally.count(n.get() as usize);
    });
}
