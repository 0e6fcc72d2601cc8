//! The section `monitoring:`.

use parlor_track::{MonitoringConfig, REDACTED, Secret, TrackingUri};

fn parse(yaml: &str) -> MonitoringConfig {
    serde_saphyr::from_str(yaml).unwrap()
}

#[test]
fn the_file_that_must_load_unchanged_gives_the_defaults() {
    let config = parse(
        "wandb:\n  enabled: false\n  project: \"custom-llm-chatbot\"\ncomet:\n  enabled: false\n  project_name: \"custom-llm-chatbot\"\nmlflow:\n  enabled: true\n  tracking_uri: \"./mlruns\"\n",
    );
    assert_eq!(config, MonitoringConfig::default());
    assert!(config.unsupported().is_empty());
    let error = serde_saphyr::from_str::<MonitoringConfig>("wandb:\n  projct: x\n").unwrap_err();
    assert!(error.to_string().contains("projct"), "{error}");
}

#[test]
fn defaults() {
    insta::assert_snapshot!(serde_json::to_string(&MonitoringConfig::default()).unwrap(), @r#"{"wandb":{"enabled":false,"project":"custom-llm-chatbot","entity":null,"name":null,"tags":[],"mode":"online","api_key":null},"comet":{"enabled":false,"project_name":"custom-llm-chatbot","workspace":null,"api_key":null},"mlflow":{"enabled":true,"tracking_uri":"./mlruns","experiment_name":"parlor","run_name":null}}"#);
}

#[test]
fn a_secret_is_read_and_never_shown() {
    let config = parse("wandb:\n  api_key: hunter2\n");
    assert_eq!(config.wandb.api_key, Some(Secret::new("hunter2")));
    assert_eq!(config.wandb.api_key.as_ref().unwrap().expose(), "hunter2");
    let debug = format!("{config:?}");
    let json = serde_json::to_string(&config).unwrap();
    for shown in [&debug, &json] {
        assert!(shown.contains(REDACTED) && !shown.contains("hunter2"), "{shown}");
    }
    // What was shown can be read again and sets nothing; so does an empty text.
    assert_eq!(serde_json::from_str::<MonitoringConfig>(&json).unwrap(), MonitoringConfig::default());
    assert_eq!(parse("wandb:\n  api_key: \"\"\n"), MonitoringConfig::default());
    assert_eq!(parse("comet:\n  api_key: null\n"), MonitoringConfig::default());
}

#[test]
fn the_schema_marks_secrets_and_describes_every_key() {
    let schema = serde_json::to_value(schemars::schema_for!(MonitoringConfig)).unwrap();
    let wandb = &schema["$defs"]["WandbConfig"]["properties"];
    assert!(wandb["api_key"].to_string().contains("\"writeOnly\":true"), "{}", wandb["api_key"]);
    for section in ["WandbConfig", "CometConfig", "MlflowConfig"] {
        for (key, value) in schema["$defs"][section]["properties"].as_object().unwrap() {
            assert!(value["description"].as_str().is_some_and(|text| text.len() > 20), "{section}.{key}");
        }
    }
}

#[test]
fn what_this_build_has_not_is_named() {
    let check = |yaml: &str, expected: &[&str]| {
        let found: Vec<String> = parse(yaml).unsupported().iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{yaml}");
    };
    check(
        "wandb: {enabled: true}",
        &["monitoring.wandb.enabled: W&B is not in this build yet; set it to false"],
    );
    check("wandb: {enabled: true, mode: disabled}", &[]);
    check(
        "comet: {enabled: true}",
        &["monitoring.comet.enabled: Comet is not in this build yet; set it to false"],
    );
    let help = "name a directory such as ./mlruns, or set monitoring.mlflow.enabled to false";
    let mlflow = |uri: &str, why: &str| {
        let expected = format!("monitoring.mlflow.tracking_uri: {why}; {help}");
        check(&format!("mlflow: {{tracking_uri: {uri:?}}}"), &[&expected]);
        check(&format!("mlflow: {{enabled: false, tracking_uri: {uri:?}}}"), &[]);
    };
    mlflow("http://user:hunter2@localhost:5000", "MLflow servers are not in this build yet");
    mlflow("HTTPS://host", "MLflow servers are not in this build yet");
    mlflow("sqlite:///mlflow.db", "databases of MLflow are not in this build yet");
    mlflow("postgresql+psycopg2://u:p@h/d", "databases of MLflow are not in this build yet");
    mlflow("databricks", "Databricks is not in this build yet");
    mlflow("databricks://profile", "Databricks is not in this build yet");
    mlflow("s3://bucket", "`s3` is neither a directory nor a URI that MLflow knows");
    mlflow(" ", "it is empty");
    check(
        "mlflow: {experiment_name: ' '}",
        &["monitoring.mlflow.experiment_name: it is empty; give it a name such as parlor"],
    );
}

#[test]
fn tracking_uris() {
    let check = |text: &str, path: &str| {
        assert_eq!(TrackingUri::parse(text), TrackingUri::Directory(path.into()), "{text}");
    };
    check("./mlruns", "./mlruns");
    check("/data/a b", "/data/a b");
    check("C:\\runs", "C:\\runs");
    check("./a:b", "./a:b");
    check("file:///data/a%20b", "/data/a b");
    check("file:/data", "/data");
    check("file://localhost/data", "/data");
    check("file:runs", "runs");
    assert_eq!(TrackingUri::parse("file://server/x"), TrackingUri::Unknown("file://server/x".to_owned()));
    assert_eq!(TrackingUri::parse("file:"), TrackingUri::Empty);
}
