//! Bytes to operations on a small timer, ours against the model that the property tests share.

#![no_main]
#![allow(dead_code, reason = "the other targets' models come along")]

#[path = "../../tests/model/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((capacity, rest)) = bytes.split_first() {
        model::timer::model(*capacity, &model::all(&mut arbitrary::Unstructured::new(rest)));
    }
});
