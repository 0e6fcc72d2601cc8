//! `parlor render`: renders a conversation by the chat template, and marks the assistant's tokens.

use parlor::text::{MaskError, RenderOptions, SpecialTokens, encode_conversation};
use serde_json::json;

use super::messages::{read, read_tools};
use crate::cli::RenderArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::model::{TextModel, template_kwargs};
use crate::output::note;

pub(super) fn run(context: &Context, args: &RenderArgs) -> Result<(), Failure> {
    let mut conversation = read(&args.messages)?;
    if let Some(path) = &args.tools {
        conversation.tools = Some(read_tools(path)?);
    }
    let side = TextModel::read(context, &args.model)?;
    let template = side.template()?.with_kwargs(&template_kwargs(context, &args.template)?);
    let options = RenderOptions {
        tools: conversation.tools.clone(),
        add_generation_prompt: args.add_generation_prompt,
        ..RenderOptions::default()
    };
    let text = template.render(&conversation.messages, &options)?.text;
    let ids = side.tokenizer.encode(&text, SpecialTokens::Omit)?;
    let whole = RenderOptions { add_generation_prompt: false, ..options };
    let mask = match encode_conversation(&side.tokenizer, &template, &conversation.messages, &whole) {
        // The generation prompt adds tokens at the end, none of which are the assistant's.
        Ok(encoded) if ids.starts_with(&encoded.ids) => {
            let mut mask: Vec<u8> = encoded.assistant_mask.iter().map(|&mine| u8::from(mine)).collect();
            mask.resize(ids.len(), 0);
            Some(mask)
        }
        Ok(_) => {
            note(
                "warning: with the generation prompt the template renders the messages differently: no mask",
            );
            None
        }
        Err(error @ MaskError::Prefix { .. }) => {
            note(&format!("warning: {error}"));
            None
        }
        Err(error) => return Err(error.into()),
    };
    let value = json!({ "text": text, "ids": ids, "assistant_mask": mask });
    context.output.result(&value, || text.clone())
}
