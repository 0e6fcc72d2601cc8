//! Completions of `training.sample_prompts` by the model in training.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use parlor::engine::{GenerationModel, SamplingParams, generate};
use parlor::model::Decoder;
use parlor::text::{Message, SpecialTokens};
use parlor::train::{Run, SampleGenerator};
use serde_json::Map;

use crate::answer::chat_ids;
use crate::interrupt::STOP;

/// What completes the sample prompts of `run`, if it has any.
pub(crate) fn sample_generator(run: &Run) -> Option<SampleGenerator> {
    if run.training().sample_prompts.is_empty() {
        return None;
    }
    let (tokenizer, template) = (run.tokenizer().clone(), run.sample_template().cloned());
    let mut eos_token_ids = run.generation().eos_token_ids.clone();
    if eos_token_ids.is_empty() {
        eos_token_ids.extend(tokenizer.eos().map(|token| token.id));
    }
    let params = SamplingParams::greedy(run.training().sample_max_new_tokens);
    Some(SampleGenerator::new(move |decoder: &Decoder, prompt| {
        let ids = match &template {
            Some(template) => {
                let messages = [Message::new("user", prompt)];
                chat_ids::<SamplerError>(template, &tokenizer, &messages, None, &Map::new())?
            }
            None => tokenizer.encode(prompt, SpecialTokens::Include)?,
        };
        let model = GenerationModel {
            decoder,
            tokenizer: Some(&tokenizer),
            eos_token_ids: &eos_token_ids,
            max_length: decoder.config().max_position_embeddings,
        };
        let completion = generate(model, &ids, &params, 0, &mut |_| {
            if STOP.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(completion.text)
    }))
}

type SamplerError = Box<dyn std::error::Error + Send + Sync>;
