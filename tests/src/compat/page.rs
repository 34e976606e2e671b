//! The page that says what holds, made of the tables of rows and the outcomes.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, ensure};

use super::{Outcomes, kinds};

const BEHAVIOURS: &str = include_str!("../../fixtures/compat/behaviours.tsv");
const CONFORMANCE: &str = include_str!("../../fixtures/compat/conformance.tsv");

/// The page, and how many of its rows hold.
pub struct Page {
    /// Markdown.
    pub text: String,
    /// Rows that hold.
    pub held: usize,
    /// All rows.
    pub rows: usize,
}

/// Makes the page. `root` is the repository's, where the tests that rows name must be.
///
/// # Errors
/// When a row names what is not there.
pub fn page(outcomes: &Outcomes, root: &Path) -> anyhow::Result<Page> {
    let mut page = Page {
        text: String::new(),
        held: 0,
        rows: 0,
    };
    page.text.push_str(HEAD);
    page.section(
        "Behaviours",
        "What a client sends and must observe, one behaviour a row.",
    );
    for line in BEHAVIOURS.lines().skip(1) {
        let (name, shown) = line.rsplit_once('\t').context("a row has two cells")?;
        page.row(outcomes, root, name, shown)?;
    }
    page.section(
        "Conformance",
        "The public conformance tests of Kubernetes that an API server alone can pass, by their names.",
    );
    for line in CONFORMANCE.lines().skip(1) {
        let mut cells = line.splitn(3, '\t');
        let (area, name) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        page.row(
            outcomes,
            root,
            &format!("{area}: {name}"),
            cells.next().unwrap_or_default(),
        )?;
    }
    page.section(
        "Kinds",
        "Discovery and every verb of every generally available kind, in the life of an object.",
    );
    for kind in kinds::all() {
        page.row(outcomes, root, &kind.name(), &kind.name())?;
    }
    let summary = format!("{} of {} rows hold.", page.held, page.rows);
    page.text = page.text.replace("SUMMARY", &summary);
    Ok(page)
}

const HEAD: &str = "# Compatibility

What of Kubernetes v1.36 holds, row by row. This page is made by a test (`tests/tests/compat.rs`), which runs every
check on a real cluster and fails when this page says something else; `CAPSTAN_COMPAT_WRITE=1` writes it anew. A row
that names another test of this repository holds as that test does.

SUMMARY
";

impl Page {
    fn section(&mut self, title: &str, what: &str) {
        let _ = write!(
            self.text,
            "\n## {title}\n\n{what}\n\n| row | holds | shown by |\n| --- | --- | --- |\n"
        );
    }

    fn row(&mut self, outcomes: &Outcomes, root: &Path, name: &str, shown: &str) -> anyhow::Result<()> {
        let mut holds = !shown.is_empty();
        for one in shown.split_whitespace() {
            holds &= match one.split_once(".rs::") {
                Some((file, test)) => is_test(root, file, test)?,
                None => outcomes
                    .get(one)
                    .with_context(|| format!("{name}: there is no check {one}"))?
                    .is_ok(),
            };
        }
        self.rows += 1;
        self.held += usize::from(holds);
        let holds = if holds { "yes" } else { "**no**" };
        let _ = writeln!(
            self.text,
            "| {} | {holds} | {} |",
            name.replace('|', "\\|"),
            shown.replace(' ', ", ")
        );
        Ok(())
    }
}

fn is_test(root: &Path, file: &str, test: &str) -> anyhow::Result<bool> {
    let path = root.join(format!("{file}.rs"));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    ensure!(
        text.contains(&format!("fn {test}(")),
        "{file}.rs has no test {test}"
    );
    Ok(true)
}
