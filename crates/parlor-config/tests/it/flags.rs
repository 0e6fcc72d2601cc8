//! `--set KEY=VALUE`.

use serde_json::json;

use crate::sample::Case;

#[test]
fn forms() {
    for (flag, key, expected) in [
        ("training.seed=7", "training.seed", json!(7)),
        (" training.seed =7", "training.seed", json!(7)),
        ("training.seed= 7 ", "training.seed", json!(7)),
        ("training.dropout=5e-1", "training.dropout", json!(0.5)),
        ("model.name=a=b", "model.name", json!("a=b")),
        ("model.name=", "model.name", json!("")),
        ("model.name=7", "model.name", json!("7")),
        ("model.name=null", "model.name", json!("null")),
        ("model.name={a: b", "model.name", json!("{a: b")),
        ("model.name=# x", "model.name", json!("# x")),
        ("model.max_length=null", "model.max_length", json!(null)),
        ("model.max_length=", "model.max_length", json!(null)),
        ("training.target_modules=[a, 'b']", "training.target_modules", json!(["a", "b"])),
        ("training.training_type=dpo", "training.training_type", json!("dpo")),
        ("tracker={enabled: true}", "tracker.enabled", json!(true)),
        ("custom.x=${NOT_REPLACED}", "custom.x", json!("${NOT_REPLACED}")),
        ("custom.x.y=[1, {z: 2}]", "custom.x", json!({"y": [1, {"z": 2}]})),
    ] {
        let manager = Case::new().set(flag).load();
        assert_eq!(manager.value(key).unwrap(), expected, "{flag}");
    }
}

#[test]
fn the_last_one_wins() {
    let manager = Case::new().set("training.seed=1").set("training.seed=2").load();
    assert_eq!(manager.get().training.seed, 2);
}

#[test]
fn errors() {
    let mut case = Case::new();
    for flag in [
        "",
        "training.seed",
        "=7",
        ".=7",
        "training.=7",
        "training..seed=7",
        "training.sed=7",
        "training.seed=seven",
        "training.bf16=yes",
        "training.dropout=1.5",
        "training.training_type=dpoo",
        "training.dpo.learning_rate=5e-5x",
        "training.sft=7",
        "data=#",
        "batch_size=9",
        "model.max_length=0",
    ] {
        case = case.set(flag);
    }
    insta::assert_snapshot!(case.report());
}
