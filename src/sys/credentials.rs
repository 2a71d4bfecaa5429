//! Users, groups, and becoming somebody else.
//!
//! The databases are asked through libc (files, LDAP, whatever the machine has), before any fork: a child in a new root directory may have none of
//! them. The changes go through libc as well: the kernel changes the calling thread alone, libc sees to it that all threads follow.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;

/// A user, as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: CString,
    pub(crate) uid: u32,
    /// The login group.
    pub(crate) gid: u32,
}

/// The longest entry that is read: what lies beyond is an error of the database, not a user.
const LONGEST_ENTRY: usize = 1 << 20;

/// Most supplementary groups of a process (NGROUPS_MAX).
const MOST_GROUPS: usize = 65_536;

/// Asks with a buffer that grows until the entry fits. `ask` returns an error number as the `…_r` functions do.
fn with_room<T>(mut ask: impl FnMut(&mut [libc::c_char]) -> Result<Option<T>, libc::c_int>) -> io::Result<Option<T>> {
    let mut room = vec![0; 1024];
    loop {
        match ask(&mut room) {
            Ok(found) => return Ok(found),
            Err(libc::ERANGE) if room.len() < LONGEST_ENTRY => room.resize(room.len() * 2, 0),
            Err(libc::EINTR) => {}
            // How libraries say "no such entry" differs (getpwnam_r(3), ERRORS).
            Err(libc::ENOENT | libc::ESRCH) => return Ok(None),
            Err(error) => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// The user of this name.
pub(crate) fn user_named(name: &CStr) -> io::Result<Option<User>> {
    user(|entry, room, found| {
        // SAFETY: name is a C string; entry, room (with its length) and found are valid for writing throughout the call.
        unsafe { libc::getpwnam_r(name.as_ptr(), entry, room.as_mut_ptr(), room.len(), found) }
    })
}

/// The user of this number.
pub(crate) fn user_numbered(uid: u32) -> io::Result<Option<User>> {
    user(|entry, room, found| {
        // SAFETY: as in `user_named`.
        unsafe { libc::getpwuid_r(uid, entry, room.as_mut_ptr(), room.len(), found) }
    })
}

fn user(
    mut ask: impl FnMut(*mut libc::passwd, &mut [libc::c_char], *mut *mut libc::passwd) -> libc::c_int,
) -> io::Result<Option<User>> {
    with_room(|room| {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = std::ptr::null_mut();
        match ask(entry.as_mut_ptr(), room, &raw mut found) {
            0 if found.is_null() => Ok(None),
            0 => {
                // SAFETY: success with a result means that the entry is filled in.
                let entry = unsafe { entry.assume_init() };
                // SAFETY: its name is a C string in `room`, which lives.
                let name = unsafe { CStr::from_ptr(entry.pw_name) }.to_owned();
                Ok(Some(User { name, uid: entry.pw_uid, gid: entry.pw_gid }))
            }
            error => Err(error),
        }
    })
}

/// The number of the group of this name.
pub(crate) fn group_named(name: &CStr) -> io::Result<Option<u32>> {
    with_room(|room| {
        let mut entry = MaybeUninit::<libc::group>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: as in `user_named`.
        let error = unsafe {
            libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), room.as_mut_ptr(), room.len(), &raw mut found)
        };
        match error {
            0 if found.is_null() => Ok(None),
            // SAFETY: success with a result means that the entry is filled in.
            0 => Ok(Some(unsafe { entry.assume_init() }.gr_gid)),
            error => Err(error),
        }
    })
}

/// All groups that user `name` is in, and `gid`: what `initgroups` would set.
pub(crate) fn groups_of(name: &CStr, gid: u32) -> io::Result<Vec<u32>> {
    let mut groups = vec![0; 64];
    loop {
        let mut n = libc::c_int::try_from(groups.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: name is a C string, and groups has room for n numbers.
        let found = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut n) };
        if found >= 0 {
            groups.truncate(usize::try_from(n).unwrap_or(0));
            return Ok(groups);
        }
        if groups.len() >= MOST_GROUPS {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        groups.resize(groups.len() * 4, 0);
    }
}

/// What the kernel says of the calling process: real, effective and saved user and group, and the supplementary groups in rising order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) uids: [u32; 3],
    pub(crate) gids: [u32; 3],
    pub(crate) groups: Vec<u32>,
}

/// The calling process's credentials.
pub(crate) fn credentials() -> io::Result<Credentials> {
    let (mut uids, mut gids) = ([0; 3], [0; 3]);
    let [real, effective, saved] = &mut uids;
    // SAFETY: three numbers to write to.
    done(unsafe { libc::getresuid(real, effective, saved) })?;
    let [real, effective, saved] = &mut gids;
    // SAFETY: as above.
    done(unsafe { libc::getresgid(real, effective, saved) })?;
    let mut groups: Vec<u32> = rustix::process::getgroups()?.into_iter().map(|gid| gid.as_raw()).collect();
    groups.sort_unstable();
    groups.dedup();
    Ok(Credentials { uids, gids, groups })
}

/// Makes `groups` the supplementary groups.
pub(crate) fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer is valid for so many numbers.
    done(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })
}

/// Makes `gid` the real, the effective and the saved group.
pub(crate) fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: takes numbers, and changes this process alone.
    done(unsafe { libc::setresgid(gid, gid, gid) })
}

/// Makes `uid` the real, the effective and the saved user.
pub(crate) fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: as in `set_gid`.
    done(unsafe { libc::setresuid(uid, uid, uid) })
}

/// Whether this process could make itself root again. It stays root if so: whoever asks gives up then.
pub(crate) fn can_become_root() -> bool {
    let keep = u32::MAX; // leaves an id as it is
    // SAFETY: as in `set_gid`.
    unsafe { libc::setresuid(keep, 0, keep) == 0 }
}

fn done(answer: libc::c_int) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
