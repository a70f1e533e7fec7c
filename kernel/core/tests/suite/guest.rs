// SPDX-License-Identifier: BSD-2-Clause
//! A guest's memory against a model: whatever is mapped, inserted, removed and deleted in any order, an entry that
//! hardware can reach leads to a page that the holder of the GSpace put at that guest address, with no more rights
//! than it gave (S4, the confinement rule), and what an entry or view holds cannot be unmapped (the pin rule).

use crate::invariants::check;
use crate::mock::Event;
use crate::rig::{Answer, Rig, cases};
use partita_abi::{CapRights, ErrorCode as E, InvocationLabel as L, ObjectType, init_cnode};
use partita_kernel_core::machine::Machine;
use partita_papr::hpte;
use proptest::prelude::*;
use std::collections::BTreeMap;

const VSPACE: u64 = init_cnode::VSPACE as u64;
/// Guest pages, frames, entries and views that are used.
const PAGES: u64 = 6;
const FRAMES: usize = 5;
const ENTRIES: u64 = 12;
const VIEWS: usize = 3;
const WINDOW: u64 = 0x7000_0000;
const READ: u64 = CapRights::READ.0;
const WRITE: u64 = CapRights::WRITE.0;

#[derive(Clone, Debug)]
enum Step {
    Map {
        frame: usize,
        page: u64,
        rights: u64,
    },
    Unmap {
        frame: usize,
    },
    DeleteFrame {
        frame: usize,
    },
    Insert {
        entry: u64,
        page: u64,
        pp: u64,
    },
    Remove {
        entry: u64,
    },
    RemoveBatch {
        entries: Vec<u64>,
    },
    Update {
        entry: u64,
        pp: u64,
    },
    ClearRc {
        entry: u64,
        mask: u64,
    },
    MapView {
        view: usize,
        page: u64,
    },
    UnmapView {
        view: usize,
    },
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let (frame, page, entry, view) = (0..FRAMES, 0..PAGES, 0..ENTRIES, 0..VIEWS);
    prop_oneof![
        4 => (frame.clone(), page.clone(), 1u64..4)
            .prop_map(|(frame, page, rights)| Step::Map { frame, page, rights }),
        2 => frame.clone().prop_map(|frame| Step::Unmap { frame }),
        1 => frame.prop_map(|frame| Step::DeleteFrame { frame }),
        6 => (entry.clone(), page.clone(), 0u64..4)
            .prop_map(|(entry, page, pp)| Step::Insert { entry, page, pp }),
        2 => entry.clone().prop_map(|entry| Step::Remove { entry }),
        1 => proptest::collection::vec(entry.clone(), 1..5)
            .prop_map(|entries| Step::RemoveBatch { entries }),
        2 => (entry.clone(), 0u64..4).prop_map(|(entry, pp)| Step::Update { entry, pp }),
        1 => (entry, prop_oneof![Just(hpte::R), Just(hpte::C), Just(hpte::R | hpte::C)])
            .prop_map(|(entry, mask)| Step::ClearRc { entry, mask }),
        2 => (view.clone(), page).prop_map(|(view, page)| Step::MapView { view, page }),
        1 => view.prop_map(|view| Step::UnmapView { view }),
        1 => Just(Step::Clear),
    ]
}

/// The guest and what should be true of it.
struct Game {
    rig: Rig,
    gspace: u64,
    lpid: u64,
    hpt: u64,
    frames: Vec<Option<u64>>,
    views: Vec<u64>,
    /// Frame and rights of each page.
    pages: BTreeMap<u64, (usize, u64)>,
    /// Page of each entry.
    entries: BTreeMap<u64, u64>,
    /// Page of each view.
    viewed: BTreeMap<usize, u64>,
    poisoned: bool,
}

impl Game {
    fn new() -> Game {
        let rig = Rig::new();
        let gspace = rig.gspace();
        rig.m.log.borrow_mut().clear();
        let (hpt, _) = rig.hpt(gspace);
        let lpid = rig.m.log.borrow().iter().find_map(|e| match e {
            Event::SetPartition(lpid, dw0) if *dw0 != 0 => Some(*lpid),
            _ => None,
        });
        rig.gpage_tables(gspace);
        rig.own_page_tables(WINDOW);
        let frames = (0..FRAMES).map(|_| Some(rig.make(ObjectType::Frame4K)));
        let frames = frames.collect();
        let views = (0..VIEWS).map(|_| rig.view(gspace)).collect();
        Game {
            gspace,
            lpid: lpid.expect("binding a table installs it"),
            hpt,
            frames,
            views,
            pages: BTreeMap::new(),
            entries: BTreeMap::new(),
            viewed: BTreeMap::new(),
            poisoned: false,
            rig,
        }
    }

    fn pins(&self, page: u64) -> usize {
        let entries = self.entries.values().filter(|p| **p == page).count();
        entries + self.viewed.values().filter(|p| **p == page).count()
    }

    fn page_of(&self, frame: usize) -> Option<u64> {
        let mut all = self.pages.iter();
        all.find_map(|(page, (f, _))| (*f == frame).then_some(*page))
    }

    /// An invocation that must succeed exactly if `good`.
    #[track_caller]
    fn expect(&self, answer: &Answer, good: bool, what: &Step) {
        assert_eq!(answer.is_ok(), good, "{what:?}: {answer:?}");
    }

    fn play(&mut self, what: &Step) {
        let rig = &self.rig;
        let hpt = |label, words: &[u64]| rig.invoke(self.hpt, label, words, &[]);
        let there = |entry: &u64| self.entries.contains_key(entry);
        match what.clone() {
            Step::Map {
                frame,
                page,
                rights,
            } => {
                let Some(slot) = self.frames[frame] else {
                    return;
                };
                let answer = rig.invoke(slot, L::PageMap, &[page << 12, rights, 0], &[self.gspace]);
                let good = !self.poisoned
                    && rights & READ != 0
                    && self.page_of(frame).is_none()
                    && !self.pages.contains_key(&page);
                self.expect(&answer, good, what);
                if good {
                    self.pages.insert(page, (frame, rights));
                }
            }
            Step::Unmap { frame } => {
                let Some(slot) = self.frames[frame] else {
                    return;
                };
                let answer = rig.invoke(slot, L::PageUnmap, &[], &[]);
                let page = self.page_of(frame);
                let pinned = !self.poisoned && page.is_some_and(|p| self.pins(p) != 0);
                if pinned {
                    assert_eq!(answer.map_err(|(e, _)| e), Err(E::RevokeFirst), "{what:?}");
                } else if answer.is_ok()
                    && let Some(page) = page
                {
                    self.pages.remove(&page);
                }
            }
            Step::DeleteFrame { frame } => {
                let Some(slot) = self.frames[frame].take() else {
                    return;
                };
                let page = self.page_of(frame);
                let pinned = page.is_some_and(|p| self.pins(p) != 0);
                rig.m.log.borrow_mut().clear();
                rig.delete(slot);
                if let Some(page) = page {
                    self.pages.remove(&page);
                }
                if pinned && !self.poisoned {
                    // At once: the table cannot be reached, views are gone.
                    let off = Event::SetPartition(self.lpid, 0);
                    assert!(rig.m.log.borrow().contains(&off), "{what:?}");
                    self.poisoned = true;
                    self.viewed.clear();
                }
            }
            Step::Insert { entry, page, pp } => {
                let dw0 = entry << 12 | hpte::VALID;
                let dw1 = page << 12 | hpte::M | pp;
                let answer = hpt(L::HPTInsert, &[entry, dw0, dw1]);
                let good = !self.poisoned && !there(&entry) && self.pages.contains_key(&page);
                self.expect(&answer, good, what);
                if good {
                    self.entries.insert(entry, page);
                }
            }
            Step::Remove { entry } => {
                let answer = hpt(L::HPTRemove, &[entry]);
                let good = !self.poisoned && there(&entry);
                self.expect(&answer, good, what);
                if good {
                    self.entries.remove(&entry);
                }
            }
            Step::RemoveBatch { entries } => {
                let mut words = vec![entries.len() as u64];
                words.extend(&entries);
                let answer = hpt(L::HPTRemoveBatch, &words);
                let mut different = entries.clone();
                different.sort_unstable();
                different.dedup();
                let good =
                    !self.poisoned && different.len() == entries.len() && entries.iter().all(there);
                self.expect(&answer, good, what);
                if good {
                    self.entries.retain(|e, _| !entries.contains(e));
                }
            }
            Step::Update { entry, pp } => {
                let answer = hpt(L::HPTUpdate, &[entry, pp]);
                self.expect(&answer, !self.poisoned && there(&entry), what);
            }
            Step::ClearRc { entry, mask } => {
                let answer = hpt(L::HPTClearRC, &[entry, mask]);
                self.expect(&answer, !self.poisoned && there(&entry), what);
            }
            Step::MapView { view, page } => {
                let vaddr = WINDOW + ((view as u64) << 12);
                let words = [page << 12, vaddr, 1];
                let answer = rig.invoke(self.views[view], L::ViewMap, &words, &[VSPACE]);
                if answer.is_ok() {
                    assert!(!self.poisoned && !self.viewed.contains_key(&view));
                    assert!(self.pages.contains_key(&page), "{what:?}");
                    self.viewed.insert(view, page);
                } else if !self.viewed.contains_key(&view) && self.pages.contains_key(&page) {
                    // The capability may remember a mapping that poisoning has ended.
                    let stale = rig.invoke(self.views[view], L::ViewUnmap, &[], &[]);
                    assert!(self.poisoned || stale.is_ok(), "{what:?}: {answer:?}");
                }
            }
            Step::UnmapView { view } => {
                let _ = rig.invoke(self.views[view], L::ViewUnmap, &[], &[]);
                self.viewed.remove(&view);
            }
            Step::Clear => {
                rig.m.log.borrow_mut().clear();
                let answer = hpt(L::HPTClear, &[]);
                self.expect(&answer, true, what);
                self.entries.clear();
                self.poisoned = false;
                let on = |e: &Event| matches!(e, Event::SetPartition(l, d) if *l == self.lpid && *d != 0);
                assert!(
                    rig.m.log.borrow().last().is_some_and(on),
                    "the table is back"
                );
            }
        }
    }

    /// The table's bytes against the model.
    fn verify(&self) {
        let table = self.rig.addr(self.hpt);
        if self.poisoned {
            // Whatever it holds: hardware does not see it.
            return;
        }
        for entry in 0..ENTRIES {
            let at = table + entry * hpte::SIZE as u64;
            let (v, r) = (self.rig.m.read_pte(at), self.rig.m.read_pte(at + 8));
            let Some(page) = self.entries.get(&entry) else {
                assert_eq!(v & hpte::VALID, 0, "entry {entry} is there");
                continue;
            };
            assert_eq!(v & hpte::VALID, 1, "entry {entry} is gone");
            let (frame, rights) = self.pages[page];
            let slot = self.frames[frame].expect("an entry outlives its frame");
            assert_eq!(r & hpte::RPN_ISA30, self.rig.addr(slot), "entry {entry}");
            assert_eq!(r & (hpte::W | hpte::I | hpte::G), 0, "normal memory");
            let writable = r & hpte::PP != 3 && r & hpte::PP0 == 0;
            assert!(rights & WRITE != 0 || !writable, "entry {entry} writes");
        }
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn entries_lead_only_to_what_was_put_there(steps in proptest::collection::vec(step(), 10..120)) {
        let mut game = Game::new();
        for step in &steps {
            game.play(step);
            game.verify();
        }
        check(&game.rig);
        // Deleting the table ends it all; so does deleting everything.
        game.rig.delete(game.hpt);
        check(&game.rig);
        game.rig.revoke(game.rig.untyped);
        check(&game.rig);
    }
}
