//! The name in the process list; what a process has there, and how it gets there, is told in `sys/title.rs`.
#![forbid(unsafe_code)]

use crate::sys::title::{LINE_MAX, NAME_MAX, set_command_line, set_name};
use crate::{Error, Result};
use std::ffi::CString;

/// What the process list is to show.
#[derive(Clone, Debug)]
pub(crate) struct Title {
    name: CString,
    line: String,
}

impl Title {
    /// `name` is what `ps -o comm` and `top` show; `line` is what `ps -o args` and `pgrep -f` see.
    ///
    /// # Errors
    /// [`Error::NameTooLong`] for a name of more than 15 bytes, the kernel's limit, or a line of more than 4095; [`Error::BadName`] for a zero byte.
    pub(crate) fn new(name: &str, line: &str) -> Result<Title> {
        for (text, max) in [(name, NAME_MAX), (line, LINE_MAX - 1)] {
            if text.len() > max {
                return Err(Error::NameTooLong { name: text.into(), len: text.len(), max });
            }
            if text.contains('\0') {
                return Err(Error::BadName { name: text.into() });
            }
        }
        let c_name = CString::new(name).map_err(|_| Error::BadName { name: name.into() })?;
        Ok(Title { name: c_name, line: line.into() })
    }

    /// Shows it. The process must have one thread. False when the kernel, or a root directory without /proc, allows the name alone.
    pub(crate) fn show(&self) -> Result<bool> {
        set_name(&self.name).map_err(Error::system("prctl(PR_SET_NAME)"))?;
        Ok(set_command_line(self.line.as_bytes()).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_nothing_is_cut() {
        assert!(Title::new("fifteen bytes !", &"x".repeat(4095)).is_ok());
        let said = |name: &str, line: &str| Title::new(name, line).unwrap_err().to_string();
        assert_eq!(said("sixteen bytes !!", ""), "the name \"sixteen bytes !!\" has 16 bytes, at most 15 are allowed");
        assert!(said("a", &"x".repeat(4096)).ends_with("has 4096 bytes, at most 4095 are allowed"));
        assert_eq!(said("a\0b", ""), "the name \"a\\0b\" holds a zero byte");
    }
}
