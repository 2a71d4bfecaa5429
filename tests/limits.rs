//! What happens at the limits: a clear error, nothing half done, and everything as before once there is room again.

mod common;

use std::mem::forget;
use std::time::Duration;

use common::{alone, in_child, sleep_for_ever, until};
use commons::{Atomic, AtomicLong, Counter, Error, Lock, Region, RwLock, Semaphore, recover};

#[test]
fn a_regions_size_has_bounds() {
    let max = (8u64 << 32) - 256;
    for wrong in [0, max + 1, u64::MAX >> 1] {
        let told = Region::new("r", wrong as usize).unwrap_err();
        assert!(
            matches!(told, Error::OutOfRange { value, min: 1, max: m, .. } if value == wrong && m == max),
            "{told}"
        );
        assert_eq!(told.to_string(), format!("a region's size in bytes is {wrong}, allowed are 1..={max}"));
    }
    // The largest is more than many machines have; then it is the kernel that says so.
    match Region::new("large", max as usize) {
        Ok(region) => assert_eq!((region.size() as u64, region.used()), (max, 0)),
        Err(told) => assert!(matches!(told, Error::System { .. }), "{told}"),
    }
    assert_eq!(Region::new("small", 1).unwrap().size(), 1);
}

#[test]
fn a_region_is_used_to_its_last_byte_and_not_beyond() {
    let region = Region::new("exact", 3 * 128 + 127).unwrap();
    let locks: Vec<_> = (0..3).map(|_| Lock::new_in(&region).unwrap()).collect();
    assert_eq!(region.used(), 384);
    for _ in 0..2 {
        let told = Lock::new_in(&region).unwrap_err();
        assert!(matches!(told, Error::OutOfMemory { asked: 128, left: 127 }), "{told}");
        assert_eq!(told.to_string(), "out of shared memory: 128 bytes asked, 127 bytes left in the region");
    }
    assert!(matches!(Counter::new_in(&region), Err(Error::OutOfMemory { asked: 262_208, left: 127 })));
    assert_eq!(region.used(), 384, "a refusal takes nothing");
    let _all: Vec<_> = locks.iter().map(|lock| lock.lock().unwrap()).collect();
    let full = Region::new("full", 128).unwrap();
    let n = Atomic::new_in(&full, 5).unwrap();
    assert_eq!((full.used(), n.get()), (full.size(), 5));
    assert!(matches!(Atomic::new_in(&full, 5), Err(Error::OutOfMemory { asked: 128, left: 0 })));
}

/// Parent and children place in one region at once: nothing overlaps, and it takes exactly what fits.
#[test]
fn processes_fill_one_region_together() {
    let region = Region::new("together", 128 * 200).unwrap();
    let placed = Atomic::new(0).unwrap();
    let fill = |mark: u32| {
        let mut mine = Vec::new();
        while let Ok(n) = Atomic::new_in(&region, mark) {
            mine.push(n);
            placed.add(1);
        }
        assert!(mine.iter().all(|n| n.get() == mark));
    };
    let children: Vec<_> = (1..4).map(|mark| in_child(move || fill(mark))).collect();
    fill(9);
    children.into_iter().for_each(|child| child.join());
    assert_eq!((placed.get(), region.used()), (200, region.size()));
}

#[test]
fn names_have_bounds() {
    let (fits, too_long) = ("n".repeat(64), "ü".repeat(32) + "n");
    assert_eq!(Region::new(&fits, 64).unwrap().name(), fits);
    assert_eq!(Region::new("", 64).unwrap().name(), "");
    let told = Region::new(&too_long, 64).unwrap_err();
    assert!(matches!(&told, Error::NameTooLong { name, len: 65, max: 64 } if *name == too_long));
    assert_eq!(told.to_string(), format!("the name {too_long:?} has 65 bytes, at most 64 are allowed"));
    let told = Region::new("a\0b", 64).unwrap_err();
    assert!(matches!(&told, Error::BadName { name } if name == "a\0b"));
    assert_eq!(told.to_string(), r#"the name "a\0b" holds a zero byte"#);
}

#[test]
fn a_ledger_is_full_for_what_needs_an_entry_and_not_for_locks() {
    let readable: Vec<_> = (0..29).map(|_| RwLock::new().unwrap()).collect();
    let (lock, seat) = (Lock::new().unwrap(), Semaphore::new(5).unwrap());
    let mut reading: Vec<_> = readable[..28].iter().map(|rw| rw.read().unwrap()).collect();
    for _ in 0..2 {
        let told = readable[28].read().unwrap_err();
        assert!(matches!(told, Error::TooManyHeld { max: 28 }));
        let text = "this thread already holds 28 locks or kinds of permits, the most that one thread may hold at once";
        assert_eq!(told.to_string(), text);
        assert!(matches!(readable[28].try_read(), Err(Error::TooManyHeld { max: 28 })));
        assert!(matches!(seat.acquire(), Err(Error::TooManyHeld { max: 28 })));
        assert_eq!(seat.available(), 5, "nothing was taken");
        drop(lock.lock().unwrap());
        drop(readable[28].write().unwrap());
    }
    in_child(|| assert!(readable[28].try_write().unwrap().is_some(), "the refused reader left no trace")).join();
    reading.pop();
    (0..5).for_each(|_| seat.acquire().unwrap());
    assert!(matches!(readable[27].read(), Err(Error::TooManyHeld { .. })), "five permits of a kind are one entry");
    (0..5).for_each(|_| seat.release().unwrap());
    reading.push(readable[28].read().unwrap());
    drop(reading);
    assert!(readable.iter().all(|rw| rw.try_write().unwrap().is_some()));
}

/// Locks beyond the ledger are held by their word alone; their owner's death is noticed all the same.
#[test]
fn more_locks_than_the_ledger_has_entries() {
    let locks: Vec<_> = (0..60).map(|_| Lock::new().unwrap()).collect();
    let held = Atomic::new(0).unwrap();
    let owner = in_child(|| {
        locks.iter().for_each(|lock| forget(lock.lock().unwrap()));
        held.set(1);
        sleep_for_ever();
    });
    until("all are held", || held.get() == 1);
    assert!(locks.iter().all(|lock| lock.try_lock().unwrap().is_none()));
    let waiter = in_child(|| assert!(locks[59].lock().unwrap().recovered()));
    waiter.until_asleep();
    owner.kill();
    recover(owner.pid()).unwrap();
    waiter.join();
    assert!(locks[..59].iter().all(|lock| lock.try_lock().unwrap().expect("free").recovered()));
    let guards: Vec<_> = locks.iter().map(|lock| lock.lock().unwrap()).collect();
    drop(guards);
    assert!(locks.iter().all(|lock| !lock.try_lock().unwrap().expect("free").recovered()));
}

/// No descriptors left is an error of the kernel, told as such; what exists goes on working.
#[test]
fn no_file_descriptors_left() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let (lock, n) = (Lock::new().unwrap(), Atomic::new(1).unwrap());
    in_child(|| {
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
        let told = Region::new("none", 64).unwrap_err();
        assert!(matches!(&told, Error::System { call: "making shared memory", .. }), "{told}");
        assert!(told.to_string().starts_with("making shared memory: Too many open files"), "{told}");
        assert!(matches!(Counter::new(), Err(Error::System { .. })));
        // Small ones have room in the regions that are there, until those are full.
        let more: Vec<_> = (0..2000).map_while(|_| Atomic::new(1).ok()).collect();
        assert!(more.len() < 2000 && matches!(Atomic::new(1), Err(Error::System { .. } | Error::OutOfMemory { .. })));
        assert!(more.iter().all(|n| n.add(1) == 2));
        drop(lock.lock().unwrap());
        assert!(n.wait(None) && !n.wait(Some(Duration::from_millis(30))));
    })
    .join();
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|line| line.contains("commons:")).count()
}

/// In a child, where nobody else opens anything meanwhile.
#[test]
fn what_is_dropped_leaves_nothing_behind() {
    in_child(|| {
        let make = || {
            for i in 0..3_000 {
                let (n, m) = (Atomic::new(i).unwrap(), AtomicLong::packed(i.into()).unwrap());
                assert_eq!((n.get(), m.get()), (i, i.into()));
                drop(Lock::new().unwrap().lock().unwrap());
                drop(RwLock::new().unwrap().read().unwrap());
                let seat = Semaphore::new(1).unwrap();
                seat.acquire().unwrap();
                seat.release().unwrap();
                if i % 100 == 0 {
                    Counter::new().unwrap().add(1);
                    Region::new("short", 1 << 20).unwrap();
                }
            }
        };
        make();
        let before = (descriptors(), mappings());
        (0..4).for_each(|_| make());
        let after = (descriptors(), mappings());
        // The current region of each kind may have moved on by one.
        assert!(
            after.0 <= before.0 + 3 && after.1 <= before.1 + 3,
            "{before:?} descriptors and mappings became {after:?}"
        );
    })
    .join();
}

/// Ten thousand threads, a few at a time, need a few slots.
#[test]
fn slots_are_used_again() {
    let _turn = alone();
    let (lock, sum) = (Lock::new().unwrap(), AtomicLong::new(0).unwrap());
    in_child(|| {
        let before = commons::harness::census();
        for _ in 0..2_500 {
            let threads = [(); 4].map(|()| {
                let (lock, sum) = (lock.clone(), sum.clone());
                std::thread::spawn(move || {
                    let _guard = lock.lock().unwrap();
                    sum.set(sum.get() + 1);
                })
            });
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
        assert_eq!(sum.get(), 10_000);
        // Other tests of this binary come and go.
        assert!(commons::harness::census() < before + 100);
    })
    .join();
}

/// Prefaulting backs all of it with memory, in huge pages if the kernel has any, and changes nothing that stands there.
#[test]
fn a_prefaulted_region_is_all_there() {
    let kilobytes = |name: &str, field: &str| {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines().skip_while(|line| !line.contains(&format!("memfd:commons:{name} ")));
        let figure = lines.find_map(|line| line.strip_prefix(field)).expect("the kernel tells");
        figure.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
    };
    // Neither a multiple of a huge page nor smaller than one.
    for (name, bytes) in [("prefaulted-small", 100_000), ("prefaulted-large", (9 << 20) + 12_345)] {
        let region = Region::new(name, bytes).unwrap();
        let whole = (bytes + 256).div_ceil(4096) * 4;
        let n = Atomic::new_in(&region, 41).unwrap();
        assert!(kilobytes(name, "Rss:") < whole, "nothing is taken before it is used");
        for _ in 0..2 {
            region.prefault().unwrap();
            assert_eq!(kilobytes(name, "Rss:"), whole);
            assert_eq!((n.get(), region.used()), (41, 128));
        }
        // Those who are forked afterwards find it as it is, and what they write is seen.
        in_child(|| assert_eq!(n.add(1), 42)).join();
        assert_eq!(n.get(), 42);
        // How much of it is in huge pages is the kernel's to say.
        assert!(kilobytes(name, "ShmemPmdMapped:") <= whole);
    }
}
