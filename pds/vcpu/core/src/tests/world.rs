// SPDX-License-Identifier: BSD-2-Clause
//! A guest of a few vCPUs with the kernel and the memory behind it.

use crate::*;
use partita_papr::Gfn;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

pub const VCPUS: usize = 3;
pub const SOURCES: usize = 4;
pub const FIRST: u32 = 0x1100;
pub const TERMINALS: [u32; 2] = [0x7100_0000, 0x7100_0001];
pub const BOOT: VcpuId = VcpuId(0);
pub const SECOND: VcpuId = VcpuId(1);
pub const MEMORY_PAGES: u64 = 16;
pub const NOW: i64 = 1_700_000_000;

#[derive(Clone, Copy, Debug, Default)]
pub struct FakeVcpu {
    pub line: bool,
    pub kicks: u32,
    pub resumes: u32,
    pub pauses: u32,
    /// Paused or stopped as the kernel sees it.
    pub out: bool,
    pub msr: u64,
    pub sprg0: u64,
    pub ciabr: u64,
    pub hfscr: u64,
    pub tb_offset: u64,
    pub started: Option<StartState>,
    pub injected: Option<Interrupt>,
    pub yield_count: Option<u32>,
}

#[derive(Default)]
pub struct World {
    pub vcpus: [FakeVcpu; VCPUS],
    pub pages: BTreeMap<u64, Vec<u8>>,
    /// Bytes that were read, in order of address, to find double reads.
    pub reads: Vec<u64>,
    pub modes: Vec<PartitionMode>,
    pub mode_refused: bool,
    pub random: Option<u64>,
    pub clock: Option<RealTime>,
    pub power: Vec<PowerEvent>,
    pub output: [Vec<u8>; 2],
    pub output_full: bool,
}

pub type SharedWorld = Rc<RefCell<World>>;

#[derive(Clone)]
pub struct Fake(pub SharedWorld);

impl Machine for Fake {
    fn read_register(&mut self, vcpu: VcpuId, register: Register) -> Result<u64, Refused> {
        let world = self.0.borrow();
        let vcpu = &world.vcpus[vcpu.0 as usize];
        Ok(match register {
            Register::Msr => vcpu.msr,
            Register::Sprg0 => vcpu.sprg0,
            Register::Ciabr => vcpu.ciabr,
            Register::Hfscr => vcpu.hfscr,
            Register::TbOffset => vcpu.tb_offset,
        })
    }
    fn write_register(
        &mut self,
        vcpu: VcpuId,
        register: Register,
        value: u64,
    ) -> Result<(), Refused> {
        let mut world = self.0.borrow_mut();
        let vcpu = &mut world.vcpus[vcpu.0 as usize];
        if !vcpu.out {
            return Err(Refused);
        }
        match register {
            Register::Msr => vcpu.msr = value,
            Register::Sprg0 => vcpu.sprg0 = value,
            Register::Ciabr => vcpu.ciabr = value,
            Register::Hfscr => vcpu.hfscr = value,
            // As the kernel rounds it.
            Register::TbOffset => vcpu.tb_offset = value.wrapping_add(0xff_ffff) & !0xff_ffff,
        }
        Ok(())
    }
    fn write_start_state(&mut self, vcpu: VcpuId, state: StartState) -> Result<(), Refused> {
        let mut world = self.0.borrow_mut();
        let vcpu = &mut world.vcpus[vcpu.0 as usize];
        if !vcpu.out {
            return Err(Refused);
        }
        vcpu.started = Some(state);
        Ok(())
    }
    fn pause(&mut self, vcpu: VcpuId) -> Pause {
        let vcpu = &mut self.0.borrow_mut().vcpus[vcpu.0 as usize];
        vcpu.pauses += 1;
        if vcpu.out { Pause::Done } else { Pause::NotYet }
    }
    fn resume(&mut self, vcpu: VcpuId) {
        let vcpu = &mut self.0.borrow_mut().vcpus[vcpu.0 as usize];
        vcpu.resumes += 1;
        vcpu.out = false;
    }
    fn kick(&mut self, vcpu: VcpuId) {
        self.0.borrow_mut().vcpus[vcpu.0 as usize].kicks += 1;
    }
    fn set_external_line(&mut self, vcpu: VcpuId, raised: bool) {
        self.0.borrow_mut().vcpus[vcpu.0 as usize].line = raised;
    }
    fn inject(&mut self, vcpu: VcpuId, interrupt: Interrupt) -> Result<(), Refused> {
        self.0.borrow_mut().vcpus[vcpu.0 as usize].injected = Some(interrupt);
        Ok(())
    }
    fn set_partition_mode(&mut self, mode: PartitionMode) -> Result<(), Refused> {
        let mut world = self.0.borrow_mut();
        if world.mode_refused {
            return Err(Refused);
        }
        world.modes.push(mode);
        Ok(())
    }
    fn timebase(&mut self) -> u64 {
        0x7e57
    }
    fn yield_count(&mut self, vcpu: VcpuId) -> Option<u32> {
        self.0.borrow().vcpus[vcpu.0 as usize].yield_count
    }
    fn random(&mut self) -> Option<u64> {
        self.0.borrow().random
    }
    fn real_time(&mut self) -> Option<RealTime> {
        self.0.borrow().clock
    }
    fn power(&mut self, event: PowerEvent) {
        self.0.borrow_mut().power.push(event);
    }
    fn put_chars(&mut self, terminal: usize, bytes: &[u8]) -> bool {
        assert!(!bytes.is_empty() && bytes.len() <= 16);
        let mut world = self.0.borrow_mut();
        if world.output_full {
            return false;
        }
        world.output[terminal].extend_from_slice(bytes);
        true
    }
}

impl GuestMemory for Fake {
    fn read(&mut self, page: Gfn, offset: usize, buffer: &mut [u8]) -> Result<(), NotBacked> {
        assert!(offset + buffer.len() <= 4096 && !buffer.is_empty());
        let mut world = self.0.borrow_mut();
        let bytes = world.pages.get(&page.get()).ok_or(NotBacked)?;
        buffer.copy_from_slice(&bytes[offset..offset + buffer.len()]);
        let at = page.address().get() + offset as u64;
        world.reads.extend(at..at + buffer.len() as u64);
        Ok(())
    }
    fn write(&mut self, page: Gfn, offset: usize, bytes: &[u8]) -> Result<(), NotBacked> {
        assert!(offset + bytes.len() <= 4096);
        let mut world = self.0.borrow_mut();
        let page = world.pages.get_mut(&page.get()).ok_or(NotBacked)?;
        page[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

pub type TestPlatform = Platform<'static, Fake, Fake>;

/// The shared slices are leaked; several platforms over them are several instances.
#[derive(Clone)]
pub struct Guest {
    pub world: SharedWorld,
    pub shared: Shared<'static>,
}

pub const CONFIG: Config<'static> = Config {
    memory_bytes: 1 << 30,
    first_source: FIRST,
    terminals: &TERMINALS,
    characteristics: [0x1111, 0x2222],
    facilities: 1 << 3,
};

impl Guest {
    pub fn new() -> Self {
        fn many<T: Default>(count: usize) -> &'static [T] {
            Box::leak((0..count).map(|_| T::default()).collect())
        }
        let mut world = World {
            clock: Some(RealTime {
                seconds: NOW,
                nanoseconds: 5,
            }),
            ..World::default()
        };
        for page in 0..MEMORY_PAGES {
            world.pages.insert(page, vec![0; 4096]);
        }
        for vcpu in &mut world.vcpus[1..] {
            vcpu.out = true;
        }
        let guest = Guest {
            world: Rc::new(RefCell::new(world)),
            shared: Shared {
                vm: &many(1)[0],
                vcpus: many(VCPUS),
                sources: many(SOURCES),
                input: many(TERMINALS.len()),
            },
        };
        guest.instance(0).reset(is_level);
        guest
    }

    pub fn instance(&self, number: u32) -> TestPlatform {
        let fake = || Fake(self.world.clone());
        Platform::new(self.shared, CONFIG, Instance(number), fake(), fake())
    }

    pub fn vcpu(&self, vcpu: VcpuId) -> FakeVcpu {
        self.world.borrow().vcpus[vcpu.0 as usize]
    }

    pub fn with_vcpu(&self, vcpu: VcpuId, change: impl FnOnce(&mut FakeVcpu)) {
        change(&mut self.world.borrow_mut().vcpus[vcpu.0 as usize]);
    }

    pub fn poke(&self, gpa: u64, words: &[u32]) {
        for (word, at) in words.iter().zip((gpa..).step_by(4)) {
            let bytes = word.to_be_bytes();
            for (byte, at) in bytes.iter().zip(at..) {
                let mut world = self.world.borrow_mut();
                let page = world.pages.get_mut(&(at / 4096)).unwrap();
                page[(at % 4096) as usize] = *byte;
            }
        }
    }

    pub fn peek(&self, gpa: u64) -> u32 {
        let byte = |at: u64| self.world.borrow().pages[&(at / 4096)][(at % 4096) as usize];
        u32::from_be_bytes([byte(gpa), byte(gpa + 1), byte(gpa + 2), byte(gpa + 3)])
    }
}

/// Sources 2 and 3 are levels.
pub fn is_level(index: usize) -> bool {
    index >= 2
}

pub fn call(platform: &mut TestPlatform, caller: VcpuId, number: u64, args: &[u64]) -> ReplyAction {
    let mut all = [0; 8];
    all[..args.len()].copy_from_slice(args);
    platform.hypercall(caller, number, &all)
}

/// Status and results of a call that resumes.
pub fn answer(
    platform: &mut TestPlatform,
    caller: VcpuId,
    number: u64,
    args: &[u64],
) -> (i64, Vec<u64>) {
    match call(platform, caller, number, args) {
        ReplyAction::Resume { status, words } => (status, words.as_slice().to_vec()),
        other => panic!("{number:#x} answers {other:?}"),
    }
}

pub fn status(platform: &mut TestPlatform, caller: VcpuId, number: u64, args: &[u64]) -> i64 {
    let (status, words) = answer(platform, caller, number, args);
    assert!(words.is_empty());
    status
}

/// Makes an RTAS call at a fixed place; answers the hypercall's status and the results.
pub fn rtas(
    platform: &mut TestPlatform,
    guest: &Guest,
    token: u32,
    args: &[u32],
    nret: u32,
) -> (i64, Vec<u32>) {
    const BLOCK: u64 = 0x2ff0; // crosses a page
    let mut block = vec![token, args.len() as u32, nret];
    block.extend(args);
    block.extend((0..nret).map(|_| 0xdead_beef));
    guest.poke(BLOCK, &block);
    let status = status(platform, BOOT, 0xf000, &[BLOCK]);
    let rets = BLOCK + 12 + 4 * args.len() as u64;
    (
        status,
        (0..nret)
            .map(|n| guest.peek(rets + 4 * u64::from(n)))
            .collect(),
    )
}
