//! What the unit tests of this floor share.
#![forbid(unsafe_code)]

use std::path::PathBuf;

/// A folder of a test's own, gone when it ends.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        let name =
            format!("commons-{}-{:?}-{}", std::process::id(), std::thread::current().id(), crate::sys::clock::now());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
