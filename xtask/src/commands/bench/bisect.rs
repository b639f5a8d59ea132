//! `bench bisect`: what searches cost and how often they are right, with trials drawn by lot. `bench history`: something
//! real to search.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use vm_images::progress::Progress;

use crate::bisect::decide::Rules;
use crate::bisect::history::History;
use crate::bisect::planted::{Plants, make, read_plant};
use crate::bisect::simulate::{World, least_trials, ours, until_sure};
use crate::exit::{Exit, usage};
use crate::session::{Session, workspace};
use crate::terminal::outln;

/// What is promised of searches at a failure rate of 30 % over 64 commits.
const PROMISED_RIGHT: f64 = 0.95;
const PROMISED_RATIO: f64 = 0.5;

/// Searches over a row of commits, ours and one that stays at each step until it is sure.
pub(crate) fn simulate(n_searches: u64, n_commits: usize, rate: f64) -> Result<Exit> {
    let history = History::linear((0..n_commits).map(|n| (format!("{n:040x}"), format!("commit {n}"))))?;
    let rules = Rules { repeat: None, confidence: PROMISED_RIGHT, find_fix: false };
    let (mut n_right, mut n_of_ends, mut n_between) = ([0_u32; 2], [0_u32; 2], [0_u32; 2]);
    for seed in 0..n_searches {
        let mut lot = fastrand::Rng::with_seed(seed);
        let world = World { history: &history, culprit: lot.usize(..n_commits), rate, find_fix: false };
        let sides = [ours(world, rules, &mut lot), until_sure(world, rules, &mut lot)];
        for (side, outcome) in sides.into_iter().enumerate() {
            n_right[side] += u32::from(outcome.is_right);
            n_of_ends[side] += outcome.n_of_ends;
            n_between[side] += outcome.n;
        }
    }
    ensure!(n_searches > 0, "no search was asked for");
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let n = n_searches as f64;
    let of = |side: usize| (f64::from(n_of_ends[side]) / n, f64::from(n_between[side]) / n);
    let all = |side| of(side).0 + of(side).1;
    let ratio = all(0) / all(1).max(1.0);
    outln!("{n_searches} searches by lot: {n_commits} commits, failing in {:.0} % of trials", 100.0 * rate);
    outln!("{:<44} {:>8} {:>8} {:>8} {:>8}", "trials a search", "right", "all", "ends", "between");
    for (name, side) in [("bisect", 0), ("repeat each step until sure", 1)] {
        let right = 100.0 * f64::from(n_right[side]) / n;
        let (ends, between) = of(side);
        outln!("{name:<44} {right:>6.1} % {:>8.1} {ends:>8.1} {between:>8.1}", all(side));
    }
    let least = least_trials(n_commits, rate, rules.confidence);
    outln!("{:<44} {:>8} {least:>8.1}", "no search does with less, the rate known", "");
    outln!("{:<44} {:>8} {ratio:>8.2}", "ratio of trials", "");
    let kept = f64::from(n_right[0]) / n >= PROMISED_RIGHT && ratio <= PROMISED_RATIO;
    Ok(if kept { Exit::Passed } else { Exit::TestsFailed })
}

/// A history with a bug planted, from the source of Debian's 6.12.
pub(crate) fn history(session: &Session, dir: &Path, bug: &str) -> Result<Exit> {
    if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(usage(anyhow::anyhow!("`{}` is not empty; name a new folder", dir.display())));
    }
    let planted = workspace().join("suites/planted");
    let of = |name: &str| read_plant(&planted.join(name));
    let plants = Plants {
        bug: of(&format!("plants/{bug}.toml")).map_err(usage)?,
        broken: of("history/broken.toml")?,
        crash: of("history/crash.toml")?,
        half: of("history/e3-half.toml")?,
    };
    let apt = session.apt()?;
    let images = session.images(&apt)?;
    let source = images.kernel_source(&images.kernel(&"deb:6.12".parse()?)?)?;
    session.terminal.end_step();
    make(&session.host, &source.path("tree"), dir, &plants)
        .with_context(|| format!("failed to make a history in `{}`", dir.display()))?;
    outln!(
        "{}: from the tag good to the tag bad, first bad at the tag culprit; series-base, series",
        dir.display()
    );
    Ok(Exit::Passed)
}
