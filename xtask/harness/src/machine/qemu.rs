//! QEMU as the hypervisor. Its channels are socket pairs, not named sockets, so that a VM leaves no
//! file behind however it or we end.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use command_fds::{CommandFdExt, FdMapping};
use protocol::codec::LineDecoder;
use protocol::wire::{AGENT_PORT, FILES_PORT, Message, PRELOAD, Request};
use vm_images::host::die_with_parent;

use super::threads::Threads;
use super::{Accel, Access, Answer, Ask, Hypervisor, InfraError, Input, Vm, VmEnd, VmSpec, memory, qmp};

/// Options of every guest kernel. The kernel log goes to the serial console from the first line and into a
/// buffer that no test fills; a panic ends the VM at once; hung tasks are reported without limit; an
/// interrupt that nobody can mask and nobody explains is ours, and makes it say where it was. A guest that
/// boots while the host lets it starve counts too few timer interrupts and would panic ("IO-APIC + timer
/// doesn't work!"): it does not check them.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=7 log_buf_len=16M printk.devkmsg=on sysrq_always_enabled panic=-1 \
    unknown_nmi_panic hung_task_warnings=-1 random.trust_cpu=on no_timer_check";

/// Kernel options that turn off what only slows emulation down and is none of md's business.
pub const CHEAPER: &str =
    "cryptomgr.notests=1 mitigations=off audit=0 apparmor=0 security=none init_on_alloc=0 psi=0";

/// Memory of the host that QEMU takes beside the guest's, MiB: translated code, and itself.
pub(crate) const OVERHEAD_MIB: u64 = 128;

/// Bytes that TCG may use for translated code, MiB. Its default grows to 1 GiB a VM.
const TB_SIZE_MIB: u32 = 256;

/// The descriptors that QEMU's channels have inside QEMU.
const CONSOLE_FD: i32 = 10;
const QMP_FD: i32 = 11;
const AGENT_FD: i32 = 12;
const FILES_FD: i32 = 13;
const MEMORY_FD: i32 = 14;

/// QEMU's name for the guest's memory, where it is a file.
const MEMORY: &str = "memory";

/// A QEMU that can be started.
#[derive(Clone, Debug)]
pub struct Qemu {
    /// The words that start it: the tools root's loader and so on, or just its path.
    pub command: Vec<OsString>,
    /// Folders of firmware, if not QEMU's own.
    pub firmware: Vec<PathBuf>,
    /// `QEMU emulator version …`.
    pub version: String,
}

impl Hypervisor for Qemu {
    fn identity(&self, spec: &VmSpec) -> String {
        let spec = VmSpec { saves: false, restore: None, ..spec.clone() };
        let mut parts = vec![self.version.clone()];
        parts.extend(
            self.command.iter().chain(&arguments(&spec, &self.firmware)).map(|word| format!("{word:?}")),
        );
        parts.extend([memory::FORMAT.to_owned(), spec.preload.clone()]);
        // What the guest has read of its images is in its memory: others, made again under the same name, are
        // not those that it knows.
        parts.extend([&spec.root_image, &spec.modules_image].map(|image| stamp(image)));
        // Under KVM the guest has seen the host's own processor, and its kernel's clocks.
        if spec.accel == Accel::Kvm {
            parts.push(super::host::identity());
        }
        parts.join("\n")
    }

    fn start(&self, spec: &VmSpec, inputs: SyncSender<Input>) -> Result<Box<dyn Vm>, InfraError> {
        self.launch(spec, inputs).map_err(InfraError)
    }
}

/// Tells a file from another that has its name.
fn stamp(image: &Path) -> String {
    let data = std::fs::metadata(image);
    data.map_or_else(
        |_| String::new(),
        |data| format!("{} bytes of {}.{}", data.len(), data.mtime(), data.mtime_nsec()),
    )
}

impl Qemu {
    fn launch(&self, spec: &VmSpec, inputs: SyncSender<Input>) -> anyhow::Result<Box<dyn Vm>> {
        let mut theirs = Vec::new();
        let mut channel = |fd| -> anyhow::Result<UnixStream> {
            let (our_end, their_end) = UnixStream::pair().context("failed to make a channel to QEMU")?;
            theirs.push((OwnedFd::from(their_end), fd));
            Ok(our_end)
        };
        let console = channel(CONSOLE_FD)?;
        let mut qmp = channel(QMP_FD)?;
        let agent = channel(AGENT_FD)?;
        let files = channel(FILES_FD)?;
        let memory = spec.saves.then(memory::create).transpose()?;
        if let Some(memory) = &memory {
            let theirs_too = memory.try_clone().context("failed to share the guest's memory")?;
            theirs.push((theirs_too.into(), MEMORY_FD));
        }

        let log = File::create(&spec.log)
            .with_context(|| format!("failed to create QEMU's log `{}`", spec.log.display()))?;
        let mut words = self.command.iter().cloned();
        let program = words.next().context("QEMU's command is empty")?;
        let arguments: Vec<_> = words.chain(arguments(spec, &self.firmware)).collect();
        let log_copy = log.try_clone().context("failed to share QEMU's log")?;
        // Descriptors move into the closure once; duct may call it once per start, and we start once.
        let mappings = std::sync::Mutex::new(Some(theirs));
        let handle = duct::cmd(program, arguments)
            .stdin_null()
            .stdout_file(log_copy)
            .stderr_file(log)
            .unchecked()
            .before_spawn(move |command| {
                let theirs = mappings.lock().expect("no panic with the lock").take().unwrap_or_default();
                let mappings = theirs
                    .into_iter()
                    .map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd })
                    .collect();
                command.fd_mappings(mappings).map_err(std::io::Error::other)?;
                // A group of its own: the terminal's Ctrl-C is ours to handle.
                command.process_group(0);
                die_with_parent(command);
                Ok(())
            })
            .start()
            .context("failed to start QEMU")?;
        let handle = Arc::new(handle);

        agent.set_nonblocking(false).context("failed to prepare the agent's channel")?;
        agent
            .set_write_timeout(Some(Duration::from_secs(5)))
            .context("failed to prepare the agent's channel")?;
        let agent_writer = agent.try_clone().context("failed to share the agent's channel")?;
        let mut opening = qmp::CAPABILITIES.to_vec();
        if let Some(file) = &spec.restore {
            opening.extend(qmp::restore_from(file));
        }
        qmp.write_all(&opening).context("failed to talk to QEMU")?;
        let qmp_writer = qmp.try_clone().context("failed to share QEMU's control channel")?;
        let keyboard = console.try_clone().context("failed to share the console's channel")?;
        keyboard.set_nonblocking(false).context("failed to prepare the console's channel")?;
        let threads = Threads::of(handle.pids().first().copied().unwrap_or_default());

        let killed = Arc::new(AtomicBool::new(false));
        let readers = vec![
            reader("console", console, inputs.clone(), |bytes, tell| tell(Input::Console(bytes.to_vec())))?,
            line_reader("agent", agent, inputs.clone(), Input::Agent)?,
            line_reader("files", files, inputs.clone(), Input::Files)?,
            qmp_reader(qmp, keyboard, threads, inputs.clone())?,
        ];
        let waiter = thread::Builder::new().name("qemu".into()).spawn({
            let (handle, killed, log) = (Arc::clone(&handle), Arc::clone(&killed), spec.log.clone());
            move || {
                let end = match handle.wait() {
                    _ if killed.load(Ordering::SeqCst) => VmEnd::Killed,
                    Ok(output) if output.status.success() => VmEnd::Clean,
                    Ok(output) => VmEnd::Failed { error: describe(output.status, &log) },
                    Err(error) => VmEnd::Failed { error: format!("failed to wait for QEMU: {error}") },
                };
                // What it said before it ended comes before its end.
                for reader in readers {
                    let _ = reader.join();
                }
                let _ = inputs.send(Input::Ended(end));
            }
        });
        waiter.context("failed to start a thread")?;
        Ok(Box::new(QemuVm { handle, killed, agent: agent_writer, qmp: qmp_writer, memory }))
    }
}

/// QEMU's arguments. Pure.
pub(super) fn arguments(spec: &VmSpec, firmware: &[PathBuf]) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let mut add = |option: &str, value: OsString| {
        all.push(format!("-{option}").into());
        all.push(value);
    };
    for folder in firmware {
        add("L", folder.into());
    }
    let memory = memory_file(spec);
    let backend = if memory.is_some() { format!(",memory-backend={MEMORY}") } else { String::new() };
    add("machine", format!("pc,usb=off,vmport=off{backend}").into());
    if let Some(memory) = memory {
        add("object", memory.into());
    }
    add(
        "accel",
        match spec.accel {
            Accel::Kvm => "kvm".into(),
            Accel::Tcg => format!("tcg,tb-size={TB_SIZE_MIB}").into(),
        },
    );
    add("cpu", spec.accel.cpu(spec.outer_image.is_some() || spec.tuning.stock_machine).into());
    add("smp", spec.vcpus.to_string().into());
    add("m", format!("{}M", spec.ram_mib).into());
    add("display", "none".into());
    add("sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into());
    // A guest that is restored has its kernel in its memory, and is never reset: QEMU would read 60 MB for
    // nothing.
    if spec.restore.is_none() {
        add("kernel", spec.kernel.clone().into());
        add("initrd", spec.initramfs.clone().into());
        add("append", kernel_command_line(spec).into());
    }
    for (id, fd) in [(qmp::CONSOLE, CONSOLE_FD), ("qmp", QMP_FD), ("agent", AGENT_FD), ("files", FILES_FD)] {
        add("chardev", format!("socket,id={id},fd={fd}").into());
    }
    add("serial", "chardev:console".into());
    add("mon", "chardev=qmp,mode=control".into());
    add("device", "virtio-serial-pci".into());
    add("device", format!("virtserialport,chardev=agent,name={AGENT_PORT}").into());
    add("device", format!("virtserialport,chardev=files,name={FILES_PORT}").into());
    // No vmgenid, which has a restored kernel reseed itself: the greeting does ([`super::greeting`]), before
    // anything runs, and the interpreter of ACPI code that would hear of it costs an emulated guest 70 ms.
    add("object", "rng-random,id=random,filename=/dev/urandom".into());
    add("device", "virtio-rng-pci,rng=random".into());
    add("device", "pvpanic-pci".into());
    // Where in a dump of its memory the kernel lies, which it moves about at each boot.
    add("device", "vmcoreinfo".into());
    let images = [("root", &spec.root_image), ("modules", &spec.modules_image)];
    for (name, image) in images.into_iter().chain(spec.outer_image.iter().map(|image| ("outer", image))) {
        // JSON, so that no path needs quoting. The images never change: no lock is wanted, and
        // any number of VMs share them.
        let drive = serde_json::json!({
            "node-name": name, "driver": "raw", "read-only": true,
            "file": { "driver": "file", "filename": image, "locking": "off" },
        });
        add("blockdev", drive.to_string().into());
        add(
            "device",
            format!("virtio-blk-pci,drive={name},serial=mdr-{name},werror=stop,rerror=stop").into(),
        );
    }
    if spec.restore.is_some() {
        add("incoming", "defer".into());
    }
    all.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(OsString::from));
    all
}

fn kernel_command_line(spec: &VmSpec) -> String {
    let mut words = vec![COMMAND_LINE.to_owned()];
    if !spec.tuning.stock_machine {
        words.push(CHEAPER.to_owned());
        if spec.saves {
            words.push(format!("{PRELOAD}{}", spec.preload));
        }
    }
    words.push(spec.append.clone());
    words.join(" ").trim_end().to_owned()
}

/// The guest's memory, where it is a file: ours, shared, of one that is to be saved; of one that is restored
/// a private mapping of what was saved, of which a page is read when it is looked at, and copied when it is
/// written.
fn memory_file(spec: &VmSpec) -> Option<String> {
    let mut object = match &spec.restore {
        None if spec.saves => {
            serde_json::json!({ "mem-path": format!("/proc/self/fd/{MEMORY_FD}"), "share": true })
        }
        None => return None,
        Some(state) => {
            serde_json::json!({ "mem-path": memory::beside(state), "share": false, "readonly": true,
            "rom": "off" })
        }
    };
    object["qom-type"] = "memory-backend-file".into();
    object["id"] = MEMORY.into();
    object["size"] = (u64::from(spec.ram_mib) << 20).into();
    Some(object.to_string())
}

fn describe(status: std::process::ExitStatus, log: &std::path::Path) -> String {
    let how = match status.signal() {
        Some(signal) => format!("QEMU was killed by signal {signal}"),
        None => format!("QEMU failed ({status})"),
    };
    let text =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    match text.lines().rfind(|line| !line.trim().is_empty()) {
        Some(last) => format!("{how}: {last}"),
        None => how,
    }
}

type Tell<'a> = &'a mut dyn FnMut(Input);

/// Reads a channel to its end on a thread of its own. The channel to the runner is bounded, so a
/// guest that floods slows itself down and never fills our memory.
fn reader(
    name: &str,
    mut stream: UnixStream,
    inputs: SyncSender<Input>,
    mut each: impl FnMut(&[u8], Tell<'_>) + Send + 'static,
) -> anyhow::Result<thread::JoinHandle<()>> {
    let run = move || {
        let mut buffer = vec![0; 32 * 1024];
        let mut tell = |input| {
            // Nobody listens any more: read on, so that QEMU is not held up.
            let _ = inputs.send(input);
        };
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => each(&buffer[..n], &mut tell),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    };
    thread::Builder::new().name(name.into()).spawn(run).context("failed to start a thread")
}

fn line_reader(
    name: &str,
    stream: UnixStream,
    inputs: SyncSender<Input>,
    wrap: fn(Result<Message, protocol::codec::Garbage>) -> Input,
) -> anyhow::Result<thread::JoinHandle<()>> {
    let mut decoder = LineDecoder::new();
    reader(name, stream, inputs, move |bytes, tell| decoder.push(bytes, |message| tell(wrap(message))))
}

fn qmp_reader(
    stream: UnixStream,
    mut keyboard: UnixStream,
    threads: Threads,
    inputs: SyncSender<Input>,
) -> anyhow::Result<thread::JoinHandle<()>> {
    let mut line = Vec::new();
    let mut said = move |text: &str, tell: Tell<'_>| match qmp::parse(text) {
        Some(qmp::Said::Event(event)) => tell(Input::Hypervisor(event)),
        Some(qmp::Said::RunState(state)) => tell(Input::Answer(Answer::RunState(state))),
        Some(qmp::Said::Vcpus(vcpus)) => tell(Input::Answer(Answer::Times(threads.times(&vcpus)))),
        Some(qmp::Said::Registers(text)) => tell(Input::Answer(Answer::Registers(text))),
        Some(qmp::Said::Dumped(result)) => tell(Input::Answer(Answer::Dumped(result))),
        // A console that takes nothing is a guest that answers nothing.
        Some(qmp::Said::Broke(key)) => {
            let mut bytes = [0; 4];
            let _ = keyboard.write_all(key.encode_utf8(&mut bytes).as_bytes());
        }
        None => {}
    };
    reader("qmp", stream, inputs, move |bytes, tell| {
        for &byte in bytes {
            if byte == b'\n' {
                said(&String::from_utf8_lossy(&line), tell);
                line.clear();
            } else if line.len() < 64 * 1024 {
                line.push(byte);
            }
        }
    })
}

struct QemuVm {
    handle: Arc<duct::Handle>,
    killed: Arc<AtomicBool>,
    agent: UnixStream,
    qmp: UnixStream,
    /// The guest's memory, if it is to be saved.
    memory: Option<File>,
}

impl Vm for QemuVm {
    fn send(&mut self, request: &Request) -> Result<(), InfraError> {
        let sent = self.agent.write_all(&protocol::codec::encode(request));
        sent.context("failed to send a request to the guest").map_err(InfraError)
    }

    fn save(&mut self, to: &Path) -> Result<(), InfraError> {
        let sent = self.qmp.write_all(&qmp::save_to(to));
        sent.context("failed to talk to QEMU").map_err(InfraError)
    }

    fn save_memory(&mut self, state: &Path) -> Result<(), InfraError> {
        let memory =
            self.memory.as_ref().context("the guest was not started to be saved").map_err(InfraError)?;
        memory::copy(memory, &memory::beside(state)).map_err(InfraError)
    }

    fn plug_disk(&mut self, image: &Path, serial: &str, access: Access) -> Result<(), InfraError> {
        let sent = self.qmp.write_all(&qmp::plug_disk(image, serial, access));
        sent.context("failed to talk to QEMU").map_err(InfraError)
    }

    fn ask(&mut self, ask: &Ask) -> Result<(), InfraError> {
        let sent = self.qmp.write_all(&qmp::ask(ask));
        sent.context("failed to talk to QEMU").map_err(InfraError)
    }

    fn kill(&mut self) {
        self.killed.store(true, Ordering::SeqCst);
        // QEMU starts no children (`-sandbox spawn=deny`), so killing it alone is enough.
        let _ = self.handle.kill();
    }
}

impl Drop for QemuVm {
    fn drop(&mut self) {
        self.kill();
        // Only the process is waited for: the reading threads may be waiting for us to listen, and
        // end by themselves once nobody does.
        let _ = self.handle.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Replaced;
    use crate::testing::vm;
    use protocol::program::ReplacedModules;

    fn spec(root_image: &Path) -> VmSpec {
        VmSpec { root_image: root_image.to_owned(), ram_mib: 1024, ..vm() }
    }

    #[test]
    fn an_image_that_was_made_again_is_another_machine() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("root.squashfs");
        let qemu = Qemu { command: vec!["qemu".into()], firmware: vec![], version: "10".to_owned() };
        let identity = || qemu.identity(&spec(&image));
        std::fs::write(&image, "one").unwrap();
        let first = identity();
        assert_eq!(identity(), first);
        let later = std::time::SystemTime::now() + Duration::from_secs(1);
        File::options().append(true).open(&image).unwrap().set_modified(later).unwrap();
        assert_ne!(identity(), first);
    }

    #[test]
    fn what_is_loaded_before_a_guest_is_saved_makes_another_machine() {
        let qemu = Qemu { command: vec!["qemu".into()], firmware: vec![], version: "10".to_owned() };
        let plain = spec(Path::new("/r"));
        let with = |modules: &str| VmSpec { preload: modules.to_owned(), ..plain.clone() };
        assert_ne!(qemu.identity(&with("loop")), qemu.identity(&with("loop,raid1")));
        let line = |spec: &VmSpec| {
            let all = arguments(spec, &[]);
            let at = all.iter().position(|word| *word == "-append").unwrap();
            all[at + 1].to_string_lossy().into_owned()
        };
        // Others load what they want themselves.
        assert!(!line(&with("loop")).contains(PRELOAD));
        assert!(
            line(&VmSpec { saves: true, ..with("loop,raid1") }).contains("md_regress.preload=loop,raid1")
        );
        assert_eq!(qemu.identity(&VmSpec { saves: true, ..plain.clone() }), qemu.identity(&plain));
    }

    #[test]
    fn a_guest_that_is_restored_is_given_no_kernel() {
        let plain = spec(Path::new("/r"));
        let words = |spec: &VmSpec| {
            let all = arguments(spec, &[]);
            ["-kernel", "-initrd", "-append"].map(|word| all.iter().any(|each| *each == word))
        };
        assert_eq!(words(&plain), [true; 3]);
        assert_eq!(words(&VmSpec { restore: Some("/s/state".into()), ..plain }), [false; 3]);
    }

    #[test]
    fn modules_that_are_replaced_make_no_other_machine() {
        let qemu = Qemu { command: vec!["qemu".into()], firmware: vec![], version: "10".to_owned() };
        let plain = spec(Path::new("/r"));
        let modules = ReplacedModules { serial: "s".into(), modules: vec![], probe: "md_mod".into() };
        let replaced = Some(Replaced { image: "/other".into(), modules });
        assert_eq!(qemu.identity(&VmSpec { replaced, ..plain.clone() }), qemu.identity(&plain));
    }

    #[test]
    fn images_are_read_only_and_paths_need_no_quoting() {
        let spec = spec(Path::new("/a,b \"c\""));
        let all = arguments(&spec, &[]);
        let text: Vec<_> = all.iter().map(|word| word.to_string_lossy()).collect();
        let drive = text.iter().find(|word| word.contains("\"root\"")).unwrap();
        let drive: serde_json::Value = serde_json::from_str(drive).unwrap();
        assert_eq!(drive["file"]["filename"], "/a,b \"c\"");
        assert_eq!(drive["read-only"], true);
        assert!(text.iter().any(|word| word == "-no-reboot"));
    }
}
