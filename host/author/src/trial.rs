//! `plugin test` and `plugin run`: the questions of case files to a component.
//!
//! Each case meets the component freshly loaded, so that the order of cases means nothing.

use std::path::Path;

use serde_json::Value;

use crate::cases::{self, Case, CaseFile, Form, differences};
use crate::error::Error;
use crate::rig::Rig;
use crate::{Test, Trial, component, recording};

/// Compares every answer with what its case expects.
pub(crate) fn test(options: &Test) -> Result<(), Error> {
    let component = component::find(&options.component)?;
    let rig = Rig::open(&component)?;
    let (mut failed, mut total) = (0, 0);
    for path in cases::files(&component, &options.files) {
        if recording::is_one(&path) {
            let tally = recording::test(&rig, &component, &path, options.bless)?;
            failed += tally.failed;
            total += tally.total;
            continue;
        }
        let file = CaseFile::read(&path)?;
        for case in &file.cases {
            total += 1;
            let Some(expected) = &case.expect else {
                return Err(broken(
                    &path,
                    case,
                    "it expects nothing; `capstan plugin run` prints the answer",
                ));
            };
            let answer = ask(&rig, &path, &file, case)?;
            let differences = differences(expected, &answer);
            println!(
                "{} {}",
                if differences.is_empty() { "ok  " } else { "FAIL" },
                case.name
            );
            for difference in &differences {
                println!("       {difference}");
            }
            if !differences.is_empty() {
                failed += 1;
                println!("       the whole answer: {answer}");
            }
        }
    }
    println!(
        "{} {}: {} of {total} cases passed",
        rig.about.name,
        rig.about.version,
        total - failed
    );
    match failed {
        0 => Ok(()),
        _ => Err(Error::Failing { failed, total }),
    }
}

/// Prints every answer, as YAML.
pub(crate) fn run(options: &Trial) -> Result<(), Error> {
    let component = component::find(&options.component)?;
    let rig = Rig::open(&component)?;
    for path in cases::files(&component, &options.files) {
        let file = CaseFile::read_or_manifests(&path)?;
        for case in &file.cases {
            let answer = ask(&rig, &path, &file, case)?;
            let text = serde_norway::to_string(&answer).unwrap_or_else(|_| answer.to_string());
            println!("# {}\n{text}---", case.name);
        }
    }
    Ok(())
}

fn ask(rig: &Rig, path: &Path, file: &CaseFile, case: &Case) -> Result<Value, Error> {
    rig.load(&file.setup(case), file.objects(case))
        .map_err(|error| broken(path, case, &error.to_string()))?;
    let mut ask = case
        .prepare(rig)
        .map_err(|message| broken(path, case, &message))?;
    Ok(ask(Form::Shown).unwrap_or_else(|fault| cases::fault(&fault)))
}

fn broken(path: &Path, case: &Case, message: &str) -> Error {
    Error::Case {
        path: path.to_owned(),
        case: case.name.clone(),
        message: message.to_owned(),
    }
}
