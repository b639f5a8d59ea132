//! Prepares virtme-ng from PyPI to do what our VMs do: with our QEMU, the same kernel and the same machine.
//!
//! Its root is the host's own over 9p, as by default. A command's output is read from a file in a shared
//! folder, because virtme-ng's ports for it need a udev daemon on the host, which not every host has.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reports::render::words::reproduce::shell_line;
use vm_images::host::progress::Progress;
use vm_images::host::{HostError, quick};
use vm_images::images::Images;
use vm_images::kernel::Kernel;
use vm_images::store::StoreError;
use xshell::cmd;

use harness::machine::Accel;
use harness::machine::qemu::Qemu;
use harness::session::Session;

/// Version of virtme-ng that is compared.
pub(super) const VERSION: &str = "1.42";

/// virtme-ng, and its settings.
pub(super) struct Virtme<'a> {
    session: &'a Session,
    /// Folder of its Python packages.
    site: PathBuf,
    /// Folder with programs that it calls.
    programs: PathBuf,
    kernel: PathBuf,
    accel: Accel,
    /// Folder that the guest writes into.
    shared: PathBuf,
    log: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum MadeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Host(#[from] HostError),
}

impl<'a> Virtme<'a> {
    /// Downloads it, unless the store has it, and arranges the kernel's files as it expects them.
    pub(super) fn prepare(
        session: &'a Session,
        images: &Images<'_>,
        qemu: &Qemu,
        kernel: &Kernel,
        accel: Accel,
    ) -> Result<Self> {
        let site = fetch(session)?;
        let scratch =
            tempfile::Builder::new().prefix("virtme-").tempdir_in(session.store.temporary())?.keep();
        let log = scratch.join("log");
        let programs = scratch.join("programs");
        let shared = scratch.join("shared");
        for folder in [&programs, &shared, &scratch.join("boot"), &scratch.join("lib/modules")] {
            fs::create_dir_all(folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
        }

        let firmware = qemu.firmware.iter().flat_map(|folder| [OsString::from("-L"), folder.into()]);
        // Said last, this has the last word: by itself virtme-ng asks for `kvm:tcg`, and a KVM that fails
        // would be measured as TCG without a word.
        let machine = ["-machine".to_owned(), format!("accel={accel}")];
        let words = qemu.command.iter().cloned().chain(firmware);
        program(&programs, "qemu-system-x86_64", words, &machine)?;
        let tools = images.tools()?;
        for name in ["modprobe", "depmod"] {
            let mut words = tools.command("usr/bin/kmod");
            words.splice(1..1, ["--argv0".into(), name.into()]);
            program(&programs, name, words, &[])?;
        }
        busybox(session, &scratch, &programs)?;

        session.terminal.step("laying out a kernel for virtme-ng");
        let image = scratch.join("boot").join(format!("vmlinuz-{}", kernel.release));
        fs::copy(kernel.image(), &image).context("failed to copy the kernel")?;
        let modules = kernel.artifact.path("modules.squashfs");
        let unpack =
            tools.call(&session.host, "usr/bin/unsquashfs").args(["-quiet", "-no-progress", "-force"]);
        unpack.arg("-dest").arg(scratch.join("lib/modules")).arg(modules).run(&log)?;
        session.terminal.end_step();
        Ok(Virtme { session, site, programs, kernel: image, accel, shared, log })
    }

    /// Duration of one call, in which it boots a VM that prints its kernel's release.
    pub(super) fn once(&self, ram_mib: u32, append: &str, release: &str) -> Result<Duration> {
        let said = self.shared.join("said");
        let _ = fs::remove_file(&said);
        let mut path = self.programs.clone().into_os_string();
        path.push(":");
        path.push(self.site.join("bin"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let call = self.session.host.call(self.site.join("bin/vng"));
        let call = call.env("PYTHONPATH", &self.site).env("PATH", path).arg("--run").arg(&self.kernel);
        let call = call.args(accel_options(self.accel)).args(["--force-9p", "--cpus", "1", "--memory"]);
        let call =
            call.arg(format!("{ram_mib}M")).arg("--qemu").arg(self.programs.join("qemu-system-x86_64"));
        let call = call.arg("--busybox").arg(self.programs.join("busybox"));
        let call = if append.is_empty() { call } else { call.arg(format!("--append={append}")) };
        let mut shared = OsString::from("--rwdir=");
        shared.push(&self.shared);
        let words = format!("uname -r >{}", shell_line(&[said.display().to_string()]));
        let call = call.arg(shared).args(["--exec", &words]);
        let started = Instant::now();
        match call.run(&self.log) {
            // The command's status comes through those ports, too, so only the output is checked.
            Ok(()) | Err(HostError::Failed { .. }) => {}
            Err(error) => return Err(error).context("virtme-ng failed"),
        }
        let took = started.elapsed();
        let output = fs::read_to_string(&said).unwrap_or_default();
        ensure!(
            output.trim() == release,
            "virtme-ng's VM said `{}`, not `{release}`; log: `{}`",
            output.trim(),
            self.log.display()
        );
        Ok(took)
    }
}

/// Its options for an accelerator. It takes KVM by itself where `/dev/kvm` opens, and has no option for that.
fn accel_options(accel: Accel) -> &'static [&'static str] {
    match accel {
        Accel::Kvm => &[],
        Accel::Tcg => &["--disable-kvm"],
    }
}

/// Downloads its Python packages by pip.
fn fetch(session: &Session) -> Result<PathBuf> {
    let shell = session.host.shell(Path::new("."))?;
    let python = quick::read(cmd!(shell, "python3 --version"));
    let python =
        python.context("virtme-ng wants Python 3: install python3, or leave it out by --no-virtme")?;
    let inputs = [("package", "virtme-ng"), ("version", VERSION), ("python", python.trim())];
    let artifact = session.store.artifact::<MadeError>(
        "virtme-ng",
        &inputs,
        &*session.terminal,
        session.host.cancel(),
        |folder| {
            session.terminal.step("fetching virtme-ng from PyPI");
            let call = session.host.call("python3").args(["-m", "pip", "install", "--quiet", "--target"]);
            let call = call.arg(folder.join("site")).arg(format!("virtme-ng=={VERSION}"));
            Ok(call.run(&session.store.temporary().join("pip.log"))?)
        },
    );
    session.terminal.end_step();
    let artifact = artifact.context(
        "failed to fetch virtme-ng by pip: install python3-pip and see that PyPI answers, or leave it out by --no-virtme",
    )?;
    Ok(artifact.path("site"))
}

/// Writes a script that runs `words` with the script's own arguments, and with `last` behind these.
fn program(
    folder: &Path,
    name: &str,
    words: impl IntoIterator<Item = OsString>,
    last: &[String],
) -> Result<()> {
    let words: Vec<_> = words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let path = folder.join(name);
    let text = script(&words, last);
    let write = || {
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
    };
    write().with_context(|| format!("failed to write `{}`", path.display()))
}

fn script(words: &[String], last: &[String]) -> String {
    let line = [shell_line(words), "\"$@\"".to_owned()].into_iter();
    let last = Some(shell_line(last)).filter(|last| !last.is_empty());
    format!("#!/bin/sh\nexec {}\n", line.chain(last).collect::<Vec<_>>().join(" "))
}

/// Unpacks a static busybox, from which virtme-ng makes its initramfs.
fn busybox(session: &Session, scratch: &Path, programs: &Path) -> Result<()> {
    const PACKAGE: &str = "busybox-static";
    let apt = session.apt()?;
    let files = apt.resolve(&[PACKAGE.to_owned()])?;
    let file = files.iter().find(|file| file.name == PACKAGE).context("the mirror has no busybox-static")?;
    let package = apt.fetch(std::slice::from_ref(file))?.pop().context("nothing was fetched")?;
    let root = scratch.join("busybox");
    session.host.call("dpkg-deb").arg("--extract").arg(package).arg(&root).run(&scratch.join("log"))?;
    let found = ["usr/bin/busybox", "bin/busybox"].map(|name| root.join(name));
    let found = found.iter().find(|path| path.is_file()).context("busybox-static has no busybox")?;
    fs::copy(found, programs.join("busybox")).context("failed to copy busybox")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accelerator_has_the_last_word() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            script(&words(&["/a b/qemu", "-L", "/bios"]), &words(&["-machine", "accel=kvm"])),
            "#!/bin/sh\nexec '/a b/qemu' -L /bios \"$@\" -machine accel=kvm\n"
        );
        assert_eq!(script(&words(&["kmod"]), &[]), "#!/bin/sh\nexec kmod \"$@\"\n");
        assert!(accel_options(Accel::Kvm).is_empty(), "it has no option for KVM");
        assert_eq!(accel_options(Accel::Tcg), ["--disable-kvm"]);
    }
}
