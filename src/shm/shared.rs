//! What may live in a region, and the proof that it does.

use crate::sync::{AtomicU64, Filler, MODELLED};

/// A type made only of atomic cells, for which all zeroes is a valid, empty value.
///
/// Written by the `shared!` macro. The trait is safe because it is not believed: see [`prove`].
pub(crate) trait Shared: Send + Sync + Sized + 'static {
    /// An empty value, cell by cell: what a region's zeroed bytes are in production, and what is built where there are
    /// no bytes (under loom).
    fn vacant() -> Self;

    /// Shows every cell, in order of address.
    fn walk(&self, walk: &mut Walk);
}

/// Collects the cells of a value: where each begins, and how long it is.
#[derive(Default)]
pub(crate) struct Walk {
    cells: Vec<(usize, usize)>,
}

impl Walk {
    fn cell<T>(&mut self, cell: &T) {
        self.cells.push((std::ptr::from_ref(cell).addr(), size_of::<T>()));
    }
}

impl Shared for AtomicU64 {
    fn vacant() -> Self {
        AtomicU64::new(0)
    }
    fn walk(&self, walk: &mut Walk) {
        walk.cell(self);
    }
}

impl<T: Shared, const N: usize> Shared for [T; N] {
    fn vacant() -> Self {
        std::array::from_fn(|_| T::vacant())
    }
    fn walk(&self, walk: &mut Walk) {
        self.iter().for_each(|item| item.walk(walk));
    }
}

/// `N` words that nobody reads: they keep what follows off a cache line, and every byte accounted for.
#[repr(transparent)]
pub(crate) struct Pad<const N: usize>([Filler; N]);

impl<const N: usize> Shared for Pad<N> {
    fn vacant() -> Self {
        Pad([const { Filler::new(0) }; N])
    }
    fn walk(&self, walk: &mut Walk) {
        walk.cell(self);
    }
}

/// Writes a struct of `Shared` fields, in C layout, and its `Shared`.
macro_rules! shared {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $ty),* }

        impl $crate::shm::Shared for $name {
            fn vacant() -> Self {
                Self { $($field: <$ty as $crate::shm::Shared>::vacant()),* }
            }
            fn walk(&self, walk: &mut $crate::shm::Walk) {
                $($crate::shm::Shared::walk(&self.$field, walk);)*
            }
        }
    };
}
pub(crate) use shared;

/// Checks that every byte of a `T` belongs to exactly one atomic cell, and that a region can align it.
///
/// # Panics
/// When it does not: a mistake in this crate, not in its use, and one that the first test of the type meets.
pub(crate) fn prove<T: Shared>() {
    if MODELLED {
        return; // loom's cells are not their bytes
    }
    assert!(align_of::<T>() <= ALIGN && size_of::<T>() > 0, "{} cannot be placed", std::any::type_name::<T>());
    let probe = T::vacant();
    let mut walk = Walk::default();
    probe.walk(&mut walk);
    let start = std::ptr::from_ref(&probe).addr();
    let end = walk.cells.iter().fold(start, |at, &(cell, len)| if cell == at { at + len } else { usize::MAX / 2 });
    assert!(end == start + size_of::<T>(), "{} holds bytes that are no atomic cell", std::any::type_name::<T>());
}

/// Every placement begins on a cache line.
pub(crate) const ALIGN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    struct Liar {
        _plain: std::cell::UnsafeCell<u64>,
        cell: AtomicU64,
    }
    // SAFETY: never shared; the type exists to be refused.
    unsafe impl Sync for Liar {}
    impl Shared for Liar {
        fn vacant() -> Self {
            Liar { _plain: 0.into(), cell: AtomicU64::new(0) }
        }
        fn walk(&self, walk: &mut Walk) {
            self.cell.walk(walk);
        }
    }

    /// A struct aligned beyond its fields ends in bytes that are no cell.
    #[repr(C, align(64))]
    struct Holey {
        cell: AtomicU64,
    }
    impl Shared for Holey {
        fn vacant() -> Self {
            Holey { cell: AtomicU64::new(0) }
        }
        fn walk(&self, walk: &mut Walk) {
            self.cell.walk(walk);
        }
    }
    shared! { struct Whole { small: [AtomicU64; 2], large: AtomicU64, pad: Pad<5> } }

    #[test]
    #[should_panic(expected = "no atomic cell")]
    fn a_plain_field_is_refused() {
        prove::<Liar>();
    }

    #[test]
    #[should_panic(expected = "no atomic cell")]
    fn a_padding_hole_is_refused() {
        prove::<Holey>();
    }

    #[test]
    fn whole_structs_pass() {
        prove::<Whole>();
        assert_eq!(size_of::<Whole>(), 64);
    }
}
