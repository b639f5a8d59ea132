//! `cargo xtask test`: runs, and shows what came of it.

use anyhow::Result;
use reports::RunResult;

use crate::exit::Exit;
use crate::session::Session;
use crate::terminal::out;
use crate::test::{self, Options, shown_path};

pub(crate) fn run(session: &Session, options: &Options) -> Result<Exit> {
    let Some(ran) = test::run(session, options)? else {
        session.terminal.say("nothing to run: no test is selected");
        return Ok(Exit::NothingRan);
    };
    let shown = reports::terminal::Options {
        color: session.terminal.colour(),
        width: session.terminal.width(),
        run_dir: shown_path(&ran.dir),
    };
    out(&reports::terminal::render(&ran.record, &ran.judged, &shown));
    Ok(match RunResult::of(&ran.record, &ran.judged) {
        RunResult::Passed => Exit::Passed,
        RunResult::TestsFailed => Exit::TestsFailed,
        RunResult::NothingRan => Exit::NothingRan,
        RunResult::InfraError => Exit::Infra,
        RunResult::Interrupted => Exit::Interrupted,
    })
}
