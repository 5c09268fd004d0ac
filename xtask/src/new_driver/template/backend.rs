//! The backend of the pair `sample`: what dom0 does for a guest, and a test of both ends.

use abi::sample::{Request, Response};
use pv_guest_kernel::xenbus::{BackLink, Device, Error};

/// The driver: serves one connection of a frontend. A guest is not trusted: whatever a request
/// holds must do no harm. The toolstack's key `factor` is what numbers are multiplied with.
pub(crate) async fn serve(device: &Device) -> Result<(), Error> {
    let factor: u64 = device.read("factor").await.unwrap_or(2);
    let link = BackLink::<Request, Response>::connect(device).await?;
    link.answer(async |request| answer(request, factor)).await
}

fn answer(request: Request, factor: u64) -> Response {
    Response { product: request.number.wrapping_mul(factor) }
}

#[cfg(test)]
mod tests {
    use pv_guest_kernel::sample::Sample;

    use crate::testing;

    /// A guest and dom0 on two threads of the host, without QEMU.
    #[test]
    fn numbers_come_back_multiplied() {
        testing::pair(
            "sample, factor=3",
            async || {},
            async |store| {
                let device = Sample::connect(&store).await.unwrap();
                for number in 0..1000 {
                    assert_eq!(device.multiply(number).await.unwrap(), number * 3);
                }
                assert_eq!(device.multiply(u64::MAX).await.unwrap(), u64::MAX - 2);
            },
        );
    }
}
