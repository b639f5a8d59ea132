//! `cargo xtask test`: runs, and shows what came of it.

use anyhow::Result;

use crate::exit::Exit;
use crate::session::Session;
use crate::test::{self, Options};

pub(crate) fn run(session: &Session, options: &Options) -> Result<Exit> {
    let Some(ran) = test::run(session, options)? else {
        session.terminal.say("nothing to run: no test is selected");
        return Ok(Exit::NothingRan);
    };
    Ok(ran.show(&session.terminal, &ran.dir))
}
