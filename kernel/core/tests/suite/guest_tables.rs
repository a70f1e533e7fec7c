// SPDX-License-Identifier: BSD-2-Clause
//! The tables of a guest's memory as objects: whatever is copied, mapped, unmapped and deleted in any order, no table
//! or page stands in a GSpace that does not exist any more (the confinement rule rests on it), and the long walks
//! stop when they are asked to.

use crate::invariants::check;
use crate::rig::{ALL, HPT_ORDER, READ_WRITE, Rig, cases};
use partita_abi::{ErrorCode as E, InvocationLabel as L, ObjectType, init_cnode};
use partita_kernel_core::machine::Machine;
use partita_kernel_core::vspace::pages;
use partita_papr::hpte;
use proptest::prelude::*;

const ROOT: u64 = init_cnode::CNODE as u64;
const VSPACE: u64 = init_cnode::VSPACE as u64;
const WINDOW: u64 = 0x7000_0000;

fn enter(rig: &Rig, hpt: u64, ptex: u64, page: u64) {
    let (dw0, dw1) = (ptex << 12 | hpte::VALID, page << 12 | hpte::M);
    rig.ok(hpt, L::HPTInsert, &[ptex, dw0, dw1], &[]);
}

#[test]
fn an_unmapped_table_has_one_capability() {
    // A second one would not know where the first was mapped, and outlive it.
    let rig = Rig::new();
    let t = rig.make(ObjectType::GPageTable);
    let copy = [rig.fresh(), 64, t, 64, ALL];
    rig.refused(ROOT, L::CNodeCopy, &copy, &[ROOT], E::IllegalOperation, &[]);
    let g = rig.gspace();
    rig.ok(t, L::GPageTableMap, &[0, 0], &[g]);
    let second = rig.copy(t);
    rig.refused(t, L::GPageTableUnmap, &[], &[], E::RevokeFirst, &[]);
    rig.delete(t);
    check(&rig);
    rig.ok(second, L::GPageTableUnmap, &[], &[]);
    check(&rig);
}

#[test]
fn a_table_of_a_dead_gspace_is_emptied_before_it_is_mapped_again() {
    let rig = Rig::new();
    let g = rig.gspace();
    let [outer, inner] = rig.gpage_tables(g);
    let page = rig.guest_page(g, 0x3000);
    rig.delete(g);
    rig.delete(page);
    let other = rig.gspace();
    for t in [outer, inner] {
        if rig.invoke(t, L::GPageTableMap, &[0, 0], &[other]).is_err() {
            rig.ok(t, L::GPageTableUnmap, &[], &[]);
            rig.ok(t, L::GPageTableMap, &[0, 0], &[other]);
        }
        check(&rig);
    }
    let (hpt, _) = rig.hpt(other);
    let words = [0, hpte::VALID, 0x3000 | hpte::M];
    let answer = rig.invoke(hpt, L::HPTInsert, &words, &[]);
    assert_eq!(answer.map_err(|(e, _)| e), Err(E::FailedLookup));
}

#[test]
fn pins_end_with_the_table_and_the_next_one_counts_from_zero() {
    let rig = Rig::new();
    let g = rig.gspace();
    let [_, inner] = rig.gpage_tables(g);
    let (hpt, _) = rig.hpt(g);
    let pages = [0, 0x1000].map(|gpa| rig.guest_page(g, gpa));
    for ptex in 0..4 {
        enter(&rig, hpt, ptex, ptex & 1);
    }
    let pinned = E::RevokeFirst;
    rig.refused(pages[0], L::PageUnmap, &[], &[], pinned, &[]);
    rig.refused(inner, L::GPageTableUnmap, &[], &[], pinned, &[]);
    rig.delete(hpt);
    rig.ok(pages[0], L::PageUnmap, &[], &[]);
    rig.ok(pages[0], L::PageMap, &[0, READ_WRITE, 0], &[g]);
    check(&rig);
    let (hpt, _) = rig.hpt(g);
    enter(&rig, hpt, 7, 1);
    rig.ok(pages[0], L::PageUnmap, &[], &[]);
    rig.refused(pages[1], L::PageUnmap, &[], &[], pinned, &[]);
    rig.ok(hpt, L::HPTRemove, &[7], &[]);
    rig.ok(pages[1], L::PageUnmap, &[], &[]);
    rig.ok(inner, L::GPageTableUnmap, &[], &[]);
    check(&rig);
}

#[test]
fn clear_counts_pins_anew_in_steps() {
    let rig = Rig::new();
    let g = rig.gspace();
    rig.gpage_table(g);
    let inner = rig.make_many(ObjectType::GPageTable, 0, 8);
    for i in 0..8 {
        rig.ok(inner + i, L::GPageTableMap, &[i << 21, 0], &[g]);
    }
    rig.own_page_tables(WINDOW);
    let (hpt, _) = rig.hpt(g);
    let pages = [0, 3, 7].map(|i| {
        let page = rig.guest_page(g, i << 21);
        enter(&rig, hpt, i, i << 9);
        page
    });
    let view = rig.view(g);
    rig.ok(view, L::ViewMap, &[7 << 21, WINDOW, 0], &[VSPACE]);
    rig.m.preempt_every.set(1);
    let before = rig.m.preemptions.get();
    rig.ok(hpt, L::HPTClear, &[], &[]);
    rig.m.preempt_every.set(0);
    let steps = rig.m.preemptions.get() - before;
    // One for each 64 KiB of the table but the last, one for each table of small pages.
    assert!(steps >= (1 << (HPT_ORDER - 16)) - 1 + 8, "{steps} steps");
    rig.ok(pages[0], L::PageUnmap, &[], &[]);
    rig.ok(pages[1], L::PageUnmap, &[], &[]);
    // The view still counts.
    rig.refused(pages[2], L::PageUnmap, &[], &[], E::RevokeFirst, &[]);
    rig.ok(view, L::ViewUnmap, &[], &[]);
    rig.ok(pages[2], L::PageUnmap, &[], &[]);
    check(&rig);
}

/// Begins to clear a table; it is interrupted after one step.
fn begin_to_clear(rig: &Rig, hpt: u64) {
    rig.message(rig.root, L::HPTClear as u64, &[], &[]);
    begin(rig, hpt);
}

/// Begins an invocation of `hpt`; it is interrupted after one step.
fn begin(rig: &Rig, hpt: u64) {
    rig.set_gpr(rig.root, 0, partita_abi::syscall::CALL as u64);
    rig.set_gpr(rig.root, 3, hpt);
    rig.m.preempt_every.set(1);
    rig.enter(rig.root);
    rig.m.preempt_every.set(0);
}

#[test]
fn a_frame_that_goes_while_the_table_is_cleared_is_taken_from_views() {
    let rig = Rig::new();
    let g = rig.gspace();
    rig.gpage_tables(g);
    rig.own_page_tables(WINDOW);
    let (hpt, _) = rig.hpt(g);
    let page = rig.guest_page(g, 0);
    let view = rig.view(g);
    rig.ok(view, L::ViewMap, &[0, WINDOW, 0], &[VSPACE]);
    let shown = || {
        let mut at = None;
        pages(&*rig.m, rig.addr(VSPACE), &mut |p| {
            at = at.or((p.vaddr == WINDOW).then_some(p.addr));
        });
        at
    };
    let memory = rig.addr(page);
    assert_eq!(shown(), Some(memory));
    begin_to_clear(&rig, hpt);
    rig.delete(page);
    assert_ne!(shown(), Some(memory));
    rig.ok(hpt, L::HPTClear, &[], &[]);
    rig.ok(view, L::ViewUnmap, &[], &[]);
    assert_eq!(shown(), None);
    check(&rig);
}

#[test]
fn a_clear_that_ended_with_its_table_leaves_nothing_for_the_next_one() {
    let rig = Rig::new();
    let g = rig.gspace();
    rig.gpage_tables(g);
    let (first, _) = rig.hpt(g);
    begin_to_clear(&rig, first);
    rig.delete(first);
    let page = rig.guest_page(g, 0);
    let (second, _) = rig.hpt(g);
    enter(&rig, second, 0, 0);
    rig.ok(second, L::HPTClear, &[], &[]);
    assert_eq!(rig.m.read_pte(rig.addr(second)) & hpte::VALID, 0);
    rig.ok(page, L::PageUnmap, &[], &[]);
    check(&rig);
}

/// A table that was bound has entries, and what they lead to may be anybody's by now.
#[test]
fn a_table_is_bound_once() {
    let rig = Rig::new();
    let g = rig.gspace();
    rig.gpage_tables(g);
    let (hpt, gfns) = rig.hpt(g);
    let page = rig.guest_page(g, 0);
    enter(&rig, hpt, 0, 0);
    // Without its array it is unbound; nothing pins the page any more.
    rig.delete(gfns);
    rig.delete(page);
    let (next, gfns) = rig.unbound_hpt();
    let again = E::IllegalOperation;
    rig.refused(hpt, L::HPTBind, &[12], &[g, gfns], again, &[]);
    rig.delete(g);
    let other = rig.gspace();
    rig.refused(hpt, L::HPTBind, &[12], &[other, gfns], again, &[]);
    // An array is nothing but numbers that the next table writes anew.
    rig.ok(next, L::HPTBind, &[12], &[other, gfns]);
    check(&rig);
}

/// A view that is mapped while pins are counted anew counts once.
#[test]
fn a_view_that_comes_while_pins_are_counted_is_counted_once() {
    let rig = Rig::new();
    let g = rig.gspace();
    rig.gpage_tables(g);
    rig.own_page_tables(WINDOW);
    let page = rig.guest_page(g, 0);
    let views = [0; 2].map(|_| rig.view(g));
    let (first, _) = rig.hpt(g);
    rig.delete(first);
    rig.ok(views[0], L::ViewMap, &[0, WINDOW, 0], &[VSPACE]);
    let (hpt, gfns) = rig.unbound_hpt();
    // The next table is about to be bound; the pins of the first tables are counted.
    rig.message(rig.root, L::HPTBind as u64, &[12], &[g, gfns]);
    begin(&rig, hpt);
    rig.ok(views[1], L::ViewMap, &[0, WINDOW + 0x1000, 0], &[VSPACE]);
    rig.ok(hpt, L::HPTBind, &[12], &[g, gfns]);
    for view in views {
        rig.refused(page, L::PageUnmap, &[], &[], E::RevokeFirst, &[]);
        rig.ok(view, L::ViewUnmap, &[], &[]);
    }
    rig.ok(page, L::PageUnmap, &[], &[]);
    check(&rig);
}

#[derive(Clone, Debug)]
enum Step {
    CopyTable(usize),
    MapTable(usize, usize, u64),
    UnmapTable(usize),
    DeleteTable(usize),
    MapFrame(usize, usize, u64),
    UnmapFrame(usize),
    DeleteFrame(usize),
    Insert(usize, u64, u64),
    Clear(usize),
    DeleteHpt(usize),
    Bind(usize),
    MapView(usize, u64),
    DeleteGspace(usize),
}

fn step() -> impl Strategy<Value = Step> {
    // Two GSpaces; tables and frames by index; places in the first two GiB.
    let (g, t, f) = (0..2usize, 0..8usize, 0..6usize);
    let place = (0u64..2, 0u64..2, 0u64..3).prop_map(|(a, b, c)| a << 30 | b << 21 | c << 12);
    prop_oneof![
        1 => t.clone().prop_map(Step::CopyTable),
        6 => (t.clone(), g.clone(), place.clone()).prop_map(|(t, g, p)| Step::MapTable(t, g, p)),
        1 => t.clone().prop_map(Step::UnmapTable),
        1 => t.prop_map(Step::DeleteTable),
        6 => (f.clone(), g.clone(), place.clone()).prop_map(|(f, g, p)| Step::MapFrame(f, g, p)),
        1 => f.clone().prop_map(Step::UnmapFrame),
        1 => f.prop_map(Step::DeleteFrame),
        4 => (g.clone(), 0u64..8, place.clone()).prop_map(|(g, e, p)| Step::Insert(g, e, p)),
        1 => g.clone().prop_map(Step::Clear),
        1 => g.clone().prop_map(Step::DeleteHpt),
        2 => g.clone().prop_map(Step::Bind),
        2 => (g.clone(), place).prop_map(|(g, p)| Step::MapView(g, p)),
        1 => g.prop_map(Step::DeleteGspace),
    ]
}

/// One guest of the game: GSpace, its table, array and view.
#[derive(Clone, Copy)]
struct Guest {
    gspace: u64,
    hpt: u64,
    gfns: u64,
    view: u64,
}

struct Game {
    rig: Rig,
    guests: Vec<Guest>,
    tables: Vec<u64>,
    frames: Vec<u64>,
}

impl Game {
    fn new() -> Game {
        let rig = Rig::new();
        rig.own_page_tables(WINDOW);
        let guests = (0..2)
            .map(|_| {
                let gspace = rig.gspace();
                let (hpt, gfns) = rig.unbound_hpt();
                Guest {
                    gspace,
                    hpt,
                    gfns,
                    view: rig.view(gspace),
                }
            })
            .collect();
        let first = rig.make_many(ObjectType::GPageTable, 0, 8);
        let frame = rig.make_many(ObjectType::Frame4K, 0, 6);
        Game {
            guests,
            tables: (first..first + 8).collect(),
            frames: (frame..frame + 6).collect(),
            rig,
        }
    }

    /// Answers do not matter here; `check` looks at what they leave.
    fn play(&mut self, step: &Step) {
        let rig = &self.rig;
        let slot = |slots: &[u64], i: usize| slots[i % slots.len()];
        match *step {
            Step::CopyTable(t) => {
                let dest = rig.fresh();
                let words = [dest, 64, slot(&self.tables, t), 64, ALL];
                if rig.invoke(ROOT, L::CNodeCopy, &words, &[ROOT]).is_ok() {
                    self.tables.push(dest);
                }
            }
            Step::MapTable(t, g, gpa) => {
                let gspace = self.guests[g].gspace;
                let t = slot(&self.tables, t);
                let _ = rig.invoke(t, L::GPageTableMap, &[gpa, 0], &[gspace]);
            }
            Step::UnmapTable(t) => {
                let _ = rig.invoke(slot(&self.tables, t), L::GPageTableUnmap, &[], &[]);
            }
            Step::DeleteTable(t) => rig.delete(slot(&self.tables, t)),
            Step::MapFrame(f, g, gpa) => {
                let gspace = self.guests[g].gspace;
                let f = slot(&self.frames, f);
                let _ = rig.invoke(f, L::PageMap, &[gpa, READ_WRITE, 0], &[gspace]);
            }
            Step::UnmapFrame(f) => {
                let _ = rig.invoke(slot(&self.frames, f), L::PageUnmap, &[], &[]);
            }
            Step::DeleteFrame(f) => rig.delete(slot(&self.frames, f)),
            Step::Insert(g, entry, gpa) => {
                let words = [entry, entry << 12 | hpte::VALID, gpa | hpte::M];
                let _ = rig.invoke(self.guests[g].hpt, L::HPTInsert, &words, &[]);
            }
            Step::Clear(g) => {
                rig.m.preempt_every.set(2);
                let _ = rig.invoke(self.guests[g].hpt, L::HPTClear, &[], &[]);
                rig.m.preempt_every.set(0);
            }
            Step::DeleteHpt(g) => rig.delete(self.guests[g].hpt),
            Step::Bind(g) => {
                let Guest {
                    gspace, hpt, gfns, ..
                } = self.guests[g];
                let _ = rig.invoke(hpt, L::HPTBind, &[12], &[gspace, gfns]);
            }
            Step::MapView(g, gpa) => {
                let view = self.guests[g].view;
                let vaddr = WINDOW + ((g as u64) << 12);
                if rig
                    .invoke(view, L::ViewMap, &[gpa, vaddr, 0], &[VSPACE])
                    .is_err()
                {
                    let _ = rig.invoke(view, L::ViewUnmap, &[], &[]);
                }
            }
            Step::DeleteGspace(g) => {
                rig.delete(self.guests[g].view);
                rig.delete(self.guests[g].gspace);
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn nothing_stands_in_a_gspace_that_is_gone(steps in proptest::collection::vec(step(), 10..80)) {
        let mut game = Game::new();
        for step in &steps {
            game.play(step);
            check(&game.rig);
        }
        game.rig.revoke(game.rig.untyped);
        check(&game.rig);
    }
}
