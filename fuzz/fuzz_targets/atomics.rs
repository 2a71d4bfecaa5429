//! Bytes to operations on the atomics, ours against the model that the property tests share.

#![no_main]
#![allow(dead_code, reason = "the other target's model comes along")]

#[path = "../../tests/model/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|ops: Vec<model::atomics::Op>| model::atomics::model(&ops));
