//! `vcpu_op` (public/vcpu.h) and `vm_assist`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Gfn, layout, numbers};

numbers! {
    /// Commands of `vcpu_op`: x0 command, x1 vCPU, x2 pointer.
    pub enum Command: u64 {
        /// [`RegisterRunstateArea`]
        RegisterRunstateMemoryArea = 5,
        /// [`RegisterVcpuInfo`]
        RegisterVcpuInfo = 10,
    }
}

/// Says where this vCPU's [`crate::shared_info::VcpuInfo`] lies; once for each vCPU.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegisterVcpuInfo {
    /// Frame.
    pub gfn: Gfn,
    /// Offset in it: 8-aligned, and the record must not leave the frame.
    pub offset: u32,
    /// Reserved.
    pub padding: u32,
}
layout!(RegisterVcpuInfo, 16, offset @ 8);

/// Says where this vCPU's [`crate::shared_info::RunstateInfo`] lies.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegisterRunstateArea {
    /// Guest virtual address.
    pub address: u64,
}
layout!(RegisterRunstateArea, 8);

/// `vm_assist` command "enable".
pub const ASSIST_ENABLE: u64 = 0;
/// `vm_assist` command "disable".
pub const ASSIST_DISABLE: u64 = 1;
/// `vm_assist` type: mark the runstate area while it is being updated.
pub const ASSIST_RUNSTATE_UPDATE_FLAG: u64 = 5;
