// SPDX-License-Identifier: BSD-2-Clause
//! H_BULK_REMOVE (2.2).

use crate::hypercall::{Outcome, Words};
use crate::state::Rev;
use crate::{Hpt, Pages, Table};
use partita_papr::Ptex;
use partita_papr::hcall::{BulkCode, BulkPair, Condition, bulk_response, status};
use partita_papr::hpte::{ABSENT, VALID, matches};

/// Entries that are locked and wait for one synchronisation. Only the first lock of a batch may
/// be waited for: two processors that wait for each other's second would wait for ever.
struct Batch<'s> {
    items: [Option<Item<'s>>; 4],
    len: usize,
}

#[derive(Clone, Copy)]
struct Item<'s> {
    /// Pair of the call, 0 to 3.
    pair: usize,
    ptex: Ptex,
    rev: &'s Rev,
    v: u64,
}

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// H_BULK_REMOVE: up to four pairs in r4..r11, answered in place.
    #[inline(never)]
    pub(crate) fn bulk_remove(&self, words: &mut Words) -> Outcome {
        let args = *words;
        let mut reply = Answer {
            status: status::H_SUCCESS,
            words,
        };
        let mut batch = Batch {
            items: [None; 4],
            len: 0,
        };
        for (pair, words) in args.as_chunks::<2>().0.iter().enumerate() {
            let [request, value] = *words;
            let (index, condition) = match BulkPair::decode(request) {
                BulkPair::End => break,
                BulkPair::Remove { index, condition } => (index, condition),
                BulkPair::Invalid => (u64::MAX, Condition::Absolute),
            };
            let Some((ptex, rev)) = self.state.find(index) else {
                reply.answer(pair, bulk_response(request, BulkCode::Parameter, 0));
                reply.status = status::H_PARAMETER;
                break;
            };
            let v = match rev.try_lock() {
                Some(v) => v,
                None => {
                    self.finish(&mut batch, &mut reply, &args);
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
                reply.answer(pair, bulk_response(request, BulkCode::NotFound, 0));
            } else if v & VALID == 0 {
                let dw1 = self.forget(ptex, rev, v, 0);
                reply.answer(pair, bulk_response(request, BulkCode::Success, dw1));
            } else if let Some(place) = batch.items.get_mut(batch.len) {
                *place = Some(Item { pair, ptex, rev, v });
                batch.len += 1;
            }
        }
        self.finish(&mut batch, &mut reply, &args);
        Outcome {
            status: reply.status,
            count: 8,
        }
    }

    /// Removes the collected entries and empties the batch.
    fn finish(&self, batch: &mut Batch<'_>, reply: &mut Answer<'_>, args: &[u64; 8]) {
        let Some(first) = batch.items.iter().flatten().next() else {
            return;
        };
        let mut entries = [first.ptex; 4];
        for (entry, item) in entries.iter_mut().zip(batch.items.iter().flatten()) {
            *entry = item.ptex;
        }
        let result = self
            .table
            .remove_batch(entries.get(..batch.len).unwrap_or(&[]));
        for (i, item) in batch.items.iter().flatten().enumerate() {
            let request = args.get(2 * item.pair).copied().unwrap_or(0);
            let response = match result {
                Ok(rcs) => {
                    let rc = rcs.get(i).copied().unwrap_or(0);
                    let dw1 = self.forget(item.ptex, item.rev, item.v, rc);
                    bulk_response(request, BulkCode::Success, dw1)
                }
                Err(_) => {
                    item.rev.unlock(item.v);
                    reply.status = status::H_HARDWARE;
                    bulk_response(request, BulkCode::Hardware, 0)
                }
            };
            reply.answer(item.pair, response);
        }
        *batch = Batch {
            items: [None; 4],
            len: 0,
        };
    }
}

/// The reply while it is being made.
struct Answer<'w> {
    status: i64,
    words: &'w mut Words,
}

impl Answer<'_> {
    fn answer(&mut self, pair: usize, response: u64) {
        if let Some(word) = self.words.get_mut(2 * pair) {
            *word = response;
        }
    }
}
