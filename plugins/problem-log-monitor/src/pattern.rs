//! Patterns that must match at the end of what was logged so far, as node-problem-detector has them.
//!
//! The last lines are joined by newlines and searched for the pattern followed by the end of the text.
//! Most patterns cannot match a newline and are searched in the last line alone; most have a literal part
//! whose absence settles the matter without the expression.

use capstan_sdk::Fault;
use regex_lite::Regex;

/// Parts of an expression that may match a newline.
const NEWLINE_PARTS: [&str; 8] = [r"\n", r"\s", r"\W", r"\D", r"\x", "[^", "(?", "[["];
/// Shorter literals are no help.
const LITERAL_MIN: usize = 3;

pub(crate) struct Pattern {
    expression: Regex,
    many_lines: bool,
    literal: Option<String>,
}

impl Pattern {
    pub(crate) fn new(field: &str, text: &str) -> Result<Self, Fault> {
        let refused = |e| Fault::permanent(format!("{field}: {text:?} is not a regular expression: {e}"));
        let expression = Regex::new(&format!("{text}\\z")).map_err(refused)?;
        Ok(Self {
            expression,
            many_lines: NEWLINE_PARTS.iter().any(|part| text.contains(part)),
            literal: literal(text),
        })
    }

    /// The matched text, where the last line completes a match.
    pub(crate) fn find<'a>(&self, lines: &'a Lines) -> Option<&'a str> {
        let text = if self.many_lines {
            lines.all()
        } else {
            lines.last()
        };
        if self
            .literal
            .as_ref()
            .is_some_and(|literal| !text.contains(literal.as_str()))
        {
            return None;
        }
        self.expression.find(text).map(|found| found.as_str())
    }
}

/// The longest text that every match contains, where that is easy to tell.
fn literal(pattern: &str) -> Option<String> {
    if pattern.contains(['|', '(']) {
        return None;
    }
    let (mut best, mut run) = (String::new(), String::new());
    let mut rest = pattern.chars().peekable();
    let mut end = |run: &mut String| {
        if run.len() > best.len() {
            best.clone_from(run);
        }
        run.clear();
    };
    while let Some(c) = rest.next() {
        let plain = match c {
            '\\' => rest.next().filter(|escaped| !escaped.is_ascii_alphanumeric()),
            '[' => {
                // Up to the closing bracket, which may stand first.
                rest.next();
                while rest.next().is_some_and(|c| c != ']') {}
                None
            }
            '{' => {
                while rest.next().is_some_and(|c| c != '}') {}
                None
            }
            '.' | '^' | '$' | '*' | '+' | '?' => None,
            plain => Some(plain),
        };
        match plain {
            Some(plain) if !matches!(rest.peek(), Some('*' | '?' | '{')) => run.push(plain),
            _ => end(&mut run),
        }
    }
    end(&mut run);
    (best.len() >= LITERAL_MIN).then_some(best)
}

/// The last lines, joined by newlines.
pub(crate) struct Lines {
    joined: String,
    starts: std::collections::VecDeque<usize>,
    most: usize,
}

impl Lines {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            joined: String::new(),
            starts: std::collections::VecDeque::new(),
            most: most.max(1),
        }
    }

    pub(crate) fn push(&mut self, line: &str) {
        if self.starts.len() == self.most {
            self.starts.pop_front();
            let cut = self.starts.front().copied().unwrap_or(self.joined.len());
            self.joined.drain(..cut);
            self.starts.iter_mut().for_each(|start| *start -= cut);
        }
        if !self.starts.is_empty() {
            self.joined.push('\n');
        }
        if self.starts.is_empty() {
            self.joined.clear();
        }
        self.starts.push_back(self.joined.len());
        self.joined.push_str(line);
    }

    fn last(&self) -> &str {
        &self.joined[self.starts.back().copied().unwrap_or(0)..]
    }

    fn all(&self) -> &str {
        &self.joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_parts_of_every_match() {
        for (pattern, found) in [
            (
                r"task \S+:\w+ blocked for more than \w+ seconds\.",
                Some(" blocked for more than "),
            ),
            (
                "Remounting filesystem read-only",
                Some("Remounting filesystem read-only"),
            ),
            (r"Killed process \d+ (.+) total", None),
            ("a|blocked", None),
            ("abcd?", Some("abc")),
            (r"[abc]]+x.*", None),
        ] {
            assert_eq!(literal(pattern).as_deref(), found, "{pattern}");
        }
    }

    #[test]
    fn matches_end_with_the_last_line_and_may_span_several() {
        let mut lines = Lines::new(2);
        let single = Pattern::new("p", "disk .* failed").unwrap();
        let double = Pattern::new("p", r"BUG: .*\n.*RIP").unwrap();
        for (line, one, two) in [
            ("disk a failed", Some("disk a failed"), None),
            ("disk b failed again", None, None),
            ("BUG: oops", None, None),
            ("at RIP", None, Some("BUG: oops\nat RIP")),
            ("then RIP", None, None),
        ] {
            lines.push(line);
            assert_eq!((single.find(&lines), double.find(&lines)), (one, two), "{line}");
        }
    }
}
