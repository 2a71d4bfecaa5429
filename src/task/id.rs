//! Names of tasks.

use std::fmt;

use crate::process::roll::Address;

/// Names a task, for ever: who submitted it (a slot and the how-many-eth process in it), and the how-many-eth of that one's it was.
///
/// # Examples
/// ```
/// fn log(id: commons::TaskId) -> String {
///     format!("task {id} of slot {}", id.slot()) // "task 3.17.204 of slot 3"
/// }
/// # let _ = log;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    pub(super) from: Address,
    pub(super) sequence: u64,
}

impl TaskId {
    /// The slot of the process that submitted it.
    pub fn slot(self) -> u32 {
        self.from.slot
    }

    /// The how-many-eth process in that slot it was, from 1 on.
    pub fn generation(self) -> u64 {
        self.from.generation
    }

    /// The how-many-eth task of that process, from 1 on; a number is left out where a submission was refused.
    pub fn sequence(self) -> u64 {
        self.sequence
    }

    /// For shared memory; the last of them is never 0.
    pub(crate) fn words(self) -> [u64; 3] {
        [self.from.slot.into(), self.from.generation, self.sequence]
    }

    pub(crate) fn of_words([slot, generation, sequence]: [u64; 3]) -> TaskId {
        TaskId { from: Address { slot: slot as u32, generation }, sequence }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.from.slot, self.from.generation, self.sequence)
    }
}
