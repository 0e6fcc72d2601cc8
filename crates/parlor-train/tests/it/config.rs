//! The section: the issue's defaults, what is refused, and what is not in this build yet.

use parlor_train::TrainingConfig;
use parlor_train::config::{OptimizerName, SchedulerName, TrainingType, problems, unsupported};
use serde_json::json;

fn keys(found: &[parlor_train::config::Problem]) -> Vec<&str> {
    found.iter().map(|problem| problem.key.as_str()).collect()
}

#[test]
fn defaults() {
    insta::assert_json_snapshot!(TrainingConfig::default());
    assert!(problems(&TrainingConfig::default()).is_empty());
}

#[test]
fn a_section_reads_back_and_unknown_keys_are_refused() {
    let config = TrainingConfig::default();
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<TrainingConfig>(&text).unwrap(), config);
    let text = r#"{"sft": {"learning_rate": 1, "learning_rte": 1}}"#;
    let error = serde_json::from_str::<TrainingConfig>(text).unwrap_err().to_string();
    assert!(error.contains("learning_rte"), "{error}");
}

#[test]
fn learning_rates_that_cannot_work_are_refused() {
    for rate in [0.0, -1e-5, f64::NAN, f64::INFINITY] {
        let mut config = TrainingConfig::default();
        config.sft.learning_rate = rate;
        assert_eq!(keys(&problems(&config)), ["training.sft.learning_rate"], "{rate}");
    }
}

#[test]
fn other_values_that_cannot_work_are_refused_together() {
    let mut config = TrainingConfig::default();
    config.from_scratch.max_steps = 0;
    config.from_scratch.warmup_ratio = 1.5;
    config.dpo.adam_beta2 = 1.0;
    config.lora.logging_steps = 0;
    config.sft.weight_decay = f64::NAN;
    insta::assert_snapshot!(
        problems(&config).iter().map(|p| format!("{}: {}\n", p.key, p.message)).collect::<String>()
    );
}

#[test]
fn schedules_that_cannot_work_are_refused() {
    let check = |kind: SchedulerName, kwargs: serde_json::Value| {
        let kwargs = serde_json::from_value(kwargs).unwrap();
        let config = TrainingConfig {
            lr_scheduler_type: kind,
            lr_scheduler_kwargs: kwargs,
            training_type: TrainingType::Sft,
            ..TrainingConfig::default()
        };
        problems(&config).iter().map(|p| format!("{}: {}\n", p.key, p.message)).collect::<String>()
    };
    let refused = [
        (SchedulerName::Linear, json!({"num_cycles": 1})),
        (SchedulerName::CosineWithRestarts, json!({"num_cycles": 0, "power": 2})),
        (SchedulerName::Polynomial, json!({"lr_end": 1, "power": -1})),
        (SchedulerName::InverseSqrt, json!({"timescale": 0})),
        (SchedulerName::CosineWithMinLr, json!({})),
        (SchedulerName::CosineWithMinLr, json!({"min_lr": 1e-6, "min_lr_rate": 0.1})),
        (SchedulerName::CosineWithMinLr, json!({"min_lr": 1})),
        (SchedulerName::CosineWithMinLr, json!({"min_lr_rate": 1.5})),
        (SchedulerName::WarmupStableDecay, json!({"min_lr_ratio": -1})),
    ];
    insta::assert_snapshot!(refused.map(|(kind, kwargs)| check(kind, kwargs)).concat());
    assert_eq!(
        check(SchedulerName::WarmupStableDecay, json!({"num_decay_steps": 3, "decay_type": "1-sqrt"})),
        ""
    );
}

#[test]
fn optimizer_settings_that_cannot_work_are_refused() {
    let check = |optimizer: OptimizerName, section: serde_json::Value| {
        let mut config: TrainingConfig = serde_json::from_value(section).unwrap();
        config.optimizer = optimizer;
        problems(&config).iter().map(|p| format!("{}: {}\n", p.key, p.message)).collect::<String>()
    };
    let refused = [
        (OptimizerName::AdamwTorch, json!({"optim_args": {"momentum": 0.9}})),
        (OptimizerName::Sgd, json!({"optim_args": {"momentum": 1, "nesterov": true}})),
        (OptimizerName::Muon, json!({"optim_args": {"ns_steps": 0}})),
        (OptimizerName::Lion, json!({"lora": {"loraplus_lr_ratio": 0}})),
        (OptimizerName::Lion, json!({"param_groups": [{"pattern": "norm"}]})),
        (
            OptimizerName::Lion,
            json!({"param_groups": [
                {"pattern": "norm", "learning_rate": 1e-3},
                {"pattern": "(", "learning_rate": 0, "weight_decay": -1},
            ]}),
        ),
    ];
    insta::assert_snapshot!(refused.map(|(optimizer, section)| check(optimizer, section)).concat());
    let all = json!({"optim_args": {"momentum": 0.9, "nesterov": false, "ns_steps": 6, "adjust_lr_fn": "original"}});
    assert_eq!(check(OptimizerName::Muon, all), "");
}

#[test]
fn preference_settings_that_cannot_work_are_refused() {
    let check = |dpo: serde_json::Value| {
        let config: TrainingConfig = serde_json::from_value(json!({"dpo": dpo})).unwrap();
        problems(&config).iter().map(|p| format!("{}: {}\n", p.key, p.message)).collect::<String>()
    };
    let refused = [
        json!({"beta": 0, "label_smoothing": 0.7, "max_length": 1, "max_prompt_length": 0}),
        json!({"loss_type": "ipo", "label_smoothing": 0.1}),
        json!({"loss_type": "robust", "label_smoothing": 0.5}),
        json!({"loss_type": "kto", "reference_free": true, "per_device_train_batch_size": 1, "desirable_weight": -1}),
        json!({"loss_type": "simpo", "reference_model_path": "models/other"}),
        json!({"reference_free": true, "reference_model_path": "models/other"}),
    ];
    insta::assert_snapshot!(refused.map(check).concat());
    assert_eq!(
        check(json!({"loss_type": "robust", "label_smoothing": 0.1, "reference_model_path": "models/other"})),
        ""
    );
}

#[test]
fn what_is_not_in_this_build_is_said() {
    let mut config = TrainingConfig { training_type: TrainingType::Sft, ..TrainingConfig::default() };
    // The default `lora.enabled: true` must not stop a run of another type.
    assert!(config.lora.enabled);
    assert!(unsupported(&config).is_empty());
    config.fp16 = true;
    insta::assert_snapshot!(
        unsupported(&config).iter().map(|p| format!("{}: {}\n", p.key, p.message)).collect::<String>()
    );
}

#[test]
fn ranges_are_in_the_schema() {
    let schema = serde_json::to_value(schemars::schema_for!(TrainingConfig)).unwrap();
    let sft = &schema["$defs"]["SftConfig"]["properties"];
    assert_eq!(sft["learning_rate"]["exclusiveMinimum"], 0);
    assert_eq!(sft["warmup_ratio"]["maximum"], 1);
    let without_doc: Vec<&String> = sft
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| value.get("description").is_none())
        .map(|(key, _)| key)
        .collect();
    assert!(without_doc.is_empty(), "{without_doc:?}");
}
