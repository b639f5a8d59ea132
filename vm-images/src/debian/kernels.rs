//! The kernels that a Debian mirror offers, out of its package lists, and the packages that belong to each.
//! Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::debian::package::RemoteFile;
use crate::spec::debian::{DEFAULT_FLAVOUR, DebianSpec, is_branch, split_flavour};

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
    match (is_version(a), is_version(b)) {
        (true, true) => deb_version::compare_versions(a, b),
        (false, false) => a.cmp(b),
        (is_a, is_b) => is_a.cmp(&is_b),
    }
}

/// True if a text has only characters of versions, and begins with a digit as policy demands.
fn is_version(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ".+~:-".contains(c))
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

/// Releases that are most like a spec that names no kernel: for the error message.
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

/// The part and the release R of `linux-image-R`, `linux-binary-R`, `linux-modules-R` or `linux-base-R`
/// (which has the configuration since 7.3); `None` if R is no release.
fn release_of(package: &str) -> Option<(&str, &str)> {
    let rest = package.strip_prefix("linux-")?;
    let (part, release) = rest.split_once('-')?;
    let (version, flavour) = split_flavour(release);
    let is_exact = version.starts_with(|c: char| c.is_ascii_digit()) && !is_branch(version);
    (["image", "binary", "modules", "base"].contains(&part) && flavour.is_some() && is_exact)
        .then_some((part, release))
}

/// The upstream branch of a package's version: `6.1` of `6.1.192-2`.
fn branch_of(version: &str) -> Option<String> {
    let mut parts = version.split('.');
    let (major, minor) = (parts.next()?, parts.next()?);
    let minor: String = minor.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("{major}.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_policy_says() {
        let rising = [
            "no version",
            "6.1.9-1",
            "6.1.10~rc1-1",
            "6.1.10-1~bpo12+1",
            "6.1.10-1",
            "6.1.10-1+deb13u1",
            "6.1.10-2",
            "6.12.117-1",
            "7.3~rc7-1~exp1",
            "7.3-1",
            "1:6.1-1",
        ];
        for (n, lower) in rising.iter().enumerate() {
            assert!(compare_versions(lower, lower).is_eq(), "{lower}");
            for higher in &rising[n + 1..] {
                assert!(compare_versions(lower, higher).is_lt(), "{lower} < {higher}");
                assert!(compare_versions(higher, lower).is_gt(), "{lower} < {higher}");
            }
        }
        assert!(compare_versions("6.1-é", "6.1-1").is_lt(), "no version, and no panic");
    }

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
}
