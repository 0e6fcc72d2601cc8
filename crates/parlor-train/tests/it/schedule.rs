//! Schedules against `fixtures/schedules.json`, which `transformers.get_scheduler` wrote.

use std::collections::BTreeMap;

use parlor_train::Schedule;
use parlor_train::config::SchedulerName;

use crate::parity::fixtures;

#[test]
fn every_schedule_gives_the_rates_of_transformers() {
    let text = std::fs::read(fixtures().join("schedules.json")).unwrap();
    let table: BTreeMap<String, BTreeMap<String, Vec<f64>>> = serde_json::from_slice(&text).unwrap();
    let mut seen = Vec::new();
    for (name, by_warmup) in table {
        let kind: SchedulerName = serde_json::from_value(name.clone().into()).unwrap();
        seen.push(kind.name());
        for (warmup, rates) in by_warmup {
            // 50 steps from 3e-4, as fixtures/make/schedules.py says; the table goes on to step 60.
            let warmup_steps = warmup.parse().unwrap();
            let schedule = Schedule { kind, learning_rate: 3e-4, warmup_steps, total_steps: 50 };
            for (step, expected) in rates.into_iter().enumerate() {
                let found = schedule.at(step as u64);
                assert!((found - expected).abs() < 1e-18, "{name} {warmup} at {step}: {found} {expected}");
            }
        }
    }
    assert_eq!(seen, ["constant", "constant_with_warmup", "cosine", "linear"]);
}
