// SPDX-License-Identifier: BSD-2-Clause
//! ONE_REG ids (S3.9): names of a vCPU's registers for saving and restoring.

/// Architecture part of an id.
pub const PPC: u64 = 0x1000_0000_0000_0000;
const SIZE_SHIFT: u32 = 52;

/// An id of a register of 2^`log2_bytes` bytes.
const fn id(low: u64, log2_bytes: u64) -> u64 {
    PPC | log2_bytes << SIZE_SHIFT | low
}

/// Bytes of the register that `id` names, 1 to 2^15.
pub const fn size(id: u64) -> usize {
    1 << ((id >> SIZE_SHIFT) & 0xf)
}

macro_rules! ids {
    ($($name:ident = $low:expr, $bytes:tt;)*) => {
        $(#[doc = concat!("`", stringify!($name), "`, ", stringify!($bytes), " bytes.")]
        pub const $name: u64 = id($low, log2($bytes));)*

        /// Name of an id of this module.
        pub const fn name(id: u64) -> Option<&'static str> {
            $(if id == $name { return Some(stringify!($name)); })*
            None
        }

        /// All ids but the indexed ones (FPR, VR, VSR, transactional state).
        pub const ALL: &[u64] = &[$($name),*];
    };
}

const fn log2(bytes: u64) -> u64 {
    bytes.trailing_zeros() as u64
}

ids! {
    HIOR = 0x01, 8;
    DABR = 0x08, 8;
    DSCR = 0x09, 8;
    PURR = 0x0a, 8;
    SPURR = 0x0b, 8;
    DAR = 0x0c, 8;
    DSISR = 0x0d, 4;
    AMR = 0x0e, 8;
    UAMOR = 0x0f, 8;
    MMCR0 = 0x10, 8;
    MMCR1 = 0x11, 8;
    MMCRA = 0x12, 8;
    MMCR2 = 0x13, 8;
    MMCRS = 0x14, 8;
    SIAR = 0x15, 8;
    SDAR = 0x16, 8;
    SIER = 0x17, 8;
    PMC1 = 0x18, 4;
    PMC2 = 0x19, 4;
    PMC3 = 0x1a, 4;
    PMC4 = 0x1b, 4;
    PMC5 = 0x1c, 4;
    PMC6 = 0x1d, 4;
    PMC7 = 0x1e, 4;
    PMC8 = 0x1f, 4;
    FPSCR = 0x80, 8;
    VSCR = 0x81, 4;
    VPA_ADDR = 0x82, 8;
    VPA_SLB = 0x83, 16;
    VPA_DTL = 0x84, 16;
    ICP_STATE = 0x8c, 8;
    TB_OFFSET = 0x9c, 8;
    IAMR = 0x9f, 8;
    FSCR = 0xa3, 8;
    PSPB = 0xa4, 4;
    EBBHR = 0xa5, 8;
    EBBRR = 0xa6, 8;
    BESCR = 0xa7, 8;
    TAR = 0xa8, 8;
    DPDES = 0xa9, 8;
    DAWR = 0xaa, 8;
    DAWRX = 0xab, 8;
    CIABR = 0xac, 8;
    IC = 0xad, 8;
    VTB = 0xae, 8;
    PID = 0xb2, 8;
    VRSAVE = 0xb4, 4;
    LPCR = 0xb5, 4;
    LPCR_64 = 0xb5, 8;
    PPR = 0xb6, 8;
    ARCH_COMPAT = 0xb7, 4;
    TIDR = 0xbc, 8;
    PSSCR = 0xbd, 8;
    DEC_EXPIRY = 0xbe, 8;
    ONLINE = 0xbf, 4;
    PTCR = 0xc0, 8;
    MMCR3 = 0xc1, 8;
    SIER2 = 0xc2, 8;
    SIER3 = 0xc3, 8;
    DAWR1 = 0xc4, 8;
    DAWRX1 = 0xc5, 8;
}

/// `FPRn`, 8 bytes; `None` from 32 on.
pub const fn fpr(n: u64) -> Option<u64> {
    if n < 32 { Some(id(0x20 + n, 3)) } else { None }
}

/// `VRn`, 16 bytes; `None` from 32 on.
pub const fn vr(n: u64) -> Option<u64> {
    if n < 32 { Some(id(0x40 + n, 4)) } else { None }
}

/// `VSRn`, 16 bytes; `None` from 32 on.
pub const fn vsr(n: u64) -> Option<u64> {
    if n < 32 { Some(id(0x60 + n, 4)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S1.1
    #[test]
    fn area_ids() {
        assert_eq!(VPA_ADDR, 0x1030_0000_0000_0082);
        assert_eq!(VPA_SLB, 0x1040_0000_0000_0083);
        assert_eq!(VPA_DTL, 0x1040_0000_0000_0084);
        assert_eq!(size(VPA_DTL), 16);
        assert_eq!(size(DSISR), 4);
        assert_eq!(DSISR, 0x1020_0000_0000_000d);
    }

    #[test]
    fn ids_are_unique_and_named() {
        for (i, &a) in ALL.iter().enumerate() {
            assert!(name(a).is_some());
            assert!(ALL[i + 1..].iter().all(|&b| a != b), "{a:#x}");
        }
        assert_eq!(name(LPCR_64), Some("LPCR_64"));
        assert_eq!(fpr(32), None);
        assert_eq!(vsr(31), Some(0x1040_0000_0000_007f));
        assert_eq!(vr(0), Some(0x1040_0000_0000_0040));
    }
}
