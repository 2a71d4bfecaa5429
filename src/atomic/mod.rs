//! Temporary stand-in for the real atomics; replaced when the branches are merged.
#![allow(unsafe_code, dead_code, clippy::disallowed_types, missing_docs)]

use crate::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

struct Page(*const AtomicI64);
// SAFETY: the page holds one atomic and nothing else.
unsafe impl Send for Page {}
// SAFETY: the page holds one atomic and nothing else.
unsafe impl Sync for Page {}

impl Page {
    fn new(value: i64) -> Result<Arc<Self>> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let at =
            unsafe { mmap_anonymous(std::ptr::null_mut(), 4096, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED) }
                .map_err(Error::system("mmap"))?;
        let page = Self(at.cast());
        page.cell().store(value, SeqCst);
        Ok(Arc::new(page))
    }
    fn cell(&self) -> &AtomicI64 {
        // SAFETY: the mapping is page aligned, zeroed, and never unmapped.
        unsafe { &*self.0 }
    }
}

#[derive(Clone)]
pub struct Counter(Arc<Page>);
impl Counter {
    pub fn new() -> Result<Self> {
        Ok(Self(Page::new(0)?))
    }
    pub fn add(&self, n: i64) {
        self.0.cell().fetch_add(n, SeqCst);
    }
    pub fn get(&self) -> i64 {
        self.0.cell().load(SeqCst)
    }
}

#[derive(Clone)]
pub struct AtomicLong(Arc<Page>);
impl AtomicLong {
    pub fn new(value: i64) -> Result<Self> {
        Ok(Self(Page::new(value)?))
    }
    pub fn get(&self) -> i64 {
        self.0.cell().load(SeqCst)
    }
    pub fn set(&self, value: i64) {
        self.0.cell().store(value, SeqCst);
    }
    pub fn add(&self, n: i64) -> i64 {
        self.0.cell().fetch_add(n, SeqCst).wrapping_add(n)
    }
    pub fn sub(&self, n: i64) -> i64 {
        self.0.cell().fetch_sub(n, SeqCst).wrapping_sub(n)
    }
    pub fn cmpset(&self, old: i64, new: i64) -> bool {
        self.0.cell().compare_exchange(old, new, SeqCst, SeqCst).is_ok()
    }
}
