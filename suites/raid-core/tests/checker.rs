//! The checker held against itself: every switch matters, every invariant can fail, the reduction changes no
//! verdict.

use std::num::NonZero;
use std::sync::Mutex;
use std::thread;

use raid_core::era::{self, Era, Switch};
use raid_core::explore::walk;
use raid_core::explore::{Invariant, Kind, Limits, Outcome, explore, look};
use raid_core::scenario::{self, SCENARIOS};
use raid_core::table;

fn verdict(scenario: &str, era: Era, limits: Limits) -> String {
    table::verdict(&look(scenario::named(scenario).unwrap(), era, limits))
}

/// Where a switch flips a verdict. The kernel is the one with it.
const FLIPS: &[(Switch, &str, &str)] = &[
    (Switch::C130443, "S11", "6.6"),
    (Switch::C644e, "S3", "6.6"),
    (Switch::C868b, "S13", "6.6"),
    (Switch::C44693, "S6f", "6.5"),
    (Switch::C9dfb, "S11", "6.1"),
    (Switch::C151f, "S14", "6.1"),
    (Switch::Suspend67, "S15", "6.7"),
    (Switch::StartSync67, "S9", "6.7"),
    (Switch::F52f5, "S4", "6.7"),
    (Switch::C467e, "S7b", "6.7"),
    (Switch::P1, "S1", "P1-4"),
    (Switch::P2, "S2", "P1-4"),
    (Switch::P3, "S3", "P1-3"),
    (Switch::P4, "S4", "6.9"),
    (Switch::P5v2, "S10", "P1-5"),
    (Switch::P6v2, "S1", "P1-6"),
    (Switch::P6, "S1", "6.9"),
    (Switch::RunKeepsFrozen, "S2", "6.9"),
    (Switch::P7, "S6", "P1-7"),
    (Switch::P11v2, "S7", "v2"),
    (Switch::P11, "S7", "6.9"),
    (Switch::C9e46, "S9", "6.8"),
    (Switch::SyncAction, "S16", "6.12"),
    (Switch::C3199, "S18r", "6.12"),
    (Switch::C55dc, "S17", "7.3"),
    (Switch::Ccefc, "S17", "7.3"),
    (Switch::Cf86, "S13", "6.12"),
    (Switch::C418b, "S12", "7.3"),
    (Switch::C1d24, "S9", "7.3"),
];

/// Where a switch that no kernel has flips a verdict: the what-ifs, the mutations, and P8 by itself. The
/// kernel is the one without it.
const WHAT_IFS: &[(Switch, &str, &str)] = &[
    (Switch::P8, "S2", "6.7"),
    (Switch::ReapDirectly, "S14", "6.8"),
    (Switch::NoWait, "S3", "6.6"),
    (Switch::WorkBusy, "S1", "6.6"),
    (Switch::DtrStops, "S18", "6.12"),
    (Switch::LostWake, "S1", "6.9"),
    (Switch::LostThread, "S1", "6.9"),
    (Switch::DoubleUnlock, "S4", "6.9"),
];

#[test]
fn every_switch_but_moved_code_flips_a_verdict() {
    let flips = FLIPS.iter().map(|&(switch, scenario, name)| {
        let with = era::named(name).unwrap();
        assert!(with.has(switch), "{switch:?} {name}");
        (switch, scenario, name, with, with.without(switch))
    });
    let what_ifs = WHAT_IFS.iter().map(|&(switch, scenario, name)| {
        let without = era::named(name).unwrap();
        assert!(!without.has(switch), "{switch:?} {name}");
        (switch, scenario, name, without.with(&[switch]), without)
    });
    let cells: Mutex<Vec<_>> = Mutex::new(flips.chain(what_ifs).collect());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                while let Some((switch, scenario, name, with, without)) = {
                    let mut cells = cells.lock().unwrap();
                    cells.pop()
                } {
                    let limits = Limits { max_states: 5_000_000, ..Limits::default() };
                    let bare = |era| verdict(scenario, era, limits).trim_end_matches(['?', '~']).to_owned();
                    assert_ne!(bare(with), bare(without), "{switch:?} in {scenario} on {name}");
                }
            });
        }
    });
}

/// P5 as merged, instead of P5 as in v2, ends the deadlock over `sync_mutex`.
#[test]
fn the_merged_helpers_leave_sync_mutex_alone() {
    let limits = Limits { max_states: 1_000_000, ..Limits::default() };
    let v2 = era::named("P1-5").unwrap();
    assert!(verdict("S10", v2, limits).starts_with("DL"));
    assert!(!verdict("S10", v2.without(Switch::P5v2).with(&[Switch::P5]), limits).starts_with("DL"));
}

/// raid5d waits for itself where 5e2cf333b7bd is, and nowhere else; no verdict hangs on it, because that is
/// not counted, and hides no other deadlock.
#[test]
fn raid5d_waits_for_itself_only_with_its_wait() {
    let with = ["6.5", "6.6", "6.7", "6.9"];
    for name in ["6.1", "6.8", "6.12"].iter().chain(&with) {
        let era = era::named(name).unwrap();
        assert_eq!(era.has(Switch::C5e2c), with.contains(name), "{name}");
        for scenario in ["S1", "S2", "S4", "S6"] {
            let found = look(scenario::named(scenario).unwrap(), era, Limits::default());
            let itself = found.findings.iter().any(|finding| finding.kind == Kind::Broken(Invariant::I16));
            assert!(era.has(Switch::C5e2c) || !itself, "{scenario} on {name}");
            assert!(itself || scenario != "S1" || !era.has(Switch::C5e2c), "{scenario} on {name}");
            if itself {
                let without = verdict(scenario, era.without(Switch::C5e2c), Limits::default());
                assert_eq!(table::verdict(&found), without, "{scenario} on {name}");
            }
        }
    }
}

/// P9 and P10 only move code: with and without them every scenario has the same states, and what is found in
/// them is found by the same steps. P9's hook has its first user in P11; P10 is in use from then on.
#[test]
fn moved_code_changes_nothing() {
    let same = |with: Era, without: Era, what: &str| {
        for scenario in &SCENARIOS {
            let limits = Limits { max_states: 150_000, ..Limits::default() };
            let see = |era| match scenario.walks {
                0 => explore(scenario, era, limits),
                _ => walk::walks(scenario, era, 0..200),
            };
            let (with, without) = (see(with), see(without));
            assert_eq!(with.n_states, without.n_states, "{what} in {}", scenario.name);
            let steps = |outcome: &Outcome| -> Vec<_> {
                outcome.findings.iter().map(|finding| (finding.kind, finding.trace.clone())).collect()
            };
            assert_eq!(steps(&with), steps(&without), "{what} in {}", scenario.name);
        }
    };
    for switch in [Switch::P9, Switch::P10] {
        same(era::P1_8.with(&[switch]), era::P1_8, &format!("{switch:?} on P1-8"));
    }
    for (name, era) in [("v2", era::V2), ("6.9", era::V6_9), ("7.3", era::V7_3)] {
        same(era, era.without(Switch::P10), &format!("P10 on {name}"));
    }
}

/// Each switch is in one of the lists, so that a new one is thought of.
#[test]
fn no_switch_is_forgotten() {
    const MOVED: [Switch; 2] = [Switch::P9, Switch::P10];
    const WITH_A_TEST_OF_ITS_OWN: [Switch; 2] = [Switch::P5, Switch::C5e2c];
    for switch in era::SWITCHES {
        let flips = FLIPS.iter().chain(WHAT_IFS).any(|(known, _, _)| *known == switch);
        let listed = MOVED.contains(&switch) || WITH_A_TEST_OF_ITS_OWN.contains(&switch);
        assert!(flips != listed, "{switch:?}");
    }
}

#[test]
fn every_invariant_can_fail() {
    let find = |scenario: &str, era: Era, kind: Kind| {
        let limits = Limits { max_states: 300_000, ..Limits::default() };
        let found = look(scenario::named(scenario).unwrap(), era, limits);
        assert!(found.findings.iter().any(|finding| finding.kind == kind), "{kind:?} in {scenario}");
    };
    find("S4", era::V6_7, Kind::Deadlock); // I1
    find("S6", era::V6_7, Kind::Broken(Invariant::I3));
    find("S1", era::V6_9.with(&[Switch::LostThread]), Kind::Broken(Invariant::I4));
    find("S5b", era::P1_4, Kind::Broken(Invariant::I5));
    find("S5a", era::P1_4, Kind::Broken(Invariant::I6));
    find("S7b", era::V6_6, Kind::Corruption); // I7
    find("S5a", era::V6_8, Kind::Restart); // I8
    find("S5a", era::V6_9, Kind::Broken(Invariant::I8));
    find("S7", era::V6_9, Kind::Eio); // I9
    find("S1", era::V6_9.with(&[Switch::LostWake]), Kind::Broken(Invariant::I10));
    find("S4", era::V6_9.with(&[Switch::DoubleUnlock]), Kind::Broken(Invariant::I11));
    find("S6f", era::V6_9, Kind::Broken(Invariant::I12));
    find("S12", era::V6_9, Kind::Broken(Invariant::I13));
    find("S18", era::V6_12, Kind::Broken(Invariant::I13));
    find("S16", era::V6_9, Kind::Broken(Invariant::I15));
    find("S1", era::V6_6, Kind::Broken(Invariant::I16));
    find("S18r", era::V6_9, Kind::Broken(Invariant::I17));
}

/// I2: the read spins as long as the reshape is frozen.
#[test]
fn a_spin_is_starvation() {
    let limits = Limits { max_states: 3_000_000, ..Limits::default() };
    let found = look(scenario::named("S13").unwrap(), era::V7_3, limits);
    assert!(found.complete && found.findings.iter().any(|finding| finding.kind == Kind::Livelock));
}

#[test]
fn the_reduction_changes_no_verdict() {
    for (scenario, era) in [("S1", "6.9"), ("S2", "P1-4"), ("S3", "6.7"), ("S4", "6.7"), ("S8", "v2")] {
        let era = era::named(era).unwrap();
        let reduced = verdict(scenario, era, Limits::default());
        assert_eq!(
            reduced,
            verdict(scenario, era, Limits { reduce: false, ..Limits::default() }),
            "{scenario}"
        );
    }
}
