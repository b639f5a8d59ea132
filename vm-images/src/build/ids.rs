//! Chooses the host user that a stranger's program runs as when root starts it. Pure: takes the text of
//! `/proc/self/uid_map`.

/// The preferred id: in the range that systemd leaves to containers (its UIDS-GIDS.md), and unlikely to be
/// anybody's: `0x6d64` is "md".
const WANTED: u32 = 0x6d64_0000;
/// First id of an ordinary user; those below belong to the system.
const FIRST_ORDINARY: u32 = 1000;
/// The id of users without one, as which services run, too. The next id is -1 to old system calls.
const NOBODY: u32 = 65534;

/// An id without any rights that is mapped for users and for groups; `None` if only the system's are mapped,
/// as in some containers.
pub(crate) fn powerless_id(uid_map: &str, gid_map: &str) -> Option<u32> {
    let (uids, gids) = (ranges(uid_map), ranges(gid_map));
    let is_mapped = |id: u32| {
        [&uids, &gids].iter().all(|ranges| ranges.iter().any(|range| range.contains(&u64::from(id))))
    };
    let ends = uids.iter().chain(&gids).filter_map(|range| u32::try_from(range.end.checked_sub(1)?).ok());
    let below_nobody = ends.flat_map(|last| [last, last.min(NOBODY - 1)]);
    let is_ordinary = |id: &u32| *id >= FIRST_ORDINARY && ![NOBODY, NOBODY + 1, u32::MAX].contains(id);
    let mut candidates: Vec<u32> = below_nobody.filter(is_ordinary).filter(|id| is_mapped(*id)).collect();
    candidates.sort_unstable();
    if is_mapped(WANTED) { Some(WANTED) } else { candidates.pop() }
}

/// Lines of `user_namespaces(7)`: the first id inside, the first outside, how many.
fn ranges(map: &str) -> Vec<std::ops::Range<u64>> {
    let parse = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (first, _, length) = (numbers.next()?.ok()?, numbers.next()?, numbers.next()?.ok()?);
        Some(first..first.checked_add(length)?)
    };
    map.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(map: &str, expect: Option<u32>) {
        assert_eq!(powerless_id(map, map), expect, "{map}");
    }

    #[test]
    fn an_id_that_is_mapped_and_nobodys() {
        check("         0          0 4294967295\n", Some(WANTED));
        // A rootless container with the usual range.
        check("0 1000 1\n1 100000 65536\n", Some(65536));
        check("0 100000 65536\n", Some(65533));
        check("0 100000 65535\n", Some(65533));
        check("0 100000 5000\n", Some(4999));
        // Only root, or only the system's.
        check("0 1000 1\n", None);
        check("0 100000 1000\n", None);
        check("", None);
        assert_eq!(powerless_id("0 0 4294967295\n", "0 100000 2000\n"), Some(1999), "it must be both");
    }
}
