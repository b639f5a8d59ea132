//! The block devices, by `/proc/diskstats`, and how they stand on each other, by sysfs.
//!
//! Takes no lock of a device, and sends none a request. Deliberately not here: who waits for one
//! ([`crate::watch::waits`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Devices below one that are followed.
const BELOW_MAX: usize = 512;
/// Where sysfs has a folder for each block device, partitions among them.
const CLASS: &str = "/sys/class/block";
/// Drivers that give up a request by themselves, and after how many times their timeout at most. SCSI tries
/// again up to five times and ends what has taken longer than all of them (scsi_lib.c,
/// `scsi_cmd_runtime_exceeced`); NVMe aborts the request, then resets the controller (nvme/host/pci.c,
/// `nvme_timeout`); null_blk ends it (null_blk/main.c, `null_timeout_rq`); MMC recovers its host and tries
/// again (mmc/core/queue.c). virtio-blk, loop and nbd without a timeout wait for ever.
const ENDS_AFTER: [(&str, u64); 5] = [("sd", 6), ("sr", 6), ("nvme", 3), ("nullb", 1), ("mmcblk", 4)];

/// The requests that a device has completed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Requests completed.
    pub(crate) done: u64,
    /// Reads among them.
    pub(crate) reads: u64,
    pub(crate) in_flight: u64,
}

impl Disk {
    /// Reads a line of `/proc/diskstats` (iostats.rst): fields 4, 8, 15 and 19 are reads, writes, discards
    /// and flushes; field 12 what is in flight.
    fn of(line: &str) -> Self {
        let mut disk = Disk::default();
        for (idx, word) in line.split_whitespace().enumerate() {
            let number = || word.parse::<u64>().unwrap_or(0);
            match idx {
                3 | 7 | 14 | 18 => disk.done = disk.done.wrapping_add(number()),
                11 => disk.in_flight = number(),
                _ => {}
            }
            if idx == 3 {
                disk.reads = number();
            }
        }
        disk
    }
}

/// The requests of all devices together, which are counted each second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) done: u64,
    pub(crate) reads: u64,
    /// All but reads, of md's and dm's devices.
    pub(crate) storage_writes: u64,
    /// Requests that the host's disks have not answered.
    pub(crate) host_io: u32,
}

impl Totals {
    /// Sums the lines of `/proc/diskstats`.
    pub(crate) fn of(diskstats: &str) -> Self {
        diskstats.lines().fold(Totals::default(), |sum, line| {
            let disk = Disk::of(line);
            let name = line.split_whitespace().nth(2).unwrap_or_default();
            let in_flight = if name.starts_with("vd") { disk.in_flight } else { 0 };
            let writes = if is_of_storage(name) { disk.done.wrapping_sub(disk.reads) } else { 0 };
            Totals {
                done: sum.done.wrapping_add(disk.done),
                reads: sum.reads.wrapping_add(disk.reads),
                storage_writes: sum.storage_writes.wrapping_add(writes),
                host_io: sum.host_io.saturating_add(u32::try_from(in_flight).unwrap_or(u32::MAX)),
            }
        })
    }
}

/// All devices at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disks {
    disks: BTreeMap<String, Disk>,
    /// `major:minor` → name.
    names: BTreeMap<String, String>,
}

impl Disks {
    /// Reads `/proc/diskstats`.
    pub(crate) fn parse(diskstats: &str) -> Self {
        let mut all = Disks::default();
        for line in diskstats.lines() {
            let mut words = line.split_whitespace();
            let (Some(major), Some(minor), Some(name)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            all.names.insert(format!("{major}:{minor}"), name.to_owned());
            all.disks.insert(name.to_owned(), Disk::of(line));
        }
        all
    }

    /// The requests of these devices, together.
    pub(crate) fn sum<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Disk {
        names.into_iter().filter_map(|name| self.disks.get(name)).fold(Disk::default(), |sum, disk| Disk {
            done: sum.done.wrapping_add(disk.done),
            reads: sum.reads.wrapping_add(disk.reads),
            in_flight: sum.in_flight.saturating_add(disk.in_flight),
        })
    }

    /// The name of the device with these numbers.
    pub(crate) fn name_of(&self, major: u32, minor: u32) -> Option<&str> {
        self.names.get(&format!("{major}:{minor}")).map(String::as_str)
    }

    /// The device of this name, if there is one.
    pub(crate) fn known<'a>(&self, name: &'a str) -> Option<&'a str> {
        self.disks.contains_key(name).then_some(name)
    }

    /// The devices of md and dm.
    pub(crate) fn of_storage(&self) -> impl Iterator<Item = &str> {
        self.disks.keys().map(String::as_str).filter(|name| is_of_storage(name))
    }

    /// Time after which the kernel ends a request in flight to this device, milliseconds; 0 if it never does.
    pub(crate) fn ends_ms(&self, name: &str) -> u64 {
        let times = times_of_timeout(name);
        if times == 0 || self.disks.get(name).is_none_or(|disk| disk.in_flight == 0) {
            return 0;
        }
        // A partition's queue is its disk's.
        let read = |queue: &str| fs::read_to_string(format!("{CLASS}/{name}/{queue}/io_timeout")).ok();
        let text = read("queue").or_else(|| read("../queue")).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(0).saturating_mul(times)
    }
}

/// A device of md's or dm's.
fn is_of_storage(name: &str) -> bool {
    name.starts_with("dm-") || name.starts_with("md")
}

/// How many times its timeout a request takes at most; 0 if nobody ends it.
fn times_of_timeout(name: &str) -> u64 {
    ENDS_AFTER.iter().find(|(beginning, _)| name.starts_with(beginning)).map_or(0, |(_, times)| *times)
}

/// How the devices stand on each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stack {
    /// The devices that were asked for, and all below them.
    pub(crate) all: BTreeSet<String>,
    /// The devices among them on which nothing else stands: their IO is done for the stack alone.
    pub(crate) own: BTreeSet<String>,
}

impl Stack {
    /// The stack below `tops`.
    pub(crate) fn below<'a>(tops: impl IntoIterator<Item = &'a str>) -> Self {
        Stack::by(tops, &|name, side| names_in(&Path::new(CLASS).join(name).join(side)))
    }

    fn by<'a>(tops: impl IntoIterator<Item = &'a str>, linked: &dyn Fn(&str, &str) -> Vec<String>) -> Self {
        let tops: BTreeSet<_> = tops.into_iter().map(str::to_owned).collect();
        let mut all = tops.clone();
        let mut next: Vec<_> = tops.iter().cloned().collect();
        while let Some(name) = next.pop()
            && all.len() < BELOW_MAX
        {
            let below = linked(&name, "slaves").into_iter();
            next.extend(below.filter(|name| all.insert(name.clone())));
        }
        let is_own = |name: &&String| {
            tops.contains(*name) || linked(name, "holders").iter().all(|holder| all.contains(holder))
        };
        let own = all.iter().filter(is_own).cloned().collect();
        Stack { all, own }
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// A file of a dm device's folder in sysfs: its `name`, or whether it is `suspended`. Nothing for others.
pub(crate) fn of_dm(device: &str, file: &str) -> Option<String> {
    let path = device.starts_with("dm-").then(|| format!("{CLASS}/{device}/dm/{file}"))?;
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISKSTATS: &str = " 253 0 vda 10 0 80 5 3 0 24 1 2 4 6 0 0 0 0 1 0\n   9 0 md0 1 0 8 0 1 0 8 0 7 0 0\n\
        8 0 sda 2 0 0 0 0 0 0 0 1 0 0\n 252 0 dm-0 0 0 0 0 4 0 0 0 0 0 0\n";

    #[test]
    fn requests_are_counted_and_those_of_the_host_apart() {
        let disks = Disks::parse(DISKSTATS);
        assert_eq!(Totals::of(DISKSTATS), Totals { done: 22, reads: 13, storage_writes: 5, host_io: 2 });
        assert_eq!(disks.name_of(9, 0), Some("md0"));
        assert_eq!(disks.of_storage().collect::<Vec<_>>(), ["dm-0", "md0"]);
        let names = ["md0".to_owned(), "dm-0".to_owned(), "gone".to_owned()];
        assert_eq!(disks.sum(&names), Disk { done: 6, reads: 1, in_flight: 7 });
        assert_eq!(disks.ends_ms("vda"), 0, "virtio-blk waits for ever");
    }

    #[test]
    fn drivers_that_end_a_request_are_known() {
        let times =
            ["sda1", "nvme0n1", "nullb0", "loop0", "vda", "dm-0", "md0", "ram0"].map(times_of_timeout);
        assert_eq!(times, [6, 3, 1, 0, 0, 0, 0, 0]);
    }

    /// Two LVs on two PVs, each of legs of its own.
    #[test]
    fn what_others_share_is_not_an_arrays_own() {
        let below: &[(&str, &[&str])] = &[
            ("dm-10", &["dm-2", "dm-3"]),
            ("dm-11", &["dm-4", "dm-5"]),
            ("dm-2", &["dm-0"]),
            ("dm-3", &["dm-1"]),
            ("dm-4", &["dm-0"]),
            ("dm-5", &["dm-9"]),
            ("dm-9", &["loop9"]),
        ];
        let linked = |name: &str, side: &str| -> Vec<String> {
            match side {
                "slaves" => below
                    .iter()
                    .filter(|(upper, _)| *upper == name)
                    .flat_map(|(_, lower)| lower.iter().map(|lower| (*lower).to_owned()))
                    .collect(),
                _ => below
                    .iter()
                    .filter(|(_, lower)| lower.contains(&name))
                    .map(|(upper, _)| (*upper).to_owned())
                    .collect(),
            }
        };
        let stack = Stack::by(["dm-10"], &linked);
        let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(names(&stack.all), "dm-0 dm-1 dm-10 dm-2 dm-3");
        assert_eq!(names(&stack.own), "dm-1 dm-10 dm-2 dm-3");
        let both = Stack::by(["dm-10", "dm-11"], &linked);
        assert_eq!(both.all, both.own);
    }
}
