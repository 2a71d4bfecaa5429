//! A region's bytes as a tool reads them that has only its memfd.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs::File;
use std::os::unix::fs::FileExt;

use commons::harness::mapped;

/// The words of a region, read through `/proc/self/fd/N`, opened anew and read-only.
pub(crate) fn words(name: &str) -> Vec<u64> {
    let region = mapped().into_iter().find(|region| region.name == name).expect("the region is mapped");
    let file = File::open(format!("/proc/self/fd/{}", region.fd)).expect("anybody with the right to may open it");
    let mut bytes = vec![0; region.len];
    file.read_exact_at(&mut bytes, 0).expect("it is as long as it is mapped");
    bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect()
}

/// What the deeds say: kind, bytes, and where the placement begins, in words.
pub(crate) fn deeds(words: &[u64]) -> Vec<(u64, u64, usize)> {
    let mut found = Vec::new();
    let mut at = 256 / 8;
    while let Some(&claim) = words.get(at).filter(|claim| **claim != 0) {
        let (kind, bytes) = (claim >> 48, claim & ((1 << 48) - 1));
        found.push((kind, bytes, at + 8));
        at += 8 + bytes as usize / 8;
    }
    found
}
