//! The one unsafe step of the model: it stands on the floor where unsafe is allowed, and only `sync/model.rs` takes it in.

#![allow(unsafe_code)]

use loom::sync::atomic::AtomicU64;

/// Reads without synchronisation a word that only the calling thread can be writing; loom fails the model if another one is.
pub(super) fn load(word: &AtomicU64) -> u64 {
    // SAFETY: loom itself checks the one condition, that no write is concurrent with the read.
    unsafe { word.unsync_load() }
}
