//! One completion: sampling parameters from flags and the model, the ids of the prompt, and the text as it is
//! generated.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use parlor::engine::{
    Completion, FinishReason, GenerateError, GenerationModel, SamplingOverrides, SamplingParams, generate,
    resolve,
};
use parlor::model::{GenerationConfig, LoadedModel};
use parlor::text::{
    ChatTemplate, Message, RenderOptions, SpecialTokens, TemplateError, Tokenizer, TokenizerError,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::SamplingArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::interrupt::STOP;
use crate::model::{template, tokenizer};
use crate::output::note;

/// What `generate --json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct AnswerRow<'a> {
    text: &'a str,
    ids: &'a [u32],
    finish_reason: FinishReason,
    prompt_tokens: usize,
    completion_tokens: usize,
    seconds: f64,
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
}

impl<'a> From<&'a Completion> for AnswerRow<'a> {
    fn from(completion: &'a Completion) -> Self {
        Self {
            text: &completion.text,
            ids: &completion.ids,
            finish_reason: completion.finish_reason,
            prompt_tokens: completion.prompt_tokens,
            completion_tokens: completion.ids.len(),
            seconds: (completion.prefill + completion.decode).as_secs_f64(),
            prefill_tokens_per_second: completion.prefill_tokens_per_second(),
            decode_tokens_per_second: completion.decode_tokens_per_second(),
        }
    }
}

/// The settings of the flags and the user's configuration.
pub(crate) fn chosen(context: &Context, args: &SamplingArgs) -> Result<SamplingOverrides, Failure> {
    let flags = SamplingOverrides {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        typical_p: args.typical_p,
        repetition_penalty: args.repetition_penalty,
        frequency_penalty: args.frequency_penalty,
        presence_penalty: args.presence_penalty,
        seed: args.seed,
        max_tokens: args.max_tokens,
        stop: args.stop.clone(),
        ignore_eos: args.ignore_eos,
    };
    Ok(flags.over(context.config()?.serving.sampling_defaults.overrides()))
}

/// The sampling parameters by the rules of [`resolve`]. Prints a warning for each setting of the model
/// without effect.
pub(crate) fn sampling(
    chosen: &SamplingOverrides,
    model: &GenerationConfig,
) -> Result<SamplingParams, Failure> {
    let resolved = resolve(chosen, model).map_err(|problems| Failure::input(problems.join("; ")))?;
    for warning in &resolved.warnings {
        note(&format!("warning: {warning}"));
    }
    Ok(resolved.params)
}

/// Warns when only the maximum length ends completions.
pub(crate) fn say_endless(model: &LoadedModel, params: &SamplingParams) {
    if model.eos_token_ids().is_empty() && params.stop.is_empty() && !params.ignore_eos {
        note(
            "warning: neither the model nor its tokenizer names an end-of-sequence token: answers end by their length \
             only; set `eos_token_id` in generation_config.json, or give a text to stop at with `--stop`",
        );
    }
}

/// Ids of a raw prompt.
pub(crate) fn text_prompt(model: &LoadedModel, text: &str) -> Result<Vec<u32>, Failure> {
    Ok(tokenizer(model)?.encode(text, SpecialTokens::Include)?)
}

/// Ids of a conversation with a generation prompt.
pub(crate) fn chat_prompt(
    model: &LoadedModel,
    messages: &[Message],
    tools: Option<Vec<Value>>,
    kwargs: &Map<String, Value>,
) -> Result<Vec<u32>, Failure> {
    chat_ids(template(model)?, tokenizer(model)?, messages, tools, kwargs)
}

/// As [`chat_prompt`], with a template and a tokenizer.
pub(crate) fn chat_ids<E: From<TemplateError> + From<TokenizerError>>(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: &[Message],
    tools: Option<Vec<Value>>,
    kwargs: &Map<String, Value>,
) -> Result<Vec<u32>, E> {
    let kwargs = kwargs.clone();
    let options = RenderOptions { tools, add_generation_prompt: true, kwargs, ..RenderOptions::default() };
    let text = template.render(messages, &options)?.text;
    // The template writes the special tokens itself.
    Ok(tokenizer.encode(&text, SpecialTokens::Omit)?)
}

/// Generates a completion of `prompt`; ends early on Ctrl-C, or when `on_text` fails.
pub(crate) fn answer(
    model: &LoadedModel,
    prompt: &[u32],
    params: &SamplingParams,
    on_text: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<Completion, Failure> {
    check_ids(prompt, model)?;
    let eos_token_ids = model.eos_token_ids();
    let generation_model = GenerationModel {
        decoder: &model.decoder,
        tokenizer: model.tokenizer.as_ref(),
        eos_token_ids: &eos_token_ids,
        max_length: model.max_length,
    };
    let mut failure = None;
    let result = generate(generation_model, prompt, params, fresh_seed(), &mut |piece| {
        if let Err(error) = on_text(piece) {
            failure = Some(error);
            return ControlFlow::Break(());
        }
        if STOP.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match failure {
        Some(failure) => Err(failure),
        None => match result {
            Err(GenerateError::NotFinite { position }) => Err(Failure::failed(format!(
                "the model's output at position {position} holds no number: {}",
                model.why_not_finite()
            ))),
            result => Ok(result?),
        },
    }
}

/// Refuses ids outside the model's vocabulary.
pub(crate) fn check_ids(ids: &[u32], model: &LoadedModel) -> Result<(), Failure> {
    if let Some(tokenizer) = &model.tokenizer {
        tokenizer.require_rows(ids)?;
    }
    let vocab = model.decoder.config().vocab_size;
    match ids.iter().find(|&&id| id as usize >= vocab) {
        None => Ok(()),
        Some(id) => Err(Failure::input(format!(
            "{id} is not a token id of this model, whose vocabulary has {vocab} (0 to {})",
            vocab.saturating_sub(1)
        ))),
    }
}

fn fresh_seed() -> u64 {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    (nanoseconds as u64) ^ (u64::from(std::process::id()) << 32)
}
