//! What lines become.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::{
    Config, Plugin,
    sidecar::{Line, Logs, Stream},
};
use sidecar_log_structure::LogStructure;

fn transform(config: &str, stream: Stream, text: &str) -> String {
    let mut plugin = LogStructure::new(Config::read(config).unwrap()).unwrap();
    let mut out = Vec::new();
    plugin
        .line(
            Line {
                time_ms: 0,
                stream,
                text: text.into(),
            },
            &mut out,
        )
        .unwrap();
    out.remove(0).text
}

#[test]
fn secrets_are_redacted() {
    for (text, redacted) in [
        (
            "login with password=hunter2 ok",
            "login with password=[REDACTED] ok",
        ),
        (
            r#"{"token": "abc", "user": "u"}"#,
            r#"{"token": "[REDACTED]", "user": "u"}"#,
        ),
        (
            "Authorization: Bearer abcdefghijk",
            "Authorization: Bearer [REDACTED]",
        ),
        ("key AKIAABCDEFGHIJKLMNOP used", "key [REDACTED] used"),
        ("the token was refused", "the token was refused"),
        ("card 1234-5678", "card XXXX-5678"),
    ] {
        let config =
            r#"{"structure": false, "redact": [{"pattern": "\\d{4}-(\\d{4})", "replacement": "XXXX-$1"}]}"#;
        assert_eq!(transform(config, Stream::Stdout, text), redacted);
    }
}

#[test]
fn lines_become_objects() {
    let ts = "\"ts\":\"1970-01-01T00:00:00.000Z\"";
    for (stream, text, object) in [
        (
            Stream::Stdout,
            "ready",
            format!(r#"{{{ts},"stream":"stdout","level":"info","msg":"ready","app":"a"}}"#),
        ),
        (
            Stream::Stderr,
            "oh \"no\"",
            format!(r#"{{{ts},"stream":"stderr","level":"error","msg":"oh \"no\"","app":"a"}}"#),
        ),
        (
            Stream::Stderr,
            "I0102 03:04 fine",
            format!(r#"{{{ts},"stream":"stderr","level":"info","msg":"I0102 03:04 fine","app":"a"}}"#),
        ),
        (
            Stream::Stdout,
            "[WARN] low",
            format!(r#"{{{ts},"stream":"stdout","level":"warn","msg":"[WARN] low","app":"a"}}"#),
        ),
        (
            Stream::Stdout,
            r#"{"severity":"ERROR","message":"x","code":7,"time":"t"}"#,
            r#"{"ts":"t","stream":"stdout","level":"error","msg":"x","code":7,"app":"a"}"#.into(),
        ),
    ] {
        assert_eq!(transform(r#"{"fields": {"app": "a"}}"#, stream, text), object);
    }
}
