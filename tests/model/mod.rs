//! The structures against plain models: a sequence of operations, ours and a model's answer to each, compared.
//!
//! `cargo test` feeds the models with random sequences (`tests/properties.rs`), the fuzzer with those that reach new code (`fuzz/`).

pub(crate) mod atomics;
pub(crate) mod locks;
