//! How md and dm stood, in words for every report: plain lines that may hold a guest's words as they came.

use protocol::storage_state::{ArrayState, InFlight, StorageState, TargetState, Unanswered};

use crate::text;

/// Attributes of an array in the order of interest; what is not named here comes after.
const FIRST_ATTRIBUTES: [&str; 12] = [
    "level",
    "raid_disks",
    "array_state",
    "sync_action",
    "sync_completed",
    "degraded",
    "mismatch_cnt",
    "reshape_position",
    "suspend_lo",
    "suspend_hi",
    "resync_start",
    "safe_mode_delay",
];

/// Attributes in one line.
const ATTRIBUTES_A_LINE: usize = 3;

/// Lines of the short form at most.
const SHORT_MAX: usize = 4;

/// All of it, the most telling first.
pub(crate) fn lines(state: &StorageState) -> Vec<String> {
    let mut lines = Vec::new();
    for unanswered in &state.unanswered {
        lines.push(format!("{}:", no_answer(unanswered)));
        lines.extend(unanswered.frames.iter().map(|frame| format!("  {frame}")));
    }
    for TargetState { device, table, status } in &state.targets {
        lines.push(format!("{device}:"));
        for (name, line) in [("table", table), ("status", status)] {
            let line = if line.is_empty() { "no answer" } else { line };
            lines.push(format!("  {name:<7} {line}"));
        }
    }
    if state.targets.is_empty() && state.unanswered.is_empty() {
        lines.push("dm lists no array of dm-raid and no suspended device".to_owned());
    }
    lines.extend(list("suspended", &state.suspended));
    lines.extend(list("IO in flight", &in_flight(&state.in_flight)));
    for array in &state.arrays {
        lines.extend(array_lines(array));
    }
    if state.mdstat.iter().any(|line| line.contains(" : ") && !line.starts_with("Personalities")) {
        lines.push("/proc/mdstat:".to_owned());
        lines.extend(state.mdstat.iter().map(|line| format!("  {line}")));
    } else if state.unanswered.iter().all(|unanswered| unanswered.what != "/proc/mdstat") {
        lines.push("/proc/mdstat lists no array (those of dm-raid never are)".to_owned());
    }
    if !state.held_locks.is_empty() {
        lines.push("locks held:".to_owned());
        lines.extend(state.held_locks.iter().map(|line| format!("  {line}")));
    }
    if state.n_left_out > 0 {
        lines.push(format!("… and {} more lines, see the files", state.n_left_out));
    }
    lines
}

/// A few lines for a terminal; none if nothing is remarkable.
pub(crate) fn in_short(state: &StorageState) -> Vec<String> {
    let mut lines: Vec<String> = state.unanswered.iter().map(no_answer).collect();
    lines.extend(list("suspended", &state.suspended));
    lines.extend(list("IO in flight", &in_flight(&state.in_flight)));
    let status = |target: &TargetState| format!("{}: {}", target.device, target.status);
    let is_raid = |target: &&TargetState| target.status.split(' ').nth(2) == Some("raid");
    lines.extend(state.targets.iter().filter(is_raid).map(status));
    lines.extend(state.arrays.iter().filter_map(|array| array_lines(array).into_iter().next()));
    lines.truncate(SHORT_MAX);
    lines
}

/// `dmsetup status --noflush: no answer in 2.0 s, it waits too (state D)`.
fn no_answer(unanswered: &Unanswered) -> String {
    let Unanswered { what, waited_ms, state, .. } = unanswered;
    let waits = match state {
        'D' => "it waits too",
        'R' => "it runs",
        _ => "it sleeps",
    };
    format!("{what}: no answer in {}, {waits} (state {state})", text::duration(*waited_ms))
}

fn list(what: &str, all: &[String]) -> Option<String> {
    (!all.is_empty()).then(|| format!("{what}: {}", all.join(", ")))
}

fn in_flight(devices: &[InFlight]) -> Vec<String> {
    let count = |n: u64, what: &str| match n {
        0 => None,
        1 => Some(format!("1 {what}")),
        n => Some(format!("{n} {what}s")),
    };
    let line = |InFlight { device, n_reads, n_writes }: &InFlight| {
        let counts = [count(*n_reads, "read"), count(*n_writes, "write")];
        format!("{device} ({})", counts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    };
    devices.iter().map(line).collect()
}

/// `md0: level raid5, raid_disks 3, array_state active`, and lines for the rest.
fn array_lines(array: &ArrayState) -> Vec<String> {
    let place = |name: &str| FIRST_ATTRIBUTES.iter().position(|first| *first == name);
    let mut attributes: Vec<_> = array.attributes.iter().collect();
    attributes.sort_by_key(|(name, _)| place(name).unwrap_or(FIRST_ATTRIBUTES.len()));
    let words: Vec<_> = attributes.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let mut lines: Vec<_> =
        words.chunks(ATTRIBUTES_A_LINE).map(|some| format!("  {}", some.join(", "))).collect();
    match lines.first_mut() {
        Some(first) => *first = format!("{}:{}", array.name, &first[1..]),
        None => lines.push(format!("{}: no attribute could be read", array.name)),
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_most_telling_comes_first() {
        let text = lines(&testing::storage()).join("\n");
        insta::assert_snapshot!(text, @r##"
        dmsetup status --noflush: no answer in 2.1 s, it waits too (state D):
          dm_get_live_table+0x1/0x2 [dm_mod]
          table_status+0x3/0x4 [dm_mod]
        LVMTEST79vg-LV1:
          table   0 65536 raid raid1 3 0 region_size 4096 2 253:9 253:10 253:11 253:12
          status  0 65536 raid raid1 2 aa 0/65536 resync 0 0 -
        suspended: LVMTEST79vg-LV1
        IO in flight: dm-10 LVMTEST79vg-LV1_rimage_0 (3 writes)
        md0: level raid5, array_state active, sync_action frozen
          sync_completed 10240 / 129024, degraded 1, suspend_hi 0
        /proc/mdstat:
          Personalities : [raid1] [raid6] [raid5] [raid4]
          md0 : active raid5 vdc[3] vdb[1] vda[0]
                129024 blocks super 1.2 level 5, 512k chunk, algorithm 2 [3/2] [UU_]
                [=>...................]  recovery =  7.9% (5120/64512) finish=9.9min speed=100K/sec
          unused devices: <none>
        locks held:
          1 lock held by lvm/812:
           #0: ffff8880 (&md->type_lock){+.+.}-{3:3}, at: x
        … and 2 more lines, see the files
        "##);
        let text = in_short(&testing::storage()).join("\n");
        insta::assert_snapshot!(text, @r##"
        dmsetup status --noflush: no answer in 2.1 s, it waits too (state D)
        suspended: LVMTEST79vg-LV1
        IO in flight: dm-10 LVMTEST79vg-LV1_rimage_0 (3 writes)
        LVMTEST79vg-LV1: 0 65536 raid raid1 2 aa 0/65536 resync 0 0 -
        "##);
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let text = lines(&StorageState::default()).join("\n");
        insta::assert_snapshot!(text, @r##"
        dm lists no array of dm-raid and no suspended device
        /proc/mdstat lists no array (those of dm-raid never are)
        "##);
        assert_eq!(in_short(&StorageState::default()), Vec::<String>::new());
    }

    #[test]
    fn what_was_not_answered_is_not_said_to_be_nothing() {
        let unanswered =
            Unanswered { what: "/proc/mdstat".to_owned(), waited_ms: 2000, state: 'D', frames: vec![] };
        let device = |n_reads, n_writes| InFlight { device: "vdb".to_owned(), n_reads, n_writes };
        let in_flight = vec![device(1, 0), device(2, 1)];
        let state = StorageState { unanswered: vec![unanswered], in_flight, ..StorageState::default() };
        insta::assert_snapshot!(lines(&state).join("\n"), @r##"
        /proc/mdstat: no answer in 2.0 s, it waits too (state D):
        IO in flight: vdb (1 read), vdb (2 reads, 1 write)
        "##);
    }
}
