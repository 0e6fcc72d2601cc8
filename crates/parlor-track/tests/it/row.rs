//! Rows and their JSON.

use parlor_track::{MetricValue, Row};
use proptest::prelude::*;
use serde_json::json;

#[test]
fn non_finite_values_are_null_and_a_text() {
    let row = Row::new(3)
        .with("loss", f64::NAN)
        .with("grad_norm", f64::INFINITY)
        .with("low", f64::NEG_INFINITY)
        .with("tokens", 12u64);
    insta::assert_snapshot!(serde_json::Value::Object(row.to_json()).to_string(), @r#"{"step":3,"loss":null,"loss_text":"NaN","grad_norm":null,"grad_norm_text":"Infinity","low":null,"low_text":"-Infinity","tokens":12}"#);
}

#[test]
fn what_is_not_a_row_is_refused() {
    let check = |value: serde_json::Value, problem: &str| {
        let error = Row::from_json(value.as_object().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), format!("a row of metrics cannot be recorded: {problem}"));
    };
    check(json!({"loss": 1}), "`step` is missing or not a whole number");
    check(json!({"step": -1}), "`step` is missing or not a whole number");
    check(json!({"step": 1.5}), "`step` is missing or not a whole number");
    check(json!({"step": 1, "x": [1]}), "`x` is [1]; expected a number, a text or null");
}

#[test]
fn a_null_without_a_text_is_nan() {
    let row = Row::from_json(json!({"step": 1, "loss": null}).as_object().unwrap()).unwrap();
    assert!(row.number("loss").unwrap().is_nan());
}

fn value() -> impl Strategy<Value = MetricValue> {
    prop_oneof![
        any::<i64>().prop_map(MetricValue::Integer),
        proptest::num::f64::ANY.prop_map(MetricValue::Float),
        ".{0,20}".prop_map(MetricValue::Text),
    ]
}

fn same(a: &MetricValue, b: &MetricValue) -> bool {
    match (a, b) {
        (MetricValue::Float(a), MetricValue::Float(b)) => a.is_nan() && b.is_nan() || a == b,
        (a, b) => a == b,
    }
}

proptest! {
    #[test]
    fn a_row_survives_its_json(
        step in any::<u64>(),
        metrics in proptest::collection::btree_map("[a-z/ äß\"\\\\]{0,12}[a-z]", value(), 0..8),
    ) {
        prop_assume!(!metrics.contains_key("step"));
        prop_assume!(metrics.keys().all(|key| !metrics.contains_key(&format!("{key}_text"))));
        let row = Row { step, metrics: metrics.into_iter().collect() };
        let text = serde_json::Value::Object(row.to_json()).to_string();
        prop_assert!(!text.contains('\n'));
        let read = Row::from_json(serde_json::from_str::<serde_json::Value>(&text).unwrap().as_object().unwrap()).unwrap();
        prop_assert_eq!(read.step, row.step);
        prop_assert_eq!(read.metrics.len(), row.metrics.len());
        for ((name, value), (read_name, read_value)) in row.metrics.iter().zip(&read.metrics) {
            prop_assert_eq!(name, read_name);
            prop_assert!(same(value, read_value), "{:?} became {:?}", value, read_value);
        }
    }
}
