//! Places in the guest that more than one file of the agent names.

/// Where tests leave files that they want to hand back.
pub(crate) const FILES: &str = "/run/md-regress/files";

/// Where cgroup2 is mounted.
pub(crate) const CGROUPS: &str = "/sys/fs/cgroup";

/// Where the kernel's modules are.
pub(crate) const MODULES: &str = "/usr/lib/modules";

/// Where the kernel itself looks for modprobe, whatever a test's `PATH` says.
pub(crate) const MODPROBE: &str = "/sbin/modprobe";

/// The agent's binary. It was deleted with the initramfs, and the kernel keeps it for us.
pub(crate) const SELF: &str = "/proc/self/exe";
