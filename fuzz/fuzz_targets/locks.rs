//! Bytes to operations on the locks, ours against the model that the property tests share.

#![no_main]
#![allow(dead_code, reason = "the other targets' models come along")]

#[path = "../../tests/model/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| model::locks::model(&model::all(&mut arbitrary::Unstructured::new(bytes))));
