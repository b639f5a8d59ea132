//! Another checker, stateright's, sees what ours sees.

use raid_core::era;
use raid_core::explore::{Kind, Limits, explore};
use raid_core::scenario;
use raid_explorer::Peer;

#[test]
fn stateright_sees_the_same_states_and_the_same_deadlocks() {
    let limits = Limits { reduce: false, ..Limits::default() };
    for (name, era) in
        [("S2", "6.7"), ("S2", "P1"), ("S3", "6.7"), ("S4", "6.7"), ("S4", "6.9"), ("S8", "6.9")]
    {
        let (scenario, era_is) = (scenario::named(name).unwrap(), era::named(era).unwrap());
        let ours = explore(scenario, era_is, limits);
        let (n_states, deadlocks) = Peer { scenario, era: era_is }.search();
        assert!(ours.complete);
        assert_eq!(ours.n_states, n_states, "{name} {era}");
        let ours_deadlocks = ours.findings.iter().any(|finding| finding.kind == Kind::Deadlock);
        assert_eq!(ours_deadlocks, deadlocks, "{name} {era}");
    }
}
