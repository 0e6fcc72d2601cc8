//! What a user is told: everything that is wrong, where, and what to do.

use crate::sample::{Case, only_problem, underlined};

const WRONG: &str = "\
modell:
  name: tiny
model:
  name: 7
  max_length: 0
  max_lenght: 5
  device: [cpu]
training:
  seed: \"7\"
  seed: 8
  bf16: yes
  dropout: .nan
  training_type: dppo
  batch_size: 4
  sft:
    learning_rate: 5e-5x
    epochs: 2.5
  dpo:
    learning_rate: 0
    epochs: 1_000
  target_modules: q_proj
  save_at: [1, two, -3]
data:
tracker: on
training.seed: 4
zzz: 1
";

#[test]
fn all_of_a_file_at_once() {
    insta::assert_snapshot!(Case::with(WRONG).report());
}

#[test]
fn all_layers_at_once() {
    let case = Case::with("training:\n  seed: x\n")
        .dotenv("A=1\nBATCH_SIZE=many\n")
        .env("MAX_LENGTH", "long")
        .env("PARLOR__TRAINING__SED", "3")
        .set("training.dropout=2")
        .set("nonsense");
    insta::assert_snapshot!(case.report());
}

#[test]
fn the_problem_is_underlined() {
    for (text, expected, line, column) in [
        ("training:\n  seed: abc\n", "abc", 2, 9),
        ("training:\r\n  # \u{e4}\u{1f600}\r\n  seed: abc\r\n", "abc", 3, 9),
        ("\u{FEFF}training:\n  seed: abc\n", "abc", 2, 9),
        ("training: {\"seed\": \"\u{1f600}\u{e4}\"}\n", "\"\u{1f600}\u{e4}\"", 1, 20),
        ("custom: {\u{e4}: \u{1f600}}\ntraining: {seed: \u{e4}b} # x\n", "\u{e4}b", 2, 18),
        ("# \u{1f600}\ncustom: \u{e4}\n", "\u{e4}", 2, 9),
        ("training:\n  sed: 1\n", "sed", 2, 3),
        ("\u{e4}\u{1f600}x: 1\n", "\u{e4}\u{1f600}x", 1, 1),
        ("model:\n  name: [a, b]  # list\n", "[a, b]", 2, 9),
        ("model:\n  name:\n    a: 1\n    b: 2\n", "a: 1", 3, 5),
        ("model:\n  name:\n    - a\n    - b\n", "- a", 3, 5),
        ("training: {save_at: [1, x, 3]}\n", "x", 1, 25),
        ("training:\n  seed: 1\n  seed: 2\n", "seed", 3, 3),
        ("data:\n  path: ${NO_SUCH}\n", "${NO_SUCH}", 2, 9),
        ("training:\n  seed: !x 5\n", "5", 2, 12),
    ] {
        let problem = only_problem(text);
        assert_eq!(underlined(&problem), expected, "{text:?}");
        let place = problem.place.unwrap();
        assert_eq!((place.line, place.column), (line, column), "{text:?}");
    }
}

#[test]
fn a_syntax_error_has_a_place() {
    for (text, line) in [
        ("model: [1, 2\ndata: {}\n", 2),
        ("model:\n\tname: x\n", 2),
        ("model: \"open\n", 2),
        ("a: b: c\n", 1),
        ("model:\n  name: x\n data:\n", 3),
        ("model: *nothing\n", 1),
        ("\u{e4}: {\u{1f600}\n", 2),
    ] {
        let problem = only_problem(text);
        let place = problem.place.as_ref().unwrap();
        assert!(problem.message.starts_with("not valid YAML"), "{text:?}: {problem}");
        assert!(place.line.abs_diff(line) <= 1, "{text:?}: {problem}");
        let _ = underlined(&problem);
    }
}

#[test]
fn a_tab_is_named() {
    let problem = only_problem("model:\n\tname: x\n");
    assert!(problem.help.as_deref().unwrap_or_default().contains("tab"), "{problem}");
}

#[test]
fn a_second_document_is_refused() {
    let problem = only_problem("data: {}\n---\ndata: {}\n");
    assert!(problem.message.contains("second YAML document"), "{problem}");
    assert_eq!(problem.place.unwrap().line, 2);
}

#[test]
fn a_file_that_is_no_section_is_refused() {
    for text in ["- a\n- b\n", "just text\n", "7\n"] {
        assert!(only_problem(text).message.contains("holds no keys"), "{text:?}");
    }
}

#[test]
fn a_missing_file_a_directory_and_bad_bytes() {
    let mut case = Case::new();
    case.sources.files = vec![case.path("no.yaml"), case.path("")];
    let case = case.file("bytes.yaml", b"model: {}\ndata:\n  path: a\xffb\n");
    insta::assert_snapshot!(case.report(), @r#"
    no.yaml: no such file
      help: `parlor init` writes a commented one; `-c FILE` names another
    : this is a directory; a YAML file was expected
    bytes.yaml:3:10: not valid UTF-8
      help: save the file as UTF-8
    "#);
}

#[test]
fn an_enum_says_what_it_takes() {
    for (value, expected) in [
        ("sftt", "did you mean `sft`? It takes one of from_scratch, sft, dpo, preference"),
        ("zzz", "it takes one of from_scratch, sft, dpo, preference"),
        ("5", "it takes one of from_scratch, sft, dpo, preference"),
        ("", "it takes one of from_scratch, sft, dpo, preference"),
    ] {
        let problem = only_problem(format!("training: {{training_type: {value}}}\n"));
        assert_eq!(problem.help.as_deref(), Some(expected), "{value:?}");
    }
    let problem = only_problem("training: {training_type: [sft]}\n");
    assert!(problem.message.contains("this is a list"), "{problem}");
}

#[test]
fn yes_and_no_are_not_booleans() {
    for (value, write) in
        [("yes", "write `true`"), ("No", "write `false`"), ("on", "write `true`"), ("OFF", "write `false`")]
    {
        let problem = only_problem(format!("training: {{bf16: {value}}}\n"));
        assert_eq!(problem.help.as_deref(), Some(write), "{value}");
    }
    for (value, expected) in [("true", true), ("True", true), ("FALSE", false)] {
        assert_eq!(Case::with(format!("training: {{bf16: {value}}}")).load().get().training.bf16, expected);
    }
}

#[test]
fn a_key_is_found_in_another_section() {
    for (text, expected) in [
        ("training: {batch_size: 5}", "did you mean `data.batch_size`?"),
        ("training: {droput: 0.5}", "did you mean `training.dropout`?"),
        ("trainig: {}", "did you mean `training`?"),
        ("sft: {}", "did you mean `training.sft`?"),
        ("training: {learning_rate: 1e-4}", "did you mean `training.sft.learning_rate`?"),
        ("training: {dpo: {learning-rate: 1e-4}}", "did you mean `training.dpo.learning_rate`?"),
    ] {
        assert_eq!(only_problem(text).help.as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn a_list_that_is_empty_is_explained() {
    let problem = only_problem("training:\n  save_at:\n");
    assert!(problem.message.contains("this is nothing"), "{problem}");
    assert!(
        problem.help.as_deref().unwrap_or_default().starts_with("write a list, which begins with `- `"),
        "{problem}"
    );
}
