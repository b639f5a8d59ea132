//! What the guest runs: its root, and the initramfs that finds it.

pub(crate) mod initramfs;
pub(crate) mod root;
