//! What names a timer.

/// Names a timer: which heap, which entry, which generation. Never reused, and valid in every process that has the heap.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId {
    /// The heap's lock, by region and place there: two heaps in one region are two.
    pub(super) heap: u64,
    pub(super) entry: u32,
    /// Which timer of that heap, counted from 1.
    pub(super) generation: u64,
}

impl TimerId {
    /// The id as bytes, to be sent to another process or kept in a table.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let timer = commons::Timer::new(100)?;
    /// let bytes = timer.after(Duration::from_millis(50), 7)?.to_bytes();
    /// // … in another process:
    /// assert!(timer.clear(commons::TimerId::from_bytes(bytes))?);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.heap.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.entry.to_le_bytes());
        bytes[12..].copy_from_slice(&self.generation.to_le_bytes());
        bytes
    }

    /// The id of these bytes; what never was an id is one of no timer.
    pub fn from_bytes(bytes: [u8; 20]) -> TimerId {
        let (heap, rest) = bytes.split_at(8);
        let (entry, generation) = rest.split_at(4);
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        TimerId { heap: number(heap), entry: number(entry) as u32, generation: number(generation) }
    }
}

impl std::fmt::Debug for TimerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TimerId({}:{}:{})", self.heap, self.entry, self.generation)
    }
}
