//! The order in which the mails of a patch series are applied. Archives keep mails as they came in, mixed
//! with replies. Pure.

/// The parts of a mail's header that tell its place in a series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// Number and total, as in `[PATCH v2 03/11]`.
    number: Option<(u32, u32)>,
    /// True for a reply. Replies quote patches, and may contain one that is meant as a suggestion only.
    is_answer: bool,
}

/// Parses the header of a mail.
pub(crate) fn head(mail: &str) -> Head {
    let mut lines = mail.lines().take_while(|line| !line.is_empty()).skip_while(|line| !is_subject(line));
    let Some(first) = lines.next() else { return Head::default() };
    let mut subject = first["Subject:".len()..].trim().to_owned();
    // Continuation lines of a long subject.
    for line in lines.take_while(|line| line.starts_with([' ', '\t'])) {
        subject.push(' ');
        subject.push_str(line.trim());
    }
    let is_answer = subject.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("re:"));
    // Mailing lists may put their own name in brackets before the patch number.
    let tags = subject.split('[').skip(1).filter_map(|rest| rest.split_once(']')).map(|(tag, _)| tag);
    let number = tags.flat_map(str::split_whitespace).find_map(|word| {
        let (number, all) = word.split_once('/')?;
        Some((number.parse().ok()?, all.parse().ok()?))
    });
    Head { number, is_answer }
}

fn is_subject(line: &str) -> bool {
    line.get(..8).is_some_and(|name| name.eq_ignore_ascii_case("subject:"))
}

/// Indices of the mails to apply, without replies, ordered by number if each has a number of its own. An
/// error names the missing patches.
pub(crate) fn order(heads: &[Head]) -> Result<Vec<usize>, String> {
    let mut order: Vec<usize> = (0..heads.len()).filter(|&idx| !heads[idx].is_answer).collect();
    let mut numbers: Vec<(u32, u32)> = order.iter().filter_map(|&idx| heads[idx].number).collect();
    numbers.sort_unstable();
    numbers.dedup_by_key(|(number, _)| *number);
    if numbers.len() < order.len() {
        return Ok(order);
    }
    let all = numbers.first().map_or(0, |(_, all)| *all);
    let is_there = |wanted: &u32| numbers.iter().any(|(number, _)| number == wanted);
    let missing: Vec<String> =
        (1..=all.min(1000)).filter(|n| !is_there(n)).map(|n| format!("{n}/{all}")).collect();
    if !missing.is_empty() {
        return Err(missing.join(", "));
    }
    order.sort_by_key(|&idx| heads[idx].number);
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(subject: &str) -> Head {
        head(&format!("From: A\nSubject: {subject}\nDate: now\n\nSubject: [PATCH 9/9] in a body\n"))
    }

    #[test]
    fn a_series_is_put_in_order_and_answers_are_left_out() {
        let subjects = [
            "[PATCH v2 2/3] md: second",
            "Re: [PATCH v2 2/3] md: second",
            "[PATCH v2 0/3] dm-raid: cover",
            "[dm-devel] [PATCH v2 3/3] md: a title that\n is folded",
            "[RFC PATCH -next\n v2 1/3] md: first",
        ];
        let heads: Vec<_> = subjects.into_iter().map(mail).collect();
        assert_eq!(order(&heads).unwrap(), [2, 4, 0, 3]);
        assert_eq!(order(&heads[..4]), Err("1/3".to_owned()));
    }

    #[test]
    fn what_has_no_number_stays_as_it_came() {
        let heads: Vec<_> = ["[PATCH] md: b", "md: a", "[PATCH 1/2] md: c"].into_iter().map(mail).collect();
        assert_eq!(order(&heads).unwrap(), [0, 1, 2]);
        // Numbers alone cannot tell two versions in one file apart.
        let heads: Vec<_> = ["[PATCH 2/2] md: b", "[PATCH 2/2] md: b"].into_iter().map(mail).collect();
        assert_eq!(order(&heads).unwrap(), [0, 1]);
        assert_eq!(head("no head"), Head::default());
    }
}
