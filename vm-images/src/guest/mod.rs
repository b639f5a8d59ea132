//! What the guest runs: the image of its root, and the initramfs that finds it.

pub(crate) mod image;
pub(crate) mod initramfs;
pub(crate) mod projects;
pub(crate) mod root;
