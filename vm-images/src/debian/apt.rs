//! Debian's archives through the host's own apt, with a state of our own.
//!
//! apt has what would be foolish to write again: signatures, proxies, credentials, mirrors of every
//! transport, the resolver. The host's lists, caches, sources and hooks are neither read nor written; only
//! how the archive is reached (proxies, time limits, certificates) is taken over
//! ([`crate::debian::acquire`]).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use xshell::cmd;

use crate::debian::acquire::{self, Acquire};
use crate::debian::conf;
use crate::debian::kernels::compare_versions;
use crate::debian::mirror::Mirror;
use crate::debian::package::{Archive, RemoteFile, parse_index};
use crate::debian::sources::versions_in;
use crate::host::progress::Progress;
use crate::host::{Host, HostError, quick};
use crate::store::digest::Digest;
use crate::store::{Store, StoreError};

/// How old the lists may be before they are fetched again.
const FRESH: Duration = Duration::from_secs(6 * 3600);

/// Suites whose kernels we offer. Roots are resolved from [`ROOT_SUITES`] alone.
const KERNEL_SUITES: [(Archive, &str); 8] = [
    (Archive::Debian, "bookworm"),
    (Archive::Debian, "bookworm-updates"),
    (Archive::Debian, "bookworm-backports"),
    (Archive::Debian, "trixie-backports"),
    (Archive::Debian, "sid"),
    (Archive::Security, "bookworm-security"),
    (Archive::Debian, "trixie"),
    (Archive::Security, "trixie-security"),
];

/// Suites that the tools, build and guest roots come from.
const ROOT_SUITES: [(Archive, &str); 3] = [
    (Archive::Debian, "trixie"),
    (Archive::Debian, "trixie-updates"),
    (Archive::Security, "trixie-security"),
];

/// Suites whose versions of mdadm may be asked for.
const PROJECT_SUITES: [(Archive, &str); 4] = [
    (Archive::Debian, "bookworm"),
    (Archive::Debian, "trixie"),
    (Archive::Debian, "trixie-backports"),
    (Archive::Debian, "sid"),
];

/// Why packages could not be found or fetched.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// A program of the host failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of our own apt folder cannot be used.
    #[error("failed to use `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// No index could be fetched.
    #[error(
        "the mirror {mirror} gave no package lists: is there a network? --mirror names another mirror; apt said:\n{log}"
    )]
    NoLists {
        /// Base of the mirror's main archive.
        mirror: String,
        /// The end of apt's log.
        log: String,
    },
    /// apt's answer has another form than expected.
    #[error("cannot read apt's answer `{line}`")]
    Answer {
        /// The line.
        line: String,
    },
    /// Files that the mirror says it does not have, or has with another content.
    #[error("the mirror {mirror} no longer has {}", names(missing))]
    Missing {
        /// Base of the mirror's main archive.
        mirror: String,
        /// The files.
        missing: Vec<RemoteFile>,
    },
    /// Files that could not be fetched, which says nothing about whether the mirror has them.
    #[error(
        "failed to fetch {} from {mirror}: is there a network? --mirror names another mirror; apt said:\n{log}",
        names(missing)
    )]
    Fetch {
        /// Base of the mirror's main archive.
        mirror: String,
        /// The files.
        missing: Vec<RemoteFile>,
        /// The end of apt's log.
        log: String,
    },
    /// The disk is full.
    #[error(
        "no space left on device for the store at `{}`: {} MB to fetch, {} MB free; free some, or name another \
         folder by --store",
        folder.display(), wanted.div_ceil(1_000_000), room / 1_000_000
    )]
    NoRoom {
        /// Folder of the store.
        folder: PathBuf,
        /// Bytes that were still to be fetched.
        wanted: u64,
        /// Bytes that are free.
        room: u64,
    },
}

fn names(files: &[RemoteFile]) -> String {
    let shown: Vec<_> = files.iter().take(5).map(|file| format!("{} {}", file.name, file.version)).collect();
    let more = if files.len() > 5 { format!(" and {} more", files.len() - 5) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// One of our sets of package sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sources {
    Roots,
    Kernels,
    /// Source packages of other versions than the guest's own.
    Projects,
}

impl Sources {
    fn has_packages(self) -> bool {
        self != Sources::Projects
    }

    fn has_sources(self) -> bool {
        self != Sources::Kernels
    }
}

/// The host's apt with our state.
#[derive(Debug)]
pub struct Apt<'a> {
    host: &'a Host,
    store: &'a Store,
    mirror: Mirror,
    progress: &'a dyn Progress,
}

impl<'a> Apt<'a> {
    /// apt over `mirror`, keeping its lists in `store`.
    pub fn new(host: &'a Host, store: &'a Store, mirror: Mirror, progress: &'a dyn Progress) -> Self {
        Apt { host, store, mirror, progress }
    }

    /// The mirror it asks.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// All files needed to unpack `packages` with what they depend on into an empty root,
    /// by the newest versions that the mirror has.
    pub fn resolve(&self, packages: &[String]) -> Result<Vec<RemoteFile>, AptError> {
        let conf = self.lists(Sources::Roots)?;
        let log = self.log("resolve");
        self.progress.step(&format!("resolving {} packages", packages.len()));
        let answer = self
            .host
            .call("apt-get")
            .env("APT_CONFIG", &conf)
            .args(["install", "--yes", "--no-install-recommends", "--print-uris", "-q"])
            .args(packages)
            .read(&log)?;
        let wanted: Vec<_> = answer
            .lines()
            .filter(|line| line.starts_with('\''))
            .map(|line| self.parse_uri(line))
            .collect::<Result<_, _>>()?;
        self.describe(Sources::Roots, wanted)
    }

    /// The files of source package `name`, newest version.
    pub fn source(&self, name: &str) -> Result<Vec<RemoteFile>, AptError> {
        self.source_from(Sources::Roots, name, None)
    }

    /// The files of exactly this version of source package `name`, from any of the project suites.
    pub(crate) fn source_at(&self, name: &str, version: &str) -> Result<Vec<RemoteFile>, AptError> {
        self.source_from(Sources::Projects, name, Some(version))
    }

    /// The versions of source package `name` in the project suites, sorted.
    pub(crate) fn source_versions(&self, name: &str) -> Result<Vec<String>, AptError> {
        self.lists(Sources::Projects)?;
        let lists = self.read_lists(Sources::Projects)?;
        let mut versions: Vec<_> = lists.iter().flat_map(|(_, text)| versions_in(text, name)).collect();
        versions.sort_by(|a, b| compare_versions(a, b));
        versions.dedup();
        Ok(versions)
    }

    fn source_from(
        &self,
        sources: Sources,
        name: &str,
        version: Option<&str>,
    ) -> Result<Vec<RemoteFile>, AptError> {
        let conf = self.lists(sources)?;
        let wanted = version.map_or_else(|| name.to_owned(), |version| format!("{name}={version}"));
        let answer = self
            .host
            .call("apt-get")
            .env("APT_CONFIG", &conf)
            .args(["source", "--print-uris", "--only-source", "-q", &wanted])
            .read(&self.log("source"))?;
        let files: Vec<_> = answer
            .lines()
            .filter(|line| line.starts_with('\''))
            .map(|line| self.parse_uri(line))
            .collect::<Result<_, _>>()?;
        let version = files
            .iter()
            .find_map(|file| file.path.rsplit('/').next()?.strip_suffix(".dsc")?.split_once('_'))
            .map(|(_, version)| decode_percent(version))
            .ok_or_else(|| AptError::Answer { line: answer.clone() })?;
        Ok(files
            .into_iter()
            .map(|file| RemoteFile { name: name.to_owned(), version: version.clone(), ..file })
            .collect())
    }

    /// All binary packages of the kernel suites whose name `keep` accepts.
    pub fn kernel_packages(&self, keep: impl Fn(&str) -> bool) -> Result<Vec<RemoteFile>, AptError> {
        self.lists(Sources::Kernels)?;
        let mut all = Vec::new();
        for (archive, text) in self.read_lists(Sources::Kernels)? {
            all.extend(parse_index(&text, archive, &keep));
        }
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// Asks the mirror for one small file, to see if it answers; the error has apt's words.
    pub fn reach(&self) -> Result<(), AptError> {
        let conf = self.configure(Sources::Roots)?;
        let (_, suite) = ROOT_SUITES[0];
        let url = format!("{}/dists/{suite}/Release", self.mirror.debian);
        let call = self.host.call("/usr/lib/apt/apt-helper").env("APT_CONFIG", &conf);
        let call =
            call.args(["-o", "Acquire::http::Timeout=10", "-o", "Acquire::Retries=0", "download-file"]);
        let asked = call.arg(url).arg(self.store.temporary().join("reach")).run(&self.log("reach"));
        Ok(asked?)
    }

    /// Makes sure that `files` lie in the store, whole, and gives their paths in the same order.
    pub fn fetch(&self, files: &[RemoteFile]) -> Result<Vec<PathBuf>, AptError> {
        let place = |file: &RemoteFile| self.store.files().join(file.stored_name());
        let is_there =
            |file: &RemoteFile| Digest::of_file(&place(file)).is_ok_and(|digest| digest == file.sha256);
        let mut missing: Vec<_> = files.iter().filter(|file| !is_there(file)).collect();
        missing.sort_by_key(|file| file.stored_name());
        missing.dedup();
        if missing.is_empty() {
            return Ok(files.iter().map(place).collect());
        }
        let bytes: u64 = missing.iter().map(|file| file.size).sum();
        self.progress.step(&format!("fetching {} files, {} MB", missing.len(), bytes.div_ceil(1_000_000)));
        let folder = tempfile::Builder::new()
            .prefix("fetch-")
            .tempdir_in(self.store.temporary())
            .map_err(|source| AptError::Io { path: self.store.temporary().to_owned(), source })?;
        let conf = self.configure(Sources::Roots)?;
        let log = self.log("fetch");
        // apt-helper fetches several files at once and goes on after one that fails; what is
        // really there is looked up afterwards, by digest.
        let mut call =
            self.host.call("/usr/lib/apt/apt-helper").env("APT_CONFIG", &conf).arg("download-file");
        for file in &missing {
            call = call
                .arg(file.url(&self.mirror))
                .arg(folder.path().join(file.stored_name()))
                .arg(format!("SHA256:{}", file.sha256));
        }
        let fetched = call.run(&log);
        if let Err(error @ (HostError::Cancelled | HostError::NotStarted { .. })) = fetched {
            return Err(error.into());
        }
        let mut absent: Vec<RemoteFile> = Vec::new();
        for file in missing {
            let path = folder.path().join(file.stored_name());
            if Digest::of_file(&path).is_ok_and(|digest| digest == file.sha256) {
                let to = place(file);
                fs::rename(&path, &to).map_err(|source| AptError::Io { path: to, source })?;
            } else {
                absent.push(file.clone());
            }
        }
        if absent.is_empty() {
            return Ok(files.iter().map(place).collect());
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        let mirror = self.mirror.debian.clone();
        if absent.iter().all(|file| is_refused(&said, file)) {
            return Err(AptError::Missing { mirror, missing: absent });
        }
        // apt has many words for a full disk, or none.
        let room = rustix::fs::statvfs(folder.path()).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize);
        let wanted: u64 = absent.iter().map(|file| file.size).sum();
        if room < wanted || said.contains("No space left on device") {
            return Err(AptError::NoRoom { folder: self.store.root().to_owned(), wanted, room });
        }
        let errors: Vec<_> = said.lines().filter(|line| line.starts_with("E: ")).take(5).collect();
        Err(AptError::Fetch { mirror, missing: absent, log: errors.join("\n") })
    }

    fn suites(&self, sources: Sources) -> &'static [(Archive, &'static str)] {
        match sources {
            Sources::Roots => &ROOT_SUITES,
            Sources::Kernels => &KERNEL_SUITES,
            Sources::Projects => &PROJECT_SUITES,
        }
    }

    fn folder(&self, sources: Sources) -> PathBuf {
        let mirror = format!("{}\n{}", self.mirror.debian, self.mirror.security);
        let name = match sources {
            Sources::Roots => "roots",
            Sources::Kernels => "kernels",
            Sources::Projects => "projects",
        };
        self.store.root().join("apt").join(Digest::of_bytes(mirror.as_bytes()).short()).join(name)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.store.temporary().join(format!("apt-{name}.log"))
    }

    /// Writes our apt configuration and gives its path.
    fn configure(&self, sources: Sources) -> Result<PathBuf, AptError> {
        let folder = self.folder(sources);
        let at = |source, path: &Path| AptError::Io { path: path.to_owned(), source };
        for dir in ["state/lists/partial", "cache/archives/partial"] {
            let dir = folder.join(dir);
            fs::create_dir_all(&dir).map_err(|source| at(source, &dir))?;
        }
        let list = conf::sources_list(
            &self.mirror,
            self.suites(sources),
            sources.has_packages(),
            sources.has_sources(),
        );
        let conf = conf::configuration(&folder, &self.acquire_settings()?.text);
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            // Written only when changed: another run may be reading it.
            if fs::read_to_string(&path).is_ok_and(|old| old == text) {
                return Ok(path);
            }
            let new = folder.join(format!("{name}.{}", std::process::id()));
            fs::write(&new, text)
                .and_then(|()| fs::rename(&new, &path))
                .map_err(|source| at(source, &path))?;
            Ok(path)
        };
        write("sources.list", &list)?;
        write("status", "")?;
        write("apt.conf", &conf)
    }

    /// Proxies, time limits and the like of the host.
    fn acquire_settings(&self) -> Result<Acquire, AptError> {
        let shell = self.host.shell(Path::new("."))?;
        Ok(acquire::sort(&quick::read(cmd!(shell, "apt-config dump"))?))
    }

    /// Settings of the host that were not taken over, though somebody may count on them; one line each.
    pub fn left_out(&self) -> Result<Vec<String>, AptError> {
        let mut all = self.acquire_settings()?.left_out;
        all.extend(self.mirror.left_out.iter().cloned());
        Ok(all)
    }

    /// Fetches the lists if they are old, and gives the configuration to use them with.
    fn lists(&self, sources: Sources) -> Result<PathBuf, AptError> {
        let conf = self.configure(sources)?;
        let folder = self.folder(sources);
        let stamp = folder.join("fetched");
        let is_fresh = || {
            let fetched = fs::metadata(&stamp).and_then(|data| data.modified());
            fetched.is_ok_and(|at| is_fresh_at(at, SystemTime::now()))
        };
        if is_fresh() {
            return Ok(conf);
        }
        let name =
            folder.strip_prefix(self.store.root()).unwrap_or(&folder).to_string_lossy().replace('/', "-");
        let _lock = self.store.lock(&name, self.progress, self.host.cancel())?;
        if is_fresh() {
            return Ok(conf);
        }
        self.progress.step("fetching package lists");
        let log = self.log("update");
        let updated = self.host.call("apt-get").env("APT_CONFIG", &conf).args(["update", "-q"]).run(&log);
        let tail = match updated {
            Ok(()) => String::new(),
            Err(HostError::Failed { tail, .. }) => tail,
            Err(error) => return Err(error.into()),
        };
        if self.read_lists(sources)?.is_empty() {
            return Err(AptError::NoLists { mirror: self.mirror.debian.clone(), log: tail });
        }
        // One suite that is missing or expired does not spoil the others; a network that fails is
        // tried again by the next run.
        let mut settled = true;
        for line in tail.lines().filter_map(|line| line.trim().strip_prefix("| E: ")) {
            self.progress.note(&format!("package lists: {line}"));
            settled &= line.contains("Release");
        }
        if !settled {
            return Ok(conf);
        }
        // By our own clock: a file system of another host's has another, and may be ahead of it.
        let written = File::create(&stamp).and_then(|file| file.set_modified(SystemTime::now()));
        written.map_err(|source| AptError::Io { path: stamp, source })?;
        Ok(conf)
    }

    /// The texts of all `Packages` lists, or `Sources` where there are no others, with the archive that each
    /// belongs to.
    fn read_lists(&self, sources: Sources) -> Result<Vec<(Archive, String)>, AptError> {
        let conf = self.configure(sources)?;
        let kind = if sources.has_packages() { "Created-By: Packages" } else { "Created-By: Sources" };
        let answer = self
            .host
            .call("apt-get")
            .env("APT_CONFIG", &conf)
            .args(["indextargets", "--format", "$(REPO_URI) $(FILENAME)", kind])
            .read(&self.log("targets"))?;
        let mut lists = Vec::new();
        for line in answer.lines() {
            let Some((uri, path)) = line.split_once(' ') else { continue };
            let Some(archive) = self.archive_of(uri) else { continue };
            let bytes =
                fs::read(path).map_err(|source| AptError::Io { path: PathBuf::from(path), source })?;
            lists.push((archive, String::from_utf8_lossy(&bytes).into_owned()));
        }
        Ok(lists)
    }

    fn archive_of(&self, url: &str) -> Option<Archive> {
        // The longer base first: one may begin with the other.
        let mut archives = [Archive::Debian, Archive::Security];
        archives.sort_by_key(|archive| std::cmp::Reverse(archive.base(&self.mirror).len()));
        archives.into_iter().find(|archive| {
            url.strip_prefix(archive.base(&self.mirror))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// `'URL' FILE SIZE SHA256:…`; the version is filled in later.
    fn parse_uri(&self, line: &str) -> Result<RemoteFile, AptError> {
        let bad = || AptError::Answer { line: line.to_owned() };
        let (url, rest) = line.strip_prefix('\'').and_then(|line| line.split_once('\'')).ok_or_else(bad)?;
        let mut words = rest.split_whitespace();
        let (_, size, hash) = (words.next(), words.next(), words.next());
        let archive = self.archive_of(url).ok_or_else(bad)?;
        let path = decode_percent(url[archive.base(&self.mirror).len()..].trim_start_matches('/'));
        Ok(RemoteFile {
            name: path.rsplit('/').next().and_then(|file| file.split('_').next()).ok_or_else(bad)?.to_owned(),
            version: String::new(),
            archive,
            path,
            size: size.and_then(|size| size.parse().ok()).ok_or_else(bad)?,
            sha256: hash
                .and_then(|hash| hash.strip_prefix("SHA256:"))
                .and_then(|hash| Digest::try_from(hash.to_owned()).ok())
                .ok_or_else(bad)?,
        })
    }

    /// Fills in names and versions from the index.
    fn describe(&self, sources: Sources, files: Vec<RemoteFile>) -> Result<Vec<RemoteFile>, AptError> {
        let wanted: BTreeMap<_, _> =
            files.iter().enumerate().map(|(idx, file)| (file.sha256.clone(), idx)).collect();
        let mut described = files.clone();
        for (archive, text) in self.read_lists(sources)? {
            let names: std::collections::BTreeSet<_> = files.iter().map(|file| file.name.as_str()).collect();
            for file in parse_index(&text, archive, |name| names.contains(name)) {
                if let Some(&idx) = wanted.get(&file.sha256) {
                    described[idx].name = file.name;
                    described[idx].version = file.version;
                }
            }
        }
        match described.iter().find(|file| file.version.is_empty()) {
            Some(file) => Err(AptError::Answer { line: file.path.clone() }),
            None => {
                described.sort();
                Ok(described)
            }
        }
    }
}

/// True for lists that were fetched within the last hours, and false for a time in the future: then the clock
/// was set back since, and nobody knows by how much.
fn is_fresh_at(fetched: SystemTime, now: SystemTime) -> bool {
    now.duration_since(fetched).is_ok_and(|age| age < FRESH)
}

/// True if apt's log says that the mirror itself has no such file, or another by its name.
fn is_refused(log: &str, file: &RemoteFile) -> bool {
    let path = file.path.replace('+', "%2b");
    log.lines().filter(|line| line.starts_with("E: ")).any(|line| {
        (line.contains(&file.path) || line.contains(&path))
            && ["404 ", "410 ", "Hash Sum mismatch", "unexpected size", "File not found"]
                .iter()
                .any(|reason| line.contains(reason))
    })
}

fn decode_percent(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let decoded = (first == b'%')
            .then(|| {
                std::str::from_utf8(after.get(..2)?).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
            })
            .flatten();
        match decoded {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_from_the_future_are_not_fresh() {
        let now = SystemTime::now();
        assert!(is_fresh_at(now, now) && is_fresh_at(now - FRESH / 2, now));
        assert!(!is_fresh_at(now - FRESH, now));
        assert!(!is_fresh_at(now + Duration::from_secs(1), now), "the clock was set back");
    }

    #[test]
    fn percent_signs_are_decoded() {
        assert_eq!(decode_percent("libc6_2.41-12%2bdeb13u4"), "libc6_2.41-12+deb13u4");
        assert_eq!(decode_percent("100%"), "100%");
    }

    #[test]
    fn only_the_mirrors_own_word_makes_a_file_missing() {
        let sha = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let file: RemoteFile = format!("kmod 1+2 debian pool/kmod_1+2.deb 1 {sha}").parse().unwrap();
        let gone = "E: Failed to fetch http://m.example/debian/pool/kmod_1%2b2.deb  404  Not Found";
        assert!(is_refused(gone, &file));
        for other in [
            "E: Failed to fetch http://m.example/debian/pool/kmod_1%2b2.deb  Could not resolve 'm.example'",
            "E: Failed to fetch http://m.example/debian/pool/other.deb  404  Not Found",
            "",
        ] {
            assert!(!is_refused(other, &file), "{other}");
        }
    }
}
