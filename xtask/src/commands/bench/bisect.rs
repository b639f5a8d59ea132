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
    let (mut n_right, mut n_trials, mut n_of_ends) = ([0_u32; 2], [0_u32; 2], 0);
    for seed in 0..n_searches {
        let mut lot = fastrand::Rng::with_seed(seed);
        let world = World { history: &history, culprit: lot.usize(..n_commits), rate, find_fix: false };
        let (found, at_ends) = ours(world, rules, &mut lot);
        let plain = until_sure(world, rules, at_ends, &mut lot);
        n_of_ends += found.n_of_ends;
        for (side, outcome) in [found, plain].into_iter().enumerate() {
            n_right[side] += u32::from(outcome.is_right);
            n_trials[side] += outcome.n;
        }
    }
    ensure!(n_searches > 0, "no search was asked for");
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let n = n_searches as f64;
    let ratio = f64::from(n_trials[0]) / f64::from(n_trials[1].max(1));
    outln!("{n_searches} searches by lot: {n_commits} commits, failing in {:.0} % of trials", 100.0 * rate);
    outln!("{:<44} {:>8} {:>16}", "", "right", "trials a search");
    for (name, side) in [("bisect", 0), ("repeat each step until sure", 1)] {
        let (right, trials) = (100.0 * f64::from(n_right[side]) / n, f64::from(n_trials[side]) / n);
        outln!("{name:<44} {right:>6.1} % {trials:>16.1}");
    }
    let least = least_trials(n_commits, rate, rules.confidence);
    outln!("{:<44} {:>8} {least:>16.1}", "no search does with less, on average", "");
    outln!("{:<44} {:>8} {ratio:>16.2}", "ratio of trials", "");
    outln!(
        "{:<44} {:>8} {:>16.1}",
        "trials of the two ends, the same for both",
        "",
        f64::from(n_of_ends) / n
    );
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
