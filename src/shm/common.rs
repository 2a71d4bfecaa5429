//! The common: small structures share regions, so that a thousand locks are not a thousand memfds.
//!
//! A process places small things in its current common region and makes the next one when that is full. A forked process goes on in
//! the inherited one: deeds are claimed in shared memory, so parent and child never get the same place. A region goes when
//! the last structure in it does (in each process), so making and dropping small structures for ever takes no more memory.

use std::sync::{Mutex, PoisonError};

use super::header::Kind;
use super::place::Place;
use super::region::Region;
use super::shared::Shared;
use crate::sync::process_static;
use crate::sys::fork::gated;
use crate::{Error, Result};

const COMMON_BYTES: usize = 64 << 10;

process_static! {
    /// Locked only inside the gate, so that a fork never copies it locked.
    static CURRENT: Mutex<Option<Region>> = Mutex::new(None);
}

/// Places a `T`, all zero, in the common.
pub(crate) fn place_in_common<T: Shared>(kind: Kind) -> Result<Place<T>> {
    let current = gated(|| CURRENT.lock().unwrap_or_else(PoisonError::into_inner).clone());
    if let Some(region) = current {
        match Place::new(&region, kind) {
            Err(Error::OutOfMemory { .. }) => {}
            placed => return placed,
        }
    }
    let region = Region::new("common", COMMON_BYTES)?;
    let place = Place::new(&region, kind)?;
    gated(|| *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = Some(region));
    Ok(place)
}
