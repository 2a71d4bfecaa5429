//! Random sequences of operations against the models. COMMONS_PROPERTY_SECS lengthens the search.

#[allow(dead_code, reason = "the channel's model has a test of its own")]
mod model;

use std::time::Duration;

/// Bytes of the longest sequences: about a thousand operations.
const SIZE: u32 = 4096;

fn budget() -> Duration {
    let seconds = std::env::var("COMMONS_PROPERTY_SECS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
}

#[test]
fn atomics_are_integers() {
    arbtest::arbtest(|u| {
        model::atomics::model(&model::all(u));
        Ok(())
    })
    .size_max(SIZE)
    .budget(budget());
}

#[test]
fn locks_are_held_by_whom_the_model_says() {
    arbtest::arbtest(|u| {
        model::locks::model(&model::all(u));
        Ok(())
    })
    .size_max(SIZE)
    .budget(budget());
}

#[test]
fn a_table_is_a_map() {
    arbtest::arbtest(|u| {
        let shape = u.arbitrary()?;
        model::table::model(shape, &model::all(u));
        Ok(())
    })
    .size_max(SIZE)
    .budget(budget());
}

#[test]
fn a_channel_is_a_queue() {
    arbtest::arbtest(|u| {
        let shape = u.arbitrary()?;
        model::channel::model(shape, &model::all(u));
        Ok(())
    })
    .size_max(SIZE)
    .budget(budget());
}
