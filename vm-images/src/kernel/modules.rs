//! Kernel modules: decompresses them, and chooses those that are needed to reach the guest's root. Pure but
//! for [`decompress`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// File of an artifact with the names of all modules that a kernel has, one a line.
pub(crate) const NAMES_FILE: &str = "modules.txt";

/// Modules that are needed to find the channels and mount the root, in the order of loading: virtio_pci
/// first, because there is no channel before it. Any of these may be built in.
const BOOT_MODULES: [&str; 9] = [
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
    "virtio_rng",
    "squashfs",
    "overlay",
    "vmgenid",
    "pvpanic-pci",
    // Says in a dump of the memory where the kernel lies.
    "qemu_fw_cfg",
];

/// Decompresses every `.ko.xz` below `tree` in place, on all cores: the guest would pay for it in
/// each test, and under software emulation dearly.
pub(crate) fn decompress(tree: &Path) -> io::Result<()> {
    let mut compressed = Vec::new();
    for entry in walkdir::WalkDir::new(tree) {
        let path = entry?.into_path();
        if path.to_string_lossy().ends_with(".ko.xz") {
            compressed.push(path);
        }
    }
    let queue = Mutex::new(compressed.into_iter());
    let n_workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..n_workers)
            .map(|_| {
                scope.spawn(|| -> io::Result<()> {
                    loop {
                        let next = queue.lock().expect("no worker panics with the lock").next();
                        let Some(path) = next else { return Ok(()) };
                        let mut reader = liblzma::read::XzDecoder::new(File::open(&path)?);
                        io::copy(&mut reader, &mut File::create(path.with_extension(""))?)?;
                        fs::remove_file(&path)?;
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })
}

/// Names of all modules of a kernel, loadable or built in, one a line, with `_` for `-`; from its
/// `modules.dep` and `modules.builtin`.
pub(crate) fn names(dependencies: &str, builtin: &str) -> String {
    let loadable = dependencies.lines().filter_map(|line| Some(line.split_once(':')?.0));
    let names: BTreeSet<_> = loadable.chain(builtin.lines()).map(module_name).collect();
    names.into_iter().map(|name| name + "\n").collect()
}

/// Modules whose option is not their own name.
const CONFIGS: [(&str, &str); 16] = [
    ("brd", "BLK_DEV_RAM"),
    ("dm_mod", "BLK_DEV_DM"),
    ("dm_thin_pool", "DM_THIN_PROVISIONING"),
    ("linear", "MD_LINEAR"),
    ("loop", "BLK_DEV_LOOP"),
    ("md_cluster", "MD_CLUSTER"),
    ("md_mod", "BLK_DEV_MD"),
    ("nbd", "BLK_DEV_NBD"),
    ("null_blk", "BLK_DEV_NULL_BLK"),
    ("raid0", "MD_RAID0"),
    ("raid1", "MD_RAID1"),
    ("raid10", "MD_RAID10"),
    ("raid456", "MD_RAID456"),
    ("sd_mod", "BLK_DEV_SD"),
    ("ext4", "EXT4_FS"),
    ("xfs", "XFS_FS"),
];

/// The option that makes a module: `dm-raid` → `CONFIG_DM_RAID`.
pub fn config_of(module: &str) -> String {
    let name = module.replace('-', "_");
    let known = CONFIGS.iter().find(|(module, _)| *module == name);
    let option = known.map_or_else(|| name.to_ascii_uppercase(), |(_, option)| (*option).to_owned());
    format!("CONFIG_{option}")
}

/// The modules to load at boot, each after those that it needs, as paths relative to the folder of
/// `modules.dep` (its text is `dependencies`).
pub(crate) fn boot_order(dependencies: &str) -> Vec<PathBuf> {
    let mut needs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut by_name: BTreeMap<String, &str> = BTreeMap::new();
    for line in dependencies.lines() {
        if let Some((path, rest)) = line.split_once(':') {
            needs.insert(path, rest.split_whitespace().collect());
            by_name.insert(module_name(path), path);
        }
    }
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for name in BOOT_MODULES {
        if let Some(&path) = by_name.get(&name.replace('-', "_")) {
            visit(path, &needs, &mut seen, &mut order);
        }
    }
    order.into_iter().map(PathBuf::from).collect()
}

/// Depth first: what a module needs comes before it. `seen` also ends a cycle, which depmod
/// would have refused.
fn visit<'a>(
    path: &'a str,
    needs: &BTreeMap<&'a str, Vec<&'a str>>,
    seen: &mut BTreeSet<&'a str>,
    order: &mut Vec<&'a str>,
) {
    if !seen.insert(path) {
        return;
    }
    for &needed in needs.get(path).into_iter().flatten() {
        visit(needed, needs, seen, order);
    }
    order.push(path);
}

/// The name that the kernel knows a module by: the file's, with `_` for `-`.
pub(crate) fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_comes_first() {
        let dependencies = "kernel/fs/overlayfs/overlay.ko:\n\
             kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_modern_dev.ko kernel/drivers/virtio/virtio.ko\n\
             kernel/drivers/virtio/virtio_pci_modern_dev.ko:\n\
             kernel/drivers/virtio/virtio.ko:\n\
             kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko\n\
             kernel/unrelated.ko:\n";
        let order = boot_order(dependencies);
        let at = |name: &str| order.iter().position(|path| path.ends_with(name)).unwrap();
        assert!(at("virtio.ko") < at("virtio_pci.ko"));
        assert!(at("virtio_pci.ko") < at("virtio_blk.ko"));
        assert!(!order.iter().any(|path| path.ends_with("unrelated.ko")));
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), order.len());
    }

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(module_name("kernel/drivers/misc/pvpanic/pvpanic-pci.ko.xz"), "pvpanic_pci");
    }
    #[test]
    fn modules_are_named_with_their_options() {
        let names = names(
            "kernel/drivers/md/dm-raid.ko: kernel/drivers/md/raid456.ko\n",
            "kernel/drivers/block/loop.ko\n",
        );
        assert_eq!(names, "dm_raid\nloop\n");
        assert_eq!(config_of("dm-raid"), "CONFIG_DM_RAID");
        assert_eq!(config_of("raid456"), "CONFIG_MD_RAID456");
        assert_eq!(config_of("dm-thin-pool"), "CONFIG_DM_THIN_PROVISIONING");
    }
}
