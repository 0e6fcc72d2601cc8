//! Files that are too much.

use crate::sample::{Case, only_problem};

#[test]
fn eight_mebibytes() {
    let size = 8 << 20;
    let mut text = "# ".to_owned();
    text.push_str(&"x".repeat(size - text.len()));
    assert!(Case::with(&text).try_load().is_ok());
    text.push('x');
    assert!(only_problem(&text).message.contains("at most 8388608"));
}

#[test]
fn deep_nesting() {
    let nested = |depth: usize| format!("custom: {{x: {}{}}}\n", "[".repeat(depth), "]".repeat(depth));
    assert!(Case::with(nested(60)).try_load().is_ok());
    for depth in [100, 10_000, 1_000_000] {
        let problem = only_problem(nested(depth));
        assert!(problem.place.is_some(), "{problem}");
        assert!(problem.message.contains("nest") || problem.message.contains("depth"), "{}", problem.message);
    }
    let block: String = (0..5000).map(|depth| format!("{}a:\n", " ".repeat(depth.min(900)))).collect();
    assert!(Case::with(block).try_load().is_err());
    let text = "[".repeat(1_000_000);
    assert!(Case::new().set(&format!("training.seed={text}")).try_load().is_err());
}

#[test]
fn an_alias_bomb() {
    let mut text = "custom:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        text.push_str(&format!("  a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", ")));
    }
    assert!(only_problem(text).message.contains("more than 100000 values"));
}

#[test]
fn a_chain_of_aliases() {
    let mut text = "custom:\n  a0: &a0 [x]\n".to_owned();
    for level in 1..5000 {
        text.push_str(&format!("  a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert!(only_problem(text).message.contains("more than 100000 values"));
}

#[test]
fn an_alias_to_itself() {
    assert!(only_problem("custom: &a {x: *a}\n").message.contains("alias"));
}

#[test]
fn the_line_of_bad_bytes() {
    let problem = only_problem(b"data:\n  path: caf\xe9\n");
    assert_eq!(problem.message, "not valid UTF-8");
    let place = problem.place.unwrap();
    assert_eq!((place.line, place.column), (2, 12));
}

#[test]
fn many_keys_and_many_mistakes() {
    let custom: String = (0..45_000).map(|index| format!("  k{index}: 1\n")).collect();
    assert_eq!(Case::with(format!("custom:\n{custom}")).load().get().custom.len(), 45_000);
    let wrong: String = (0..2_000).map(|index| format!("  sead{index}: 1\n")).collect();
    assert_eq!(Case::with(format!("training:\n{wrong}")).problems().len(), 2_000);
}

#[test]
fn a_long_key_and_a_long_value() {
    let long = "x".repeat(1 << 20);
    for text in
        [format!("? {long}\n: 1\n"), format!("training: {{seed: {long}}}"), format!("data: {{? {long} : 1}}")]
    {
        let problem = only_problem(&text);
        assert!(problem.message.len() < 200, "{}", problem.message.len());
    }
}

#[test]
fn a_list_is_set_as_a_whole() {
    let report = Case::new().set("training.save_at.0=5").report();
    assert!(report.contains("a list is set as a whole"), "{report}");
}
