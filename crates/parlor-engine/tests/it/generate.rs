//! Where answers end, and what of them is shown while they are made.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use parlor_engine::{Completion, FinishReason, GenerateError, GenerationModel, SamplingParams, generate};
use parlor_model::{LoadOptions, LoadedModel, load_directory};
use parlor_text::{SpecialTokens, Tokenizer};

use crate::reference::chat_model;

static MODEL: LazyLock<LoadedModel> =
    LazyLock::new(|| load_directory(chat_model().path(), &LoadOptions::default()).unwrap());

fn tokenizer() -> &'static Tokenizer {
    MODEL.tokenizer.as_ref().unwrap()
}

fn model() -> GenerationModel<'static> {
    GenerationModel {
        decoder: &MODEL.decoder,
        tokenizer: MODEL.tokenizer.as_ref(),
        eos_token_ids: &[],
        max_length: MODEL.max_length,
    }
}

/// Parameters under which the model writes `text`, special tokens included, token by token.
fn writes(text: &str, stop: &[&str]) -> SamplingParams {
    let ids = tokenizer().encode(text, SpecialTokens::Omit).unwrap();
    let biases = (0..ids.len()).map(|at| {
        let mut sequence = vec![PROMPT];
        sequence.extend(&ids[..=at]);
        (sequence, 1e6)
    });
    SamplingParams {
        sequence_bias: biases.collect(),
        stop: stop.iter().map(|stop| (*stop).to_owned()).collect(),
        ..SamplingParams::greedy(ids.len())
    }
}

const PROMPT: u32 = 40;

fn answer(params: &SamplingParams) -> (Completion, Vec<String>) {
    let mut pieces = Vec::new();
    let answer = generate(model(), &[PROMPT], params, 1, &mut |piece| {
        pieces.push(piece.to_owned());
        ControlFlow::Continue(())
    });
    (answer.unwrap(), pieces)
}

#[test]
fn stop_texts_find_special_tokens_by_their_ids() {
    let text = "one<|im_end|>two<|im_start|><|im_end|>\nthree";
    for (stop, shown) in [
        ("<|im_end|>", "one"),
        ("e<|im_end|>t", "on"),
        ("<|im_start|><|im_end|>", "onetwo"),
        ("<|im_end|>\n", "onetwo"),
        ("two<|im_start|><|im_end|>\nth", "one"),
    ] {
        let (answer, pieces) = answer(&writes(text, &[stop]));
        assert_eq!((answer.text.as_str(), answer.finish_reason), (shown, FinishReason::Stop), "{stop}");
        assert_eq!(pieces.concat(), shown, "{stop}");
    }
}

#[test]
fn stop_texts_do_not_match_across_hidden_tokens() {
    let text = "one<|im_end|>two<|im_start|><|im_end|>\nthree";
    for stop in ["onetwo", "et", "im_end", "<|im_end|>one", "two\nthree", "<"] {
        let (answer, pieces) = answer(&writes(text, &[stop]));
        let shown = ("onetwo\nthree", FinishReason::Length);
        assert_eq!((answer.text.as_str(), answer.finish_reason), shown, "{stop}");
        assert_eq!(pieces.concat(), answer.text, "{stop}");
    }
}

#[test]
fn text_is_held_back_until_it_cannot_become_a_stop() {
    let (_, pieces) = answer(&writes("one<|im_end|>two", &["e<|im_end|>twist"]));
    assert!(pieces.iter().all(|piece| !piece.ends_with('e')), "{pieces:?}");
    assert_eq!(pieces.concat(), "onetwo");
}

#[test]
fn every_end_of_the_list_ends_an_answer() {
    let ids = tokenizer().encode("one two", SpecialTokens::Omit).unwrap();
    let (first, second) = (ids[0], ids[1]);
    for (ends, length) in [(vec![first], 1), (vec![9, second], 2), (vec![9], ids.len())] {
        let model = GenerationModel { eos_token_ids: &ends, ..model() };
        let params = writes("one two", &[]);
        let answer = generate(model, &[PROMPT], &params, 1, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(answer.ids, ids[..length], "{ends:?}");
    }
}

#[test]
fn limits_of_the_settings_hold() {
    let refused = |params: &SamplingParams, model: GenerationModel<'_>| {
        generate(model, &[PROMPT; 5], params, 1, &mut |_| ControlFlow::Continue(()))
    };
    let params = SamplingParams { max_length: Some(5), ..SamplingParams::greedy(9) };
    assert!(matches!(
        refused(&params, model()),
        Err(GenerateError::PromptOverMaxLength { tokens: 5, max_length: 5 })
    ));
    let params = SamplingParams { max_length: Some(7), ..SamplingParams::greedy(9) };
    let answer = refused(&params, model()).unwrap();
    assert_eq!((answer.ids.len(), answer.finish_reason), (2, FinishReason::Length));
    let params = SamplingParams { max_time: Some(1e-9), ..SamplingParams::greedy(9) };
    let answer = refused(&params, model()).unwrap();
    assert_eq!((answer.ids.len(), answer.finish_reason), (1, FinishReason::Length));
    let params = SamplingParams { stop: vec!["x".to_owned()], ..SamplingParams::greedy(9) };
    let error = refused(&params, GenerationModel { tokenizer: None, ..model() }).unwrap_err();
    assert!(matches!(&error, GenerateError::StopWithoutTokenizer(stop) if stop == &["x"]), "{error}");
}
