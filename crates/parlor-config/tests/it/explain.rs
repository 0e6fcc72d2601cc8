//! `explain`, `value`, `shown`, `keys`.

use parlor_config::{Layer, SaveMode};
use serde_json::json;

use crate::sample::Case;

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

#[test]
fn a_key_of_a_file() {
    let case = Case::with("training:\n  # c\n  dropout: 0.5\n");
    let mut explained = case.load().explain("training.dropout").unwrap();
    assert_eq!(explained.file.take(), Some(case.path("config.yaml")));
    insta::assert_snapshot!(pretty(&explained), @r#"
    {
      "key": "training.dropout",
      "value": 0.5,
      "layer": "file",
      "file": null,
      "line": 3,
      "default": 0.1,
      "description": "Share of units that are dropped.",
      "kind": "a number",
      "range": "at least 0, at most 0.9",
      "environment": [
        "PARLOR__TRAINING__DROPOUT"
      ]
    }
    "#);
}

#[test]
fn an_enum_and_a_name_that_depends() {
    let manager = Case::new().load();
    insta::assert_snapshot!(pretty(&manager.explain("training.training_type").unwrap()), @r#"
    {
      "key": "training.training_type",
      "value": "sft",
      "layer": "default",
      "file": null,
      "line": null,
      "default": "sft",
      "description": "The objective.",
      "kind": "a text",
      "range": "from_scratch, sft, dpo, preference (= dpo)",
      "environment": [
        "TRAINING_TYPE",
        "PARLOR__TRAINING__TRAINING_TYPE"
      ]
    }
    "#);
    insta::assert_snapshot!(pretty(&manager.explain("training.sft.learning_rate").unwrap()), @r#"
    {
      "key": "training.sft.learning_rate",
      "value": 0.00005,
      "layer": "default",
      "file": null,
      "line": null,
      "default": 0.00005,
      "description": "Step size.",
      "kind": "a number",
      "range": "above 0",
      "environment": [
        "LEARNING_RATE",
        "PARLOR__TRAINING__SFT__LEARNING_RATE"
      ]
    }
    "#);
    let aliased = Case::with("training: {training_type: preference}").load();
    let explained = aliased.explain("training.dpo.learning_rate").unwrap();
    assert_eq!(explained.environment, ["LEARNING_RATE", "PARLOR__TRAINING__DPO__LEARNING_RATE"]);
    insta::assert_snapshot!(pretty(&manager.explain("model.max_length").unwrap()), @r#"
    {
      "key": "model.max_length",
      "value": null,
      "layer": "default",
      "file": null,
      "line": null,
      "default": null,
      "description": "Longest sequence, in tokens.",
      "kind": "a whole number, or null",
      "range": "at least 1",
      "environment": [
        "MAX_LENGTH",
        "PARLOR__MODEL__MAX_LENGTH"
      ]
    }
    "#);
    insta::assert_snapshot!(pretty(&manager.explain("training.target_modules").unwrap()), @r#"
    {
      "key": "training.target_modules",
      "value": [
        "q_proj",
        "v_proj"
      ],
      "layer": "default",
      "file": null,
      "line": null,
      "default": [
        "q_proj",
        "v_proj"
      ],
      "description": "Layers that get adapters.",
      "kind": "a list",
      "range": null,
      "environment": [
        "PARLOR__TRAINING__TARGET_MODULES"
      ]
    }
    "#);
}

#[test]
fn every_key_can_be_explained() {
    let manager = Case::new().load();
    assert_eq!(manager.keys().len(), 19);
    for key in manager.keys() {
        let explained = manager.explain(&key).unwrap();
        assert!(!explained.description.is_empty(), "{key}");
        assert_eq!((explained.layer, &explained.value), (Layer::Default, &explained.default), "{key}");
        manager.value(&key).unwrap();
    }
}

#[test]
fn a_section() {
    let manager = Case::with("tracker: {enabled: true}\n").load();
    assert_eq!(manager.explain("tracker").unwrap().value, json!({"enabled": true, "api_key": null}));
    assert_eq!(manager.value("tracker").unwrap(), json!({"enabled": true, "api_key": null}));
}

#[test]
fn an_unknown_key() {
    let manager = Case::new().load();
    for (key, near) in [
        ("training.sed", Some("did you mean `training.seed`?")),
        ("batch_size", Some("did you mean `data.batch_size`?")),
        ("traning", Some("did you mean `training`?")),
    ] {
        assert_eq!(manager.explain(key).unwrap_err().help.as_deref(), near, "{key}");
        assert_eq!(manager.value(key).unwrap_err().help.as_deref(), near, "{key}");
    }
    for key in ["", ".", "..", "training.", "custom.no", "training.seed.x", "zzz\u{1f600}"] {
        let _ = (manager.explain(key), manager.value(key));
    }
    assert!(manager.value("custom.no").is_err());
}

#[test]
fn what_differs() {
    let manager = Case::with("training: {seed: 42, dropout: 0.1}\n").load();
    assert_eq!(manager.shown(SaveMode::Changed), json!({}));
    let manager = Case::with("training: {seed: 42, dpo: {epochs: 4}}\n").load();
    assert_eq!(manager.shown(SaveMode::Changed), json!({"training": {"dpo": {"epochs": 4}}}));
    let all = manager.shown(SaveMode::All);
    assert_eq!((&all["training"]["dpo"]["epochs"], &all["data"]["batch_size"]), (&json!(4), &json!(1000)));
}
