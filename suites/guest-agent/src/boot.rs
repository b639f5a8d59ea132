//! From the initramfs to a guest that can run tests: modules, mounts, the new root, settings.
//!
//! Everything that a test needs must be there, or the guest does not come up: a missing root is
//! an error that ends the machine. What only helps (tracefs, a sysctl that this kernel lacks) is
//! a note for the harness. Deliberately not here: the ports ([`crate::link::ports`]).

use std::ffi::{CStr, CString};
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::wire::PRELOAD;
use rustix::io::Errno;
use rustix::mm::MlockAllFlags;
use rustix::mount::{MountFlags, mount, mount_move};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, netlink};
use rustix::system::{RebootCommand, finit_module, reboot, sethostname};

use crate::console;
use crate::paths::{CGROUPS, FILES, MODPROBE, MODULES};
use crate::process::spawn::output_of;
use crate::serial::wait_for_disk;

/// Serial number of the disk with the guest's root.
const ROOT_SERIAL: &str = "mdr-root";
/// Serial number of the disk with the kernel's modules.
const MODULES_SERIAL: &str = "mdr-modules";

/// Modules in the initramfs, loaded in the order of their names.
const MODULES_DIR: &str = "/md-regress/modules";

/// How long the root disk may take to appear.
const ROOT_WAIT: Duration = Duration::from_secs(30);
/// How long the modules disk may take after the root disk, with which it is probed.
const MODULES_WAIT: Duration = Duration::from_millis(500);

const LOWER: &str = "/md-regress/lower";
const WRITABLE: &str = "/md-regress/writable";
const NEW_ROOT: &str = "/md-regress/root";

const TAINTED: &str = "/proc/sys/kernel/tainted";

/// Starts the programs that shell tests of storage use most, each with an option that does nothing.
const WARM_UP: &str = "for it in awk basename cat chmod cmp cp cut dd dirname expr find grep head hexdump ln losetup \
    ls mkdir mke2fs mkfifo mknod mktemp mount mv od pgrep ps readlink rm rmdir sed seq sleep sort stat sync tail tee \
    touch tr true udevadm umount uname wc which xargs; do $it --version; done; dmsetup help; lvm help";

const RAMFS_MAGIC: i64 = 0x8584_58f6;
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Why the guest cannot come up.
#[derive(Debug)]
pub(crate) struct BootError(String);

impl Display for BootError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Adds to an error the action that failed.
fn doing<T, E: Display>(what: impl Display, result: Result<T, E>) -> Result<T, BootError> {
    result.map_err(|error| BootError(format!("cannot {what}: {error}")))
}

/// Brings the guest up. Returns remarks for the harness about faults that stop nothing.
pub(crate) fn boot() -> Result<Vec<String>, BootError> {
    refuse_to_empty_a_real_root()?;
    let mut notes = Vec::new();
    early_mounts()?;
    load_modules(&mut notes)?;
    mount_root()?;
    mount_modules(&mut notes)?;
    late_mounts(&mut notes)?;
    switch_root()?;
    settings(&mut notes);
    if let Some(modules) = preloaded(&fs::read_to_string("/proc/cmdline").unwrap_or_default()) {
        warm_up(&modules)?;
    }
    Ok(notes)
}

/// The modules that the kernel's command line names, if this guest is to be saved.
fn preloaded(command_line: &str) -> Option<Vec<&str>> {
    let modules = command_line.split_whitespace().find_map(|word| word.strip_prefix(PRELOAD))?;
    Some(modules.split(',').filter(|module| !module.is_empty()).collect())
}

/// Does once, in a guest that is to be saved, what every guest restored from it would do: loads modules,
/// which takes their signature checks and self-tests, and starts programs, so that their files are in memory.
/// A module that does not load is no error here: the test that wants it will say so. A kernel that complains
/// is not saved: the complaint belongs to the test that causes it.
fn warm_up(modules: &[&str]) -> Result<(), BootError> {
    let complained = || complaints(tainted().unwrap_or_default());
    let before = complained();
    let _ = output_of(&[&[MODPROBE, "-a", "--"], modules].concat());
    let _ = output_of(&["/usr/bin/bash", "-c", WARM_UP]);
    if complained() != before {
        return Err(BootError("the kernel complained while modules were loaded to be saved".to_owned()));
    }
    Ok(())
}

/// The kernel's taint flags.
pub(crate) fn tainted() -> Option<u64> {
    fs::read_to_string(TAINTED).ok()?.trim().parse().ok()
}

/// The taint flags that say that something went wrong (Documentation/admin-guide/tainted-kernels.rst): bad
/// page, oops, warning, soft lockup.
fn complaints(tainted: u64) -> u64 {
    tainted & (1 << 5 | 1 << 7 | 1 << 9 | 1 << 14)
}

/// Switching roots deletes what is in the old one: make sure that it is an initramfs.
fn refuse_to_empty_a_real_root() -> Result<(), BootError> {
    let kind = doing("look at /", rustix::fs::statfs("/"))?.f_type;
    // The type of the field differs between targets, and the magic numbers need 32 bits.
    #[allow(clippy::unnecessary_cast)]
    let kind = kind as i64;
    if !matches!(kind, RAMFS_MAGIC | TMPFS_MAGIC) || !Path::new("/init").exists() {
        return Err(BootError("not started from an initramfs".to_owned()));
    }
    Ok(())
}

fn make_dir(path: &str, mode: u32) -> Result<(), BootError> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    doing(format_args!("make directory {path}"), made)
}

fn mount_at(source: &str, target: &str, kind: &str, flags: MountFlags, data: &str) -> Result<(), BootError> {
    make_dir(target, 0o755)?;
    let what = || format!("mount {source} ({kind}) on {target}");
    let data = doing(what(), CString::new(data))?;
    doing(what(), mount(source, target, kind, flags, data.as_c_str()))
}

fn early_mounts() -> Result<(), BootError> {
    mount_at("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID, "mode=0755")?;
    mount_at("proc", "/proc", "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, "")?;
    mount_at("sysfs", "/sys", "sysfs", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, "")
}

fn load_modules(notes: &mut Vec<String>) -> Result<(), BootError> {
    let Ok(dir) = fs::read_dir(MODULES_DIR) else {
        notes.push(format!("the initramfs has no {MODULES_DIR}"));
        return Ok(());
    };
    let mut paths: Vec<PathBuf> = dir.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "ko")) {
        let loaded = fs::File::open(path).and_then(|file| Ok(finit_module(&file, c"", 0)?));
        match loaded {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => {}
            // Not fatal by itself: whether the root can do without it will show.
            Err(error) => {
                let note = format!("cannot load module {}: {error}", path.display());
                console::say(&note);
                notes.push(note);
            }
        }
    }
    Ok(())
}

fn mount_root() -> Result<(), BootError> {
    let Some(disk) = wait_for_disk(ROOT_SERIAL, ROOT_WAIT) else {
        let patience = ROOT_WAIT.as_secs();
        return Err(BootError(format!("no disk with serial number `{ROOT_SERIAL}` after {patience} s")));
    };
    mount_at(&disk, LOWER, "squashfs", MountFlags::RDONLY, "")?;
    mount_at("tmpfs", WRITABLE, "tmpfs", MountFlags::empty(), "mode=0755,size=75%")?;
    let (upper, work) = (format!("{WRITABLE}/upper"), format!("{WRITABLE}/work"));
    make_dir(&upper, 0o755)?;
    make_dir(&work, 0o755)?;
    let data = format!("lowerdir={LOWER},upperdir={upper},workdir={work}");
    mount_at("overlay", NEW_ROOT, "overlay", MountFlags::empty(), &data)
}

fn mount_modules(notes: &mut Vec<String>) -> Result<(), BootError> {
    let Some(disk) = wait_for_disk(MODULES_SERIAL, MODULES_WAIT) else {
        notes.push(format!("no disk with serial number `{MODULES_SERIAL}`: no modules beyond the initramfs"));
        return Ok(());
    };
    mount_at(&disk, &format!("{NEW_ROOT}{MODULES}"), "squashfs", MountFlags::RDONLY, "")
}

fn late_mounts(notes: &mut Vec<String>) -> Result<(), BootError> {
    for name in ["dev", "proc", "sys"] {
        let target = format!("{NEW_ROOT}/{name}");
        make_dir(&target, 0o755)?;
        doing(format_args!("move /{name} to the new root"), mount_move(format!("/{name}"), target.as_str()))?;
    }
    let safe = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let tmp = MountFlags::NOSUID | MountFlags::NODEV;
    let at = |path: &str| format!("{NEW_ROOT}{path}");
    // Terminals are devices: with NODEV, none could be opened.
    let devices = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_at("devpts", &at("/dev/pts"), "devpts", devices, "mode=0620,gid=5,ptmxmode=0666")?;
    mount_at("tmpfs", &at("/dev/shm"), "tmpfs", tmp, "mode=1777")?;
    mount_at("tmpfs", &at("/run"), "tmpfs", tmp, "mode=0755")?;
    // Tests keep their disks in files under /tmp; device nodes too, so no NODEV.
    mount_at("tmpfs", &at("/tmp"), "tmpfs", MountFlags::NOSUID, "mode=1777,size=90%")?;
    mount_at("cgroup2", &at(CGROUPS), "cgroup2", safe, "")?;
    for (kind, path) in [("debugfs", "/sys/kernel/debug"), ("tracefs", "/sys/kernel/tracing")] {
        // Not made if it is not there: sysfs has the directory if the kernel has the thing.
        let mounted = mount(kind, at(path), kind, safe, None::<&CStr>);
        if let Err(error) = mounted {
            notes.push(format!("cannot mount {kind} on {path}: {error}"));
        }
    }
    make_dir(&at("/run/lock"), 0o1777)?;
    make_dir(&at(FILES), 0o777)?;
    // The mode above passed through the umask.
    for path in ["/run/lock", FILES] {
        let open = fs::set_permissions(at(path), fs::Permissions::from_mode(0o1777));
        doing(format_args!("open {path} to all"), open)?;
    }
    // Without /dev/fd, every script with a process substitution fails.
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        match std::os::unix::fs::symlink(target, at(link)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return doing(format_args!("link {link}"), Err(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Makes the overlay the root, and frees the memory that the initramfs holds.
///
/// By `MS_MOVE` and `chroot`, because the kernel's first root cannot be pivoted away from. Kernel
/// threads share this process's root, so that `modprobe` is found in the new one.
fn switch_root() -> Result<(), BootError> {
    doing("enter the new root", rustix::process::chdir(NEW_ROOT))?;
    let device = doing("look at /", fs::symlink_metadata("/"))?.dev();
    empty(Path::new("/"), device);
    doing("move the new root", mount_move(".", "/"))?;
    doing("change the root", rustix::process::chroot("."))?;
    doing("enter the root", rustix::process::chdir("/"))
}

/// Deletes the content of a directory, as far as it is on `device`. A file that cannot be deleted costs
/// memory and nothing else.
fn empty(dir: &Path, device: u64) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        // The root of another file system has that one's device number: never descend into it.
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.dev() != device => {}
            Ok(metadata) if metadata.is_dir() => {
                empty(&path, device);
                let _ = fs::remove_dir(&path);
            }
            Ok(_) => {
                let _ = fs::remove_file(&path);
            }
            Err(_) => {}
        }
    }
}

fn settings(notes: &mut Vec<String>) {
    let mut note = |what: &str, result: Result<(), String>| {
        if let Err(error) = result {
            notes.push(format!("cannot {what}: {error}"));
        }
    };
    let core_pattern = format!("{FILES}/core.%e.%p");
    for (path, value) in [
        // The console is evidence: everything goes there.
        ("/proc/sys/kernel/printk", "8 4 1 7"),
        // The default stops after ten, and one test can be worth more.
        ("/proc/sys/kernel/hung_task_warnings", "-1"),
        ("/proc/sys/kernel/sysrq", "1"),
        ("/proc/sys/kernel/core_pattern", core_pattern.as_str()),
        ("/proc/self/oom_score_adj", "-1000"),
    ] {
        note(&format!("set {path}"), fs::write(path, value).map_err(|e| e.to_string()));
    }
    note("set the host name", sethostname(b"md-regress").map_err(|e| e.to_string()));
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE;
    note("lock memory", rustix::mm::mlockall(all).map_err(|e| e.to_string()));
    // A heartbeat must come through when the test keeps the only processor busy.
    note("raise priority", rustix::process::setpriority_process(None, -15).map_err(|e| e.to_string()));
    note("bring lo up", loopback_up().map_err(|e| e.to_string()));
}

/// Brings the loopback interface up, by the one netlink message that this takes.
fn loopback_up() -> rustix::io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST: u16 = 1;
    const LOOPBACK_INDEX: i32 = 1;
    const IFF_UP: u32 = 1;
    let mut message = Vec::with_capacity(32);
    message.extend(32u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]); // Sequence number and sender.
    message.extend([0; 4]); // Address family and device type.
    message.extend(LOOPBACK_INDEX.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes()); // The flags,
    message.extend(IFF_UP.to_ne_bytes()); // and which of them change.
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None, // Which is protocol 0, NETLINK_ROUTE.
    )?;
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &kernel)?;
    Ok(())
}

/// Ends the machine at once. Nothing is synced: there is nothing to keep, and a sync would wait
/// for the very arrays that a test has wedged.
pub(crate) fn power_off() -> ! {
    let _ = reboot(RebootCommand::PowerOff);
    // Still here: not the first process of a machine, or a kernel that cannot.
    let _ = fs::write("/proc/sysrq-trigger", "o");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_guest_that_is_saved_warms_up() {
        assert_eq!(
            preloaded("console=ttyS0 md_regress.preload=loop,raid1 quiet"),
            Some(vec!["loop", "raid1"])
        );
        assert_eq!(preloaded("md_regress.preload="), Some(vec![]));
        assert_eq!(preloaded("console=ttyS0 quiet"), None);
    }

    #[test]
    fn a_module_that_is_not_signed_is_no_complaint() {
        assert_eq!(complaints(12288), 0);
        assert_eq!(complaints(12800), 512);
    }
}
