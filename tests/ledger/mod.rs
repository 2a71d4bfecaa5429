//! What the tests of tables between processes share: rows that can be seen to be whole, and numbers in shared memory that have nothing to do with
//! what is tested.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(unsafe_code)]
#![allow(clippy::disallowed_types, reason = "not through the door: a test's own memory")]

use std::sync::atomic::{AtomicU64, Ordering};

use commons::{Column, Outcome, Row, RowMut, Schema, Table};

/// As many numbers as asked for, all zero at first. The kernel only backs the pages that are written.
pub(crate) struct Numbers {
    at: *const AtomicU64,
    len: usize,
}

impl Numbers {
    pub(crate) fn new(len: usize) -> Numbers {
        let (prot, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: a new mapping, wherever the kernel likes.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len * 8, prot, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        Numbers { at: at.cast(), len }
    }

    fn all(&self) -> &[AtomicU64] {
        // SAFETY: mapped until `self` is dropped, aligned to a page, zeroed, and only ever used as atomics.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }

    pub(crate) fn get(&self, n: usize) -> u64 {
        self.all()[n].load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, n: usize, value: u64) {
        self.all()[n].store(value, Ordering::SeqCst);
    }

    pub(crate) fn add(&self, n: usize, more: u64) {
        self.all()[n].fetch_add(more, Ordering::SeqCst);
    }

    pub(crate) fn or(&self, n: usize, bits: u64) {
        self.all()[n].fetch_or(bits, Ordering::SeqCst);
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made.
        unsafe { libc::munmap(self.at.cast_mut().cast(), self.len * 8) };
    }
}

/// A table whose rows say the same three times.
pub(crate) struct Thrice {
    pub(crate) table: Table,
    pub(crate) n: Column<i64>,
    pub(crate) half: Column<f64>,
    pub(crate) text: Column<str>,
}

pub(crate) fn text(n: i64) -> String {
    if n == 0 { String::new() } else { format!("{n:0>width$}", width = (n % 60) as usize) }
}

impl Thrice {
    pub(crate) fn new(capacity: usize, buckets: usize) -> Thrice {
        let mut schema = Schema::new();
        let (n, half, text) = (schema.int("n"), schema.float("half"), schema.string("text", 64));
        let table = Table::builder().capacity(capacity).schema(schema).buckets(buckets).build().unwrap();
        Thrice { table, n, half, text }
    }

    pub(crate) fn set(&self, key: &str, n: i64) -> Outcome {
        self.table.set(key, &[self.text.is(&text(n)), self.n.is(n), self.half.is(n as f64 / 2.0)]).unwrap()
    }

    pub(crate) fn write(&self, row: &mut RowMut<'_>, n: i64) {
        assert_eq!((row.get(self.half), row.get(self.text)), (row.get(self.n) as f64 / 2.0, &*text(row.get(self.n))));
        row.set(self.half, n as f64 / 2.0);
        row.set(self.text, &text(n));
        row.set(self.n, n);
    }

    /// The number that a row says, three times.
    #[track_caller]
    pub(crate) fn whole(&self, row: &Row) -> i64 {
        let n = row.get(self.n);
        assert_eq!((row.get(self.half), row.get(self.text)), (n as f64 / 2.0, &*text(n)), "a torn row");
        n
    }
}

pub(crate) fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
