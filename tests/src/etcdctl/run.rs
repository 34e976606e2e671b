use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use regex::Regex;

use super::Subject;
use super::members::{Addresses, Members};
use super::normalise::Normaliser;
use super::observe::Observed;
use super::script::{Action, Script, Step};

/// How long a command may take; `check perf` alone takes a minute.
const COMMAND_BOUND: Duration = Duration::from_secs(90);

/// How long an awaited text may take.
const WAIT_BOUND: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(30);

/// Mebibytes that `fill` puts at most.
const FILL_MIB_MAX: usize = 64;

/// Runs a script on a fresh store and says what each step showed.
pub(crate) fn run(
    script: &Script,
    subject: &Subject,
    addresses: &Addresses,
    normaliser: &Normaliser,
) -> Vec<Observed> {
    let mut session = Session {
        members: Members::start(subject, script, addresses),
        ours: subject.name != "etcd",
        normaliser,
        variables: Vec::new(),
        background: BTreeMap::new(),
    };
    session.variables = session.members.variables();
    script.steps.iter().map(|step| session.step(step)).collect()
}

struct Session<'a> {
    members: Members<'a>,
    ours: bool,
    normaliser: &'a Normaliser,
    variables: Vec<(String, String)>,
    background: BTreeMap<String, Running>,
}

/// What a step gave: nothing to compare, or an ended command.
type Outcome = Result<Option<Ended>, String>;

impl Session<'_> {
    fn step(&mut self, step: &Step) -> Observed {
        let mut observed = Observed {
            line: step.line,
            command: shown(&step.action),
            lines: Vec::new(),
            differs: step.differs.clone(),
            failures: Vec::new(),
        };
        for name in step
            .normalisations
            .iter()
            .filter(|name| !self.normaliser.has(name))
        {
            observed
                .failures
                .push(format!("there is no normalisation `{name}`"));
        }
        match self.act(step) {
            Ok(None) => {}
            Ok(Some(ended)) => self.look(step, &ended, &mut observed),
            Err(why) => observed.failures.push(why),
        }
        observed
    }

    fn look(&mut self, step: &Step, ended: &Ended, observed: &mut Observed) {
        let out = String::from_utf8_lossy(&ended.out).into_owned();
        for (name, pattern) in &step.captures {
            let pattern =
                Regex::new(&self.filled(pattern)).expect("a script's pattern is a regular expression");
            match pattern.captures(&out).and_then(|found| found.get(1)) {
                Some(found) => self.learn(name, found.as_str()),
                None => observed
                    .failures
                    .push(format!("{pattern} matches nothing in {out}")),
            }
        }
        let expected = if self.ours { &step.ours } else { &step.theirs };
        let all = out + &String::from_utf8_lossy(&ended.err);
        for text in expected.iter().filter(|text| !all.contains(&self.filled(text))) {
            observed.failures.push(format!("does not say `{text}`: {all}"));
        }
        let how = match (ended.status.code(), ended.status.signal()) {
            (Some(0), _) => "ended well".to_owned(),
            (Some(code), _) => format!("ended with {code}"),
            (None, signal) => format!("ended by signal {signal:?}"),
        };
        let text_only: Vec<String> = step
            .normalisations
            .iter()
            .filter(|name| *name != "protobuf")
            .cloned()
            .collect();
        observed.lines = self.normaliser.lines(how.as_bytes(), &text_only);
        let mut lines = Vec::new();
        for line in self.normaliser.lines(&ended.out, &step.normalisations) {
            lines.push(format!("| {}", self.named(&line)));
        }
        for line in self.normaliser.lines(&ended.err, &text_only) {
            lines.push(format!("! {}", self.named(&line)));
        }
        if step.normalisations.iter().any(|name| name == "sorted") {
            lines.sort();
        }
        observed.lines.append(&mut lines);
    }

    /// Keeps a value, as it is and, for an id in hexadecimal, as the decimal number that JSON shows.
    fn learn(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
        if value.len() >= 12
            && let Ok(number) = u64::from_str_radix(value, 16)
        {
            self.variables
                .push((format!("{name}_DECIMAL"), number.to_string()));
        }
    }

    /// A text with the variables' values.
    fn filled(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.variables {
            text = text.replace(&format!("${{{name}}}"), value);
        }
        text
    }

    /// An output with the variables' names, where their values stand as words of their own.
    fn named(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (name, value) in &self.variables {
            line = replaced(&line, value, &format!("${{{name}}}"));
        }
        line
    }

    fn all_filled(&self, texts: &[String]) -> Vec<String> {
        texts.iter().map(|text| self.filled(text)).collect()
    }

    fn act(&mut self, step: &Step) -> Outcome {
        match &step.action {
            Action::Run(arguments) => self.command(step, arguments).map(Some),
            Action::Background(name, arguments) => {
                let running = Running::start(
                    &mut self.members.etcdctl(&self.all_filled(arguments)),
                    &self.input(step),
                    true,
                )?;
                self.background.insert(name.clone(), running);
                Ok(None)
            }
            Action::Wait(name, text) => {
                let text = self.filled(text);
                self.running(name)?
                    .wait_for(|out| out.contains(&text))
                    .map_err(|out| format!("{name} does not say `{text}`: {out}"))?;
                Ok(None)
            }
            Action::Send(name, text) => {
                let text = self.filled(text);
                self.running(name)?.send(&text)?;
                Ok(None)
            }
            Action::Probe(name, arguments) => self.probe(name, arguments).map(|()| None),
            Action::End(name) => self.take(name)?.end().map(Some),
            Action::Stop(name) => {
                let running = self.take(name)?;
                let pid = running.child.id().to_string();
                let _ = Command::new("kill").args(["-INT", &pid]).status();
                running.end().map(Some)
            }
            Action::Start(number, flags) => {
                let flags = self.all_filled(flags);
                self.members.launch(*number, &flags);
                Ok(None)
            }
            Action::Halt(number) => {
                self.members.halt(*number);
                Ok(None)
            }
            Action::Lead(number) => self.lead(*number).map(|()| None),
            Action::Fill(prefix) => self.fill(prefix).map(|()| None),
            Action::Etcd(name, arguments) => {
                let arguments = self.all_filled(arguments);
                let (folder, flags) = arguments.split_first().ok_or("needs a folder")?;
                self.members.launch_etcd(name, folder, flags);
                Ok(None)
            }
        }
    }

    fn input(&self, step: &Step) -> Vec<u8> {
        let mut input = vec![b'x'; step.input_bytes];
        for line in &step.input {
            input.extend(self.filled(line).as_bytes());
            input.push(b'\n');
        }
        input
    }

    fn command(&self, step: &Step, arguments: &[String]) -> Result<Ended, String> {
        let arguments = self.all_filled(arguments);
        let input = self.input(step);
        let started = Instant::now();
        loop {
            let ended = Running::start(&mut self.members.etcdctl(&arguments), &input, false)?.end()?;
            let Some(awaited) = &step.awaited else {
                return Ok(ended);
            };
            let text = self.filled(&awaited.text);
            let said = [ended.out.as_slice(), ended.err.as_slice()].concat();
            if ended.status.success() == awaited.ends_well && String::from_utf8_lossy(&said).contains(&text) {
                return Ok(ended);
            }
            if started.elapsed() > WAIT_BOUND {
                return Err(format!(
                    "does not come to say `{text}`: {}{}",
                    String::from_utf8_lossy(&ended.out),
                    String::from_utf8_lossy(&ended.err)
                ));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn running(&mut self, name: &str) -> Result<&mut Running, String> {
        self.background
            .get_mut(name)
            .ok_or_else(|| format!("nothing runs as {name}"))
    }

    fn take(&mut self, name: &str) -> Result<Running, String> {
        self.background
            .remove(name)
            .ok_or_else(|| format!("nothing runs as {name}"))
    }

    fn probe(&mut self, name: &str, arguments: &[String]) -> Result<(), String> {
        let before = self.running(name)?.out().len();
        let started = Instant::now();
        while self.running(name)?.out().len() == before {
            if started.elapsed() > WAIT_BOUND {
                return Err(format!("{name} says nothing more"));
            }
            self.quietly(arguments)?;
        }
        Ok(())
    }

    fn quietly(&self, arguments: &[impl AsRef<str>]) -> Result<Ended, String> {
        let arguments: Vec<String> = arguments.iter().map(|one| self.filled(one.as_ref())).collect();
        Running::start(&mut self.members.etcdctl(&arguments), b"", false)?.end()
    }

    /// Moves the lead to a member, asking again until its own status says so.
    fn lead(&self, number: usize) -> Result<(), String> {
        let endpoints = (1..=3)
            .map(|one| format!("${{E{one}}}"))
            .collect::<Vec<_>>()
            .join(",");
        let address = self.filled(&format!("${{E{number}}}"));
        let started = Instant::now();
        loop {
            let status = self.quietly(&["endpoint", "status", "--endpoints", &endpoints])?;
            let status = String::from_utf8_lossy(&status.out).into_owned();
            let row = |line: &&str| line.starts_with(&address);
            let mine = status.lines().find(row).unwrap_or_default();
            let columns: Vec<&str> = mine.split(", ").collect();
            if columns.get(4) == Some(&"true") {
                return Ok(());
            }
            if let Some(id) = columns.get(1) {
                self.quietly(&["move-leader", id, "--endpoints", &endpoints])?;
            }
            if started.elapsed() > WAIT_BOUND {
                return Err(format!("m{number} does not come to lead: {status}"));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn fill(&self, prefix: &str) -> Result<(), String> {
        let value = vec![b'x'; 1 << 20];
        for index in 0..FILL_MIB_MAX {
            let mut command = self.members.etcdctl(&["put", &format!("{prefix}{index:02}")]);
            let ended = Running::start(&mut command, &value, false)?.end()?;
            if !ended.status.success() {
                return Ok(());
            }
        }
        Err(format!("{FILL_MIB_MAX} MiB were all taken"))
    }
}

/// A command that was started; what it says is read as it comes.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
    out: Arc<Mutex<Vec<u8>>>,
    readers: [JoinHandle<Vec<u8>>; 2],
    started: Instant,
}

struct Ended {
    status: ExitStatus,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Running {
    /// Starts it and gives it this input; `open` leaves its input open for more.
    fn start(command: &mut Command, input: &[u8], open: bool) -> Result<Self, String> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("etcdctl: {error}"))?;
        let out = Arc::new(Mutex::new(Vec::new()));
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err("etcdctl has no pipes".to_owned());
        };
        let readers = [read(stdout, Arc::clone(&out)), read(stderr, Arc::default())];
        // A command that does not read its input ends without it.
        let _ = stdin.write_all(input);
        Ok(Self {
            child,
            input: open.then_some(stdin),
            out,
            readers,
            started: Instant::now(),
        })
    }

    fn out(&self) -> String {
        let out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn wait_for(&self, condition: impl Fn(&str) -> bool) -> Result<(), String> {
        let started = Instant::now();
        loop {
            let out = self.out();
            if condition(&out) {
                return Ok(());
            }
            if started.elapsed() > WAIT_BOUND {
                return Err(out);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn send(&mut self, line: &str) -> Result<(), String> {
        let input = self.input.as_mut().ok_or("its input is closed")?;
        writeln!(input, "{line}").map_err(|error| format!("its input: {error}"))
    }

    fn end(mut self) -> Result<Ended, String> {
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            if self.started.elapsed() > COMMAND_BOUND {
                let said = self.out();
                let _ = self.child.kill();
                let _ = self.child.wait();
                return Err(format!("it does not end; it said {said}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        drop(self.input.take());
        let [out, err] = self.readers.map(|reader| reader.join().unwrap_or_default());
        Ok(Ended { status, out, err })
    }
}

/// Reads a pipe to its end, into `seen` as it comes and as the thread's result.
fn read(mut from: impl Read + Send + 'static, seen: Arc<Mutex<Vec<u8>>>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut chunk = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(&chunk[..length]);
        }
        std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner))
    })
}

/// A text in which a word is another; in the middle of a longer word or number it is left alone.
fn replaced(text: &str, word: &str, by: &str) -> String {
    let is_part = |one: Option<char>| one.is_some_and(|one| one.is_ascii_alphanumeric());
    let mut made = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let alone = !is_part(before.chars().next_back()) && !is_part(after.chars().next());
        made += before;
        made += if alone { by } else { word };
        rest = after;
    }
    made + rest
}

fn shown(action: &Action) -> String {
    match action {
        Action::Run(arguments) => format!("etcdctl {}", arguments.join(" ")),
        Action::Background(name, arguments) => format!("{name}: etcdctl {} &", arguments.join(" ")),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn only_whole_words_are_replaced() {
        assert_eq!(replaced("1,12,1:a1 1", "1", "N"), "N,12,N:a1 N");
    }
}
