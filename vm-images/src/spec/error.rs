//! The error of a text that names no kernel.

/// Why a text names no kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` names no kernel: expected `deb:BRANCH` as in deb:6.12, or `deb:RELEASE` as in \
     deb:6.12.107+deb13-cloud-amd64, and for the md of a kernel tree `+md:PATH` or `+md:PATH@REV` after it, as in \
     deb:6.12+md:/home/me/linux; or a kernel of your own, `tree:PATH`, `git:PATH@REV` (both may end with `,lockdep`) or \
     `image:BZIMAGE,modules=DIR`; `cargo xtask kernel list` shows Debian's"
)]
pub struct BadKernelSpec {
    text: String,
}

impl BadKernelSpec {
    /// The error of `text`.
    pub(crate) fn new(text: &str) -> Self {
        BadKernelSpec { text: text.to_owned() }
    }
}
