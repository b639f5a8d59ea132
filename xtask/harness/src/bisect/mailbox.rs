//! In which order the mails of a series are applied: archives keep them as they came in, with answers in between. Pure.

/// What a mail's head says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// As in `[PATCH v2 03/11]`: which, and of how many.
    number: Option<(u32, u32)>,
    /// An answer quotes patches, and may bring one that is meant as an idea.
    is_answer: bool,
}

/// Reads the head of a mail.
pub(crate) fn head(mail: &str) -> Head {
    let mut lines = mail.lines().take_while(|line| !line.is_empty()).skip_while(|line| !is_subject(line));
    let Some(first) = lines.next() else { return Head::default() };
    let mut subject = first["Subject:".len()..].trim().to_owned();
    // Long ones are folded.
    for line in lines.take_while(|line| line.starts_with([' ', '\t'])) {
        subject.push(' ');
        subject.push_str(line.trim());
    }
    let is_answer = subject.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("re:"));
    // Lists put their names before it, in brackets of their own.
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

/// Which mails are applied, by index: no answers, and by their numbers if each has one of its own. An error names the
/// patches that are missing.
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
        // Two versions in one file cannot be told apart by numbers alone.
        let heads: Vec<_> = ["[PATCH 2/2] md: b", "[PATCH 2/2] md: b"].into_iter().map(mail).collect();
        assert_eq!(order(&heads).unwrap(), [0, 1]);
        assert_eq!(head("no head"), Head::default());
    }
}
