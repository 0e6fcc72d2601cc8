//! One answer: sampling settings from flags and the model, the prompt's ids, the text as it comes.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use parlor::engine::{Answer, Answerer, FinishReason, GenerateError, SamplingParams, generate};
use parlor::model::{GenerationConfig, LoadedModel};
use parlor::text::{
    ChatTemplate, Message, RenderOptions, SpecialTokens, TemplateError, Tokenizer, TokenizerError,
};
use serde::Serialize;
use serde_json::Value;

use crate::cli::SamplingArgs;
use crate::failure::Failure;
use crate::interrupt::STOP;
use crate::model::{template, tokenizer};

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

impl<'a> From<&'a Answer> for AnswerRow<'a> {
    fn from(answer: &'a Answer) -> Self {
        Self {
            text: &answer.text,
            ids: &answer.ids,
            finish_reason: answer.finish_reason,
            prompt_tokens: answer.prompt_tokens,
            completion_tokens: answer.ids.len(),
            seconds: (answer.prefill + answer.decode).as_secs_f64(),
            prefill_tokens_per_second: answer.prefill_tokens_per_second(),
            decode_tokens_per_second: answer.decode_tokens_per_second(),
        }
    }
}

/// Sampling settings: flags over the model's generation_config.json over Parlor's defaults. A temperature of 0 (or
/// `do_sample: false`) is greedy as HF has it: only the penalties that someone asked for apply.
pub(crate) fn sampling(args: &SamplingArgs, model: &GenerationConfig) -> Result<SamplingParams, Failure> {
    let temperature = args.temperature.or(match model.do_sample {
        Some(false) => Some(0.0),
        _ => model.temperature.map(|temperature| temperature as f32),
    });
    let max_tokens = args.max_tokens.or(model.max_new_tokens.map(|tokens| tokens as usize)).unwrap_or(512);
    let mut params = match temperature {
        Some(0.0) => SamplingParams::greedy(max_tokens),
        _ => SamplingParams { max_tokens, ..SamplingParams::default() },
    };
    fn set<T>(field: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *field = value;
        }
    }
    set(&mut params.temperature, temperature);
    set(&mut params.top_k, args.top_k.or(model.top_k.map(|k| k as usize)));
    set(&mut params.top_p, args.top_p.or(model.top_p.map(|p| p as f32)));
    set(&mut params.min_p, args.min_p);
    set(&mut params.typical_p, args.typical_p);
    let repetition = model.repetition_penalty.map(|penalty| penalty as f32);
    set(&mut params.repetition_penalty, args.repetition_penalty.or(repetition));
    set(&mut params.frequency_penalty, args.frequency_penalty);
    set(&mut params.presence_penalty, args.presence_penalty);
    params.seed = args.seed;
    params.stop.clone_from(&args.stop);
    params.ignore_eos = args.ignore_eos;
    match params.problems() {
        problems if problems.is_empty() => Ok(params),
        problems => Err(Failure::input(problems.join("; "))),
    }
}

/// Ids of a raw prompt.
pub(crate) fn text_prompt(model: &LoadedModel, text: &str) -> Result<Vec<u32>, Failure> {
    Ok(tokenizer(model)?.encode(text, SpecialTokens::Include)?)
}

/// Ids of a conversation that the assistant goes on with.
pub(crate) fn chat_prompt(
    model: &LoadedModel,
    messages: &[Message],
    tools: Option<Vec<Value>>,
) -> Result<Vec<u32>, Failure> {
    chat_ids(template(model)?, tokenizer(model)?, messages, tools)
}

/// The same, of a template and a tokenizer.
pub(crate) fn chat_ids<E: From<TemplateError> + From<TokenizerError>>(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: &[Message],
    tools: Option<Vec<Value>>,
) -> Result<Vec<u32>, E> {
    let options = RenderOptions { tools, add_generation_prompt: true, ..RenderOptions::default() };
    let text = template.render(messages, &options)?.text;
    // The template writes the special tokens itself.
    Ok(tokenizer.encode(&text, SpecialTokens::Omit)?)
}

/// Answers `prompt`; ends early when Ctrl-C is pressed, or when `on_text` fails.
pub(crate) fn answer(
    model: &LoadedModel,
    prompt: &[u32],
    params: &SamplingParams,
    on_text: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    check_ids(prompt, model)?;
    let answerer = Answerer {
        decoder: &model.decoder,
        tokenizer: model.tokenizer.as_ref(),
        eos_token_ids: &model.generation.eos_token_ids,
        max_length: model.max_length,
    };
    let mut failure = None;
    let result = generate(answerer, prompt, params, fresh_seed(), &mut |piece| {
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

/// Refuses ids that the model has no vector for.
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
