//! Random sequences of operations against the models. COMMONS_PROPERTY_SECS lengthens the search.

mod model;

use std::time::Duration;

fn budget() -> Duration {
    let seconds = std::env::var("COMMONS_PROPERTY_SECS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
}

#[test]
fn atomics_are_integers() {
    arbtest::arbtest(|u| {
        model::atomics::model(&u.arbitrary::<Vec<_>>()?);
        Ok(())
    })
    .budget(budget());
}

#[test]
fn locks_are_held_by_whom_the_model_says() {
    arbtest::arbtest(|u| {
        model::locks::model(&u.arbitrary::<Vec<_>>()?);
        Ok(())
    })
    .budget(budget());
}
