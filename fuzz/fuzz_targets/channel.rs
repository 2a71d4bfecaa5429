//! Bytes to operations on a small channel, ours against the model that the property tests share.

#![no_main]
#![allow(dead_code, reason = "the other targets' models come along")]

#[path = "../../tests/model/mod.rs"]
mod model;

use arbitrary::{Arbitrary, Unstructured};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Unstructured::new(bytes);
    if let Ok(shape) = model::channel::Shape::arbitrary(&mut bytes) {
        model::channel::model(shape, &model::all(&mut bytes));
    }
});
