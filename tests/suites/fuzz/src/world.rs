// SPDX-License-Identifier: BSD-2-Clause
//! What the fuzz thread lives in: made anew for each round.

use crate::layout::{self, CSPACE_BITS, Kind};
use crate::shared::{BYSTANDER, COUNTS, FUZZERS, counts};
use crate::threads;
use core::sync::atomic::Ordering::Relaxed;
use partita_abi::InvocationLabel as L;
use sel4::init_thread::slot;
use sel4::{
    CNodeCapData, CPtr, Cap, CapRights, CapType, FrameObjectType, ObjectBlueprint,
    ObjectBlueprintArch as Arch, VmAttributes, cap, cap_type,
};
use testkit::kit::WINDOW;
use testkit::thread::SLICE_US;
use testkit::{Helper, Kit, Outcome, Random, Space, Thread, invoke};

/// Priority and maximum of the fuzz thread.
const FUZZ_PRIORITY: u64 = 50;
/// Priorities of the partners, one or the other in a world: below the fuzz thread they leave it the
/// processor whatever they do, above it they are what the fast path needs.
const PARTNER_PRIORITIES: [u64; 2] = [49, 51];
const BYSTANDER_PRIORITY: u64 = 60;
/// Slots filled at most.
const MAX_SLOTS: usize = 96;
/// Virtual addresses of the supervisor's canaries.
const CANARIES: usize = WINDOW + 0x18_0000;
const CANARY_WORDS: usize = 512;
/// Source number of the UART's interrupt (kernel-config/boards).
const UART_IRQ: u64 = 0xffff8;

/// A capability that a slot is filled with: the supervisor's own, and what the copy gets.
#[derive(Clone, Copy)]
struct Original {
    cptr: u64,
    rights: CapRights,
    badge: u64,
}

/// What of the supervisor's is not as it was.
#[derive(Clone, Copy, Debug)]
pub enum Touched {
    /// A canary's memory.
    Memory,
    /// A capability, the original of one that the fuzz thread had.
    Capability(#[allow(dead_code, reason = "printed")] Option<Kind>),
}

/// One round's world.
pub struct World {
    /// The threads that make the calls, one on each of the first cores.
    pub fuzzers: [Option<Thread>; FUZZERS],
    /// Its CNode, without a guard.
    cnode: cap::CNode,
    /// The same as its CSpace.
    cspace: cap::CNode,
    space: Space,
    originals: [Option<Original>; MAX_SLOTS],
    /// Threads in its CSpace that receive and answer, and their priority.
    partners: [Option<Thread>; 2],
    partner_priority: u64,
    /// The core whose authority the fuzz threads have.
    core: usize,
    /// Threads that are only there to be misused.
    dummies: [cap::Tcb; 2],
    canaries: usize,
    /// The fuzz threads may revoke what was made with the authority over interrupts.
    interrupts_given: bool,
}

const NONE: VmAttributes = VmAttributes::NONE;

impl World {
    /// Builds a world. `everything`: it also gets the authority over interrupts, which cannot be
    /// copied and so is lost with it.
    pub fn new(kit: &mut Kit, everything: bool, random: &mut Random) -> Outcome<World> {
        let partner_priority = random.pick(&PARTNER_PRIORITIES);
        let counts = kit.frame(FrameObjectType::_64k)?;
        let rw = CapRights::read_write();
        counts.frame_map(slot::VSPACE.cap(), COUNTS, rw, VmAttributes::EXECUTE_NEVER)?;
        let report = kit.page_at(BYSTANDER)?;
        let cnode: cap::CNode = kit.object(ObjectBlueprint::CNode {
            size_bits: CSPACE_BITS,
        })?;
        let guard = CNodeCapData::skip_high_bits(CSPACE_BITS);
        let cspace = kit.mint(cnode, CapRights::all(), guard.into_word())?;
        let space = Space::new(kit)?;

        let first = |kind| layout::slots(kind).0;
        let cores = kit.cores();
        let mut fuzzers = [None; FUZZERS];
        for (i, fuzzer) in fuzzers.iter_mut().enumerate().take(cores) {
            let thread = Helper::new(threads::fuzz)
                .args([i as u64])
                .cspace(cspace)
                .vspace(space.root)
                .priority(FUZZ_PRIORITY)
                .mcp(FUZZ_PRIORITY)
                .core(i)
                .make(kit)?;
            *fuzzer = Some(thread);
        }
        let mut partners = [None; 2];
        for (i, partner) in partners.iter_mut().enumerate() {
            let core = i % cores;
            let i = i as u64;
            let thread = Helper::new(threads::partner)
                .args([first(Kind::Endpoint) + 2 * i, first(Kind::Reply) + i])
                .cspace(cspace)
                .vspace(space.root)
                .priority(partner_priority)
                .core(core)
                .make(kit)?;
            *partner = Some(thread);
        }
        let bystander_space = Space::new(kit)?;
        let bystander = Helper::new(threads::watch)
            .vspace(bystander_space.root)
            .priority(BYSTANDER_PRIORITY)
            .budget(300, 3000)
            .make(kit)?;
        space.clone_image(kit)?;
        bystander_space.clone_image(kit)?;
        let twin = kit.copy(counts, rw)?;
        space.map(kit, twin, COUNTS, rw, NONE)?;
        let twin = kit.copy(report, rw)?;
        bystander_space.map(kit, twin, BYSTANDER, rw, NONE)?;
        for thread in fuzzers.iter().chain(&partners).flatten() {
            let twin = kit.copy(thread.frame, rw)?;
            space.map(kit, twin, thread.buffer() as usize, rw, NONE)?;
        }
        let dummies = [kit.tcb()?, kit.tcb()?];
        let mut world = World {
            fuzzers,
            cnode,
            cspace,
            space,
            originals: [None; MAX_SLOTS],
            partners,
            partner_priority,
            core: match cores {
                1 => 0,
                _ => random.below(2) as usize,
            },
            dummies,
            canaries: 0,
            interrupts_given: everything,
        };
        world.canary(kit)?;
        world.fill(kit)?;
        world.canary(kit)?;
        for index in 1..=layout::filled() {
            world.restock(kit, index);
        }
        if everything {
            let place = world.place(first(Kind::IrqControl));
            // Gone after an earlier run of this already: then there is none.
            let _ = place.move_(&kit.absolute(slot::IRQ_CONTROL.cptr()));
        }
        bystander.tcb.tcb_resume()?;
        Ok(world)
    }

    /// The slot of the fuzz thread's CSpace with this number.
    fn place(&self, index: u64) -> sel4::AbsoluteCPtr {
        self.cnode
            .absolute_cptr_from_bits_with_depth(index, CSPACE_BITS)
    }

    /// Puts what belongs into a slot there again; what cannot be copied at the moment is left out.
    pub fn restock(&self, kit: &Kit, index: u64) {
        let Some(Some(original)) = self.originals.get(index as usize) else {
            return;
        };
        let source = kit.absolute(CPtr::from_bits(original.cptr));
        if layout::kind_of(index) == Some(Kind::Untyped) {
            // Nothing may be left of it, or it cannot be copied.
            let _ = source.revoke();
        }
        let place = self.place(index);
        let _ = place.delete();
        let _ = match original.badge {
            0 => place.copy(&source, original.rights),
            badge => place.mint(&source, original.rights, badge),
        };
    }

    /// Stops the threads that the fuzz thread may have started: one with the fuzz thread's registers
    /// would make its calls.
    pub fn calm(&self) -> Outcome {
        for dummy in self.dummies {
            dummy.tcb_suspend()?;
        }
        Ok(())
    }

    /// Sets the threads right again and starts them from the beginning, with a few slots refilled.
    /// The partners too: one whose faults the other resumes for ever takes the fuzz thread's time.
    ///
    /// # Errors
    ///
    /// A thread that cannot be set right.
    pub fn unstick(&self, kit: &Kit, random: &mut Random) -> Outcome {
        self.stop()?;
        for _ in 0..6 {
            self.restock(kit, 1 + random.below(layout::filled()));
        }
        for (core, partner) in self.partners.iter().enumerate() {
            self.set_right(kit, partner, self.partner_priority, core)?;
        }
        for (core, fuzzer) in self.fuzzers.iter().enumerate() {
            self.set_right(kit, fuzzer, FUZZ_PRIORITY, core)?;
        }
        // One with damaged registers may have written anything there, always the same in the end.
        for state in &counts().random {
            state.store(random.word(), Relaxed);
        }
        // The partners first, so that they wait when the calls begin.
        for thread in self.partners.iter().chain(&self.fuzzers).flatten() {
            thread.restart()?;
        }
        Ok(())
    }

    /// Stops all threads of the world: with several cores, one that runs could start another again.
    pub fn stop(&self) -> Outcome {
        // Whoever a running one has started by then is stopped in the second pass.
        for _ in 0..2 {
            for thread in self.fuzzers.iter().chain(&self.partners).flatten() {
                thread.tcb.tcb_suspend()?;
            }
            self.calm()?;
        }
        Ok(())
    }

    /// Gives a stopped thread what it was made with.
    fn set_right(&self, kit: &Kit, thread: &Option<Thread>, priority: u64, core: usize) -> Outcome {
        let Some(thread) = thread else { return Ok(()) };
        let tcb = thread.tcb;
        tcb.tcb_suspend()?;
        let authority = slot::TCB.cap();
        let no_time = cap::SchedContext::from_bits(0);
        let no_handler = cap::Endpoint::from_bits(0);
        tcb.tcb_set_sched_params(authority, priority, priority, no_time, no_handler)?;
        thread.sc.sched_context_unbind()?;
        kit.sched_control_of(core % kit.cores())
            .sched_control_configure_flags(thread.sc, SLICE_US, SLICE_US, 0, 0, 0)?;
        tcb.tcb_set_sched_params(authority, priority, priority, thread.sc, no_handler)?;
        tcb.tcb_set_timeout_endpoint(no_handler)?;
        tcb.tcb_configure(
            self.cspace,
            CNodeCapData::new(0, 0),
            self.space.root,
            thread.buffer() as u64,
            thread.frame,
        )?;
        // Not bound is as good.
        let _ = tcb.tcb_unbind_notification();
        Ok(())
    }

    /// The words of a canary.
    fn canary_words() -> impl Iterator<Item = u64> {
        let mut random = Random::new(0xca_4a_41);
        (0..CANARY_WORDS).map(move |_| random.word())
    }

    /// A page of the supervisor's own beside the fuzz thread's memory.
    fn canary(&mut self, kit: &mut Kit) -> Outcome {
        let vaddr = CANARIES + 0x1000 * self.canaries;
        self.canaries += 1;
        kit.page_at(vaddr)?;
        let to: *mut u64 = core::ptr::with_exposed_provenance_mut(vaddr);
        for (i, word) in Self::canary_words().enumerate() {
            // SAFETY: the page was mapped there just now.
            unsafe { to.add(i).write_volatile(word) };
        }
        Ok(())
    }

    /// What is not as it was of the canaries and the supervisor's capabilities.
    pub fn touched(&self, kit: &Kit) -> Option<Touched> {
        let words = (0..self.canaries).all(|n| {
            let from: *const u64 = core::ptr::with_exposed_provenance(CANARIES + 0x1000 * n);
            Self::canary_words().enumerate().all(|(i, word)| {
                // SAFETY: `canary` mapped the page for the round.
                unsafe { from.add(i).read_volatile() == word }
            })
        });
        if !words {
            return Some(Touched::Memory);
        }
        let own =
            |index| !self.interrupts_given || layout::kind_of(index) != Some(Kind::IrqHandler);
        let mut originals = (0..).zip(&self.originals).filter(|(index, _)| own(*index));
        let lost = originals.find(|(_, o)| o.is_some_and(|o| kit.is_empty(o.cptr)));
        lost.map(|(index, _)| Touched::Capability(layout::kind_of(index)))
    }

    fn set<T: CapType>(&mut self, kind: Kind, n: u64, cap: Cap<T>, rights: CapRights, badge: u64) {
        let (first, count) = layout::slots(kind);
        if n < count
            && let Some(place) = self.originals.get_mut((first + n) as usize)
        {
            *place = Some(Original {
                cptr: cap.bits(),
                rights,
                badge,
            });
        }
    }

    fn give<T: CapType>(&mut self, kind: Kind, n: u64, cap: Cap<T>) {
        self.set(kind, n, cap, CapRights::all(), 0);
    }

    /// Makes the supervisor's own capability for each slot.
    fn fill(&mut self, kit: &mut Kit) -> Outcome {
        for (n, size_bits) in [17, 14, 12, 12, 10, 6].into_iter().enumerate() {
            let memory = kit.untyped(size_bits)?;
            self.give(Kind::Untyped, n as u64, memory);
        }
        for n in 0..2 {
            if let Some(partner) = self.partners[n as usize] {
                self.give(Kind::Tcb, 1 + n, partner.tcb);
            }
            self.give(Kind::Tcb, 3 + n, self.dummies[n as usize]);
        }
        self.give(Kind::CNode, 0, self.cspace);
        let small = kit.new_cnode(4)?;
        self.give(Kind::CNode, 1, small);
        let plain: cap::CNode = kit.object(ObjectBlueprint::CNode { size_bits: 4 })?;
        self.give(Kind::CNode, 2, plain);
        for n in 0..3 {
            let endpoint = kit.endpoint()?;
            self.give(Kind::Endpoint, 2 * n, endpoint);
            let rights = CapRights::from_bits([9, 3, 15][n as usize]);
            self.set(Kind::Endpoint, 2 * n + 1, endpoint, rights, 5 + n);
        }
        for n in 0..5 {
            let ntfn = kit.notification()?;
            self.set(Kind::Notification, n, ntfn, CapRights::all(), n / 2);
        }
        for n in 0..4 {
            let reply = kit.reply()?;
            self.give(Kind::Reply, n, reply);
        }
        if let Some(fuzzer) = self.fuzzers[0] {
            self.give(Kind::Tcb, 0, fuzzer.tcb);
            self.give(Kind::SchedContext, 0, fuzzer.sc);
        }
        for n in 1..4 {
            let sc = kit.sched_context(1000, 5000 * n)?;
            self.give(Kind::SchedContext, n, sc);
        }
        if let Some(rival) = self.fuzzers[1] {
            // With several cores, in place of one that is only there to be misused.
            self.give(Kind::Tcb, 4, rival.tcb);
            self.give(Kind::SchedContext, 3, rival.sc);
        }
        self.give(Kind::SchedControl, 0, kit.sched_control_of(self.core));
        for n in 0..6 {
            let frame = kit.frame(if n == 5 {
                FrameObjectType::_64k
            } else {
                FrameObjectType::_4k
            })?;
            let rights = if n == 4 {
                CapRights::read_only()
            } else {
                CapRights::all()
            };
            self.set(Kind::Frame, n, frame, rights, 0);
        }
        for n in 0..4 {
            let table: cap::PT = kit.object(Arch::PT.into())?;
            // Unmapped ones don't copy: these lie where the fuzz thread maps.
            if n < 3 {
                let vaddr = crate::generator::ADDRESSES[if n < 2 { 0 } else { 4 }] as usize;
                table.page_table_map(self.space.root, vaddr, NONE)?;
            } else {
                self.place(layout::slots(Kind::PageTable).0 + n)
                    .move_(&kit.absolute(table))?;
                continue;
            }
            self.give(Kind::PageTable, n, table);
        }
        self.give(Kind::VSpace, 0, self.space.root);
        let other = Space::new(kit)?;
        self.give(Kind::VSpace, 1, other.root);
        let unassigned: cap::VSpace = kit.object(Arch::VSpace.into())?;
        self.give(Kind::VSpace, 2, unassigned);
        self.give(Kind::AsidPool, 0, slot::ASID_POOL.cap());
        self.give(Kind::AsidControl, 0, slot::ASID_CONTROL.cap());
        let dest = kit.slot();
        let made = slot::IRQ_CONTROL
            .cap()
            .irq_control_get(UART_IRQ, &kit.absolute(dest));
        if made.is_ok() {
            self.give::<cap_type::IrqHandler>(Kind::IrqHandler, 0, dest.cast());
        }
        for n in 0..3 {
            let timer: cap::Timer = kit.object(Arch::Timer.into())?;
            self.give(Kind::Timer, n, timer);
        }
        self.guest(kit)
    }

    /// The objects of a guest: an address space with a page, a table, processors.
    fn guest(&mut self, kit: &mut Kit) -> Outcome {
        self.give(Kind::LpidControl, 0, slot::LPID_CONTROL.cap());
        let control = slot::LPID_CONTROL.cptr().bits();
        let mut spaces = [0; 2];
        for (n, space) in spaces.iter_mut().enumerate() {
            let gspace: cap::GSpace = kit.object(Arch::GSpace.into())?;
            // The other one is left to the fuzz thread.
            if n == 0 {
                invoke(control, L::LPIDControlAssign, &[], &[gspace.bits()]);
            }
            self.give(Kind::GSpace, n as u64, gspace);
            *space = gspace.bits();
        }
        for n in 0..4 {
            let table: cap::GPageTable = kit.object(Arch::GPageTable.into())?;
            if n < 2 {
                invoke(table.bits(), L::GPageTableMap, &[0, 0], &[spaces[0]]);
            }
            self.give(Kind::GPageTable, n, table);
        }
        let page = kit.frame(FrameObjectType::_4k)?;
        invoke(page.bits(), L::PageMap, &[0, 3, 0], &[spaces[0]]);
        let hpt: cap::Hpt = kit.object(Arch::Hpt { size_bits: 18 }.into())?;
        let gfns: cap::HptGfns = kit.object(Arch::HptGfns { size_bits: 16 }.into())?;
        let args = [hpt.bits(), gfns.bits()];
        invoke(args[0], L::HPTBind, &[12], &[spaces[0], args[1]]);
        self.give(Kind::Hpt, 0, hpt);
        self.give(Kind::HptGfns, 0, gfns);
        for n in 0..2 {
            let vcpu: cap::VCpu = kit.object(Arch::VCpu.into())?;
            self.give(Kind::VCpu, n, vcpu);
        }
        for n in 0..2 {
            let dest = kit.slot().bits();
            let root = kit.cnode().bits();
            invoke(spaces[0], L::GSpaceMakeView, &[dest, 64, 3], &[root]);
            if !kit.is_empty(dest) {
                self.give::<cap_type::Unspecified>(Kind::View, n, Cap::from_bits(dest));
            }
        }
        Ok(())
    }
}
