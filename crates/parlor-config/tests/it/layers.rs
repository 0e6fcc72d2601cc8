//! Which layer wins.

use parlor_config::Layer;
use serde_json::json;

use crate::sample::Case;

/// Sets `data.batch_size` to `10 + layer` in each of the chosen layers.
#[track_caller]
fn check(chosen: &[Layer], winner: Layer) {
    let has = |layer| chosen.contains(&layer);
    let mut case = Case::new();
    if has(Layer::File) {
        case = case.file("config.yaml", "data:\n  batch_size: 11\n");
    }
    if has(Layer::DotEnv) {
        case = case.dotenv("BATCH_SIZE=12\n");
    }
    if has(Layer::Environment) {
        case = case.env("BATCH_SIZE", "13");
    }
    if has(Layer::Flag) {
        case = case.set("data.batch_size=14");
    }
    let manager = case.load();
    if has(Layer::Update) {
        manager.update("data.batch_size", 15).unwrap();
    }
    let expected = if winner == Layer::Default { 1000 } else { 10 + winner as u32 };
    assert_eq!(manager.get().data.batch_size, expected, "{chosen:?}");
    assert_eq!(manager.explain("data.batch_size").unwrap().layer, winner, "{chosen:?}");
}

#[test]
fn the_higher_layer_of_every_pair_wins() {
    let layers = [Layer::Default, Layer::File, Layer::DotEnv, Layer::Environment, Layer::Flag, Layer::Update];
    for (index, low) in layers.iter().enumerate() {
        for high in &layers[index..] {
            check(&[*low, *high], *high);
        }
    }
    check(&layers, Layer::Update);
}

#[test]
fn later_files_win_and_sections_join() {
    let case = Case::with("data:\n  batch_size: 5\n  path: a\n").file("more.yaml", "data:\n  path: b\n");
    let manager = case.load();
    assert_eq!((manager.get().data.batch_size, manager.get().data.path.as_str()), (5, "b"));
    let explained = manager.explain("data.path").unwrap();
    assert_eq!((explained.file, explained.line), (Some(case.path("more.yaml")), Some(2)));
}

#[test]
fn lists_are_replaced_and_not_joined() {
    let case =
        Case::with("training:\n  target_modules: [a]\n").file("b.yaml", "training: {target_modules: [b]}");
    assert_eq!(case.load().get().training.target_modules, ["b"]);
}

#[test]
fn an_empty_section_and_an_empty_file_change_nothing() {
    for text in ["", "\n\n", "# nothing\n", "---\n", "null\n", "training:\ndata:\n", "\u{FEFF}"] {
        assert_eq!(*Case::with(text).load().get(), crate::sample::Sample::default(), "{text:?}");
    }
}

#[test]
fn aliases_are_understood_and_kept_as_written() {
    let manager = Case::with("training:\n  optimizer: adamw_torch\n  training_type: preference\n").load();
    assert_eq!(manager.get().training.optimizer, crate::sample::Optimizer::Adamw);
    assert_eq!(manager.get().training.training_type, crate::sample::TrainingType::Dpo);
    assert_eq!(manager.value("training.optimizer").unwrap(), json!("adamw_torch"));
    assert!(manager.to_yaml(parlor_config::SaveMode::Changed).contains("adamw_torch"));
}

#[test]
fn an_alias_of_one_key_is_not_one_of_another() {
    let report = Case::with("training:\n  optimizer: preference\n").report();
    assert!(report.contains("`preference` is not a value of this key"), "{report}");
}

#[test]
fn the_custom_section_takes_anything() {
    let text = "custom:\n  a: {b: [1, x, null, {c: 2.5}]}\n  \"d.e\": yes\n";
    let manager = Case::with(text).set("custom.f.g=7").load();
    let custom = json!(manager.get().custom);
    assert_eq!(custom, json!({"a": {"b": [1, "x", null, {"c": 2.5}]}, "d.e": "yes", "f": {"g": 7}}));
    assert_eq!(manager.value("custom.f.g").unwrap(), json!(7));
    assert_eq!(manager.explain("custom.a.b").unwrap().line, Some(2));
}
