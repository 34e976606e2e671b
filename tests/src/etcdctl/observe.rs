use std::fmt;

/// What one step of a script showed, normalised.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Line of the script.
    pub line: usize,
    /// What was done.
    pub command: String,
    /// How it ended and what it said: exit code, standard output, standard error.
    pub lines: Vec<String>,
    /// Why it is not compared, where it is not.
    pub(crate) differs: Option<String>,
    /// What went wrong whatever the other store did.
    pub(crate) failures: Vec<String>,
}

impl fmt::Display for Observed {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "{}: {}", self.line, self.command)?;
        for line in self.lines.iter().chain(&self.failures) {
            writeln!(to, "    {line}")?;
        }
        Ok(())
    }
}

/// Every step in which the two runs differ, and every failure; without a second run only the failures.
pub(crate) fn differences(theirs: &[Observed], ours: Option<&[Observed]>) -> Vec<String> {
    let failed = |name: &str, run: &[Observed]| -> Vec<String> {
        run.iter()
            .filter(|one| !one.failures.is_empty())
            .map(|one| format!("FAILED on {name} {one}"))
            .collect()
    };
    let mut found = failed("etcd", theirs);
    let Some(ours) = ours else { return found };
    found.extend(failed("capstan", ours));
    for (one, other) in theirs.iter().zip(ours) {
        if one.differs.is_none() && one.lines != other.lines {
            found.push(format!(
                "DIFFERS {}: {}\n{}",
                one.line,
                one.command,
                beside(&one.lines, &other.lines)
            ));
        }
    }
    found
}

/// The lines of both, those that only one has with its sign: `-` etcd's, `+` ours.
fn beside(theirs: &[String], ours: &[String]) -> String {
    let mut text = String::new();
    let same = theirs
        .iter()
        .zip(ours)
        .take_while(|(one, other)| one == other)
        .count();
    let (theirs_left, ours_left) = (&theirs[same..], &ours[same..]);
    let end = theirs_left
        .iter()
        .rev()
        .zip(ours_left.iter().rev())
        .take_while(|(one, other)| one == other)
        .count();
    for line in &theirs[..same] {
        text += &format!("      {line}\n");
    }
    for line in &theirs_left[..theirs_left.len() - end] {
        text += &format!("    - {line}\n");
    }
    for line in &ours_left[..ours_left.len() - end] {
        text += &format!("    + {line}\n");
    }
    for line in &theirs_left[theirs_left.len() - end..] {
        text += &format!("      {line}\n");
    }
    text
}
