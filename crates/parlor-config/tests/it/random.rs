//! Arbitrary input ends in a value or an error, and an error can be shown.

use proptest::prelude::*;

use crate::sample::{Case, fixed};

/// Loads, and looks at every place of an error.
fn survives(case: &Case) {
    match case.try_load() {
        Ok(manager) => {
            manager.to_yaml(parlor_config::SaveMode::All);
            manager.shown(parlor_config::SaveMode::Changed);
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            for problem in &error.problems {
                assert!(!problem.to_string().is_empty());
                if let Some(place) = &problem.place {
                    // On character boundaries.
                    let _ = &place.source[place.offset..place.offset + place.len];
                    assert!(place.line >= 1 && place.column >= 1);
                }
            }
        }
    }
}

/// Text that is almost a configuration.
fn yaml() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("training"),
        Just("model"),
        Just("tracker"),
        Just("custom"),
        Just("seed"),
        Just("api_key"),
        Just("extends"),
        Just("name"),
        Just(":"),
        Just(": "),
        Just("\n"),
        Just("\n  "),
        Just("\n    "),
        Just("- "),
        Just("["),
        Just("]"),
        Just("{"),
        Just("}"),
        Just(", "),
        Just("\""),
        Just("'"),
        Just("|"),
        Just(">"),
        Just("&a "),
        Just("*a"),
        Just("!t "),
        Just("? "),
        Just("#"),
        Just("---\n"),
        Just("\t"),
        Just("${"),
        Just("${A}"),
        Just("${B:-"),
        Just("}"),
        Just("$$"),
        Just("1"),
        Just("5e-5"),
        Just("\u{e4}"),
        Just("\u{1f600}"),
        Just("\r\n"),
        Just("\u{feff}"),
        Just("\u{85}"),
        Just("\0"),
        Just("%YAML 1.2\n"),
        Just("<<"),
        Just("\\x"),
    ];
    let begin = prop_oneof![Just(""), Just("custom:\n  x: "), Just("custom:\n  x: [")];
    (begin, prop::collection::vec(word, 0..40))
        .prop_map(|(begin, words)| format!("{begin}{}", words.concat()))
}

proptest! {
    #![proptest_config(fixed(512))]

    #[test]
    fn any_bytes_as_a_file(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survives(&Case::with(bytes));
    }

    #[test]
    fn any_text_as_a_file(text in any::<String>()) {
        survives(&Case::with(text));
    }

    #[test]
    fn almost_yaml_as_a_file(text in yaml()) {
        let case = Case::with(&text).env("A", "\u{1f600}: [");
        survives(&case);
        if let Ok(manager) = case.try_load() {
            let yaml = manager.to_yaml(parlor_config::SaveMode::All);
            let again = Case::with(&yaml).env("A", "\u{1f600}: [");
            let again = again.try_load().map_err(|error| TestCaseError::fail(format!("{error}\n{yaml}")))?;
            let mut expected = (*manager.get()).clone();
            expected.tracker.api_key.clone_from(&again.get().tracker.api_key);
            prop_assert_eq!(&*again.get(), &expected, "{}", yaml);
        }
    }

    #[test]
    fn any_flag(flag in prop_oneof![any::<String>(), "(training|model|custom)?[.a-z]{0,12}=.{0,12}"], value in yaml()) {
        survives(&Case::new().set(&flag).set(&format!("custom.x={value}")).set(&format!("training={value}")));
    }

    #[test]
    fn any_environment(name in prop_oneof![any::<String>(), "PARLOR__[A-Z_.]{0,16}"], value in prop_oneof![any::<String>(), yaml()]) {
        survives(&Case::new().env(&name, &value).env("LEARNING_RATE", &value).env("PARLOR__CUSTOM", &value));
    }

    #[test]
    fn any_dotenv(text in prop_oneof![any::<String>(), "(MODEL_NAME|BATCH_SIZE|PARLOR__A)?[ =\"'#\\$a\n\\\\]{0,20}"]) {
        survives(&Case::new().dotenv(text));
    }

    #[test]
    fn any_key(key in any::<String>()) {
        let manager = Case::new().load();
        let _ = (manager.explain(&key), manager.value(&key), manager.update(&key, 1));
    }
}
