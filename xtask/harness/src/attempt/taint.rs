//! The kernel's taint flags that came while a test ran, and whether the log tells why.
//!
//! Pure. Bits as in Documentation/admin-guide/tainted-kernels.rst. Deliberately not here: flags that say
//! nothing of a fault, such as those of a module from outside the tree.

use std::collections::BTreeSet;

use protocol::evidence::ReportKind;

/// A flag that something went wrong, what sets it, and the kinds of reports that go with it.
struct Flag {
    bit: u32,
    letter: char,
    about: &'static str,
    kinds: &'static [ReportKind],
}

/// `add_taint` of 6.12 and 7.3: of an oops in `oops_end` and `die`, of a warning in `__warn` and of
/// `__might_resched` and `__schedule_bug`, of a bad page in `bad_page`, `print_bad_pte`, `slab_bug`, and by
/// KASAN and KFENCE, of a soft lockup in `watchdog_timer_fn`, of a machine check in `mce_panic` and
/// `do_machine_check`.
const FLAGS: [Flag; 5] = {
    use ReportKind as K;
    [
        Flag { bit: 7, letter: 'D', about: "an oops", kinds: &[K::Oops, K::Bug, K::Panic, K::MemoryError] },
        Flag {
            bit: 9,
            letter: 'W',
            about: "a warning",
            // Reports of lockdep, KCSAN, UBSAN and stalls set none.
            kinds: &[K::Warning, K::Bug, K::MemoryError, K::Oops],
        },
        Flag { bit: 5, letter: 'B', about: "a bad page", kinds: &[K::Bug, K::MemoryError, K::Oops] },
        Flag { bit: 14, letter: 'L', about: "a soft lockup", kinds: &[K::Lockup, K::RcuStall] },
        Flag { bit: 4, letter: 'M', about: "a machine check", kinds: &[] },
    ]
};

/// A sentence about the taint that came between `before` and `after` and is explained by no report of these
/// kinds.
pub(crate) fn unreported(before: u64, after: u64, reported: &BTreeSet<ReportKind>) -> Option<String> {
    let is_new = |flag: &&Flag| (after & !before) >> flag.bit & 1 == 1;
    let is_told = |flag: &&Flag| flag.kinds.iter().any(|kind| reported.contains(kind));
    let words: Vec<_> = FLAGS
        .iter()
        .filter(|flag| is_new(flag) && !is_told(flag))
        .map(|flag| format!("{} ({})", flag.about, flag.letter))
        .collect();
    (!words.is_empty()).then(|| {
        format!("the kernel is tainted by {} since the test began, and its log shows none", words.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: u64, after: u64, reported: &[ReportKind], words: Option<&str>) {
        let found = unreported(before, after, &reported.iter().copied().collect());
        let words = words.map(|words| {
            format!("the kernel is tainted by {words} since the test began, and its log shows none")
        });
        assert_eq!(found, words);
    }

    #[test]
    fn only_what_is_new_and_untold_is_said() {
        check(0, 0, &[], None);
        check(512, 512, &[], None);
        check(0, 512, &[], Some("a warning (W)"));
        check(0, 512, &[ReportKind::StorageError, ReportKind::HungTask], Some("a warning (W)"));
        check(0, 512, &[ReportKind::Warning], None);
        check(0, 128, &[ReportKind::Oops], None);
        check(512, 640, &[ReportKind::Warning], Some("an oops (D)"));
        check(0, 32, &[ReportKind::MemoryError], None);
        check(0, 16384, &[ReportKind::Lockup], None);
        check(0, 16384 | 128, &[], Some("an oops (D), a soft lockup (L)"));
    }

    #[test]
    fn a_module_of_ours_is_no_news() {
        // Out of the tree (O), not signed (E), staging (C), proprietary (P), forced (F), an overlay of live
        // patches (K).
        check(0, 1 << 12 | 1 << 13 | 1 << 10 | 1 | 2 | 1 << 15, &[], None);
    }
}
