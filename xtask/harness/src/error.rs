//! Tells errors of the user from errors of the host and the harness.

use vm_images::images::{Fault, ImageError};
use vm_images::kernel_spec::BadKernelSpec;

/// An error of the user: the command line, or a file or source of theirs. Any other error is the host's or
/// the harness's.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct UsageError(anyhow::Error);

/// Marks an error as the user's.
pub fn usage(error: anyhow::Error) -> anyhow::Error {
    UsageError(error).into()
}

/// True if an error is the user's, so that the user can fix it.
pub fn is_users_fault(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<UsageError>()
            || cause.is::<BadKernelSpec>()
            || cause
                .downcast_ref::<ImageError>()
                .is_some_and(|error| matches!(error.fault(), Fault::Source | Fault::Request))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_users_is_told_from_one_of_the_hosts() {
        assert!(is_users_fault(&usage(anyhow::anyhow!("no test matches `x`"))));
        assert!(!is_users_fault(&anyhow::anyhow!("disk on fire")));
        let checkout = vm_images::checkout::CheckoutError::Changed { dir: "/src/lvm2".into() };
        assert!(is_users_fault(&ImageError::from(checkout).into()));
        let exposed = vm_images::enclosure::EnclosureError::Exposed { tried: "no".to_owned() };
        assert!(is_users_fault(&ImageError::from(exposed).into()), "--trust-source mends it");
        let bad = "6.12".parse::<vm_images::kernel_spec::KernelSpec>().unwrap_err();
        assert!(is_users_fault(&bad.into()));
    }
}
