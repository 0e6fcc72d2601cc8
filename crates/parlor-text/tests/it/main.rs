//! Text to ids and back, chat templates, datasets, masks: against the reference's fixtures and on bad input.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod columns;
mod convert;
mod datasets;
mod documents;
mod encode;
mod formats;
mod layouts;
mod masks;
mod mixture;
mod order;
mod preference;
mod row_encoding;
mod row_layouts;
mod snippets;
mod statistics;
mod template_parity;
mod templates;
mod tokenizers;

use std::path::{Path, PathBuf};

use serde_json::Value;

pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)
}

pub(crate) fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(path)).unwrap()).unwrap()
}

pub(crate) fn chat_model() -> (parlor_text::Tokenizer, parlor_text::ChatTemplate) {
    let directory = fixture("models/qwen2_chat");
    let tokenizer = parlor_text::Tokenizer::from_dir(&directory).unwrap();
    let template = parlor_text::ChatTemplate::from_dir(&directory, &tokenizer).unwrap().unwrap();
    (tokenizer, template)
}
