//! Writes the documents that are made from the structs (`cargo xtask docs`).
#![forbid(unsafe_code)]

use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (path, text) in parlor::generated_documents() {
        std::fs::write(root.join(path), text)?;
    }
    Ok(())
}
