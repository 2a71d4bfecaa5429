//! Byte strings as runs of 64-bit words: the only form in which bytes live in a region.
//!
//! The first byte is the lowest of the first word, on every machine; the last word is filled up with zeroes.

use crate::sync::{AtomicU64, Ordering};

/// Words needed for `len` bytes.
pub(crate) const fn words_for(len: usize) -> usize {
    len.div_ceil(8)
}

/// Stores `bytes` into the first words of `words`; the rest of the words stays.
///
/// # Panics
/// When they do not fit: the caller has checked the length, and reported it by name.
#[inline]
pub(crate) fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    let words = &words[..words_for(bytes.len())];
    let (whole, rest) = bytes.as_chunks();
    for (word, chunk) in words.iter().zip(whole) {
        // Relaxed: whoever publishes the bytes does so by a store of its own after these.
        word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
    }
    if let (Some(word), false) = (words.last(), rest.is_empty()) {
        word.store(partial(rest), Ordering::Relaxed); // as above
    }
}

/// Fewer than eight bytes as a word that ends in zeroes. Without a loop: two looks that may overlap.
#[inline(always)]
pub(crate) fn partial(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (len - 4));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return u64::from(u16::from_le_bytes(*first)) | u64::from(u16::from_le_bytes(*last)) << (8 * (len - 2));
    }
    bytes.first().map_or(0, |byte| u64::from(*byte))
}

/// Copies `into.len()` bytes out of `words`.
///
/// # Panics
/// When there are fewer.
#[inline]
pub(crate) fn load_bytes(words: &[AtomicU64], into: &mut [u8]) {
    let words = &words[..words_for(into.len())];
    let (whole, rest) = into.as_chunks_mut();
    for (word, chunk) in words.iter().zip(whole) {
        // Relaxed: ordered by what the caller read before (a lock, a version, a published length).
        *chunk = word.load(Ordering::Relaxed).to_le_bytes();
    }
    if let (Some(word), false) = (words.last(), rest.is_empty()) {
        let last = word.load(Ordering::Relaxed).to_le_bytes(); // as above
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_comes_back_and_touches_no_word_beyond() {
        for len in 0..=40 {
            let words: Vec<AtomicU64> = (0..6).map(|_| AtomicU64::new(u64::MAX)).collect();
            let bytes: Vec<u8> = (0..len as u8).map(|b| b.wrapping_mul(37) ^ 0xa5).collect();
            store_bytes(&words, &bytes);
            let mut back = vec![0; len];
            load_bytes(&words, &mut back);
            assert_eq!(back, bytes);
            assert!(words[words_for(len)..].iter().all(|w| w.load(Ordering::Relaxed) == u64::MAX));
        }
    }
}
