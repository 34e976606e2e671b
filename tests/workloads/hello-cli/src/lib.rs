//! The demonstration's command: a `wasi:cli` program that prints what it was given and then does as told.
//!
//! Arguments after the program's name: `sleep SECONDS`, `cat PATH`, `write PATH TEXT`, `fail`, `trap`, `spin`
//! (never returns), `eat` (takes memory until refused). Without any, and with `say WORDS`, it prints arguments,
//! working directory and environment, and ends well.

// Its exports have names that only Wasm knows; elsewhere it is empty, so that the workspace builds.
#![cfg(target_arch = "wasm32")]
// The bindings call into the host through pointers.
#![allow(unsafe_code, missing_docs, unreachable_pub)]

wit_bindgen::generate!({ world: "hello-cli", path: "wit", generate_all });

use exports::wasi::cli::run::Guest;
use wasi::cli::{environment, stderr::get_stderr, stdout::get_stdout};
use wasi::clocks::monotonic_clock::subscribe_duration;
use wasi::filesystem::preopens::get_directories;
use wasi::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasi::io::streams::OutputStream;

const WRITE_BYTES_MAX: usize = 4096;
const READ_BYTES_MAX: u64 = 1 << 20;
const EAT_STEP_BYTES: usize = 1 << 20;

struct Command;

impl Guest for Command {
    fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
        let done = match words.as_slice() {
            [] | ["say", ..] => {
                describe(&arguments);
                Ok(())
            }
            ["sleep", seconds] => sleep(seconds),
            ["cat", path] => read(path).map(|bytes| write_all(&get_stdout(), &bytes)),
            ["write", path, text] => write(path, text),
            ["fail"] => Err("asked to fail".into()),
            ["trap"] => panic!("asked to trap"),
            ["spin"] => loop {
                std::hint::black_box(());
            },
            ["eat"] => eat(),
            _ => Err(format!(
                "what is {words:?}? try sleep, cat, write, fail, trap, spin or eat"
            )),
        };
        done.map_err(|message: String| write_all(&get_stderr(), format!("{message}\n").as_bytes()))
    }
}

fn describe(arguments: &[String]) {
    let mut text = format!("arguments {}\n", arguments.join(" "));
    text += &format!(
        "working directory {}\n",
        environment::initial_cwd().unwrap_or_default()
    );
    for (name, value) in environment::get_environment() {
        text += &format!("{name}={value}\n");
    }
    write_all(&get_stdout(), text.as_bytes());
    write_all(&get_stderr(), b"a line on stderr\n");
}

fn sleep(seconds: &str) -> Result<(), String> {
    let seconds: u64 = seconds
        .parse()
        .map_err(|_| format!("{seconds} is no number of seconds"))?;
    write_all(&get_stdout(), format!("sleeping {seconds}\n").as_bytes());
    subscribe_duration(seconds * 1_000_000_000).block();
    Ok(())
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    let file = open(path, OpenFlags::empty(), DescriptorFlags::READ)?;
    file.read(READ_BYTES_MAX, 0)
        .map(|(bytes, _)| bytes)
        .map_err(|code| failed(path, code))
}

fn write(path: &str, text: &str) -> Result<(), String> {
    let file = open(
        path,
        OpenFlags::CREATE | OpenFlags::TRUNCATE,
        DescriptorFlags::WRITE,
    )?;
    file.write(text.as_bytes(), 0)
        .map(|_| ())
        .map_err(|code| failed(path, code))
}

/// Opens a path in the preopened folder that holds it; the longest match wins.
fn open(path: &str, open: OpenFlags, flags: DescriptorFlags) -> Result<Descriptor, String> {
    let mut folders = get_directories();
    folders.sort_by_key(|(_, name)| std::cmp::Reverse(name.len()));
    for (folder, name) in &folders {
        let inside = path
            .strip_prefix(name.as_str())
            .and_then(|rest| match name.ends_with('/') {
                true => Some(rest),
                false => rest.strip_prefix('/'),
            });
        if let Some(inside) = inside {
            let opened = folder.open_at(PathFlags::SYMLINK_FOLLOW, inside, open, flags);
            return opened.map_err(|code| failed(path, code));
        }
    }
    Err(format!("{path}: in no mounted folder"))
}

fn failed(path: &str, code: ErrorCode) -> String {
    format!("{path}: {}", code.name())
}

fn eat() -> Result<(), String> {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(vec![1; EAT_STEP_BYTES]);
        std::hint::black_box(&held);
    }
}

fn write_all(stream: &OutputStream, bytes: &[u8]) {
    for part in bytes.chunks(WRITE_BYTES_MAX) {
        if stream.blocking_write_and_flush(part).is_err() {
            return;
        }
    }
}

export!(Command);
