//! The files of a model directory that make its tokenizer, resolved as `transformers` resolves them.
//!
//! Source: `PreTrainedTokenizerBase._from_pretrained` and `TokenizersBackend.__init__` (5.23). The vocabulary
//! is `tokenizer.json`'s, or made of `vocab.json` and `merges.txt` by the rules of the tokenizer's class.
//! Special tokens come from `tokenizer_config.json`, from `special_tokens_map.json` where that has no
//! `added_tokens_decoder`, and else from the class. Added tokens are those of the vocabulary, of
//! `added_tokens_decoder` or `added_tokens.json`. Leaves out: SentencePiece `tokenizer.model` files.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{Model as _, SplitDelimiterBehavior};

use super::classes::{Words, class};
use super::deferred::DeferredTokenizer;
use super::deferred_json;
use super::error::{TokenizerError, failed};
use super::json_file::{json_object, read_limited};
use super::pipeline::{framing, from_json};
use super::special_tokens::{SPECIAL, token_text};

/// The tokenizer of a directory.
pub(super) enum FileTokenizer {
    Built(Box<tokenizers::Tokenizer>),
    /// With the size of its vocabulary, added tokens included.
    Deferred(Box<DeferredTokenizer>, usize),
}

impl FileTokenizer {
    fn id(&self, token: &str) -> Option<u32> {
        match self {
            Self::Built(built) => built.token_to_id(token),
            Self::Deferred(deferred, _) => deferred.lazy.token_to_id(token),
        }
    }

    fn added(&self) -> Vec<AddedToken> {
        let added = match self {
            Self::Built(built) => built.get_added_tokens_decoder(),
            Self::Deferred(deferred, _) => deferred.lazy.get_added_tokens_decoder(),
        };
        added.into_values().collect()
    }

    fn build(self) -> Result<Box<tokenizers::Tokenizer>, TokenizerError> {
        match self {
            Self::Built(built) => Ok(built),
            Self::Deferred(deferred, _) => deferred.build().map(Box::new),
        }
    }
}

/// A tokenizer with the configuration beside it.
pub(super) struct Files {
    pub(super) tokenizer: FileTokenizer,
    /// `tokenizer_config.json`, with what the other files add to it.
    pub(super) config: Map<String, Value>,
    /// The first `eos_token_id` of `generation_config.json` or `config.json`.
    pub(super) model_eos: Option<u32>,
}

/// The tokenizer of `directory`.
pub(super) fn read(directory: &Path) -> Result<Files, TokenizerError> {
    let object = |name: &str| match directory.join(name) {
        path if path.is_file() => json_object(&path).map(Some),
        _ => Ok(None),
    };
    let mut config = object("tokenizer_config.json")?.unwrap_or_default();
    // The loader of the model reports it when these cannot be read.
    let [model, generation] =
        ["config.json", "generation_config.json"].map(|name| object(name).ok().flatten().unwrap_or_default());
    let class = class(&config, &model);
    let json = directory.join("tokenizer.json");
    let (vocab, merges) = (directory.join("vocab.json"), directory.join("merges.txt"));
    let mut tokenizer = if json.is_file() {
        match deferred_json::read(read_limited(&json)?) {
            Ok((deferred, size)) => FileTokenizer::Deferred(Box::new(deferred), size),
            Err(bytes) => FileTokenizer::Built(Box::new(named(&json, from_json(&bytes))?)),
        }
    } else if vocab.is_file() && merges.is_file() {
        let words = class.and_then(|class| class.words).unwrap_or(Words::ByteLevel);
        FileTokenizer::Built(Box::new(byte_level(&vocab, &merges, words, &config)?))
    } else {
        let hint = if directory.join("tokenizer.model").is_file() {
            "; tokenizer.model (SentencePiece) is not read: save it as tokenizer.json with \
             `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)`"
        } else {
            ""
        };
        return Err(TokenizerError::NotFound { directory: directory.to_owned(), hint });
    };
    let mut added: Vec<(Option<u32>, AddedToken)> = Vec::new();
    if let Some(decoder) = config.get("added_tokens_decoder").and_then(Value::as_object) {
        for (id, token) in decoder {
            added.push((id.parse().ok(), added_token(token).map_err(|why| corrupt(directory, &why))?));
        }
    } else {
        for (name, value) in object("special_tokens_map.json")?.unwrap_or_default() {
            config.insert(name, value);
        }
        let special = special_texts(&config);
        for (text, id) in object("added_tokens.json")?.unwrap_or_default() {
            let special = special.contains(&text);
            let token = AddedToken::from(text, special).normalized(!special);
            added.push((id.as_u64().and_then(|id| u32::try_from(id).ok()), token));
        }
    }
    added.sort_by_key(|(id, _)| *id);
    // A special token of the class that the vocabulary lacks is no token of this model.
    let known =
        |text: &str| tokenizer.id(text).is_some() || added.iter().any(|(_, token)| token.content == text);
    for (name, text) in class.map_or(&[][..], |class| class.special) {
        if !config.contains_key(*name) && known(text) {
            config.insert((*name).to_owned(), (*text).into());
        }
    }
    let missing = missing(&tokenizer, &added, &config);
    let from_json = json.is_file();
    if !missing.is_empty() || !from_json {
        let mut whole = named(&json, tokenizer.build())?;
        whole.add_tokens(missing).map_err(failed)?;
        check_ids(&whole, &added, directory)?;
        if !from_json {
            frame(&mut whole, &config)?;
        }
        tokenizer = FileTokenizer::Built(whole);
    }
    let model_eos = [generation, model].iter().find_map(eos_id);
    Ok(Files { tokenizer, config, model_eos })
}

fn eos_id(config: &Map<String, Value>) -> Option<u32> {
    let value = config.get("eos_token_id")?;
    u32::try_from(value.as_array().map_or(Some(value), |ids| ids.first())?.as_u64()?).ok()
}

fn corrupt(directory: &Path, why: &str) -> TokenizerError {
    TokenizerError::Corrupt { path: directory.join("tokenizer_config.json"), why: why.to_owned() }
}

/// A token of `added_tokens_decoder`.
fn added_token(value: &Value) -> Result<AddedToken, String> {
    let content = value.get("content").and_then(Value::as_str);
    let content = content.ok_or("a token of `added_tokens_decoder` has no `content`")?;
    let flag = |name: &str, default: bool| value.get(name).and_then(Value::as_bool).unwrap_or(default);
    let special = flag("special", false);
    Ok(AddedToken::from(content, special)
        .single_word(flag("single_word", false))
        .lstrip(flag("lstrip", false))
        .rstrip(flag("rstrip", false))
        .normalized(flag("normalized", !special)))
}

/// The texts of all special tokens that a configuration names.
fn special_texts(config: &Map<String, Value>) -> Vec<String> {
    let more = ["additional_special_tokens", "extra_special_tokens"];
    let named = SPECIAL.iter().filter_map(|name| config.get(*name));
    let listed = more.iter().filter_map(|name| config.get(*name)?.as_array()).flatten();
    named.chain(listed).filter_map(token_text).collect()
}

/// The tokens to add to the vocabulary: those of the files in the order of their ids, then special ones.
fn missing(
    tokenizer: &FileTokenizer,
    added: &[(Option<u32>, AddedToken)],
    config: &Map<String, Value>,
) -> Vec<AddedToken> {
    let present = tokenizer.added();
    let special = special_texts(config);
    let mut tokens: Vec<AddedToken> = Vec::new();
    for (_, token) in added {
        if !present.iter().any(|own| own == token && own.special == token.special) {
            let mut token = token.clone();
            token.special |= special.contains(&token.content);
            tokens.push(token);
        }
    }
    for text in special {
        let known = present.iter().chain(&tokens).any(|own| own.content == text);
        if !known {
            tokens.push(AddedToken::from(text, true));
        }
    }
    tokens
}

/// Whether the added tokens have the ids that the files give them.
fn check_ids(
    inner: &tokenizers::Tokenizer,
    added: &[(Option<u32>, AddedToken)],
    directory: &Path,
) -> Result<(), TokenizerError> {
    for (id, token) in added {
        let found = inner.token_to_id(&token.content);
        if id.is_some() && found != *id {
            let (wanted, found) = (id.unwrap_or_default(), found.unwrap_or_default());
            let text = &token.content;
            return Err(corrupt(
                directory,
                &format!(
                    "the added token `{text}` has the id {wanted}, but would get {found}: ids are missing before it"
                ),
            ));
        }
    }
    Ok(())
}

/// Applies `add_bos_token` and `add_eos_token`, which are in force without a `tokenizer.json`.
fn frame(inner: &mut tokenizers::Tokenizer, config: &Map<String, Value>) -> Result<(), TokenizerError> {
    let token = |flag: &str, name: &str| {
        let text = config.get(name).and_then(token_text);
        let wanted = config.get(flag) == Some(&Value::Bool(true));
        text.filter(|_| wanted).and_then(|text| Some((inner.token_to_id(&text)?, text)))
    };
    let (begin, end) = (token("add_bos_token", "bos_token"), token("add_eos_token", "eos_token"));
    if begin.is_some() || end.is_some() {
        inner.with_post_processor(Some(framing(begin, end)?));
    }
    Ok(())
}

/// One `tokenizer.json`, built.
pub(super) fn parse(path: &Path) -> Result<tokenizers::Tokenizer, TokenizerError> {
    named(path, from_json(&read_limited(path)?))
}

/// Adds the file to an error of the `tokenizers` crate.
fn named<T>(path: &Path, result: Result<T, TokenizerError>) -> Result<T, TokenizerError> {
    result.map_err(|error| match error {
        TokenizerError::Use(why) => TokenizerError::Corrupt { path: path.to_owned(), why },
        other => other,
    })
}

fn byte_level(
    vocab: &Path,
    merges: &Path,
    words: Words,
    config: &Map<String, Value>,
) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let corrupt =
        |error: tokenizers::Error| TokenizerError::Corrupt { path: vocab.to_owned(), why: error.to_string() };
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    let model = BPE::from_file(&shown(vocab), &shown(merges)).build().map_err(corrupt)?;
    if model.get_vocab_size() == 0 {
        return Err(corrupt("it holds no token".into()));
    }
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    let prefix = config.get("add_prefix_space") == Some(&Value::Bool(true));
    let steps: PreTokenizerWrapper = match words {
        Words::ByteLevel => ByteLevel::new(prefix, true, true).into(),
        Words::Split(pattern) => {
            let pattern = SplitPattern::Regex(pattern.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(failed)?;
            tokenizer.with_normalizer(Some(NFC)).map_err(failed)?;
            Sequence::new(vec![split.into(), ByteLevel::new(prefix, true, false).into()]).into()
        }
    };
    tokenizer.with_pre_tokenizer(Some(steps));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}
