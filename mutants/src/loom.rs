//! Mutants.
use crate::Mutant;
pub const MUTANTS: &[Mutant] = &[];
