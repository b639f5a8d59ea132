//! Markdown pages: their links, the anchors of their headings, and their code, each with its line.

use std::collections::BTreeMap;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A part of a page that the guards look at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Line and destination of each link and image.
    pub links: Vec<(usize, String)>,
    /// Anchors of the headings, as GitHub makes them.
    pub anchors: Vec<String>,
    /// Line and text of each code block.
    pub blocks: Vec<(usize, String)>,
    /// Line and text of each piece of code within a sentence.
    pub inline: Vec<(usize, String)>,
}

/// Reads a page.
pub fn page(text: &str) -> Page {
    let starts: Vec<usize> =
        std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let line_at = |offset: usize| starts.partition_point(|start| *start <= offset);
    let mut page = Page::default();
    let mut heading: Option<String> = None;
    let mut block: Option<(usize, String)> = None;
    let options = Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_STRIKETHROUGH;
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                page.links.push((line_at(range.start), dest_url.into_string()));
            }
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => page.anchors.extend(heading.take().map(|text| anchor(&text))),
            Event::Start(Tag::CodeBlock(_)) => block = Some((0, String::new())),
            Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
            Event::Text(part) => {
                if let Some((line, text)) = &mut block {
                    if text.is_empty() {
                        *line = line_at(range.start);
                    }
                    text.push_str(&part);
                } else if let Some(heading) = &mut heading {
                    heading.push_str(&part);
                }
            }
            Event::Code(code) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&code);
                }
                page.inline.push((line_at(range.start), code.into_string()));
            }
            _ => {}
        }
    }
    number(&mut page.anchors);
    page
}

/// GitHub's way: small letters, hyphens for spaces, nothing else but letters, digits, hyphens and underlines.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            letter => letter.is_alphanumeric().then_some(letter),
        })
        .collect()
}

/// Numbers headings of the same words: the second gets `-1`, the third `-2`.
fn number(anchors: &mut [String]) {
    let mut n_before: BTreeMap<String, usize> = BTreeMap::new();
    for anchor in anchors {
        let n = n_before.entry(anchor.clone()).or_default();
        if *n > 0 {
            anchor.push_str(&format!("-{n}"));
        }
        *n += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_anchors_and_code_are_found_with_their_lines() {
        let text = "# What `md` does: now\n\nSee [this](a.md#b) and `code\nhere`.\n\n## Same\n## Same\n\n```console\n$ one\n$ two\n```\n";
        assert_eq!(
            page(text),
            Page {
                links: vec![(3, "a.md#b".to_owned())],
                anchors: vec!["what-md-does-now".to_owned(), "same".to_owned(), "same-1".to_owned()],
                blocks: vec![(10, "$ one\n$ two\n".to_owned())],
                inline: vec![(1, "md".to_owned()), (3, "code here".to_owned())],
            }
        );
    }
}
