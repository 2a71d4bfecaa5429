//! The bus within one process: sizes, bounds, who comes after, awaiting.

use super::*;

const SOON: Duration = Duration::from_secs(5);

fn small() -> (Roll, Bus) {
    let roll = Roll::new(3).unwrap();
    let bus = Bus::new(&roll, BusSize { inbox: 4096, large: 4, bytes: 1 << 20 }).unwrap();
    (roll, bus)
}

#[test]
fn messages_of_any_size_come_in_order() {
    let (roll, bus) = small();
    let (me, other) = (roll.attach(0).unwrap(), Address { slot: 2, generation: 9 });
    let inbox = bus.inbox(&me).unwrap();
    assert_eq!(inbox.try_recv().unwrap(), None);
    let sizes = [0, 1, bus.inline(), bus.inline() + 1, 3, 1 << 19, 5];
    for (n, size) in sizes.iter().enumerate() {
        bus.send_timeout(other, 0, &vec![n as u8; *size], SOON).unwrap();
    }
    for (n, size) in sizes.iter().enumerate() {
        let got = inbox.recv_timeout(SOON).unwrap();
        assert_eq!((got.from, got.data), (other, vec![n as u8; *size]));
    }
    assert_eq!((inbox.try_recv().unwrap(), bus.usage()), (None, (0, 0)));
    assert!(matches!(inbox.recv_timeout(Duration::from_millis(1)), Err(Error::Timeout { .. })));
}

#[test]
fn it_is_bounded_and_says_so() {
    let (_roll, bus) = small();
    let nobody = Address::NOBODY;
    let fill = |data: &[u8]| (0..100).find_map(|_| bus.try_send(nobody, 1, data).err()).unwrap();
    assert!(matches!(fill(&[0; 1000]), Error::Full { .. }), "half of the lockers");
    assert_eq!(bus.usage(), (2, 2000));
    bus.try_send(nobody, 0, &[0; 1000]).expect("another one's half");
    assert!(matches!(fill(&[0; 100]), Error::Full { capacity: 4096 }));
    let late = bus.send_timeout(nobody, 1, &[0; 100], Duration::from_millis(2));
    assert!(matches!(late, Err(Error::Timeout { after }) if after == Duration::from_millis(2)));
    assert_eq!(bus.usage(), (3, 3000), "what was not sent is gone");
    assert!(bus.purge(1).unwrap() > 2 && bus.purge(0).unwrap() == 1);
    assert_eq!(bus.usage(), (0, 0));
    assert!(matches!(bus.try_send(nobody, 0, &vec![0; 2 << 20]), Err(Error::TooLong { .. })));
    assert!(matches!(bus.try_send(nobody, 3, b""), Err(Error::OutOfRange { value: 3, max: 2, .. })));
}

#[test]
fn who_comes_after_takes_over() {
    let (roll, bus) = small();
    std::thread::scope(|scope| {
        let took = scope.spawn(|| {
            let inbox = bus.inbox(&roll.attach(1).unwrap()).unwrap();
            bus.try_send(Address::NOBODY, 1, &[1; 9000]).unwrap();
            bus.try_send(Address::NOBODY, 1, &[2; 9]).unwrap();
            // It has the first in its hands when it ends.
            std::mem::forget(inbox.channel().unwrap().try_pop_lease().unwrap());
        });
        took.join().unwrap();
    });
    let tenancy = roll.attach(1).unwrap();
    let inbox = bus.inbox(&tenancy).unwrap();
    assert_eq!(tenancy.address().generation, 2);
    assert_eq!(inbox.recv_timeout(SOON).unwrap().data, [1; 9000]);
    assert_eq!(inbox.recv_timeout(SOON).unwrap().data, [2; 9]);
    std::thread::scope(|scope| {
        let error = scope.spawn(|| inbox.try_recv().unwrap_err()).join().unwrap();
        assert!(matches!(error, Error::WrongProcess { .. }));
    });
}

#[test]
fn it_is_awaited() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (roll, bus) = small();
    let me = roll.attach(0).unwrap();
    let inbox = bus.inbox(&me).unwrap();
    let total = 40;
    runtime.block_on(async {
        let send = async {
            for n in 0..total {
                bus.send(me.address(), 0, &vec![n as u8; 200 * n]).await.unwrap();
            }
        };
        let recv = async {
            for n in 0..total {
                assert_eq!(inbox.recv().await.unwrap().data, vec![n as u8; 200 * n]);
            }
        };
        tokio::join!(send, recv);
    });
    assert_eq!(bus.usage(), (0, 0));
}

#[test]
fn what_is_for_one_life_is_refused_once_that_is_gone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (roll, bus) = small();
    let (me, life) = (Address::NOBODY, roll.attach(1).unwrap());
    let to = life.address();
    let closed = |sent| matches!(sent, Err(Error::Closed));
    runtime.block_on(async {
        // Half of the lockers, then all of the ring.
        for len in [1000, 1000] {
            bus.send_to(me, to, &vec![0; len]).await.unwrap();
        }
        while bus.try_send(me, to.slot, &[0; 100]).is_ok() {}
        let mut life = Some(life);
        let leave = async {
            // The others wait by now.
            tokio::task::yield_now().await;
            life.take();
        };
        let (large, small) = (vec![0; 1000], [0; 100]);
        let (large, small, ()) = tokio::join!(bus.send_to(me, to, &large), bus.send_to(me, to, &small), leave);
        assert!(closed(large) && closed(small), "for room in which nobody will ever look");
        assert!(closed(bus.send_to(me, to, b"late").await));
        // Whoever has the slot next gets nothing of it, and has all the room.
        let next = roll.attach(1).unwrap();
        assert!(bus.purge(1).unwrap() > 10);
        assert_eq!(bus.usage(), (0, 0));
        assert!(closed(bus.send_to(me, to, b"late").await));
        bus.send_to(me, next.address(), b"hello").await.unwrap();
        let inbox = bus.inbox(&next).unwrap();
        assert_eq!(inbox.try_recv().unwrap().map(|message| message.data), Some(b"hello".to_vec()));
        // Gone between the last look and the push: the payload is taken back, and what is left of it in the ring is passed over.
        let looks = std::cell::Cell::new(0);
        let dies = || if looks.replace(looks.get() + 1) < 2 { Ok(()) } else { Err(Error::Closed) };
        assert!(closed(bus.send_while(me, 1, &[0; 1000], dies).await));
        assert_eq!((looks.get(), bus.usage()), (3, (0, 0)));
        assert_eq!(inbox.try_recv().unwrap(), None);
    });
}
