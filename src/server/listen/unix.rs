//! Sockets in the file system: taken over when stale, refused when somebody lives there, and removed only by who made them.
//!
//! The file of a socket stays when its server is killed, and `bind` refuses a path at which there is a file. So who comes next has to find out whether
//! anybody still listens there (it knocks), and take the file away if not. Between the knock and the removal another server could have come, whose fresh
//! file would then be removed; so all of it happens under a lock of the directory, which leaves nothing behind.
#![forbid(unsafe_code)]

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock, lstat, open};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::Permissions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long to wait for others that take a path in the same directory; each is done in some microseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// A socket's file that this process made.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: whether the file is still ours.
    which: (u64, u64),
    /// The process that removes it. A forked child drops its copy without effect.
    pub(super) owner: u32,
}

impl SocketFile {
    /// Makes the calling process the one that removes it: of a child whose parent has died, say.
    pub(crate) fn adopt(&mut self) {
        self.owner = std::process::id();
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            return;
        }
        // Without the lock it is removed all the same: the time in which another could have put its own file there is that between two calls.
        let _locked = lock_directory(&self.path);
        if look(&self.path).ok().flatten().is_some_and(|(which, kind)| which == self.which && kind == FileType::Socket)
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Binds a socket to `path`, with these permissions of its file if they are given; listens if it is one of streams.
pub(super) fn bind(path: &Path, kind: Type, mode: Option<u32>, backlog: i32) -> io::Result<(Socket, SocketFile)> {
    let locked = lock_directory(path)?;
    match look(path)? {
        None => {}
        Some((_, FileType::Socket)) if lives(path, kind)? => return Err(Errno::ADDRINUSE.into()),
        Some((_, FileType::Socket)) => std::fs::remove_file(path)?,
        Some(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file is there that is no socket")),
    }
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let which = look(path)?.ok_or(Errno::NOENT)?.0;
    let file = SocketFile { path: path.to_owned(), which, owner: std::process::id() };
    let ready = || {
        // Nobody connects with other permissions: it does not listen yet. Datagrams sent in this instant are another matter, and were allowed by umask.
        if let Some(mode) = mode {
            std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        // Under the lock still: one that does not listen yet looks stale to whoever knocks.
        if kind == Type::STREAM { socket.listen(backlog) } else { Ok(()) }
    };
    let ready = ready();
    // Before the file is removed, should it not be ready; that takes the lock again.
    drop(locked);
    ready.map(|()| (socket, file))
}

/// Whether somebody holds the socket at `path`. Both kinds are tried, since a stranger's may be of the other one.
fn lives(path: &Path, kind: Type) -> io::Result<bool> {
    let knock = Socket::new(Domain::UNIX, kind, None)?;
    knock.set_nonblocking(true)?;
    match knock.connect(&SockAddr::unix(path)?) {
        // A socket that is bound and does not listen refuses too; it is one in the middle of `bind` above, and that has the lock.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        // Whatever else comes (its queue is full, it is of another kind, we are not allowed to ask) comes from somebody who is there.
        _ => Ok(true),
    }
}

type Which = (u64, u64);

fn look(path: &Path) -> io::Result<Option<(Which, FileType)>> {
    match lstat(path) {
        Ok(stat) => Ok(Some(((stat.st_dev, stat.st_ino), FileType::from_raw_mode(stat.st_mode)))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn lock_directory(path: &Path) -> io::Result<OwnedFd> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let fd = open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(fd),
            Err(Errno::INTR) => {}
            // There is no event to wait for: a lock with a deadline is not to be had of flock(2).
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            Err(Errno::WOULDBLOCK) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "somebody keeps the directory locked (flock)"));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
