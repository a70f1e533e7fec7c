// SPDX-License-Identifier: BSD-2-Clause
//! H_BULK_REMOVE (2.2).

use crate::hypercall::{Outcome, Words};
use crate::{Hpt, Pages, Table};
use heapless::Vec;
use partita_papr::Ptex;
use partita_papr::hcall::{BulkCode, BulkPair, Condition, bulk_response, status};
use partita_papr::hpte::{ABSENT, VALID, matches};

/// Pairs of a call.
const PAIRS: usize = 4;

/// Entries that are locked and wait for one synchronisation. Only the first lock of a batch may
/// be waited for: two processors that wait for each other's second would wait for ever.
#[derive(Default)]
struct Batch {
    entries: Vec<Ptex, PAIRS>,
    /// dw0 of each, and which pair of the call it is.
    requests: Vec<(u64, usize), PAIRS>,
}

impl Batch {
    fn push(&mut self, ptex: Ptex, v: u64, pair: usize) {
        // There are as many places as pairs.
        let _ = self.entries.push(ptex);
        let _ = self.requests.push((v, pair));
    }
}

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// H_BULK_REMOVE: up to four pairs in r4..r11, answered in place.
    #[inline(never)]
    pub(crate) fn bulk_remove(&self, words: &mut Words) -> Outcome {
        let mut batch = Batch::default();
        let mut result = status::H_SUCCESS;
        for pair in 0..PAIRS {
            let (request, value) = (words[2 * pair], words[2 * pair + 1]);
            let (index, condition) = match BulkPair::decode(request) {
                BulkPair::End => break,
                BulkPair::Remove { index, condition } => (index, condition),
                BulkPair::Invalid => (u64::MAX, Condition::Absolute),
            };
            let Some((ptex, rev)) = self.state.find(index) else {
                words[2 * pair] = bulk_response(request, BulkCode::Parameter, 0);
                result = status::H_PARAMETER;
                break;
            };
            let v = match rev.try_lock() {
                Some(v) => v,
                None => {
                    self.finish(&mut batch, words, &mut result);
                    rev.lock()
                }
            };
            let (avpn, andcond) = match condition {
                Condition::Absolute => (None, None),
                Condition::AndCond => (None, Some(value)),
                Condition::Avpn => (Some(value), None),
            };
            if v & (VALID | ABSENT) == 0 || !matches(v, avpn, andcond) {
                rev.unlock(v);
                words[2 * pair] = bulk_response(request, BulkCode::NotFound, 0);
            } else if v & VALID == 0 {
                let dw1 = self.forget(ptex, rev, v, 0);
                words[2 * pair] = bulk_response(request, BulkCode::Success, dw1);
            } else {
                batch.push(ptex, v, pair);
            }
        }
        self.finish(&mut batch, words, &mut result);
        Outcome {
            status: result,
            count: 2 * PAIRS,
        }
    }

    /// Removes the collected entries, answers their pairs and empties the batch.
    #[inline(never)]
    fn finish(&self, batch: &mut Batch, words: &mut Words, result: &mut i64) {
        if batch.entries.is_empty() {
            return;
        }
        let removed = self.table.remove_batch(&batch.entries);
        let entries = batch.entries.iter().zip(&batch.requests);
        for (i, (&ptex, &(v, pair))) in entries.enumerate() {
            let Some(rev) = self.state.entry(ptex) else {
                continue;
            };
            // Pairs are 0 to 3; the mask says so to the compiler.
            let word = &mut words[2 * (pair % PAIRS)];
            *word = match &removed {
                Ok(rc) => {
                    let dw1 = self.forget(ptex, rev, v, rc[i]);
                    bulk_response(*word, BulkCode::Success, dw1)
                }
                Err(_) => {
                    rev.unlock(v);
                    *result = status::H_HARDWARE;
                    bulk_response(*word, BulkCode::Hardware, 0)
                }
            };
        }
        batch.entries.clear();
        batch.requests.clear();
    }
}
