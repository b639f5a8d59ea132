//! `cargo xtask test`: runs, and shows what came of it.

use anyhow::Result;
use harness::error::usage;
use harness::model;
use harness::run::options::Options;
use harness::run::resume::Resumed;
use harness::run::{self, folder::default_runs};
use harness::session::Session;

use crate::cli::{TestOptions, settings};
use crate::exit::Exit;

pub(crate) fn run(session: &Session, mut options: TestOptions) -> Result<Exit> {
    let cut_off = options.resume.take();
    let options = Options::from(options);
    let finished = match cut_off {
        Some(run) => {
            let runs = options.out.clone().unwrap_or_else(default_runs);
            let resumed = Resumed::take_over(&run, &runs)?;
            let then = settings::options(resumed.settings()).map_err(usage)?;
            let options = resumed.options(then, options.n_vms)?;
            resumed.check_scripts()?;
            run::go_on(session, &options, resumed)?
        }
        None if options.suite == model::suite::NAME => model::suite::run(session, &options)?,
        None => run::run(session, &options)?,
    };
    let Some(finished) = finished else {
        session.terminal.say("nothing to run: no test is selected");
        return Ok(Exit::NothingRan);
    };
    Ok(finished.show(&session.terminal, &finished.dir).into())
}
