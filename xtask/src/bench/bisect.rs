//! `bench bisect`: the number of trials of searches and how often they are right, with random trials.
//! `bench commits`: makes a repository to search.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::bisect::decide::SearchRules;
use harness::bisect::graph::Graph;
use harness::bisect::simulate::{AnswerQuality, World, least_trials, ours, until_sure};
use harness::error::usage;
use harness::session::Session;
use harness::workspace::workspace;
use vm_images::host::progress::Progress;

use crate::bench::edits::{Plants, make, read_plant};
use crate::bench::figures::{Figures, left, right};
use crate::exit::Exit;

/// Promise of searches at a failure rate of 30 % over 64 commits: the fraction of right answers, and of
/// trials compared to repeating each step until it is sure.
const PROMISED_RIGHT: f64 = 0.95;
const PROMISED_RATIO: f64 = 0.5;

/// Promise where failures have no kernel signature: the highest fraction of searches that are wrong and sure.
const PROMISED_WRONG: f64 = 0.03;
/// Highest rate of chance failures for which that is promised; for higher ones it is only measured.
const NOISE_OF_PROMISE: f64 = 0.05;
/// Rates at which a bug shows, in the table of chance failures.
const RATES: [f64; 3] = [0.3, 0.5, 1.0];

/// Parameters of a simulation.
#[derive(Clone, Debug)]
pub(crate) struct Simulation {
    /// Number of searches of the comparison, whose failures have a kernel signature.
    pub(crate) n_searches: u64,
    /// Number of searches for each line of the table, whose failures have none.
    pub(crate) n_of_cell: u64,
    pub(crate) n_commits: usize,
    /// Probability that a trial of a bad commit fails, in the comparison.
    pub(crate) rate: f64,
    /// Probabilities that any trial fails by chance: rows of the table.
    pub(crate) noise: Vec<f64>,
    /// Seed of the first search's random numbers.
    pub(crate) seed: u64,
}

/// Runs `n` random searches on all processors, and returns their results. Search `n` uses seed `seed + n`.
fn by_lot<T: Send>(seed: u64, n: u64, search: impl Fn(fastrand::Rng) -> T + Sync) -> Vec<T> {
    let n_threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    std::thread::scope(|scope| {
        let search = &search;
        let part = |first: u64| {
            move || {
                let own = (first..n).step_by(usize::try_from(n_threads).unwrap_or(1));
                own.map(|idx| search(fastrand::Rng::with_seed(seed + idx))).collect::<Vec<T>>()
            }
        };
        let threads: Vec<_> = (0..n_threads).map(|first| scope.spawn(part(first))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a search does not panic")).collect()
    })
}

/// Compares our searches with ones that repeat each step until it is sure, over commits in a row; then
/// measures how often ours are wrong where a test also fails by chance.
pub(crate) fn simulate(figures: &Figures, asked: &Simulation) -> Result<Exit> {
    let ids = (0..asked.n_commits).map(|n| (format!("{n:040x}"), format!("commit {n}")));
    let graph = Graph::linear(ids)?;
    let is_as_promised = compare(figures, &graph, asked)?;
    let is_rarely_wrong = chance_failures(figures, &graph, asked);
    Ok(if is_as_promised && is_rarely_wrong { Exit::Passed } else { Exit::TestsFailed })
}

const RULES: SearchRules =
    SearchRules { repeat: None, confidence: PROMISED_RIGHT, find_fix: false, chance_failures: None };

fn compare(figures: &Figures, graph: &Graph, asked: &Simulation) -> Result<bool> {
    let &Simulation { n_searches, n_commits, rate, .. } = asked;
    let (mut n_right, mut n_of_ends, mut n_between) = ([0_u32; 2], [0_u32; 2], [0_u32; 2]);
    let searches = by_lot(asked.seed, n_searches, |mut lot| {
        let world = World { graph, culprit: lot.usize(..n_commits), rate, noise: 0.0, find_fix: false };
        [ours(world, RULES, true, &mut lot), until_sure(world, RULES, &mut lot)]
    });
    for sides in searches {
        for (side, outcome) in sides.into_iter().enumerate() {
            n_right[side] += u32::from(outcome.end == AnswerQuality::Right);
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
    let title = format!(
        "{n_searches} searches by lot: {n_commits} commits, failing in {:.0} % of trials",
        100.0 * rate
    );
    let columns = [right("right", 8), right("all", 8), right("ends", 8), right("between", 8)];
    let table = figures.table(title, [left("trials a search", 44)].into_iter().chain(columns).collect());
    for (name, side) in [("bisect", 0), ("repeat each step until sure", 1)] {
        let of_right = 100.0 * f64::from(n_right[side]) / n;
        let (ends, between) = of(side);
        let trials = [all(side), ends, between].map(|n_trials| format!("{n_trials:.1}"));
        table.row([name.to_owned(), format!("{of_right:.1} %")].into_iter().chain(trials));
    }
    let least = least_trials(n_commits, rate, RULES.confidence);
    let bare = |name: &str, number: String| table.row([name.to_owned(), String::new(), number]);
    bare("no search does with less, the rate known", format!("{least:.1}"));
    bare("ratio of trials", format!("{ratio:.2}"));
    Ok(f64::from(n_right[0]) / n >= PROMISED_RIGHT && ratio <= PROMISED_RATIO)
}

/// Prints the table; returns true if no more searches are wrong and sure than is promised.
fn chance_failures(figures: &Figures, graph: &Graph, asked: &Simulation) -> bool {
    let n_of_cell = asked.n_of_cell;
    if n_of_cell == 0 {
        return true;
    }
    let title = format!(
        "{n_of_cell} searches each whose failures bear no mark of the kernel's, some of them by chance"
    );
    let columns =
        [("chance", 8), ("bug", 8), ("right", 9), ("wrong, sure", 12), ("unsure", 9), ("trials", 8)];
    let table = figures.table(title, columns.map(|(name, width)| right(name, width)).to_vec());
    let mut is_kept = true;
    for &noise in &asked.noise {
        for rate in RATES {
            let (mut n_of, mut n_trials) = ([0_u32; 3], 0_u32);
            let searches = by_lot(asked.seed, n_of_cell, |mut lot| {
                let culprit = lot.usize(..asked.n_commits);
                let world = World { graph, culprit, rate, noise, find_fix: false };
                ours(world, RULES, false, &mut lot)
            });
            for outcome in searches {
                n_trials += outcome.n_of_ends + outcome.n;
                n_of[match outcome.end {
                    AnswerQuality::Right => 0,
                    AnswerQuality::WrongButSure => 1,
                    AnswerQuality::Unsure => 2,
                }] += 1;
            }
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
            let n = n_of_cell as f64;
            let [of_right, wrong, unsure] = n_of.map(|n_of| 100.0 * f64::from(n_of) / n);
            let rates = [noise, rate].map(|rate| format!("{:.0} %", 100.0 * rate));
            let ends = [of_right, wrong, unsure].map(|percent| format!("{percent:.1} %"));
            let trials = format!("{:.1}", f64::from(n_trials) / n);
            table.row(rates.into_iter().chain(ends).chain([trials]));
            is_kept &= noise > NOISE_OF_PROMISE || wrong <= 100.0 * PROMISED_WRONG;
        }
    }
    is_kept
}

/// Makes a git repository with a planted bug from the source of Debian's 6.12.
pub(crate) fn commits(session: &Session, figures: &Figures, dir: &Path, bug: &str) -> Result<Exit> {
    if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(usage(anyhow::anyhow!("`{}` is not empty; name a new folder", dir.display())));
    }
    let planted = workspace().join("suites/planted");
    let of = |name: &str| read_plant(&planted.join(name));
    let plants = Plants {
        bug: of(&format!("plants/{bug}.toml")).map_err(usage)?,
        broken: of("edits/broken.toml")?,
        crash: of("edits/crash.toml")?,
        half: of("edits/e3-half.toml")?,
    };
    let apt = session.apt()?;
    let images = session.images(&apt)?;
    let source = images.kernel_source(&images.kernel(&"deb:6.12".parse()?)?)?;
    session.terminal.end_step();
    make(&session.host, &source.path("tree"), dir, &plants)
        .with_context(|| format!("failed to make a repository in `{}`", dir.display()))?;
    figures.aside(&format!(
        "{}: from the tag good to the tag bad, first bad at the tag culprit; series-base, series",
        dir.display()
    ));
    Ok(Exit::Passed)
}
