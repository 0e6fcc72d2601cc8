//! A secret is never shown.

use parlor_config::SaveMode;

use crate::sample::Case;

const SECRET: &str = "sk-123456";

#[track_caller]
fn check_shown(case: &Case) {
    let manager = case.load();
    assert_eq!(manager.get().tracker.api_key.as_deref(), Some(SECRET));
    let mut shown =
        vec![manager.shown(SaveMode::All).to_string(), manager.shown(SaveMode::Changed).to_string()];
    for key in ["tracker.api_key", "tracker"] {
        shown.push(format!("{:?}", manager.explain(key).unwrap()));
        shown.push(manager.value(key).unwrap().to_string());
        assert!(shown.iter().any(|text| text.contains("***")));
    }
    shown.push(format!("{manager:?}"));
    shown.extend([manager.to_yaml(SaveMode::All), manager.to_yaml(SaveMode::Changed)]);
    for text in shown {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn from_every_layer() {
    check_shown(&Case::with(format!("tracker:\n  api_key: {SECRET}\n")));
    check_shown(&Case::with("tracker:\n  api_key: ${KEY}\n").env("KEY", SECRET));
    check_shown(&Case::new().dotenv(format!("TRACKER_KEY={SECRET}\n")));
    check_shown(&Case::new().env("TRACKER_KEY", SECRET));
    check_shown(&Case::new().env("PARLOR__TRACKER__API_KEY", SECRET));
    check_shown(&Case::new().set(&format!("tracker.api_key={SECRET}")));
    check_shown(&Case::new().set(&format!("tracker={{api_key: {SECRET}}}")));
}

/// The problems, their places and the text around them.
#[track_caller]
fn check_problems(case: &Case) {
    let problems = case.problems();
    let debug = format!("{problems:?} {}", case.report());
    assert!(!debug.contains(SECRET), "{debug}");
    assert!(!debug.contains("123456"), "{debug}");
}

#[test]
fn in_no_problem() {
    for text in [
        format!("tracker: {{api_key: [{SECRET}]}}\n"),
        format!("tracker: {SECRET}\n"),
        "tracker: {api_key: 123456}\n".to_owned(),
        format!("tracker:\n  api_key:\n    {SECRET}: 1\n"),
        format!("tracker:\n  api_key: {SECRET}\n  enabled: maybe\n"),
        format!("tracker:\n  api_key: {SECRET}\n  sed: 1\n"),
        format!("tracker:\n  \"api_key\" : {SECRET}\ndata: [\n"),
        format!("tracker:\n  api_key: |\n    {SECRET}\n\n    {SECRET}\n  enabled: maybe\n"),
        format!("tracker: {{enabled: 7, api_key: {SECRET}}}\n"),
        format!("tracker:\n  api_key: {SECRET}\ndata:\n  path: ''\n"),
    ] {
        check_problems(&Case::with(text));
    }
    check_problems(&Case::new().dotenv(format!("TRACKER_KEY={SECRET}\nBATCH_SIZE=x\n")));
    check_problems(&Case::new().env("PARLOR__TRACKER__API_KY", SECRET));
    check_problems(&Case::new().set(&format!("tracker.api_ky={SECRET}")));
    check_problems(&Case::new().set(&format!("tracker.api_key.x={SECRET}")));
    let manager = Case::new().load();
    let error = manager.update("tracker.api_key", 123_456).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("123456"), "{error:?}");
}

#[test]
fn the_problem_with_a_secret_has_its_place() {
    let report = Case::with("tracker:\n  api_key: 123456\n").report();
    insta::assert_snapshot!(report, @r#"
    config.yaml:2:12: `tracker.api_key`: the value of this secret, which is not shown, is not of the right kind
      help: text that looks like a number stands in quotes
    "#);
    let report = Case::with("tracker:\n  api_key: ${NO_KEY}\n").report();
    insta::assert_snapshot!(report, @r#"
    config.yaml:2:12: `tracker.api_key`: the environment variable `NO_KEY` is not set
      help: set the variable, or give a default: `${NAME:-default}`; `$${` stands for `${`
    "#);
}
