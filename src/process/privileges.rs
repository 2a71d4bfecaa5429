//! Becoming less than root: another user, other groups, another root directory.
//!
//! # The order
//! ```text
//! before the fork    user and group are looked up, the directory is opened up       a missing one is an error, and nothing was started
//! in the child       setgroups ─▶ chroot, chdir ─▶ setgid ─▶ setuid ─▶ read back     any failure ends the child
//! after it           the parent-death signal is asked for: a change of credentials takes the request back
//! ```
//! Groups go first, for afterwards there is no right to; `chroot` while there still is one; the user last. The supplementary groups are those of the new
//! user and no other (what `initgroups` does; but the database is read before the fork, for the new root directory may have none). Nothing is believed:
//! all three user ids, all three group ids and the list of groups are read back, and who is not root any more must not be able to become it again.
//!
//! What is already as it should be is not asked for, so that a program that was started as the right user needs no rights to stay it.
//!
//! A descriptor of a directory that was opened before is a way out of the new root directory; all of the crate's own are memory, pipes and sockets.
#![forbid(unsafe_code)]

use crate::robust;
use crate::sys::credentials::{self, Credentials, User};
use crate::sys::identity::remember_namespace;
use crate::{Error, Result};
use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

/// Who a process is to become, by names.
///
/// # Examples
/// ```
/// use commons::process::Privileges;
/// let nobody = Privileges::new().user("nobody").chroot("/var/empty");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it does nothing before a process is started with it"]
pub struct Privileges {
    user: Option<String>,
    group: Option<String>,
    chroot: Option<PathBuf>,
}

/// Who a process is to become, by numbers: all that had to be looked up is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolved {
    user: Option<Named>,
    group: Option<Named>,
    /// All groups, in rising order.
    groups: Option<Vec<u32>>,
    chroot: Option<PathBuf>,
}

#[derive(Clone, Debug)]
struct Named {
    name: String,
    id: u32,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.id)
    }
}

impl Privileges {
    /// Everything stays as it is.
    pub fn new() -> Privileges {
        Privileges::default()
    }

    /// The user, by name or number; with it come its login group, unless another [group](Privileges::group) is named, and the groups it is in.
    pub fn user(mut self, name: &str) -> Privileges {
        self.user = Some(name.into());
        self
    }

    /// The group, by name or number.
    pub fn group(mut self, name: &str) -> Privileges {
        self.group = Some(name.into());
        self
    }

    /// The root directory, which is the working directory as well.
    pub fn chroot(mut self, directory: impl Into<PathBuf>) -> Privileges {
        self.chroot = Some(directory.into());
        self
    }

    /// Has the calling process become it, with all its threads. For a whole program, its supervisors included; what
    /// [`ProcessBuilder::privileges`](super::ProcessBuilder::privileges) and [`Pool::privileges`](super::Pool::privileges) do for their children alone.
    ///
    /// # Errors
    /// With nothing changed: [`Error::UnknownUser`], [`Error::UnknownGroup`], [`Error::BadFile`]. After any other error the process is neither what it was nor what
    /// it is to be, and **has to end**: [`Error::Privileges`] names the step that the kernel refused, [`Error::NotGivenUp`] what was found when all was read back.
    ///
    /// # Examples
    /// ```
    /// # use commons::process::Privileges;
    /// Privileges::new().assume()?; // everything stays as it is
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn assume(&self) -> Result<()> {
        self.resolve()?.assume()
    }

    /// Looks everything up. To be called before the fork.
    ///
    /// # Errors
    /// [`Error::UnknownUser`], [`Error::UnknownGroup`], [`Error::BadFile`].
    pub(crate) fn resolve(&self) -> Result<Resolved> {
        let user = self.user.as_deref().map(find_user).transpose()?;
        let group = match (&self.group, &user) {
            (Some(name), _) => Some(find_group(name)?),
            (None, Some(user)) => {
                Some(Named { name: format!("the login group of {}", user.name.to_string_lossy()), id: user.gid })
            }
            (None, None) => None,
        };
        let mut groups = match (&user, &group) {
            (Some(user), Some(group)) => Some(
                credentials::groups_of(&user.name, group.id)
                    .map_err(Error::system("reading the database of groups"))?,
            ),
            (_, group) => group.as_ref().map(|group| vec![group.id]),
        };
        if let Some(groups) = &mut groups {
            groups.sort_unstable();
            groups.dedup();
        }
        let user = user.zip(self.user.clone()).map(|(user, name)| Named { name, id: user.uid });
        let chroot = self.chroot.as_deref().map(directory).transpose()?;
        Ok(Resolved { user, group, groups, chroot })
    }
}

/// By name, and if there is none of that name, by number.
fn find_user(name: &str) -> Result<User> {
    let unknown = || Error::UnknownUser { name: name.into() };
    let database = || Error::system::<io::Error>("reading the database of users");
    let c_name = CString::new(name).map_err(|_| unknown())?;
    if let Some(user) = credentials::user_named(&c_name).map_err(database())? {
        return Ok(user);
    }
    // The last number is "leave it as it is" to the kernel.
    let number = name.parse().ok().filter(|&uid| uid != u32::MAX).ok_or_else(unknown)?;
    // One without an entry has no login group, which it would have to be told; so there it has to be one with an entry.
    credentials::user_numbered(number).map_err(database())?.ok_or_else(unknown)
}

fn find_group(name: &str) -> Result<Named> {
    let unknown = || Error::UnknownGroup { name: name.into() };
    let c_name = CString::new(name).map_err(|_| unknown())?;
    let found = credentials::group_named(&c_name).map_err(Error::system("reading the database of groups"))?;
    // A number needs no entry: it says all there is to say.
    let id = found.or_else(|| name.parse().ok().filter(|&gid| gid != u32::MAX)).ok_or_else(unknown)?;
    Ok(Named { name: name.into(), id })
}

fn directory(path: &Path) -> Result<PathBuf> {
    let refused = |source| Error::BadFile { what: "new root directory", path: path.into(), source };
    let whole = path.canonicalize().map_err(refused)?;
    if whole.metadata().map_err(refused)?.is_dir() {
        Ok(whole)
    } else {
        Err(refused(io::Error::from_raw_os_error(rustix::io::Errno::NOTDIR.raw_os_error())))
    }
}

impl Resolved {
    /// Has the calling process become it, in the one right order, and looks whether it did.
    ///
    /// After an error it is neither what it was nor what it is to be: it has to end.
    ///
    /// # Errors
    /// [`Error::Privileges`] names the step that the kernel refused; [`Error::NotGivenUp`] what was found when all was read back.
    pub(crate) fn assume(&self) -> Result<()> {
        let before = credentials().map_err(Error::system("getresuid"))?;
        if let Some(groups) = self.groups.as_ref().filter(|groups| **groups != before.groups) {
            credentials::set_groups(groups).map_err(refused("setgroups to", format!("{groups:?}")))?;
        }
        if let Some(path) = &self.chroot {
            // There is no /proc where we go: what is to be read there is read now, by those who are to know this process later.
            remember_namespace();
            robust::me()?;
            let said = path.display().to_string();
            rustix::process::chroot(path).map_err(refused("chroot to", said.clone()))?;
            rustix::process::chdir("/").map_err(refused("chdir into", said))?;
        }
        if let Some(group) = self.group.as_ref().filter(|group| before.gids != [group.id; 3]) {
            credentials::set_gid(group.id).map_err(refused("setgid to", group.to_string()))?;
        }
        if let Some(user) = self.user.as_ref().filter(|user| before.uids != [user.id; 3]) {
            credentials::set_uid(user.id).map_err(refused("setuid to", user.to_string()))?;
        }
        self.verify(&credentials().map_err(Error::system("getresuid"))?)
    }

    fn verify(&self, found: &Credentials) -> Result<()> {
        let same = |what, wanted: &[u32], found: &[u32]| {
            if wanted == found {
                return Ok(());
            }
            Err(Error::NotGivenUp { what, wanted: format!("{wanted:?}"), found: format!("{found:?}") })
        };
        if let Some(groups) = &self.groups {
            same("the list of groups", groups, &found.groups)?;
        }
        if let Some(group) = &self.group {
            same("the real, effective and saved group", &[group.id; 3], &found.gids)?;
        }
        if let Some(user) = &self.user {
            same("the real, effective and saved user", &[user.id; 3], &found.uids)?;
            if user.id != 0 && credentials::can_become_root() {
                let wanted = format!("only {user}");
                return Err(Error::NotGivenUp { what: "the user", wanted, found: "a way back to root".into() });
            }
        }
        Ok(())
    }
}

fn credentials() -> io::Result<Credentials> {
    credentials::credentials()
}

fn refused<E: Into<io::Error>>(step: &'static str, wanted: String) -> impl FnOnce(E) -> Error {
    move |source| Error::Privileges { step, wanted, source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named() {
        let error = |privileges: Privileges| privileges.resolve().unwrap_err().to_string();
        assert_eq!(error(Privileges::new().user("no such one")), "there is no user \"no such one\" on this machine");
        assert_eq!(error(Privileges::new().user("")), "there is no user \"\" on this machine");
        assert_eq!(error(Privileges::new().user("a\0b")), "there is no user \"a\\0b\" on this machine");
        assert_eq!(error(Privileges::new().user("4294967295")), "there is no user \"4294967295\" on this machine");
        assert_eq!(error(Privileges::new().group("no such")), "there is no group \"no such\" on this machine");
        assert_eq!(
            error(Privileges::new().chroot("/no/such/place")),
            "the new root directory \"/no/such/place\": No such file or directory (os error 2)"
        );
        assert_eq!(
            error(Privileges::new().chroot("/proc/self/stat")).split(':').nth(1),
            Some(" Not a directory (os error 20)")
        );
    }

    #[test]
    fn a_user_comes_with_its_groups_and_a_number_is_as_good_as_a_name() {
        let root = Privileges::new().user("root").resolve().unwrap();
        assert_eq!(root.user.as_ref().map(|user| user.id), Some(0));
        assert_eq!(root.group.as_ref().map(|group| group.id), Some(0));
        assert!(root.groups.as_ref().is_some_and(|groups| groups.contains(&0)));
        let zero = Privileges::new().user("0").group("4242").resolve().unwrap();
        assert_eq!(zero.group.as_ref().map(|group| group.id), Some(4242));
        assert!(zero.groups.as_ref().is_some_and(|groups| groups.contains(&4242) && groups.is_sorted()));
        let group = Privileges::new().group("0").resolve().unwrap();
        assert_eq!((group.user.is_none(), group.groups), (true, Some(vec![0])));
    }

    #[test]
    fn what_was_read_back_is_believed_and_nothing_else() {
        let named = |id| Some(Named { name: "someone".into(), id });
        let wanted = Resolved { user: named(0), group: named(7), groups: Some(vec![7, 9]), chroot: None };
        let good = Credentials { uids: [0; 3], gids: [7; 3], groups: vec![7, 9] };
        assert!(wanted.verify(&good).is_ok());
        for n in 0..3 {
            let (mut uids, mut gids) = (good.uids, good.gids);
            uids[n] = 1;
            gids[n] = 0;
            assert!(wanted.verify(&Credentials { uids, ..good.clone() }).is_err());
            assert!(wanted.verify(&Credentials { gids, ..good.clone() }).is_err());
        }
        for groups in [vec![], vec![7], vec![0, 7, 9]] {
            let error = wanted.verify(&Credentials { groups: groups.clone(), ..good.clone() }).unwrap_err().to_string();
            let said = format!("the list of groups should be [7, 9], and {groups:?} was found");
            assert_eq!(error, format!("privileges were not given up: {said}"));
        }
    }
}
