use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::goals;
use super::subject::Usage;

/// What one run of one scenario gave; what it does not measure is `None`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) per_second: Option<f64>,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) max_ms: Option<f64>,
    /// The store's processor time for one operation, of all members.
    pub(crate) cpu_us: Option<f64>,
    /// Of one processor, what the generator itself took.
    pub(crate) generator_cpu: Option<f64>,
    pub(crate) memory_mib: Option<f64>,
    pub(crate) memory_mib_max: Option<f64>,
    pub(crate) disk_mib: Option<f64>,
    pub(crate) verdict: Option<String>,
}

impl Figures {
    pub(crate) fn of_load(latencies: &Histogram<u64>, took: Duration) -> Self {
        let ms = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
        Self {
            p50_ms: Some(ms(0.5)),
            p99_ms: Some(ms(0.99)),
            max_ms: Some(latencies.max() as f64 / 1_000.0),
            ..Self::of_rate(latencies.len(), took)
        }
    }

    pub(crate) fn of_rate(count: u64, took: Duration) -> Self {
        Self {
            per_second: Some(count as f64 / took.as_secs_f64()),
            ..Self::default()
        }
    }

    pub(crate) fn of_usage(usage: Usage) -> Self {
        Self {
            memory_mib: Some(usage.memory_mib),
            memory_mib_max: Some(usage.memory_mib_max),
            disk_mib: Some(usage.disk_mib),
            ..Self::default()
        }
    }

    pub(crate) fn with_cpu(mut self, store: Duration, own: Duration, took: Duration) -> Self {
        let count = self.per_second.unwrap_or(f64::NAN) * took.as_secs_f64();
        self.cpu_us = Some(store.as_secs_f64() * 1e6 / count);
        self.generator_cpu = Some(own.as_secs_f64() / took.as_secs_f64());
        self
    }

    /// The measured ones, by name.
    fn named(&self) -> [(&'static str, Option<f64>); 9] {
        [
            ("per_second", self.per_second),
            ("p50_ms", self.p50_ms),
            ("p99_ms", self.p99_ms),
            ("max_ms", self.max_ms),
            ("cpu_us", self.cpu_us),
            ("generator_cpu", self.generator_cpu),
            ("memory_mib", self.memory_mib),
            ("memory_mib_max", self.memory_mib_max),
            ("disk_mib", self.disk_mib),
        ]
    }

    fn median(runs: &[Self]) -> Self {
        let of = |pick: fn(&Self) -> Option<f64>| {
            let mut values: Vec<f64> = runs.iter().filter_map(pick).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied()
        };
        let verdicts: Vec<&str> = runs.iter().filter_map(|run| run.verdict.as_deref()).collect();
        Self {
            per_second: of(|run| run.per_second),
            p50_ms: of(|run| run.p50_ms),
            p99_ms: of(|run| run.p99_ms),
            max_ms: of(|run| run.max_ms),
            cpu_us: of(|run| run.cpu_us),
            generator_cpu: of(|run| run.generator_cpu),
            memory_mib: of(|run| run.memory_mib),
            memory_mib_max: of(|run| run.memory_mib_max),
            disk_mib: of(|run| run.disk_mib),
            verdict: (!verdicts.is_empty()).then(|| verdicts.join(" ")),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.named() {
            if let Some(value) = value {
                write!(to, "{name} {value:.2}  ")?;
            }
        }
        to.write_str(self.verdict.as_deref().unwrap_or_default())
    }
}

/// The runs of each subject.
type Subjects = Vec<(String, Vec<Figures>)>;

/// All runs, in the order in which scenarios and subjects first came.
#[derive(Default)]
pub(crate) struct Report {
    scenarios: Vec<(String, Subjects)>,
}

/// The one that others are compared with.
pub(crate) const REFERENCE: &str = "etcd";

/// What is measured beside them all, and its scenario.
pub(crate) const DISK: &str = "the bare disk";
pub(crate) const BARE: &str = "append 512 B, sync, one after the other";

impl Report {
    pub(crate) fn add(&mut self, subject: &str, scenario: &str, figures: Figures) {
        let subjects = entry(&mut self.scenarios, scenario);
        entry(subjects, subject).push(figures);
    }

    /// The medians: of each scenario, each subject's.
    pub(crate) fn medians(&self) -> Vec<(&str, Vec<(&str, Figures)>)> {
        self.scenarios
            .iter()
            .map(|(scenario, subjects)| {
                let subjects = subjects.iter();
                let medians = subjects.map(|(name, runs)| (name.as_str(), Figures::median(runs)));
                (scenario.as_str(), medians.collect())
            })
            .collect()
    }

    /// Which goals each subject meets.
    pub(crate) fn goals(&self) -> String {
        goals::told(&self.medians())
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:<16} {:>10} {:>9} {:>9} {:>9} {:>9} {:>6} {:>9} {:>9}  {}\n",
            "",
            "a second",
            "p50 ms",
            "p99 ms",
            "max ms",
            "cpu us",
            "gen",
            "MiB",
            "disk MiB",
            "to etcd's: rate, p99, memory; rate to the bare disk's"
        );
        let shown =
            |value: Option<f64>, digits| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
        let medians = self.medians();
        let disk = medians.iter().find(|(scenario, _)| *scenario == BARE);
        let disk = disk.and_then(|(_, subjects)| subjects.first()?.1.per_second);
        for (scenario, subjects) in medians {
            text += &format!("{scenario}\n");
            let reference = subjects.iter().find(|(name, _)| *name == REFERENCE);
            let reference = reference.map(|(_, figures)| figures.clone());
            for (name, one) in subjects {
                let ratios = reference
                    .as_ref()
                    .map_or(String::new(), |reference| ratios(&one, reference, disk));
                text += &format!(
                    "  {name:<14} {:>10} {:>9} {:>9} {:>9} {:>9} {:>6} {:>9} {:>9}  {ratios}{}\n",
                    shown(one.per_second, 0),
                    shown(one.p50_ms, 2),
                    shown(one.p99_ms, 2),
                    shown(one.max_ms, 1),
                    shown(one.cpu_us, 1),
                    shown(one.generator_cpu, 2),
                    shown(one.memory_mib, 0),
                    shown(one.disk_mib, 0),
                    one.verdict.unwrap_or_default(),
                );
            }
        }
        text
    }

    pub(crate) fn json(&self) -> String {
        let scenarios: Map<String, Value> = self
            .scenarios
            .iter()
            .map(|(scenario, subjects)| {
                let subjects: Map<String, Value> = subjects
                    .iter()
                    .map(|(name, runs)| (name.clone(), json_of(runs)))
                    .collect();
                (scenario.clone(), subjects.into())
            })
            .collect();
        format!("{:#}\n", Value::from(scenarios))
    }
}

fn ratios(one: &Figures, reference: &Figures, disk: Option<f64>) -> String {
    let ratio = |value: Option<f64>, of: Option<f64>| Some(format!("{:.2}", value? / of?));
    [
        ratio(one.per_second, reference.per_second),
        ratio(one.p99_ms, reference.p99_ms),
        ratio(one.memory_mib, reference.memory_mib),
        ratio(one.per_second, disk),
    ]
    .map(|ratio| ratio.unwrap_or_else(|| "-".to_owned()))
    .join(" / ")
}

fn json_of(runs: &[Figures]) -> Value {
    let named = |figures: &Figures| -> Map<String, Value> {
        figures
            .named()
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), json!(value?))))
            .collect()
    };
    let median = Figures::median(runs);
    let mut all = named(&median);
    if let Some(verdict) = median.verdict {
        all.insert("verdict".to_owned(), verdict.into());
    }
    all.insert(
        "rounds".to_owned(),
        runs.iter().map(|run| Value::from(named(run))).collect(),
    );
    all.into()
}

/// The value of a name, made where it is new.
fn entry<'a, T: Default>(list: &'a mut Vec<(String, T)>, name: &str) -> &'a mut T {
    let index = list
        .iter()
        .position(|(known, _)| known == name)
        .unwrap_or_else(|| {
            list.push((name.to_owned(), T::default()));
            list.len() - 1
        });
    &mut list[index].1
}
