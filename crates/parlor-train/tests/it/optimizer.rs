//! Every optimizer against its reference (`fixtures/optimizers.safetensors`), and what a checkpoint keeps of it.

use std::collections::BTreeMap;

use parlor_kernels::quant::{DynamicMap, Sign};
use parlor_model::Architecture;
use parlor_model::{AdapterPlan, Decoder, DecoderConfig, Factor, Gradients, Kind, Role, Site};
use parlor_train::config::{OptimArgs, OptimizerName, ParamGroup};
use parlor_train::{Hyperparameters, Optimizer, OtherStates, TrainingConfig, TrainingType};
use safetensors::SafeTensors;
use serde_json::json;

use crate::parity::fixtures;
use crate::tiny;

const ALL: [OptimizerName; 6] = [
    OptimizerName::AdamwTorch,
    OptimizerName::Adamw8bit,
    OptimizerName::Sgd,
    OptimizerName::Adafactor,
    OptimizerName::Lion,
    OptimizerName::Muon,
];

/// The numbers of `numbers` in fixtures/make/optimizers.py.
fn numbers(seed: u64, length: usize) -> impl Iterator<Item = f32> {
    (0..length as u64).map(move |i| {
        let z = i.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ (z >> 32)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((z ^ (z >> 29)) >> 40) as f32 / (1 << 24) as f32 - 0.5
    })
}

fn fixture() -> BTreeMap<String, Vec<f32>> {
    let bytes = std::fs::read(fixtures().join("optimizers.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let values =
        |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    tensors.iter().map(|(name, tensor)| (name.to_owned(), values(tensor.data()))).collect()
}

/// One block; an embedding that is large enough for 8 bits, matrices that are tall and wide.
fn decoder() -> Decoder {
    let config = DecoderConfig {
        vocab_size: 131,
        hidden_size: 32,
        intermediate_size: 40,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        layers: tiny::config().layers[..1].to_vec(),
        ..tiny::config()
    };
    Decoder::initialise(config, 1).unwrap()
}

fn training(optimizer: OptimizerName, args: serde_json::Value) -> TrainingConfig {
    let optim_args: OptimArgs = serde_json::from_value(args).unwrap();
    TrainingConfig { optimizer, optim_args, ..TrainingConfig::default() }
}

fn hyper() -> Hyperparameters {
    Hyperparameters { learning_rate: 1e-2, weight_decay: 0.1, ..tiny::hyper() }
}

/// Largest distance of any parameter from those of `reference` after its six steps, and their mean.
fn distances(training: &TrainingConfig, hyper: &Hyperparameters, reference: &str) -> (f64, f64) {
    let expected = fixture();
    let mut decoder = decoder();
    let order = [
        "embed_tokens.weight",
        "layers.0.input_layernorm.weight",
        "layers.0.post_attention_layernorm.weight",
        "layers.0.q_proj.weight",
        "layers.0.q_proj.bias",
        "layers.0.k_proj.weight",
        "layers.0.k_proj.bias",
        "layers.0.v_proj.weight",
        "layers.0.v_proj.bias",
        "layers.0.o_proj.weight",
        "layers.0.gate_proj.weight",
        "layers.0.up_proj.weight",
        "layers.0.down_proj.weight",
        "norm.weight",
    ];
    let names: Vec<String> = decoder.parameters().iter().map(|p| p.spec.role.to_string()).collect();
    assert_eq!(names, order);
    for id in 0..names.len() {
        let values = decoder.values_mut(id).unwrap();
        let length = values.len();
        values.iter_mut().zip(numbers(1000 + id as u64, length)).for_each(|(value, number)| *value = number);
    }
    let mut optimizer = Optimizer::new(training, hyper, &decoder).unwrap();
    let mut gradients = Gradients::zeros(&decoder);
    for (step, factor) in [0.25, 0.5, 1.0, 1.0, 0.75, 0.5].into_iter().enumerate() {
        for id in 0..names.len() {
            let gradient = gradients.get_mut(id).unwrap();
            let seed = 100 * (step as u64 + 1) + id as u64;
            let length = gradient.len();
            gradient.iter_mut().zip(numbers(seed, length)).for_each(|(g, number)| *g = number * 0.25);
        }
        optimizer.update(&mut decoder, &gradients, 0.5, factor).unwrap();
    }
    let (mut largest, mut sum, mut count) = (0.0f64, 0.0, 0.0);
    for parameter in decoder.parameters() {
        let expected = &expected[&format!("{reference}.{}", parameter.spec.role)];
        let values = parameter.tensor.as_f32().unwrap();
        for (found, expected) in values.iter().step_by(11).zip(expected) {
            let distance = (f64::from(*found) - f64::from(*expected)).abs();
            (largest, sum, count) = (largest.max(distance), sum + distance, count + 1.0);
        }
    }
    (largest, sum / count)
}

fn check(name: OptimizerName, args: serde_json::Value, reference: &str, tolerance: f64) {
    let hyper = match name {
        OptimizerName::Lion => Hyperparameters { adam_beta2: 0.99, ..hyper() },
        _ => hyper(),
    };
    let (largest, _) = distances(&training(name, args), &hyper, reference);
    assert!(largest < tolerance, "{reference}: {largest:e}");
}

/// Numbers below 1 moved six times: each move rounds by 2^-25 at most, and so does the fixture; the moves
/// themselves are 1e-2 of an update that is exact to a few 1e-7.
const ROUNDING: f64 = 3e-7;

#[test]
fn adamw_follows_torch() {
    check(OptimizerName::AdamwTorch, json!({}), "adamw_torch", ROUNDING);
}

#[test]
fn sgd_with_momentum_follows_torch() {
    check(OptimizerName::Sgd, json!({"momentum": 0.9}), "sgd", ROUNDING);
}

#[test]
fn adafactor_follows_transformers() {
    check(OptimizerName::Adafactor, json!({}), "adafactor", ROUNDING);
}

#[test]
fn lion_follows_bitsandbytes() {
    check(OptimizerName::Lion, json!({}), "lion", ROUNDING);
}

#[test]
fn eight_bit_adamw_follows_bitsandbytes() {
    check(OptimizerName::Adamw8bit, json!({}), "adamw_8bit", ROUNDING);
}

#[test]
fn muon_follows_torch() {
    // Five iterations raise a small singular value, and its rounding, by up to 3.4^5 = 480; an update's
    // elements are about 0.2, and the rate 1e-2.
    check(OptimizerName::Muon, json!({}), "muon", 2e-6);
    check(OptimizerName::Muon, json!({"adjust_lr_fn": "original"}), "muon_original", 2e-6);
    // PyTorch's own iteration is in bfloat16, whose fifteen products round by 2^-9 each: about a hundredth of
    // an update. The updates' rates add up to 4e-2, their elements are about 0.2.
    let (_, mean) = distances(&training(OptimizerName::Muon, json!({})), &hyper(), "muon_bfloat16");
    assert!(mean < 8e-5, "{mean:e}");
}

#[test]
fn the_dynamic_maps_are_those_of_bitsandbytes() {
    let expected = fixture();
    for (sign, name) in [(Sign::Signed, "signed"), (Sign::Unsigned, "unsigned")] {
        for (found, expected) in
            DynamicMap::of(sign).values().iter().zip(&expected[&format!("dynamic_map.{name}")])
        {
            // bitsandbytes makes them in f32, in three roundings.
            assert!(
                (found - expected).abs() <= 4.0 * f32::EPSILON * expected.abs(),
                "{name}: {found} {expected}"
            );
        }
    }
}

/// A decoder, an optimizer that made a step on it, and the gradients.
fn stepped(name: OptimizerName) -> (Decoder, Optimizer, Gradients) {
    let mut decoder = decoder();
    let mut gradients = Gradients::zeros(&decoder);
    for id in 0..gradients.len() {
        let gradient = gradients.get_mut(id).unwrap();
        let length = gradient.len();
        gradient.iter_mut().zip(numbers(id as u64, length)).for_each(|(g, number)| *g = number);
    }
    let mut optimizer = Optimizer::new(&training(name, json!({})), &hyper(), &decoder).unwrap();
    optimizer.update(&mut decoder, &gradients, 1.0, 1.0).unwrap();
    (decoder, optimizer, gradients)
}

#[test]
fn state_of_every_optimizer_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("optimizer.safetensors");
    for name in ALL {
        let (decoder, mut optimizer, gradients) = stepped(name);
        optimizer.save(&path, &decoder, &OtherStates::default()).unwrap();
        let mut again = Optimizer::new(&training(name, json!({})), &hyper(), &decoder).unwrap();
        again.load(&path, &decoder, 1).unwrap();
        assert_eq!((again.steps(), again.bytes()), (1, optimizer.bytes()));
        let (mut a, mut b) = (decoder.clone(), decoder.clone());
        for _ in 0..2 {
            optimizer.update(&mut a, &gradients, 0.5, 0.5).unwrap();
            again.update(&mut b, &gradients, 0.5, 0.5).unwrap();
        }
        assert_eq!(tiny::bits(&a), tiny::bits(&b), "{name:?}");
        // No other optimizer's state is taken for it.
        for other in ALL.into_iter().filter(|other| *other != name) {
            let mut other = Optimizer::new(&training(other, json!({})), &hyper(), &decoder).unwrap();
            assert!(other.load(&path, &decoder, 1).is_err());
        }
    }
}

#[test]
fn state_takes_the_bytes_that_the_documentation_says() {
    let bytes = |name| stepped(name).1.bytes();
    let parameters = decoder().parameter_count();
    // 4192 elements of 9k in all are enough for 8 bits.
    let large: usize = 131 * 32;
    assert_eq!(bytes(OptimizerName::AdamwTorch), 8 * parameters);
    let blocks = large.div_ceil(256);
    assert_eq!(bytes(OptimizerName::Adamw8bit), 8 * (parameters - large) + 2 * large + 8 * blocks);
    assert_eq!(bytes(OptimizerName::Lion), 4 * parameters);
    assert_eq!(bytes(OptimizerName::Sgd), 0);
    let sides: usize = decoder().parameters().iter().map(|p| p.spec.shape.iter().sum::<usize>()).sum();
    assert_eq!(bytes(OptimizerName::Adafactor), 4 * sides);
    let hidden = |p: &&parlor_model::Parameter| {
        matches!(p.spec.role, Role::Block { .. }) && p.spec.kind == Kind::Matrix
    };
    let hidden: usize = decoder().parameters().iter().filter(hidden).map(|p| p.spec.len()).sum();
    assert_eq!(bytes(OptimizerName::Muon), 8 * parameters - 4 * hidden);
}

#[test]
fn foreign_state_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("optimizer.safetensors");
    let adamw = training(OptimizerName::AdamwTorch, json!({}));
    let decoder = tiny::decoder();
    Optimizer::new(&adamw, &hyper(), &decoder)
        .unwrap()
        .save(&path, &decoder, &OtherStates::default())
        .unwrap();
    let mut sgd = Optimizer::new(&training(OptimizerName::Sgd, json!({})), &hyper(), &decoder).unwrap();
    let message = sgd.load(&path, &decoder, 1).unwrap_err().to_string();
    assert!(message.contains("expected 0"), "{message}");
    let other = Decoder::initialise(DecoderConfig { intermediate_size: 8, ..tiny::config() }, 1).unwrap();
    let mut optimizer = Optimizer::new(&adamw, &hyper(), &other).unwrap();
    let message = optimizer.load(&path, &other, 1).unwrap_err().to_string();
    assert!(message.contains("gate_proj.weight.exp_avg"), "{message}");
}

#[test]
fn frozen_parameters_stay_and_cost_no_state() {
    let training = TrainingConfig::default();
    let mut decoder = tiny::decoder();
    decoder.train_only(|spec| spec.kind == Kind::Bias);
    let before = decoder.clone();
    let mut optimizer = Optimizer::new(&training, &hyper(), &decoder).unwrap();
    assert_eq!(optimizer.bytes(), decoder.trained_count() * 8);
    let mut gradients = Gradients::zeros(&decoder);
    for id in 0..gradients.len() {
        gradients.get_mut(id).into_iter().flatten().for_each(|g| *g = 1.0);
    }
    optimizer.update(&mut decoder, &gradients, 1.0, 1.0).unwrap();
    for (id, (old, new)) in before.parameters().iter().zip(decoder.parameters()).enumerate() {
        let same = old.tensor.to_f32_vec() == new.tensor.to_f32_vec();
        assert_eq!(same, !decoder.is_trained(id), "{}", old.spec.role);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("optimizer.safetensors");
    optimizer.save(&path, &decoder, &OtherStates::default()).unwrap();
    let mut again = Optimizer::new(&training, &hyper(), &decoder).unwrap();
    again.load(&path, &decoder, 1).unwrap();
    // A file of the whole model is not that of the biases.
    let whole = tiny::decoder();
    Optimizer::new(&training, &hyper(), &whole)
        .unwrap()
        .save(&path, &whole, &OtherStates::default())
        .unwrap();
    let error = again.load(&path, &decoder, 1).unwrap_err().to_string();
    assert!(error.contains("tensors, expected"), "{error}");
}

fn group(pattern: &str, learning_rate: Option<f64>, weight_decay: Option<f64>) -> ParamGroup {
    ParamGroup { pattern: pattern.to_owned(), learning_rate, weight_decay }
}

#[test]
fn groups_have_rates_and_decays_of_their_own() {
    let mut training = training(OptimizerName::Sgd, json!({}));
    training.param_groups = vec![
        group("^embed_tokens", Some(1e-3), None),
        group(r"^layers\.0\.(q|k)_proj", Some(0.5), Some(0.0)),
        group("norm", None, Some(0.25)),
        group("q_proj", Some(9.0), None), // every q_proj belongs to the second one already, but for layer 1's
    ];
    let mut decoder = tiny::decoder();
    for id in 0..decoder.parameters().len() {
        decoder.values_mut(id).unwrap().fill(1.0);
    }
    let mut gradients = Gradients::zeros(&decoder);
    for id in 0..gradients.len() {
        gradients.get_mut(id).unwrap().fill(1.0);
    }
    Optimizer::new(&training, &hyper(), &decoder)
        .unwrap()
        .update(&mut decoder, &gradients, 1.0, 0.5)
        .unwrap();
    for parameter in decoder.parameters() {
        let name = parameter.spec.role.to_string();
        let (rate, decay) = match name.as_str() {
            "embed_tokens.weight" => (1e-3, 0.1),
            name if name.starts_with("layers.0.q_proj") || name.starts_with("layers.0.k_proj") => (0.5, 0.0),
            name if name.contains("norm") => (1e-2, 0.25),
            "layers.1.q_proj.weight" => (9.0, 0.1),
            "layers.1.q_proj.bias" => (9.0, 0.0),
            name if name.ends_with("bias") => (1e-2, 0.0),
            _ => (1e-2, 0.1),
        };
        let expected = 1.0 - 0.5 * rate * (1.0 + decay);
        let found = f64::from(parameter.tensor.as_f32().unwrap()[0]);
        assert!((found - expected).abs() < 1e-6, "{name}: {found}, expected {expected}");
    }
}

#[test]
fn a_group_of_nothing_is_refused() {
    let mut training = training(OptimizerName::AdamwTorch, json!({}));
    training.param_groups = vec![group("norm", Some(1.0), None), group("self_attn", Some(1.0), None)];
    let problem = Optimizer::new(&training, &hyper(), &tiny::decoder()).unwrap_err();
    insta::assert_snapshot!(format!("{}: {}", problem.key, problem.message));
    // Frozen parameters are nothing to a group.
    let mut decoder = tiny::decoder();
    decoder.train_only(|spec| spec.kind == Kind::Bias);
    training.param_groups.truncate(1);
    assert!(Optimizer::new(&training, &hyper(), &decoder).is_err());
}

#[test]
fn lora_plus_raises_the_rate_of_b_matrices() {
    let mut training = training(OptimizerName::Sgd, json!({}));
    training.training_type = TrainingType::Lora;
    training.lora.loraplus_lr_ratio = Some(16.0);
    training.lora.use_dora = true;
    training.param_groups = vec![group(r"layers\.1\.v_proj\.lora_B", Some(0.5), None)];
    let mut decoder = tiny::decoder();
    let plan = AdapterPlan::new(&decoder, Architecture::QWEN2, training.lora.adapter("base")).unwrap();
    let values = plan.initial_values(&decoder, 1);
    let id = decoder.attach(plan, values).unwrap();
    decoder.train_adapter(id);
    let mut gradients = Gradients::zeros(&decoder);
    for id in 0..gradients.len() {
        gradients.get_mut(id).into_iter().flatten().for_each(|g| *g = 1.0);
    }
    let before = decoder.clone();
    let hyper = Hyperparameters { weight_decay: 0.0, ..hyper() };
    let mut optimizer = Optimizer::new(&training, &hyper, &decoder).unwrap();
    optimizer.update(&mut decoder, &gradients, 1.0, 1.0).unwrap();
    let mut seen = 0;
    for (old, new) in before.parameters().iter().zip(decoder.parameters()) {
        let Role::LowRank { factor, layer, site } = new.spec.role else { continue };
        seen += 1;
        let expected = match (factor, layer, site) {
            (Factor::B, 1, Site::VProj) => 0.5,
            // Vectors have the rate of B, as in PEFT.
            (Factor::B | Factor::Magnitude, ..) => 16.0 * 1e-2,
            (Factor::A, ..) => 1e-2,
        };
        let moved = f64::from(old.tensor.as_f32().unwrap()[0] - new.tensor.as_f32().unwrap()[0]);
        assert!((moved - expected).abs() < 1e-6, "{}: {moved}, expected {expected}", new.spec.role);
    }
    assert_eq!(seen, 2 * 4 * 3);
}
