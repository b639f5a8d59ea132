//! The image that tests run in, made of Debian's packages and of LVM2 and mdadm.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::build::checkout::Checkout;
use crate::build::enclosure::{Enclosure, Trust};
use crate::build::error::{BuildError, io_error};
use crate::build::handover::{self, Links};
use crate::build::project::Project;
use crate::build::tools::Tools;
use crate::build::workshop::{Workshop, write};
use crate::debian::package::RemoteFile;
use crate::debian::pins::{Group, lines};
use crate::debian::unpack::unpack;
use crate::guest::{projects, root};
use crate::store::Artifact;

/// Packages of the guest whose versions are recorded with every result.
const TELLING_PACKAGES: [&str; 6] =
    ["bash", "e2fsprogs", "libc6", "thin-provisioning-tools", "util-linux", "xfsprogs"];

/// Room on the disk for guest images that are made with a checkout, bytes: about ten of them. Each edit makes
/// another one; those that were used least recently go.
const CHECKOUT_GUESTS_BYTES_MAX: u64 = 2 << 30;

/// The image that tests run in: one read-only squashfs, `root.squashfs`, with `versions.json`
/// and the lists of LVM2's and mdadm's tests beside it.
pub(crate) fn make(workshop: &Workshop<'_>, checkouts: &[Checkout]) -> Result<Artifact, BuildError> {
    // Outside `make`: files that are missing for these are not the guest's packages.
    let tools = workshop.tools()?;
    let lvm2 = projects::built(workshop, Project::Lvm2, checkouts)?;
    let mdadm = projects::built(workshop, Project::Mdadm, checkouts)?;
    let kind = if checkouts.is_empty() { "guest" } else { "guest-checkout" };
    let guest = workshop.pins.make(&Group::Root("guest"), |files| {
        let list = lines(files);
        let inputs = [
            ("files", list.as_str()),
            ("lvm2", lvm2.digest.as_str()),
            ("mdadm", mdadm.digest.as_str()),
            ("recipe", root::RECIPE),
            ("left out", &root::LEFT_OUT.join(" ")),
        ];
        workshop.artifact(kind, &inputs, |dir| {
            if !checkouts.is_empty() {
                workshop.store.shrink(kind, CHECKOUT_GUESTS_BYTES_MAX);
            }
            assemble(workshop, checkouts, dir, files, [&lvm2, &mdadm], &tools)
        })
    })?;
    workshop.store.touch(&guest);
    Ok(guest)
}

fn assemble(
    workshop: &Workshop<'_>,
    checkouts: &[Checkout],
    dir: &Path,
    files: &[RemoteFile],
    built: [&Artifact; 2],
    tools: &Tools,
) -> Result<(), BuildError> {
    let packages = workshop.apt.fetch(files)?;
    workshop.progress.step(&format!("unpacking the guest's {} packages", packages.len()));
    // The tree is not kept: only the image made of it is.
    let work = workshop.scratch("guest-tree")?;
    let (tree, log) = (work.path().join("root"), dir.join("log"));
    fs::create_dir(&tree).map_err(io_error("create", &tree))?;
    unpack(workshop.host, &packages, &tree, &log)?;
    for artifact in built {
        let from = artifact.path("out").join(".");
        // Where one of them left a link, the next one's file must not be written to where that leads.
        let call = workshop.host.call("cp");
        let copy = call.args(["-a", "--no-preserve=ownership", "--remove-destination"]);
        copy.arg(from).arg(&tree).run(&log)?;
    }
    root::finish(&tree).map_err(io_error("finish the root in", &tree))?;
    let empty = work.path().join("empty");
    fs::create_dir(&empty).map_err(io_error("create", &empty))?;
    // Without its cache the loader searches folders at each of a test's thousands of execs.
    // A checkout's installation may have brought another ldconfig.
    let trust = if checkouts.is_empty() { Trust::Trusted } else { workshop.trust_of_sources() };
    let enclosure = Enclosure::new(workshop.host, &tree, &empty, &log, trust)?;
    enclosure.give(&empty, &[])?;
    enclosure.run(&empty, &[], &["/usr/sbin/ldconfig", "-X", "-C", "/mnt/ld.so.cache"], &log)?;
    let cache = root::file_in(&tree, "etc/ld.so.cache").map_err(io_error("make room in", &tree))?;
    handover::take(&empty.join("ld.so.cache"), &cache, Links::Refused)?;
    workshop.progress.step("making the guest image");
    let image = dir.join("root.squashfs");
    tools.squashfs(workshop.host, &tree, &image, &root::LEFT_OUT).run(&log)?;
    for suite in SUITES {
        let tests = list_tests(&tree, &suite).map_err(io_error("list tests in", &tree))?;
        write(&dir.join(format!("{}-tests.txt", suite.name)), tests.as_bytes())?;
    }
    let versions =
        serde_json::to_vec_pretty(&versions(workshop, checkouts, files)?).expect("strings have a JSON form");
    write(&dir.join("versions.json"), &versions)
}

/// The versions that a result depends on most; the lock file has all of them.
fn versions(
    workshop: &Workshop<'_>,
    checkouts: &[Checkout],
    files: &[RemoteFile],
) -> Result<BTreeMap<String, String>, BuildError> {
    let mut versions = BTreeMap::new();
    for file in files.iter().filter(|file| TELLING_PACKAGES.contains(&file.name.as_str())) {
        versions.insert(file.name.clone(), file.version.clone());
    }
    for project in Project::ALL {
        let version = match projects::checkout_of(project, checkouts) {
            Some(checkout) => Some(checkout.version_by_content()),
            None => {
                let files = workshop.pins.files(&Group::Source(project.name()))?;
                files.first().map(|file| file.version.clone())
            }
        };
        versions.extend(version.map(|version| (project.name().to_owned(), version)));
    }
    Ok(versions)
}

/// A suite whose tests are installed in the guest, below `usr/share/NAME-testsuite`.
struct InstalledSuite {
    name: &'static str,
    /// True for a file of that folder that is a test.
    is_test: fn(&str) -> bool,
}

const SUITES: [InstalledSuite; 2] = [
    InstalledSuite { name: "lvm2", is_test: is_lvm2_test },
    InstalledSuite { name: "mdadm", is_test: is_mdadm_test },
];

/// True for a file that LVM2's runner takes for a test.
fn is_lvm2_test(name: &str) -> bool {
    name.ends_with(".sh") && !name.starts_with("lib/")
}

/// True for a file that mdadm's `./test` takes for a test: its name begins with two digits, and it is no
/// note about another (`NAME.broken`, `NAME.inject_error`).
fn is_mdadm_test(name: &str) -> bool {
    let Some(name) = name.strip_prefix("tests/") else { return false };
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    digits >= 2 && ![".broken", ".inject_error", "~", "/"].iter().any(|part| name.contains(part))
}

/// The installed tests of a suite, one a line, sorted. mdadm's are all in one folder, which is left out.
fn list_tests(tree: &Path, suite: &InstalledSuite) -> io::Result<String> {
    let top = tree.join(format!("usr/share/{}-testsuite", suite.name));
    let mut names = Vec::new();
    for entry in walkdir::WalkDir::new(&top) {
        let path = entry?.into_path();
        if let Some(name) = path.strip_prefix(&top).ok().and_then(Path::to_str)
            && (suite.is_test)(name)
        {
            names.push(format!("{}\n", name.strip_prefix("tests/").unwrap_or(name)));
        }
    }
    names.sort();
    Ok(names.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_and_helpers_are_no_tests() {
        let dir = tempfile::tempdir().unwrap();
        for (suite, name) in [
            ("lvm2", "shell/a.sh"),
            ("lvm2", "lib/inittest.sh"),
            ("mdadm", "tests/07changelevels"),
            ("mdadm", "tests/07changelevels.broken"),
            ("mdadm", "tests/24raid10deadlock"),
            ("mdadm", "tests/24raid10deadlock.inject_error"),
            ("mdadm", "tests/func.sh"),
            ("mdadm", "tests/templates/00x"),
            ("mdadm", "00test"),
        ] {
            let path = dir.path().join(format!("usr/share/{suite}-testsuite")).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let lists = SUITES.map(|suite| list_tests(dir.path(), &suite).unwrap());
        assert_eq!(lists, ["shell/a.sh\n", "07changelevels\n24raid10deadlock\n"]);
    }
}
