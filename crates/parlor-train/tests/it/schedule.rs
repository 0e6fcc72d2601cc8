//! Schedules against values worked out by hand; `fixtures/schedules.json` (from transformers) when it lands.

use parlor_train::Schedule;
use parlor_train::config::SchedulerName;

fn check(kind: SchedulerName, expected: [f64; 6]) {
    let schedule = Schedule { kind, learning_rate: 2.0, warmup_steps: 2, total_steps: 6 };
    for (step, expected) in expected.into_iter().enumerate() {
        let found = schedule.at(step as u64);
        assert!((found - expected).abs() < 1e-12, "{} at {step}: {found}, expected {expected}", kind.name());
    }
}

#[test]
fn every_schedule_by_hand() {
    let half = 1.0 + std::f64::consts::FRAC_1_SQRT_2;
    check(SchedulerName::Linear, [0.0, 1.0, 2.0, 1.5, 1.0, 0.5]);
    check(SchedulerName::Cosine, [0.0, 1.0, 2.0, half, 1.0, 2.0 - half]);
    check(SchedulerName::Constant, [2.0; 6]);
    check(SchedulerName::ConstantWithWarmup, [0.0, 1.0, 2.0, 2.0, 2.0, 2.0]);
}
