use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::{Normaliser, Script, fixtures};

/// How etcdctl's help calls what belongs to every command.
const GLOBAL: &str = "";

/// Formats of `--write-out`, each an option of its own here.
const FORMATS: [&str; 5] = ["simple", "json", "fields", "protobuf", "table"];

/// A short name of an option and its long one.
const SHORT: [(&str, &str); 4] = [
    ("-w", "--write-out"),
    ("-i", "--interactive"),
    ("-l", "--listen"),
    ("-d", "--discovery-srv"),
];

/// `docs/etcdctl.md`: each command and option of the installed etcdctl, and which scripts show that it behaves
/// the same on both stores.
///
/// # Errors
/// With the commands and options that no script has and `left-out.txt` gives no reason for, and with those that
/// stand there but are shown.
pub fn table() -> Result<String, String> {
    let known = known();
    let left_out = left_out();
    let mut shown: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut differing = BTreeSet::new();
    for script in scripts() {
        for (arguments, differs) in script.commands() {
            let Some((command, rest)) = find(&known, arguments) else {
                return Err(format!(
                    "{}.txt: etcdctl has no `{}`",
                    script.name,
                    arguments.join(" ")
                ));
            };
            if let Some(why) = differs {
                differing.insert(format!("| `{}` | {} | {why} |", arguments.join(" "), script.name));
                continue;
            }
            shown
                .entry((command.clone(), String::new()))
                .or_default()
                .insert(script.name.clone());
            for option in options(rest) {
                let owner = if known[&command].contains(&option) {
                    command.clone()
                } else {
                    GLOBAL.to_owned()
                };
                // Others are there for etcdctl to refuse.
                if known[&owner].contains(&option) {
                    shown
                        .entry((owner, option))
                        .or_default()
                        .insert(script.name.clone());
                }
            }
        }
    }
    check(&known, &left_out, &shown)?;
    Ok(written(&known, &left_out, &shown, &differing))
}

type Known = BTreeMap<String, BTreeSet<String>>;
type LeftOut = BTreeMap<(String, String), String>;
type Shown = BTreeMap<(String, String), BTreeSet<String>>;

fn scripts() -> Vec<Script> {
    let folder = fs::read_dir(fixtures()).expect("the scripts' folder");
    let mut files: Vec<_> = folder.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| {
        file.extension().is_some_and(|ending| ending == "txt")
            && !["normalise.txt", "left-out.txt"]
                .iter()
                .any(|other| file.ends_with(other))
    });
    files.sort();
    files.iter().map(|file| Script::read(file)).collect()
}

fn help(command: &str) -> String {
    let asked = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .arg("help")
        .args(command.split_whitespace())
        .output();
    String::from_utf8_lossy(&asked.expect("etcdctl runs").stdout).into_owned()
}

/// Every command with its options, as etcdctl's own help tells them.
fn known() -> Known {
    let all = help("");
    let commands = all
        .split("COMMANDS:")
        .nth(1)
        .and_then(|rest| rest.split("OPTIONS:").next())
        .unwrap_or_default();
    let mut known = Known::from([(GLOBAL.to_owned(), options_told(&all))]);
    for line in commands.lines() {
        let name = line.trim_start().split('\t').next().unwrap_or_default().trim();
        if !name.is_empty() {
            let own = &options_told(&help(name)) - &known[GLOBAL];
            known.insert(name.to_owned(), own);
        }
    }
    if let Some(global) = known.get_mut(GLOBAL) {
        global.remove("--write-out");
        global.extend(FORMATS.map(|format| format!("--write-out={format}")));
    }
    known
}

/// The options that a help tells, those of its command's parents included.
fn options_told(help: &str) -> BTreeSet<String> {
    let told = help.split("\nOPTIONS:").nth(1).unwrap_or_default();
    let names = told.split_whitespace().filter(|word| word.starts_with("--"));
    let mut names: BTreeSet<String> = names
        .map(|word| word.split(['=', '[']).next().unwrap_or(word).to_owned())
        .collect();
    names.remove("--help");
    names
}

fn find<'a>(known: &Known, arguments: &'a [String]) -> Option<(String, &'a [String])> {
    (1..=2).rev().find_map(|words| {
        let (name, rest) = arguments.split_at_checked(words)?;
        let name = name.join(" ");
        known.contains_key(&name).then_some((name, rest))
    })
}

/// The long names of the options among some arguments.
fn options(arguments: &[String]) -> Vec<String> {
    let own = arguments.iter().take_while(|argument| *argument != "--");
    let mut own = own.peekable();
    let mut found = Vec::new();
    while let Some(argument) = own.next() {
        let (name, value) = argument
            .split_once('=')
            .map_or((argument.as_str(), None), |(name, value)| (name, Some(value)));
        let name = SHORT
            .iter()
            .find(|(short, _)| *short == name)
            .map_or(name, |(_, long)| *long);
        if name == "--write-out" {
            let format = value.or_else(|| own.peek().map(|next| next.as_str()));
            found.push(format!("--write-out={}", format.unwrap_or_default()));
        } else if name.starts_with("--") {
            found.push(name.to_owned());
        }
    }
    found
}

/// `left-out.txt`: `COMMAND [--option]: why` a line; an option of every command stands alone.
fn left_out() -> LeftOut {
    let text = fs::read_to_string(fixtures().join("left-out.txt")).expect("left-out.txt");
    text.lines()
        .filter_map(|line| {
            let (what, why) = line.split_once(": ")?;
            let words = what.split_whitespace();
            let (options, command): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with("--"));
            Some(((command.join(" "), options.concat()), why.to_owned()))
        })
        .collect()
}

fn check(known: &Known, left_out: &LeftOut, shown: &Shown) -> Result<(), String> {
    let mut wrong = Vec::new();
    for (command, options) in known {
        let whole = left_out.contains_key(&(command.clone(), String::new()));
        let itself = (command != GLOBAL).then(String::new);
        for option in options.iter().cloned().chain(itself) {
            let key = (command.clone(), option.clone());
            if !whole && !shown.contains_key(&key) && !left_out.contains_key(&key) {
                wrong.push(format!("no script has `{command} {option}`"));
            }
        }
    }
    for key in left_out.keys().filter(|key| shown.contains_key(*key)) {
        wrong.push(format!("`{} {}` is left out, but a script has it", key.0, key.1));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

fn written(known: &Known, left_out: &LeftOut, shown: &Shown, differing: &BTreeSet<String>) -> String {
    let mut text = String::from(
        "# etcdctl on Capstan's store\n\n\
         Made by `tests/tests/etcdctl.rs` of the scripts in `tests/fixtures/etcdctl/`; do not edit. Each script runs\n\
         Debian's etcdctl 3.4 on Debian's etcd 3.4 and on `capstan store`, and fails where the exit codes, outputs\n\
         or error messages differ in a line, but for what the last section names.\n\n\
         | command | options shown to behave the same | scripts |\n| --- | --- | --- |\n",
    );
    for (command, options) in known {
        let empty = BTreeSet::new();
        let itself = shown.get(&(command.clone(), String::new())).unwrap_or(&empty);
        if command != GLOBAL && itself.is_empty() {
            continue;
        }
        let name = if command == GLOBAL {
            "*every command*".to_owned()
        } else {
            format!("`{command}`")
        };
        let told: Vec<String> = options
            .iter()
            .filter(|option| shown.contains_key(&(command.clone(), (*option).clone())))
            .map(|option| format!("`{option}`"))
            .collect();
        let scripts: Vec<&str> = itself.iter().map(String::as_str).collect();
        let _ = writeln!(text, "| {name} | {} | {} |", told.join(" "), scripts.join(", "));
    }
    text += "\n## Not shown\n\n| command or option | why |\n| --- | --- |\n";
    for ((command, option), why) in left_out {
        let _ = writeln!(text, "| `{}` | {why} |", format!("{command} {option}").trim());
    }
    text += "\n## Meant to differ\n\n| command | script | why |\n| --- | --- | --- |\n";
    for row in differing {
        let _ = writeln!(text, "{row}");
    }
    text += "\n## What is made equal before the comparison\n\n| name | why |\n| --- | --- |\n";
    for (name, why) in Normaliser::read(&fixtures().join("normalise.txt")).reasons() {
        let _ = writeln!(text, "| {name} | {why} |");
    }
    text
}
