use std::fs;
use std::path::Path;

use super::words::split;

/// A session: how many members, and what is done to them, in order.
///
/// One step a line; a line that starts with `#` is a comment. The head:
///
/// | line | means |
/// | --- | --- |
/// | `members N` | so many members at the start (1) |
/// | `server FLAG …` | more flags for every member |
/// | `tls` | members serve TLS and want client certificates |
/// | `at once` | both stores run it at the same time, so each has addresses and ids of its own |
///
/// Steps, and what may follow one:
///
/// | line | means |
/// | --- | --- |
/// | `$ ARGS` | etcdctl with these arguments; its output and exit code are compared |
/// | `& NAME ARGS` | the same in the background |
/// | `< TEXT` | a line of its standard input |
/// | `<* N` | so many bytes of standard input |
/// | `~ NAME …` | normalisations of this output beside those of every output |
/// | `= NAME REGEX` | what its first group matches is `${NAME}` from here on, in commands and outputs |
/// | `await TEXT` | repeat it until it ends well and its output holds the text; only the last run counts |
/// | `refused TEXT` | the same, until it fails with the text |
/// | `differs WHY` | ours is meant to differ; it is not compared |
/// | `ours TEXT` | then ours must hold this text |
/// | `theirs TEXT` | and etcd's this |
/// | `wait NAME TEXT` | until the output of NAME holds the text |
/// | `send NAME TEXT` | a line for NAME's standard input |
/// | `probe NAME ARGS` | etcdctl with these arguments, again and again, until NAME says more |
/// | `end NAME`, `stop NAME` | NAME's output when it ended, or after an interrupt |
/// | `start N FLAG …`, `halt N`, `lead N` | start or kill the Nth member, or have it lead |
/// | `fill PREFIX` | put values of a mebibyte until one is refused |
/// | `etcd NAME FOLDER FLAG …` | Debian's etcd as NAME, on a folder that a script restored |
///
/// `${DIR}` is an empty folder; `${E1}` and `${P1}` are the first member's client and peer `host:port`, and so on.
#[derive(Debug)]
pub struct Script {
    /// The file's name without its ending.
    pub name: String,
    pub(crate) members: usize,
    pub(crate) server: Vec<String>,
    pub(crate) tls: bool,
    pub(crate) at_once: bool,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) action: Action,
    pub(crate) input: Vec<String>,
    pub(crate) input_bytes: usize,
    pub(crate) normalisations: Vec<String>,
    pub(crate) captures: Vec<(String, String)>,
    pub(crate) awaited: Option<Awaited>,
    pub(crate) differs: Option<String>,
    pub(crate) ours: Vec<String>,
    pub(crate) theirs: Vec<String>,
}

/// What a command is repeated for.
#[derive(Debug)]
pub(crate) struct Awaited {
    pub(crate) text: String,
    pub(crate) ends_well: bool,
}

#[derive(Debug)]
pub(crate) enum Action {
    Run(Vec<String>),
    Background(String, Vec<String>),
    Wait(String, String),
    Send(String, String),
    Probe(String, Vec<String>),
    End(String),
    Stop(String),
    Start(usize, Vec<String>),
    Halt(usize),
    Lead(usize),
    Fill(String),
    Etcd(String, Vec<String>),
}

impl Script {
    /// Reads and checks a script.
    ///
    /// # Panics
    /// When the file is not there or a line is no step.
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut script = Self {
            name: name.clone().into_owned(),
            members: 1,
            server: Vec::new(),
            tls: false,
            at_once: false,
            steps: Vec::new(),
        };
        for (index, line) in text.lines().enumerate() {
            script
                .take(index + 1, line)
                .unwrap_or_else(|why| panic!("{name}.txt:{}: {why}: {line}", index + 1));
        }
        script
    }

    fn take(&mut self, line: usize, text: &str) -> Result<(), String> {
        let (head, rest) = text.split_once(' ').unwrap_or((text, ""));
        match head {
            "" | "#" => {}
            "members" => self.members = number(rest)?,
            "server" => self.server.extend(split(rest)),
            "tls" => self.tls = true,
            "at" => self.at_once = true,
            "<" | "<*" | "~" | "=" | "await" | "refused" | "differs" | "ours" | "theirs" => {
                let step = self.steps.last_mut().ok_or("there is no step yet")?;
                step.amend(head, rest)?;
            }
            _ => {
                let action = Action::parse(head, rest)?;
                self.steps.push(Step::new(line, action));
            }
        }
        Ok(())
    }

    /// The etcdctl command lines of this script, with the reason of each that is meant to differ.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&[String], Option<&str>)> {
        self.steps.iter().filter_map(|step| match &step.action {
            Action::Run(arguments) | Action::Background(_, arguments) | Action::Probe(_, arguments) => {
                Some((arguments.as_slice(), step.differs.as_deref()))
            }
            _ => None,
        })
    }
}

impl Step {
    fn new(line: usize, action: Action) -> Self {
        Self {
            line,
            action,
            input: Vec::new(),
            input_bytes: 0,
            normalisations: Vec::new(),
            captures: Vec::new(),
            awaited: None,
            differs: None,
            ours: Vec::new(),
            theirs: Vec::new(),
        }
    }

    fn amend(&mut self, head: &str, rest: &str) -> Result<(), String> {
        match head {
            "<" => self.input.push(rest.to_owned()),
            "<*" => self.input_bytes = number(rest)?,
            "~" => self.normalisations.extend(split(rest)),
            "=" => {
                let (name, pattern) = rest.split_once(' ').ok_or("needs a name and a pattern")?;
                self.captures.push((name.to_owned(), pattern.to_owned()));
            }
            "await" | "refused" => {
                self.awaited = Some(Awaited {
                    text: rest.to_owned(),
                    ends_well: head == "await",
                });
            }
            "differs" => self.differs = Some(rest.to_owned()),
            "ours" => self.ours.push(rest.to_owned()),
            _ => self.theirs.push(rest.to_owned()),
        }
        Ok(())
    }
}

impl Action {
    fn parse(head: &str, rest: &str) -> Result<Self, String> {
        let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let named = name.to_owned();
        Ok(match head {
            "$" => Self::Run(split(rest)),
            "&" => Self::Background(named, split(text)),
            "wait" => Self::Wait(named, text.to_owned()),
            "send" => Self::Send(named, text.to_owned()),
            "probe" => Self::Probe(named, split(text)),
            "end" => Self::End(named),
            "stop" => Self::Stop(named),
            "start" => Self::Start(number(name)?, split(text)),
            "halt" => Self::Halt(number(name)?),
            "lead" => Self::Lead(number(name)?),
            "fill" => Self::Fill(named),
            "etcd" => Self::Etcd(named, split(text)),
            _ => return Err(format!("`{head}` is no step")),
        })
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.trim().parse().map_err(|_| format!("`{text}` is no number"))
}
