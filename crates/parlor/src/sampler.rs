//! Sample completions of `training.sample_prompts` by the model in training.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use parlor::engine::{GenerationModel, SamplingParams, generate};
use parlor::model::Decoder;
use parlor::text::{Message, SpecialTokens};
use parlor::train::{Prepared, SampleGenerator};
use serde_json::Map;

use crate::answer::chat_ids;
use crate::interrupt::STOP;

/// Adds a sampler to a run that has sample prompts.
pub(crate) fn answering(prepared: Prepared) -> Prepared {
    if prepared.training().sample_prompts.is_empty() {
        return prepared;
    }
    let (tokenizer, template) = (prepared.tokenizer().clone(), prepared.sample_template().cloned());
    let mut eos_token_ids = prepared.generation().eos_token_ids.clone();
    if eos_token_ids.is_empty() {
        eos_token_ids.extend(tokenizer.eos().map(|token| token.id));
    }
    let params = SamplingParams::greedy(prepared.training().sample_max_new_tokens);
    prepared.with_sampler(SampleGenerator::new(move |decoder: &Decoder, prompt| {
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
