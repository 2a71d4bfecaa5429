use super::*;
use crate::server::testing::Scratch;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs::{read_to_string, rename};

fn lines(path: &Path) -> Vec<String> {
    read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_line_says_when_how_bad_who_and_what() {
    let folder = Scratch::new();
    let path = folder.path("log");
    let log = Log::new(Some(&path), Level::Info).unwrap();
    log.line(Level::Info, "begins");
    log.become_role("worker 3");
    log.line(Level::Error, format_args!("two\nlines, \u{1b}[31m and \u{9b}"));
    log.line(Level::Debug, "too little");
    let lines = lines(&path);
    assert_eq!(lines.len(), 2);
    let (stamp, rest) = lines[0].split_once(' ').unwrap();
    assert!(stamp.len() == 24 && stamp.starts_with("20") && stamp.ends_with('Z'), "{stamp}");
    assert_eq!(rest, format!("info    master[{}] begins", std::process::id()));
    assert!(lines[1].contains("error   worker 3["), "{}", lines[1]);
    assert!(lines[1].ends_with("two\\nlines, \\u{1b}[31m and \\u{9b}"), "{}", lines[1]);
    assert!(read_to_string(&path).unwrap().ends_with('\n'));
}

#[test]
fn stamps_are_those_of_date() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00"),
        (951_782_399, "2000-02-28T23:59:59"),
        (951_782_400, "2000-02-29T00:00:00"),
        (951_868_800, "2000-03-01T00:00:00"),
        (1_709_164_800, "2024-02-29T00:00:00"),
        (1_735_689_599, "2024-12-31T23:59:59"),
        (1_735_689_600, "2025-01-01T00:00:00"),
        (4_107_542_400, "2100-03-01T00:00:00"),
        (253_402_300_799, "9999-12-31T23:59:59"),
    ] {
        assert_eq!(Stamp(seconds, 7).to_string(), format!("{text}.007Z"));
    }
}

#[test]
fn levels_keep_out_what_is_less_and_none_keeps_out_all() {
    let folder = Scratch::new();
    let path = folder.path("log");
    for (level, written) in
        [(Level::Debug, 4), (Level::Info, 3), (Level::Warning, 2), (Level::Error, 1), (Level::None, 0)]
    {
        let _ = std::fs::remove_file(&path);
        let log = Log::new(Some(&path), level).unwrap();
        for (of, _) in Level::ALL {
            log.line(of, "text");
        }
        assert_eq!(lines(&path).len(), written, "{level}");
        assert_eq!(Level::named(&level.to_string()), Some(level));
    }
    assert_eq!(Level::named("INFO"), None);
}

#[test]
fn a_long_line_is_cut_at_a_character_and_says_so() {
    let folder = Scratch::new();
    let path = folder.path("log");
    let log = Log::new(Some(&path), Level::Info).unwrap();
    log.line(Level::Info, "ä".repeat(5000));
    log.line(Level::Info, "next");
    let lines = lines(&path);
    assert!(lines[0].len() < LINE && lines[0].ends_with(" bytes more)"), "{}", lines[0].len());
    let missing: usize = lines[0].rsplit_once('(').unwrap().1.split(' ').next().unwrap().parse().unwrap();
    let kept = lines[0].matches('ä').count();
    assert_eq!(kept * 2 + missing, 10_000);
    assert!(lines[1].ends_with("next"));
}

#[test]
fn a_log_that_was_moved_away_goes_on_at_its_path_when_it_is_reopened() {
    let folder = Scratch::new();
    let (path, old) = (folder.path("log"), folder.path("log.1"));
    let log = Log::new(Some(&path), Level::Info).unwrap();
    log.line(Level::Info, "one");
    rename(&path, &old).unwrap();
    log.line(Level::Info, "two");
    log.reopen();
    log.line(Level::Info, "three");
    assert_eq!((lines(&old).len(), lines(&path).len()), (2, 1));
    // A path that cannot be opened: the old file stays in use, and says so.
    rename(&path, &old).unwrap();
    std::fs::create_dir(&path).unwrap();
    log.reopen();
    log.line(Level::Info, "four");
    let lines = lines(&old);
    assert!(lines[1].contains("cannot reopen the log") && lines[2].ends_with("four"), "{lines:?}");
}

#[test]
fn a_device_that_is_always_full_loses_all_and_counts() {
    let log = Log::new(Some(Path::new("/dev/full")), Level::Info).unwrap();
    for _ in 0..1000 {
        log.line(Level::Error, "text");
    }
    log.line(Level::Debug, "not wanted, so not lost");
    assert_eq!(log.lost(), 1000);
}

/// A file system of 16 KiB, where one may be mounted.
struct Tiny(Scratch);

impl Tiny {
    fn new() -> Option<Self> {
        let folder = Scratch::new();
        let size = CString::new("size=16k").ok()?;
        mount("commons-test", &folder.0, "tmpfs", MountFlags::empty(), Some(size.as_c_str())).ok()?;
        Some(Self(folder))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = unmount(&self.0.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_loses_lines_and_says_how_many_when_there_is_room_again() {
    // Without the right to mount, the device above has to do.
    let Some(tiny) = Tiny::new() else { return };
    let (path, other) = (tiny.0.path("log"), tiny.0.path("other"));
    std::fs::write(&other, vec![b'x'; 8192]).unwrap();
    let log = Log::new(Some(&path), Level::Info).unwrap();
    for line in 0..200 {
        log.line(Level::Info, format_args!("line {line} {}", "x".repeat(100)));
    }
    let lost = log.lost();
    assert!((1..200).contains(&lost), "{lost}");
    std::fs::remove_file(&other).unwrap();
    log.line(Level::Info, "there is room");
    assert_eq!(log.lost(), 0);
    let lines = lines(&path);
    // The line that was cut by the end of the disk stands by itself, whole or not.
    let [.., told, last] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(told.ends_with(&format!("{lost} lines of this process are missing here: there was no room")), "{told}");
    assert!(last.ends_with("there is room"), "{last}");
    let heads = |line: &String| line.matches(" master[").count();
    assert!(lines.iter().all(|line| heads(line) <= 1), "a line goes on in the torn one: {lines:?}");
    let whole = lines.iter().filter(|line| line.contains(" line ") && line.ends_with(&"x".repeat(100))).count() as u64;
    assert_eq!(whole + lost, 200);
}

#[test]
fn a_pipe_that_nobody_reads_makes_nobody_wait() {
    let folder = Scratch::new();
    let path = folder.path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::from_raw_mode(0o600)).unwrap();
    assert!(Log::new(Some(&path), Level::Info).is_err(), "nobody has it open for reading");
    let _reader = open(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let log = Log::new(Some(&path), Level::Info).unwrap();
    for _ in 0..2000 {
        log.line(Level::Info, "x".repeat(100));
    }
    assert!(log.lost() > 0);
}

#[test]
fn of_two_that_find_the_last_room_in_a_pipe_neither_waits() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK).unwrap();
    rustix::pipe::fcntl_setpipe_size(&write, 4096).unwrap();
    let take = || rustix::io::read(&read, &mut [0; LINE]);
    let (both, done) = (std::sync::Barrier::new(2), std::sync::mpsc::channel());
    let waited = std::thread::scope(|scope| {
        for reads in [true, false] {
            let (write, take, both, done) = (&write, &take, &both, done.0.clone());
            scope.spawn(move || {
                let log = Log::new(None, Level::Info).unwrap();
                for _ in 0..1000 {
                    both.wait();
                    log.put_shared(write.as_fd(), &[b'x'; LINE]);
                    both.wait();
                    // Nobody else does.
                    let _ = reads.then(take);
                }
                done.send(()).unwrap();
            });
        }
        let ended = || done.1.recv_timeout(std::time::Duration::from_secs(5)).is_ok();
        let ended = [ended(), ended()];
        let waited = ended.contains(&false);
        // So that the test ends, whoever waits.
        let mut left = ended.iter().filter(|ended| !**ended).count();
        while left > 0 {
            let _ = take();
            left -= usize::from(done.1.recv_timeout(std::time::Duration::from_millis(1)).is_ok());
        }
        waited
    });
    assert!(!waited, "for a reader");
}
