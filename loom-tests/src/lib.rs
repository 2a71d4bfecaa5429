//! The stage on which the models of `tests/` are played: every interleaving within a bound of preemptions, every value that the memory
//! model lets a load see, and deaths at every operation.
//!
//! Run inside this folder, `cargo test`: its `.cargo/config.toml` puts loom behind the crate's door. `COMMONS_LOOM_BOUND` is the number of
//! preemptions (2 when it is not set; 3 takes half an hour).
//!
//! Every model has mutants that it must catch (`mutants/src/loom.rs`): loom can pass by looking at too little.

#[cfg(not(commons_loom))]
compile_error!(
    "this package is built without `--cfg commons_loom`, and would test nothing: run `cargo test` inside loom-tests/"
);

mod stage;

pub use stage::{Data, Part, Play, Stage, Tally, crowd, duet, go};
