//! What a crew tells its trade; `Display` says it in a line for the log.
#![forbid(unsafe_code)]

use super::{Member, Role};
use crate::Error;
use crate::process::supervise::Millis;
use crate::sys::child::End;
use std::fmt;

/// Something that has happened, or is about to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told<'a> {
    /// All places have been forked for, once.
    Begun,
    /// A fork comes next.
    Starting { member: Member },
    /// It succeeded. `successor`: the one that it is to follow still works.
    Started { member: Member, pid: i32, successor: bool },
    /// It failed, and is tried again.
    NotStarted { member: Member, error: &'a Error },
    /// In so many milliseconds (`member` is its place only).
    StartsLater { member: Member, again: Millis },
    /// It is ready, and the one of its place from here on.
    Ready { member: Member, pid: i32 },
    /// It has something to say to the operator.
    Trouble { member: Member, text: &'a str },
    /// It is being asked to leave.
    Asked { member: Member, pid: i32 },
    /// It was not gone, or not ready, when its time was over.
    Killing { member: Member, pid: i32, asked: bool, holds: &'a str },
    /// It is dead, recovered and reaped. `crashed`: nobody had asked for that.
    Vacated { member: Member, pid: i32, crashed: bool },
    /// It died, and in how many milliseconds the next one starts; nothing is said of those who left as they were asked to.
    Died { member: Member, pid: i32, end: End, again: Option<Millis> },
    /// A reload begins: some are going to be renewed.
    Reloading,
    /// So many successors in a row were never ready; the place keeps whom it has (`member` is its place only).
    Kept { member: Member, deaths: u32 },
    /// The reload is over, as far as it got.
    Reloaded { renewed: usize, kept: usize },
    /// It has itself renewed those that it was told to.
    Renewed { member: Member },
    /// The end begins: nobody new is let in.
    Closing,
    /// The kernel refused to do something to a child.
    Failed { what: &'static str, pid: i32, error: &'a Error },
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Worker => "worker",
            Role::Task => "task worker",
            Role::User => "user process",
        };
        write!(f, "{role} {}", self.index)
    }
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun => f.write_str("all are forked"),
            Self::Starting { member } => write!(f, "starting {member}"),
            Self::Started { member, pid, .. } => write!(f, "{member} (pid {pid}) is started"),
            Self::NotStarted { member, error } => write!(f, "{member}: {error}"),
            Self::StartsLater { member, again } => write!(f, "cannot start {member}: trying again in {again} ms"),
            Self::Ready { member, pid } => write!(f, "{member} (pid {pid}) is ready"),
            Self::Trouble { member, text } => write!(f, "{member}: {text}"),
            Self::Asked { member, pid } => write!(f, "{member} (pid {pid}) is asked to leave"),
            Self::Killing { member, pid, asked, holds } => {
                let what = if *asked { "leave" } else { "become ready" };
                let comma = if holds.is_empty() { "" } else { ", " };
                write!(f, "{member} (pid {pid}) did not {what} in time{comma}{holds}: killing it")
            }
            Self::Vacated { member, pid, crashed } => {
                write!(f, "{member} (pid {pid}) {}", if *crashed { "crashed" } else { "is gone" })
            }
            Self::Died { member, pid, end, again } => {
                write!(f, "{member} (pid {pid}) ")?;
                match end {
                    End::Exit(status) => write!(f, "left with status {status}")?,
                    End::Signal(number) => write!(f, "was killed by signal {number}")?,
                }
                match again {
                    Some(0) => f.write_str(": starting the next one"),
                    Some(wait) => write!(f, ": starting the next one in {wait} ms"),
                    None => Ok(()),
                }
            }
            Self::Reloading => f.write_str("reloading"),
            Self::Kept { member, deaths } => {
                write!(f, "{member} keeps its process: {deaths} successors in a row were never ready")
            }
            Self::Reloaded { renewed, kept: 0 } => write!(f, "reloaded: {renewed} renewed"),
            Self::Reloaded { renewed, kept } => {
                write!(f, "reloaded: {renewed} renewed, {kept} keep their old process")
            }
            Self::Renewed { member } => write!(f, "{member} has renewed its own"),
            Self::Closing => f.write_str("stopping"),
            Self::Failed { what, pid, error } => write!(f, "cannot {what} process {pid}: {error}"),
        }
    }
}
