//! AdamW and SGD against their textbook form in f64, one scalar at a time.

use parlor_model::{Gradients, Kind};
use parlor_train::Optimizer;
use parlor_train::TrainingConfig;
use parlor_train::config::OptimizerName;

use crate::tiny;

/// One parameter by PyTorch's documentation of AdamW, in f64.
struct Scalar {
    p: f64,
    m: f64,
    v: f64,
}

impl Scalar {
    fn adamw(&mut self, g: f64, lr: f64, decay: f64, step: i32) {
        let (beta1, beta2, eps) = (0.9, 0.999, 1e-8);
        self.p -= lr * decay * self.p;
        self.m = beta1 * self.m + (1.0 - beta1) * g;
        self.v = beta2 * self.v + (1.0 - beta2) * g * g;
        let (m, v) = (self.m / (1.0 - f64::powi(beta1, step)), self.v / (1.0 - f64::powi(beta2, step)));
        self.p -= lr * m / (v.sqrt() + eps);
    }
}

fn check(name: OptimizerName) {
    let mut hyper = tiny::hyper();
    hyper.weight_decay = 0.1;
    let mut decoder = tiny::decoder();
    let mut reference: Vec<Vec<Scalar>> = decoder
        .parameters()
        .iter()
        .map(|p| p.tensor.as_f32().unwrap().iter().map(|&p| Scalar { p: p.into(), m: 0.0, v: 0.0 }).collect())
        .collect();
    let mut optimizer = Optimizer::new(name, &hyper, &decoder);
    let mut gradients = Gradients::zeros(&decoder);
    for step in 1..=5 {
        let (lr, scale) = (0.01 / f64::from(step), 0.5);
        for id in 0..gradients.len() {
            for (i, g) in gradients.get_mut(id).unwrap().iter_mut().enumerate() {
                *g = ((i * 7 + id + step as usize) % 11) as f32 * 0.3 - 1.0;
            }
        }
        optimizer.update(&mut decoder, &gradients, scale as f32, lr).unwrap();
        for (id, parameter) in decoder.parameters().iter().enumerate() {
            let decay = if parameter.spec.kind == Kind::Matrix { 0.1 } else { 0.0 };
            let values = parameter.tensor.as_f32().unwrap();
            for ((scalar, &g), &found) in reference[id].iter_mut().zip(gradients.get(id).unwrap()).zip(values)
            {
                let g = f64::from(g) * scale;
                match name {
                    OptimizerName::Sgd => scalar.p -= lr * (g + decay * scalar.p),
                    _ => scalar.adamw(g, lr, decay, step),
                }
                let error = (scalar.p - f64::from(found)).abs();
                assert!(error < 2e-6, "{} at step {step}: {} and {found}", parameter.spec.role, scalar.p);
            }
        }
    }
}

#[test]
fn adamw_matches_f64() {
    check(OptimizerName::AdamwTorch);
}

#[test]
fn sgd_matches_f64() {
    check(OptimizerName::Sgd);
}

#[test]
fn state_reads_back_and_foreign_state_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("optimizer.safetensors");
    let mut decoder = tiny::decoder();
    let mut optimizer = Optimizer::new(OptimizerName::AdamwTorch, &tiny::hyper(), &decoder);
    let mut gradients = Gradients::zeros(&decoder);
    gradients.get_mut(0).unwrap().fill(0.5);
    optimizer.update(&mut decoder, &gradients, 1.0, 1e-3).unwrap();
    optimizer.save(&path, &decoder).unwrap();

    let mut again = Optimizer::new(OptimizerName::AdamwTorch, &tiny::hyper(), &decoder);
    again.load(&path, &decoder, 1).unwrap();
    let (mut a, mut b) = (decoder.clone(), decoder.clone());
    optimizer.update(&mut a, &gradients, 1.0, 1e-3).unwrap();
    again.update(&mut b, &gradients, 1.0, 1e-3).unwrap();
    assert_eq!(tiny::bits(&a), tiny::bits(&b));

    let mut sgd = Optimizer::new(OptimizerName::Sgd, &tiny::hyper(), &decoder);
    let message = sgd.load(&path, &decoder, 1).unwrap_err().to_string();
    assert!(message.contains("expected 0"), "{message}");
    let mut config = tiny::config();
    config.intermediate_size = 8;
    let other = parlor_model::Decoder::initialise(config, 1).unwrap();
    let mut optimizer = Optimizer::new(OptimizerName::AdamwTorch, &tiny::hyper(), &other);
    let message = optimizer.load(&path, &other, 1).unwrap_err().to_string();
    assert!(message.contains("gate_proj.weight.exp_avg"), "{message}");
}

#[test]
fn frozen_parameters_stay_and_cost_no_state() {
    let mut decoder = tiny::decoder();
    decoder.train_only(|spec| spec.kind == Kind::Bias);
    let before = decoder.clone();
    let hyper = TrainingConfig::default().sft.hyperparameters();
    let mut optimizer = Optimizer::new(OptimizerName::AdamwTorch, &hyper, &decoder);
    assert_eq!(optimizer.bytes(), decoder.trained_count() * 8);
    let mut gradients = Gradients::zeros(&decoder);
    for id in 0..gradients.len() {
        gradients.get_mut(id).into_iter().flatten().for_each(|g| *g = 1.0);
    }
    optimizer.update(&mut decoder, &gradients, 1.0, 0.1).unwrap();
    for (id, (old, new)) in before.parameters().iter().zip(decoder.parameters()).enumerate() {
        let same = old.tensor.to_f32_vec() == new.tensor.to_f32_vec();
        assert_eq!(same, !decoder.is_trained(id), "{}", old.spec.role);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("optimizer.safetensors");
    optimizer.save(&path, &decoder).unwrap();
    let mut again = Optimizer::new(OptimizerName::AdamwTorch, &hyper, &decoder);
    again.load(&path, &decoder, 1).unwrap();
    // A file of the whole model is not that of the biases.
    let whole = tiny::decoder();
    Optimizer::new(OptimizerName::AdamwTorch, &hyper, &whole).save(&path, &whole).unwrap();
    let error = again.load(&path, &decoder, 1).unwrap_err().to_string();
    assert!(error.contains("tensors, expected"), "{error}");
}
