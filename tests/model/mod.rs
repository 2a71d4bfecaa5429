//! The structures against plain models: a sequence of operations, ours and a model's answer to each, compared.
//!
//! `cargo test` feeds the models with random sequences (`tests/properties.rs`), the fuzzer with those that reach new code (`fuzz/`).

use arbitrary::{Arbitrary, Unstructured};

pub(crate) mod atomics;
pub(crate) mod channel;
pub(crate) mod locks;
pub(crate) mod table;
pub(crate) mod timer;

/// As many operations as the bytes are good for. `Vec`'s own `arbitrary` asks a byte before each element whether to go on, and random bytes say
/// no every other time: sequences of one or two.
pub(crate) fn all<'b, T: Arbitrary<'b>>(bytes: &mut Unstructured<'b>) -> Vec<T> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        found.extend(T::arbitrary(bytes));
    }
    found
}
