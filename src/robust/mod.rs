//! Temporary stand-in for the real recovery; replaced when the branches are merged.

/// Recovers what a dead process left; returns how many participants it had.
#[allow(clippy::unnecessary_wraps)]
pub fn recover(_pid: u32) -> crate::Result<usize> {
    Ok(0)
}
