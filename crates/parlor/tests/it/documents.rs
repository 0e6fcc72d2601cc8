//! The documents made from the structs are fresh, and the documented default loads as the default.

use std::path::Path;

#[test]
fn generated_documents_are_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (path, wanted) in parlor::generated_documents() {
        let found = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        assert!(found == wanted, "{path} is stale: run `cargo xtask docs`");
    }
}

#[test]
fn the_documented_default_is_the_default() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config.yaml");
    let sources = parlor::configuration::Sources { files: vec![file], ..Default::default() };
    let loaded = parlor::load_config(sources).unwrap();
    assert_eq!(*loaded.get(), parlor::Config::default());
}
