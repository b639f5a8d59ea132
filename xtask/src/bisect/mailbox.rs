//! In which order the mails of a series are applied: archives keep them as they came in, with answers in between. Pure.

/// What a mail's head says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// As in `[PATCH v2 03/11]`.
    number: Option<u32>,
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
    let tag = subject.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(tag, _)| tag);
    let number = tag.split_whitespace().find_map(|word| word.split_once('/')?.0.parse().ok());
    Head { number, is_answer }
}

fn is_subject(line: &str) -> bool {
    line.get(..8).is_some_and(|name| name.eq_ignore_ascii_case("subject:"))
}

/// Which mails are applied, by index: no answers, and by their numbers if each has one of its own.
pub(crate) fn order(heads: &[Head]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..heads.len()).filter(|&idx| !heads[idx].is_answer).collect();
    let mut numbers: Vec<u32> = order.iter().filter_map(|&idx| heads[idx].number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.len() == order.len() {
        order.sort_by_key(|&idx| heads[idx].number);
    }
    order
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
            "[PATCH v2 02/11] md: second",
            "Re: [PATCH v2 02/11] md: second",
            "[PATCH v2 00/11] dm-raid: cover",
            "[PATCH v2 10/11] md: a title that\n is folded",
            "[RFC PATCH -next\n v2 01/11] md: first",
        ];
        let heads: Vec<_> = subjects.into_iter().map(mail).collect();
        assert_eq!(order(&heads), [2, 4, 0, 3]);
    }

    #[test]
    fn what_has_no_number_stays_as_it_came() {
        let heads: Vec<_> = ["[PATCH] md: b", "md: a", "[PATCH 1/2] md: c"].into_iter().map(mail).collect();
        assert_eq!(order(&heads), [0, 1, 2]);
        // Two versions in one file cannot be told apart by numbers alone.
        let heads: Vec<_> = ["[PATCH 2/2] md: b", "[PATCH 2/2] md: b"].into_iter().map(mail).collect();
        assert_eq!(order(&heads), [0, 1]);
        assert_eq!(head("no head"), Head::default());
    }
}
