// SPDX-License-Identifier: BSD-2-Clause
//! The dirty log: a bit for each page of guest memory that has changed since somebody looked.

use core::sync::atomic::{AtomicU64, Ordering};

/// The region `dirty_log`, which several PDs write and `control` reads and clears. All zeros is an
/// empty log.
#[derive(Clone, Copy, Debug)]
pub struct DirtyLog<'a>(&'a [AtomicU64]);

impl<'a> DirtyLog<'a> {
    /// Over the words of the region.
    pub const fn new(words: &'a [AtomicU64]) -> Self {
        DirtyLog(words)
    }

    /// Sets the bits of `count` pages from `gfn` on; those past the end have none.
    pub fn mark(&self, gfn: u64, count: u64) {
        let end = gfn.saturating_add(count).min(self.0.len() as u64 * 64);
        let mut next = gfn;
        while next < end {
            let bits = (end - next).min(64 - next % 64);
            if let Some(word) = self.0.get((next / 64) as usize) {
                word.fetch_or((u64::MAX >> (64 - bits)) << (next % 64), Ordering::Relaxed);
            }
            next += bits;
        }
    }

    /// Takes the bits of 64 pages out, the first of which is 64 * `word`. What is written to them from
    /// now on is marked anew.
    pub fn take(&self, word: usize) -> u64 {
        match self.0.get(word) {
            Some(word) => word.swap(0, Ordering::AcqRel),
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_takes() {
        let words = [const { AtomicU64::new(0) }; 3];
        let log = DirtyLog::new(&words);
        log.mark(0, 1);
        log.mark(62, 68);
        assert_eq!(log.take(0), 1 | 3 << 62);
        assert_eq!(log.take(0), 0);
        assert_eq!((log.take(1), log.take(2)), (u64::MAX, 3));
        log.mark(191, 100);
        log.mark(192, 1);
        log.mark(u64::MAX, u64::MAX);
        log.mark(5, 0);
        assert_eq!((log.take(0), log.take(1), log.take(2)), (0, 0, 1 << 63));
        assert_eq!(log.take(3), 0);
    }
}
