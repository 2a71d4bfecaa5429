//! A tool that has only the memory: opens a region's memfd read-only, as an inspector would, and reads what lies in it.

mod memory;

use commons::{Atomic, AtomicLong, Lock, Region, Semaphore};
use memory::{deeds, words};

#[test]
fn the_header_says_what_it_is_and_who_made_it() {
    let region = Region::new("headed", 4096).unwrap();
    let words = words("headed");
    assert_eq!(words[0].to_le_bytes(), *b"commons\n");
    assert_eq!(words[1], 1, "layout version");
    assert_eq!(words[3], 4096, "size");
    assert_eq!(words[4], region.used() as u64);
    assert_eq!(words[5], u64::from(std::process::id()), "creator");
    assert_ne!(words[6], 0, "its start time");
    assert_eq!(words[8], 6, "length of the name");
    assert_eq!(words[9].to_le_bytes(), *b"headed\0\0");
}

#[test]
fn the_deeds_lead_from_one_placement_to_the_next() {
    let region = Region::new("deeded", 4096).unwrap();
    let number = AtomicLong::new_in(&region, -7).unwrap();
    let lock = Lock::new_in(&region).unwrap();
    let seats = Semaphore::new_in(&region, 3).unwrap();
    let _guard = lock.lock().unwrap();
    seats.acquire().unwrap();
    number.add(1);

    let words = words("deeded");
    let deeds = deeds(&words);
    assert_eq!(deeds.iter().map(|(kind, bytes, _)| (*kind, *bytes)).collect::<Vec<_>>(), [(2, 64), (4, 64), (6, 64)]);
    assert_eq!(words[deeds[0].2] as i64, -6, "the number's value");
    assert_ne!(words[deeds[1].2] & 0x3fff_ffff, 0, "the lock's owner");
    assert_eq!(words[deeds[2].2 + 1], 2, "the semaphore's free permits");
    assert_eq!(words[deeds[2].2 + 3], 3, "and all of them");
}

#[test]
fn a_full_region_says_how_much_was_asked_and_left_and_stays_as_it_was() {
    let region = Region::new("full", 300).unwrap();
    let _first = Atomic::new_in(&region, 1).unwrap();
    let _second = Atomic::new_in(&region, 2).unwrap();
    let before = words("full");
    let error = Atomic::new_in(&region, 3).unwrap_err();
    assert_eq!(error.to_string(), "out of shared memory: 128 bytes asked, 44 bytes left in the region");
    assert_eq!(words("full"), before, "a refusal writes nothing");
    assert_eq!(deeds(&before).len(), 2);
}

#[test]
fn nothing_shows_in_any_file_system() {
    let _region = Region::new("unseen", 4096).unwrap();
    let in_shm = std::fs::read_dir("/dev/shm").map(|dir| dir.flatten().count()).unwrap_or(0);
    let _another = Region::new("unseen too", 4096).unwrap();
    assert_eq!(std::fs::read_dir("/dev/shm").map(|dir| dir.flatten().count()).unwrap_or(0), in_shm);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(maps.contains("/memfd:commons:unseen (deleted)"), "it shows where one looks for it");
}
