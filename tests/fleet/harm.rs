//! What is done to a server from outside: a disk that is full, and limits that are too low.

use super::Folder;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Resource, Signal, set_parent_process_death_signal};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A user of whom nobody else has processes: a limit of processes counts those of a user, and binds root not at all.
pub(crate) const STRANGER: u32 = 64_321;

/// Becomes that user; what this process does first of all.
pub(crate) fn become_stranger() {
    // SAFETY: a system call that reads nothing, of a list of no groups; this process has one thread, and has done nothing yet.
    let no_groups = unsafe { libc::setgroups(0, std::ptr::null()) };
    // SAFETY: a system call, as above.
    let group = unsafe { libc::setgid(STRANGER) };
    // SAFETY: a system call, as above.
    let user = unsafe { libc::setuid(STRANGER) };
    assert_eq!((no_groups, group, user), (0, 0, 0), "{}", std::io::Error::last_os_error());
    // The change has undone it.
    set_parent_process_death_signal(Some(Signal::KILL)).expect("a system call");
}

/// Sets a limit of another process, as the user whose it is; false when that one is gone.
pub(crate) fn set_limit(pid: i32, what: Resource, limit: Option<u64>) -> bool {
    let name = if what == Resource::Nproc { "nproc" } else { "nofile" };
    let limit = limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let mut command = Command::new("prlimit");
    command.args(["--pid", &pid.to_string(), &format!("--{name}={limit}:")]);
    if role() == "stranger" {
        command.uid(STRANGER).gid(STRANGER);
    }
    command.stderr(Stdio::null()).status().expect("prlimit is installed").success()
}

pub(crate) fn role() -> &'static str {
    if rustix::process::geteuid().is_root() { "stranger" } else { "chaos" }
}

/// A directory on a small disk of its own where one may be mounted; unmounted before it is removed.
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    pub(crate) mounted: bool,
}

impl Disk {
    pub(crate) fn new() -> Disk {
        let folder = Folder::make();
        let path = folder.join("disk");
        std::fs::create_dir(&path).expect("a directory");
        let mounted = mount("commons-test", &path, "tmpfs", MountFlags::empty(), Some(c"size=256k")).is_ok();
        if rustix::process::geteuid().is_root() {
            for path in [&path, &folder] {
                std::os::unix::fs::chown(path, Some(STRANGER), Some(STRANGER)).expect("root may");
            }
        }
        Disk { path, mounted }
    }

    /// What the disk is mounted in.
    pub(crate) fn folder(&self) -> Folder {
        Folder(self.path.parent().expect("it has one").to_owned())
    }

    /// Takes all the room there is.
    pub(crate) fn fill(&self) {
        if self.mounted {
            let _ = std::fs::write(self.path.join("filler"), vec![0; 1 << 20]);
        }
    }

    pub(crate) fn free(&self) {
        let _ = std::fs::remove_file(self.path.join("filler"));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = unmount(&self.path, UnmountFlags::DETACH);
        }
        // The server's own attempt met the mounted disk.
        drop(self.folder());
    }
}
