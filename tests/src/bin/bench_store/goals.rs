use super::report::{Figures, REFERENCE};

/// What our store promises against etcd's, wherever both were measured.
struct Goal {
    name: &'static str,
    /// The ratio to etcd's, of scenarios that measure it.
    ratio: fn(&Figures, &Figures) -> Option<f64>,
    is_met: fn(f64) -> bool,
}

const GOALS: [Goal; 3] = [
    Goal {
        name: "at least twice etcd's throughput",
        ratio: |one, reference| Some(one.per_second? / reference.per_second?),
        is_met: |ratio| ratio >= 2.0,
    },
    Goal {
        name: "a p99 no worse than etcd's",
        ratio: |one, reference| Some(one.p99_ms? / reference.p99_ms?),
        is_met: |ratio| ratio <= 1.0,
    },
    Goal {
        name: "at most half etcd's memory",
        ratio: |one, reference| Some(one.memory_mib? / reference.memory_mib?),
        is_met: |ratio| ratio <= 0.5,
    },
];

/// Its throughput is asked for, and not compared.
const CHECK: &str = "check perf";

/// Of each subject but etcd, which goals are met, and where not, by how much.
pub(crate) fn told(medians: &[(&str, Vec<(&str, Figures)>)]) -> String {
    let mut subjects: Vec<&str> = Vec::new();
    for (name, _) in medians.iter().flat_map(|(_, subjects)| subjects) {
        let is_compared = medians.iter().any(|(_, of)| has(of, name) && has(of, REFERENCE));
        if *name != REFERENCE && is_compared && !subjects.contains(name) {
            subjects.push(name);
        }
    }
    subjects
        .into_iter()
        .map(|name| of_subject(name, medians))
        .collect()
}

fn has(subjects: &[(&str, Figures)], name: &str) -> bool {
    subjects.iter().any(|(other, _)| *other == name)
}

fn of_subject(name: &str, medians: &[(&str, Vec<(&str, Figures)>)]) -> String {
    let mut text = format!("{name}\n");
    for goal in &GOALS {
        let ratios: Vec<(&str, f64)> = medians
            .iter()
            .filter(|(scenario, _)| !scenario.contains(CHECK))
            .filter_map(|(scenario, of)| {
                let find = |name| of.iter().find(|(other, _)| *other == name).map(|(_, one)| one);
                let ratio = (goal.ratio)(find(name)?, find(REFERENCE)?)?;
                Some((*scenario, ratio))
            })
            .collect();
        let missed: Vec<String> = ratios
            .iter()
            .filter(|(_, ratio)| !(goal.is_met)(*ratio))
            .map(|(scenario, ratio)| format!("{scenario} ({ratio:.2})"))
            .collect();
        text += &line(goal.name, ratios.len(), &missed);
    }
    let checks: Vec<_> = medians
        .iter()
        .filter(|(scenario, _)| scenario.contains(CHECK))
        .filter_map(|(scenario, of)| {
            let (_, one) = of.iter().find(|(other, _)| *other == name)?;
            Some((*scenario, one.verdict.as_deref().unwrap_or_default()))
        })
        .collect();
    let failed: Vec<String> = checks
        .iter()
        .filter(|(_, verdict)| !verdict.starts_with("PASS"))
        .map(|(scenario, verdict)| format!("{scenario} ({verdict})"))
        .collect();
    text + &line("etcdctl check perf passes", checks.len(), &failed)
}

fn line(goal: &str, measured: usize, missed: &[String]) -> String {
    match (measured, missed.len()) {
        (0, _) => format!("  {goal}: not measured\n"),
        (_, 0) => format!("  {goal}: met in all {measured}\n"),
        (_, some) => format!(
            "  {goal}: met in {} of {measured}, missed by {}\n",
            measured - some,
            missed.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_name_what_misses_them() {
        let of = |per_second, p99_ms| Figures {
            per_second: Some(per_second),
            p99_ms: Some(p99_ms),
            ..Figures::default()
        };
        let checked = |verdict: &str| Figures {
            verdict: Some(verdict.to_owned()),
            ..Figures::default()
        };
        let medians = [
            ("put", vec![("ours", of(200.0, 1.0)), (REFERENCE, of(100.0, 1.0))]),
            ("get", vec![("ours", of(150.0, 2.0)), (REFERENCE, of(100.0, 1.0))]),
            ("etcdctl check perf l", vec![("ours", checked("FAIL"))]),
        ];
        assert_eq!(
            told(&medians),
            "ours\n\
             \x20 at least twice etcd's throughput: met in 1 of 2, missed by get (1.50)\n\
             \x20 a p99 no worse than etcd's: met in 1 of 2, missed by get (2.00)\n\
             \x20 at most half etcd's memory: not measured\n\
             \x20 etcdctl check perf passes: met in 0 of 1, missed by etcdctl check perf l (FAIL)\n"
        );
    }
}
