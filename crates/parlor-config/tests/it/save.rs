//! What is saved loads as the same values.

use std::collections::BTreeMap;

use parlor_config::SaveMode;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::sample::{Case, Sample, fixed, read};

/// Saves both ways and loads again, with the same environment and nothing else.
#[track_caller]
fn round_trip(case: &Case) {
    let manager = case.load();
    for mode in [SaveMode::Changed, SaveMode::All] {
        let path = case.path("saved.yaml");
        manager.save(&path, mode).unwrap();
        let mut again = Case::new();
        again.sources.environment.clone_from(&case.sources.environment);
        again.sources.files = vec![path.clone()];
        let loaded = again.try_load().unwrap_or_else(|error| panic!("{error}\n{}", read(&path)));
        assert_eq!(loaded.get(), manager.get(), "{mode:?}\n{}", read(&path));
    }
}

#[test]
fn what_differs_is_saved() {
    let case = Case::with("training:\n  sft:\n    learning_rate: 3e-7\n  seed: 42\nmodel: {max_length: 5}\n");
    insta::assert_snapshot!(case.load().to_yaml(SaveMode::Changed), @r#"
    model:
      max_length: 5
    training:
      sft:
        learning_rate: 3.0e-7
    "#);
    round_trip(&case);
    assert_eq!(Case::new().load().to_yaml(SaveMode::Changed), "{}\n");
}

#[test]
fn everything_is_saved() {
    insta::assert_snapshot!(Case::new().load().to_yaml(SaveMode::All));
    round_trip(&Case::new());
}

#[test]
fn references_survive() {
    let text = "model:\n  name: \"${NAME}\"\n  max_length: ${LENGTH:-512}\ndata:\n  path: ${DIR:-./data}\ntraining:\n  target_modules: [\"${A}\", b]\n  save_at:\n  - ${LENGTH:-3}\n  - 4\ncustom:\n  list:\n  - a: ${A}\n    b: [1, 2]\n  - []\n  escaped: $${A}\n  number: \"${LENGTH:-1}\"\n";
    let case = Case::with(text).env("NAME", "7").env("A", "x: # y").set("custom.flag=${A} $${B}");
    insta::assert_snapshot!(case.load().to_yaml(SaveMode::Changed), @r#"
    model:
      name: "${NAME}"
      max_length: ${LENGTH:-512}
    training:
      target_modules:
        - "${A}"
        - "b"
      save_at:
        - ${LENGTH:-3}
        - 4
    data:
      path: ${DIR:-./data}
    custom:
      list:
        -
          a: ${A}
          b: [1, 2]
        - []
      escaped: $${A}
      number: "${LENGTH:-1}"
      flag: "$${A} $$${B}"
    "#);
    round_trip(&case);
}

#[test]
fn a_secret_is_saved_as_a_reference_or_not_at_all() {
    for (text, written) in [
        ("tracker: {api_key: sk-123}", false),
        ("tracker: {api_key: \"${KEY}\"}", true),
        ("tracker: {api_key: \"${KEY:-sk-123}\"}", false),
        ("tracker: {api_key: \"sk-123${KEY}\"}", false),
    ] {
        let manager = Case::with(text).env("KEY", "sk-123").load();
        for mode in [SaveMode::Changed, SaveMode::All] {
            let yaml = manager.to_yaml(mode);
            assert!(!yaml.contains("sk-"), "{yaml}");
            assert_eq!(yaml.contains("${KEY}"), written, "{yaml}");
            assert!(Case::with(&yaml).env("KEY", "sk-123").try_load().is_ok(), "{yaml}");
        }
    }
}

#[test]
fn saving_keeps_a_link_and_permissions_and_leaves_nothing_else() {
    let case = Case::with("training: {seed: 3}\n").beside("target.yaml", "old");
    let link = case.path("link.yaml");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::os::unix::fs::symlink(case.path("target.yaml"), &link).unwrap();
        std::fs::set_permissions(case.path("target.yaml"), PermissionsExt::from_mode(0o640)).unwrap();
        case.load().save(&link, SaveMode::Changed).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::metadata(&link).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(read(&case.path("target.yaml")), "training:\n  seed: 3\n");
        assert_eq!(std::fs::read_dir(case.directory.path()).unwrap().count(), 3);
    }
}

#[test]
fn a_directory_that_is_not_there() {
    let case = Case::new();
    let error = case.load().save(&case.path("no/config.yaml"), SaveMode::All).unwrap_err();
    assert!(error.to_string().contains("no/config.yaml"), "{error}");
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~]{0,12}",
        "[\\$\\{\\}A:#'\"\\\\\n\t -]{0,10}",
        Just("\u{85}\u{2028}\u{feff}\u{7f}\r\n\0".to_owned()),
        Just("null".to_owned()),
        Just("1e5".to_owned()),
    ]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn sample() -> impl Strategy<Value = Sample> {
    let numbers = (any::<u64>(), 1e-300..1e300_f64, 0.0..0.9_f64, 1..u32::MAX, 1..100_000_u32, any::<bool>());
    let texts =
        (text(), text(), prop::collection::vec(text(), 0..3), prop::collection::vec(any::<u32>(), 0..3));
    let custom = prop::collection::btree_map("[a-zA-Z_ .:#\u{e4}-]{0,8}", json_value(), 0..4);
    (numbers, texts, custom, prop::option::of(1..u32::MAX)).prop_map(|(numbers, texts, custom, length)| {
        let mut sample = Sample::default();
        (sample.training.seed, sample.training.sft.learning_rate) = (numbers.0, numbers.1);
        (sample.training.dropout, sample.training.dpo.epochs) = (numbers.2, numbers.3);
        (sample.data.batch_size, sample.training.bf16) = (numbers.4, numbers.5);
        (sample.model.name, sample.model.device) = (texts.0, texts.1);
        (sample.training.target_modules, sample.training.save_at) = (texts.2, texts.3);
        sample.model.max_length = length;
        sample.custom = custom;
        sample
    })
}

/// Laid over the defaults as an update, section by section.
fn with_values(sample: &Sample) -> parlor_config::ConfigManager<Sample> {
    let manager = Case::new().load();
    let Value::Object(sections) = serde_json::to_value(sample).unwrap() else { panic!("a section") };
    for (name, section) in sections {
        manager.update(&name, section).unwrap();
    }
    manager
}

proptest! {
    #![proptest_config(fixed(256))]

    #[test]
    fn any_values_survive(sample in sample()) {
        let manager = with_values(&sample);
        prop_assert_eq!(&*manager.get(), &sample);
        for mode in [SaveMode::Changed, SaveMode::All] {
            let yaml = manager.to_yaml(mode);
            let again = Case::with(&yaml);
            let again = again.try_load().map_err(|error| TestCaseError::fail(format!("{error}\n{yaml}")))?;
            prop_assert_eq!(&*again.get(), &sample, "{}", yaml);
        }
    }
}

#[test]
fn a_custom_map_keeps_its_order_and_depth() {
    let custom: BTreeMap<String, Value> =
        [("b".to_owned(), json!({"x": {"y": {}}})), ("a".to_owned(), json!([[], {}, [{"k": null}]]))].into();
    let sample = Sample { custom, ..Sample::default() };
    insta::assert_snapshot!(with_values(&sample).to_yaml(SaveMode::Changed), @r#"
    custom:
      a: [[], {}, [{k: null}]]
      b:
        x:
          y: {}
    "#);
}
