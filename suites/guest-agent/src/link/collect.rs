//! Bringing files back: expands patterns and sends what matches over the files port.
//!
//! Runs in a process of its own, because a file that a test left on a wedged array may never
//! answer an `open`: then only this process is lost, and the agent goes on. Only regular files
//! are sent; a symbolic link at the end of a path is not followed. [`matches`] is pure.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use protocol::codec::encode;
use protocol::wire::{MAX_CHUNK, Message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// Paths that a collection looks at, at most.
const MAX_PATHS: usize = 10_000;

/// How long a collection waits for a host that does not read.
const PATIENCE: Duration = Duration::from_secs(60);

/// True if a name matches one component of a pattern: `*`, `?`, `[abc]`, `[a-z]`, `[!a]`.
/// As in a shell, a leading dot must be asked for.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // The classic two-finger walk: on a mismatch, the last star takes one more character. So
    // the cost is bounded by the product of the lengths, whatever the pattern.
    let (mut p, mut n, mut retry) = (0, 0, None);
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p + 1, n + 1));
            p += 1;
        } else if let Some(width) = match_one(&pattern[p..], name[n]) {
            p += width;
            n += 1;
        } else if let Some((after_star, next)) = retry {
            retry = Some((after_star, next + 1));
            (p, n) = (after_star, next);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// Matches one character; returns how much of the pattern that took.
fn match_one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => match bracket(pattern, c) {
            Some((true, width)) => Some(width),
            Some((false, _)) => None,
            // Without its end it is an ordinary character.
            None => (c == '[').then_some(1),
        },
        &literal => (literal == c).then_some(1),
    }
}

/// Looks for `c` in the set that begins the pattern: whether it is there, and the length of the set.
fn bracket(pattern: &[char], c: char) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = if negated { 2 } else { 1 };
    // A `]` that comes first is a member.
    let end = first + 1 + pattern.get(first + 1..)?.iter().position(|&c| c == ']')?;
    let set = &pattern[first..end];
    let (mut i, mut found) = (0, false);
    while i < set.len() {
        if i + 2 < set.len() && set[i + 1] == '-' {
            found |= (set[i]..=set[i + 2]).contains(&c);
            i += 3;
        } else {
            found |= set[i] == c;
            i += 1;
        }
    }
    Some((found != negated, end + 1))
}

/// The paths that match an absolute pattern, sorted. Links that are not last are followed.
fn expand(pattern: &str) -> Result<BTreeSet<PathBuf>, &'static str> {
    if !pattern.starts_with('/') || pattern.contains('\0') {
        return Err("is no absolute pattern");
    }
    if pattern.split('/').any(|component| component == "..") {
        return Err("holds `..`");
    }
    let mut found = BTreeSet::from([PathBuf::from("/")]);
    for component in pattern.split('/').filter(|c| !c.is_empty() && *c != ".") {
        found = if component.contains(['*', '?', '[']) {
            let names = |dir: &PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
            let fits = |entry: &fs::DirEntry| matches(component, &entry.file_name().to_string_lossy());
            found.iter().flat_map(names).filter(fits).take(MAX_PATHS).map(|entry| entry.path()).collect()
        } else {
            found.into_iter().map(|dir| dir.join(component)).collect()
        };
    }
    Ok(found)
}

/// Opens a regular file without following a link; `None` if it is something else.
fn open_regular(path: &Path) -> io::Result<Option<(OwnedFd, u64)>> {
    // Opening a device can have effects: look before.
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(regular.then(|| (fd, u64::try_from(stat.st_size).unwrap_or(0))))
}

/// Writes a whole message to the port, waiting for the host as long as patience lasts.
fn send(message: &Message) -> io::Result<()> {
    write_all(&encode(message))
}

fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    let port = rustix::stdio::stdout();
    while !bytes.is_empty() {
        match rustix::io::write(port, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for_host()?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn wait_for_host() -> io::Result<()> {
    let port = rustix::stdio::stdout();
    let mut waited = Duration::ZERO;
    while waited < PATIENCE {
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        let mut fds = [PollFd::new(&port, PollFlags::OUT)];
        match poll(&mut fds, Some(&second)) {
            Ok(0) | Err(Errno::INTR) => waited += Duration::from_secs(1),
            Ok(_) if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) => {
                // Without a host, poll returns at once, always: wait by the clock.
                let pause = Duration::from_millis(20);
                std::thread::sleep(pause);
                waited += pause;
            }
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::from(io::ErrorKind::TimedOut))
}

/// The collector: sends the files and says how many. Arguments: attempt, limit, patterns.
pub(crate) fn collect_main(mut args: impl Iterator<Item = String>) -> ExitCode {
    // When memory ends, the files are worth less than the agent that tells of it.
    let _ = fs::write("/proc/self/oom_score_adj", "0");
    let attempt = args.next().and_then(|attempt| attempt.parse().ok());
    let max_bytes = args.next().and_then(|max_bytes| max_bytes.parse().ok());
    let (Some(attempt), Some(max_bytes)) = (attempt, max_bytes) else {
        eprintln!("md-regress-agent: collect needs an attempt and a limit");
        return ExitCode::from(2);
    };
    match send_files(attempt, max_bytes, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("md-regress-agent: files of attempt {attempt} were not sent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn send_files(attempt: u32, max_bytes: u64, patterns: impl Iterator<Item = String>) -> io::Result<()> {
    // Ends a line that an interrupted collection may have left.
    write_all(b"\n")?;
    let (mut n_files, mut n_left_out) = (0, 0);
    let mut room = max_bytes;
    let mut seen = BTreeSet::new();
    for pattern in patterns {
        let paths = match expand(&pattern) {
            Ok(paths) => paths,
            Err(reason) => {
                eprintln!("md-regress-agent: `{pattern}` {reason}");
                n_left_out += 1;
                continue;
            }
        };
        for path in paths {
            if !seen.insert(path.clone()) {
                continue;
            }
            match open_regular(&path) {
                Ok(None) => {}
                Ok(Some((fd, size))) if size <= room => {
                    room -= send_file(attempt, n_files, &path, &fd, size, room)?;
                    n_files += 1;
                }
                Ok(Some(_)) | Err(_) => n_left_out += 1,
            }
        }
    }
    send(&Message::Collected { attempt, n_files, n_left_out })
}

/// Sends one file, at most `room` bytes of it, and returns how many it was.
fn send_file(
    attempt: u32,
    file_idx: u32,
    path: &Path,
    fd: &OwnedFd,
    size: u64,
    room: u64,
) -> io::Result<u64> {
    let path = path.to_string_lossy().into_owned();
    send(&Message::FileStart { attempt, file_idx, path, size })?;
    let mut sent = 0;
    let mut buffer = vec![0; MAX_CHUNK];
    // The size is no promise: a log still grows, and files in /proc and /sys do not say theirs.
    let error = loop {
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => break None,
            Ok(n) if sent + n as u64 > room => break Some("cut: no room for more".to_owned()),
            Ok(n) => {
                sent += n as u64;
                send(&Message::FileData { attempt, file_idx, data: buffer[..n].to_vec() })?;
            }
            Err(Errno::INTR) => {}
            Err(error) => break Some(error.to_string()),
        }
    };
    send(&Message::FileEnd { attempt, file_idx, error })?;
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        let check = |pattern, name, expected| {
            assert_eq!(matches(pattern, name), expected, "{pattern} against {name}");
        };
        check("*", "core.bash.7", true);
        check("*", "", true);
        check("*", ".hidden", false);
        check(".h*", ".hidden", true);
        check("core.*.7", "core.bash.7", true);
        check("core.*.7", "core.bash.77", false);
        check("*a*b", "xaxbxb", true);
        check("?", "é", true);
        check("??", "a", false);
        check("md[0-9]", "md7", true);
        check("md[!0-9]", "md7", false);
        check("md[^a]x", "mdbx", true);
        check("[]a]", "]", true);
        check("[a-]", "-", true);
        check("[a", "[a", true);
        check("", "", true);
        check("", "a", false);
    }

    #[test]
    fn expansion_is_sorted_and_finds_what_is_there() {
        let dir = std::env::temp_dir().join(format!("md-regress-collect-{}", std::process::id()));
        fs::create_dir_all(dir.join("b")).unwrap();
        for name in ["b/2.log", "b/1.log", "b/3.txt", "a.log"] {
            fs::write(dir.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("b/1.log", dir.join("link.log")).unwrap();
        let found = expand(&format!("{}/b/*.log", dir.display())).unwrap();
        assert!(found.into_iter().eq([dir.join("b/1.log"), dir.join("b/2.log")]));
        assert!(expand(&format!("{}/?/[12].log", dir.display())).unwrap().len() == 2);
        assert!(expand(&format!("{}/no/*", dir.display())).unwrap().is_empty());
        assert_eq!(open_regular(&dir.join("a.log")).unwrap().unwrap().1, 5);
        assert!(open_regular(&dir.join("link.log")).unwrap().is_none());
        assert!(open_regular(&dir.join("b")).unwrap().is_none());
        assert!(open_regular(&dir.join("none")).unwrap().is_none());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn only_absolute_patterns_without_detours() {
        assert!(expand("etc/passwd").is_err());
        assert!(expand("/a/../etc/passwd").is_err());
    }

    proptest! {
        #[test]
        fn a_name_matches_itself_and_stars(name in "[a-z.]{1,20}", at in 0usize..20) {
            prop_assert!(matches(&name, &name));
            let at = at.min(name.len());
            let starred = format!("{}*{}", &name[..at], &name[at..]);
            prop_assert_eq!(matches(&starred, &name), at > 0 || !name.starts_with('.'));
        }

        #[test]
        fn any_pattern_ends(pattern in "[*?a\\[\\]!-]{0,30}", name in "[a-c]{0,30}") {
            let _ = matches(&pattern, &name);
        }
    }
}
