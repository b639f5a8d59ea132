//! What the user calls a kernel: `deb:6.12`, `deb:6.12.107+deb13-cloud-amd64`, `deb:6.12+md:PATH`, `tree:PATH`. Pure.

pub mod user;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use debversion::Version;

use crate::debian::package::RemoteFile;
use crate::spec::user::OwnSpec;

/// A kernel, as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelSpec {
    /// One of Debian's.
    Debian {
        /// The kernel.
        base: DebianSpec,
        /// What replaces its md.
        overlay: Option<Overlay>,
    },
    /// The user's own.
    Own(OwnSpec),
}

/// What replaces a kernel's md, raid levels and dm-raid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// `+md:PATH`: those of a kernel tree, or of its drivers/md; `+md:PATH@REV`: those of a commit. Which of the two it
    /// is, is only known by what there is ([`crate::build::git::split_revision`]).
    Tree(PathBuf),
    /// `+plant:NAME`: those of the kernel's own source, with a bug planted.
    Plant(String),
}

/// A kernel of Debian's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DebianSpec {
    /// `deb:6.12`, `deb:6.12-amd64`: the newest build of a branch.
    Branch {
        /// Upstream's branch, `6.12`.
        branch: String,
        /// Debian's flavour of the kernel, `cloud-amd64` unless said otherwise.
        flavour: String,
    },
    /// `deb:6.12.107+deb13-cloud-amd64`: exactly this one, by `uname -r`.
    Exact {
        /// `uname -r`.
        release: String,
    },
}

/// What separates a kernel from a tree.
const TREE: &str = "+md:";
/// What separates a kernel from a plant.
const PLANT: &str = "+plant:";

/// Debian's flavour of the kernel that is used unless another is named: small, with all of md and dm
/// but md-linear and dm-dust.
pub const DEFAULT_FLAVOUR: &str = "cloud-amd64";

/// Flavours that Debian builds for this architecture.
const FLAVOURS: [&str; 3] = ["cloud-amd64", "rt-amd64", "amd64"];

/// Why a text names no kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` names no kernel: expected `deb:BRANCH` as in deb:6.12, or `deb:RELEASE` as in \
     deb:6.12.107+deb13-cloud-amd64, and for the md of a kernel tree `+md:PATH` or `+md:PATH@REV` after it, as in \
     deb:6.12+md:/home/me/linux; or a kernel of your own, `tree:PATH`, `git:PATH@REV` (both may end with `,lockdep`) or \
     `image:BZIMAGE,modules=DIR`; `cargo xtask kernel list` shows Debian's"
)]
pub struct BadKernelSpec {
    text: String,
}

/// Several kernels in one text. A comma parts two only where another begins: it may also be of a kernel's own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSpecs(pub Vec<KernelSpec>);

impl FromStr for KernelSpecs {
    type Err = BadKernelSpec;

    fn from_str(text: &str) -> Result<Self, BadKernelSpec> {
        let mut specs: Vec<String> = Vec::new();
        for part in text.split(',') {
            let begins = SCHEMES.iter().any(|scheme| part.starts_with(scheme));
            match specs.last_mut() {
                Some(last) if !begins => *last = format!("{last},{part}"),
                Some(_) | None => specs.push(part.to_owned()),
            }
        }
        Ok(KernelSpecs(specs.iter().map(|spec| spec.parse()).collect::<Result<_, _>>()?))
    }
}

/// What a kernel's name begins with.
const SCHEMES: [&str; 4] = ["deb:", "tree:", "git:", "image:"];

impl FromStr for KernelSpec {
    type Err = BadKernelSpec;

    fn from_str(text: &str) -> Result<Self, BadKernelSpec> {
        let bad = || BadKernelSpec { text: text.to_owned() };
        if !text.starts_with("deb:") {
            return text.parse().map(KernelSpec::Own).map_err(|_| bad());
        }
        // Versions contain `+`, too: the first of our own words ends them. A path may contain anything.
        let first = [TREE, PLANT].into_iter().filter_map(|word| Some((text.find(word)?, word))).min();
        let Some((at, word)) = first else { return Ok(KernelSpec::from(text.parse::<DebianSpec>()?)) };
        let what = &text[at + word.len()..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let overlay = match word {
            TREE if !what.is_empty() => Overlay::Tree(PathBuf::from(what)),
            PLANT if !what.is_empty() && what.chars().all(is_name) => Overlay::Plant(what.to_owned()),
            _ => return Err(bad()),
        };
        Ok(KernelSpec::Debian { base: text[..at].parse().map_err(|_| bad())?, overlay: Some(overlay) })
    }
}

impl From<DebianSpec> for KernelSpec {
    fn from(base: DebianSpec) -> Self {
        KernelSpec::Debian { base, overlay: None }
    }
}

impl fmt::Display for KernelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelSpec::Debian { base, overlay } => {
                base.fmt(f)?;
                overlay.as_ref().map_or(Ok(()), |overlay| overlay.fmt(f))
            }
            KernelSpec::Own(own) => own.fmt(f),
        }
    }
}

impl fmt::Display for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Overlay::Tree(path) => write!(f, "{TREE}{}", path.display()),
            Overlay::Plant(name) => write!(f, "{PLANT}{name}"),
        }
    }
}

impl FromStr for DebianSpec {
    type Err = BadKernelSpec;

    fn from_str(text: &str) -> Result<Self, BadKernelSpec> {
        let bad = || BadKernelSpec { text: text.to_owned() };
        let name = text.strip_prefix("deb:").ok_or_else(bad)?;
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || "+.-~".contains(c)) {
            return Err(bad());
        }
        let (version, flavour) = split_flavour(name);
        if is_branch(version) {
            let flavour = flavour.unwrap_or(DEFAULT_FLAVOUR).to_owned();
            return Ok(DebianSpec::Branch { branch: version.to_owned(), flavour });
        }
        match flavour {
            Some(_) if version.starts_with(|c: char| c.is_ascii_digit()) => {
                Ok(DebianSpec::Exact { release: name.to_owned() })
            }
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for DebianSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DebianSpec::Branch { branch, flavour } if flavour == DEFAULT_FLAVOUR => write!(f, "deb:{branch}"),
            DebianSpec::Branch { branch, flavour } => write!(f, "deb:{branch}-{flavour}"),
            DebianSpec::Exact { release } => write!(f, "deb:{release}"),
        }
    }
}

/// A kernel that the mirror offers: its packages in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebianKernel {
    /// `uname -r`.
    pub release: String,
    /// `6.12`, from the package's version: `6.1.0-56-amd64` is of branch 6.1, version 6.1.192-2.
    pub branch: String,
    /// Debian's flavour.
    pub flavour: String,
    /// The packages' version.
    pub version: String,
    /// One image, or since 7.2 image, binary and modules, and base.
    pub files: Vec<RemoteFile>,
}

/// True if a package of this name belongs to a kernel that we can boot.
pub fn is_kernel_package(name: &str) -> bool {
    release_of(name).is_some()
}

/// Orders package versions as Debian policy 5.6.12 does; what is no version comes first.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    match (a.parse::<Version>(), b.parse::<Version>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Greater,
        (Err(_), Ok(_)) => Ordering::Less,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

/// Groups packages into kernels, oldest first. Of a release that several suites have, the highest
/// version counts.
pub fn kernels(packages: &[RemoteFile]) -> Vec<DebianKernel> {
    let mut newest: BTreeMap<(String, String), &RemoteFile> = BTreeMap::new();
    for package in packages {
        let Some((part, release)) = release_of(&package.name) else { continue };
        newest
            .entry((release.to_owned(), part.to_owned()))
            .and_modify(|best| {
                if compare_versions(&package.version, &best.version).is_gt() {
                    *best = package;
                }
            })
            .or_insert(package);
    }
    let mut found: BTreeMap<String, Vec<&RemoteFile>> = BTreeMap::new();
    for ((release, _), package) in newest {
        found.entry(release).or_default().push(package);
    }
    let mut kernels: Vec<_> = found
        .into_iter()
        .filter_map(|(release, files)| {
            let image = files.iter().find(|file| file.name.starts_with("linux-image-"))?;
            let version = image.version.clone();
            let (_, flavour) = split_flavour(&release);
            Some(DebianKernel {
                branch: branch_of(&version)?,
                flavour: flavour?.to_owned(),
                version,
                files: files.into_iter().cloned().collect(),
                release: release.clone(),
            })
        })
        .collect();
    kernels.sort_by(|a, b| compare_versions(&a.version, &b.version).then_with(|| a.release.cmp(&b.release)));
    kernels
}

/// The kernel that a spec means.
pub fn choose<'a>(kernels: &'a [DebianKernel], spec: &DebianSpec) -> Option<&'a DebianKernel> {
    match spec {
        DebianSpec::Branch { branch, flavour } => {
            kernels.iter().rfind(|kernel| kernel.branch == *branch && kernel.flavour == *flavour)
        }
        DebianSpec::Exact { release } => kernels.iter().rfind(|kernel| kernel.release == *release),
    }
}

/// The packages that modules of a kernel are built against, out of `packages`: its headers, what its flavours
/// have in common, and the programs that the build runs. All of the kernel's own version.
pub fn headers(packages: &[RemoteFile], release: &str, version: &str) -> Option<Vec<RemoteFile>> {
    let (base, _) = split_flavour(release);
    let one =
        |name: String| packages.iter().find(|file| file.name == name && file.version == version).cloned();
    let common = one(format!("linux-headers-{base}-common"))
        .or_else(|| one(format!("linux-headers-{base}-common-rt")))?;
    // Until 6.1 there was one for all kernels of a branch.
    let programs = one(format!("linux-kbuild-{base}"))
        .or_else(|| one(format!("linux-kbuild-{}", branch_of(version)?)))?;
    Some(vec![one(format!("linux-headers-{release}"))?, common, programs])
}

/// The package of a kernel's source, out of `packages`.
pub fn source(packages: &[RemoteFile], version: &str) -> Option<Vec<RemoteFile>> {
    let name = format!("linux-source-{}", branch_of(version)?);
    packages.iter().find(|file| file.name == name && file.version == version).map(|file| vec![file.clone()])
}

/// True for the packages that [`headers`] and [`source`] look for.
pub fn is_build_package(name: &str) -> bool {
    ["linux-headers-", "linux-kbuild-", "linux-source-"].iter().any(|prefix| name.starts_with(prefix))
}

/// What is most like a spec that names nothing: for the error message.
pub fn similar<'a>(kernels: &'a [DebianKernel], spec: &DebianSpec) -> Vec<&'a str> {
    let (wanted, flavour) = match spec {
        DebianSpec::Branch { branch, flavour } => (branch.as_str(), flavour.as_str()),
        DebianSpec::Exact { release } => {
            let (version, flavour) = split_flavour(release);
            (version, flavour.unwrap_or(DEFAULT_FLAVOUR))
        }
    };
    // By whole components of the version: 6.12.117 is nearer to 6.12.999 than 6.12.96 only by being newer.
    let parts = |text: &str| text.split(['.', '-', '+']).map(str::to_owned).collect::<Vec<_>>();
    let wanted = parts(wanted);
    let common = |text: &str| parts(text).iter().zip(&wanted).take_while(|(a, b)| a == b).count();
    let mut ranked: Vec<_> = kernels.iter().filter(|kernel| kernel.flavour == flavour).rev().collect();
    ranked.sort_by_key(|kernel| std::cmp::Reverse(common(&kernel.release)));
    ranked.into_iter().take(5).map(|kernel| kernel.release.as_str()).collect()
}

/// `linux-image-R`, `linux-binary-R`, `linux-modules-R`, `linux-base-R` (since 7.3 with the configuration) → the part and R,
/// if R is a release.
fn release_of(package: &str) -> Option<(&str, &str)> {
    let rest = package.strip_prefix("linux-")?;
    let (part, release) = rest.split_once('-')?;
    let (version, flavour) = split_flavour(release);
    let is_exact = version.starts_with(|c: char| c.is_ascii_digit()) && !is_branch(version);
    (["image", "binary", "modules", "base"].contains(&part) && flavour.is_some() && is_exact)
        .then_some((part, release))
}

fn split_flavour(name: &str) -> (&str, Option<&str>) {
    for flavour in FLAVOURS {
        if let Some(version) = name.strip_suffix(flavour).and_then(|rest| rest.strip_suffix('-')) {
            return (version, Some(flavour));
        }
    }
    (name, None)
}

fn is_branch(version: &str) -> bool {
    let parts: Vec<_> = version.split('.').collect();
    parts.len() == 2 && parts.iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()))
}

fn branch_of(version: &str) -> Option<String> {
    let mut parts = version.split('.');
    let (major, minor) = (parts.next()?, parts.next()?);
    let minor: String = minor.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("{major}.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> RemoteFile {
        let sha = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        format!("{name} {version} debian pool/{name}_{version}.deb 1 {sha}").parse().unwrap()
    }

    fn mirror() -> Vec<DebianKernel> {
        kernels(&[
            package("linux-image-6.1.0-47-cloud-amd64", "6.1.176-1"),
            package("linux-image-6.1.0-56-cloud-amd64", "6.1.192-2"),
            package("linux-image-6.12.95+deb12-cloud-amd64", "6.12.95-1~bpo12+1"),
            package("linux-image-6.12.95+deb13-cloud-amd64", "6.12.95-1"),
            package("linux-image-6.12.117+deb13-cloud-amd64", "6.12.117-1"),
            package("linux-image-6.12.117+deb13-amd64", "6.12.117-1"),
            package("linux-image-6.12-cloud-amd64", "6.12.117-1"),
            package("linux-image-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1"),
            package("linux-binary-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1"),
            package("linux-modules-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1"),
            package("linux-base-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1"),
            package("linux-image-cloud-amd64", "6.12.117-1"),
        ])
    }

    fn check(spec: &str, release: Option<&str>) {
        let kernels = mirror();
        let chosen = choose(&kernels, &spec.parse().unwrap());
        assert_eq!(chosen.map(|kernel| kernel.release.as_str()), release, "{spec}");
    }

    #[test]
    fn a_branch_means_its_newest_build() {
        check("deb:6.12", Some("6.12.117+deb13-cloud-amd64"));
        check("deb:6.1", Some("6.1.0-56-cloud-amd64"));
        check("deb:6.12-amd64", Some("6.12.117+deb13-amd64"));
        check("deb:5.10", None);
    }

    #[test]
    fn an_exact_release_means_itself() {
        check("deb:6.12.95+deb12-cloud-amd64", Some("6.12.95+deb12-cloud-amd64"));
        check("deb:6.12.96+deb13-cloud-amd64", None);
    }

    #[test]
    fn a_split_image_brings_all_its_packages() {
        let kernels = mirror();
        let kernel = choose(&kernels, &"deb:7.3".parse().unwrap()).unwrap();
        assert_eq!(kernel.files.len(), 4);
    }

    #[test]
    fn backports_sort_before_what_they_are_made_from() {
        assert!(compare_versions("6.12.95-1~bpo12+1", "6.12.95-1").is_lt());
    }

    #[test]
    fn headers_are_of_the_kernels_own_version() {
        let packages = [
            package("linux-headers-6.1.0-56-cloud-amd64", "6.1.192-2"),
            package("linux-headers-6.1.0-56-common", "6.1.192-2"),
            package("linux-kbuild-6.1", "6.1.190-1"),
            package("linux-kbuild-6.1", "6.1.192-2"),
            package("linux-headers-6.12.117+deb13-cloud-amd64", "6.12.117-1"),
            package("linux-headers-6.12.117+deb13-common", "6.12.117-1"),
            package("linux-kbuild-6.12.117+deb13", "6.12.117-1"),
            package("linux-source-6.12", "6.12.107-1"),
            package("linux-source-6.12", "6.12.117-1"),
        ];
        let versions = |files: Option<Vec<RemoteFile>>| {
            files.map(|files| {
                files.iter().map(|file| format!("{} {}", file.name, file.version)).collect::<Vec<_>>()
            })
        };
        assert_eq!(
            versions(headers(&packages, "6.1.0-56-cloud-amd64", "6.1.192-2")).unwrap()[2],
            "linux-kbuild-6.1 6.1.192-2"
        );
        assert_eq!(
            versions(headers(&packages, "6.12.117+deb13-cloud-amd64", "6.12.117-1")).unwrap()[2],
            "linux-kbuild-6.12.117+deb13 6.12.117-1"
        );
        assert_eq!(versions(headers(&packages, "6.12.117+deb13-cloud-amd64", "6.12.118-1")), None);
        assert_eq!(versions(source(&packages, "6.12.117-1")).unwrap(), ["linux-source-6.12 6.12.117-1"]);
    }

    #[test]
    fn similar_names_are_offered() {
        let kernels = mirror();
        for missing in ["deb:6.12.118+deb13-cloud-amd64", "deb:6.12.9+deb13-cloud-amd64"] {
            let offered = similar(&kernels, &missing.parse().unwrap());
            assert_eq!(offered[0], "6.12.117+deb13-cloud-amd64");
        }
    }

    #[test]
    fn an_overlay_ends_a_version_that_has_a_plus() {
        let spec: KernelSpec = "deb:6.12.107+deb13-cloud-amd64+md:a+plant:b".parse().unwrap();
        let base = DebianSpec::Exact { release: "6.12.107+deb13-cloud-amd64".to_owned() };
        assert_eq!(spec, KernelSpec::Debian { base, overlay: Some(Overlay::Tree("a+plant:b".into())) });
    }

    #[test]
    fn a_comma_parts_two_kernels_only_where_one_begins() {
        let split = |text: &str| {
            let specs = text.parse::<KernelSpecs>().map(|specs| specs.0);
            specs.map(|specs| specs.iter().map(KernelSpec::to_string).collect::<Vec<_>>())
        };
        assert_eq!(split("deb:6.1,deb:6.12").unwrap(), ["deb:6.1", "deb:6.12"]);
        assert_eq!(
            split("tree:/a,b,lockdep,image:bzImage,modules=/m,deb:6.1").unwrap(),
            ["tree:/a,b,lockdep", "image:bzImage,modules=/m", "deb:6.1"]
        );
        for text in ["", "deb:6.1,", "deb:6.1,6.12", ",deb:6.1"] {
            assert!(split(text).is_err(), "{text}");
        }
    }

    #[test]
    fn specs_round_trip_and_nonsense_is_refused() {
        for text in [
            "deb:6.12",
            "deb:6.12-amd64",
            "deb:6.12.107+deb13-cloud-amd64",
            "deb:6.12.107+deb13-cloud-amd64+md:../linux+md:2/drivers/md",
            "deb:6.12+plant:e3",
            "tree:/x,lockdep",
            "git:/x@v6.7",
        ] {
            assert_eq!(text.parse::<KernelSpec>().unwrap().to_string(), text);
        }
        for text in [
            "6.12",
            "deb:",
            "deb:latest",
            "deb:6.12.107",
            "deb:../x-amd64",
            "tree:",
            "git:/x",
            "deb:6.12+md:",
            "deb:latest+md:/x",
            "deb:6.12+plant:../e3",
            "deb:6.12+other:x",
        ] {
            assert!(text.parse::<KernelSpec>().is_err(), "{text}");
        }
    }
}
