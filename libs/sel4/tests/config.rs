// SPDX-License-Identifier: BSD-2-Clause
//! Configuration macros as a user of the crate sees them.

use sel4::sel4_cfg;

#[sel4_cfg(PRINTING)]
fn prints() -> bool {
    true
}

#[sel4_cfg(not(PRINTING))]
fn prints() -> bool {
    false
}

#[sel4_cfg(all(KERNEL_MCS, any(HAVE_FPU, ARCH_PPC64)))]
const MCS: bool = true;

#[sel4_cfg(all(KERNEL_MCS, HAVE_FPU))]
compile_error!("no floating point here");

#[test]
fn attribute_and_macros_agree() {
    assert_eq!(prints(), sel4::sel4_cfg_bool!(PRINTING));
    assert_eq!(prints(), sel4::PRINTING);
    const { assert!(MCS) };
    let by_if = sel4::sel4_cfg_if! {
        if #[sel4_cfg(PRINTING)] { true } else { false }
    };
    assert_eq!(by_if, prints());
}

#[test]
fn values() {
    assert_eq!(sel4::sel4_cfg_usize!(WORD_SIZE), sel4::WORD_SIZE);
    assert_eq!(sel4::sel4_cfg_str!(ARCH), "ppc64");
    assert_eq!(sel4::sel4_cfg_word!(TIMER_FREQUENCY), sel4::TIMEBASE_HZ);
}
