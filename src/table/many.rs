//! Many keys at once: while one row is on its way from memory, the next are asked for.

use super::Table;
use super::closure;
use super::ground::Name;
use super::row::Row;

/// Keys on their way together: enough to hide a miss behind the others, few enough for the processor to have a line fill buffer for each.
const BATCH: usize = 32;

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
        let mut names: [Option<Name<'_>>; BATCH] = [None; BATCH];
        for (batch, keys) in keys.chunks(BATCH).enumerate() {
            for (name, key) in names.iter_mut().zip(keys) {
                *name = ground.name(key.as_ref()).ok().filter(|_| !refused);
                if let Some(name) = name {
                    crate::sync::prefetch(&ground.buckets[name.bucket]);
                }
            }
            names[..keys.len()].iter().flatten().for_each(|name| ground.prefetch(*name));
            for (n, name) in names[..keys.len()].iter().enumerate() {
                let copy = |words: &[crate::sync::AtomicU64]| row.copy_from(ground.columns_of(words));
                let found = name.and_then(|name| ground.glance(name, copy)).is_some();
                f(batch * BATCH + n, found.then_some(&row));
            }
        }
    }
}
