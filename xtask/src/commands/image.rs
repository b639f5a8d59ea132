//! `cargo xtask image`: makes everything that a run needs, and says where it is.

use std::time::Instant;

use anyhow::Result;
use vm_images::progress::Progress;

use crate::exit::Exit;
use crate::session::Session;
use crate::terminal::outln;

pub(crate) fn make(session: &Session) -> Result<Exit> {
    let started = Instant::now();
    let apt = session.apt()?;
    let images = session.images(&apt)?;
    let tools = images.tools()?;
    let guest = images.guest()?;
    session.terminal.end_step();
    outln!("tools root   {}", tools.root().display());
    outln!("guest image  {}  {}", guest.digest.short(), guest.path("root.squashfs").display());
    session.terminal.say(&format!("ready after {:.1} s", started.elapsed().as_secs_f32()));
    Ok(Exit::Passed)
}
