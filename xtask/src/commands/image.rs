//! `cargo xtask image`: makes everything that a run needs, and shows its paths and contents.

use std::time::Instant;

use anyhow::Result;
use harness::run::prepare;
use harness::session::Session;
use harness::terminal::outln;
use vm_images::build::checkout::Sources;
use vm_images::host::progress::Progress;

use crate::exit::Exit;

pub(crate) fn make(session: &Session, sources: &Sources) -> Result<Exit> {
    let started = Instant::now();
    let apt = session.apt()?;
    let checkouts = session.checkouts(sources)?;
    let images = session.images(&apt)?.with_checkouts(checkouts.clone());
    let tools = images.tools()?;
    let guest = images.guest()?;
    session.terminal.end_step();
    outln!("tools root   {}", tools.root().display());
    outln!("guest image  {}  {}", guest.digest.short(), guest.path("root.squashfs").display());
    for (name, version) in prepare::versions(&guest, &checkouts)? {
        outln!("  {name} {version}");
    }
    session.terminal.say(&format!("ready after {:.1} s", started.elapsed().as_secs_f32()));
    Ok(Exit::Passed)
}
