//! What a file may say: numbers, interpolation, `extends`.

use serde_json::{Value, json};

use crate::sample::{Case, only_problem, underlined};

#[track_caller]
fn value_of(text: &str) -> Value {
    Case::with(format!("custom:\n  x: {text}\n")).load().value("custom.x").unwrap()
}

#[test]
fn scalars_have_the_types_that_people_expect() {
    for (text, expected) in [
        ("5e-5", json!(5e-5)),
        ("1e-6", json!(1e-6)),
        ("1E-4", json!(1e-4)),
        ("+.5", json!(0.5)),
        ("-.5e+3", json!(-500.0)),
        ("1.", json!(1.0)),
        ("+7", json!(7)),
        ("-7", json!(-7)),
        ("007", json!(7)),
        ("18446744073709551615", json!(u64::MAX)),
        ("0x10", json!(16)),
        ("0o17", json!(15)),
        ("-0x10", json!("-0x10")),
        ("0x+1", json!("0x+1")),
        ("0x", json!("0x")),
        ("1_000", json!("1_000")),
        ("5e-5x", json!("5e-5x")),
        ("1e999", json!("1e999")),
        (".nan", json!(".nan")),
        (".inf", json!(".inf")),
        ("inf", json!("inf")),
        ("1.2.3", json!("1.2.3")),
        ("2024-01-01", json!("2024-01-01")),
        ("12:30", json!("12:30")),
        (".", json!(".")),
        ("+-5", json!("+-5")),
        ("yes", json!("yes")),
        ("~", json!(null)),
        ("Null", json!(null)),
        ("\"5\"", json!("5")),
        ("'true'", json!("true")),
        ("!!str 5", json!("5")),
        ("|\n    a\n    b", json!("a\nb\n")),
    ] {
        assert_eq!(value_of(text), expected, "{text}");
    }
}

#[test]
fn whole_numbers_may_be_written_with_an_exponent() {
    let manager = Case::with(
        "data: {batch_size: 1e3}\ntraining: {save_at: [1e2, 5.0], seed: 2e1}\nmodel: {max_length: 1E3}\n",
    )
    .load();
    let config = manager.get();
    assert_eq!(
        (config.data.batch_size, config.training.seed, config.model.max_length),
        (1000, 20, Some(1000))
    );
    assert_eq!(config.training.save_at, [100, 5]);
}

#[test]
fn too_large_for_the_type_is_an_error_with_a_place() {
    let problem = only_problem("training: {sft: {epochs: 5000000000}}");
    assert_eq!((problem.path.as_str(), underlined(&problem)), ("training.sft.epochs", "5000000000"));
    let problem = only_problem("training: {save_at: [1, 5000000000]}");
    assert_eq!((problem.path.as_str(), underlined(&problem)), ("training.save_at.1", "5000000000"));
    for text in ["1e30", "-1", "1.5", "1e400"] {
        assert_eq!(underlined(&only_problem(format!("training: {{seed: {text}}}"))), text);
    }
}

#[test]
fn anchors_and_aliases_work() {
    let manager = Case::with("training:\n  sft: &a {epochs: 7}\n  dpo: *a\n").load();
    assert_eq!((manager.get().training.sft.epochs, manager.get().training.dpo.epochs), (7, 7));
}

#[test]
fn interpolation() {
    for (text, expected) in [
        ("${A}", json!("alpha")),
        ("x-${A}-${N}", json!("x-alpha-5")),
        ("${N}", json!(5)),
        ("\"${N}\"", json!("5")),
        ("'${N}'", json!("5")),
        ("1${N}", json!(15)),
        ("${F}", json!(5e-5)),
        ("${NO:-7}", json!(7)),
        ("${NO:-}", json!(null)),
        ("\"${NO:-}\"", json!("")),
        ("${EMPTY:-d}", json!("d")),
        ("${A:-d}", json!("alpha")),
        ("$${A}", json!("${A}")),
        ("a$${A}${A}", json!("a${A}alpha")),
        ("$$${A}", json!("$${A}")),
        ("$A", json!("$A")),
        ("[\"${A}\", \"${N}\"]", json!(["alpha", "5"])),
        ("${D}", json!("from-dotenv")),
        ("${RECURSIVE}", json!("${A}")),
    ] {
        let manager = Case::with(format!("custom:\n  x: {text}\n"))
            .env("A", "alpha")
            .env("N", "5")
            .env("F", "5e-5")
            .env("EMPTY", "")
            .env("RECURSIVE", "${A}")
            .dotenv("D=from-dotenv\nA=lower\n")
            .load();
        assert_eq!(manager.value("custom.x").unwrap(), expected, "{text}");
    }
}

#[test]
fn interpolation_that_fails() {
    let problem = only_problem("training:\n  seed: ${NO_SUCH}\n");
    assert_eq!(problem.path, "training.seed");
    assert_eq!(problem.message, "the environment variable `NO_SUCH` is not set");
    for text in ["${A", "x ${", "${NO}y", "${NO:-${A}}", "${}"] {
        let problem = only_problem(format!("data:\n  path: \"{text}\"\n"));
        assert_eq!(problem.path, "data.path", "{text}");
        assert!(problem.help.is_some());
    }
}

#[test]
fn extends() {
    let case = Case::with("extends: base.yaml\ndata: {batch_size: 3}\n")
        .beside("base.yaml", "data: {batch_size: 1, path: p}\ntraining: {seed: 9}\n");
    let manager = case.load();
    assert_eq!((manager.get().data.batch_size, manager.get().data.path.as_str()), (3, "p"));
    let explained = manager.explain("training.seed").unwrap();
    assert_eq!((explained.file, explained.line), (Some(case.path("base.yaml")), Some(2)));
    assert_eq!(manager.files(), [case.path("config.yaml"), case.path("base.yaml")]);
}

#[test]
fn extends_a_list_in_order_and_below_directories() {
    let case = Case::new();
    std::fs::create_dir(case.path("sub")).unwrap();
    let case = case
        .file("config.yaml", "extends: [sub/a.yaml, \"${B:-b.yaml}\"]\n")
        .beside("sub/a.yaml", "extends: c.yaml\ndata: {batch_size: 1}\n")
        .beside("sub/c.yaml", "data: {path: c, batch_size: 9}\ntraining: {seed: 3}\n")
        .beside("b.yaml", "data: {path: b}\n");
    let config = case.load().get();
    assert_eq!((config.data.batch_size, config.data.path.as_str(), config.training.seed), (1, "b", 3));
}

#[test]
fn a_common_base_is_not_a_circle() {
    let case = Case::with("extends: [a.yaml, b.yaml]\n")
        .beside("a.yaml", "extends: c.yaml\n")
        .beside("b.yaml", "extends: c.yaml\n")
        .beside("c.yaml", "training: {seed: 3}\n");
    assert_eq!(case.load().get().training.seed, 3);
}

#[test]
fn extends_that_cannot_be() {
    let report = |text: &str| {
        let case =
            Case::with(text).beside("circle.yaml", "extends: config.yaml\n").beside("bad.yaml", "seed: 1\n");
        case.report()
    };
    insta::assert_snapshot!(report("data: {}\nextends: no.yaml\n"), @r#"
    config.yaml:2:10: `extends`: no.yaml: no such file
      help: a file name is relative to the file that says `extends`
    "#);
    insta::assert_snapshot!(report("extends: circle.yaml\n"), @"circle.yaml:1:10: `extends`: `config.yaml` extends itself");
    insta::assert_snapshot!(report("extends: config.yaml\n"), @"config.yaml:1:10: `extends`: `config.yaml` extends itself");
    insta::assert_snapshot!(report("extends: [7, {a: b}]\n"), @r#"
    config.yaml:1:11: `extends`: a file name, or a list of file names, was expected
    config.yaml:1:14: `extends`: a file name, or a list of file names, was expected
    "#);
    insta::assert_snapshot!(report("extends:\n"), @"config.yaml:1:8: `extends`: a file name, or a list of file names, was expected");
    insta::assert_snapshot!(report("extends: bad.yaml\n"), @r#"
    bad.yaml:1:1: `seed`: unknown key
      help: did you mean `training.seed`?
    "#);
}

#[test]
fn extends_does_not_explode() {
    let mut case = Case::with("extends: [0.yaml, 0.yaml]\n");
    for index in 0..30 {
        let next = index + 1;
        case = case.beside(&format!("{index}.yaml"), format!("extends: [{next}.yaml, {next}.yaml]\n"));
    }
    case = case.beside("30.yaml", "{}");
    assert!(case.problems().iter().any(|problem| problem.message.contains("more than 100 files")));
}
