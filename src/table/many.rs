//! Many keys at once: while one row is on its way from memory, the next are asked for.

use super::Table;
use super::closure;
use super::ground::Name;
use super::row::Row;

/// How many keys a key is ahead of its row: its bucket is asked for now, its row so many keys later, and is read so many keys after that.
/// Enough to hide a miss behind the others, few enough for the processor to have a line fill buffer for each.
const AHEAD: usize = 12;

/// Keys on their way at once, and one more.
const RING: usize = (2 * AHEAD + 1).next_power_of_two();

impl Table {
    /// Looks up all of `keys` and calls `f` for each, in order, with its position and its row; each row is consistent in itself. Several
    /// times as fast as one [`get_into`](Table::get_into) after the other, where rows have to come from memory. Inside a closure of this table
    /// it finds nothing.
    ///
    /// # Examples
    /// ```
    /// let mut schema = commons::Schema::new();
    /// let hits = schema.int("hits");
    /// let table = commons::Table::new(8, schema)?;
    /// table.set("b", &[hits.is(2)])?;
    /// let mut seen = Vec::new();
    /// table.get_many(&["a", "b"], |i, row| seen.push((i, row.map(|row| row.get(hits)))));
    /// assert_eq!(seen, [(0, None), (1, Some(2))]);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K], mut f: impl FnMut(usize, Option<&Row>)) {
        let ground = &*self.ground;
        let refused = !closure::is_outside(ground);
        let mut row = self.row();
        let mut names: [Option<Name<'_>>; RING] = [None; RING];
        for step in 0..keys.len() + 2 * AHEAD {
            if let Some(key) = keys.get(step).map(AsRef::as_ref) {
                let possible = ground.is_possible(key) && !refused;
                let name = possible.then(|| ground.hashed(key));
                if let Some(name) = name {
                    crate::sync::prefetch(&ground.buckets[name.bucket]);
                }
                names[step % RING] = name;
            }
            if let Some(coming) = step.checked_sub(AHEAD).filter(|coming| *coming < keys.len())
                && let Some(name) = names[coming % RING]
            {
                ground.prefetch(name);
            }
            if let Some(n) = step.checked_sub(2 * AHEAD) {
                let copy = |words: &[crate::sync::AtomicU64]| row.copy_from(ground.columns_of(words));
                let found = names[n % RING].and_then(|name| ground.glance(name, copy)).is_some();
                f(n, found.then_some(&row));
            }
        }
    }
}
