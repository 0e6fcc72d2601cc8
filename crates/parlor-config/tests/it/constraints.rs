//! What a schema can say beyond the type: lengths, forms, machine types, and enums that carry data.

use std::collections::BTreeMap;

use parlor_config::{ConfigManager, Rules, Sources};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Told apart by a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Store {
    /// Files.
    Directory {
        /// Where.
        path: String,
    },
    /// A server.
    Server {
        /// Where.
        url: String,
        /// How often to try.
        #[schemars(range(max = 9))]
        tries: u8,
    },
}

/// Told apart by its only key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Schedule {
    /// No change.
    Constant,
    /// Down to 0.
    Linear {
        /// In steps.
        warmup: u32,
    },
    /// Values.
    Table(Vec<f64>),
}

/// Told apart by what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Size {
    /// A number.
    Number(u32),
    /// A name.
    Name(String),
    /// One after the other.
    Several(Vec<u32>),
    /// Both sides.
    Sides(Sides),
}

/// Both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sides {
    /// Across.
    width: u32,
    /// Down.
    height: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Rich {
    /// A host.
    #[schemars(length(min = 1, max = 8))]
    host: String,
    /// Like cuda:0.
    #[schemars(regex(pattern = "^(cpu|cuda(:[0-9]+)?)$"))]
    device: Option<String>,
    #[schemars(length(min = 1, max = 2))]
    layers: Vec<u32>,
    pair: (u32, String),
    byte: u8,
    signed: i32,
    steps: u32,
    store: Store,
    stores: BTreeMap<String, Store>,
    schedule: Schedule,
    size: Size,
    /// Around it.
    frame: Option<Sides>,
}

impl Default for Rich {
    fn default() -> Self {
        Self {
            host: "::".into(),
            device: None,
            layers: vec![1],
            pair: (1, "a".into()),
            byte: 1,
            signed: 1,
            steps: 1,
            store: Store::Directory { path: "p".into() },
            stores: BTreeMap::new(),
            schedule: Schedule::Constant,
            size: Size::Number(1),
            frame: None,
        }
    }
}

fn load(set: &[&str]) -> Result<ConfigManager<Rich>, String> {
    let set = set.iter().map(|flag| (*flag).to_owned()).collect();
    let sources = Sources { set, ..Sources::default() };
    ConfigManager::load(sources, Rules::default()).map_err(|error| error.to_string())
}

#[track_caller]
fn accepted(flag: &str) -> Rich {
    (*load(&[flag]).unwrap().get()).clone()
}

#[test]
fn what_fits() {
    for flag in [
        "host=12345678",
        "device=cuda:3",
        "device=null",
        "layers=[1, 2]",
        "pair=[4294967295, b]",
        "byte=255",
        "signed=-2147483648",
        "steps=4294967295",
    ] {
        accepted(flag);
    }
}

#[test]
fn enums_with_data() {
    let server = Store::Server { url: "u".into(), tries: 2 };
    let flag = "stores={a: {kind: server, url: u, tries: 2}, b: {kind: directory, path: q}}";
    assert_eq!(accepted(flag).stores["a"], server);
    assert_eq!(accepted("schedule=constant").schedule, Schedule::Constant);
    assert_eq!(accepted("schedule={linear: {warmup: 3}}").schedule, Schedule::Linear { warmup: 3 });
    assert_eq!(accepted("schedule={table: [1, 2.5]}").schedule, Schedule::Table(vec![1.0, 2.5]));
    assert_eq!(accepted("size=7").size, Size::Number(7));
    assert_eq!(accepted("size=large").size, Size::Name("large".into()));
    assert_eq!(accepted("size={width: 1, height: 2}").size, Size::Sides(Sides { width: 1, height: 2 }));
    assert_eq!(accepted("size=[1, 2]").size, Size::Several(vec![1, 2]));
}

#[test]
fn a_section_that_may_be_absent() {
    let manager = load(&[]).unwrap();
    assert!(manager.keys().contains(&"frame.width".to_owned()));
    assert_eq!(manager.value("frame.width").unwrap(), serde_json::Value::Null);
    assert_eq!(manager.explain("frame.height").unwrap().description, "Down.");
    assert!(parlor_config::markdown_reference(&Rules::<Rich>::default()).contains("| `frame.width` |"));
    assert!(parlor_config::commented_yaml::<Rich>(&[]).contains("frame: null"));
    assert_eq!(accepted("frame=null").frame, None);
    assert_eq!(accepted("frame={width: 1, height: 2}").frame, Some(Sides { width: 1, height: 2 }));
    let report = load(&["frame.widht=1"]).unwrap_err();
    assert!(report.contains("did you mean `frame.width`?"), "{report}");
    let report = load(&["width=1"]).unwrap_err();
    assert!(report.contains("did you mean `frame.width`?"), "{report}");
}

#[test]
fn what_does_not_fit() {
    let report = load(&[
        "host=",
        "device=gpu",
        "layers=[1, 2, 3]",
        "pair=[a, 1]",
        "byte=256",
        "signed=-3000000000",
        "steps=5000000000",
        "stores={a: {kind: server, url: u, tries: 10}, b: {kind: directory, pth: q}, c: {kind: sever, url: u, tries: 1}}",
        "schedule={linear: {warmup: x}}",
        "size={width: 1, height: b}",
    ]);
    insta::assert_snapshot!(report.unwrap_err());
    let report = load(&["host=123456789", "layers=[]", "byte=-1", "signed=3000000000", "steps=-1"]);
    insta::assert_snapshot!(report.unwrap_err());
    for flag in ["schedule={cosine: 1}", "schedule=linear", "size={width: 1}", "size=[x]"] {
        let report = load(&[flag]).unwrap_err();
        assert!(report.starts_with("--set s"), "{flag}: {report}");
    }
}
