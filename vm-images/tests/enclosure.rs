//! Tries for real what a stranger's build can do to the host: a program that does everything that it should
//! not, in each of the ways that a root is entered. Without cargo's harness, because what is enclosed is this
//! program, started again: it must have one thread, and tells by its command line what it is.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};
use rustix::process::{Pid, test_kill_process};
use rustix::thread::UnshareFlags;
use vm_images::build::enclosure::{Enclosure, EnclosureError, Trust, served};
use vm_images::build::handover;
use vm_images::host::{Cancel, Host, HostError};

/// The word before all that the program is told to try inside.
const PROBE: &str = "probe";
/// The word before the name of one of the [`MODES`].
const MODE: &str = "checks-as";
/// A word by which processes that should be gone are found in /proc.
const LINGERS: &str = "probe-that-lingers";

fn main() -> ExitCode {
    if let Some(code) = served() {
        return code;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [PROBE, "all", pid, port, secret, way] => return probe(pid, port, secret, *way == "chroot"),
        [PROBE, "linger"] => return linger(false),
        [PROBE, "hang"] => return linger(true),
        [PROBE, "sleep", ..] => {
            std::thread::sleep(Duration::from_secs(1000));
            return ExitCode::SUCCESS;
        }
        [MODE, way] => {
            check(way);
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let is_root = rustix::process::geteuid().is_root();
    let modes: &[(&str, &[&str])] = if is_root { &MODES } else { &[("user", &[])] };
    let program = std::env::current_exe().expect("we have a program");
    // Where an ordinary user can read it.
    let place = tempfile::tempdir().expect("a folder");
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("it is ours");
    let copy = place.path().join("enclosure");
    fs::copy(&program, &copy).expect("room for a copy");
    for (way, wrapper) in modes {
        let mut all = wrapper.iter().map(PathBuf::from).chain([copy.clone()]);
        let first = all.next().expect("there is the program itself");
        #[expect(clippy::disallowed_methods, reason = "as another user, or with fewer rights")]
        let status = Command::new(first).args(all).args([MODE, way]).env("MD_REGRESS_SECRET", "x").status();
        match status {
            Ok(status) if status.success() => eprintln!("enclosure as {way}: ok"),
            Ok(status) => panic!("enclosure as {way}: {status}"),
            Err(error) => panic!("enclosure as {way}: {error}"),
        }
    }
    ExitCode::SUCCESS
}

/// Ways to be, with what brings one there from root.
const MODES: [(&str, &[&str]); 3] = [
    ("root", &[]),
    ("user", &["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]),
    ("chroot", &["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]),
];

/// A root with this program, and nothing else; a working folder; a secret of the host's.
struct Bench {
    top: tempfile::TempDir,
    host: Host,
}

impl Bench {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("root");
        for folder in ["dev", "tmp", "mnt", "usr/bin", "usr/include", "etc"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::create_dir_all(top.path().join("work/src")).unwrap();
        let bench = Bench { top, host: Host::new(Cancel::default()) };
        let ourselves = std::env::current_exe().unwrap();
        bench.install(&ourselves, "usr/bin/probe");
        bench.install(Path::new("/usr/bin/true"), "usr/bin/true");
        // Whatever our umask is.
        for folder in ["work", "work/src"] {
            fs::set_permissions(bench.top.path().join(folder), Permissions::from_mode(0o700)).unwrap();
        }
        // Whatever their modes allow.
        for name in ["usr/include/stdio.h", "etc/ld.so.preload.not"] {
            fs::write(root.join(name), "int puts(const char *);\n").unwrap();
            fs::set_permissions(root.join(name), Permissions::from_mode(0o666)).unwrap();
        }
        fs::create_dir(bench.top.path().join("work/src/sub")).unwrap();
        fs::set_permissions(bench.top.path().join("work/src/sub"), Permissions::from_mode(0o700)).unwrap();
        fs::write(bench.top.path().join("work/src/sub/md.h"), "").unwrap();
        fs::write(bench.top.path().join("work/src/md.c"), "int md;\n").unwrap();
        fs::write(bench.top.path().join("secret"), "of the host").unwrap();
        bench
    }

    fn root(&self) -> PathBuf {
        self.top.path().join("root")
    }

    fn work(&self) -> PathBuf {
        self.top.path().join("work")
    }

    fn log(&self) -> PathBuf {
        self.top.path().join("log")
    }

    /// A program of the host with its libraries.
    fn install(&self, program: &Path, name: &str) {
        let log = self.log();
        let libraries = self.host.call("ldd").arg(program).read(&log).unwrap();
        let words = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        for library in words {
            let to = self.root().join(library.trim_start_matches('/'));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(library, to).unwrap();
        }
        fs::copy(program, self.root().join(name)).unwrap();
        fs::set_permissions(self.root().join(name), Permissions::from_mode(0o755)).unwrap();
    }

    fn enclosure(&self, trust: Trust) -> Result<Enclosure<'_>, EnclosureError> {
        Enclosure::new(&self.host, &self.root(), &self.work(), &self.log(), trust)
    }
}

/// Everything that can be told of a tree.
fn picture(top: &Path) -> BTreeMap<PathBuf, (u32, u32, i64, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in walk(top) {
        let data = fs::symlink_metadata(&entry).unwrap();
        let content = if data.is_file() { fs::read(&entry).unwrap() } else { vec![] };
        all.insert(entry, (data.mode(), data.uid(), data.mtime(), data.mtime_nsec(), content));
    }
    all
}

fn walk(top: &Path) -> Vec<PathBuf> {
    let mut all = vec![top.to_owned()];
    for entry in fs::read_dir(top).unwrap() {
        let path = entry.unwrap().path();
        match fs::symlink_metadata(&path).unwrap().is_dir() {
            true => all.extend(walk(&path)),
            false => all.push(path),
        }
    }
    all
}

fn check(way: &str) {
    let bench = Bench::new();
    let enclosure = match bench.enclosure(Trust::Stranger) {
        Ok(enclosure) if way != "chroot" => enclosure,
        Ok(_) => panic!("a stranger's code would run without namespaces"),
        Err(error) if way == "chroot" => {
            let said = error.to_string();
            assert!(matches!(error, EnclosureError::Exposed { .. }), "{said}");
            assert!(said.contains("--trust-source") && !said.contains('\n'), "{said}");
            let node = bench.top.path().join("null");
            if mknodat(CWD, &node, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3))
                .is_err()
            {
                eprintln!("enclosure as {way}: this host lets nobody make /dev/null, which that takes");
                return;
            }
            bench.enclosure(Trust::Trusted).expect("what is trusted runs without namespaces, too")
        }
        // In a container that forbids them there is nothing to try, but it must be said.
        Err(error) => {
            let said = error.to_string();
            assert!(
                matches!(error, EnclosureError::Exposed { .. } | EnclosureError::Forbidden { .. }),
                "{said}"
            );
            eprintln!("enclosure as {way}: this host forbids it: {said}");
            return;
        }
    };
    everything_is_refused(&bench, &enclosure, way);
    nothing_stays(&bench, &enclosure, way);
}

fn everything_is_refused(bench: &Bench, enclosure: &Enclosure<'_>, way: &str) {
    let before = picture(&bench.root());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    // Open, and to be inherited.
    let secret = bench.top.path().join("secret");
    let open = File::open(&secret).unwrap();
    rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
    add_key();
    let pid = std::process::id().to_string();
    enclosure.give(&bench.work(), &["src"]).unwrap();
    let argv = ["/usr/bin/probe", PROBE, "all", &pid, &port, secret.to_str().unwrap(), way];
    let ran = enclosure.run(&bench.work(), &["src"], &argv, &bench.log());
    let said = fs::read_to_string(bench.log()).unwrap();
    if let Err(error) = ran {
        panic!("{error}\n{said}");
    }
    assert!(said.contains("tried it all"), "{said}");
    assert_eq!(before, picture(&bench.root()), "the root was changed");
    assert_eq!(fs::read_to_string(bench.work().join("src/md.c")).unwrap(), "int md;\n");

    let out = bench.work().join("out");
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap();
    assert_eq!(mode(&out.join("suid")).mode() & 0o6000, 0o6000, "there is something to be stripped");
    if way != "user" {
        assert_ne!(mode(&out.join("suid")).uid(), 0, "what a build makes is not root's");
    }
    handover::take(&out, &bench.top.path().join("taken"), handover::Links::Refused).unwrap();
    let taken = mode(&bench.top.path().join("taken/suid"));
    assert_eq!(taken.mode() & 0o7777, 0o755);
    assert_eq!(taken.uid(), rustix::process::geteuid().as_raw());
}

/// Neither when the program ends, nor when it is ended.
fn nothing_stays(bench: &Bench, enclosure: &Enclosure<'_>, way: &str) {
    let run = |what: &str| enclosure.run(&bench.work(), &[], &["/usr/bin/probe", PROBE, what], &bench.log());
    // Without a process namespace, what leaves its process group stays.
    if way != "chroot" {
        run("linger").unwrap();
        wait_until_none();
    }
    let stopped = Cancel::default();
    let host = Host::new(stopped.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let end = Instant::now() + Duration::from_secs(60);
            while lingering().is_empty() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
            }
            stopped.cancel();
        });
        let trust = if way == "chroot" { Trust::Trusted } else { Trust::Stranger };
        let enclosure = Enclosure::new(&host, &bench.root(), &bench.work(), &bench.log(), trust).unwrap();
        let argv = ["/usr/bin/probe", PROBE, "hang"];
        let error = enclosure.run(&bench.work(), &[], &argv, &bench.log()).unwrap_err();
        assert!(matches!(error, EnclosureError::Host(HostError::Cancelled)), "{error}");
    });
    wait_until_none();
    assert!(bench.work().join("src").is_dir(), "the working folder is back");
}

fn wait_until_none() {
    let end = Instant::now() + Duration::from_secs(20);
    while !lingering().is_empty() {
        assert!(Instant::now() < end, "still there: {:?}", lingering());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes that a probe started.
fn lingering() -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
    all.filter_map(|path| fs::read_to_string(path).ok()).filter(|line| line.contains(LINGERS)).collect()
}

const KEY: &std::ffi::CStr = c"md-regress-secret";

/// A key of the session's; nothing where a container forbids that.
fn add_key() {
    // SAFETY: the strings live through the calls, and the length is the payload's.
    let found = unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0usize);
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            KEY.as_ptr(),
            c"secret".as_ptr(),
            6usize,
            libc::KEY_SPEC_SESSION_KEYRING,
        )
    };
    assert!(found == -1 || find_key().is_ok(), "a key is found by whoever has it");
}

fn find_key() -> io::Result<()> {
    let (search, ring) = (libc::KEYCTL_SEARCH, libc::KEY_SPEC_SESSION_KEYRING);
    // SAFETY: the strings live through the call.
    let found = unsafe { libc::syscall(libc::SYS_keyctl, search, ring, c"user".as_ptr(), KEY.as_ptr(), 0) };
    if found == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Inside: starts something that would outlive us, and ends, or does not.
#[expect(clippy::zombie_processes, reason = "that it is left behind is what is tried")]
fn linger(hang: bool) -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "a program inside knows nothing of us")]
    let mut sleep = Command::new("/usr/bin/probe");
    sleep.args([PROBE, "sleep", LINGERS]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !hang {
        sleep.process_group(0);
    }
    let mut child = sleep.spawn().unwrap();
    if hang {
        let _ = child.wait();
    }
    ExitCode::SUCCESS
}

/// Inside: tries all of it, and names what it should not have been able to do.
fn probe(pid: &str, port: &str, secret: &str, is_chroot: bool) -> ExitCode {
    let mut allowed = Vec::new();
    let mut refused = |what: &str, result: io::Result<()>| {
        if result.is_ok() {
            allowed.push(what.to_owned());
        }
    };
    let append = |path: &str| {
        let mut file = File::options().append(true).open(path)?;
        file.write_all(b"x")
    };
    let mode = Mode::from_raw_mode(0o666);
    // What it must be able to do, or all the rest says nothing.
    fs::create_dir("/mnt/out").unwrap();
    fs::write("/mnt/out/ran", "here").unwrap();
    fs::write("/tmp/x", "here").unwrap();
    append("/dev/null").unwrap();
    let mut byte = [0];
    File::open("/dev/urandom").unwrap().read_exact(&mut byte).unwrap();
    File::open("/mnt/src/sub/md.h").unwrap();

    // The root.
    for path in ["/usr/include/stdio.h", "/etc/ld.so.preload.not", "/usr/bin/true"] {
        // Without mounts, one that anybody may write to is a copy.
        let written = append(path);
        if !(is_chroot && path != "/usr/bin/true") {
            refused(path, written);
        }
        refused(path, fs::set_permissions(path, Permissions::from_mode(0o777)));
        refused(path, fs::remove_file(path));
    }
    for path in ["/new", "/usr/bin/new", "/etc/ld.so.preload", "/dev/new"] {
        refused(path, fs::write(path, "x"));
    }
    refused("move a folder of the root", fs::rename("/usr", "/mnt/usr"));
    // What is sealed.
    refused("write to the source", append("/mnt/src/md.c"));
    refused("remove the source", fs::remove_file("/mnt/src/md.c"));
    refused("add to the source", fs::write("/mnt/src/new.c", "x"));
    // What is mounted.
    let remount = mount_remount("/", MountFlags::BIND, "").map_err(io::Error::from);
    refused("make the root writable", remount);
    refused("mount", mount("tmpfs", "/tmp", "tmpfs", MountFlags::empty(), None).map_err(io::Error::from));
    refused("bind", mount_bind("/mnt", "/usr").map_err(io::Error::from));
    refused("change the root", rustix::process::chroot("/mnt").map_err(io::Error::from));
    // Devices.
    for (name, kind, major, minor) in
        [("disk", FileType::BlockDevice, 8, 0), ("memory", FileType::CharacterDevice, 1, 1)]
    {
        for folder in ["/mnt", "/tmp"] {
            let path = format!("{folder}/{name}");
            let made = mknodat(CWD, &path, kind, mode, makedev(major, minor)).map_err(io::Error::from);
            refused(&format!("make a node for {name} in {folder}"), made);
        }
    }
    for entry in fs::read_dir("/dev").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !["null", "zero", "full", "random", "urandom", "tty"].contains(&name.as_str()) {
            refused(&format!("see /dev/{name}"), Ok(()));
        }
    }
    refused("close a device to others", fs::set_permissions("/dev/null", Permissions::from_mode(0o000)));
    refused("open a terminal", File::open("/dev/tty").map(drop));
    // The host's files.
    for path in [secret, "/root", "/home", "/work", "/proc/1/environ", "/proc/self/status", "/sys/kernel"] {
        refused(&format!("look at {path}"), fs::metadata(path).map(drop));
    }
    for number in 3..256 {
        // SAFETY: only asked whether it is open.
        let file = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        let is_open = rustix::io::fcntl_getfd(file).map(drop).map_err(io::Error::from);
        refused(&format!("use inherited file {number}"), is_open);
    }
    for (name, _) in std::env::vars() {
        if !["PATH", "HOME", "LC_ALL"].contains(&name.as_str()) {
            refused(&format!("see variable {name}"), Ok(()));
        }
    }
    // The network. Without namespaces it is reached: that is what a source must be trusted for.
    if !is_chroot {
        refused("reach the host's network", TcpStream::connect(format!("127.0.0.1:{port}")).map(drop));
        let far = "192.0.2.1:9".parse().unwrap();
        let error = TcpStream::connect_timeout(&far, Duration::from_secs(2)).unwrap_err();
        let is_unreachable = error.kind() == io::ErrorKind::NetworkUnreachable;
        refused(&format!("try the network: {error}"), if is_unreachable { Err(error) } else { Ok(()) });
    }
    // The host's processes.
    let target = Pid::from_raw(pid.parse().unwrap()).unwrap();
    refused("signal the host's process", test_kill_process(target).map_err(io::Error::from));
    // SAFETY: plain numbers.
    let traced = unsafe { libc::ptrace(libc::PTRACE_ATTACH, target.as_raw_nonzero().get(), 0, 0) };
    refused("trace the host's process", if traced == 0 { Ok(()) } else { Err(io::Error::last_os_error()) });
    refused("find the host's keys", find_key());
    // Rights.
    for flags in [UnshareFlags::NEWUSER, UnshareFlags::NEWNS, UnshareFlags::NEWNET] {
        // SAFETY: no shared table of files is left.
        let made = unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from);
        refused(&format!("unshare {flags:?}"), made);
    }
    let uid = rustix::fs::Uid::ROOT;
    refused("be root", rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(io::Error::from));
    refused("be in another group", rustix::thread::set_thread_groups(&[]).map_err(io::Error::from));
    refused("name the host", rustix::system::sethostname(b"stranger").map_err(io::Error::from));
    refused("give a file to root", std::os::unix::fs::chown("/mnt/out/ran", Some(0), Some(0)));
    let sets = rustix::thread::capabilities(None).unwrap();
    let caps = sets.effective | sets.permitted | sets.inheritable;
    refused(
        &format!("use {caps:?}"),
        if caps.is_empty() { Err(io::ErrorKind::Other.into()) } else { Ok(()) },
    );
    if !rustix::thread::no_new_privs().unwrap() {
        refused("gain rights by a program's file", Ok(()));
    }
    if rustix::thread::capability_is_in_bounding_set(rustix::thread::CapabilitySet::CHOWN).unwrap() {
        refused("gain capabilities", Ok(()));
    }
    if rustix::process::geteuid().is_root() {
        refused("be called root", Ok(()));
    }
    if rustix::process::getrlimit(rustix::process::Resource::Core).maximum != Some(1) {
        refused("leave its memory to a program of the host's", Ok(()));
    }
    // For the one who takes what was built.
    fs::write("/mnt/out/suid", "#!/bin/sh\n").unwrap();
    fs::set_permissions("/mnt/out/suid", Permissions::from_mode(0o6755)).unwrap();

    eprintln!("tried it all");
    for what in &allowed {
        eprintln!("could {what}");
    }
    if allowed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
