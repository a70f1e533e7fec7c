// SPDX-License-Identifier: BSD-2-Clause
//! Values for all registers, and what differs afterwards.

use guest_support::registers::{Registers, SPRS};
use guest_support::{Failure, Outcome, Random};

/// Bits that a special-purpose register has, as the guest may set them here.
fn writable(spr: u16) -> u64 {
    match spr {
        // DSCR: 25 bits; no prefetch setting matters here.
        17 => 0x01ff_ffff,
        18 | 256 => 0xffff_ffff,
        // The trap area is named by SPRG3 where traps can happen; keys that allow nothing would stop
        // nothing with translation off.
        159 => 0xffff_ffff,
        // FSCR: the facilities stay as they are.
        153 => 0,
        _ => u64::MAX,
    }
}

/// Different values for all registers. FSCR is as it is.
pub fn patterns(random: &mut Random) -> Registers {
    let mut all = Registers::ZERO;
    all.gpr.iter_mut().for_each(|r| *r = random.word());
    all.cr = random.word() & 0xffff_ffff;
    all.lr = random.word();
    all.ctr = random.word();
    // SO, OV, CA and their 32-bit forms, the string length.
    all.xer = random.word() & 0xe00c_007f;
    for ((spr, _), value) in SPRS.iter().zip(&mut all.spr) {
        *value = random.word() & writable(*spr);
    }
    // Exceptions disabled; rounding modes and status as they come.
    all.fpscr = random.word() & 0x0007_f003;
    // SAT and NJ.
    all.vscr = random.word() & 0x0001_0001;
    all.vsr
        .iter_mut()
        .flatten()
        .for_each(|v| *v = random.word());
    let fscr = SPRS.iter().position(|(spr, _)| *spr == 153).unwrap_or(0);
    all.spr[fscr] = guest_support::machine::mfspr::<153>();
    all
}

/// Which registers may differ.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    /// Bit n: rn.
    pub gprs: u32,
    /// CR fields, as a mask of CR.
    pub cr: u64,
    /// LR.
    pub lr: bool,
    /// CTR.
    pub ctr: bool,
    /// Special-purpose registers of [`SPRS`].
    pub sprs: &'static [u16],
}

/// CR0.
pub const CR0: u64 = 0xf000_0000;

impl Allowed {
    /// A hypercall: r3, `results` from r4 on, and CR0, which PAPR gives to the hypervisor.
    pub const fn hypercall(results: u32) -> Self {
        Allowed {
            gprs: ((1 << (results + 1)) - 1) << 3,
            cr: CR0,
            lr: false,
            ctr: false,
            sprs: &[],
        }
    }
}

/// Fails if anything else differs.
pub fn compare(before: &Registers, after: &Registers, allowed: &Allowed) -> Outcome {
    let differs = |name: &str, n: usize, before: u64, after: u64| {
        Err(Failure::new(format_args!(
            "{name}{n}: {after:#x}, was {before:#x}"
        )))
    };
    for (n, (b, a)) in before.gpr.iter().zip(&after.gpr).enumerate() {
        if a != b && allowed.gprs >> n & 1 == 0 {
            return differs("r", n, *b, *a);
        }
    }
    if (before.cr ^ after.cr) & !allowed.cr != 0 {
        return differs("CR", 0, before.cr, after.cr);
    }
    if before.lr != after.lr && !allowed.lr {
        return differs("LR", 0, before.lr, after.lr);
    }
    if before.ctr != after.ctr && !allowed.ctr {
        return differs("CTR", 0, before.ctr, after.ctr);
    }
    if before.xer != after.xer {
        return differs("XER", 0, before.xer, after.xer);
    }
    for (i, (spr, name)) in SPRS.iter().enumerate() {
        let (b, a) = (before.spr[i], after.spr[i]);
        if a != b && !allowed.sprs.contains(spr) {
            return differs(name, usize::from(*spr), b, a);
        }
    }
    if before.fpscr != after.fpscr {
        return differs("FPSCR", 0, before.fpscr, after.fpscr);
    }
    if before.vscr != after.vscr {
        return differs("VSCR", 0, before.vscr, after.vscr);
    }
    for (n, (b, a)) in before.vsr.iter().zip(&after.vsr).enumerate() {
        for i in 0..2 {
            if a[i] != b[i] {
                return differs("vs", n, b[i], a[i]);
            }
        }
    }
    Ok(())
}
