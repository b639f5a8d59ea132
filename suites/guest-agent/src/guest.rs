//! The guest's facts: kernel, processors, memory, time.
//!
//! Reads only files that no test can make wait, and sets two things: the clock and the random pool.

use std::fs;

use protocol::wire::GuestFacts;
use rustix::ioctl::{NoArg, Setter, ioctl};
use rustix::time::{ClockId, clock_gettime, clock_settime};

/// A clock that is off by more is set.
const CLOCK_TOLERANCE_S: i64 = 2;

/// The kernel that runs here, and the machine that it finds.
pub(crate) fn facts() -> GuestFacts {
    let uname = rustix::system::uname();
    GuestFacts {
        kernel_release: uname.release().to_string_lossy().into_owned(),
        kernel_version: uname.version().to_string_lossy().into_owned(),
        boot_ms: uptime_ms(),
        mem_total_kib: meminfo_kib(&read_meminfo(), "MemTotal:"),
        n_cpus: std::thread::available_parallelism().map_or(1, |n| n.get().try_into().unwrap_or(u32::MAX)),
    }
}

/// Time since boot, milliseconds.
pub(crate) fn uptime_ms() -> u64 {
    let uptime = clock_gettime(ClockId::Boottime);
    uptime.tv_sec.unsigned_abs() * 1000 + uptime.tv_nsec.unsigned_abs() / 1_000_000
}

/// Memory that could be had now, KiB.
pub(crate) fn mem_available_kib() -> u64 {
    meminfo_kib(&read_meminfo(), "MemAvailable:")
}

/// Sets the clock by the machine's own, which the hypervisor keeps right over a restore.
pub(crate) fn set_clock() {
    let Ok(rtc) = fs::read_to_string("/sys/class/rtc/rtc0/since_epoch") else { return };
    let Ok(seconds) = rtc.trim().parse::<i64>() else { return };
    let mut clock = clock_gettime(ClockId::Realtime);
    if (clock.tv_sec - seconds).abs() > CLOCK_TOLERANCE_S {
        clock.tv_sec = seconds;
        // Best effort: a test that minds will say so.
        let _ = clock_settime(ClockId::Realtime, clock);
    }
}

/// Bytes of entropy that are used: 256 bits make the pool ready by themselves (`POOL_READY_BITS`,
/// drivers/char/random.c).
const ENTROPY_BYTES: usize = 32;
/// `RNDADDENTROPY`, `_IOW('R', 0x03, int [2])` (random(4)).
const RNDADDENTROPY: u32 = 0x4008_5203;
/// `RNDRESEEDCRNG`, `_IO('R', 0x07)` (random(4)): draws no number from the old pool any more.
const RNDRESEEDCRNG: u32 = 0x5207;

/// `struct rand_pool_info` with room for [`ENTROPY_BYTES`] (linux/random.h).
#[repr(C)]
struct PoolInfo {
    entropy_bits: i32,
    buf_bytes: i32,
    buf: [u8; ENTROPY_BYTES],
}

/// Mixes the host's random bytes into the kernel's pool, and makes it draw from them at once.
pub(crate) fn stir_random(entropy: &[u8]) {
    let Some(&buf) = entropy.first_chunk::<ENTROPY_BYTES>() else { return };
    let Ok(random) = fs::OpenOptions::new().write(true).open("/dev/urandom") else { return };
    let info = PoolInfo { entropy_bits: 8 * ENTROPY_BYTES as i32, buf_bytes: ENTROPY_BYTES as i32, buf };
    // Best effort: a guest that booted has randomness of its own.
    // SAFETY: the kernel reads a `rand_pool_info` of `buf_bytes` bytes, which `info` is.
    let _ = unsafe { ioctl(&random, Setter::<RNDADDENTROPY, _>::new(info)) };
    // SAFETY: this request takes no argument.
    let _ = unsafe { ioctl(&random, NoArg::<RNDRESEEDCRNG>::new()) };
}

fn read_meminfo() -> String {
    fs::read_to_string("/proc/meminfo").unwrap_or_default()
}

/// A value of `/proc/meminfo`, 0 if it is not there.
fn meminfo_kib(meminfo: &str, key: &str) -> u64 {
    let value = |line: &str| line.strip_prefix(key)?.trim().strip_suffix(" kB")?.parse().ok();
    meminfo.lines().find_map(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_by_whole_keys() {
        let meminfo = "MemTotal:         916420 kB\nMemFree:          836284 kB\nHugePages_Total:       0\n";
        assert_eq!(meminfo_kib(meminfo, "MemTotal:"), 916_420);
        assert_eq!(meminfo_kib(meminfo, "MemAvailable:"), 0);
        assert_eq!(meminfo_kib(meminfo, "HugePages_Total:"), 0);
    }
}
