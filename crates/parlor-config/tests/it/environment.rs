//! Variables of the process and of `.env`.

use parlor_config::Layer;
use serde_json::json;

use crate::sample::Case;

#[test]
fn systematic_names() {
    let manager = Case::new()
        .env("PARLOR__TRAINING__SFT__EPOCHS", "8")
        .env("PARLOR__MODEL__NAME", "1e5")
        .env("PARLOR__TRAINING__TARGET_MODULES", "[a, b]")
        .env("PARLOR__TRAINING__BF16", "true")
        .env("PARLOR__CUSTOM__A__B", "{c: 1}")
        .env("PARLOR__DATA", "{path: q}")
        .env("PARLOR_HOME", "is no key")
        .env("HOME", "/root")
        .load();
    let config = manager.get();
    assert_eq!((config.training.sft.epochs, config.model.name.as_str()), (8, "1e5"));
    assert_eq!((config.training.target_modules.len(), config.training.bf16), (2, true));
    assert_eq!((config.data.path.as_str(), config.data.batch_size), ("q", 1000));
    assert_eq!(json!(config.custom), json!({"a": {"b": {"c": 1}}}));
    let explained = manager.explain("training.sft.epochs").unwrap();
    assert_eq!(explained.layer, Layer::Environment);
    assert_eq!(explained.file.unwrap().to_str(), Some("PARLOR__TRAINING__SFT__EPOCHS"));
    assert_eq!(explained.line, None);
}

#[test]
fn unknown_systematic_names() {
    let case = Case::new()
        .env("PARLOR__TRAINING__SED", "1")
        .env("PARLOR__BATCH_SIZE", "1")
        .env("PARLOR__ZZZ", "1")
        .env("PARLOR__", "1")
        .env("PARLOR__TRAINING__SEED__X", "1");
    insta::assert_snapshot!(case.report(), @r#"
    PARLOR__TRAINING__SED: `training.sed`: the environment variable `PARLOR__TRAINING__SED` names no key
      help: did you mean `PARLOR__TRAINING__SEED`?
    PARLOR__BATCH_SIZE: `batch_size`: the environment variable `PARLOR__BATCH_SIZE` names no key
      help: did you mean `PARLOR__DATA__BATCH_SIZE`?
    PARLOR__ZZZ: `zzz`: the environment variable `PARLOR__ZZZ` names no key
    PARLOR__: the environment variable `PARLOR__` names no key
    PARLOR__TRAINING__SEED__X: `training.seed.x`: the environment variable `PARLOR__TRAINING__SEED__X` names no key
      help: did you mean `PARLOR__TRAINING__SEED`?
    "#);
}

#[test]
fn empty_counts_as_unset() {
    let case = Case::new()
        .env("MODEL_NAME", "")
        .env("PARLOR__TRAINING__SEED", "")
        .env("PARLOR__NO_SUCH", "")
        .env("LEARNING_RATE", "");
    assert_eq!(*case.load().get(), crate::sample::Sample::default());
}

#[test]
fn the_systematic_name_wins_over_the_plain_one() {
    let case = Case::new().env("PARLOR__MODEL__NAME", "systematic").env("MODEL_NAME", "plain");
    assert_eq!(case.load().get().model.name, "systematic");
    let case = Case::new().env("MODEL_NAME", "plain").dotenv("PARLOR__MODEL__NAME=file\n");
    assert_eq!(case.load().get().model.name, "plain");
}

#[test]
fn an_optional_key() {
    for (value, expected) in [("5", Some(5)), ("null", None), ("~", None)] {
        let case = Case::with("model: {max_length: 9}").env("MAX_LENGTH", value);
        assert_eq!(case.load().get().model.max_length, expected, "{value}");
    }
}

#[test]
fn what_a_name_sets_depends_on_the_other_layers() {
    let rates = |case: Case| {
        let config = case.load().get();
        (config.training.sft.learning_rate, config.training.dpo.learning_rate)
    };
    let case = || Case::new().env("LEARNING_RATE", "3e-3");
    assert_eq!(rates(case()), (3e-3, 1e-6));
    assert_eq!(rates(case().file("c.yaml", "training: {training_type: dpo}")), (5e-5, 3e-3));
    assert_eq!(rates(case().file("c.yaml", "training: {training_type: preference}")), (5e-5, 3e-3));
    assert_eq!(rates(case().set("training.training_type=dpo")), (5e-5, 3e-3));
    assert_eq!(rates(case().env("TRAINING_TYPE", "dpo")), (5e-5, 3e-3));
    assert_eq!(rates(case().set("training.sft.learning_rate=1e-2")), (1e-2, 1e-6));
    let manager = case().load();
    manager.update_training_type("dpo").unwrap();
    assert_eq!(manager.get().training.dpo.learning_rate, 3e-3);
}

#[test]
fn a_dotenv_file() {
    let text = "\u{FEFF}# comment\r\nexport MODEL_NAME=\"a b\"\r\n\r\nBATCH_SIZE=12   # twelve\r\nPARLOR__TRAINING__SEED='5'\r\nTRACKER_KEY=k";
    let case = Case::new().dotenv(text);
    let manager = case.load();
    let config = manager.get();
    assert_eq!((config.model.name.as_str(), config.data.batch_size, config.training.seed), ("a b", 12, 5));
    let explained = manager.explain("data.batch_size").unwrap();
    assert_eq!(
        (explained.layer, explained.file, explained.line),
        (Layer::DotEnv, Some(case.path(".env")), Some(4))
    );
}

#[test]
fn errors_of_a_dotenv_file() {
    let case = Case::new()
        .dotenv("MODEL_NAME=a\nthis is sk-secret\nBATCH_SIZE=\"x y\"\nMAX LENGTH=sk-other\nPARLOR__SEED=1\n");
    insta::assert_snapshot!(case.report(), @r#"
    .env:2:1: this line is not of the form NAME=value
      help: a value with spaces stands in quotes
    .env:4:1: this line is not of the form NAME=value
      help: a value with spaces stands in quotes
    .env:3:12: `data.batch_size`: a whole number was expected, but this is the text "x y"
      help: the default is 1000
    .env:5:14: `seed`: the environment variable `PARLOR__SEED` names no key
      help: did you mean `PARLOR__TRAINING__SEED`?
    "#);
    let text = format!("{:?}", case.problems());
    assert!(!text.contains("sk-"), "{text}");
}

#[test]
fn names_in_a_dotenv_file() {
    // PATH is set in every process, but was not given.
    for (line, expected) in [
        ("MODEL_NAME=$A", "alpha"),
        ("MODEL_NAME=\"x ${A}_y $B_C\"", "x alpha_y below"),
        ("MODEL_NAME='$A'", "$A"),
        ("MODEL_NAME=\\$A", "$A"),
        ("MODEL_NAME=\"\\$A \\\"$A\\\"\"", "$A \"alpha\""),
        ("MODEL_NAME=a$ # it's $A", "a$"),
        ("MODEL_NAME=5$%", "5$%"),
        ("MODEL_NAME=x${", "x${"),
        ("# it's\nMODEL_NAME=$A", "alpha"),
        ("MODEL_NAME=x$PATH", "x"),
        ("MODEL_NAME=x${NO_SUCH}", "x"),
        ("A=mine\nMODEL_NAME=$A$D\nD=later", "alpha"),
        ("EMPTY=mine\nMODEL_NAME=$EMPTY", "mine"),
        ("MODEL_NAME=\"a\n$A\"", "a\nalpha"),
    ] {
        let case = Case::new().dotenv(format!("B_C=below\n{line}\n")).env("A", "alpha").env("EMPTY", "");
        assert_eq!(case.load().get().model.name, expected, "{line}");
    }
    let report = Case::new().dotenv("A=1\nMODEL_NAME=$A b\n").report();
    assert!(report.starts_with(".env:2:1: this line is not of the form"), "{report}");
}

#[test]
fn a_dotenv_file_that_cannot_be_read() {
    let mut case = Case::new();
    case.sources.dotenv = Some(case.path(".env"));
    insta::assert_snapshot!(case.report(), @".env: no such file");
    let case = Case::new().dotenv(b"A=1\nB=\xff\n");
    insta::assert_snapshot!(case.report(), @".env:2:3: not valid UTF-8");
}
