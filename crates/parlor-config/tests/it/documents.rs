//! The generated documents.

use parlor_config::{commented_yaml, json_schema, markdown_reference};
use serde_json::json;

use crate::sample::{Case, Sample, rules};

#[test]
fn the_commented_file_loads_as_the_defaults() {
    let yaml = commented_yaml::<Sample>(&[]);
    assert_eq!(*Case::with(&yaml).load().get(), Sample::default());
    insta::assert_snapshot!(yaml);
}

#[test]
fn the_commented_file_with_values() {
    let values =
        [("training.training_type", json!("dpo")), ("model.name", json!("a\n${B}")), ("no.such", json!(1))];
    let config = Case::with(commented_yaml::<Sample>(&values)).load().get();
    assert_eq!(config.training.training_type, crate::sample::TrainingType::Dpo);
    assert_eq!(config.model.name, "a\n${B}");
}

#[test]
fn the_schema_lists_aliases() {
    let schema = json_schema(&rules());
    let text = schema.to_string();
    assert!(text.contains(r#""const":"adamw_torch""#), "{text}");
    assert!(text.contains("Another name of `adamw`."), "{text}");
    assert!(text.contains(r#""const":"preference""#), "{text}");
}

#[test]
fn the_reference_has_every_key() {
    let markdown = markdown_reference(&rules());
    for key in Case::new().load().keys() {
        assert!(markdown.contains(&format!("| `{key}` |")), "{key}");
    }
    insta::assert_snapshot!(markdown);
}
