//! Atomic and AtomicLong against integers.

use std::time::Duration;

use arbitrary::Arbitrary;
use commons::{Atomic, AtomicLong};

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Op {
    Get,
    Set(i64),
    Add(i64),
    Sub(i64),
    /// Exchanges for the second when the value is the first.
    Cmpset(i64, i64),
    /// Exchanges for this when the value is what the model says it is.
    CmpsetRight(i64),
    Wait,
    Wakeup(u8),
    /// Waits while it is this, which it may or may not be.
    WaitWhile(i64),
    WaitWhileRight,
    Notify(u8),
}

macro_rules! model {
    ($name:ident, $ours:ident, $int:ty) => {
        fn $name(cell: &$ours, ops: &[Op]) {
            let now = Some(Duration::ZERO);
            cell.set(0);
            let mut model: $int = 0;
            for op in ops {
                match *op {
                    Op::Get => {}
                    Op::Set(v) => {
                        cell.set(v as $int);
                        model = v as $int;
                    }
                    Op::Add(n) => {
                        model = model.wrapping_add(n as $int);
                        assert_eq!(cell.add(n as $int), model, "{op:?}");
                    }
                    Op::Sub(n) => {
                        model = model.wrapping_sub(n as $int);
                        assert_eq!(cell.sub(n as $int), model, "{op:?}");
                    }
                    Op::Cmpset(expected, new) => {
                        let same = model == expected as $int;
                        assert_eq!(cell.cmpset(expected as $int, new as $int), same, "{op:?}");
                        model = if same { new as $int } else { model };
                    }
                    Op::CmpsetRight(new) => {
                        assert!(cell.cmpset(model, new as $int), "{op:?}");
                        model = new as $int;
                    }
                    Op::Wait => {
                        assert_eq!(cell.wait(now), model > 0, "{op:?}");
                        model -= <$int>::from(model > 0);
                    }
                    Op::Wakeup(n) => {
                        assert_eq!(cell.wakeup(n.into()), 0, "nobody sleeps");
                        model += <$int>::from(model == 0 && n > 0);
                    }
                    Op::WaitWhile(v) => assert_eq!(cell.wait_while(v as $int, now), model != v as $int, "{op:?}"),
                    Op::WaitWhileRight => assert!(!cell.wait_while(model, now), "{op:?}"),
                    Op::Notify(n) => assert_eq!(cell.notify(n.into()), 0, "nobody sleeps"),
                }
                assert_eq!(cell.get(), model, "after {op:?}");
            }
        }
    };
}

model!(small, Atomic, u32);
model!(large, AtomicLong, i64);

thread_local! {
    static CELLS: (Atomic, Atomic, AtomicLong, AtomicLong) = (
        Atomic::new(0).unwrap(),
        Atomic::packed(0).unwrap(),
        AtomicLong::new(0).unwrap(),
        AtomicLong::packed(0).unwrap(),
    );
}

pub(crate) fn model(ops: &[Op]) {
    CELLS.with(|(a, b, c, d)| {
        small(a, ops);
        small(b, ops);
        large(c, ops);
        large(d, ops);
    });
}
