//! Memory that travels: bytes in a sealed memfd, left in a socket until somebody has no more use for them.
//!
//! A descriptor that was sent over a Unix socket and not yet received is kept by the kernel, as long as any process has the socket open. So what lies in
//! a [`Locker`] that all processes inherited outlives the one that put it there, and everybody who looks at it; `MSG_PEEK` gives each who looks a
//! descriptor of its own and leaves the message where it is. When the last process goes, the kernel closes all of it.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::buffer::spare_capacity;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Errno, pread};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};

use crate::{Error, Result};

/// Messages that [`Locker::clear`] takes out at most; there is never more than one.
const MOST: usize = 16;

/// Room for one descriptor: two ends of a socket, inherited by every process forked from now on.
#[derive(Debug)]
pub(crate) struct Locker {
    front: OwnedFd,
    back: OwnedFd,
}

impl Locker {
    pub(crate) fn new() -> Result<Locker> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (front, back) =
            socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None).map_err(Error::system("socketpair"))?;
        Ok(Locker { front, back })
    }

    /// Puts a descriptor in, which may be closed here afterwards.
    pub(crate) fn put(&self, parcel: BorrowedFd<'_>) -> Result<()> {
        let (parcels, mut space) = ([parcel], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&parcels));
        loop {
            match sendmsg(&self.front, &[IoSlice::new(&[1])], &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::system("sendmsg(memfd)")(error)),
            }
        }
    }

    /// A descriptor of what is in it, which stays there; None when nothing is.
    pub(crate) fn look(&self) -> Result<Option<OwnedFd>> {
        let (mut byte, mut space) = ([0], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
        loop {
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::PEEK | RecvFlags::CMSG_CLOEXEC;
            match recvmsg(&self.back, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags) {
                Ok(told) => {
                    let found = ancillary.drain().find_map(|message| match message {
                        RecvAncillaryMessage::ScmRights(mut parcels) => parcels.next(),
                        _ => None,
                    });
                    if found.is_none() && told.flags.contains(ReturnFlags::CTRUNC) {
                        // No number was free for it in this process. It is still in there, for another time.
                        return Err(Error::system("recvmsg(memfd)")(Errno::MFILE));
                    }
                    return Ok(found);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(Error::system("recvmsg(memfd)")(error)),
            }
        }
    }

    /// Empties it. Asks for no descriptors, so the kernel closes them, and a process that has none left can do this as well.
    pub(crate) fn clear(&self) {
        let mut byte = [0];
        for _ in 0..MOST {
            match recv(&self.back, &mut byte, RecvFlags::empty()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// A memfd that holds `bytes` and can never be changed again.
pub(crate) fn wrapped(bytes: &[u8]) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(memfd_create("commons:parcel", flags).map_err(Error::system("memfd_create"))?);
    file.write_all_at(bytes, 0).map_err(Error::system("writing a memfd"))?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).map_err(Error::system("sealing a memfd"))?;
    Ok(file.into())
}

/// The first `len` bytes of a memfd.
pub(crate) fn unwrapped(parcel: OwnedFd, len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let refused = || Error::System { call: "reading a memfd", source: std::io::ErrorKind::OutOfMemory.into() };
    bytes.try_reserve_exact(len).map_err(|_| refused())?;
    // At a place of its own: all descriptors of one memfd share where they have read to.
    while bytes.len() < len {
        let at = bytes.len() as u64;
        match pread(&parcel, spare_capacity(&mut bytes), at) {
            Ok(0) => {
                return Err(Error::system("reading a memfd")(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Error::system("reading a memfd")(error)),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_parcel_stays_until_it_is_cleared_away() {
        let locker = Locker::new().unwrap();
        assert!(locker.look().unwrap().is_none());
        let bytes: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        locker.put(wrapped(&bytes).unwrap().as_fd()).unwrap();
        for _ in 0..3 {
            let parcel = locker.look().unwrap().expect("it stays");
            assert_eq!(unwrapped(parcel, bytes.len()).unwrap(), bytes);
        }
        locker.clear();
        assert!(locker.look().unwrap().is_none());
        locker.clear();
    }

    #[test]
    fn a_parcel_cannot_be_changed_and_one_that_is_too_short_is_told() {
        let parcel = wrapped(b"sealed").unwrap();
        let file = File::from(parcel.try_clone().unwrap());
        assert!(file.write_all_at(b"x", 0).is_err() && file.set_len(1).is_err() && file.set_len(100).is_err());
        assert!(unwrapped(parcel, 7).is_err());
    }
}
