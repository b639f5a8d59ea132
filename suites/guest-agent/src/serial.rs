//! Disks by the serial numbers that the harness gave them: a disk's name depends on which was found first.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// How long plugged disks may take to appear.
const DISKS_APPEAR: Duration = Duration::from_secs(30);

/// The node of the disk with this serial number.
fn find_disk(serial: &str) -> Option<String> {
    fs::read_dir("/sys/block").ok()?.flatten().find_map(|entry| {
        let found = fs::read(entry.path().join("serial")).ok()?;
        let found = String::from_utf8_lossy(&found);
        let node = format!("/dev/{}", entry.file_name().to_string_lossy());
        (found.trim_matches(['\0', ' ', '\n']) == serial && Path::new(&node).exists()).then_some(node)
    })
}

/// The node of the disk with this serial number, once it is there; `None` if it does not come in time.
pub(crate) fn wait_for_disk(serial: &str, patience: Duration) -> Option<String> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(node) = find_disk(serial) {
            return Some(node);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Device nodes of the disks with these serial numbers, once they are all there.
pub(crate) fn find_disks(serials: &[String]) -> Result<Vec<String>, (io::Error, String)> {
    let end = Instant::now() + DISKS_APPEAR;
    loop {
        let mut nodes = BTreeMap::new();
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let node = format!("/dev/{}", entry.file_name().to_string_lossy());
            if let Ok(serial) = fs::read_to_string(entry.path().join("serial"))
                && Path::new(&node).exists()
            {
                nodes.insert(serial.trim().to_owned(), node);
            }
        }
        let Some(missing) = serials.iter().find(|serial| !nodes.contains_key(*serial)) else {
            return Ok(serials.iter().filter_map(|serial| nodes.remove(serial)).collect());
        };
        if Instant::now() > end {
            return Err((io::Error::from(Errno::NODEV), format!("find disk {missing}")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
