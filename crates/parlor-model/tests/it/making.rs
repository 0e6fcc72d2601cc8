//! New models: size presets and the architecture block.

use parlor_model::{
    Architecture, ArchitectureBlock, Decoder, GenerationConfig, Head, LoadOptions, MAX_SHARD_BYTES,
    ModelPreset, SaveModel, TextFiles, load_directory, save_directory,
};

#[test]
fn presets_grow() {
    let mut table = String::new();
    let mut last = 0;
    for preset in ModelPreset::ALL {
        let (family, config) = ArchitectureBlock::default().resolve(preset, 8192).unwrap();
        let count: usize = parlor_model::parameter_specs(&config).iter().map(|spec| spec.len()).sum();
        assert!(count > last);
        last = count;
        table += &format!("{} {family} {:.1}M\n", preset.name(), count as f64 / 1e6);
    }
    insta::assert_snapshot!(table);
}

#[test]
fn every_family_can_be_made_saved_and_loaded() {
    for family in Architecture::all() {
        for tied in [true, false] {
            let block = ArchitectureBlock {
                family: Some(family),
                hidden_size: Some(32),
                intermediate_size: Some(48),
                num_hidden_layers: Some(2),
                tie_word_embeddings: Some(tied),
                ..Default::default()
            };
            let (architecture, config) = block.resolve(ModelPreset::Nano, 50).unwrap();
            assert_eq!(config.head, if tied { Head::Tied } else { Head::Separate });
            let decoder = Decoder::initialise(config.clone(), 7).unwrap();
            let out = tempfile::tempdir().unwrap();
            let dir = out.path().join("m");
            let generation = GenerationConfig { eos_token_ids: vec![0], ..Default::default() };
            save_directory(
                &dir,
                &SaveModel {
                    decoder: &decoder,
                    architecture,
                    hf_config: None,
                    generation: &generation,
                    text_files: &TextFiles::default(),
                    dtype: None,
                    max_shard_bytes: MAX_SHARD_BYTES,
                },
            )
            .unwrap();
            let loaded = load_directory(&dir, &LoadOptions::default()).unwrap();
            assert_eq!((loaded.architecture, loaded.decoder.config()), (family, &config));
            for (a, b) in loaded.decoder.parameters().iter().zip(decoder.parameters()) {
                assert_eq!(a.tensor.bytes(), b.tensor.bytes(), "{family} {}", a.spec.role);
            }
        }
    }
}

#[test]
fn contradictions_are_all_reported() {
    let block = ArchitectureBlock {
        hidden_size: Some(100),
        num_attention_heads: Some(6),
        num_key_value_heads: Some(4),
        rope_theta: Some(f64::NAN),
        num_hidden_layers: Some(0),
        ..Default::default()
    };
    insta::assert_snapshot!(block.resolve(ModelPreset::Nano, 0).unwrap_err());
    let block = ArchitectureBlock {
        family: Some(Architecture::GPT2),
        num_key_value_heads: Some(2),
        rope_theta: Some(1e4),
        ..Default::default()
    };
    insta::assert_snapshot!(block.resolve(ModelPreset::Nano, 100).unwrap_err());
}
