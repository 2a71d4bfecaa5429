//! The robust lock; nobody dies.

use commons::Lock;
use loom_tests::{Data, Stage, crowd, duet};

#[test]
fn two_threads_exclude_each_other() {
    let tally = duet("lock, 2 threads").all(|tally| {
        let (lock, data) = (Lock::new().unwrap(), Data::default());
        let mut stage = Stage::default();
        let parts = [(); 2].map(|()| {
            let (lock, data) = (lock.clone(), data.clone());
            stage.seated(move || {
                let guard = lock.lock().unwrap();
                assert!(!guard.recovered());
                data.raise();
                data.whole()
            })
        });
        stage.begin();
        let order = parts.map(|part| part.join());
        assert_eq!(data.whole(), 2);
        tally.count(usize::from(order[0] == 1));
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "each has been first");
}

#[test]
fn three_threads_and_their_sleepers() {
    crowd("lock, 3 threads").all(|_| {
        let (lock, data) = (Lock::new().unwrap(), Data::default());
        let mut stage = Stage::default();
        let parts = [(); 3].map(|()| {
            let (lock, data) = (lock.clone(), data.clone());
            stage.seated(move || {
                let _guard = lock.lock().unwrap();
                data.raise();
            })
        });
        stage.begin();
        parts.iter().for_each(|part| part.join());
        assert_eq!(data.whole(), 3);
    });
}

#[test]
fn one_who_only_tries() {
    let tally = duet("lock, try_lock").all(|tally| {
        let (lock, data) = (Lock::new().unwrap(), Data::default());
        let mut stage = Stage::default();
        let (its_lock, its_data) = (lock.clone(), data.clone());
        let owner = stage.seated(move || {
            for _ in 0..2 {
                let _guard = its_lock.lock().unwrap();
                its_data.raise();
            }
        });
        let (its_lock, its_data) = (lock.clone(), data.clone());
        let tries = stage.seated(move || {
            let guard = its_lock.try_lock().unwrap();
            assert!(!guard.as_ref().is_some_and(|guard| guard.recovered()));
            if guard.is_some() {
                its_data.raise();
            }
            guard.is_some()
        });
        stage.begin();
        owner.join();
        let got = tries.join();
        assert_eq!(data.whole(), 2 + u32::from(got));
        tally.count(usize::from(got));
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "it has got it, and has not");
}
