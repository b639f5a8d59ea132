//! What a number of tries shows about how often a test fails. Exact, not approximated: numbers are small
//! here.

use statrs::function::beta::inv_beta_reg;

/// How sure a statement is.
pub const CONFIDENCE: f64 = 0.95;

/// How many of how many tries failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tries that went wrong.
    pub n_failed: u32,
    /// Tries that came to anything.
    pub n: u32,
}

impl Rate {
    /// Bounds between which the true rate lies, at [`CONFIDENCE`] (Clopper and Pearson 1934). If none failed,
    /// or all, there is one bound, and all of the doubt is on its side. Tries that end with the first failure
    /// only make this wider than it has to be.
    pub fn bounds(self) -> (f64, f64) {
        let Rate { n_failed, n } = self;
        let (k, n) = (f64::from(n_failed.min(n)), f64::from(n));
        let doubt = 1.0 - CONFIDENCE;
        if n == 0.0 {
            (0.0, 1.0)
        } else if k == 0.0 {
            (0.0, 1.0 - doubt.powf(1.0 / n))
        } else if k >= n {
            (doubt.powf(1.0 / n), 1.0)
        } else {
            (inv_beta_reg(k, n - k + 1.0, doubt / 2.0), inv_beta_reg(k + 1.0, n - k, 1.0 - doubt / 2.0))
        }
    }

    /// The rate as it was seen.
    pub fn seen(self) -> f64 {
        if self.n == 0 { 0.0 } else { f64::from(self.n_failed) / f64::from(self.n) }
    }

    /// A sentence on what the tries show, and what it takes to show more.
    pub fn sentence(self) -> String {
        let Rate { n_failed, n } = self;
        let (low, high) = self.bounds();
        if n_failed == 0 {
            // The next rounder number.
            let wanted = 10.0_f64.powf((high.log10() - 1e-9).floor());
            return format!(
                "0 of {n} failed: rate below {} at 95 % confidence; below {} takes {} passes",
                percent(high),
                percent(wanted),
                passes_needed(wanted)
            );
        }
        let between = if n_failed >= n {
            format!("rate above {}", percent(low))
        } else {
            format!("rate between {} and {}", percent(low), percent(high))
        };
        let seen = passes_needed(self.seen());
        format!(
            "{n_failed} of {n} failed: {between} at 95 % confidence; that it is gone would take {} without a failure \
             ({} if the rate is the lowest of these)",
            if seen == 1 { "1 try".to_owned() } else { format!("{seen} tries") },
            passes_needed(low)
        )
    }
}

/// Passes in a row that are needed to say, at [`CONFIDENCE`], that a failure of rate `rate` is gone: were it
/// still there, so many passes would be as unlikely as the doubt that is left.
pub fn passes_needed(rate: f64) -> u64 {
    if rate >= 1.0 {
        return 1;
    }
    let needed = ((1.0 - CONFIDENCE).ln() / (-rate).ln_1p()).ceil();
    // Saturates; a rate of 0 takes for ever.
    if needed.is_finite() && needed >= 1.0 { needed as u64 } else { u64::MAX }
}

/// Two digits that count: `7.2 %`, `0.031 %`.
fn percent(rate: f64) -> String {
    let percent = rate * 100.0;
    let digits = if percent >= 1.0 || percent <= 0.0 { 1 } else { 1 + (-percent.log10()).ceil() as usize };
    let text = format!("{percent:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} %")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(n_failed: u32, n: u32, low: f64, high: f64) {
        let bounds = Rate { n_failed, n }.bounds();
        assert!(
            (bounds.0 - low).abs() < 1e-6 && (bounds.1 - high).abs() < 1e-6,
            "{n_failed}/{n}: {bounds:?}"
        );
    }

    /// The probability of at most `k` failures in `n` tries, by adding it up.
    fn at_most(k: u32, n: u32, p: f64) -> f64 {
        // In logarithms: a term may be smaller than any number.
        let mut term = f64::from(n) * (1.0 - p).ln();
        let mut sum = term.exp();
        for i in 1..=k {
            term += (f64::from(n - i + 1) / f64::from(i) * p / (1.0 - p)).ln();
            sum += term.exp();
        }
        sum
    }

    #[test]
    fn one_sided_bounds_are_powers() {
        check(0, 40, 0.0, 1.0 - 0.05_f64.powf(1.0 / 40.0));
        check(40, 40, 0.05_f64.powf(1.0 / 40.0), 1.0);
        check(0, 0, 0.0, 1.0);
        check(0, 1, 0.0, 0.95);
    }

    #[test]
    fn sentences() {
        let sentence = |n_failed, n| Rate { n_failed, n }.sentence();
        assert_eq!(
            sentence(0, 40),
            "0 of 40 failed: rate below 7.2 % at 95 % confidence; below 1 % takes 299 passes"
        );
        assert_eq!(
            sentence(3, 40),
            "3 of 40 failed: rate between 1.6 % and 20.4 % at 95 % confidence; that it is gone would take 39 tries \
             without a failure (189 if the rate is the lowest of these)"
        );
        assert_eq!(
            sentence(5, 5),
            "5 of 5 failed: rate above 54.9 % at 95 % confidence; that it is gone would take 1 try without a failure \
             (4 if the rate is the lowest of these)"
        );
        assert!(sentence(0, 1000).contains("below 0.3 % at 95 % confidence; below 0.1 % takes 2995 passes"));
        assert!(sentence(0, 1).contains("rate below 95 % at 95 % confidence; below 10 % takes 29 passes"));
    }

    proptest! {
        /// The definition: at a bound, what was seen is as unlikely as the doubt allows.
        #[test]
        fn bounds_are_exact(n in 2..300_u32, part in 0.0..1.0_f64) {
            let k = 1 + (f64::from(n - 2) * part) as u32;
            let (low, high) = Rate { n_failed: k, n }.bounds();
            prop_assert!((at_most(k, n, high) - 0.025).abs() < 1e-6, "{}", at_most(k, n, high));
            prop_assert!((1.0 - at_most(k - 1, n, low) - 0.025).abs() < 1e-6);
        }

        #[test]
        fn so_many_passes_and_not_one_fewer(rate in 0.001..0.999_f64) {
            let n = passes_needed(rate) as f64;
            prop_assert!((1.0 - rate).powf(n) <= 0.05 + 1e-12);
            prop_assert!((1.0 - rate).powf(n - 1.0) > 0.05 - 1e-12);
        }
    }
}
