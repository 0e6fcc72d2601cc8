//! Which setting counts: the request's, the user's, the model's, or the neutral one.

use std::path::Path;

use parlor_engine::{Resolved, SamplingOverrides, SamplingParams, resolve};
use parlor_model::GenerationConfig;
use serde_json::{Map, Value, json};

fn model(settings: Value) -> GenerationConfig {
    let file = Path::new("generation_config.json");
    let map: Map<String, Value> = settings.as_object().unwrap().clone();
    GenerationConfig::read(Some((&map, file)), (&Map::new(), file)).unwrap()
}

fn resolved(overrides: SamplingOverrides, settings: Value) -> Resolved {
    resolve(&overrides, &model(settings)).unwrap()
}

fn params(overrides: SamplingOverrides, settings: Value) -> SamplingParams {
    resolved(overrides, settings).params
}

fn none() -> SamplingOverrides {
    SamplingOverrides::default()
}

#[test]
fn what_nobody_sets_is_neutral() {
    assert_eq!(params(none(), json!({})), SamplingParams::greedy(512));
    assert_eq!(params(none(), json!({"do_sample": true})), SamplingParams::default());
    let neutral = SamplingParams::default();
    assert_eq!(
        (neutral.temperature, neutral.top_k, neutral.top_p, neutral.repetition_penalty),
        (1.0, 0, 1.0, 1.0)
    );
    assert_eq!(
        params(none(), json!({"do_sample": true, "top_k": 1})),
        SamplingParams { top_k: 1, ..neutral }
    );
}

#[test]
fn the_model_decides_whether_it_samples_until_someone_asks() {
    let temperature = |overrides: SamplingOverrides, settings| params(overrides, settings).temperature;
    assert_eq!(temperature(none(), json!({"do_sample": true, "temperature": 0.6})), 0.6);
    assert_eq!(temperature(none(), json!({"do_sample": false, "temperature": 0.6})), 0.0);
    assert_eq!(temperature(none(), json!({"temperature": 0.6})), 0.0);
    assert_eq!(temperature(none(), json!({"do_sample": true, "temperature": 0})), 0.0);
    let hot = SamplingOverrides { temperature: Some(0.9), ..none() };
    assert_eq!(temperature(hot, json!({"do_sample": false, "temperature": 0.6})), 0.9);
    let cold = SamplingOverrides { temperature: Some(0.0), top_p: Some(0.5), ..none() };
    assert_eq!(temperature(cold, json!({"do_sample": true})), 0.0);
    // A filter is for drawing.
    for overrides in [
        SamplingOverrides { top_k: Some(5), ..none() },
        SamplingOverrides { top_p: Some(0.5), ..none() },
        SamplingOverrides { min_p: Some(0.5), ..none() },
        SamplingOverrides { typical_p: Some(0.5), ..none() },
    ] {
        assert_eq!(temperature(overrides.clone(), json!({"temperature": 0.6})), 0.6, "{overrides:?}");
        assert_eq!(temperature(overrides.clone(), json!({"do_sample": false})), 1.0, "{overrides:?}");
    }
    let penalty = SamplingOverrides { repetition_penalty: Some(1.2), seed: Some(3), ..none() };
    assert_eq!(temperature(penalty, json!({})), 0.0);
}

#[test]
fn overrides_count_before_each_other_and_before_the_model() {
    let flags =
        SamplingOverrides { top_p: Some(0.1), max_tokens: Some(3), stop: vec!["a".to_owned()], ..none() };
    let user = SamplingOverrides {
        top_p: Some(0.2),
        top_k: Some(2),
        stop: vec!["b".to_owned()],
        repetition_penalty: Some(1.2),
        ..none()
    };
    let settings = json!({"do_sample": true, "top_p": 0.3, "top_k": 3, "min_p": 0.3, "repetition_penalty": 1.3,
        "max_new_tokens": 9, "max_length": 20, "stop_strings": ["c", "a"], "temperature": 0.7});
    let params = params(flags.over(user), settings);
    assert_eq!((params.top_p, params.top_k, params.min_p), (0.1, 2, 0.3));
    assert_eq!((params.repetition_penalty, params.max_tokens, params.max_length), (1.2, 3, None));
    assert_eq!(params.stop, ["a", "b", "c"]);
    assert_eq!(params.temperature, 0.7);
}

#[test]
fn lengths_follow_the_reference() {
    let lengths = |settings| {
        let params = params(none(), settings);
        (params.max_tokens, params.max_length, params.min_tokens, params.min_length)
    };
    assert_eq!(lengths(json!({"max_new_tokens": 9, "max_length": 20})), (9, None, 0, 0));
    assert_eq!(lengths(json!({"max_length": 20, "min_length": 4})), (usize::MAX, Some(20), 0, 4));
    assert_eq!(lengths(json!({"min_new_tokens": 2, "min_length": 4})), (512, None, 2, 0));
    assert_eq!(lengths(json!({"min_new_tokens": 0, "min_length": 4})), (512, None, 0, 0));
}

#[test]
fn what_cannot_be_used_is_refused_unless_it_is_overridden() {
    let refused = |overrides: &SamplingOverrides, settings| {
        resolve(overrides, &model(settings)).map(|resolved| resolved.params.temperature)
    };
    let problems = refused(&none(), json!({"temperature": "hot", "stop_strings": [1]})).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("generation_config.json") && problems[0].contains("`temperature`"));
    assert!(problems[1].contains("`stop_strings`"));
    let hot = SamplingOverrides { temperature: Some(0.5), ..none() };
    assert_eq!(refused(&hot, json!({"temperature": "hot"})), Ok(0.5));
    let problems = refused(&none(), json!({"do_sample": true, "top_p": 1.5})).unwrap_err();
    assert!(problems[0].contains("`top_p` is 1.5") && problems[0].contains("the model's"), "{problems:?}");
    let flag = SamplingOverrides { top_p: Some(1.5), ..none() };
    assert!(!refused(&flag, json!({})).unwrap_err()[0].contains("the model's"));
}

#[test]
fn settings_without_effect_are_said() {
    let warnings = |overrides, settings| resolved(overrides, settings).warnings;
    assert!(warnings(none(), json!({"do_sample": false, "temperature": 0.6})).is_empty());
    assert!(warnings(none(), json!({"top_k": 50, "temperature": 1.0, "top_p": 1.0})).is_empty());
    let idle = warnings(none(), json!({"temperature": 0.6, "min_p": 0.1}));
    assert_eq!(idle.len(), 1);
    assert!(idle[0].contains("`temperature`, `min_p`") && idle[0].contains("do_sample"), "{idle:?}");
    let hot = SamplingOverrides { temperature: Some(0.5), ..none() };
    assert!(warnings(hot, json!({"temperature": 0.6})).is_empty());
    let beams = warnings(none(), json!({"num_beams": 4}));
    assert!(beams.len() == 1 && beams[0].contains("`num_beams` (4)"), "{beams:?}");
}
