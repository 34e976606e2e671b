use std::process::Output;

use serde_json::Value;

/// What a run of kubectl gave.
#[derive(Debug)]
pub struct Answer {
    /// The command line, for messages.
    pub command: String,
    /// Whether it ended with 0.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Answer {
    /// What a command gave; `command` is its line, for messages.
    pub fn new(command: String, output: &Output) -> Self {
        Self {
            command,
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// All that it said.
    pub fn all(&self) -> String {
        format!("{}\n{}{}", self.command, self.out, self.err)
    }

    /// Itself, where all that it said holds this.
    ///
    /// # Panics
    /// When it does not.
    pub fn says(&self, text: &str) -> &Self {
        let all = self.all();
        assert!(all.contains(text), "{text:?} is missing in\n{all}");
        self
    }

    /// Its output, where it succeeded without a word on standard error.
    ///
    /// # Panics
    /// When it failed or warned.
    pub fn clean(self) -> String {
        assert!(
            self.ok && self.err.is_empty(),
            "{}\n{}{}",
            self.command,
            self.out,
            self.err
        );
        self.out
    }

    /// Its output, where it succeeded; what it says on standard error does not matter here.
    ///
    /// # Panics
    /// When it failed.
    pub fn clean_or_warned(self) -> String {
        assert!(self.ok, "{}\n{}{}", self.command, self.out, self.err);
        self.out
    }

    /// Its standard error, where it failed.
    ///
    /// # Panics
    /// When it succeeded.
    pub fn refused(self) -> String {
        assert!(
            !self.ok,
            "{} should have failed, but said:\n{}",
            self.command, self.out
        );
        self.err
    }

    /// Its output as JSON, or what it said instead.
    ///
    /// # Errors
    /// When it failed, or said no JSON.
    pub fn json(self) -> Result<Value, String> {
        if !self.ok {
            return Err(self.err);
        }
        serde_json::from_str(&self.out).map_err(|error| format!("{error}: {}", self.out))
    }
}
