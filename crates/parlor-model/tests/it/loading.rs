//! Every committed model loads, and every tensor is the right parameter.

use parlor_kernels::DType;
use parlor_model::{
    Architecture, Head, Kind, LoadOptions, MaxLength, ModelInfo, ParameterPart, Positions, Role, RopeScaling,
    Site, TorchDtype, WeightFiles, WeightStorage, load_directory,
};
use serde_json::Value;

use crate::directories::{copy, edit_json, fixture, fixtures};

#[test]
fn every_fixture_loads_with_every_tensor_accounted_for() {
    let names = fixtures();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        let model = load_directory(&fixture(&name), &LoadOptions::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let files = WeightFiles::open(&fixture(&name)).unwrap();
        let on_disk: usize = files.iter().map(|(_, entry)| entry.shape().iter().product::<usize>()).sum();
        assert_eq!(model.decoder.parameter_count(), on_disk, "{name}");
        assert_eq!(model.tensors, files.len(), "{name}");
        assert_eq!(model.generation.eos_token_ids, [2], "{name}");
        assert_eq!(model.warnings, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn plain_tensors_stay_in_the_file_and_conversions_do_not() {
    let owned = |options: &LoadOptions| -> usize {
        let model = load_directory(&fixture("llama_sharded"), options).unwrap();
        model.decoder.parameters().iter().map(|p| p.tensor.owned_bytes()).sum()
    };
    assert_eq!(owned(&LoadOptions::default()), 0);
    let all = load_directory(&fixture("llama_sharded"), &LoadOptions::default()).unwrap();
    let all = all.decoder.parameter_count();
    assert_eq!(owned(&LoadOptions::for_training()), 4 * all);
    // Norms are float32 whatever the matrices are.
    let vectors = 5 * 32;
    let bf16 = LoadOptions { dtype: TorchDtype::Bfloat16, ..Default::default() };
    assert_eq!(owned(&bf16), 2 * all + 2 * vectors);
}

#[test]
fn for_training_every_parameter_can_be_written() {
    for name in ["gpt2", "qwen2_bf16", "llama_f16"] {
        let mut model = load_directory(&fixture(name), &LoadOptions::for_training()).unwrap();
        for id in 0..model.decoder.parameters().len() {
            assert!(model.decoder.values_mut(id).is_some(), "{name} {id}");
        }
    }
}

#[test]
fn auto_keeps_the_checkpoints_dtype() {
    for (name, dtype) in [("qwen2_bf16", DType::Bf16), ("llama_f16", DType::F16), ("gpt2", DType::F32)] {
        let model = load_directory(&fixture(name), &LoadOptions::default()).unwrap();
        for parameter in model.decoder.parameters().iter().filter(|p| p.spec.kind == Kind::Matrix) {
            assert_eq!(parameter.tensor.dtype(), dtype, "{name} {}", parameter.spec.role);
        }
    }
}

#[test]
fn conversion_does_not_depend_on_where_weights_live() {
    let load = |storage| {
        let options = LoadOptions { dtype: TorchDtype::Float32, storage, ..Default::default() };
        load_directory(&fixture("qwen2_bf16"), &options).unwrap()
    };
    let (mapped, owned) = (load(WeightStorage::Mapped), load(WeightStorage::Owned));
    for (a, b) in mapped.decoder.parameters().iter().zip(owned.decoder.parameters()) {
        assert_eq!(a.tensor.bytes(), b.tensor.bytes());
    }
}

/// GPT-2 holds q, k and v in one transposed tensor.
#[test]
fn joined_and_transposed_tensors_are_taken_apart() {
    let model = load_directory(&fixture("gpt2"), &LoadOptions::default()).unwrap();
    let files = WeightFiles::open(&fixture("gpt2")).unwrap();
    let name = "transformer.h.1.attn.c_attn.weight";
    let disk = files.get(name).unwrap().tensor(name, &[32, 96]).unwrap().to_f32_vec();
    for (number, site) in [Site::QProj, Site::KProj, Site::VProj].into_iter().enumerate() {
        let role = Role::Block { layer: 1, site, part: ParameterPart::Weight };
        let parameter = model.decoder.parameters().iter().find(|p| p.spec.role == role).unwrap();
        let values = parameter.tensor.to_f32_vec();
        for output in 0..32 {
            for input in 0..32 {
                assert_eq!(values[output * 32 + input], disk[input * 96 + number * 32 + output]);
            }
        }
    }
}

#[test]
fn shapes_are_those_of_the_configs() {
    let shape = |name: &str| {
        let model = load_directory(&fixture(name), &LoadOptions::default()).unwrap();
        (model.architecture, model.decoder.config().clone())
    };
    let (family, qwen3) = shape("qwen3");
    assert_eq!((family, qwen3.head_dim, qwen3.head), (Architecture::QWEN3, 12, Head::Separate));
    let (family, mistral) = shape("mistral");
    assert_eq!(
        (family, mistral.windows().collect::<Vec<_>>()),
        (Architecture::MISTRAL, vec![Some(5), Some(5)])
    );
    let (_, llama3) = shape("llama3");
    let Some(rope) = llama3.layers[0].rope else { panic!() };
    assert!(matches!(rope.scaling, RopeScaling::ByWavelength { factor: 8.0, .. }), "{rope:?}");
    let (family, gpt2) = shape("gpt2");
    assert_eq!((family, gpt2.positions, gpt2.head), (Architecture::GPT2, Positions::Learned, Head::Tied));
}

/// Base models are saved without the prefix, and old ones carry buffers.
#[test]
fn names_without_prefix_and_known_buffers_are_accepted() {
    for (name, prefix, buffer) in [
        ("gpt2", "transformer.", "h.0.attn.bias"),
        ("llama3", "model.", "layers.0.self_attn.rotary_emb.inv_freq"),
    ] {
        let dir = copy(name);
        rename_tensors(dir.path(), |tensor| tensor.strip_prefix(prefix).unwrap_or(tensor).to_owned(), buffer);
        let renamed = load_directory(dir.path(), &LoadOptions::default()).unwrap();
        let original = load_directory(&fixture(name), &LoadOptions::default()).unwrap();
        for (a, b) in renamed.decoder.parameters().iter().zip(original.decoder.parameters()) {
            assert_eq!(a.tensor.bytes(), b.tensor.bytes(), "{name} {}", a.spec.role);
        }
    }
}

/// Rewrites a weight file with other names and one tensor more.
fn rename_tensors(dir: &std::path::Path, rename: impl Fn(&str) -> String, extra: &str) {
    let path = dir.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let old = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let zeros = [0u8; 16];
    let mut tensors: Vec<_> = old.iter().map(|(name, view)| (rename(name), view)).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![4], &zeros).unwrap();
    tensors.push((extra.to_owned(), view));
    std::fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
}

#[test]
fn max_length_follows_the_model() {
    let load = |max_length| {
        load_directory(&fixture("gpt2"), &LoadOptions { max_length, ..Default::default() })
            .map(|model| model.max_length)
    };
    assert_eq!(load(MaxLength::Model), Ok(64));
    assert_eq!(load(MaxLength::AtMost(2048)), Ok(64));
    assert_eq!(load(MaxLength::Exactly(64)), Ok(64));
    assert!(load(MaxLength::Exactly(65)).is_err());
}

#[test]
fn eos_ids_come_from_either_file() {
    let dir = copy("qwen2");
    edit_json(dir.path(), "generation_config.json", |map| {
        map.remove("eos_token_id");
        map.insert("temperature".to_owned(), 0.7.into());
    });
    edit_json(dir.path(), "config.json", |map| {
        map.insert("eos_token_id".to_owned(), serde_json::json!([2, 7]));
    });
    let generation = load_directory(dir.path(), &LoadOptions::default()).unwrap().generation;
    assert_eq!((generation.eos_token_ids.as_slice(), generation.temperature), ([2, 7].as_slice(), Some(0.7)));
}

#[test]
fn info_counts_every_parameter() {
    for name in fixtures() {
        let model = load_directory(&fixture(&name), &LoadOptions::default()).unwrap();
        let info = ModelInfo::of(&model);
        assert_eq!(info.parameters_by_part.total(), info.parameters, "{name}");
        assert_eq!(info.dtypes.values().sum::<usize>(), info.parameters, "{name}");
    }
    let model = load_directory(&fixture("qwen2_bf16"), &LoadOptions::default()).unwrap();
    let info: Value = serde_json::to_value(ModelInfo::of(&model)).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&info).unwrap());
}

#[test]
fn dropout_that_training_leaves_out_is_said() {
    let dir = copy("gpt2");
    let warning =
        |dir: &std::path::Path| load_directory(dir, &LoadOptions::default()).unwrap().dropout_warning();
    assert_eq!(warning(dir.path()), None);
    edit_json(dir.path(), "config.json", |config| {
        config.insert("resid_pdrop".to_owned(), 0.1.into());
    });
    let said = warning(dir.path()).unwrap();
    assert!(said.contains("config.json asks for dropout (resid_pdrop 0.1)"), "{said}");
}
