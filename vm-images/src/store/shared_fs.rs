//! Tells whether locks in a folder hold. On a file system that several hosts have mounted they do only if its
//! server keeps them.
//!
//! The store relies on locks to know which temporary folders are left over, and who builds in which folder.
//! If hosts do not see each other's locks, one removes the folders of the other's running processes. Pure:
//! takes the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)); only [`why_not`] reads it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    /// `nfs4`, `fuse.sshfs`.
    kind: String,
    /// Options of the mount and of the file system.
    options: Vec<String>,
}

/// File systems whose locks their server keeps, unless an option says otherwise.
const LOCKED_BY_SERVER: [&str; 2] = ["nfs", "nfs4"];
/// Options of nfs(5) by which locks of flock(2) stay on the host.
const LOCAL_LOCKS: [&str; 3] = ["nolock", "local_lock=all", "local_lock=flock"];
/// Other network file systems: whether their locks reach other hosts depends on versions and settings that
/// cannot be seen from here.
const UNKNOWN_LOCKS: [&str; 22] = [
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "virtiofs",
    "afs",
    "coda",
    "ncpfs",
    "vboxsf",
    "prl_fs",
    "fuse.sshfs",
    "fuse.vmhgfs-fuse",
    "fuse.glusterfs",
    "fuse.s3fs",
    "fuse.rclone",
    "fuse.gcsfuse",
    "fuse.davfs",
    "fuse.davfs2",
    "fuse.curlftpfs",
    "fuse.smbnetfs",
    "fuse.juicefs",
    "fuse.gvfsd-fuse",
];

/// Why locks in `folder` do not hold; `None` if they do.
pub(crate) fn why_not(folder: &Path) -> Option<String> {
    // A host without it has other troubles than this one.
    let text = std::fs::read("/proc/self/mountinfo").ok()?;
    why_not_on(mount_of(&String::from_utf8_lossy(&text), folder)?)
}

fn why_not_on(mount: Mount) -> Option<String> {
    let Mount { point, kind, options } = mount;
    if LOCKED_BY_SERVER.contains(&kind.as_str()) {
        let local = options.iter().find(|option| LOCAL_LOCKS.contains(&option.as_str()))?;
        return Some(format!("`{}` is {kind} mounted with {local}", point.display()));
    }
    UNKNOWN_LOCKS.contains(&kind.as_str()).then(|| format!("`{}` is {kind}", point.display()))
}

/// The mount that an absolute path without links lies on.
fn mount_of(mountinfo: &str, path: &Path) -> Option<Mount> {
    let mounts = mountinfo.lines().filter_map(parse).filter(|mount| path.starts_with(&mount.point));
    // Of two on one place, the later one is seen.
    mounts.max_by_key(|mount| mount.point.components().count())
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue`
fn parse(line: &str) -> Option<Mount> {
    let (of_mount, of_system) = line.split_once(" - ")?;
    let mut of_mount = of_mount.split(' ').skip(4);
    let (point, options) = (unescape(of_mount.next()?), of_mount.next()?);
    let mut of_system = of_system.split(' ');
    let kind = of_system.next()?.to_owned();
    let more = of_system.nth(1).unwrap_or_default();
    let options = options.split(',').chain(more.split(',')).map(str::to_owned).collect();
    Some(Mount { point, kind, options })
}

/// Blanks and the like are written as three octal digits: `\040`.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| digits.iter().all(|digit| (b'0'..b'8').contains(digit)));
        match digits {
            Some(digits) if first == b'\\' => {
                bytes.push(
                    digits.iter().fold(0u8, |all, digit| all.wrapping_mul(8).wrapping_add(digit - b'0')),
                );
                rest = &after[3..];
            }
            Some(_) | None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
25 22 0:22 / /tmp rw,nosuid,nodev shared:5 - tmpfs tmpfs rw,size=8g
40 22 0:50 / /home rw,relatime shared:9 - btrfs /dev/sdb rw,space_cache=v2
41 22 0:60 / / rw,relatime - fuse.fuse-overlayfs fuse-overlayfs rw,user_id=0
";

    /// Lines as kernels write them; `None` where locks hold.
    fn check(line: &str, folder: &str, expect: Option<&str>) {
        let found = mount_of(&format!("{LOCAL}{line}\n"), Path::new(folder)).and_then(why_not_on);
        assert_eq!(found.as_deref(), expect, "{line}");
    }

    #[test]
    fn locks_that_a_server_keeps_hold() {
        let line = |options: &str| {
            format!(
                "99 22 0:52 / /home/me rw,relatime shared:70 - nfs4 server:/home rw,vers=4.2,hard,{options},addr=192.0.2.1"
            )
        };
        check(&line("local_lock=none"), "/home/me/.cache", None);
        check(&line("local_lock=posix"), "/home/me/.cache", None);
        check(
            &line("local_lock=all"),
            "/home/me/.cache",
            Some("`/home/me` is nfs4 mounted with local_lock=all"),
        );
        check(
            &line("local_lock=flock"),
            "/home/me",
            Some("`/home/me` is nfs4 mounted with local_lock=flock"),
        );
        check(&line("local_lock=all"), "/home/meadow", None);
        let version_3 = "99 22 0:52 / /srv/a\\040b rw - nfs server:/b rw,vers=3,nolock,proto=tcp,mountvers=3,local_lock=all";
        check(version_3, "/srv/a b/store", Some("`/srv/a b` is nfs mounted with nolock"));
        check(version_3, "/srv", None);
    }

    #[test]
    fn other_hosts_file_systems_are_refused() {
        check(
            "99 22 0:5 / /mnt/s rw - cifs //server/share rw,vers=3.1.1,nobrl",
            "/mnt/s/x",
            Some("`/mnt/s` is cifs"),
        );
        check(
            "99 22 0:5 / /mnt/s rw - 9p host rw,trans=virtio,access=client",
            "/mnt/s",
            Some("`/mnt/s` is 9p"),
        );
        check(
            "99 22 0:5 / /m rw - fuse.sshfs me@there:/ rw,user_id=1000",
            "/m/x",
            Some("`/m` is fuse.sshfs"),
        );
        check("99 22 0:5 / /m rw - fuse.mergerfs a:b rw", "/m/x", None);
    }

    #[test]
    fn what_is_mounted_last_and_deepest_counts() {
        check("", "/home/me", None);
        // Over it lies a local disk.
        let over =
            "98 22 0:5 / /home/me rw - cifs //s/s rw\n99 98 8:1 / /home/me/.cache rw - ext4 /dev/sdc rw";
        check(over, "/home/me/.cache/md-regress", None);
        check(over, "/home/me/store", Some("`/home/me` is cifs"));
        let twice = "98 22 0:5 / /home/me rw - cifs //s/s rw\n99 22 8:1 / /home/me rw - ext4 /dev/sdc rw";
        check(twice, "/home/me", None);
        for damaged in ["", "1 2", "36 35 98:0 / /x rw", " - ", "36 35 98:0 / /x rw -"] {
            check(damaged, "/home/me", None);
        }
    }

    #[test]
    fn this_host_can_be_asked() {
        assert!(
            mount_of(&std::fs::read_to_string("/proc/self/mountinfo").unwrap(), Path::new("/")).is_some()
        );
    }
}
