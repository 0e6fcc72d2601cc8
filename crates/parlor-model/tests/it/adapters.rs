//! Low-rank adapters against PEFT 0.21 in f32 (`fixtures/make/adapters.py`), and equalities: merged =
//! attached, packed = alone, switched off = never attached.

use std::path::{Path, PathBuf};

use parlor_model::{
    ALL_LINEAR, AdapterChoice, AdapterConfig, AdapterPlan, Batch, Decoder, Gradients, InitLora, LoadOptions,
    LoadedModel, PassOptions, SaveModel, TargetModules, Targets, TextFiles, Workspace, load_adapter,
    load_directory, load_with_adapters, merge, read_adapter_config, save_adapter, save_directory,
};
use safetensors::SafeTensors;

use crate::fixture::{Expected, load, relative};

/// The tolerance of `parity.rs`; merging rounds once more, by as much as its fixtures show.
const LOGITS: f64 = 1e-5;
const GRADIENTS: f64 = 2e-5;

/// Fixture and the model that it belongs to.
const CASES: [(&str, &str); 13] = [
    ("plain", "qwen2"),
    ("all_linear", "qwen3"),
    ("pattern", "llama"),
    ("ranks", "qwen2"),
    ("dora", "qwen3"),
    ("bias_all", "qwen2"),
    ("bias_lora_only", "llama_attn_bias"),
    ("modules_to_save", "llama"),
    ("own_head", "qwen2"),
    ("conv1d", "gpt2"),
    ("conv1d_dora", "gpt2"),
    ("some_layers", "qwen3"),
    ("own_embedding", "qwen2"),
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/adapters").join(name)
}

fn adapted(name: &str, base: &str) -> LoadedModel {
    let mut model = load(base);
    let info = load_adapter(&mut model.decoder, model.architecture, &path(name)).unwrap();
    assert_eq!(info.warnings, Vec::<String>::new(), "{name}");
    model
}

fn logits(decoder: &Decoder, batch: &Batch) -> Vec<f32> {
    let rows: Vec<usize> = (0..batch.len()).collect();
    decoder.logits(batch, &rows, None, &mut Workspace::default()).unwrap()
}

/// The tensors of an adapter's file, by name.
fn tensors(file: &Path) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(file).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<_> = file
        .iter()
        .map(|(name, tensor)| {
            let values = bytemuck::allocation::pod_collect_to_vec::<u8, f32>(tensor.data());
            (name.to_owned(), tensor.shape().to_vec(), values)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// What `save_adapter` writes for the adapter of `decoder`.
fn saved_tensors(decoder: &Decoder) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let directory = tempfile::tempdir().unwrap();
    save_adapter(directory.path(), decoder, 0, &TextFiles::default()).unwrap();
    tensors(&directory.path().join("adapter_model.safetensors"))
}

fn gradients(decoder: &Decoder, expected: &Expected, options: &PassOptions) -> (f64, Gradients) {
    let (mut workspace, mut gradients) = (Workspace::default(), Gradients::zeros(decoder));
    let logp = decoder.logprobs(&expected.batch, &expected.targets, options, &mut workspace).unwrap();
    let weight = expected.targets.weight();
    let pairs = expected.targets.weights.iter().zip(&logp);
    let loss = -pairs.map(|(&w, &l)| f64::from(w) * f64::from(l)).sum::<f64>() / weight;
    let d_logp: Vec<f32> =
        expected.targets.weights.iter().map(|&w| (-f64::from(w) / weight) as f32).collect();
    decoder.backward(&d_logp, &expected.batch, &mut workspace, &mut gradients).unwrap();
    (loss, gradients)
}

fn check(name: &str, base: &str) {
    let (mut model, expected) = (adapted(name, base), Expected::of_directory(&path(name)));
    let difference = relative(&logits(&model.decoder, &expected.batch), &expected.tensors["logits"]);
    assert!(difference < LOGITS, "{name}: logits differ by {difference:e}");

    model.decoder.train_adapter(0);
    let counts = model.decoder.trainable_parameters();
    let want: Vec<usize> = expected.integers["trainable"].iter().map(|&n| n as usize).collect();
    assert_eq!([counts.trainable, counts.all], want[..], "{name}");
    let (loss, found) = gradients(&model.decoder, &expected, &PassOptions::default());
    let want = f64::from(expected.tensors["loss"][0]);
    assert!((loss - want).abs() < 1e-6 * want, "{name}: loss {loss}, want {want}");

    // The gradients under the names of the file: saved in the place of the values.
    let values = model.decoder.clone();
    for (id, gradient) in found.iter() {
        model.decoder.values_mut(id).unwrap().copy_from_slice(&gradient);
    }
    let mut compared = 0;
    for (tensor, shape, gradient) in saved_tensors(&model.decoder) {
        let want = &expected.tensors[&format!("grad.{tensor}")];
        assert_eq!(shape.iter().product::<usize>(), want.len(), "{name}: {tensor}");
        let difference = relative(&gradient, want);
        assert!(difference < GRADIENTS, "{name}: gradient of {tensor} differs by {difference:e}");
        compared += 1;
    }
    assert_eq!(compared, expected.tensors.keys().filter(|key| key.starts_with("grad.")).count(), "{name}");

    assert!(
        saved_tensors(&values) == tensors(&path(name).join("adapter_model.safetensors")),
        "{name}: saved"
    );
    let merged = merge(&values, 0).unwrap();
    assert!(merged.adapters().is_empty());
    let difference = relative(&logits(&merged, &expected.batch), &expected.tensors["logits"]);
    assert!(difference < LOGITS, "{name}: merged logits differ by {difference:e}");

    // A directory of its own says whether the head is the embedding still.
    let directory = tempfile::tempdir().unwrap();
    let kept = SaveModel { decoder: &merged, ..SaveModel::of(&model) };
    save_directory(&directory.path().join("merged"), &kept).unwrap();
    let loaded = load_directory(&directory.path().join("merged"), &LoadOptions::default()).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new(), "{name}");
    assert!(
        logits(&loaded.decoder, &expected.batch) == logits(&merged, &expected.batch),
        "{name}: merged, loaded"
    );
}

#[test]
fn logits_gradients_files_and_merging_are_peft_s() {
    for (name, base) in CASES {
        check(name, base);
    }
}

#[test]
fn the_configuration_survives_a_round_trip() {
    for (name, _) in CASES {
        let config = read_adapter_config(&path(name)).unwrap();
        assert_eq!(AdapterConfig::from_json(&config.to_json()).unwrap(), config, "{name}");
    }
}

#[test]
fn switched_off_is_never_attached() {
    for (name, base) in CASES {
        let (plain, mut model) = (load(base), adapted(name, base));
        let expected = Expected::of_directory(&path(name));
        let want = logits(&plain.decoder, &expected.batch);
        let off = expected.batch.clone().with_adapter(AdapterChoice::Base);
        assert!(logits(&model.decoder, &off) == want, "{name}: by segment");
        model.decoder.activate(None);
        assert!(logits(&model.decoder, &expected.batch) == want, "{name}: by decoder");
    }
}

/// Two adapters of one base in one batch: every segment has the logits of a model with only its own adapter,
/// or with none.
#[test]
fn segments_choose_their_adapters() {
    for (base, first, second) in [("qwen2", "plain", "ranks"), ("qwen3", "dora", "all_linear")] {
        let mut both = adapted(first, base);
        load_adapter(&mut both.decoder, both.architecture, &path(second)).unwrap();
        let alone = [adapted(second, base), load(base), adapted(first, base)];
        let expected = Expected::read(base);
        let mut mixed = expected.batch.clone();
        let choices = [AdapterChoice::Adapter(1), AdapterChoice::Base, AdapterChoice::Adapter(0)];
        assert_eq!(mixed.segments.len(), choices.len());
        for (segment, choice) in mixed.segments.iter_mut().zip(choices) {
            segment.adapter = choice;
        }
        let together = logits(&both.decoder, &mixed);
        let vocab = both.decoder.config().vocab_size;
        let mut apart = Vec::new();
        for (segment, model) in mixed.segments.iter().zip(&alone) {
            let own = logits(&model.decoder, &Batch::of_sequences([&mixed.ids[segment.rows.clone()]]));
            let rows = segment.rows.start * vocab..segment.rows.end * vocab;
            let difference = relative(&together[rows], &own);
            // Equal but for the order of sums.
            assert!(difference < 2e-6, "{base} {:?}: {difference:e}", segment.adapter);
            apart.push(own);
        }
        // And the adapters do something.
        let plain = logits(&alone[1].decoder, &expected.batch);
        for (segment, own) in mixed.segments.iter().zip(&apart).step_by(2) {
            let rows = segment.rows.start * vocab..segment.rows.end * vocab;
            assert!(relative(own, &plain[rows]) > 1e-3, "{base}");
        }
    }
}

/// With another adapter in its batch, an adapter has the gradients of its own segment, whichever of the two
/// is DoRA's.
#[test]
fn segments_leave_each_other_s_gradients_alone() {
    let mut both = adapted("dora", "qwen3");
    load_adapter(&mut both.decoder, both.architecture, &path("all_linear")).unwrap();
    let expected = Expected::read("qwen3");
    let mut mixed = expected.batch.clone();
    let choices = [AdapterChoice::Adapter(1), AdapterChoice::Base, AdapterChoice::Adapter(0)];
    assert_eq!(mixed.segments.len(), choices.len());
    for (segment, choice) in mixed.segments.iter_mut().zip(choices) {
        segment.adapter = choice;
    }
    let all = |decoder: &Decoder, batch: &Batch, targets: &Targets| -> Vec<f32> {
        let (mut workspace, mut gradients) = (Workspace::default(), Gradients::zeros(decoder));
        decoder.logprobs(batch, targets, &PassOptions::default(), &mut workspace).unwrap();
        decoder.backward(&targets.weights, batch, &mut workspace, &mut gradients).unwrap();
        gradients.iter().flat_map(|(_, values)| values.to_vec()).collect()
    };
    for (id, segment) in [(1, 0), (0, 2)] {
        both.decoder.train_adapter(id);
        let rows = mixed.segments[segment].rows.clone();
        let alone = Batch::of_sequences([&mixed.ids[rows.clone()]]).with_adapter(AdapterChoice::Adapter(id));
        let targets = Targets {
            ids: expected.targets.ids[rows.clone()].to_vec(),
            weights: expected.targets.weights[rows].to_vec(),
        };
        let want = all(&both.decoder, &alone, &targets);
        let difference = relative(&all(&both.decoder, &mixed, &expected.targets), &want);
        assert!(difference < GRADIENTS, "adapter {id}: {difference:e}");
    }
}

#[test]
fn a_new_adapter_changes_nothing() {
    for (base, dora, init) in [
        ("qwen2", false, InitLora::Default),
        ("llama", true, InitLora::Gaussian),
        ("gpt2", true, InitLora::Default),
    ] {
        let (plain, mut model) = (load(base), load(base));
        let config = AdapterConfig {
            use_dora: dora,
            init_lora_weights: init,
            target_modules: TargetModules::Pattern(ALL_LINEAR.to_owned()),
            ..AdapterConfig::default()
        };
        let plan = AdapterPlan::new(&model.decoder, model.architecture, config).unwrap();
        let values = plan.initial_values(&model.decoder, 1);
        assert!(plan.initial_values(&model.decoder, 1) == values, "the same seed gives the same values");
        assert!(plan.initial_values(&model.decoder, 2) != values);
        model.decoder.attach(plan, values).unwrap();
        let expected = Expected::read(base);
        let (want, got) = (logits(&plain.decoder, &expected.batch), logits(&model.decoder, &expected.batch));
        // DoRA divides each row by its norm and multiplies by it again.
        let difference = relative(&got, &want);
        assert!(if dora { difference < 1e-6 } else { difference == 0.0 }, "{base}: {difference:e}");
    }
}

/// Values of new factors have the spread that PEFT's have.
#[test]
fn factors_are_drawn_as_peft_draws_them() {
    let bytes = std::fs::read(path("initial.json")).unwrap();
    let drawn: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let model = load("qwen2");
    for (name, init) in [("default", InitLora::Default), ("gaussian", InitLora::Gaussian)] {
        let expected = |key: &str| drawn[name][key].as_f64().unwrap();
        let config =
            AdapterConfig { r: expected("r") as usize, init_lora_weights: init, ..AdapterConfig::default() };
        let plan = AdapterPlan::new(&model.decoder, model.architecture, config).unwrap();
        let values = plan.initial_values(&model.decoder, 3);
        let a = &values[0];
        assert_eq!(plan.specs()[0].shape, [64, expected("inputs") as usize]);
        let variance = a.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / a.len() as f64;
        // 2048 draws: the variance of a sample is within 15% (more than four deviations). PEFT's is of 200
        // times as many.
        let want = expected("variance");
        assert!((variance / want - 1.0).abs() < 0.15, "{init:?}: {variance:e}, want {want:e}");
        let largest = a.iter().fold(0.0f64, |max, &x| max.max(f64::from(x).abs()));
        assert!(largest < expected("largest") * 1.0001, "{init:?}: {largest}");
        assert!(values[1].iter().all(|&b| b == 0.0));
    }
}

/// Under dropout the gradients are those of the masked network, by finite differences with the same mask.
#[test]
fn dropout_has_the_gradients_of_its_mask() {
    for (base, dora) in [("qwen2", false), ("llama_attn_bias", true), ("gpt2", true)] {
        let mut model = load(base);
        let config = AdapterConfig {
            r: 2,
            lora_alpha: 4.0,
            lora_dropout: 0.3,
            use_dora: dora,
            ..AdapterConfig::default()
        };
        let plan = AdapterPlan::new(&model.decoder, model.architecture, config).unwrap();
        let mut values = plan.initial_values(&model.decoder, 1);
        for (n, value) in values.iter_mut().flatten().enumerate() {
            *value += ((n * 7919) % 101) as f32 / 101.0 - 0.5;
        }
        model.decoder.attach(plan, values).unwrap();
        model.decoder.train_adapter(0);
        let expected = Expected::read(base);
        let mut options = PassOptions { seed: Some(5), ..PassOptions::default() };
        let (loss, found) = gradients(&model.decoder, &expected, &options);
        assert_eq!(gradients(&model.decoder, &expected, &options).0, loss, "the same seed, the same mask");
        options.seed = Some(6);
        assert_ne!(gradients(&model.decoder, &expected, &options).0, loss, "another seed, another mask");
        options.seed = Some(5);
        let ids: Vec<usize> = found.iter().map(|(id, _)| id).collect();
        for &id in ids.iter().step_by(5) {
            // DoRA holds the norms of its rows constant, which a difference cannot: only magnitudes are
            // compared there.
            let name = model.decoder.parameters()[id].spec.role.to_string();
            if dora && !name.ends_with("lora_magnitude_vector") {
                continue;
            }
            let gradient = found.get(id).unwrap().to_vec();
            let largest = gradient.iter().fold(0.0f32, |max, g| max.max(g.abs()));
            let at = gradient.iter().position(|g| g.abs() == largest).unwrap();
            // The loss, about 5, is the sum of f32 numbers with an error near 1e-6, of which a step of 3e-3
            // leaves 2e-4; its curvature moves the difference by 2e-3 of itself.
            let step = 3e-3;
            let mut moved = |by: f32| {
                model.decoder.values_mut(id).unwrap()[at] += by;
                gradients(&model.decoder, &expected, &options).0
            };
            let (up, down) = (moved(step), moved(-2.0 * step));
            moved(step);
            let difference = (up - down) / f64::from(2.0 * step);
            let error = (difference - f64::from(largest.copysign(gradient[at]))).abs();
            assert!(
                error < 5e-3 * f64::from(largest) + 5e-4,
                "{base}: {name}: {difference:e}, {:e}",
                gradient[at]
            );
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let plan = |base: &str, change: &dyn Fn(&mut AdapterConfig)| {
        let model = load(base);
        let mut config = AdapterConfig::default();
        change(&mut config);
        AdapterPlan::new(&model.decoder, model.architecture, config).unwrap_err().to_string()
    };
    let names = |list: &[&str]| TargetModules::Names(list.iter().map(|&name| name.to_owned()).collect());
    insta::assert_snapshot!("no_target", plan("gpt2", &|c| c.target_modules = names(&["q_proj", "v_proj"])));
    insta::assert_snapshot!(
        "embedding_target",
        plan("qwen2", &|c| c.target_modules = names(&["q_proj", "embed_tokens"]))
    );
    insta::assert_snapshot!(
        "bad_pattern",
        plan("qwen2", &|c| c.target_modules = TargetModules::Pattern("(q".to_owned()))
    );
    insta::assert_snapshot!("rank_zero", plan("qwen2", &|c| c.r = 0));
    insta::assert_snapshot!(
        "no_module_to_save",
        plan("qwen2", &|c| c.modules_to_save = vec!["lm_heat".to_owned()])
    );

    // With another model: another shape, other names, other tensors.
    let mismatch = |adapter: &str, base: &str| {
        let mut model = load(base);
        let error =
            load_adapter(&mut model.decoder, model.architecture, &path(adapter)).unwrap_err().to_string();
        error.replace(path(adapter).to_str().unwrap(), "DIR")
    };
    insta::assert_snapshot!("other_shape", mismatch("plain", "llama"));
    insta::assert_snapshot!("other_names", mismatch("conv1d", "qwen2"));
    insta::assert_snapshot!("more_layers", mismatch("all_linear", "qwen2"));

    // A warning where a name means nothing but others do.
    let model = load("qwen2");
    let config = AdapterConfig { target_modules: names(&["q_proj", "c_attn"]), ..AdapterConfig::default() };
    let plan = AdapterPlan::new(&model.decoder, model.architecture, config).unwrap();
    insta::assert_snapshot!("one_name_too_many", plan.warnings.join("\n"));
    let config = AdapterConfig {
        rank_pattern: [("q_proj".to_owned(), 2), ("up_proj".to_owned(), 2)].into_iter().collect(),
        alpha_pattern: [(r"layers\.7\..*".to_owned(), 2.0)].into_iter().collect(),
        target_modules: names(&["q_proj"]),
        ..AdapterConfig::default()
    };
    let plan = AdapterPlan::new(&model.decoder, model.architecture, config).unwrap();
    insta::assert_snapshot!("patterns_of_nothing", plan.warnings.join("\n"));
}

/// A model of the same shape under another name is a warning.
#[test]
fn an_adapter_of_another_model_is_a_warning() {
    let warnings_with = |base: &str| {
        let base = path("plain").join("../../models").join(base);
        load_with_adapters(&base, &[path("plain")], &LoadOptions::default()).unwrap().warnings
    };
    assert_eq!(warnings_with("qwen2"), Vec::<String>::new());
    let warnings = warnings_with("qwen2_chat");
    assert!(warnings[0].contains("made for `qwen2`") && warnings[0].contains("qwen2_chat"), "{warnings:?}");
}

#[test]
fn damaged_adapters_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let there = |file: &str| directory.path().join(file);
    let attempt = || {
        let mut model = load("qwen2");
        let error =
            load_adapter(&mut model.decoder, model.architecture, directory.path()).unwrap_err().to_string();
        error.replace(directory.path().to_str().unwrap(), "DIR")
    };
    insta::assert_snapshot!("no_config", attempt());
    std::fs::copy(path("plain").join("adapter_config.json"), there("adapter_config.json")).unwrap();
    insta::assert_snapshot!("no_weights", attempt());
    let weights = std::fs::read(path("plain").join("adapter_model.safetensors")).unwrap();
    std::fs::write(there("adapter_model.safetensors"), &weights[..weights.len() - 5]).unwrap();
    insta::assert_snapshot!("truncated", attempt());
    let config = |key: &str, value: serde_json::Value| {
        let text = std::fs::read(path("plain").join("adapter_config.json")).unwrap();
        let mut map: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&text).unwrap();
        map.insert(key.to_owned(), value);
        std::fs::write(there("adapter_config.json"), serde_json::to_vec(&map).unwrap()).unwrap();
        attempt()
    };
    insta::assert_snapshot!("other_method", config("peft_type", "IA3".into()));
    insta::assert_snapshot!("not_in_this_build", config("lora_bias", true.into()));
    insta::assert_snapshot!("init_by_other_weights", config("init_lora_weights", "pissa_niter_4".into()));
    insta::assert_snapshot!("r_as_text", config("r", "four".into()));
    insta::assert_snapshot!("unknown_bias", config("bias", "some".into()));
}
