//! A story as a page: a column per task, a line per step, read from top to bottom.

use std::fmt::Write as _;

use crate::story::{Line, Story};

const STYLE: &str = "body{font:13px sans-serif;margin:2em}table{border-collapse:collapse}\
th{position:sticky;top:0;background:#eee;text-align:left}th,td{padding:1px 10px;border-left:1px solid #ccc;\
vertical-align:top}td:first-child{color:#999}b{font-weight:600}i{color:#a40;font-style:normal;display:block}\
tr.again td{border-top:2px solid #a40}code{color:#555}";

impl Story {
    /// The story as an HTML page that needs no other file.
    pub fn to_html(&self) -> String {
        let tasks = self.tasks();
        let mut page = format!(
            "<!doctype html><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style><h1>{0}</h1><p>{1}, after {2} \
             steps</p>\n<table><tr><th>",
            escape(&self.scenario),
            escape(&self.finding),
            self.lines.len()
        );
        for task in &tasks {
            let _infallible = write!(page, "<th>{}", escape(task));
        }
        page.push_str("</tr>\n");
        let mut before: Option<&Line> = None;
        for (idx, line) in self.lines.iter().enumerate() {
            let again = self.repeats > 0 && idx == self.lines.len() - self.repeats;
            let _infallible = write!(page, "<tr{}><td>{}", if again { " class=again" } else { "" }, idx + 1);
            for task in &tasks {
                page.push_str("<td>");
                if **task == line.task {
                    page.push_str(&cell(line, before));
                }
            }
            page.push_str("</tr>\n");
            before = Some(line);
        }
        page.push_str("</table>\n<h2>At the end</h2><ul>");
        for waiting in &self.waiting {
            let _infallible = write!(
                page,
                "<li><b>{}</b> {}<br><code>{}</code><br>{}",
                escape(&waiting.task),
                escape(&waiting.wait),
                escape(&waiting.stack.join(" ← ")),
                escape(&waiting.why)
            );
        }
        for remedy in &self.remedies {
            let _infallible = write!(page, "<li>{}", escape(remedy));
        }
        for flags in &self.flags {
            let _infallible = write!(page, "<li>{}", escape(flags));
        }
        page.push_str("</ul>\n");
        page
    }
}

/// A step; its function is named where it changes.
fn cell(line: &Line, before: Option<&Line>) -> String {
    let function = line.stack.first().map_or("", String::as_str);
    let known = before.is_some_and(|before| before.task == line.task && before.stack == line.stack);
    let mut text = match known || function.is_empty() {
        true => escape(&line.text),
        false => format!("<b>{}</b> {}", escape(function), escape(&line.text)),
    };
    for change in &line.flags {
        let _infallible = write!(text, "<i>{}</i>", escape(&change.to_string()));
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use crate::explore::{Limits, explore};
    use crate::{era, scenario, story};

    #[test]
    fn a_page_has_a_column_per_task_and_a_row_per_step() {
        let scenario = scenario::named("S4").unwrap();
        let outcome = explore(scenario, era::V6_7, Limits::default());
        let story = story::tell(scenario, era::V6_7, &outcome.findings[0]);
        let page = story.to_html();
        assert_eq!(page.matches("<th>").count(), 1 + story.tasks().len());
        assert_eq!(page.matches("<tr").count(), 1 + story.lines.len());
        assert!(page.contains("stop_sync_thread ← __md_stop_writes"));
        assert!(!page.contains("->"));
    }
}
