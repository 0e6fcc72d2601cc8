//! Tokenizers against the reference's encodings; streams against whole decodings; training; saving.

use parlor_text::{
    BpeKind, BpeOptions, SpecialTokens, StreamDecoder, TokenKind, Tokenizer, Vocabulary, train_bpe,
};
use proptest::prelude::*;
use serde_json::Value;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::{fixture, json};

const KINDS: [&str; 2] = ["byte_level", "sentence_piece_like"];

fn tokenizer(kind: &str) -> Tokenizer {
    Tokenizer::from_dir(&fixture("tokenizers").join(kind)).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32], special: SpecialTokens) -> Vec<String> {
    let mut stream = StreamDecoder::new(tokenizer, special);
    let mut pieces: Vec<String> = ids.iter().filter_map(|&id| stream.push(id).unwrap()).collect();
    pieces.push(stream.finish().unwrap());
    pieces
}

#[test]
fn encodings_are_the_reference_s() {
    for kind in KINDS {
        let (tokenizer, cases) = (tokenizer(kind), json(&format!("tokenizers/{kind}/encodings.json")));
        for case in cases["encodings"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text, SpecialTokens::Omit).unwrap(), ids(&case["ids"]), "{text:?}");
            let framed = tokenizer.encode(text, SpecialTokens::Include).unwrap();
            assert_eq!(framed, ids(&case["ids_with_special"]), "{text:?}");
            let offsets: Vec<[usize; 2]> = tokenizer
                .encode_with_offsets(text)
                .unwrap()
                .iter()
                .map(|(_, at)| [at.start, at.end])
                .collect();
            assert_eq!(serde_json::to_value(offsets).unwrap(), case["offsets"], "{text:?}");
            for (special, key) in
                [(SpecialTokens::Include, "decoded"), (SpecialTokens::Omit, "decoded_skip_special")]
            {
                let want = case[key].as_str().unwrap();
                assert_eq!(tokenizer.decode(&framed, special).unwrap(), want);
                assert_eq!(streamed(&tokenizer, &framed, special).concat(), want, "streamed {text:?}");
            }
        }
    }
}

#[test]
fn a_stream_cut_inside_a_character_loses_no_byte() {
    for kind in KINDS {
        let (tokenizer, cases) = (tokenizer(kind), json(&format!("tokenizers/{kind}/encodings.json")));
        for case in cases["decodings"].as_array().unwrap() {
            let ids = ids(&case["ids"]);
            let want = case["decoded"].as_str().unwrap();
            assert_eq!(tokenizer.decode(&ids, SpecialTokens::Include).unwrap(), want);
            let pieces = streamed(&tokenizer, &ids, SpecialTokens::Include);
            // Whole characters that were shown before the cut stay shown; a byte-fallback decoder would take them
            // back. Either way the unfinished end is visible.
            let text = pieces.concat();
            if kind == "byte_level" {
                assert_eq!(text, want);
            } else if want.ends_with('\u{FFFD}') {
                assert!(text.ends_with('\u{FFFD}'), "{ids:?}: {text:?}");
            } else {
                assert_eq!(text, want);
            }
            assert!(
                pieces[..pieces.len() - 1].iter().all(|piece| !piece.ends_with('\u{FFFD}')),
                "{pieces:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    /// Any text streams as it decodes (the tokenizer's NFC may write it otherwise than it came).
    #[test]
    fn any_text_streams_whole(text in ".{0,40}") {
        for kind in KINDS {
            let tokenizer = tokenizer(kind);
            let ids = tokenizer.encode(&text, SpecialTokens::Omit).unwrap();
            let decoded = tokenizer.decode(&ids, SpecialTokens::Include).unwrap();
            prop_assert_eq!(streamed(&tokenizer, &ids, SpecialTokens::Include).concat(), decoded);
        }
    }

    /// Any ids at all stream without panic, and nothing half is shown on the way.
    #[test]
    fn any_ids_stream(ids in prop::collection::vec(0u32..700, 0..30)) {
        for kind in KINDS {
            let tokenizer = tokenizer(kind);
            let pieces = streamed(&tokenizer, &ids, SpecialTokens::Include);
            let half = pieces[..pieces.len() - 1].iter().any(|piece| piece.ends_with('\u{FFFD}'));
            prop_assert!(!half);
        }
    }
}

fn corpus() -> impl Iterator<Item = String> + Send {
    (0..200)
        .map(|i| format!("The lighthouse keeper wrote line {i} of the log; it's calm — café, naïve, 12345."))
}

#[test]
fn training_is_repeatable_and_covers_every_byte() {
    let options = BpeOptions { vocab_size: 400, ..BpeOptions::default() };
    let (a, b) = (train_bpe(corpus(), &options).unwrap(), train_bpe(corpus(), &options).unwrap());
    assert_eq!(a.content_hash(), b.content_hash());
    assert!(a.vocab_size() <= 400 && a.vocab_size() > 300, "{}", a.vocab_size());
    let text = "unseen: \u{0} ☕ 漢字 \r\n\t";
    let ids = a.encode(text, SpecialTokens::Omit).unwrap();
    assert_eq!(a.decode(&ids, SpecialTokens::Include).unwrap(), text);
    assert_eq!(a.eos().unwrap().text, "<|endoftext|>");
    assert_eq!(a.encode("<|im_start|>", SpecialTokens::Omit).unwrap(), [a.id("<|im_start|>").unwrap()]);
    let seen = a.encode("The lighthouse keeper", SpecialTokens::Omit).unwrap();
    assert!(seen.len() < 10, "merges were learned: {seen:?}");
    let error = train_bpe(corpus(), &BpeOptions { vocab_size: 10, ..options }).unwrap_err();
    insta::assert_snapshot!(error, @"the tokenizer failed: a vocabulary of 10 tokens is too small: the bytes and special tokens alone are 259");
}

#[test]
fn saving_and_loading_changes_nothing() {
    for kind in KINDS {
        let (original, directory) = (tokenizer(kind), tempfile::tempdir().unwrap());
        original.save(directory.path()).unwrap();
        let again = Tokenizer::from_dir(directory.path()).unwrap();
        assert_eq!(again.content_hash(), original.content_hash());
        assert_eq!(again.special_texts(), original.special_texts());
        assert_eq!(again.vocab_size(), original.vocab_size());
    }
}

#[test]
fn other_models_older_merges_and_ids_with_gaps_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokenizer.json");
    let read = |model: Value| {
        let whole = serde_json::json!({"version": "1.0", "added_tokens": [], "model": model});
        std::fs::write(&path, whole.to_string()).unwrap();
        let tokenizer = Tokenizer::from_file(&path).unwrap();
        (tokenizer.vocab_size(), tokenizer.encode("ab", SpecialTokens::Omit).unwrap())
    };
    let vocab = serde_json::json!({"a": 0, "b": 1, "ab": 9});
    for merges in [serde_json::json!(["a b"]), serde_json::json!([["a", "b"]])] {
        assert_eq!(read(serde_json::json!({"type": "BPE", "vocab": vocab, "merges": merges})), (10, vec![9]));
    }
    let words = serde_json::json!({"type": "WordLevel", "vocab": vocab, "unk_token": "a"});
    assert_eq!(read(words), (10, vec![9]));
}

#[test]
fn files_that_are_not_tokenizers_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let message = || {
        let error = Tokenizer::from_dir(directory.path()).unwrap_err().to_string();
        error.replace(&directory.path().display().to_string(), "DIR")
    };
    insta::assert_snapshot!(message(), @"DIR: no tokenizer here; expected tokenizer.json, or vocab.json with merges.txt");
    std::fs::write(directory.path().join("tokenizer.model"), b"\n").unwrap();
    insta::assert_snapshot!(message(), @"DIR: no tokenizer here; expected tokenizer.json, or vocab.json with merges.txt; tokenizer.model (SentencePiece) is not read: save it as tokenizer.json with `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)`");
    std::fs::write(directory.path().join("tokenizer.json"), b"{\"version\": ").unwrap();
    assert!(message().starts_with("DIR/tokenizer.json: not a usable tokenizer file: "), "{}", message());
    std::fs::copy(fixture("tokenizers/byte_level/tokenizer.json"), directory.path().join("tokenizer.json"))
        .unwrap();
    std::fs::write(directory.path().join("tokenizer_config.json"), b"[]").unwrap();
    insta::assert_snapshot!(message(), @"DIR/tokenizer_config.json: not a usable tokenizer file: an object was expected");
}

#[test]
fn older_byte_level_files_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let whole: Value = json("tokenizers/byte_level/tokenizer.json");
    let merges: Vec<String> = whole["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|merge| match merge.as_array() {
            Some(pair) => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
            None => merge.as_str().unwrap().to_owned(),
        })
        .collect();
    std::fs::write(directory.path().join("vocab.json"), whole["model"]["vocab"].to_string()).unwrap();
    std::fs::write(directory.path().join("merges.txt"), format!("#version: 0.2\n{}\n", merges.join("\n")))
        .unwrap();
    let tokenizer = Tokenizer::from_dir(directory.path()).unwrap();
    let text = "Hello there, naïve world 123";
    let ids = tokenizer.encode(text, SpecialTokens::Omit).unwrap();
    assert_eq!(tokenizer.decode(&ids, SpecialTokens::Include).unwrap(), text);
}

#[test]
fn vocabularies_that_contradict_themselves() {
    let refuse = |tokens: &[&str], bpe: BpeKind, words: &str| {
        let vocabulary = Vocabulary {
            tokens: tokens.iter().copied().collect(),
            kinds: vec![TokenKind::Normal; tokens.len()],
            bpe,
            special: Vec::new(),
            add_bos: false,
            add_eos: false,
        };
        let error = Tokenizer::from_vocabulary(vocabulary).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    let bytes = |left: &str, right: &str| {
        let merges = [&*format!("{left} {right}")].into_iter().collect();
        BpeKind::ByteLevel { words: &["."], nfc: false, whole_words: false, merges }
    };
    refuse(&["a", "b"], bytes("a", "b"), "`a` and `b`");
    refuse(&["a", "b", "abc"], bytes("a", "b"), "`ab`");
    refuse(&["a", "ab"], bytes("a", "b"), "`b`");
    let pieces = |scores: usize| BpeKind::SentencePiece { scores: vec![0.0; scores], space_prefix: true };
    refuse(&["a", "b"], pieces(3), "3 scores");
    refuse(&["a", &"a".repeat(2000)], pieces(2), "2000 bytes");
}

/// A byte-level vocabulary of 6,000 tokens, each but the bytes made of two that were there before.
fn large_vocabulary(seed: u64, whole_words: bool, nfc: bool) -> Vocabulary {
    let mut random = seed;
    let mut below = |n: usize| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize % n
    };
    let mut tokens: Vec<String> = ByteLevel::alphabet().iter().map(char::to_string).collect();
    tokens.sort();
    // Few letters, so that merges meet the texts below.
    let mut parts: Vec<String> = ["a", "b", "c", "Ġ", "Ã", "©"].map(str::to_owned).to_vec();
    let mut merges = Vec::new();
    while tokens.len() < 6000 {
        let (left, right) = (parts[below(parts.len())].clone(), parts[below(parts.len())].clone());
        let both = format!("{left}{right}");
        if both.len() < 24 {
            merges.push(format!("{left} {right}"));
            // A token that is made in two ways is there once; a merge that is there twice counts as the later one.
            if !tokens.contains(&both) {
                tokens.push(both.clone());
                parts.push(both);
            }
        }
    }
    tokens.extend(["<|end|>", "<tool>"].map(str::to_owned));
    let mut kinds = vec![TokenKind::Normal; tokens.len()];
    kinds[6000] = TokenKind::Control;
    kinds[6001] = TokenKind::UserDefined;
    Vocabulary {
        kinds,
        tokens: tokens.iter().map(String::as_str).collect(),
        bpe: BpeKind::ByteLevel {
            words: &[r"\s?\w+|\s+|[^\s\w]+"],
            nfc,
            whole_words,
            merges: merges.iter().map(String::as_str).collect(),
        },
        special: vec![("eos_token", 6000)],
        add_bos: false,
        add_eos: true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Words that are split one by one have the tokens of the whole vocabulary.
    #[test]
    fn a_vocabulary_that_is_not_built_yet_splits_as_when_it_is(
        seed in any::<u64>(),
        whole_words: bool,
        nfc: bool,
        texts in prop::collection::vec("[abcé ,]{0,60}|(a|<tool>|<.end.>|e\u{301}|\n| |ß|b)*", 1..6),
    ) {
        let vocabulary = large_vocabulary(seed, whole_words, nfc);
        let later = Tokenizer::from_vocabulary(vocabulary.clone()).unwrap();
        let built = Tokenizer::from_vocabulary(vocabulary).unwrap();
        // Written down, it is built.
        built.files().unwrap();
        // Read from its files, it is not built yet either.
        let saved = tempfile::tempdir().unwrap();
        built.save(saved.path()).unwrap();
        let read = Tokenizer::from_dir(saved.path()).unwrap();
        prop_assert_eq!(read.vocab_size(), built.vocab_size());
        for text in &texts {
            prop_assert_eq!(read.encode_with_offsets(text).unwrap(), built.encode_with_offsets(text).unwrap());
            for special in [SpecialTokens::Include, SpecialTokens::Omit] {
                let ids = built.encode(text, special).unwrap();
                prop_assert_eq!(&later.encode(text, special).unwrap(), &ids, "{:?}", text);
                prop_assert_eq!(later.decode(&ids, special).unwrap(), built.decode(&ids, special).unwrap());
            }
            prop_assert_eq!(later.encode_with_offsets(text).unwrap(), built.encode_with_offsets(text).unwrap());
        }
        for id in [0, 255, 256, 5999, 6000, 6001, 6002] {
            prop_assert_eq!(later.token(id), built.token(id));
            prop_assert_eq!(later.token(id).and_then(|token| later.id(&token)), built.token(id).and_then(|token| built.id(&token)));
        }
        // Much text has it built, and several at once.
        let long = texts.concat().repeat(400) + &"ab é".repeat(5000);
        prop_assert_eq!(later.encode(&long, SpecialTokens::Include).unwrap(), built.encode(&long, SpecialTokens::Include).unwrap());
        prop_assert_eq!(read.encode(&long, SpecialTokens::Include).unwrap(), built.encode(&long, SpecialTokens::Include).unwrap());
        prop_assert_eq!(later.content_hash(), built.content_hash());
        prop_assert_eq!(read.content_hash(), built.content_hash());
    }

    /// The same of SentencePiece's, whose characters without a token become bytes, and without those the unknown token.
    #[test]
    fn pieces_that_are_read_and_not_built_yet_split_as_when_they_are(
        bytes: bool,
        space_prefix: bool,
        texts in prop::collection::vec("[a-h ]{0,40}|([a-d]|é|漢| |<s>|\n)*", 1..6),
    ) {
        let built = Tokenizer::from_vocabulary(large_pieces(bytes, space_prefix)).unwrap();
        let saved = tempfile::tempdir().unwrap();
        built.save(saved.path()).unwrap();
        let read = Tokenizer::from_dir(saved.path()).unwrap();
        for text in &texts {
            for special in [SpecialTokens::Include, SpecialTokens::Omit] {
                let ids = built.encode(text, special).unwrap();
                prop_assert_eq!(&read.encode(text, special).unwrap(), &ids, "{:?}", text);
                prop_assert_eq!(read.decode(&ids, special).unwrap(), built.decode(&ids, special).unwrap());
            }
            prop_assert_eq!(read.encode_with_offsets(text).unwrap(), built.encode_with_offsets(text).unwrap());
        }
        prop_assert_eq!(read.content_hash(), built.content_hash());
    }
}

/// More pieces than are built at once: all short ones of a few letters.
fn large_pieces(bytes: bool, space_prefix: bool) -> Vocabulary {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    let mut kinds = vec![TokenKind::Unknown, TokenKind::Control, TokenKind::Control];
    if bytes {
        tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
        kinds.resize(tokens.len(), TokenKind::Byte);
    }
    let letters = ["▁", "a", "b", "c", "d", "e", "f", "g", "h"];
    let mut longest: Vec<String> = letters.map(str::to_owned).to_vec();
    for _ in 0..4 {
        tokens.extend(longest.iter().cloned());
        longest = longest.iter().flat_map(|piece| letters.map(|letter| format!("{piece}{letter}"))).collect();
    }
    kinds.resize(tokens.len(), TokenKind::Normal);
    let scores = (0..tokens.len()).map(|id| -(((id * 7919) % 6007) as f32)).collect();
    Vocabulary {
        tokens: tokens.iter().map(String::as_str).collect(),
        kinds,
        bpe: BpeKind::SentencePiece { scores, space_prefix },
        special: vec![("unk_token", 0), ("bos_token", 1), ("eos_token", 2)],
        add_bos: true,
        add_eos: false,
    }
}

/// Files of a model whose tokenizer is a small byte-level vocabulary, in the way of older models.
fn old_layout(files: &[(&str, serde_json::Value)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let vocab = serde_json::json!({
        "H": 0, "i": 1, "Ġ": 2, "1": 3, "2": 4, "<|endoftext|>": 5, "Hi": 6, "12": 7, "<": 8, "|": 9, ">": 10, "e": 11,
        "n": 12, "d": 13,
    });
    std::fs::write(directory.path().join("vocab.json"), vocab.to_string()).unwrap();
    std::fs::write(directory.path().join("merges.txt"), "#version: 0.2\nH i\n1 2\n").unwrap();
    for (name, content) in files {
        std::fs::write(directory.path().join(name), content.to_string()).unwrap();
    }
    directory
}

fn framed(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, SpecialTokens::Include).unwrap()
}

#[test]
fn a_vocabulary_of_two_files_is_its_class_s() {
    let added = serde_json::json!({
        "14": {"content": "<|end|>", "special": true, "normalized": false, "lstrip": false, "rstrip": false, "single_word": false},
    });
    // Digits are words of their own, whatever the merges; added tokens are one id.
    let qwen = old_layout(&[(
        "tokenizer_config.json",
        serde_json::json!({"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added, "eos_token": "<|end|>"}),
    )]);
    let tokenizer = Tokenizer::from_dir(qwen.path()).unwrap();
    assert_eq!(framed(&tokenizer, "Hi 12<|end|>"), [6, 2, 3, 4, 14]);
    assert_eq!(tokenizer.eos().map(|eos| eos.id), Some(14));
    assert_eq!(tokenizer.special_texts()["pad_token"], "<|endoftext|>");
    assert_eq!(tokenizer.bos(), None);
    // GPT-2's class, told by the model's type.
    let gpt = old_layout(&[("config.json", serde_json::json!({"model_type": "gpt2"}))]);
    let tokenizer = Tokenizer::from_dir(gpt.path()).unwrap();
    assert_eq!(framed(&tokenizer, "Hi12"), [6, 7]);
    assert_eq!((tokenizer.bos().map(|bos| bos.id), tokenizer.eos().map(|eos| eos.id)), (Some(5), Some(5)));
    assert_eq!(framed(&tokenizer, "Hi<|endoftext|>"), [6, 5]);
}

#[test]
fn special_tokens_may_stand_in_a_file_of_their_own() {
    let directory = old_layout(&[
        (
            "special_tokens_map.json",
            serde_json::json!({"eos_token": {"content": "<|end|>"}, "bos_token": "<|endoftext|>"}),
        ),
        ("added_tokens.json", serde_json::json!({"<|end|>": 14, "<|tool|>": 15})),
    ]);
    let tokenizer = Tokenizer::from_dir(directory.path()).unwrap();
    assert_eq!(tokenizer.eos().map(|eos| eos.id), Some(14));
    assert_eq!(framed(&tokenizer, "Hi<|tool|><|end|>"), [6, 15, 14]);
    // What is special is left out of answers, what is only added is not.
    assert_eq!(tokenizer.decode(&[6, 15, 14], SpecialTokens::Omit).unwrap(), "Hi<|tool|>");
    // What is saved reads as it did.
    let saved = tempfile::tempdir().unwrap();
    tokenizer.save(saved.path()).unwrap();
    let again = Tokenizer::from_dir(saved.path()).unwrap();
    assert_eq!(again.eos(), tokenizer.eos());
    assert_eq!(framed(&again, "Hi<|tool|><|end|>"), [6, 15, 14]);
}

#[test]
fn a_model_may_name_the_end_that_its_tokenizer_does_not() {
    let directory =
        old_layout(&[("config.json", serde_json::json!({"model_type": "llama", "eos_token_id": [5, 1]}))]);
    let tokenizer = Tokenizer::from_dir(directory.path()).unwrap();
    assert_eq!(tokenizer.eos().map(|eos| (eos.id, eos.text)), Some((5, "<|endoftext|>".to_owned())));
    // A template sees what transformers shows it: nothing.
    assert!(tokenizer.special_texts().is_empty());
}

#[test]
fn added_tokens_with_ids_that_cannot_be_are_named() {
    let added = serde_json::json!({"40": {"content": "<|far|>", "special": true}});
    let directory =
        old_layout(&[("tokenizer_config.json", serde_json::json!({ "added_tokens_decoder": added }))]);
    let error = Tokenizer::from_dir(directory.path()).unwrap_err().to_string();
    assert!(error.contains("the added token `<|far|>` has the id 40, but would get 14"), "{error}");
}
