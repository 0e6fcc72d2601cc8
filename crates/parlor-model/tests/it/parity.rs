//! Logits, every gradient, and greedy completions, against `transformers` in f32.
//!
//! Tolerance: `meta.json` of each fixture holds how far the reference's own f32 numbers are from f64 (at most
//! 8e-7 for logits, 2.6e-6 for gradients). Two f32 computations in different orders may differ by the sum of
//! their errors; 1e-5 and 2e-5 allow four times that, and are well below the required 1e-4.

use std::borrow::Cow;

use parlor_model::{Batch, Context, Decoder, Gradients, KvCache, PassOptions, Workspace};
use parlor_model::{CheckpointTensor, TensorLayout};

use crate::fixture::{Expected, F32_MODELS, json, load, relative};

const LOGITS: f64 = 1e-5;
const GRADIENTS: f64 = 2e-5;

fn logits(decoder: &Decoder, batch: &Batch) -> Vec<f32> {
    let rows: Vec<usize> = (0..batch.len()).collect();
    decoder.logits(batch, &rows, None, &mut Workspace::default()).unwrap()
}

/// The gradient of a tensor in the checkpoint's layout.
fn on_disk(decoder: &Decoder, gradients: &Gradients, tensor: &CheckpointTensor) -> Vec<f32> {
    let parts: Vec<(Cow<'_, [f32]>, &[usize])> = tensor
        .roles
        .iter()
        .map(|role| {
            let id = decoder.parameters().iter().position(|p| p.spec.role == *role).unwrap();
            (gradients.get(id).unwrap(), &decoder.parameters()[id].spec.shape[..])
        })
        .collect();
    let joined: Vec<f32> = parts.iter().flat_map(|(values, _)| values.iter().copied()).collect();
    match tensor.layout {
        TensorLayout::Plain => joined,
        TensorLayout::Interleaved { .. } => panic!("of no directory"),
        TensorLayout::Transposed if parts[0].1.len() == 1 => joined,
        TensorLayout::Transposed => {
            let inputs = parts[0].1[1];
            let outputs = joined.len() / inputs;
            (0..joined.len()).map(|at| joined[at % outputs * inputs + at / outputs]).collect()
        }
    }
}

fn check(name: &str) {
    let (model, expected) = (load(name), Expected::read(name));
    let decoder = &model.decoder;
    let difference = relative(&logits(decoder, &expected.batch), &expected.tensors["logits"]);
    assert!(difference < LOGITS, "{name}: logits differ by {difference:e}");

    let (mut workspace, mut gradients) = (Workspace::default(), Gradients::zeros(decoder));
    let logp = decoder
        .logprobs(&expected.batch, &expected.targets, &PassOptions::default(), &mut workspace)
        .unwrap();
    let weight = expected.targets.weight();
    let loss: f64 =
        -expected.targets.weights.iter().zip(&logp).map(|(&w, &l)| f64::from(w) * f64::from(l)).sum::<f64>()
            / weight;
    let want = f64::from(expected.tensors["loss"][0]);
    assert!((loss - want).abs() < 1e-6 * want, "{name}: loss {loss}, want {want}");

    let d_logp: Vec<f32> =
        expected.targets.weights.iter().map(|&w| (-f64::from(w) / weight) as f32).collect();
    decoder.backward(&d_logp, &expected.batch, &mut workspace, &mut gradients).unwrap();
    let tensors = model.architecture.checkpoint_tensors(decoder.config());
    let wanted = expected.tensors.keys().filter(|key| key.starts_with("grad.")).count();
    assert_eq!(tensors.len(), wanted, "{name}: every gradient is compared");
    for tensor in &tensors {
        let want = &expected.tensors[&format!("grad.{}", tensor.name)];
        let difference = relative(&on_disk(decoder, &gradients, tensor), want);
        assert!(difference < GRADIENTS, "{name}: gradient of {} differs by {difference:e}", tensor.name);
    }
}

#[test]
fn logits_loss_and_every_gradient() {
    for name in F32_MODELS {
        check(name);
    }
}

#[test]
fn narrow_and_sharded_weights() {
    for name in ["qwen2_bf16", "llama_f16", "llama_sharded"] {
        let (model, expected) = (load(name), Expected::read(name));
        let difference = relative(&logits(&model.decoder, &expected.batch), &expected.tensors["logits"]);
        assert!(difference < LOGITS, "{name}: logits differ by {difference:e}");
    }
}

#[test]
fn greedy_answers_token_for_token() {
    for name in F32_MODELS {
        let decoder = load(name).decoder;
        for answer in json(name, "generate.json")["answers"].as_array().unwrap() {
            let ids = |key: &str| -> Vec<u32> {
                answer[key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
            };
            let (mut cache, mut workspace) = (KvCache::new(decoder.config(), 1), Workspace::default());
            let (mut next, mut got) = (ids("prompt"), Vec::new());
            for _ in 0..24 {
                let mut batch = Batch::default();
                batch.push(&next, cache.len(0), Context::Cache(0));
                let last = batch.len() - 1;
                let logits = decoder.logits(&batch, &[last], Some(&mut cache), &mut workspace).unwrap();
                let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
                got.push(best as u32);
                next = vec![best as u32];
            }
            assert_eq!(got, ids("ids"), "{name}");
        }
    }
}
