//! `parlor tokenize`: encodes plain text, with the tokens that frame it.

use parlor::text::SpecialTokens;
use serde_json::json;

use super::messages::read_text;
use crate::cli::TokenizeArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::model::TextModel;

pub(super) fn run(context: &Context, args: &TokenizeArgs) -> Result<(), Failure> {
    let text = match (&args.what.text, &args.what.file) {
        (_, Some(path)) => read_text(path)?,
        (text, None) => text.clone().unwrap_or_default(),
    };
    let side = TextModel::read(context, &args.model)?;
    let ids = side.tokenizer.encode(&text, SpecialTokens::Include)?;
    let tokens: Vec<String> = ids.iter().map(|&id| side.tokenizer.token(id).unwrap_or_default()).collect();
    context.output.result(&json!({ "ids": ids, "tokens": tokens }), || {
        ids.iter().zip(&tokens).map(|(id, token)| format!("{id:>8}  {token}\n")).collect()
    })
}
