//! The inside of an enclosure: a process of ours that gives up every right, and then becomes the program that
//! is to run.
//!
//! The process is this same program, started again ([`served`]), because only a process with one thread can
//! make namespaces. With namespaces there are two such processes. The outer one makes the PID namespace and
//! writes the user map of the inner one. The inner one is that namespace's first process: it mounts what can
//! be seen, drops its capabilities, and execs. Which way is taken, and as which user, is decided in
//! [`crate::build::enclosure`].
//!
//! A program inside finds: the root, read-only; the working folder at `/mnt`; an empty `/tmp`; six devices
//! that hold no data; no `/proc`, no `/sys`, no network but a loopback that is down, no other processes, no
//! terminal, no capability and no way to gain one, in a user namespace that lets nobody make another.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, StatVfsMountFlags, Uid, makedev, mknodat, openat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount, unmount,
};
use rustix::process::{
    Resource, Rlimit, Signal, chroot, pivot_root, set_parent_process_death_signal, setrlimit, setsid,
};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags, capabilities,
    clear_ambient_capability_set, configure_capability_in_ambient_set, remove_capability_from_bounding_set,
    set_capabilities, set_capabilities_secure_bits, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid, unshare_unsafe,
};

/// The first word of the command line that [`served`] answers.
const WORD: &str = "enclosed-program";

/// Where the working folder is seen from inside.
pub(crate) const INSIDE: &str = "/mnt";
/// User and group of the program in its user namespace: one that no root has a name for, and above all not 0.
const ID_INSIDE: u32 = 1000;
/// Character devices that hold no data: name, major, minor (Documentation/admin-guide/devices.txt).
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Exit code for an enclosure that cannot be made; a shell uses it for a program that it cannot run.
const FAILED: u8 = 126;

/// A way to give up the rights of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Namespaces made by root; to the host, the program is a user without any rights.
    Root,
    /// Namespaces below a user namespace made by an ordinary user; to the host, the program is that user.
    User,
    /// No namespaces: only another root and another user.
    Chroot,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Root => "root",
            Way::User => "user",
            Way::Chroot => "chroot",
        }
    }
}

/// A program to run, with its root and its user: passed on the command line to the process that runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Enclosed {
    pub(crate) way: Way,
    /// User and group of the program on the host, unless it runs as the caller.
    pub(crate) id: u32,
    pub(crate) root: PathBuf,
    pub(crate) work: PathBuf,
    /// Folders in `work` that cannot be written to.
    pub(crate) sealed: Vec<PathBuf>,
    pub(crate) argv: Vec<OsString>,
}

/// One of the two processes that run a program with namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Outer,
    Inner,
}

impl Enclosed {
    /// The arguments with which this program is started again to run it.
    pub(crate) fn words(&self) -> Vec<OsString> {
        self.words_of(Stage::Outer)
    }

    fn words_of(&self, stage: Stage) -> Vec<OsString> {
        let stage = match stage {
            Stage::Outer => "outer",
            Stage::Inner => "inner",
        };
        let mut words: Vec<OsString> =
            [WORD, stage, self.way.name(), &self.id.to_string()].map(OsString::from).to_vec();
        words.extend([self.root.clone().into(), self.work.clone().into()]);
        words.push(self.sealed.len().to_string().into());
        words.extend(self.sealed.iter().map(|folder| folder.clone().into()));
        words.extend(self.argv.iter().cloned());
        words
    }

    fn parse(mut words: impl Iterator<Item = OsString>) -> Option<(Stage, Enclosed)> {
        let mut text = || words.next()?.into_string().ok();
        let stage = match text()?.as_str() {
            "outer" => Stage::Outer,
            "inner" => Stage::Inner,
            _ => return None,
        };
        let name = text()?;
        let way = [Way::Root, Way::User, Way::Chroot].into_iter().find(|way| way.name() == name)?;
        let id = text()?.parse().ok()?;
        let (root, work) = (words.next()?.into(), words.next()?.into());
        let n_sealed = words.next()?.into_string().ok()?.parse().ok()?;
        let sealed: Vec<PathBuf> = words.by_ref().take(n_sealed).map(PathBuf::from).collect();
        let argv: Vec<_> = words.collect();
        let is_whole = sealed.len() == n_sealed && !argv.is_empty();
        is_whole.then_some((stage, Enclosed { way, id, root, work, sealed, argv }))
    }
}

/// Runs the enclosed program and gives its exit code, if this process was started for one; `None` otherwise.
/// Must be called first in `main`, while there is only one thread.
pub fn served() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != WORD {
        return None;
    }
    let result = match Enclosed::parse(words) {
        Some((Stage::Outer, enclosed)) => match enclosed.way {
            Way::Root | Way::User => enclosed.outer(),
            Way::Chroot => enclosed.chrooted(),
        },
        Some((Stage::Inner, enclosed)) => enclosed.inner(),
        None => Err("the command line makes no sense".to_owned()),
    };
    Some(match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "enclosure: {error}");
            ExitCode::from(FAILED)
        }
    })
}

/// Makes an error a sentence that names the step that failed.
fn failed<E: Into<io::Error>>(what: &str) -> impl FnOnce(E) -> String {
    let what = what.to_owned();
    move |error| format!("failed to {what}: {}", error.into())
}

impl Enclosed {
    /// Makes the process namespace, starts its first process, waits for it.
    fn outer(&self) -> Result<u8, String> {
        let parent = rustix::process::getppid();
        if self.way == Way::User {
            let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
            unshare(UnshareFlags::NEWUSER)?;
            // Without the first line the kernel allows no group to be mapped.
            for (file, text) in [
                ("setgroups", "deny".to_owned()),
                ("uid_map", format!("{ID_INSIDE} {} 1", uid.as_raw())),
                ("gid_map", format!("{ID_INSIDE} {} 1", gid.as_raw())),
            ] {
                fs::write(Path::new("/proc/self").join(file), text)
                    .map_err(failed(&format!("set {file}")))?;
            }
            keep_capabilities_at_exec()?;
        }
        unshare(UnshareFlags::NEWPID)?;
        // Set again: a change of credentials clears the parent-death signal that `host` has set (prctl(2)).
        end_with(parent)?;
        let (mut ours, theirs) = UnixStream::pair().map_err(failed("make a socket"))?;
        #[expect(clippy::disallowed_methods, reason = "this process is what `host` has started and watches")]
        let mut child = Command::new("/proc/self/exe")
            .args(self.words_of(Stage::Inner))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .map_err(failed("start the first process of a namespace"))?;
        // The inner process asks once, from its new user namespace. Nothing comes if it could not make one.
        let mut asked = [0];
        if self.way == Way::Root && ours.read_exact(&mut asked).is_ok() {
            let process = Path::new("/proc").join(child.id().to_string());
            for file in ["uid_map", "gid_map"] {
                fs::write(process.join(file), format!("{ID_INSIDE} {} 1", self.id))
                    .map_err(failed(&format!("set {file}")))?;
            }
            ours.write_all(&asked).map_err(failed("answer the first process"))?;
        }
        let status = child.wait().map_err(failed("wait for the first process"))?;
        let code = status.code().unwrap_or(128 + status.signal().unwrap_or_default());
        Ok(u8::try_from(code).unwrap_or(FAILED))
    }

    /// Mounts what can be seen, gives up all rights, and becomes the program.
    fn inner(&self) -> Result<u8, String> {
        close_at_exec()?;
        unshare(
            UnshareFlags::NEWNS
                | UnshareFlags::NEWNET
                | UnshareFlags::NEWIPC
                | UnshareFlags::NEWUTS
                | UnshareFlags::NEWCGROUP,
        )?;
        rustix::system::sethostname(b"md-regress").map_err(failed("set a host name"))?;
        // The host's /proc, which is out of sight when it is needed.
        let proc = openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed("open /proc"))?;
        self.lay_out()?;
        if self.way == Way::Root {
            set_thread_groups(&[]).map_err(failed("leave all groups"))?;
            unshare(UnshareFlags::NEWUSER)?;
            let mut asked = [b'?'];
            let mut outside = fs::File::from(outside()?);
            outside.write_all(&asked).map_err(failed("ask for a user"))?;
            outside.read_exact(&mut asked).map_err(failed("be given a user"))?;
        }
        // In a user namespace of its own the program would have capabilities again, and with them much more
        // of the kernel's code to attack. Where /proc/sys is read-only (in a container) that stays possible.
        let more = openat(&proc, "sys/user/max_user_namespaces", OFlags::WRONLY, Mode::empty());
        let _ = more.map(|file| rustix::io::write(file, b"0"));
        become_user(ID_INSIDE)?;
        give_up_capabilities()?;
        leave_keys();
        // A terminal could be typed into (TIOCSTI, tty_ioctl(4)).
        setsid().map_err(failed("leave the terminal"))?;
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed("be ended with our parent"))?;
        // Had the outer process died before that, no signal would ever come; its end of the socket is gone,
        // too.
        let gone = rustix::net::recv(
            outside()?,
            &mut [0u8; 1][..],
            rustix::net::RecvFlags::DONTWAIT | rustix::net::RecvFlags::PEEK,
        );
        if gone.is_ok() {
            return Err("the process that waits for us is gone".to_owned());
        }
        self.exec()
    }

    /// Mounts everything below the root, and makes it the root.
    fn lay_out(&self) -> Result<(), String> {
        let plain = MountFlags::NOSUID | MountFlags::NODEV;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(failed("keep our mounts to ourselves"))?;
        let (root, work) = (&self.root, self.root.join(INSIDE.trim_start_matches('/')));
        bind(root, root, MountFlags::RDONLY | plain)?;
        bind(&self.work, &work, plain)?;
        for folder in &self.sealed {
            let folder = work.join(folder);
            bind(&folder, &folder, MountFlags::RDONLY | plain)?;
        }
        let tmpfs = |at: &Path, flags, options| {
            mount("tmpfs", at, "tmpfs", flags, options)
                .map_err(failed(&format!("mount a tmpfs on `{}`", at.display())))
        };
        tmpfs(&root.join("tmp"), plain, c"mode=1777,size=25%")?;
        let dev = root.join("dev");
        tmpfs(&dev, MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=0755,size=64k")?;
        for (name, ..) in DEVICES {
            let (from, to) = (Path::new("/dev").join(name), dev.join(name));
            // Not every container has all of them.
            if from.exists() {
                fs::write(&to, "").map_err(failed(&format!("make `{}`", to.display())))?;
                // Read-only: the node itself, not what is written to it.
                bind(&from, &to, MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC)?;
            }
        }
        mount_remount(&dev, MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC, "")
            .map_err(failed("make /dev read-only"))?;
        std::env::set_current_dir(root).map_err(failed("go to the root"))?;
        // The old root comes to lie over the new one, and is taken away from there (pivot_root(2)).
        pivot_root(".", ".").map_err(failed("change the root"))?;
        unmount(".", UnmountFlags::DETACH).map_err(failed("leave the host's root"))?;
        Ok(())
    }

    /// Becomes the program without namespaces, with another root and user only. The working folder lies in
    /// the root already.
    fn chrooted(&self) -> Result<u8, String> {
        let parent = rustix::process::getppid();
        close_at_exec()?;
        chroot(&self.root).map_err(failed("change the root"))?;
        leave_keys();
        set_thread_groups(&[]).map_err(failed("leave all groups"))?;
        become_user(self.id)?;
        give_up_capabilities()?;
        end_with(parent)?;
        self.exec()
    }

    /// Becomes the program, in an environment that does not depend on the caller.
    fn exec(&self) -> Result<u8, String> {
        std::env::set_current_dir(INSIDE).map_err(failed("go to the working folder"))?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        // The host may have a program that reads, as root, the memory of whatever crashes. A limit of one
        // byte keeps the kernel from starting it; a limit of zero does not (fs/coredump.c).
        let one = Rlimit { current: Some(1), maximum: Some(1) };
        setrlimit(Resource::Core, one).map_err(failed("limit what is left of a crash"))?;
        let (program, arguments) = self.argv.split_first().ok_or("there is no program")?;
        #[expect(clippy::disallowed_methods, reason = "this process is what `host` has started and watches")]
        let error = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs([("PATH", "/usr/sbin:/usr/bin"), ("HOME", "/tmp"), ("LC_ALL", "C.UTF-8")])
            .stdin(Stdio::null())
            .exec();
        Err(format!("failed to start `{}`: {error}", OsStr::display(program)))
    }
}

/// Makes this process die with its parent; an error if that is no longer `parent`.
fn end_with(parent: Option<rustix::process::Pid>) -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed("be ended with our parent"))?;
    let is_there = rustix::process::getppid() == parent;
    if is_there { Ok(()) } else { Err("the process that waits for us is gone".to_owned()) }
}

/// Closes all files but the log when the program is executed: our caller may have left others open.
fn close_at_exec() -> Result<(), String> {
    let open = fs::read_dir("/proc/self/fd").map_err(failed("look at our open files"))?;
    let numbers: Vec<i32> = open
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for number in numbers {
        // SAFETY: the file was open a moment ago, and this is the only thread. The descriptor that the folder
        // itself was read through is closed by now: its error is ignored.
        let file = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(file, rustix::io::FdFlags::CLOEXEC);
    }
    Ok(())
}

/// Leaves the session keyring (keyrings(7)), whose keys every process that inherits it can read. A container
/// that forbids this call forbids reading keys, too.
fn leave_keys() {
    // SAFETY: the kernel reads no memory of ours: without a name, the new keyring is anonymous.
    unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0usize) };
}

/// The socket to the outer process.
fn outside() -> Result<OwnedFd, String> {
    io::stdin().as_fd().try_clone_to_owned().map_err(failed("reach the process that waits for us"))
}

fn unshare(flags: UnshareFlags) -> Result<(), String> {
    // SAFETY: unsharing is only unsafe for the table of open files (CLONE_FILES), which no caller here
    // passes.
    unsafe { unshare_unsafe(flags) }.map_err(failed(&format!("unshare {}", names(flags))))
}

fn names(flags: UnshareFlags) -> String {
    flags.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
}

/// Bind-mounts a folder or file with `flags` and those that its file system has already, which a user
/// namespace may not clear.
fn bind(from: &Path, to: &Path, flags: MountFlags) -> Result<(), String> {
    let what = format!("mount `{}`", from.display());
    mount_bind(from, to).map_err(failed(&what))?;
    let has = rustix::fs::statvfs(to).map_err(failed(&what))?.f_flag;
    let mut flags = flags | MountFlags::BIND;
    for (has_flag, flag) in [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
    ] {
        if has.contains(has_flag) {
            flags |= flag;
        }
    }
    mount_remount(to, flags, "").map_err(failed(&format!("{what} with {flags:?}")))
}

fn become_user(id: u32) -> Result<(), String> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    set_thread_res_gid(gid, gid, gid).map_err(failed("become another group"))?;
    // Capabilities are given up explicitly later; until then the change of user must not clear them.
    set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)
        .map_err(failed("keep what we may"))?;
    set_thread_res_uid(uid, uid, uid).map_err(failed("become another user"))
}

/// Lets the inner process inherit the capabilities that the user namespace gave us: it is not root in there.
fn keep_capabilities_at_exec() -> Result<(), String> {
    let mut sets = capabilities(None).map_err(failed("see what we may"))?;
    sets.inheritable = sets.permitted;
    set_capabilities(None, sets).map_err(failed("let programs inherit what we may"))?;
    for capability in sets.permitted.iter() {
        configure_capability_in_ambient_set(capability, true)
            .map_err(failed(&format!("let programs inherit {capability:?}")))?;
    }
    Ok(())
}

/// Gives up all capabilities for good: neither user 0 nor a program's file can give one back.
fn give_up_capabilities() -> Result<(), String> {
    let (no, locked) = (CapabilitiesSecureBits::NO_ROOT, CapabilitiesSecureBits::NO_ROOT_LOCKED);
    let (fixup, fixup_locked) =
        (CapabilitiesSecureBits::NO_SETUID_FIXUP, CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED);
    set_capabilities_secure_bits(no | locked | fixup | fixup_locked)
        .map_err(failed("give up what user 0 may"))?;
    // By number: a newer kernel may have more than are known here. Past its last one it answers EINVAL.
    for number in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(failed(&format!("give up capability {number}"))(error)),
        }
    }
    let none = CapabilitySet::empty();
    clear_ambient_capability_set().map_err(failed("give up what programs inherit"))?;
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(failed("give up all capabilities"))?;
    set_no_new_privs(true).map_err(failed("give up what a program's file may"))
}

/// Makes the device nodes in `dev`, for where nothing can be mounted.
pub(crate) fn make_device_nodes(dev: &Path) -> Result<(), (PathBuf, io::Error)> {
    for (name, major, minor) in DEVICES {
        let path = dev.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(major, minor))
            // The umask must not count.
            .and_then(|()| rustix::fs::chmodat(CWD, &path, mode, rustix::fs::AtFlags::empty()))
            .map_err(|error| (path, error.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_says_it_all() {
        let enclosed = Enclosed {
            way: Way::User,
            id: 7,
            root: "/a root".into(),
            work: "/w".into(),
            sealed: vec!["src".into()],
            argv: vec!["sh".into(), "-c".into(), "x y".into()],
        };
        for stage in [Stage::Outer, Stage::Inner] {
            let words = enclosed.words_of(stage);
            assert_eq!(words[0], WORD);
            assert_eq!(Enclosed::parse(words.into_iter().skip(1)), Some((stage, enclosed.clone())));
        }
        let cut: Vec<_> = enclosed.words().into_iter().skip(1).take(6).collect();
        assert_eq!(Enclosed::parse(cut.into_iter()), None);
    }
}
