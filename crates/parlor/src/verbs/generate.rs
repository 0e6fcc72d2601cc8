//! `parlor generate`: one answer, streamed as it is made.

use crate::answer::{AnswerRow, answer, chat_prompt, chosen, sampling, say_endless, text_prompt};
use crate::cli::GenerateArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::model::{load, template_kwargs};
use crate::output::{self, note};

pub(super) fn run(context: &Context, args: &GenerateArgs) -> Result<(), Failure> {
    if args.template.template_kwargs.is_some() && args.prompt.messages.is_none() {
        return Err(Failure::input_help(
            "`--template-kwargs` is for the chat template, which only `--messages` goes through",
            "give the prompt as `--messages FILE`, or leave `--template-kwargs` out",
        ));
    }
    let conversation = args.prompt.messages.as_deref().map(super::messages::read).transpose()?;
    let model = load(context, &args.model)?;
    let params = sampling(&chosen(context, &args.sampling)?, &model.generation)?;
    say_endless(&model, &params);
    let prompt = match (&args.prompt.prompt, &args.prompt.ids, conversation) {
        (_, Some(ids), _) => ids.clone(),
        (_, _, Some(conversation)) => {
            let kwargs = template_kwargs(context, &args.template)?;
            chat_prompt(&model, &conversation.messages, conversation.tools, &kwargs)?
        }
        (text, ..) => text_prompt(&model, text.as_deref().unwrap_or_default())?,
    };
    if context.output.is_json() {
        let answer = answer(&model, &prompt, &params, &mut |_| Ok(()))?;
        return output::json(&AnswerRow::from(&answer));
    }
    let answer = answer(&model, &prompt, &params, &mut output::piece)?;
    match model.tokenizer {
        Some(_) => output::piece("\n")?,
        // Without a tokenizer there is no text: the ids are the answer.
        None => output::line(&answer.ids.iter().map(u32::to_string).collect::<Vec<_>>().join(","))?,
    }
    if context.global.verbose > 0 {
        note(&format!(
            "{} + {} tokens, prefill {:.1} tokens/s, decode {:.1} tokens/s",
            answer.prompt_tokens,
            answer.ids.len(),
            answer.prefill_tokens_per_second(),
            answer.decode_tokens_per_second()
        ));
    }
    Ok(())
}
