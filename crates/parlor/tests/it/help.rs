//! What the program says about itself.

use insta::assert_snapshot;

use crate::program::parlor;

fn help(args: &[&str]) -> String {
    parlor(std::env::temp_dir().as_path(), args).ok().stdout
}

#[test]
fn the_whole_program() {
    assert_snapshot!(help(&["--help"]));
}

#[test]
fn every_verb() {
    let verbs: [&[&str]; 17] = [
        &["quickstart"],
        &["init"],
        &["config", "validate"],
        &["config", "show"],
        &["config", "get"],
        &["config", "explain"],
        &["config", "schema"],
        &["info"],
        &["tokenize"],
        &["render"],
        &["score"],
        &["generate"],
        &["chat"],
        &["data", "validate"],
        &["data", "inspect"],
        &["train"],
        &["eval"],
    ];
    let mut all = String::new();
    for verb in verbs {
        let text = help(&[verb, &["--help"]].concat());
        // The flags that every verb has stand in the help of the whole program.
        let own = text.split("\nEverywhere:").next().unwrap();
        all.push_str(&format!("== {}\n{own}\n", verb.join(" ")));
    }
    assert_snapshot!(all);
}

#[test]
fn a_mistyped_verb_is_a_usage_error_with_a_suggestion() {
    parlor(&std::env::temp_dir(), &["trian"]).refused(&["trian", "'train'"]);
}

#[test]
fn the_version_is_the_crates() {
    assert_eq!(help(&["--version"]), format!("parlor {}\n", env!("CARGO_PKG_VERSION")));
}
