//! Tasks of one process that have no answer yet: who waits for each, and since when.

use std::collections::HashMap;
use std::time::Duration;

use super::TaskId;
use super::send::{Sender, Want};
use crate::sync::clock;

/// By sequence.
#[derive(Default)]
pub(super) struct Outstanding(HashMap<u64, (Want, u64)>);

impl Outstanding {
    /// One more, from now on.
    pub(super) fn insert(&mut self, sequence: u64, want: Want) {
        self.0.insert(sequence, (want, clock::now()));
    }

    pub(super) fn remove(&mut self, sequence: &u64) -> Option<Want> {
        self.0.remove(sequence).map(|(want, _)| want)
    }

    pub(super) fn get_mut(&mut self, sequence: &u64) -> Option<&mut Want> {
        self.0.get_mut(sequence).map(|(want, _)| want)
    }

    pub(super) fn contains_key(&self, sequence: &u64) -> bool {
        self.0.contains_key(sequence)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Sender {
    /// The oldest `n` of the tasks that have no answer yet, and how long ago each was submitted.
    pub(crate) fn oldest(&self, n: usize) -> Vec<(TaskId, Duration)> {
        let (from, now, books) = (self.tenancy.address(), clock::now(), self.books());
        let mut all: Vec<_> = books.out.0.iter().map(|(sequence, (_, since))| (*sequence, *since)).collect();
        all.sort_unstable();
        let named = |(sequence, since)| (TaskId { from, sequence }, Duration::from_nanos(now.saturating_sub(since)));
        all.into_iter().take(n).map(named).collect()
    }
}
