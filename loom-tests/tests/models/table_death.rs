//! The table, and those who die at any operation of a change, in the pool, or settling what another dead one has left.

use commons::harness::{sit, world};
use commons::{Error, Outcome};
use loom_tests::{Stage, crowd, duet, go};

use crate::table::Twins;

/// What must hold when nobody is in the middle of anything: the figures are those of the rows that a scan meets, each row is whole and
/// under its own key, and there is room for exactly as many as were promised.
fn in_order(twins: &Twins, keys: &[&str]) {
    let met = twins.scan();
    let there: Vec<_> = keys.iter().filter_map(|key| Some((key.to_string(), twins.look(key)?))).collect();
    let mut sorted = met.clone();
    sorted.sort();
    assert_eq!(sorted, there, "a scan meets what the keys find");
    let stats = twins.stats();
    assert_eq!(stats.rows, met.len() as u64, "{stats:?}");
    assert_eq!(stats.inserts - stats.deletes, stats.rows, "{stats:?}");
    let free = twins.capacity() - met.len();
    for (n, key) in ["0", "1", "2", "3"][..free].iter().enumerate() {
        assert!(twins.put(key, 1).is_ok(), "{n} of {free} rows are free");
    }
    assert!(matches!(twins.put("4", 1), Err(Error::Full { .. })), "a row too many");
}

/// Whether there was room.
fn fits(done: commons::Result<Outcome>) -> bool {
    match done {
        Ok(Outcome::Inserted) => true,
        Err(Error::Full { .. }) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_writer_dies_and_one_reads() {
    let tally = duet("table, writer dies, 1 reads").each_death(|life, tally| {
        let twins = Twins::new(1, 1);
        twins.put("a", 1).unwrap();
        let mut stage = Stage::default();
        let its = twins.clone();
        let mortal = stage.mortal(life, move || its.put("a", 2).unwrap());
        let its = twins.clone();
        let reader = stage.seated(move || its.look("a").unwrap());
        stage.begin();
        let seen = reader.join();
        let lived = mortal.join().is_some();
        // Without a manager: the last one looks for itself.
        let last = twins.look("a").unwrap();
        assert!(last >= seen && (last == 2 || !lived), "{seen}, then {last}");
        tally.count(usize::from(!lived) * last as usize);
        let stats = twins.stats();
        assert_eq!(stats.updates, last as u64 - 1, "the figure and the row are one");
        in_order(&twins, &["a"]);
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "it has died before its commit and after it");
}

#[test]
fn a_writer_dies_and_one_writes() {
    let tally = duet("table, writer dies, 1 writes").each_death(|life, tally| {
        let twins = Twins::new(1, 1);
        let mut stage = Stage::default();
        let its = twins.clone();
        let mortal = stage.mortal(life, move || its.upsert_with("a", |row| raise(&its, row)).unwrap());
        let its = twins.clone();
        let writer = stage.seated(move || its.upsert_with("a", |row| raise(&its, row)).unwrap());
        stage.begin();
        let sum = writer.join();
        let lived = mortal.join();
        let last = twins.look("a").unwrap();
        assert!(last >= sum && (last == 2 || lived.is_none()), "{sum}, then {last}");
        tally.count(usize::from(lived.is_none()) * last as usize);
        let stats = twins.stats();
        assert_eq!((stats.inserts, stats.updates), (1, last as u64 - 1), "the figures and the row are one");
        in_order(&twins, &["a"]);
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "it has died before its commit and after it");
}

fn raise(twins: &Twins, row: &mut commons::RowMut<'_>) -> i64 {
    let sum = row.get(twins.one) + 1;
    row.set(twins.one, sum);
    row.set(twins.two, sum);
    sum
}

/// It dies anywhere between the link that it cuts and the pool; another needs the row, in another bucket.
#[test]
fn a_deleter_dies_and_one_needs_the_row() {
    let tally = crowd("table, deleter dies, 1 inserts").each_death(|life, tally| {
        let twins = Twins::new(1, 2);
        let [mine, strange] = twins.strangers();
        twins.put(mine, 1).unwrap();
        // As in `table::a_row_is_handed_from_one_writer_to_another`.
        go();
        let mut stage = Stage::default();
        let its = twins.clone();
        let mortal = stage.mortal(life, move || assert!(its.del(mine)));
        let its = twins.clone();
        let inserter = stage.seated(move || fits(its.put(strange, 2)));
        stage.begin();
        let fitted = inserter.join();
        let lived = mortal.bury().is_some();
        tally.count(usize::from(!lived) + 2 * usize::from(fitted));
        assert_eq!(twins.look(strange), fitted.then_some(2));
        let kept = twins.look(mine);
        assert!(kept.is_none() || (kept == Some(1) && !lived && !fitted));
        in_order(&twins, &sorted(mine, strange));
    });
    assert!(tally.seen(1) > 0 && tally.seen(3) > 0, "the dead one's row was found, and was still its bucket's");
}

/// It dies anywhere between the pool and its link.
#[test]
fn an_inserter_dies_and_one_needs_the_row() {
    let tally = crowd("table, inserter dies, 1 inserts").each_death(|life, tally| {
        let twins = Twins::new(1, 2);
        let [mine, strange] = twins.strangers();
        let mut stage = Stage::default();
        let its = twins.clone();
        let mortal = stage.mortal(life, move || fits(its.put(mine, 1)));
        let its = twins.clone();
        let inserter = stage.seated(move || fits(its.put(strange, 2)));
        stage.begin();
        let fitted = inserter.join();
        let lived = mortal.bury();
        tally.count(usize::from(lived.is_none()) + 2 * usize::from(fitted));
        assert!(lived != Some(true) || !fitted, "two have the only row");
        assert_eq!(twins.look(strange), fitted.then_some(2));
        // Where the other found no room, the row was the mortal one's at that time, who may have died and lost it since.
        assert!(twins.look(mine).is_none_or(|value| value == 1 && !fitted));
        in_order(&twins, &sorted(mine, strange));
    });
    assert!(tally.seen(1) > 0 && tally.seen(3) > 0, "the dead one's row was found, and was the dead one's");
}

fn sorted<'k>(one: &'k str, other: &'k str) -> [&'k str; 2] {
    [one.min(other), one.max(other)]
}

/// Two deaths, one after the other: of a writer at any operation, and of whoever settles that, at any.
fn dies_and_so_does_the_rescuer(name: &'static str, full: bool) {
    let tally = crowd(name).each_two_deaths(move |[first, second], tally| {
        let twins = Twins::new(2, 1);
        twins.put("a", 1).unwrap();
        if full {
            twins.put("b", 1).unwrap();
        }
        let mut stage = Stage::default();
        let its = twins.clone();
        let change = move || if full { its.del("b") } else { fits(its.put("b", 1)) };
        let mortal = stage.asleep_mortal(first, change);
        let its = twins.clone();
        let rescuer = stage.mortal(second, move || its.incr("a", its.one, 1).unwrap());
        stage.begin();
        let died = [mortal.join().is_none(), rescuer.join().is_none()];
        // Who died before its commit has changed neither row nor figures, and after it both.
        let (last, stats) = (twins.value("a", twins.one).unwrap(), twins.stats());
        assert!(died[1] || last == 2);
        assert_eq!(stats.updates, last as u64 - 1, "{stats:?}");
        tally.count(2 * usize::from(died[0]) + usize::from(died[1]));
        twins.put("a", 1).unwrap();
        in_order(&twins, &["a", "b"]);
        died
    });
    assert!(tally.seen(2) > 20 && tally.seen(3) > 100, "one has died, and both");
}

#[test]
fn who_settles_an_inserter_dies_too() {
    dies_and_so_does_the_rescuer("table, inserter and rescuer die", false);
}

#[test]
fn who_settles_a_deleter_dies_too() {
    dies_and_so_does_the_rescuer("table, deleter and rescuer die", true);
}

/// A dead thread has the one record that all share: who wants it settles that.
#[test]
fn a_record_of_the_dead_is_to_be_had() {
    duet("table, records of the dead").all(|_| {
        let twins = Twins::new(2, 2);
        // The first seat, with a record of its own, is this thread's.
        sit().unwrap();
        let [dead, late] = twins.strangers();
        let mut stage = Stage::default();
        let its = twins.clone();
        let mortal = stage.asleep_mortal(u32::MAX, move || its.upsert_with(dead, |_| world::perish()).unwrap());
        let its = twins.clone();
        let writer = stage.seated(move || its.put(late, 1).unwrap());
        stage.begin();
        assert_eq!(writer.join(), Outcome::Inserted);
        let stats = twins.stats();
        assert_eq!((stats.rows, stats.inserts, stats.recoveries), (1, 1, 1), "{stats:?}");
        assert!(mortal.bury().is_none());
        assert_eq!([dead, late].map(|key| twins.look(key)), [None, Some(1)]);
        twins.put(dead, 1).unwrap();
    });
}

/// There are two records, one of them this thread's own and in use all the while, and two want the other. A wake-up may be lost here, and the end of a slice makes
/// it good: they die when they are through, so that slices end.
#[test]
fn two_wait_for_one_record() {
    crowd("table, 2 share a record").all(|_| {
        let twins = Twins::new(3, 3);
        sit().unwrap();
        let keys: [_; 3] = twins.strangers();
        keys.iter().for_each(|key| assert!(twins.put(key, 1).is_ok()));
        let mut stage = Stage::default();
        let mortals = [1, 2].map(|n| {
            let its = twins.clone();
            stage.mortal(u32::MAX, move || {
                assert_eq!(its.incr(keys[n], its.one, 1).unwrap(), 2);
                world::perish();
            })
        });
        let held = twins.update_with(keys[0], |_| {
            stage.begin();
            assert!(mortals.iter().all(|part| part.join().is_none()));
        });
        assert!(held.unwrap().is_some());
        assert_eq!(keys.map(|key| twins.value(key, twins.one)), [Some(1), Some(2), Some(2)]);
        assert_eq!(twins.stats().updates, 3);
    });
}

/// The record of a seat is as its last tenant left it, who died in the middle of a change. The next tenant uses another one as long as nobody has
/// settled that, and from then on its own, with the figures that were left in it.
#[test]
fn a_seat_has_a_new_tenant() {
    let tally = crowd("table, the next tenant of a seat").all(|tally| {
        let twins = Twins::new(2, 2);
        let [left, other] = twins.strangers();
        let mut stage = Stage::default();
        let its = twins.clone();
        let mortal = stage.asleep_mortal(u32::MAX, move || {
            its.put(left, 1).unwrap();
            its.update_with(left, |row| {
                row.set(its.one, 7);
                world::perish()
            })
        });
        assert!(mortal.bury().is_none());
        let its = twins.clone();
        let tenant = stage.seated(move || {
            its.put(other, 2).unwrap();
            its.stats().recoveries
        });
        let its = twins.clone();
        let reader = stage.seated(move || its.look(left).unwrap());
        stage.begin();
        tally.count(tenant.join() as usize);
        assert_eq!(reader.join(), 1);
        assert_eq!([left, other].map(|key| twins.look(key)), [Some(1), Some(2)]);
        let stats = twins.stats();
        assert_eq!((stats.inserts, stats.updates, stats.recoveries), (2, 0, 1), "{stats:?}");
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "settled after the new tenant's change, and before");
}
