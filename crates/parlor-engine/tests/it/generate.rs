//! Generation: where completions end, what text is emitted meanwhile, and what is refused.

use std::ops::ControlFlow;
use std::path::Path;
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

fn completion(params: &SamplingParams) -> (Completion, Vec<String>) {
    let mut pieces = Vec::new();
    let completion = generate(model(), &[PROMPT], params, 1, &mut |piece| {
        pieces.push(piece.to_owned());
        ControlFlow::Continue(())
    });
    (completion.unwrap(), pieces)
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
        let (completion, pieces) = completion(&writes(text, &[stop]));
        assert_eq!(
            (completion.text.as_str(), completion.finish_reason),
            (shown, FinishReason::Stop),
            "{stop}"
        );
        assert_eq!(pieces.concat(), shown, "{stop}");
    }
}

#[test]
fn stop_texts_do_not_match_across_hidden_tokens() {
    let text = "one<|im_end|>two<|im_start|><|im_end|>\nthree";
    for stop in ["onetwo", "et", "im_end", "<|im_end|>one", "two\nthree", "<"] {
        let (completion, pieces) = completion(&writes(text, &[stop]));
        let shown = ("onetwo\nthree", FinishReason::Length);
        assert_eq!((completion.text.as_str(), completion.finish_reason), shown, "{stop}");
        assert_eq!(pieces.concat(), completion.text, "{stop}");
    }
}

#[test]
fn text_is_held_back_until_it_cannot_become_a_stop() {
    let (_, pieces) = completion(&writes("one<|im_end|>two", &["e<|im_end|>twist"]));
    assert!(pieces.iter().all(|piece| !piece.ends_with('e')), "{pieces:?}");
    assert_eq!(pieces.concat(), "onetwo");
}

#[test]
fn every_end_of_the_list_ends_a_completion() {
    let ids = tokenizer().encode("one two", SpecialTokens::Omit).unwrap();
    let (first, second) = (ids[0], ids[1]);
    for (ends, length) in [(vec![first], 1), (vec![9, second], 2), (vec![9], ids.len())] {
        let model = GenerationModel { eos_token_ids: &ends, ..model() };
        let params = writes("one two", &[]);
        let completion = generate(model, &[PROMPT], &params, 1, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(completion.ids, ids[..length], "{ends:?}");
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
    let completion = refused(&params, model()).unwrap();
    assert_eq!((completion.ids.len(), completion.finish_reason), (2, FinishReason::Length));
    let params = SamplingParams { max_time: Some(1e-9), ..SamplingParams::greedy(9) };
    let completion = refused(&params, model()).unwrap();
    assert_eq!((completion.ids.len(), completion.finish_reason), (1, FinishReason::Length));
    let params = SamplingParams { stop: vec!["x".to_owned()], ..SamplingParams::greedy(9) };
    let error = refused(&params, GenerationModel { tokenizer: None, ..model() }).unwrap_err();
    assert!(matches!(&error, GenerateError::StopWithoutTokenizer(stop) if stop == &["x"]), "{error}");
}

/// The text of each token of `text`.
fn pieces_of(text: &str) -> Vec<String> {
    let ids = tokenizer().encode(text, SpecialTokens::Omit).unwrap();
    ids.iter().map(|&id| tokenizer().decode(&[id], SpecialTokens::Omit).unwrap()).collect()
}

#[test]
fn a_stop_text_that_spans_tokens_is_not_emitted_and_the_text_before_it_is() {
    let text = "one two three";
    let tokens = pieces_of(text);
    assert!(tokens.len() > 2, "{tokens:?}");
    for (at, pair) in tokens.windows(2).enumerate() {
        let last = pair[0].chars().next_back().unwrap();
        let stop = format!("{last}{}", pair[1]);
        assert!(tokens.iter().all(|token| !token.contains(&stop)), "{stop:?} spans two tokens of {tokens:?}");
        let before = &text[..text.find(&stop).unwrap()];
        let (completion, pieces) = completion(&writes(text, &[&stop]));
        assert_eq!(
            (completion.text.as_str(), completion.finish_reason),
            (before, FinishReason::Stop),
            "{stop:?}"
        );
        assert_eq!(pieces.concat(), before, "{stop:?}");
        // Decoding ends with the token that completes the stop text.
        assert_eq!(completion.ids.len(), at + 2, "{stop:?}");
    }
}

#[test]
fn the_caller_cancels_in_the_middle() {
    let text = "one two three";
    let tokens = pieces_of(text);
    let mut pieces = Vec::new();
    let completion = generate(model(), &[PROMPT], &writes(text, &[]), 1, &mut |piece| {
        pieces.push(piece.to_owned());
        if pieces.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(completion.finish_reason, FinishReason::Cancelled);
    assert_eq!(completion.ids.len(), 2);
    assert_eq!(pieces, tokens[..2]);
    assert_eq!(completion.text, tokens[..2].concat());
}

#[test]
fn prompts_without_room_for_a_completion_are_refused() {
    let refused = |prompt: &[u32]| {
        let model = GenerationModel { max_length: 4, ..model() };
        let greedy = SamplingParams::greedy(1);
        let mut never = |piece: &str| panic!("nothing is emitted: {piece}");
        generate(model, prompt, &greedy, 1, &mut never).unwrap_err().to_string()
    };
    insta::assert_snapshot!(
        refused(&[PROMPT; 4]),
        @"the prompt has 4 tokens, but the model takes 4, answer included; shorten it"
    );
    insta::assert_snapshot!(
        refused(&[PROMPT; 9]),
        @"the prompt has 9 tokens, but the model takes 4, answer included; shorten it"
    );
    insta::assert_snapshot!(refused(&[]), @"the prompt has no token; give at least one");
}

#[test]
fn a_completion_has_at_most_max_tokens_and_fits_the_model() {
    for (prompt, max_tokens, max_length, expected) in
        [(1, 3, 64, 3), (5, 9, 7, 2), (6, 9, 7, 1), (5, 0, 7, 0)]
    {
        let model = GenerationModel { max_length, ..model() };
        let greedy = SamplingParams::greedy(max_tokens);
        let prompt = vec![PROMPT; prompt];
        let completion = generate(model, &prompt, &greedy, 1, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(completion.ids.len(), expected, "{prompt:?} {max_tokens} {max_length}");
        assert_eq!(completion.finish_reason, FinishReason::Length);
        assert_eq!(completion.prompt_tokens, prompt.len());
    }
}

#[test]
fn an_eos_token_ends_a_completion_and_is_not_in_its_text() {
    let text = "one two three";
    let ids = tokenizer().encode(text, SpecialTokens::Omit).unwrap();
    let ends = [ids[1]];
    let model = GenerationModel { eos_token_ids: &ends, ..model() };
    let run = |params: &SamplingParams| {
        generate(model, &[PROMPT], params, 1, &mut |_| ControlFlow::Continue(())).unwrap()
    };
    let completion = run(&writes(text, &[]));
    assert_eq!((&completion.ids[..], completion.finish_reason), (&ids[..2], FinishReason::Stop));
    assert_eq!(completion.text, pieces_of(text)[0]);
    let completion = run(&SamplingParams { ignore_eos: true, ..writes(text, &[]) });
    assert_eq!((completion.ids, completion.finish_reason), (ids, FinishReason::Length));
    assert_eq!(completion.text, text);
}

/// Overwrites a tensor of a safetensors file with NaNs: all bits set is a NaN in every float format.
fn fill_with_nan(file: &Path, tensor: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let offset =
        |index: usize| 8 + header + tensors[tensor]["data_offsets"][index].as_u64().unwrap() as usize;
    bytes[offset(0)..offset(1)].fill(0xFF);
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn logits_that_are_not_finite_are_an_error_and_no_token() {
    let directory = chat_model();
    fill_with_nan(&directory.path().join("model.safetensors"), "model.norm.weight");
    let damaged = load_directory(directory.path(), &LoadOptions::default()).unwrap();
    let model = GenerationModel {
        decoder: &damaged.decoder,
        tokenizer: damaged.tokenizer.as_ref(),
        eos_token_ids: &[],
        max_length: damaged.max_length,
    };
    for params in [SamplingParams::greedy(3), SamplingParams { max_tokens: 3, ..SamplingParams::default() }] {
        let mut never = |piece: &str| panic!("nothing is emitted: {piece}");
        let error = generate(model, &[PROMPT; 2], &params, 1, &mut never).unwrap_err();
        assert!(matches!(error, GenerateError::NotFinite { position: 2 }), "{error}");
        insta::allow_duplicates! {
            insta::assert_snapshot!(
                error, @"the model's output at position 2 holds no number; its weights are not finite"
            );
        }
    }
}
