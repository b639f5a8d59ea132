//! Serves a scenario's states to a browser: `raid-explorer SCENARIO KERNEL ADDRESS`. Called by
//! `cargo xtask model explore`, which has looked at the names.

use std::process::ExitCode;

use raid_core::{era, scenario};
use raid_explorer::Peer;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [scenario, kernel, address] = words.as_slice() else {
        eprintln!("usage: raid-explorer SCENARIO KERNEL ADDRESS");
        return ExitCode::from(2);
    };
    let Some((scenario, era)) = scenario::named(scenario).zip(era::named(kernel)) else {
        eprintln!("there is no scenario `{scenario}`, or no kernel `{kernel}`");
        return ExitCode::from(2);
    };
    Peer { scenario, era }.serve(address.as_str());
    ExitCode::SUCCESS
}
