//! Checks of the program's own.

use parlor_config::Layer;

use crate::sample::{Case, only_problem, underlined};

#[test]
fn a_problem_stands_where_the_key_does() {
    let problem = only_problem("model: {}\ndata:\n  path: ''\n");
    assert_eq!(underlined(&problem), "''");
    assert_eq!((problem.layer, problem.place.unwrap().line), (Some(Layer::File), 3));
    assert_eq!(problem.help.as_deref(), Some("name a file"));
}

#[test]
fn a_problem_of_a_flag() {
    let problems = Case::with("training: {bf16: true}\n").set("training.training_type=dpo").problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(underlined(&problems[0]), "true");
    let problems = Case::new().set("training.bf16=true").set("training.training_type=preference").problems();
    assert_eq!(problems[0].to_string(), "--set training.bf16: `training.bf16`: bf16 does not go with dpo");
}

#[test]
fn validate_says_nothing_of_what_is_in_force() {
    let manager = Case::new().load();
    assert_eq!(manager.validate(), []);
}
