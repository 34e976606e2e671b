//! Which lines become one, and which are left out.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::{
    Config, Plugin,
    sidecar::{Line, Logs, Stream},
};
use sidecar_log_flow::LogFlow;

fn plugin(config: &str) -> LogFlow {
    LogFlow::new(Config::read(config).unwrap()).unwrap()
}

fn pass(plugin: &mut LogFlow, lines: &[(u64, Stream, &str)]) -> Vec<String> {
    let mut out = Vec::new();
    for (time_ms, stream, text) in lines {
        let line = Line {
            time_ms: *time_ms,
            stream: *stream,
            text: (*text).into(),
        };
        plugin.line(line, &mut out).unwrap();
    }
    out.into_iter().map(|line| line.text).collect()
}

fn rest(plugin: &mut LogFlow) -> Vec<String> {
    let mut out = Vec::new();
    plugin.flush(&mut out).unwrap();
    out.into_iter().map(|line| line.text).collect()
}

#[test]
fn lines_that_continue_are_joined_within_their_stream() {
    use Stream::{Stderr, Stdout};
    let mut plugin = plugin(r#"{"join": {"continuation": "^\\s", "separator": "|", "linesMax": 3}}"#);
    let lines = [
        (0, Stderr, "panic: oops"),
        (1, Stdout, "request done"),
        (2, Stderr, "  at a"),
        (3, Stderr, "  at b"),
        (4, Stderr, "  at c"),
        (5, Stdout, "request done again"),
    ];
    assert_eq!(
        pass(&mut plugin, &lines),
        ["panic: oops|  at a|  at b", "request done"]
    );
    assert_eq!(rest(&mut plugin), ["request done again", "  at c"]);
    assert_eq!(rest(&mut plugin), Vec::<String>::new());
}

#[test]
fn with_a_start_all_else_continues() {
    let mut plugin = plugin(r#"{"join": {"start": "^\\d{4}-"}}"#);
    let lines = ["2026-01-01 a", "b", "c", "2026-01-02 d"].map(|text| (0, Stream::Stdout, text));
    assert_eq!(pass(&mut plugin, &lines), ["2026-01-01 a\nb\nc"]);
    assert_eq!(rest(&mut plugin), ["2026-01-02 d"]);
    let long = "x".repeat(10 << 10);
    let lines = ["2026-", long.as_str(), long.as_str()].map(|text| (0, Stream::Stdout, text));
    let out = pass(&mut plugin, &lines);
    assert_eq!(out.len(), 1, "a record has at most 16 KiB");
}

#[test]
fn floods_are_sampled_and_what_is_left_out_is_said() {
    let config = r#"{"sample": [{"pattern": "health", "oneOf": 3}], "limit": {"lines": 2, "per": "1s"}}"#;
    let mut plugin = plugin(config);
    let health: Vec<_> = (0..7).map(|at| (at * 1_000, Stream::Stdout, "health")).collect();
    assert_eq!(pass(&mut plugin, &health).len(), 3);
    let flood: Vec<_> = (0..5).map(|at| (10_000 + at, Stream::Stdout, "a")).collect();
    assert_eq!(pass(&mut plugin, &flood), ["a", "a"]);
    assert_eq!(
        pass(&mut plugin, &[(11_000, Stream::Stdout, "b")]),
        ["[3 lines left out: more than the limit]", "b"]
    );
    assert_eq!(rest(&mut plugin), Vec::<String>::new());
}

#[test]
fn a_bad_expression_is_refused_with_its_field() {
    let config = Config::read(r#"{"sample": [{"pattern": "(", "oneOf": 2}]}"#).unwrap();
    let fault = LogFlow::new(config).err().unwrap();
    assert!(
        fault
            .message
            .starts_with("sample[0].pattern: \"(\" is not a regular expression")
    );
}
