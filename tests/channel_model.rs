//! Random sequences of operations on a small channel, against a queue. COMMONS_PROPERTY_SECS lengthens the search.

#[allow(dead_code, reason = "the other structures' models come along")]
mod model;

use std::time::Duration;

/// Bytes of the longest sequences: about a thousand operations.
const SIZE: u32 = 4096;

#[test]
fn a_channel_is_a_queue() {
    let seconds = std::env::var("COMMONS_PROPERTY_SECS").ok().and_then(|text| text.parse().ok());
    arbtest::arbtest(|u| {
        let shape = u.arbitrary()?;
        model::channel::model(shape, &model::all(u));
        Ok(())
    })
    .size_max(SIZE)
    .budget(Duration::from_secs(seconds.unwrap_or(2)));
}
