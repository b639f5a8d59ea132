//! Tells errors of the user from errors of the host and the harness.

use vm_images::error::Fault;
use vm_images::spec::error::BadKernelSpec;

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
            || Fault::of(cause).is_some_and(|fault| matches!(fault, Fault::Source | Fault::Request))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_images::build::error::{BuildError, CheckoutError};
    use vm_images::error::ImageError;

    #[test]
    fn an_error_of_the_users_is_told_from_one_of_the_hosts() {
        assert!(is_users_fault(&usage(anyhow::anyhow!("no test matches `x`"))));
        assert!(!is_users_fault(&anyhow::anyhow!("disk on fire")));
        let checkout = CheckoutError::Changed { dir: "/src/lvm2".into() };
        assert!(is_users_fault(&ImageError::from(BuildError::from(checkout)).into()));
        let exposed = vm_images::build::enclosure::EnclosureError::Exposed { tried: "no".to_owned() };
        assert!(
            is_users_fault(&ImageError::from(BuildError::from(exposed)).into()),
            "--trust-source mends it"
        );
        let bad = "6.12".parse::<vm_images::spec::KernelSpec>().unwrap_err();
        assert!(is_users_fault(&bad.into()));
    }
}
