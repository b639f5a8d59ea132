//! `cargo xtask doctor`: shows what is there, what is missing, and what was chosen and why. Makes nothing.

use std::fs;
use std::path::Path;

use anyhow::Result;
use clap::ArgMatches;
use clap::parser::ValueSource;
use harness::clock::rfc3339;
use harness::machine::accel::{AccelChoice, choose};
use harness::machine::kvm::answers::{Known, known_by_facts};
use harness::run::folder::default_runs;
use harness::run::{begin, budget, prepare};
use harness::session::Session;
use harness::terminal::outln;
use vm_images::build::enclosure::{ALLOW_IN_CONTAINER, ALLOW_NAMESPACES, Enclosure, Possible};
use vm_images::store::space::Stock;

use crate::config::{self, Config};
use crate::exit::Exit;
use crate::options::RunOptions;

/// Host programs that are needed to make images, with the Debian package of each.
const PROGRAMS: [(&str, &str); 6] = [
    ("apt-get", "apt"),
    ("apt-config", "apt"),
    ("dpkg-deb", "dpkg"),
    ("cp", "coreutils"),
    ("git", "git"),
    ("gcc", "gcc"),
];

/// Disk space that an empty store needs, bytes.
const STORE_BYTES: u64 = 3 << 30;
/// Memory that one VM of the lvm2 suite needs, MiB.
const VM_MIB: u64 = 2500;

/// Settings of a run, as flags, with their ids in clap.
const SETTINGS: [(&str, &str); 18] = [
    ("kernel", "kernels"),
    ("suite", "suite"),
    ("flavour", "flavours"),
    ("append", "append"),
    ("accel", "accel"),
    ("no-snapshot", "no_snapshot"),
    ("retries", "retries"),
    ("fail-on", "fail_on"),
    ("flaky", "flaky"),
    ("jobs", "n_vms"),
    ("out", "out"),
    ("debug-info", "debug_info"),
    ("lvm2-src", "lvm2_src"),
    ("mdadm-src", "mdadm_src"),
    ("store", "store"),
    ("qemu", "qemu"),
    ("mirror", "mirror"),
    ("trust-source", "trust_source"),
];

/// Result of one check.
enum CheckResult {
    Good(String),
    /// `test` works without it, but is slower or makes it when needed.
    Note(String),
    Bad(String),
}

pub(crate) fn run(
    session: &Session,
    options: &RunOptions,
    matches: &ArgMatches,
    config: Option<&Config>,
) -> Result<Exit> {
    outln!("settings (flags beat environment beat {})", config::FILE);
    for (name, id) in SETTINGS {
        let (value, source) = setting(matches, config, id);
        outln!("  {name:<12} {value:<32} {source}");
    }
    // Computing sizes takes a walk through the whole store.
    let stock = session.store.inventory();
    let mut n_bad = 0;
    outln!("\nhost");
    for (what, finding) in host(session, &stock) {
        n_bad += show(what, &finding);
    }
    outln!("\nwhat runs guests");
    for (what, finding) in machine(session, options, &stock) {
        n_bad += show(what, &finding);
    }
    outln!("\nstore");
    for stock in &stock {
        if !["locks", "tmp"].contains(&stock.kind.as_str()) && stock.n_items > 0 {
            outln!("  {:<12} {:>5}  {:>6} MB", stock.kind, stock.n_items, stock.bytes / 1_000_000);
        }
    }
    match n_bad {
        0 => outln!("\n`cargo xtask test` can run here"),
        1 => outln!("\n1 thing keeps `cargo xtask test` from running here"),
        n => outln!("\n{n} things keep `cargo xtask test` from running here"),
    }
    Ok(if n_bad == 0 { Exit::Passed } else { Exit::Infra })
}

fn show(what: &str, finding: &CheckResult) -> u32 {
    let (word, text, n_bad) = match finding {
        CheckResult::Good(text) => ("ok", text, 0),
        CheckResult::Note(text) => ("note", text, 0),
        CheckResult::Bad(text) => ("MISSING", text, 1),
    };
    outln!("  {word:<8} {what}: {text}");
    n_bad
}

/// The value of a setting, and its origin.
fn setting(matches: &ArgMatches, config: Option<&Config>, id: &str) -> (String, String) {
    let values = matches.get_raw_occurrences(id).into_iter().flatten().flatten();
    let values: Vec<_> = values.map(|value| value.to_string_lossy().into_owned()).collect();
    let value = if values.is_empty() { "-".to_owned() } else { values.join(" ") };
    let source = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => "flag".to_owned(),
        Some(ValueSource::EnvVariable) => "environment".to_owned(),
        Some(_) | None => {
            config.and_then(|config| config.place_of(id)).unwrap_or_else(|| "default".to_owned())
        }
    };
    (value, source)
}

fn host(session: &Session, stock: &[Stock]) -> Vec<(&'static str, CheckResult)> {
    let mut all = Vec::new();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown");
    let facts = begin::host_facts();
    let fact = |name: &str| facts.get(name).cloned().unwrap_or_default();
    all.push((
        "system",
        if cfg!(target_arch = "x86_64") {
            CheckResult::Good(format!("{}, kernel {}", name.trim_matches('"'), fact("kernel")))
        } else {
            CheckResult::Bad(format!("{name} is not x86_64; see \"Other hosts\" in README.md"))
        },
    ));
    let available = budget::memory_available_mib().unwrap_or(0);
    let machine = format!("{} processors, {} MiB of memory available", fact("cpus"), available);
    all.push((
        "machine",
        if available >= VM_MIB {
            CheckResult::Good(machine)
        } else {
            CheckResult::Bad(format!("{machine}; a VM of the lvm2 suite takes {VM_MIB}"))
        },
    ));
    all.push(("disk", disk(session, stock)));
    let absent: Vec<_> = PROGRAMS.iter().filter(|(program, _)| !is_program(program)).collect();
    all.push((
        "programs",
        if absent.is_empty() {
            CheckResult::Good(PROGRAMS.map(|(program, _)| program).join(", "))
        } else {
            let absent: Vec<_> =
                absent.iter().map(|(program, package)| format!("{program} (package {package})")).collect();
            CheckResult::Bad(format!("no {}", absent.join(", ")))
        },
    ));
    all.push(("namespaces", namespaces(session)));
    all.push(("mirror", mirror(session)));
    let left_out = session.apt().ok().and_then(|apt| apt.left_out().ok()).unwrap_or_default();
    all.extend(
        left_out.into_iter().map(|line| ("apt", CheckResult::Note(format!("not taken over: {line}")))),
    );
    all
}

fn has(stock: &[Stock], kind: &str) -> bool {
    stock.iter().any(|stock| stock.kind == kind && stock.n_items > 0)
}

fn disk(session: &Session, stock: &[Stock]) -> CheckResult {
    let root = session.store.root();
    let free = rustix::fs::statvfs(root).map_or(0, |disk| disk.f_bavail * disk.f_frsize);
    let is_filled = has(stock, "guest");
    let text = format!("{} MB free at {}", free / 1_000_000, root.display());
    if is_filled || free >= STORE_BYTES {
        CheckResult::Good(text)
    } else {
        CheckResult::Bad(format!("{text}; an empty store takes {} MB", STORE_BYTES / 1_000_000))
    }
}

fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(more).any(|folder| folder.join(name).is_file())
}

/// The way in which builds are kept from the host.
fn namespaces(session: &Session) -> CheckResult {
    let scratch = session.store.temporary().join("doctor");
    let log = session.store.temporary().join("doctor.log");
    match Enclosure::possible(&session.host, &scratch, &log) {
        Possible::Namespaces => CheckResult::Good("builds are kept from the host".into()),
        Possible::TrustedOnly(why) => CheckResult::Note(format!(
            "forbidden ({why}): trees, commits and checkouts are built only with --trust-source; {ALLOW_IN_CONTAINER}"
        )),
        Possible::Nothing(why) => {
            CheckResult::Bad(format!("forbidden ({why}): {ALLOW_NAMESPACES}, or run as root"))
        }
    }
}

fn mirror(session: &Session) -> CheckResult {
    let apt = match session.apt() {
        Ok(apt) => apt,
        Err(error) => return CheckResult::Bad(format!("{error:#}")),
    };
    let what = format!("{} (from {})", apt.mirror().debian, apt.mirror().from);
    match apt.reach() {
        Ok(()) => CheckResult::Good(format!("{what} answers")),
        Err(error) => {
            let why = error.to_string();
            let why = why.lines().find(|line| line.trim_start().starts_with("E: ")).unwrap_or("no answer");
            CheckResult::Note(format!(
                "{what} does not answer: {}; what the store lacks cannot be fetched",
                why.trim()
            ))
        }
    }
}

fn machine(session: &Session, options: &RunOptions, stock: &[Stock]) -> Vec<(&'static str, CheckResult)> {
    let mut all = Vec::new();
    let has_tools = has(stock, "tools");
    let qemu = match prepare::find_qemu_on_host(session) {
        Ok(Some(qemu)) => Some(qemu),
        // Only if it exists already: `doctor` makes nothing.
        Ok(None) if has_tools => {
            let apt = session.apt();
            apt.and_then(|apt| prepare::find_qemu(session, &session.images(&apt)?)).ok()
        }
        Ok(None) => None,
        Err(error) => {
            all.push(("QEMU", CheckResult::Bad(format!("{error:#}"))));
            return all;
        }
    };
    let known = match &qemu {
        Some(qemu) => {
            let program = qemu.command.last().map(|word| word.to_string_lossy()).unwrap_or_default();
            all.push(("QEMU", CheckResult::Good(format!("{} ({program})", qemu.version))));
            prepare::kvm_answers(session, qemu).known()
        }
        None => {
            let note = "none here; a private one is fetched when it is needed (50 MB)";
            all.push(("QEMU", CheckResult::Note(note.into())));
            known_by_facts()
        }
    };
    all.push(("accelerator", accelerator(options.guest.accel, known)));
    let out = options.out.clone().unwrap_or_else(default_runs);
    all.push(("runs", writable(&out)));
    all
}

/// The accelerator that a run would take, given what is known of KVM.
fn accelerator(choice: AccelChoice, known: Option<Known>) -> CheckResult {
    let Some(Known { answer, .. }) = &known else {
        return match choice {
            AccelChoice::Tcg => CheckResult::Good("tcg (asked for)".into()),
            AccelChoice::Auto | AccelChoice::Kvm => CheckResult::Note(
                "/dev/kvm opens, and nobody has tried to boot a guest under it yet; the next run does".into(),
            ),
        };
    };
    let tried = match (choice, &known) {
        (AccelChoice::Auto | AccelChoice::Kvm, Some(known)) => tried(known),
        (AccelChoice::Tcg, _) | (_, None) => String::new(),
    };
    match choose(choice, || Ok(answer.clone())) {
        Ok(chosen) => CheckResult::Good(format!("{} ({}{tried})", chosen.accel, chosen.reason)),
        Err(error) => CheckResult::Bad(format!("{error}{tried}")),
    }
}

/// Since when an answer is known, and when it is asked again.
fn tried(known: &Known) -> String {
    let Some(tried_s) = known.tried_s else { return String::new() };
    let speed = known.answer.works().map(|boot| format!(", answered after {:.1} s", boot.as_secs_f32()));
    let again = known.asked_again();
    format!("; tried at {}{}, asked again {again}", rfc3339(tried_s), speed.unwrap_or_default())
}

fn writable(folder: &Path) -> CheckResult {
    let nearest = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    match tempfile::Builder::new().prefix(".doctor-").tempfile_in(nearest) {
        Ok(_) => CheckResult::Good(format!("written to {}", folder.display())),
        Err(error) => CheckResult::Bad(format!(
            "cannot be written to {}: {error}; --out names another folder",
            folder.display()
        )),
    }
}
