//! Hosts of other kinds, made inside an outer guest, whose settings and modules nobody else uses: users
//! without rights or namespaces, a small /tmp, old cgroups, and reasons why KVM is not there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::session::Session;
use harness::workspace::workspace;

use super::other_xtask::OtherXtask;
use super::{Check, Scratch, bad_input};

/// The checks. Each leaves the machine as it found it.
pub(super) const CHECKS: [Check; 7] = [
    ("host: an ordinary user, and no user namespaces", ordinary_user),
    ("host: cgroup v1, and a small /tmp", old_and_small),
    ("host: a disk that fills up", bad_input::full_disk_of_a_run),
    ("host: a user without rights on /dev/kvm", no_rights),
    ("host: a container without /dev/kvm", container),
    ("host: KVM's modules are not loaded", no_modules),
    ("host: another hypervisor has the processor", other_hypervisor),
];

/// Number of the user, who is nobody in particular.
const UID: u32 = 1234;
const AS_USER: [&str; 4] = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"];

const KVM: &str = "/dev/kvm";
const NAMESPACES_MAX: &str = "/proc/sys/user/max_user_namespaces";

/// Runs xtask after a line of shell, in mounts of its own.
fn after(session: &Session, line: &str) -> OtherXtask {
    OtherXtask::new(session).wrapped(&[
        "unshare",
        "--mount",
        "sh",
        "-ec",
        &format!("{line}\nexec \"$@\""),
        "sh",
    ])
}

/// Runs a program of the machine.
fn call(session: &Session, words: &[&str]) -> Result<()> {
    let (program, words) = words.split_first().context("a program has a name")?;
    Ok(session.host.call(program).args(words).run(&session.store.temporary().join("hosts.log"))?)
}

/// What `doctor` says of the accelerator.
fn said_of_kvm(xtask: &OtherXtask, out: &Scratch) -> Result<String> {
    let said = xtask.run(out, ["doctor"])?.stdout;
    let line = said.lines().find(|line| line.contains("accelerator: "));
    Ok(line.with_context(|| format!("doctor says nothing of the accelerator: {said}"))?.to_owned())
}

fn expect_words(said: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(said.contains(word), "`{word}` is not said: {said}");
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("failed to change the mode of `{}`", path.display()))
}

/// Lets the user make things in the store, and find the program.
fn open_to_user(session: &Session) -> Result<()> {
    let root = session.store.root();
    for path in root.ancestors().chain(workspace().ancestors()).filter(|path| path.parent().is_some()) {
        set_mode(path, 0o755)?;
    }
    chown(root, Some(UID), Some(UID))?;
    for entry in fs::read_dir(root)?.flatten() {
        chown(entry.path(), Some(UID), Some(UID))?;
        for inner in fs::read_dir(entry.path())?.flatten().filter(|_| entry.file_name() == "locks") {
            chown(inner.path(), Some(UID), Some(UID))?;
        }
    }
    Ok(())
}

fn ordinary_user(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    open_to_user(session)?;
    let home = tempfile::tempdir()?;
    chown(home.path(), Some(UID), Some(UID))?;
    let user = || OtherXtask::new(session).wrapped(&AS_USER).env("HOME", &home.path().to_string_lossy());
    let before = fs::read_to_string(NAMESPACES_MAX)?;
    fs::write(NAMESPACES_MAX, "0")?;
    set_mode(Path::new(KVM), 0o666)?;
    let runs = home.path().join("runs");
    let words = ["test", "--suite", "canary", "must-pass", "must-hang", "--out", &runs.to_string_lossy()];
    let ended = user().run(&out, words);
    let said = user().run(&out, ["doctor"]);
    set_mode(Path::new(KVM), 0o660)?;
    fs::write(NAMESPACES_MAX, before)?;
    ended?.expect(0, &["accelerator: kvm"])?;
    expect_words(&said?.stdout, &["namespaces: forbidden", "accelerator: kvm"])
}

fn old_and_small(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let host = "mount -t tmpfs none /sys/fs/cgroup\n\
        mkdir /sys/fs/cgroup/systemd\n\
        mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd\n\
        mount -t tmpfs -o size=16k none /tmp";
    let words = ["test", "--suite", "canary", "must-pass", "must-hang", "--out", &out.0.to_string_lossy()];
    after(session, host).run(&out, words)?.expect(0, &["accelerator: kvm"])
}

fn no_rights(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    open_to_user(session)?;
    set_mode(Path::new(KVM), 0o660)?;
    // The guest's root has no group kvm.
    call(session, &["chgrp", "disk", KVM])?;
    let user = OtherXtask::new(session).wrapped(&AS_USER);
    expect_words(&said_of_kvm(&user, &out)?, &["tcg", "only group disk", "usermod -aG disk"])?;
    let ended = user.run(&out, ["test", "--accel", "kvm", "--suite", "canary", "must-pass"])?;
    ended.expect(4, &["--accel kvm cannot work here", "usermod -aG disk"])
}

fn container(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let host = "mount -t tmpfs none /dev\n\
        mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9; mknod -m 666 /dev/zero c 1 5\n\
        mount -t tmpfs none /run\n\
        : > /run/.containerenv";
    expect_words(&said_of_kvm(&after(session, host), &out)?, &["tcg", "--device /dev/kvm"])
}

fn no_modules(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    call(session, &["modprobe", "-r", "kvm-amd"])?;
    let said = said_of_kvm(&OtherXtask::new(session), &out);
    call(session, &["modprobe", "kvm-amd"])?;
    expect_words(&said?, &["tcg", "modprobe kvm-amd"])
}

/// Another hypervisor's mark on a processor is the bit EFER.SVME (AMD64 manual, volume 2, 15.4): KVM takes no
/// processor that has it set (`svm_enable_virtualization_cpu`, arch/x86/kvm/svm/svm.c, v6.12).
fn other_hypervisor(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    call(session, &["modprobe", "-r", "kvm-amd", "kvm"])?;
    call(session, &["modprobe", "msr", "allow_writes=on"])?;
    // Virtualisation is turned on when the first VM is made, not when the module is loaded.
    call(session, &["modprobe", "kvm", "enable_virt_at_load=0"])?;
    call(session, &["modprobe", "kvm-amd"])?;
    mark(session, true)?;
    let ended =
        OtherXtask::new(session).run(&out, ["test", "--accel", "kvm", "--suite", "canary", "must-pass"]);
    mark(session, false)?;
    call(session, &["modprobe", "-r", "kvm-amd", "kvm"])?;
    call(session, &["modprobe", "kvm-amd"])?;
    ended?.expect(4, &["--accel kvm cannot work here", "does not let its virtualisation be turned on"])
}

/// Sets or clears EFER.SVME of every processor.
fn mark(session: &Session, set: bool) -> Result<()> {
    const SCRIPT: &str = "my @files = glob '/dev/cpu/[0-9]*/msr' or die 'no processor has registers to write'; \
        for my $file (@files) { \
        open(my $msr, '+<:raw', $file) or die \"$file: $!\"; \
        sysseek($msr, 0xc0000080, 0); sysread($msr, my $old, 8) == 8 or die \"$file: $!\"; \
        my $efer = unpack('Q<', $old); \
        $efer = $ARGV[0] ? $efer | 0x1000 : $efer & ~0x1000; \
        sysseek($msr, 0xc0000080, 0); syswrite($msr, pack('Q<', $efer), 8) == 8 or die \"$file: $!\"; \
        sysseek($msr, 0xc0000080, 0); sysread($msr, my $new, 8); \
        unpack('Q<', $new) == $efer or die \"$file did not take it\" }";
    call(session, &["perl", "-e", SCRIPT, if set { "1" } else { "0" }])
}
