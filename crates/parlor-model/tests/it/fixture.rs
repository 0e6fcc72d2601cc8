//! The committed checkpoints and what the reference computed from them (`fixtures/make/models.py`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use parlor_kernels::cpu::isa::{self, Isa};
use parlor_model::{Batch, LoadOptions, LoadedModel, Targets, load_directory};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

pub(crate) const F32_MODELS: [&str; 9] = [
    "qwen2",
    "qwen3",
    "llama",
    "llama3",
    "llama3_bands",
    "llama_linear_rope",
    "llama_attn_bias",
    "mistral",
    "gpt2",
];

/// Uses the instruction set that `PARLOR_ISA` names, so that the same tests run over each.
pub(crate) fn use_asked_isa() {
    if let Ok(name) = std::env::var("PARLOR_ISA") {
        isa::force(Isa::from_name(&name).unwrap()).unwrap();
    }
}

pub(crate) fn path(name: &str) -> PathBuf {
    use_asked_isa();
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models").join(name)
}

pub(crate) fn load(name: &str) -> LoadedModel {
    load_directory(&path(name), &LoadOptions::default()).unwrap()
}

pub(crate) fn json(name: &str, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(path(name).join(file)).unwrap()).unwrap()
}

/// The reference's numbers.
pub(crate) struct Expected {
    pub(crate) batch: Batch,
    pub(crate) targets: Targets,
    pub(crate) tensors: HashMap<String, Vec<f32>>,
    pub(crate) integers: HashMap<String, Vec<i64>>,
}

impl Expected {
    pub(crate) fn read(name: &str) -> Self {
        Self::of_directory(&path(name))
    }

    /// The reference's numbers in a directory of any kind.
    pub(crate) fn of_directory(directory: &Path) -> Self {
        let bytes = std::fs::read(directory.join("expected.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (mut tensors, mut integers) = (HashMap::new(), HashMap::new());
        for (name, tensor) in file.tensors() {
            match tensor.dtype() {
                Dtype::F32 => {
                    tensors.insert(
                        name.clone(),
                        bytemuck::allocation::pod_collect_to_vec::<u8, f32>(tensor.data()),
                    );
                }
                Dtype::I64 => {
                    integers.insert(
                        name.clone(),
                        bytemuck::allocation::pod_collect_to_vec::<u8, i64>(tensor.data()),
                    );
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        let ids: Vec<u32> = integers["ids"].iter().map(|&id| id as u32).collect();
        let mut rest = &ids[..];
        let sequences: Vec<&[u32]> = integers["segment_lengths"]
            .iter()
            .map(|&length| {
                let (sequence, after) = rest.split_at(length as usize);
                rest = after;
                sequence
            })
            .collect();
        let batch = Batch::of_sequences(sequences);
        let targets = Targets::next_token(&batch, &tensors["loss_weights"]);
        Self { batch, targets, tensors, integers }
    }
}

/// Largest difference, over the largest magnitude expected.
pub(crate) fn relative(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0.0f64, |max, &x| max.max(f64::from(x).abs()));
    let difference =
        got.iter().zip(want).fold(0.0f64, |max, (&a, &b)| max.max((f64::from(a) - f64::from(b)).abs()));
    difference / largest.max(1e-12)
}
