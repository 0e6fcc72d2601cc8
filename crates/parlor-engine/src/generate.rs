//! Generates one completion of one prompt: prefill, then decoding token by token over the KV cache.
//!
//! Leaves out several completions at once, which a scheduler will add over the same decoder call.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use parlor_model::{Batch, Context, Decoder, DecoderError, KvCache, Workspace};
use parlor_text::{SpecialTokens, StreamDecoder, Tokenizer, TokenizerError};
use serde::Serialize;

use crate::params::SamplingParams;
use crate::processors::EndConditions;
use crate::sampling::{Sampler, SamplingError};
use crate::stop::StopScanner;

/// Prompt tokens per decoder call. Bounds the memory of activations.
const PREFILL_CHUNK: usize = 512;

/// A model as [`generate`] uses it.
#[derive(Clone, Copy, Debug)]
pub struct GenerationModel<'a> {
    /// The decoder.
    pub decoder: &'a Decoder,
    /// Turns ids into text. Without it a completion has no text, and stop texts are refused.
    pub tokenizer: Option<&'a Tokenizer>,
    /// Ids that end a completion.
    pub eos_token_ids: &'a [u32],
    /// Longest sequence in tokens, prompt included.
    pub max_length: usize,
}

/// Why a completion ended (OpenAI's names, and `cancelled`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end-of-sequence token, or a stop text.
    Stop,
    /// `max_tokens`, `max_time`, or the maximum length of the model or its settings.
    Length,
    /// Cancelled by the caller.
    Cancelled,
}

/// A completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Its text, without stop texts and special tokens.
    pub text: String,
    /// Its ids, including the one that ended it.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Number of tokens of the prompt.
    pub prompt_tokens: usize,
    /// Time to the first new token.
    pub prefill: Duration,
    /// Time for the other tokens.
    pub decode: Duration,
}

impl Completion {
    /// Prompt tokens per second.
    pub fn prefill_tokens_per_second(&self) -> f64 {
        rate(self.prompt_tokens, self.prefill)
    }

    /// New tokens per second, without the first, which belongs to prefill.
    pub fn decode_tokens_per_second(&self) -> f64 {
        rate(self.ids.len().saturating_sub(1), self.decode)
    }
}

fn rate(tokens: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
}

/// Why there is no completion.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The sampling parameters are out of range.
    #[error("{}", .0.join("; "))]
    Params(Vec<String>),
    /// The prompt has no token.
    #[error("the prompt has no token; give at least one")]
    EmptyPrompt,
    /// The prompt leaves no room for a completion.
    #[error("the prompt has {tokens} tokens, but the model takes {max_length}, answer included; shorten it")]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// The model's limit.
        max_length: usize,
    },
    /// The prompt reaches the longest sequence that the generation settings allow.
    #[error(
        "the prompt has {tokens} tokens, but the model's generation settings have `max_length: {max_length}`, answer \
         included; say how many new tokens there may be, which counts before it"
    )]
    PromptOverMaxLength {
        /// Tokens of the prompt.
        tokens: usize,
        /// The limit.
        max_length: usize,
    },
    /// Stop texts without a tokenizer.
    #[error(
        "stop texts were given ({}), but there is no tokenizer, so none can be found in the answer; use a model with a \
         tokenizer, or leave them out", .0.iter().map(|stop| format!("{stop:?}")).collect::<Vec<_>>().join(", ")
    )]
    StopWithoutTokenizer(Vec<String>),
    /// No logit is a number: the weights are damaged or not finite.
    #[error("the model's output at position {position} holds no number; its weights are not finite")]
    NotFinite {
        /// Position of the token that could not be chosen.
        position: usize,
    },
    /// The parameters forbid every token.
    #[error(
        "at position {position} every token is forbidden by the generation settings (suppressed tokens, bad words, \
         n-grams that may not repeat, forced tokens outside the vocabulary); allow some"
    )]
    Forbidden {
        /// Position of the token that could not be chosen.
        position: usize,
    },
    /// From the decoder.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    /// From the tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// Generates a completion of `prompt`. `on_text` gets each piece of text as soon as it is final, and may
/// cancel. `seed` is used when `params` has none.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use parlor_engine::{GenerationModel, SamplingParams, generate};
/// use parlor_model::{LoadOptions, load_directory};
/// use parlor_text::SpecialTokens;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/qwen2_chat");
/// let model = load_directory(&directory, &LoadOptions::default())?;
/// let tokenizer = model.tokenizer.as_ref().ok_or("the model has no tokenizer")?;
/// let generation_model = GenerationModel {
///     decoder: &model.decoder,
///     tokenizer: Some(tokenizer),
///     eos_token_ids: &model.eos_token_ids(),
///     max_length: model.max_length,
/// };
/// let prompt = tokenizer.encode("Once upon a time", SpecialTokens::Include)?;
/// let params = SamplingParams::greedy(8);
/// let mut streamed = String::new();
/// let completion = generate(generation_model, &prompt, &params, 0, &mut |piece| {
///     streamed.push_str(piece);
///     ControlFlow::Continue(())
/// })?;
/// assert!(completion.ids.len() <= 8);
/// assert_eq!(completion.text, streamed);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`GenerateError`].
pub fn generate(
    model: GenerationModel<'_>,
    prompt: &[u32],
    params: &SamplingParams,
    seed: u64,
    on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<Completion, GenerateError> {
    let problems = params.problems();
    if !problems.is_empty() {
        return Err(GenerateError::Params(problems));
    }
    if prompt.is_empty() {
        return Err(GenerateError::EmptyPrompt);
    }
    let max_length = model.max_length;
    if prompt.len() >= max_length {
        return Err(GenerateError::PromptTooLong { tokens: prompt.len(), max_length });
    }
    if let Some(max_length) = params.max_length.filter(|&most| prompt.len() >= most) {
        return Err(GenerateError::PromptOverMaxLength { tokens: prompt.len(), max_length });
    }
    if model.tokenizer.is_none() && !params.stop.is_empty() {
        return Err(GenerateError::StopWithoutTokenizer(params.stop.clone()));
    }
    let length = max_length.min(params.max_length.unwrap_or(max_length));
    let room = params.max_tokens.min(length - prompt.len());
    let ends = EndConditions { eos_token_ids: model.eos_token_ids.to_vec(), length: prompt.len() + room };
    let start = Instant::now();
    let mut decoding = Decoding {
        model,
        cache: KvCache::new(model.decoder.config(), 1),
        workspace: Workspace::default(),
        sampler: Sampler::new(params.clone(), ends, prompt, seed),
    };
    let mut text = TextStream {
        tokenizer: model.tokenizer,
        stream: model.tokenizer.map(|tokenizer| StreamDecoder::new(tokenizer, SpecialTokens::Omit)),
        stops: StopScanner::new(&params.stop),
        text: String::new(),
        on_text,
        cancelled: false,
    };
    let (mut ids, mut finish, mut prefill) = (Vec::new(), FinishReason::Length, Duration::ZERO);
    let mut pending: &[u32] = prompt;
    let mut last;
    while ids.len() < room {
        let id = decoding.next(pending)?;
        if ids.is_empty() {
            prefill = start.elapsed();
        }
        ids.push(id);
        if !params.ignore_eos && model.eos_token_ids.contains(&id) {
            finish = FinishReason::Stop;
            break;
        }
        text.push(id)?;
        if text.stops.stopped() || text.cancelled {
            finish = if text.cancelled { FinishReason::Cancelled } else { FinishReason::Stop };
            break;
        }
        if params.max_time.is_some_and(|seconds| start.elapsed().as_secs_f64() > seconds) {
            break;
        }
        last = [id];
        pending = &last;
    }
    text.finish()?;
    let decode = start.elapsed().saturating_sub(prefill);
    Ok(Completion {
        text: text.text,
        ids,
        finish_reason: finish,
        prompt_tokens: prompt.len(),
        prefill,
        decode,
    })
}

/// The state of decoding one sequence.
struct Decoding<'a> {
    model: GenerationModel<'a>,
    cache: KvCache,
    workspace: Workspace,
    sampler: Sampler,
}

impl Decoding<'_> {
    /// Feeds `ids` to the decoder and samples the next token.
    fn next(&mut self, ids: &[u32]) -> Result<u32, GenerateError> {
        let mut logits = Vec::new();
        let chunks = ids.chunks(PREFILL_CHUNK);
        let count = chunks.len();
        for (index, chunk) in chunks.enumerate() {
            let mut batch = Batch::default();
            batch.push(chunk, self.cache.len(0), Context::Cache(0));
            let rows = if index + 1 == count { vec![batch.len() - 1] } else { Vec::new() };
            logits = self.model.decoder.logits(&batch, &rows, Some(&mut self.cache), &mut self.workspace)?;
        }
        let position = self.cache.len(0);
        self.sampler.next(&mut logits).map_err(|none| match none {
            SamplingError::NotFinite => GenerateError::NotFinite { position },
            SamplingError::Forbidden => GenerateError::Forbidden { position },
        })
    }
}

/// Turns ids into text, up to the first stop text, and passes it on.
struct TextStream<'a, 'f> {
    tokenizer: Option<&'a Tokenizer>,
    stream: Option<StreamDecoder<'a>>,
    stops: StopScanner,
    text: String,
    on_text: &'f mut dyn FnMut(&str) -> ControlFlow<()>,
    cancelled: bool,
}

impl TextStream<'_, '_> {
    fn push(&mut self, id: u32) -> Result<(), TokenizerError> {
        if self.stops.watches()
            && let Some(token) = self.hidden(id)?
        {
            let piece = self.stops.push_hidden(&token);
            self.emit(&piece);
        }
        if let Some(stream) = &mut self.stream
            && let Some(piece) = stream.push(id)?
        {
            let piece = self.stops.push(&piece);
            self.emit(&piece);
        }
        Ok(())
    }

    /// The spelling of a token that is left out of the text.
    fn hidden(&self, id: u32) -> Result<Option<String>, TokenizerError> {
        let Some(tokenizer) = self.tokenizer else { return Ok(None) };
        let shown = tokenizer.decode(&[id], SpecialTokens::Omit)?;
        // A token that is empty either way, as a lone space may be, is not a special token.
        let hidden = shown.is_empty() && !tokenizer.decode(&[id], SpecialTokens::Include)?.is_empty();
        Ok(if hidden { tokenizer.token(id) } else { None })
    }

    fn finish(&mut self) -> Result<(), TokenizerError> {
        if let Some(stream) = &mut self.stream {
            let rest = stream.finish()?;
            let mut rest = self.stops.push(&rest);
            if !self.stops.stopped() {
                rest.push_str(&self.stops.finish());
            }
            self.emit(&rest);
        }
        Ok(())
    }

    fn emit(&mut self, piece: &str) {
        if !piece.is_empty() {
            self.text.push_str(piece);
            self.cancelled |= (self.on_text)(piece).is_break();
        }
    }
}
