//! Schedules against `fixtures/schedules.json`, which `transformers.get_scheduler` wrote.

use std::collections::BTreeSet;

use parlor_train::Schedule;
use parlor_train::config::{LrSchedulerKwargs, SchedulerName};
use serde::Deserialize;

use crate::parity::fixtures;

#[derive(Deserialize)]
struct Case {
    name: SchedulerName,
    kwargs: LrSchedulerKwargs,
    warmup: u64,
    rates: Vec<f64>,
}

#[test]
fn every_schedule_gives_the_rates_of_transformers() {
    let text = std::fs::read(fixtures().join("schedules.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&text).unwrap();
    let mut seen = BTreeSet::new();
    for Case { name, kwargs, warmup, rates } in cases {
        seen.insert(name.name());
        // 50 steps from 3e-4, as fixtures/make/schedules.py says; the table goes on to step 60.
        let schedule =
            Schedule { kind: name, kwargs, learning_rate: 3e-4, warmup_steps: warmup, total_steps: 50 };
        for (step, expected) in rates.into_iter().enumerate() {
            let found = schedule.at(step as u64);
            // A few roundings of a double of 3e-4, whose last place is 5e-20.
            let error = (found - expected).abs();
            assert!(error < 5e-19, "{name:?} {kwargs:?} {warmup} at {step}: {found} {expected}");
        }
    }
    assert_eq!(seen.len(), 9, "{seen:?}");
}
