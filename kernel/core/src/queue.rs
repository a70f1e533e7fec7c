// SPDX-License-Identifier: BSD-2-Clause
//! Queues ordered by time, in the objects themselves: what waits for its release, armed timers.
//!
//! A queue is a digital search tree: a node at depth d has the same first d bits as all that is below it, and bit d
//! says on which side they are. Nothing is ever balanced, and no walk is longer than the key, 128 bits, however many
//! objects there are. The first one is kept beside the root, so that looking at it costs nothing.

use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Link, Object, Ref};
use core::cell::Cell;

/// Place of an object in a queue.
#[repr(C)]
pub struct Node<T> {
    /// Timebase at which it is its turn. Does not change while it is in a queue.
    pub time: Cell<u64>,
    /// Nodes whose next bit is 0, and 1.
    pub child: [Link<T>; 2],
}

/// An object that can be in a queue, one at a time.
pub trait Queued: Object + Sized {
    /// Its place.
    fn node(&self) -> &Node<Self>;
}

/// A queue: all zeros is an empty one.
#[repr(C)]
pub struct Queue<T> {
    /// The one whose time comes first.
    pub first: Link<T>,
    /// Root of the tree.
    pub root: Link<T>,
}

/// How many of a queue one interrupt serves; the next one, for the others, comes at once.
pub const AT_ONCE: u64 = 64;

/// What objects are ordered by: time and, for equal times, the address.
type Key = (u64, u64);

/// Bit `depth` of a key's 128, from the highest on.
#[inline(always)]
fn bit(key: Key, depth: u32) -> usize {
    let word = if depth < 64 { key.0 } else { key.1 };
    (word >> (63 - depth % 64)) as usize & 1
}

impl<'k, M: Machine> Kernel<'k, M> {
    #[inline(always)]
    fn key<T: Queued>(&self, r: Ref<T>) -> Key {
        (self.at(r).node().time.get(), r.addr())
    }

    /// Adds an object that is in no queue.
    #[inline(always)]
    pub(crate) fn enter_queue<T: Queued>(&self, queue: &'k Queue<T>, r: Ref<T>, time: u64) {
        let node = self.at(r).node();
        node.time.set(time);
        node.child[0].set(None);
        node.child[1].set(None);
        if queue.root.is_none() {
            // Alone, as most of the time.
            queue.root.set(Some(r));
            queue.first.set(Some(r));
        } else {
            self.enter_tree(queue, r);
        }
    }

    #[inline(never)]
    fn enter_tree<T: Queued>(&self, queue: &'k Queue<T>, r: Ref<T>) {
        let key = self.key(r);
        let mut link = &queue.root;
        let mut depth = 0;
        while let Some(other) = link.get() {
            link = &self.at(other).node().child[bit(key, depth)];
            depth += 1;
        }
        link.set(Some(r));
        if queue.first.get().is_none_or(|f| key < self.key(f)) {
            queue.first.set(Some(r));
        }
    }

    /// Takes an object out of the queue that it is in.
    #[inline(always)]
    pub(crate) fn leave_queue<T: Queued>(&self, queue: &'k Queue<T>, r: Ref<T>) {
        let [left, right] = &self.at(r).node().child;
        if queue.root.is(r) && left.is_none() && right.is_none() {
            queue.root.set(None);
            queue.first.set(None);
        } else {
            self.leave_tree(queue, r);
        }
    }

    #[inline(never)]
    fn leave_tree<T: Queued>(&self, queue: &'k Queue<T>, r: Ref<T>) {
        let key = self.key(r);
        let mut link = &queue.root;
        let mut depth = 0;
        while let Some(other) = link.get() {
            if other == r {
                self.replace_by_leaf(link, r);
                break;
            }
            link = &self.at(other).node().child[bit(key, depth)];
            depth += 1;
        }
        if queue.first.is(r) {
            queue.first.set(self.first(&queue.root));
        }
    }

    /// One of the next nodes below `r`, and where it is linked: that with lesser keys if there is one.
    #[inline(always)]
    fn below<T: Queued>(&self, r: Ref<T>) -> Option<(&'k Link<T>, Ref<T>)> {
        let [left, right] = &self.at(r).node().child;
        let link = if left.is_none() { right } else { left };
        Some((link, link.get()?))
    }

    /// A leaf below `r` takes its place in `link`; nothing does if it is one itself.
    #[inline(always)]
    fn replace_by_leaf<T: Queued>(&self, link: &'k Link<T>, r: Ref<T>) {
        let Some((mut at, mut leaf)) = self.below(r) else {
            link.set(None);
            return;
        };
        while let Some(next) = self.below(leaf) {
            (at, leaf) = next;
        }
        at.set(None);
        let (old, new) = (self.at(r).node(), self.at(leaf).node());
        for (to, from) in new.child.iter().zip(&old.child) {
            to.set(from.take());
        }
        link.set(Some(leaf));
    }

    /// The least of a tree: a node is on the way to it, or all that is below it is greater.
    #[inline(always)]
    fn first<T: Queued>(&self, root: &'k Link<T>) -> Option<Ref<T>> {
        let mut best = root.get()?;
        let mut at = best;
        while let Some((_, next)) = self.below(at) {
            if self.key(next) < self.key(best) {
                best = next;
            }
            at = next;
        }
        Some(best)
    }
}
