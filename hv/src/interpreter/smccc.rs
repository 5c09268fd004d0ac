//! The SMC calling convention (Arm DEN 0028), apart from PSCI: its version, and who the hypervisor
//! is.

use abi::numbers;

/// SMCCC_VERSION, which PSCI_FEATURES must also know.
pub const VERSION_FUNCTION: u32 = 0x8000_0000;

numbers! {
    /// Functions.
    pub enum Function: u32 {
        /// SMCCC_VERSION
        Version = 0x8000_0000,
        /// SMCCC_ARCH_FEATURES
        ArchFeatures = 0x8000_0001,
        /// Standard hypervisor service: number of functions.
        HypervisorCallCount = 0x8600_FF00,
        /// Standard hypervisor service: UID.
        HypervisorUid = 0x8600_FF01,
        /// Standard hypervisor service: revision.
        HypervisorRevision = 0x8600_FF03,
    }
}

/// Version 1.1.
const VERSION: u64 = 0x0001_0001;
/// NOT_SUPPORTED
const NOT_SUPPORTED: u64 = u64::MAX;
/// a71812dc-c698-4369-9acf-79d18ddee667: the UID of Xen's ABI on Arm (public/arch-arm/smccc.h), in
/// four little-endian words.
const XEN_UID: [u64; 4] = [0xdc12_18a7, 0x6943_98c6, 0xd179_cf9a, 0x67e6_de8d];
/// The service consists of three functions, revision 0.1.
const CALL_COUNT: u64 = 3;
const REVISION: [u64; 2] = [0, 1];

/// Answers a call: the values of x0 to x3. Unknown functions are answered NOT_SUPPORTED.
pub fn answer(x0: u64, x1: u64) -> [u64; 4] {
    match Function::from_raw(x0 as u32) {
        Some(Function::Version) => [VERSION, 0, 0, 0],
        Some(Function::ArchFeatures) => match Function::from_raw(x1 as u32) {
            Some(Function::Version | Function::ArchFeatures) => [0; 4],
            _ => [NOT_SUPPORTED, 0, 0, 0],
        },
        Some(Function::HypervisorCallCount) => [CALL_COUNT, 0, 0, 0],
        Some(Function::HypervisorUid) => XEN_UID,
        Some(Function::HypervisorRevision) => [REVISION[0], REVISION[1], 0, 0],
        None => [NOT_SUPPORTED, 0, 0, 0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uid_is_that_of_xen() {
        let bytes: Vec<u8> =
            answer(0x8600_FF01, 0).iter().flat_map(|word| (*word as u32).to_le_bytes()).collect();
        let expected = 0xa718_12dc_c698_4369_9acf_79d1_8dde_e667_u128.to_be_bytes();
        assert_eq!(bytes, expected);
    }
}
