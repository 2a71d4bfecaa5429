//! The vault within one process: what stays, what goes, its bounds.

use super::*;

fn payload(n: usize) -> Vec<u8> {
    (0..n).map(|at| at as u8).collect()
}

#[test]
fn a_payload_is_there_until_it_is_freed() {
    let vault = Vault::new(2, 1 << 20).unwrap();
    let deposit = vault.deposit(NO_ACCOUNT, &payload(70_000)).unwrap();
    let ticket = Ticket::of_words(deposit.ticket().words());
    deposit.sent();
    assert_eq!(vault.read(ticket).unwrap().unwrap(), payload(70_000));
    assert_eq!(vault.read(ticket).unwrap().unwrap(), payload(70_000), "as often as asked");
    assert_eq!(vault.usage(), (1, 70_000));
    vault.free(ticket);
    vault.free(ticket);
    assert_eq!((vault.read(ticket).unwrap(), vault.usage()), (None, (0, 0)));
    // The locker is somebody else's now.
    let next = vault.deposit(NO_ACCOUNT, b"next").unwrap();
    vault.free(ticket);
    assert_eq!(vault.read(ticket).unwrap(), None);
    assert_eq!(vault.read(next.ticket()).unwrap().unwrap(), b"next", "a reader may be faster than `sent`");
    drop(next);
    vault.free(Ticket::NONE);
}

#[test]
fn what_is_not_sent_is_taken_out_again() {
    let vault = Vault::new(2, 100).unwrap();
    let ticket = vault.deposit(NO_ACCOUNT, b"x").unwrap().ticket(); // dropped
    assert_eq!((vault.read(ticket).unwrap(), vault.usage()), (None, (0, 0)));
    // By one who ended in the middle.
    let left = std::thread::scope(|scope| {
        let vault = &vault;
        let forget = || std::mem::forget((vault.deposit(0, b"y").unwrap(), vault.deposit(1, b"z").unwrap()));
        scope.spawn(forget).join().unwrap();
        vault.usage()
    });
    assert_eq!(left, (2, 2));
    let deposit = vault.deposit(0, &[0; 100]).expect("both are taken from the dead");
    assert_eq!(vault.usage(), (1, 100));
    drop(deposit);
}

#[test]
fn it_is_bounded() {
    let vault = Vault::new(4, 1000).unwrap();
    let refused = |account, len| vault.deposit(account, &payload(len)).map(|_| ()).unwrap_err();
    assert!(matches!(refused(0, 1001), Error::TooLong { len: 1001, max: 1000 }));
    let one = vault.deposit(0, &payload(600)).unwrap();
    assert!(matches!(refused(1, 401), Error::Full { capacity: 1000 }));
    let two = vault.deposit(0, &payload(1)).unwrap();
    assert!(matches!(refused(0, 1), Error::Full { .. }), "half of the lockers are one account's");
    let others: Vec<_> = (0..2).map(|_| vault.deposit(NO_ACCOUNT, &payload(1)).unwrap()).collect();
    assert!(matches!(refused(1, 1), Error::Full { .. }));
    drop((one, two, others));
    let patience = Patience::lasting(Duration::from_millis(30));
    let all = vault.deposit(1, &payload(1000)).unwrap();
    assert!(matches!(vault.deposit_waiting(1, b"x", patience), Err(Error::Timeout { .. })));
    let ticket = all.ticket();
    all.sent();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(vault.deposit_waiting(1, b"x", Patience::Endless).unwrap()));
        vault.free(ticket);
        waiter.join().unwrap();
    });
    assert!(Vault::new(1, 10).is_err() && Vault::new(257, 10).is_err());
}

#[test]
fn who_waits_for_room_is_told() {
    let vault = Vault::new(2, 100).unwrap();
    for sent in [false, true] {
        let deposit = vault.deposit(0, &payload(100)).unwrap();
        let ticket = deposit.ticket();
        vault.bell().arm();
        if sent {
            deposit.sent();
            vault.free(ticket);
        } else {
            drop(deposit);
        }
        assert_eq!(vault.bell().rings(), 1, "not by the end of a slice");
        vault.bell().wait(Patience::Endless).unwrap();
    }
}

#[test]
fn who_was_stopped_at_the_door_keeps_a_thread_for_a_moment_only() {
    let vault = Vault::new(2, 100).unwrap();
    let quickest = std::thread::scope(|scope| {
        let (inner, (held, holds), (done, over)) =
            (&*vault.inner, std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        scope.spawn(move || {
            let lock = inner.door.lock.acquire(inner.key, "vault", Patience::Endless).unwrap();
            held.send(()).unwrap();
            let _ = over.recv();
            inner.door.lock.release(lock);
        });
        holds.recv().unwrap();
        let refused = || {
            let began = std::time::Instant::now();
            assert!(matches!(vault.deposit(NO_ACCOUNT, b"x"), Err(Error::Full { .. })));
            began.elapsed()
        };
        let quickest = (0..5).map(|_| refused()).min().unwrap();
        drop(done);
        quickest
    });
    assert!(
        quickest < Duration::from_millis(15),
        "{quickest:?}, and each of those who wait in an event loop takes as long"
    );
    drop(vault.deposit(NO_ACCOUNT, b"x").unwrap());
}
