// SPDX-License-Identifier: BSD-2-Clause
//! Names of the symbols that the system description sets (`setvar_vaddr` and the like): 8 bytes
//! each, 0 if not set. In the PDs they are identifiers of `var!`, so the names are repeated there.
//!
//! | symbol | in | value |
//! |---|---|---|
//! | `slot_table` | memslots (rw), hpt, vpa (r) | address of the slot table |
//! | `epoch` | hpt, vpa (rw) | address of the PD's own epoch word |
//! | `epoch_0` to `epoch_9` | memslots (r) | addresses of the readers' epoch words, without gaps |
//! | `guest_memory` | vcpu | bytes of guest memory: of slot 0 |
//! | `guest_memory` | hpt, vpa | end of the guest real addresses that slots can have |
//! | `instance` | vpa, vcpu | number of the instance, from 0: its core |
//! | `vpa_1` to `vpa_3` | vcpu | channel ids of further instances of vpa, if there are any |
//! | `vcpu_count` | vpa, vcpu | vCPUs |
//! | `dirty_log` | hpt, vpa, vcpu, control (rw) | address of the dirty log, optional |
//! | `page_state` | memslots (rw) | address of its page words and frame lists |
//! | `page_state_size` | memslots | bytes there |
//! | `frames_root` | memslots | capability pointer of the CNode in slot 8 |
//! | `untyped_count`, `untyped_size` | memslots | untyped capabilities from slot 1 on |
//! | `kernel_start`, `kernel_size` | memslots, vcpu | the guest's kernel file |
//! | `initrd_start`, `initrd_size` | memslots, vcpu | the guest's initrd, if there is one |
//! | `hpt_order` | hpt, vcpu | log2 of the bytes of the table |
//! | `vrma_page` | hpt | bytes of a page of the virtual real mode area |
//! | `real_table` | hpt (r) | address of the real table |
//! | `rev`, `rmap`, `control_words` | hpt (rw) | addresses of the regions of `partita_hpt::State` |
//! | `vpa_areas` | vpa (rw) | address of `VcpuAreas` of all vCPUs |
//! | `vpa_views` | vpa (rw) | address of the instance's own `InstanceViews` |
//! | `vm_state` | vcpu (rw) | address of the region of `partita_vcpu::Shared` |
//! | `view_window` | vpa, vcpu | address of the window of its view capabilities |
//! | `cmdline`, `cmdline_size` | vcpu | the guest's command line |
//! | `console` | vcpu (rw) | address of the region shared with serial |
//! | `power` | vcpu | channel id of `power`, if the guest shares the machine's power switch |

/// Readers of the slot table that `memslots` can have.
pub const READERS: usize = 10;

/// First of the slots with untyped memory for guests, in the CSpace of `memslots`.
pub const UNTYPED_SLOT: usize = 1;
/// Untyped capabilities for guest memory at most.
pub const MAX_UNTYPED: usize = 7;
/// The CNode for capabilities of frames and tables.
pub const FRAMES_SLOT: usize = 8;
/// The GSpace.
pub const GSPACE_SLOT: usize = 9;
/// Untyped memory for page tables and small frames ([`crate::layout::SPARE_BYTES`]).
pub const SPARE_SLOT: usize = 10;
/// The hash page table, in the CSpace of `hpt`.
pub const HPT_SLOT: usize = 1;
/// First view capability (rw), in the CSpace of `vpa` (1 + 3 for each vCPU) and of `vcpu` (one).
pub const VIEW_SLOT: usize = 1;
/// VCPU capabilities of all vCPUs, in the CSpace of `vpa`, and of `vcpu` but for instance 0.
pub const VCPU_SLOT: usize = 44;
/// The timer ([`crate::channel::TIMER`]), in the CSpace of `vcpu`.
pub const TIMER_SLOT: usize = 20;
/// The platform, in the CSpace of `vcpu`, or of `power` if several guests share it.
pub const PLATFORM_SLOT: usize = 21;
