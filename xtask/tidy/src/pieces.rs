//! The comments and the string literals of a Rust file, with their lines: what a reader reads, and what a
//! user may.

use std::ops::Range;

use anyhow::{Result, anyhow};
use proc_macro2::{TokenStream, TokenTree};

/// A comment, or a string literal with its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Which of the two.
    pub kind: Kind,
    /// Line where it begins, counted from 1.
    pub line: usize,
    /// The text as the file has it.
    pub text: &'a str,
}

/// Kind of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `//`, `///`, `//!` or `/* */`; one of the first three is one line.
    Comment,
    /// A string literal of whatever kind.
    Literal,
}

/// All comments and string literals, in their order.
///
/// # Errors
///
/// A file that the compiler could not split into tokens either.
pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>> {
    let stream: TokenStream = text
        .parse()
        .map_err(|error: proc_macro2::LexError| anyhow!("line {}: {error}", error.span().start().line))?;
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    tokens.sort_by_key(|range| (range.start, range.end));
    let starts: Vec<usize> =
        std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let mut found = Vec::new();
    let mut push = |kind, range: Range<usize>| {
        let line = starts.partition_point(|start| *start <= range.start);
        let piece = Piece { kind, line, text: &text[range] };
        if found.last() != Some(&piece) {
            found.push(piece);
        }
    };
    let mut at = 0;
    for range in tokens {
        comments_between(text, at..range.start.max(at), &mut push);
        let words = &text[range.clone()];
        // Each token that a doc comment stands for has the span of the comment.
        if words.starts_with("//") || words.starts_with("/*") {
            push(Kind::Comment, range.clone());
        } else if words.ends_with(['"', '#']) && words.contains('"') {
            push(Kind::Literal, range.clone());
        }
        at = at.max(range.end);
    }
    comments_between(text, at..text.len(), &mut push);
    Ok(found)
}

/// Byte ranges of all tokens, those of a group's delimiters apart.
fn flatten(stream: TokenStream, tokens: &mut Vec<Range<usize>>) {
    for token in stream {
        match token {
            TokenTree::Group(group) => {
                tokens.push(group.span_open().byte_range());
                flatten(group.stream(), tokens);
                tokens.push(group.span_close().byte_range());
            }
            token => tokens.push(token.span().byte_range()),
        }
    }
}

/// Between two tokens there is nothing but white space and comments.
fn comments_between(text: &str, range: Range<usize>, push: &mut impl FnMut(Kind, Range<usize>)) {
    let mut at = range.start;
    while let Some(start) = text.get(at..range.end).and_then(|gap| gap.find('/')).map(|offset| at + offset) {
        let gap = &text[start..range.end];
        let length = if gap.starts_with("/*") {
            gap.rfind("*/").map_or(gap.len(), |end| end + 2)
        } else {
            gap.find('\n').unwrap_or(gap.len())
        };
        push(Kind::Comment, start..start + length);
        at = start + length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_come_with_their_lines() {
        let text = "//! Head.\n\n/// Doc.\nfn f(x: &'a str) { // why\n    let s = \"a // b\"; /* c\n d */\n    g(r#\"raw\"#, '\"');\n}\n// end\n";
        let found: Vec<(Kind, usize, &str)> =
            pieces(text).unwrap().into_iter().map(|piece| (piece.kind, piece.line, piece.text)).collect();
        assert_eq!(
            found,
            [
                (Kind::Comment, 1, "//! Head."),
                (Kind::Comment, 3, "/// Doc."),
                (Kind::Comment, 4, "// why"),
                (Kind::Literal, 5, "\"a // b\""),
                (Kind::Comment, 5, "/* c\n d */"),
                (Kind::Literal, 7, "r#\"raw\"#"),
                (Kind::Comment, 9, "// end"),
            ]
        );
    }
}
