//! Conditions follow the samples with hysteresis, and survive a swap.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::{
    Config, HandOff, Plugin,
    problem::{ConditionStatus, Finding, Monitor, Sample},
};
use problem_pressure::Pressure;

const CONFIG: &str = r#"{"readings": 2, "memory": {"setBelowPercent": 10, "clearAtPercent": 20}}"#;

fn read(pressure: &mut Pressure, available: f64) -> Vec<String> {
    let sample = |name: &str, value| Sample {
        name: name.into(),
        value,
    };
    let mut found = Vec::new();
    let samples = [
        sample("memory.total-bytes", 1000.0),
        sample("memory.available-bytes", available),
    ];
    pressure.on_samples(&samples, 7, &mut found).unwrap();
    found.iter().map(short).collect()
}

fn short(finding: &Finding) -> String {
    let Finding::Condition(condition) = finding else {
        panic!("an event")
    };
    format!(
        "{} {} {}",
        condition.type_name,
        condition.status == ConditionStatus::Yes,
        condition.message
    )
}

#[test]
fn low_memory_is_set_after_its_readings_and_cleared_above_the_upper_threshold() {
    let mut pressure = Pressure::new(Config::read(CONFIG).unwrap()).unwrap();
    let none = Vec::<String>::new();
    assert_eq!(
        read(&mut pressure, 500.0),
        ["MemoryLow false the node has enough memory"]
    );
    assert_eq!(read(&mut pressure, 50.0), none);
    let set = ["MemoryLow true 5% of the node's memory is available, below the threshold of 10%"];
    assert_eq!(read(&mut pressure, 50.0), set);
    assert_eq!(read(&mut pressure, 150.0), none);
    let mut next = Pressure::new(Config::read(CONFIG).unwrap()).unwrap();
    next.restore(&pressure.save()).unwrap();
    assert_eq!(
        read(&mut next, 250.0),
        set,
        "the next revision says how things stand"
    );
    assert_eq!(
        read(&mut next, 250.0),
        ["MemoryLow false the node has enough memory"]
    );
}

#[test]
fn thresholds_the_wrong_way_round_are_refused() {
    let config = r#"{"disk": {"setBelowPercent": 20, "clearAtPercent": 10}}"#;
    let fault = Pressure::new(Config::read(config).unwrap()).err().unwrap();
    assert_eq!(
        fault.message,
        "disk.clearAtPercent: 10 is below setBelowPercent 20"
    );
}
