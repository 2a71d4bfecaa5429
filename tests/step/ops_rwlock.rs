//! RwLock: neither a dead reader nor a dead writer keeps anybody out; living ones do.

use commons::{Error, ReadGuard, WriteGuard};

use crate::checker::{Death, SOON};
use crate::image::RawSlot;
use crate::kit::{Check, ensure, report, within};
use crate::op::{Act, Op};
use crate::world::{DIRTY, MS, OWNER, RW, World};

pub fn all() -> Vec<Op> {
    let ops = vec![
        Op::new("read_first_use", |w| Box::new(move || read(w.rw.read())), open),
        Op::new(
            "read",
            |w| {
                w.sit_down();
                Box::new(move || read(w.rw.read()))
            },
            open,
        ),
        // Its note is not the first of its ledger: who has the slot next writes over others only.
        Op::new(
            "read_holding_a_lock",
            |w| {
                std::mem::forget(w.lock.lock());
                Box::new(move || read(w.rw.read()))
            },
            open,
        ),
        Op::new("unread", |w| unread(w), open),
        Op::new(
            "write",
            |w| {
                w.sit_down();
                Box::new(move || write(w.rw.write()))
            },
            open,
        )
        .last(1),
        Op::new("unwrite", |w| unwrite(w), open).last(2),
        Op::new(
            "try_read_free",
            |w| {
                w.sit_down();
                Box::new(move || read(w.rw.try_read().map(Option::unwrap)))
            },
            open,
        ),
        Op::new(
            "try_write_free",
            |w| {
                w.sit_down();
                Box::new(move || write(w.rw.try_write().map(Option::unwrap)))
            },
            open,
        )
        .last(1),
        Op::new(
            "read_beside_a_reader",
            |w| {
                w.sit_down();
                Box::new(move || read(w.rw.read()))
            },
            read_by_another,
        )
        .arrange(reader),
        Op::new(
            "try_read_written",
            |w| {
                w.sit_down();
                Box::new(move || report(w.rw.try_read().expect("a seat").is_some().into()))
            },
            written,
        )
        .arrange(writer),
        Op::new(
            "try_write_read",
            |w| {
                w.sit_down();
                Box::new(move || report(w.rw.try_write().expect("a seat").is_some().into()))
            },
            read_by_another,
        )
        .arrange(reader),
        Op::new(
            "try_write_written",
            |w| {
                w.sit_down();
                Box::new(move || report(w.rw.try_write().expect("a seat").is_some().into()))
            },
            written,
        )
        .arrange(writer),
        Op::new(
            "write_timeout_read",
            |w| {
                w.sit_down();
                Box::new(move || timed_out(w.rw.write_timeout(MS).map(drop)))
            },
            read_by_another,
        )
        .arrange(reader),
        Op::new(
            "read_timeout_written",
            |w| {
                w.sit_down();
                Box::new(move || timed_out(w.rw.read_timeout(MS).map(drop)))
            },
            written,
        )
        .arrange(writer),
        Op::new(
            "read_dirty",
            |w| {
                w.sit_down();
                Box::new(move || read(w.rw.read()))
            },
            open,
        )
        .arrange(|w| {
            writer(w);
            w.slay(0, true);
            commons::recover(w.corpses[0] as u32).expect("gone");
        }),
        Op::new(
            "read_dead_writer",
            |w| {
                w.sit_down();
                Box::new(move || read(w.rw.read()))
            },
            open,
        )
        .arrange(writer)
        .meanwhile(|w| _ = w.slay(0, true)),
        Op::new(
            "write_dead_writer",
            |w| {
                w.sit_down();
                Box::new(move || write(w.rw.write()))
            },
            open,
        )
        .arrange(writer)
        .meanwhile(|w| _ = w.slay(0, true)),
        Op::new(
            "write_dead_reader",
            |w| {
                w.sit_down();
                Box::new(move || write(w.rw.write()))
            },
            open,
        )
        .arrange(reader)
        .meanwhile(|w| _ = w.slay(0, false))
        .last(1),
        Op::new(
            "try_write_dead_reader",
            |w| {
                w.sit_down();
                Box::new(move || write(w.rw.try_write().map(Option::unwrap)))
            },
            open,
        )
        .arrange(reader)
        .meanwhile(|w| _ = w.slay(0, true))
        .last(1),
        Op::new("unread_writer_sleeps", |w| unread(w), writer_follows)
            .meanwhile(|w| follow(w, |w| std::mem::forget(w.rw.write()), |w, _| w.word(RW + 8) & 1 == 1)),
        Op::new("unwrite_reader_sleeps", |w| unwrite(w), reader_follows)
            .meanwhile(|w| follow(w, |w| std::mem::forget(w.rw.read()), |w, _| w.word(RW) & (1 << 31) != 0)),
        Op::new(
            "write_while_reading",
            |w| {
                std::mem::forget(w.rw.read());
                Box::new(move || deadlocks(w))
            },
            open,
        ),
    ];
    let drops_by: fn(&World) = |w| {
        drop(w.rw.try_read());
        drop(w.rw.try_write());
    };
    ops.into_iter().map(|op| op.alive(alive).rescue(drops_by)).collect()
}

fn read(guard: commons::Result<ReadGuard>) {
    let guard = guard.expect("it can be had");
    report(guard.recovered().into());
    std::mem::forget(guard);
}

fn write(guard: commons::Result<WriteGuard>) {
    let guard = guard.expect("it can be had");
    report(guard.recovered().into());
    std::mem::forget(guard);
}

fn unread(world: &World) -> Act<'_> {
    let guard = world.rw.read().expect("free");
    Box::new(move || {
        drop(guard);
        report(0);
    })
}

fn unwrite(world: &World) -> Act<'_> {
    let guard = world.rw.write().expect("free");
    Box::new(move || {
        drop(guard);
        report(0);
    })
}

fn timed_out(result: commons::Result<()>) {
    report(matches!(result, Err(Error::Timeout { .. })).into());
}

fn deadlocks(world: &World) {
    report(matches!(world.rw.write(), Err(Error::WouldDeadlock { .. })).into());
}

fn reader(world: &mut World) {
    world.holder(|w| std::mem::forget(w.rw.read()));
}

fn writer(world: &mut World) {
    world.holder(|w| std::mem::forget(w.rw.write()));
}

fn follow(world: &mut World, take: fn(&World), asleep: fn(&World, i32) -> bool) {
    let takes = move |w: &World| {
        take(w);
        1
    };
    world.sleeper(takes, asleep);
}

/// Nobody alive has it: readers get in, then a writer, and all are told of a dead writer until one has repaired.
fn open(world: &World, death: &Death) -> Check {
    let word = world.word(RW);
    let died = word & (OWNER | DIRTY) != 0;
    death.recover(world)?;
    let text = |e: Error| e.to_string();
    // Who only reads does not repair: the news is passed on.
    let reading = if death.at_once(world) {
        world.rw.try_read().map_err(text)?.ok_or("try_read is refused by the dead")?
    } else {
        world.rw.read_timeout(SOON).map_err(text)?
    };
    ensure!(reading.recovered() == died, "a reader is told {}, the word was {word:#x}", reading.recovered());
    ensure!(matches!(world.rw.write(), Err(Error::WouldDeadlock { .. })), "writing while reading is not refused");
    drop(reading);
    let writing = if death.at_once(world) {
        world.rw.try_write().map_err(text)?.ok_or("try_write is refused by the dead")?
    } else {
        world.rw.write_timeout(SOON).map_err(text)?
    };
    ensure!(writing.recovered() == died, "a writer is told {}, the word was {word:#x}", writing.recovered());
    drop(writing);
    let reading = world.rw.try_read().map_err(text)?.ok_or("a reader is kept out after a writer")?;
    ensure!(!reading.recovered(), "readers are told of a death that a writer has repaired");
    drop(reading);
    let writing = world.rw.try_write().map_err(text)?.ok_or("a writer is kept out after a reader")?;
    ensure!(!writing.recovered(), "a writer is told twice");
    ensure!(world.word(RW + 8) & 1 == 0, "the drain bit stays set");
    Ok(if word & DIRTY != 0 && world.corpses.is_empty() { 2 } else { (word >> 32) * 2 + u64::from(word & OWNER != 0) })
}

/// A living process reads: others read too, nobody writes.
fn read_by_another(world: &World, death: &Death) -> Check {
    let word = world.word(RW);
    let died = word & (OWNER | DIRTY) != 0;
    let slot = RawSlot::of(world.helpers[0].pid).ok_or("the reader has lost its slot")?;
    death.recover(world)?;
    let text = |e: Error| e.to_string();
    let reading = world.rw.read_timeout(SOON).map_err(text)?;
    ensure!(reading.recovered() == died, "a reader is told {}, the word was {word:#x}", reading.recovered());
    drop(reading);
    ensure!(world.rw.try_write().map_err(text)?.is_none(), "a writer gets in beside a living reader");
    let waited = world.rw.write_timeout(MS);
    ensure!(matches!(waited, Err(Error::Timeout { .. })), "a writer that waits for a living reader gets {waited:?}");
    ensure!(slot.holds(2) == 1, "a living reader has lost its note");
    let reading = world.rw.read_timeout(SOON).map_err(text)?;
    ensure!(reading.recovered() == died, "writers that gave up lost the news of a death");
    Ok(0)
}

/// A living process writes: nobody else does anything.
fn written(world: &World, death: &Death) -> Check {
    let slot = RawSlot::of(world.helpers[0].pid).ok_or("the writer has lost its slot")?;
    let names_writer = || world.word(RW) & 0xfff == slot.index as u64;
    ensure!(names_writer(), "a living writer was robbed");
    death.recover(world)?;
    let text = |e: Error| e.to_string();
    ensure!(world.rw.try_read().map_err(text)?.is_none(), "a reader gets in beside a living writer");
    ensure!(world.rw.try_write().map_err(text)?.is_none(), "a writer gets in beside a living writer");
    let waited = world.rw.read_timeout(MS).map(drop);
    ensure!(matches!(waited, Err(Error::Timeout { .. })), "a reader that waits for a living writer gets {waited:?}");
    let waited = world.rw.write_timeout(MS).map(drop);
    ensure!(matches!(waited, Err(Error::Timeout { .. })), "a writer that waits for a living writer gets {waited:?}");
    ensure!(names_writer(), "a living writer was robbed");
    Ok(0)
}

/// A writer waited for the dead reader.
fn writer_follows(world: &World, death: &Death) -> Check {
    if death.real() {
        let got = within(1500, || world.helpers[0].result().is_some());
        ensure!(got, "the writer that waits for a dead reader waits on");
    }
    written(world, death)
}

/// A reader waited for the dead writer. It is stopped in a played death, and holds nothing then.
fn reader_follows(world: &World, death: &Death) -> Check {
    if !death.real() {
        return open(world, death);
    }
    let got = within(1500, || world.helpers[0].result().is_some());
    ensure!(got, "the reader that waits for a dead writer waits on");
    read_by_another(world, death)
}

/// The child is stopped, and alive: where it reads nobody writes, where it writes nobody enters.
fn alive(world: &World, death: &Death) -> Check {
    let Some(child) = RawSlot::of(death.dead[0]) else { return Ok(0) };
    let (writes, reads) = (world.word(RW) & 0xfff == child.index as u64, child.holds(2) > 0);
    let bound = if death.nth.is_multiple_of(3) { 25 * MS } else { MS };
    if writes || reads {
        ensure!(
            world.rw.try_write().map_err(|e| e.to_string())?.is_none(),
            "a writer gets in beside the stopped child"
        );
        let waited = world.rw.write_timeout(bound).map(drop);
        ensure!(
            matches!(waited, Err(Error::Timeout { .. })),
            "a writer that waits for the stopped child gets {waited:?}"
        );
    }
    if writes {
        ensure!(world.rw.try_read().map_err(|e| e.to_string())?.is_none(), "a reader gets in beside the stopped child");
    }
    Ok(0)
}
