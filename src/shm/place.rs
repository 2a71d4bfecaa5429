//! Handles to what stands in a region: the one step from memory to `&T`.

use std::ops::Deref;

use super::atlas::Key;
use super::header::Kind;
use super::region::Region;
use super::shared::Shared;
use crate::Result;
use crate::sync::AtomicU64;

/// One `T` in a region. Keeps the region mapped; cloning gives another handle to the same `T`.
pub(crate) struct Place<T: Shared> {
    row: Row<T>,
}

impl<T: Shared> Place<T> {
    /// Places a `T`, all zero, in `region`.
    pub(crate) fn new(region: &Region, kind: Kind) -> Result<Place<T>> {
        Ok(Place { row: Row::new(region, kind, 1)? })
    }

    /// The one `T` of this kind in `region`, placed by whoever asks first.
    pub(crate) fn only(region: &Region, kind: Kind) -> Result<Place<T>> {
        Ok(Place { row: Row::only(region, kind, 1)? })
    }

    /// The name of one of its cells, which holds in every process.
    pub(crate) fn key(&self, cell: &AtomicU64) -> Key {
        self.row.key(cell)
    }

    /// A handle to one of its parts.
    ///
    /// # Panics
    /// When `part` returns something that is no part of it.
    pub(crate) fn part<U: Shared>(&self, part: impl FnOnce(&T) -> &U) -> Place<U> {
        let at = std::ptr::from_ref(part(self));
        let distance = at.addr().wrapping_sub(self.row.at.addr());
        assert!(distance <= size_of::<T>() - size_of::<U>(), "the part lies outside the placement");
        Place { row: Row { at, len: 1, offset: self.row.offset + distance, region: self.row.region.clone() } }
    }
}

impl<T: Shared> Deref for Place<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: as in `Row::deref`; a Place is a Row of length 1.
        unsafe { &*self.row.at }
    }
}

impl<T: Shared> Clone for Place<T> {
    fn clone(&self) -> Self {
        Place { row: self.row.clone() }
    }
}

/// A slice of `T` in a region, likewise.
pub(crate) struct Row<T: Shared> {
    at: *const T,
    len: usize,
    offset: usize,
    region: Region,
}

// SAFETY: a Row gives out only `&T`, and `T: Sync`; the pointer itself is never written.
unsafe impl<T: Shared> Send for Row<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for Row<T> {}

impl<T: Shared> Row<T> {
    /// Places `len` values, all zero, in `region`.
    pub(crate) fn new(region: &Region, kind: Kind, len: usize) -> Result<Row<T>> {
        let (at, offset) = region.take::<T>(kind, len)?;
        Ok(Row { at, len, offset, region: region.clone() })
    }

    /// The one slice of `len` values of this kind in `region`, placed by whoever asks first.
    pub(crate) fn only(region: &Region, kind: Kind, len: usize) -> Result<Row<T>> {
        let (at, offset) = region.take_once::<T>(kind, len)?;
        Ok(Row { at, len, offset, region: region.clone() })
    }

    /// The name of one of its cells, which holds in every process.
    ///
    /// # Panics
    /// When `cell` is none of its cells.
    pub(crate) fn key(&self, cell: &AtomicU64) -> Key {
        let distance = std::ptr::from_ref(cell).expose_provenance().wrapping_sub(self.at.addr());
        assert!(distance < size_of::<T>() * self.len, "the cell lies outside the placement");
        Key::new(self.region.id(), self.offset + distance)
    }
}

impl<T: Shared> Deref for Row<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `at` and `len` come from `Region::take` or `take_once` (or name a part of such a place, see `Place::part`), which reserved
        // that many `T` for this Row or all that name the same, zeroed (a valid `T`, by `Shared`) and aligned, in memory that `region` keeps; it was proven to be made only of atomics.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }
}

impl<T: Shared> Clone for Row<T> {
    fn clone(&self) -> Self {
        Row { at: self.at, len: self.len, offset: self.offset, region: self.region.clone() }
    }
}
