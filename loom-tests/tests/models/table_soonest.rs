//! When the next row may expire: what a search for room may not overlook.

use std::time::Duration;

use commons::{Error, Outcome};
use loom_tests::{Stage, duet, go};

use crate::table::Twins;

/// A full table of one row whose time has been over once, so that whoever wants room searches; the row itself has an hour.
fn full() -> (Twins, &'static str, &'static str) {
    let twins = Twins::with(|builder| builder.capacity(1).buckets(2).ttl());
    let [old, new] = twins.strangers();
    twins.set_ttl(old, &[], Duration::ZERO).unwrap();
    assert_eq!(twins.set_ttl(old, &[], Duration::from_secs(3600)).unwrap(), Outcome::Inserted);
    (twins, old, new)
}

/// The feared race: a row's time is set to one that is over when a search has just passed it, and the search then says that none is.
#[test]
fn a_time_that_is_set_behind_a_search_is_found_by_the_next() {
    let tally = duet("table, a time set during a search").all(|tally| {
        let (twins, old, new) = full();
        // As in `table::a_row_is_handed_from_one_writer_to_another`.
        go();
        let mut stage = Stage::default();
        let its = twins.clone();
        let setter = stage.seated(move || assert!(its.expire_at(old, Some(std::time::Instant::now())).unwrap()));
        let its = twins.clone();
        let seeker = stage.seated(move || its.add(new, &[]));
        stage.begin();
        let first = seeker.join();
        setter.join();
        match first {
            Ok(inserted) => assert!(inserted),
            Err(told) => {
                assert!(matches!(told, Error::Full { capacity: 1 }), "{told}");
                assert!(twins.add(new, &[]).expect("the old one's time is over"));
            }
        }
        tally.count(usize::from(twins.stats().updates == 1));
        assert_eq!(twins.len(), 1);
    });
    assert!(tally.seen(1) > 0, "some");
}
