//! A sidecar to start from: it hides what follows `password=` in log lines and drops lines that start with `DEBUG`.

use capstan_sdk::{
    Fault, NoConfig, Plugin,
    sidecar::{Line, Logs},
};

const SECRET: &str = "password=";

pub struct TidyLogs;

impl Plugin for TidyLogs {
    type Config = NoConfig;
    const CONFIG_SCHEMA: &'static str = NoConfig::SCHEMA;

    fn new(_: NoConfig) -> Result<Self, Fault> {
        Ok(Self)
    }
}

impl Logs for TidyLogs {
    fn line(&mut self, mut line: Line, out: &mut Vec<Line>) -> Result<(), Fault> {
        if line.text.starts_with("DEBUG") {
            return Ok(());
        }
        line.text = hide(&line.text);
        out.push(line);
        Ok(())
    }
}

/// The text with `***` in place of what follows [`SECRET`] up to the next space.
fn hide(text: &str) -> String {
    let mut pieces = text.split(SECRET);
    let mut hidden = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let rest = piece.find(' ').map_or("", |at| &piece[at..]);
        hidden += &format!("{SECRET}***{rest}");
    }
    hidden
}

capstan_sdk::export!(sidecar: logs => TidyLogs);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        for (text, hidden) in [
            ("password=a b", "password=*** b"),
            ("x password=a password=b", "x password=*** password=***"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(hide(text), hidden);
        }
    }
}
