//! The guest's side: the image of its root, and the initramfs that mounts it.

pub(crate) mod image;
pub(crate) mod initramfs;
pub(crate) mod projects;
pub(crate) mod root;
