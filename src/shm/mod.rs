//! Floor 2, the land: memory that processes share, and the one way to read it.
//!
//! # What lies in a region
//! ```text
//! 0        header   magic, layout version, id, size, creator, name          (one 256-byte block, `header`)
//! 256      deed     what stands next and how long it is                     (64 bytes, before every placement)
//! 320      …        the placement: a `Shared` struct, or a slice of them
//! …        deed, placement, deed, placement, … zeroes
//! ```
//! So a tool that has only the memory can walk it: each deed says what follows and where the next deed is.
//!
//! # The first law
//! Only atomics live here. A type says so by being [`Shared`], which the `shared!` macro writes for a struct of `Shared`
//! fields; before a region hands out a `&T`, it builds a `T` of its own and walks it ([`proof`]): every byte must
//! belong to exactly one atomic cell. So a struct with a plain integer, a pointer or a hidden padding byte cannot get into
//! shared memory, whoever writes the `impl`. All zeroes must be a valid, empty value: that is what fresh memory holds.
//!
//! # Placing is safe from any process, and its death
//! The first word of a deed is claimed by one compare-exchange from zero to (what, how long); `used` in the header is
//! only a hint of where the next deed may be, moved on by whoever finds it behind. A process that dies before the claim
//! leaves nothing; after it, a placement of known length that nobody uses.
//!
//! # Keys
//! A cell is named across processes by its region's id and its offset ([`Key`]), never by address. The atlas (one a process)
//! finds the cell again, if this process still has the region mapped; a fork copies the atlas with the mappings.
//!
//! `unsafe` is allowed here and on floor 0 and nowhere else. Everything above sees only `&T where T: Shared`.

#![allow(unsafe_code)]

mod atlas;
mod bytes;
mod common;
mod header;
mod place;
mod region;
mod shared;

pub(crate) use atlas::{Key, root};
#[doc(hidden)]
pub use atlas::{Mapped, mapped};
#[allow(unused_imports, reason = "the tables and rings of later floors store strings")]
pub(crate) use bytes::{load_bytes, partial, store_bytes, words_for};
pub(crate) use common::place_in_common;
pub(crate) use header::Kind;
pub(crate) use place::{Place, Row};
pub use region::Region;
pub(crate) use shared::{Pad, Shared, Walk, shared};
