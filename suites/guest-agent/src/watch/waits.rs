//! Which block device a task waits for, by the file of its system call or by the thread's name; and which IO
//! is done on that device and on the devices below it that it shares with no other.
//!
//! Opens no file of the test's. Deliberately not here: what standing still means, which is the harness's
//! business.

use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use protocol::sample::{DEVICE_MAX, Storage, Sync, TaskSample};

use crate::watch::disks::{Disks, Stack, of_dm};
use crate::watch::ends::{Ends, EndsMs};
use crate::watch::mdstat::Mdstat;
use crate::watch::sleeps::Call;

/// How long a stack of devices is remembered, and which of them are suspended.
const REMEMBERED: Duration = Duration::from_secs(3);
/// Longest path that is read from a task.
const PATH_MAX: usize = 256;
/// `struct dm_ioctl` (dm-ioctl.h): its length, and where the device's number, name and uuid are in it.
const DM_IOCTL_LEN: usize = 305;
const DM_DEV_AT: usize = 40;
const DM_NAME_AT: usize = 48;
const DM_UUID_AT: usize = 176;

/// A stack of devices as sysfs shows it.
#[derive(Clone)]
struct Known {
    stack: Stack,
    is_suspended: bool,
    /// The dm devices' own names.
    dm_names: Vec<String>,
    at: Instant,
}

/// The devices that tasks wait for, as far as they are known.
pub(crate) struct Waits {
    known: HashMap<String, Known>,
    ends: Ends,
}

/// The readings that all looks of one sample share.
pub(crate) struct Round<'a> {
    pub(crate) disks: &'a Disks,
    pub(crate) mdstat: &'a Mdstat,
    pub(crate) syncs: &'a [Sync],
}

impl Waits {
    /// Begins to look.
    pub(crate) fn watch() -> Self {
        Waits { known: HashMap::new(), ends: Ends::watch() }
    }

    /// Fills in which device each of `tasks`, which may stand still or spin, waits for.
    pub(crate) fn look(&mut self, tasks: &mut [&mut TaskSample], round: &Round<'_>) {
        let ends = self.ends.newest(tasks.iter().any(|task| task.state != 'R'));
        self.known.retain(|_, known| known.at.elapsed() < REMEMBERED);
        for task in tasks {
            let device = device_of(task, round.disks).unwrap_or_default();
            task.storage = Some(self.storage(device, round, &ends));
        }
    }

    fn storage(&mut self, device: String, round: &Round<'_>, ends: &EndsMs) -> Storage {
        let Round { disks, mdstat, syncs } = *round;
        let known = self.known.entry(device.clone()).or_insert_with(|| Known::look(&device, disks));
        let done = disks.sum(&known.stack.own);
        let of_disks = known.stack.all.iter().map(|name| disks.ends_ms(name));
        let of_dm = known.dm_names.iter().filter_map(|name| ends.get(name).copied());
        let mut hasher = DefaultHasher::new();
        if device.is_empty() {
            (mdstat.all).hash(&mut hasher);
        }
        known.stack.all.iter().for_each(|name| mdstat.arrays.get(name).hash(&mut hasher));
        for sync in syncs.iter().filter(|sync| known.dm_names.contains(&sync.array)) {
            sync.position.hash(&mut hasher);
        }
        Storage {
            done: done.done,
            reads: done.reads,
            syncs: hasher.finish(),
            is_busy: disks.of_storage().any(|name| name == device)
                && disks.sum(std::iter::once(&device)).in_flight > 0,
            is_suspended: known.is_suspended,
            ends_ms: of_disks.chain(of_dm).max().unwrap_or(0),
            device: device.chars().take(DEVICE_MAX).collect(),
        }
    }
}

impl Known {
    fn look(device: &str, disks: &Disks) -> Self {
        let stack = match device {
            "" => Stack::below(disks.of_storage()),
            device => Stack::below([device]),
        };
        let dm_names = stack.all.iter().filter_map(|name| of_dm(name, "name")).collect();
        let is_suspended = stack.all.iter().any(|name| of_dm(name, "suspended").as_deref() == Some("1"));
        Known { stack, is_suspended, dm_names, at: Instant::now() }
    }
}

/// The name of the device that a task waits for, as far as that can be found out.
fn device_of(task: &TaskSample, disks: &Disks) -> Option<String> {
    if !task.of_test {
        return of_thread(&task.comm, disks).map(str::to_owned);
    }
    let pid = task.pid;
    let call = Call::parse(&fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?);
    if let Some(fd) = call.file() {
        return of_file(pid, fd, &call, disks);
    }
    let path = text_at(pid, call.path()?, PATH_MAX)?;
    // Looking at a path elsewhere could wait for the very file system that hangs.
    let device = path.starts_with("/dev/").then(|| fs::metadata(&path).ok()).flatten()?;
    named(device.rdev(), disks)
}

/// The device in a thread's name: `md0_resync`, `jbd2/dm-0-8`, `xfsaild/dm-3`. The names of dm-raid's threads
/// (`mdX_…`) and of workers do not say which they serve.
fn of_thread<'a>(comm: &'a str, disks: &Disks) -> Option<&'a str> {
    if let Some((kind, of)) = comm.split_once('/') {
        let of = if kind == "jbd2" { of.rsplit_once('-').map_or(of, |(device, _)| device) } else { of };
        return disks.known(of);
    }
    disks.known(comm.rsplit_once('_')?.0)
}

fn of_file(pid: u32, fd: u64, call: &Call, disks: &Disks) -> Option<String> {
    let link = format!("/proc/{pid}/fd/{fd}");
    let path = fs::read_link(&link).ok()?;
    if path == Path::new("/dev/mapper/control") {
        let is_it = |device: &str, file, text: &str| of_dm(device, file).is_some_and(|found| found == text);
        return match dm_target_of(&bytes_at(pid, call.argument()?, DM_IOCTL_LEN)?)? {
            DmTarget::Numbers(major, minor) => disks.name_of(major, minor).map(str::to_owned),
            DmTarget::Text(file, text) => {
                disks.of_storage().find(|device| is_it(device, file, &text)).map(str::to_owned)
            }
        };
    }
    if path.starts_with("/dev") {
        return named(fs::metadata(&link).ok()?.rdev(), disks);
    }
    // `/sys/devices/virtual/block/md0/md/sync_action`
    if path.starts_with("/sys") {
        let mut parts = path.iter().skip_while(|part| *part != "block");
        return parts.nth(1)?.to_str().and_then(|name| disks.known(name)).map(str::to_owned);
    }
    // A file: the device that its file system is on.
    let fdinfo = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    let mount = fdinfo.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    mounted(&fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?, mount, disks)
}

/// The device of a mount, by `/proc/PID/mountinfo` (proc(5)): the first word names the mount, the third the
/// device's numbers.
fn mounted(mountinfo: &str, mount: &str, disks: &Disks) -> Option<String> {
    let numbers = mountinfo.lines().find_map(|line| {
        let mut words = line.split(' ');
        (words.next()? == mount).then(|| words.nth(1)).flatten()
    })?;
    let (major, minor) = numbers.split_once(':')?;
    disks.name_of(major.parse().ok()?, minor.parse().ok()?).map(str::to_owned)
}

fn named(rdev: u64, disks: &Disks) -> Option<String> {
    disks.name_of(rustix::fs::major(rdev), rustix::fs::minor(rdev)).map(str::to_owned)
}

/// How an ioctl of dm's names its device.
#[derive(Clone, Debug, PartialEq, Eq)]
enum DmTarget {
    Numbers(u32, u32),
    /// By what this file of its folder in sysfs holds.
    Text(&'static str, String),
}

/// The device that an ioctl names, looked up in the order of `__find_device_hash_cell` (dm-ioctl.c); the
/// number is encoded by `huge_encode_dev` (kdev_t.h).
fn dm_target_of(ioctl: &[u8]) -> Option<DmTarget> {
    let text = |at: usize| text_of(ioctl.get(at..)?).filter(|text| !text.is_empty());
    if let Some(uuid) = text(DM_UUID_AT) {
        return Some(DmTarget::Text("uuid", uuid));
    }
    if let Some(name) = text(DM_NAME_AT) {
        return Some(DmTarget::Text("name", name));
    }
    let dev = u64::from_ne_bytes(ioctl.get(DM_DEV_AT..DM_DEV_AT + 8)?.try_into().ok()?);
    let (major, minor) = (dev >> 8 & 0xfff, dev & 0xff | dev >> 12 & 0xfff00);
    (dev != 0).then_some(DmTarget::Numbers(u32::try_from(major).ok()?, u32::try_from(minor).ok()?))
}

/// A text in a task's memory, up to the NUL that ends it.
fn text_at(pid: u32, at: u64, length: usize) -> Option<String> {
    text_of(&bytes_at(pid, at, length)?)
}

fn text_of(bytes: &[u8]) -> Option<String> {
    Some(String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next()?).into_owned())
}

fn bytes_at(pid: u32, at: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    let n_read = File::open(format!("/proc/{pid}/mem")).ok()?.read_at(&mut bytes, at).ok()?;
    bytes.truncate(n_read);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks() -> Disks {
        Disks::parse(
            " 9 0 md0 1 0 8 0 1 0 8 0 7 0 0\n 252 3 dm-3 1 0 8 0 1 0 8 0 7 0 0\n 9 127 md_home 1 0 0 0 0 0 0\n",
        )
    }

    #[test]
    fn threads_are_named_after_what_they_serve() {
        let of = |comm| of_thread(comm, &disks()).map(str::to_owned);
        assert_eq!(of("md0_resync").as_deref(), Some("md0"));
        assert_eq!(of("md_home_raid1").as_deref(), Some("md_home"));
        assert_eq!(of("jbd2/dm-3-8").as_deref(), Some("dm-3"));
        assert_eq!(of("xfsaild/dm-3").as_deref(), Some("dm-3"));
        for comm in ["mdX_raid5", "kworker/0:1", "kworker/u4:2-md", "md7_raid1", "jbd2/dm-9-8", ""] {
            assert_eq!(of(comm), None, "{comm}");
        }
    }

    #[test]
    fn a_file_is_on_the_device_of_its_mount() {
        let mountinfo =
            "22 1 0:21 / /proc rw - proc proc rw\n31 1 252:3 / /mnt rw,relatime - ext4 /dev/mapper/x rw\n";
        assert_eq!(mounted(mountinfo, "31", &disks()).as_deref(), Some("dm-3"));
        assert_eq!(mounted(mountinfo, "22", &disks()), None, "on no device");
        assert_eq!(mounted(mountinfo, "3", &disks()), None);
    }

    #[test]
    fn an_ioctl_of_dms_names_its_device_in_three_ways() {
        let mut ioctl = vec![0; DM_IOCTL_LEN];
        assert_eq!(dm_target_of(&ioctl), None);
        // 252:259
        ioctl[DM_DEV_AT..DM_DEV_AT + 8].copy_from_slice(&(252_u64 << 8 | 3 | 0x100 << 12).to_ne_bytes());
        assert_eq!(dm_target_of(&ioctl), Some(DmTarget::Numbers(252, 259)));
        ioctl[DM_NAME_AT..DM_NAME_AT + 5].copy_from_slice(b"vg-lv");
        assert_eq!(dm_target_of(&ioctl), Some(DmTarget::Text("name", "vg-lv".into())));
        ioctl[DM_UUID_AT..DM_UUID_AT + 4].copy_from_slice(b"LVM-");
        assert_eq!(dm_target_of(&ioctl), Some(DmTarget::Text("uuid", "LVM-".into())));
        assert_eq!(dm_target_of(&ioctl[..20]), None);
    }

    #[test]
    fn a_text_is_read_where_a_call_points_to() {
        let text = c"/dev/md0";
        let found = text_at(std::process::id(), text.as_ptr() as u64, PATH_MAX);
        assert_eq!(found.as_deref(), Some("/dev/md0"));
        assert_eq!(text_at(std::process::id(), 8, 4), None);
    }

    #[test]
    fn what_a_task_waits_for_is_told_with_what_was_done_there() {
        let mut waits = Waits::watch();
        let mut task = TaskSample {
            pid: 1,
            comm: "md0_resync".into(),
            of_test: false,
            state: 'D',
            sys_ms: 0,
            user_ms: 0,
            slices: 0,
            sleeps_ms: None,
            frames: vec![],
            storage: None,
        };
        let mut mdstat = Mdstat::default();
        let mut look = |mdstat: &Mdstat| {
            let round = Round { disks: &disks(), mdstat, syncs: &[] };
            waits.look(&mut [&mut task], &round);
            task.storage.clone().unwrap()
        };
        let first = look(&mdstat);
        assert_eq!((first.device.as_str(), first.done, first.reads, first.ends_ms), ("md0", 2, 1, 0));
        assert!(first.is_busy);
        mdstat.arrays.insert("md9".into(), 1);
        mdstat.all = 7;
        assert_eq!(look(&mdstat), first, "another array's");
        mdstat.arrays.insert("md0".into(), 1);
        assert_ne!(look(&mdstat).syncs, first.syncs);
    }
}
