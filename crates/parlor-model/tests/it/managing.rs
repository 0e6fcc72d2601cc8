//! The life cycle of `ModelManager`.

use std::sync::Arc;

use parlor_model::{
    Device, LoadErrorKind, LoadOptions, MaxLength, ModelConfig, ModelManager, OutOfMemoryPolicy, TorchDtype,
};

use crate::directories::{copy, edit_json, fixture};

fn config(name: &str) -> ModelConfig {
    ModelConfig {
        name: fixture(name).display().to_string(),
        model_type: "auto".to_owned(),
        max_length: 32,
        ..ModelConfig::default()
    }
}

#[test]
fn loads_once_and_shares_between_managers() {
    let (first, second) = (ModelManager::new(config("mistral")), ModelManager::new(config("mistral")));
    assert!(first.loaded().is_none());
    let model = first.load_model().unwrap();
    assert!(Arc::ptr_eq(&model, &second.load_model().unwrap()));
    assert_eq!(second.get_performance_metrics().cache_hits, 1);
    assert!(first.get_performance_metrics().loading_time.unwrap() > 0.0);
    assert!(first.unload() && !first.unload());
    // Other options make another model.
    let options = LoadOptions::for_training();
    let training = ModelManager::with_options(config("mistral"), options).load_model().unwrap();
    assert!(!Arc::ptr_eq(&model, &training));
}

#[test]
fn a_changed_directory_is_loaded_again() {
    let dir = copy("llama");
    let manager =
        ModelManager::new(ModelConfig { name: dir.path().display().to_string(), ..config("llama") });
    let before = manager.load_model().unwrap();
    edit_json(dir.path(), "generation_config.json", |map| {
        map.insert("eos_token_id".to_owned(), 5.into());
    });
    let after = manager.load_model().unwrap();
    assert!(!Arc::ptr_eq(&before, &after));
    assert_eq!(after.generation.eos_token_ids, [5]);
}

#[test]
fn a_gpu_is_an_error_that_names_the_way_out() {
    for (name, works) in [("auto", true), ("cpu", true), ("cuda", false), ("cuda:1", false)] {
        let device: Device = name.parse().unwrap();
        assert_eq!(device.to_string(), name);
        let manager = ModelManager::new(ModelConfig { device, ..config("llama") });
        match manager.load_model() {
            Ok(_) => assert!(works && manager.device() == Ok(Device::Cpu)),
            Err(error) => {
                assert!(!works && error.kind == LoadErrorKind::Device, "{error}");
                assert!(error.to_string().contains("`device: auto`"), "{error}");
            }
        }
    }
    for name in ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "cuda:99999999999"] {
        assert!(name.parse::<Device>().is_err(), "{name}");
    }
}

#[test]
fn memory_falls_back_to_a_smaller_dtype_only_when_allowed() {
    let options = LoadOptions {
        dtype: TorchDtype::Float32,
        memory_limit: Some(60_000),
        max_length: MaxLength::AtMost(32),
        ..LoadOptions::for_training()
    };
    let load = |on_out_of_memory| {
        ModelManager::with_options(ModelConfig { on_out_of_memory, ..config("llama") }, options).load_model()
    };
    assert_eq!(load(OutOfMemoryPolicy::Error).unwrap_err().kind, LoadErrorKind::OutOfMemory);
    let model = load(OutOfMemoryPolicy::SmallerDtype).unwrap();
    assert!(model.warnings[0].contains("bfloat16 instead of float32"), "{:?}", model.warnings);
}

#[test]
fn the_family_asked_for_is_compared_with_the_checkpoints() {
    for (fixture_name, asked, fits) in [
        ("qwen2", "qwen", true),
        ("qwen3", "qwen", true),
        ("qwen3", "Qwen3", true),
        ("qwen3", "qwen2", false),
        ("llama", "qwen", false),
        ("gpt2", "gpt2", true),
        ("gpt2", "dialogpt", true),
        ("gpt2", "auto", true),
    ] {
        let manager = ModelManager::new(ModelConfig { model_type: asked.to_owned(), ..config(fixture_name) });
        let model = manager.load_model().unwrap();
        let warning = manager.model_type_warning(&model);
        assert_eq!(warning.is_none(), fits, "{fixture_name} {asked}: {warning:?}");
    }
}

#[test]
fn a_revision_is_not_ignored() {
    let manager = ModelManager::new(ModelConfig { revision: Some("main".to_owned()), ..config("llama") });
    assert_eq!(manager.load_model().unwrap_err().kind, LoadErrorKind::Network);
}

#[test]
fn measures_what_it_is_asked_to() {
    let manager = ModelManager::new(config("llama"));
    assert!(!manager.is_peft_model());
    assert_eq!(manager.get_gpu_info().count, 0);
    let parameters = manager.get_trainable_parameters().unwrap();
    assert!(parameters.all > 10_000 && parameters.trainable == parameters.all && parameters.percent == 100.0);
    assert_eq!(manager.performance_monitor("sum", || (0..10).sum::<i32>()), 45);
    manager.performance_monitor("sum", || ());
    assert_eq!(manager.get_performance_metrics().operations["sum"].calls, 2);
}

#[test]
fn the_section_has_the_documented_defaults() {
    let config: ModelConfig = serde_json::from_str("{}").unwrap();
    assert_eq!(config, ModelConfig::default());
    insta::assert_json_snapshot!(config);
    for wrong in [r#"{"device":"gpu"}"#, r#"{"torch_dtype":"int3"}"#, r#"{"nam":"x"}"#] {
        assert!(serde_json::from_str::<ModelConfig>(wrong).is_err(), "{wrong}");
    }
}
