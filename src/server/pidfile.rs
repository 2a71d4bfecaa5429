//! The pid file: who the server is, for those who send it signals, and the proof that there is one only.
//!
//! The proof is not what stands in the file but the lock on it (flock), which the kernel holds for as long as any process of the server has the file open:
//! a file left behind by kill -9 is locked by nobody and taken over; while as much as a manager is left, a second server is refused.
//!
//! Who removes the file could remove another server's, which made its own between the look and the removal; so one that has the lock looks whether
//! the path still leads to the file it has locked, and begins again if not.
#![forbid(unsafe_code)]

use crate::{Error, Result};
use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock, fstat, ftruncate, lstat, open};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Files that vanish in our hands, one after another, before we give up.
const TRIES: usize = 16;
const SHARED: Mode = Mode::from_raw_mode(0o644);

/// The file, locked. Removed when the process that made it drops it.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    fd: OwnedFd,
    owner: u32,
}

impl PidFile {
    /// Locks the file at `path` and writes the calling process's id into it.
    ///
    /// # Errors
    /// [`Error::AlreadyRunning`] names the server that holds it; [`Error::BadFile`]: it is no file that could be one (a link, a directory, a device), or not
    /// allowed.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let bad = |error: io::Error| Error::BadFile { what: "pid file", path: path.to_owned(), source: error };
        for _ in 0..TRIES {
            // A link could lead to any file of the system's, which would then be overwritten with root's rights.
            let flags =
                OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
            let fd = match open(path, flags, SHARED) {
                Ok(fd) => fd,
                Err(Errno::LOOP) => return Err(bad(io::Error::other("it is a symbolic link"))),
                Err(error) => return Err(bad(error.into())),
            };
            let ours = fstat(&fd).map_err(|error| bad(error.into()))?;
            if FileType::from_raw_mode(ours.st_mode) != FileType::RegularFile {
                return Err(bad(io::Error::other("it is no regular file")));
            }
            match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    let pid = written(&fd).map_or(String::new(), |pid| format!(" (pid {pid})"));
                    return Err(Error::AlreadyRunning { path: path.to_owned(), pid });
                }
                Err(Errno::INTR) => continue,
                Err(error) => return Err(bad(error.into())),
            }
            let there = lstat(path).is_ok_and(|there| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino));
            if !there {
                continue;
            }
            let file = Self { path: path.to_owned(), fd, owner: std::process::id() };
            file.write().map_err(bad)?;
            return Ok(file);
        }
        Err(bad(io::Error::other("others remove it as fast as it is made")))
    }

    /// Makes the calling process the one that removes it, and the one that is named in it: a manager whose master has died.
    ///
    /// # Errors
    /// [`Error::BadFile`] when its id could not be written; it removes the file all the same.
    pub(crate) fn adopt(&mut self) -> Result<()> {
        self.owner = std::process::id();
        self.write().map_err(|source| Error::BadFile { what: "pid file", path: self.path.clone(), source })
    }

    fn write(&self) -> io::Result<()> {
        let line = format!("{}\n", self.owner);
        // First the number, then the cut: who reads meanwhile finds a number, if with the end of a longer one, and never nothing.
        let written = rustix::io::pwrite(&self.fd, line.as_bytes(), 0)?;
        if written < line.len() {
            return Err(Errno::NOSPC.into());
        }
        ftruncate(&self.fd, line.len() as u64)?;
        Ok(())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            return;
        }
        let same = fstat(&self.fd).ok().zip(lstat(&self.path).ok());
        // We hold the lock, so nobody puts a file of its own there unless somebody else has removed ours.
        if same.is_some_and(|(ours, there)| (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn written(fd: &OwnedFd) -> Option<u32> {
    let mut text = [0; 16];
    let n = rustix::io::pread(fd, &mut text, 0).ok()?;
    std::str::from_utf8(text.get(..n)?).ok()?.lines().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::Scratch;
    use std::io::Read;
    use std::process::{Command, Stdio};
    use std::sync::Mutex;

    fn refusal(path: &Path) -> String {
        let error = PidFile::new(path).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }

    #[test]
    fn it_holds_our_id_keeps_others_out_and_goes_with_us() {
        let folder = Scratch::new();
        let path = folder.path("pid");
        let mine = PidFile::new(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        assert!(refusal(&path).contains(&format!("living server (pid {})", std::process::id())));
        assert!(path.exists(), "a refusal removes nothing");
        drop(mine);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_server_left_is_taken_over() {
        let folder = Scratch::new();
        let path = folder.path("pid");
        std::fs::write(&path, "4294967\nmore than we shall write").unwrap();
        let mine = PidFile::new(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(mine);
        // The same with a real lock and a real kill: flock(1) holds it as a server would.
        std::fs::write(&path, "77\n").unwrap();
        let mut holder = Command::new("flock")
            .args(["--no-fork", path.to_str().unwrap(), "sh", "-c", "echo locked; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        holder.stdout.as_mut().unwrap().read_exact(&mut [0; 7]).unwrap();
        assert!(refusal(&path).contains("living server (pid 77)"));
        holder.kill().unwrap();
        holder.wait().unwrap();
        drop(PidFile::new(&path).unwrap());
    }

    #[test]
    fn what_cannot_be_a_pid_file_is_left_alone() {
        let folder = Scratch::new();
        let (target, link) = (folder.path("target"), folder.path("link"));
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(refusal(&link).contains("symbolic link"));
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
        assert!(refusal(folder.0.as_path()).contains("directory"));
        assert!(refusal(Path::new("/dev/null")).contains("no regular file"));
        assert!(refusal(&folder.path("nowhere/pid")).contains("No such file"));
    }

    #[test]
    fn another_s_file_at_its_path_stays() {
        let folder = Scratch::new();
        let path = folder.path("pid");
        let mine = PidFile::new(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let theirs = PidFile::new(&path).unwrap();
        drop(mine);
        assert!(path.exists());
        drop(theirs);
        assert!(!path.exists());
    }

    #[test]
    fn of_many_that_come_and_go_one_holds_it_at_a_time() {
        let folder = Scratch::new();
        let path = folder.path("pid");
        let (alone, me) = (Mutex::new(()), format!("{}\n", std::process::id()));
        let come_and_go = || {
            let mut held = 0;
            for _ in 0..2000 {
                if let Ok(file) = PidFile::new(&path) {
                    let guard = alone.try_lock().expect("nobody else holds it");
                    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), me);
                    drop(guard);
                    drop(file);
                    held += 1;
                }
            }
            held
        };
        let held: usize = std::thread::scope(|scope| {
            let all = [0; 4].map(|_| scope.spawn(come_and_go));
            all.map(|one| one.join().unwrap()).iter().sum()
        });
        // Who comes while another one is stopped in the middle may find it locked each time; all cannot.
        assert!(held > 0);
        assert!(!path.exists());
    }

    #[test]
    fn a_copy_in_another_process_removes_nothing_until_it_adopts() {
        let folder = Scratch::new();
        let path = folder.path("pid");
        let mut mine = PidFile::new(&path).unwrap();
        let fd = mine.fd.try_clone().unwrap();
        // As it looks in a forked child: the same file, somebody else's.
        drop(PidFile { path: path.clone(), fd, owner: mine.owner + 1 });
        assert!(path.exists() && matches!(PidFile::new(&path), Err(Error::AlreadyRunning { .. })), "still locked");
        mine.owner += 1;
        mine.adopt().unwrap();
        drop(mine);
        assert!(!path.exists());
    }
}
