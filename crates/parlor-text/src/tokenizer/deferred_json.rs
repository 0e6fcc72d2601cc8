//! A `tokenizer.json` with a large BPE vocabulary, read without building it: its tokens and merges, borrowed
//! from the file, for [`LazyBpe`].
//!
//! Leaves out what such files do not have: dropout, prefixes and suffixes of subwords, gaps in the ids,
//! tokens with a space within. A file with one of these is built at once.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper};

use super::deferred::{DEFERRED_ABOVE, DeferredSource, DeferredTokenizer};
use super::lazy_bpe::{LazyBpe, UnknownCharacters};
use super::pipeline::Pipeline;
use super::texts::Texts;

#[derive(Deserialize)]
struct File<'a> {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Option<NormalizerWrapper>,
    #[serde(default)]
    pre_tokenizer: Option<PreTokenizerWrapper>,
    #[serde(default)]
    post_processor: Option<PostProcessorWrapper>,
    #[serde(default)]
    decoder: Option<DecoderWrapper>,
    #[serde(borrow)]
    model: &'a RawValue,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

#[derive(Deserialize)]
struct Bpe<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    dropout: Option<f64>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    #[serde(borrow)]
    vocab: Ids<'a>,
    #[serde(borrow)]
    merges: Lines<'a>,
}

/// A text of the file, borrowed where it holds no escape.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Tokens with their ids.
struct Ids<'a>(Vec<(Cow<'a, str>, u32)>);

impl<'de: 'a, 'a> Deserialize<'de> for Ids<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Ids<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("tokens with ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ids<'de>, A::Error> {
                let mut ids = Vec::with_capacity(DEFERRED_ABOVE);
                while let Some((Text(token), id)) = map.next_entry()? {
                    ids.push((token, id));
                }
                Ok(Ids(ids))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Merges as `left right`, whichever of the two ways the file writes them.
struct Lines<'a>(Vec<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Lines<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Merges;
        impl<'de> Visitor<'de> for Merges {
            type Value = Lines<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("merges")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Lines<'de>, A::Error> {
                let mut lines = Vec::with_capacity(DEFERRED_ABOVE);
                while let Some(Line(line)) = list.next_element()? {
                    lines.push(line);
                }
                Ok(Lines(lines))
            }
        }
        deserializer.deserialize_seq(Merges)
    }
}

struct Line<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Line<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Merge;
        impl<'de> Visitor<'de> for Merge {
            type Value = Line<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a merge")
            }

            fn visit_borrowed_str<E>(self, line: &'de str) -> Result<Line<'de>, E> {
                Ok(Line(Cow::Borrowed(line)))
            }

            fn visit_str<E>(self, line: &str) -> Result<Line<'de>, E> {
                Ok(Line(Cow::Owned(line.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Line<'de>, A::Error> {
                let mut next = || {
                    let part: Option<Text<'de>> = pair.next_element()?;
                    part.ok_or_else(|| serde::de::Error::custom("a merge has two parts"))
                };
                let (Text(left), Text(right)) = (next()?, next()?);
                Ok(Line(Cow::Owned(format!("{left} {right}"))))
            }
        }
        deserializer.deserialize_any(Merge)
    }
}

/// The tokenizer of a file, and the size of its vocabulary with its added tokens.
///
/// # Errors
/// Gives the file back when it has to be built at once.
pub(super) fn read(json: Vec<u8>) -> Result<(DeferredTokenizer, usize), Vec<u8>> {
    match lazy(&json) {
        Some((lazy, size)) => Ok((DeferredTokenizer { lazy, source: DeferredSource::Json(json) }, size)),
        None => Err(json),
    }
}

fn lazy(json: &[u8]) -> Option<(Pipeline<LazyBpe>, usize)> {
    let file: File<'_> = serde_json::from_slice(json).ok()?;
    let bpe: Bpe<'_> = serde_json::from_str(file.model.get()).ok()?;
    let affix = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let plain = bpe.kind.as_deref().is_none_or(|kind| kind == "BPE")
        && bpe.dropout.is_none()
        && !affix(&bpe.continuing_subword_prefix)
        && !affix(&bpe.end_of_word_suffix);
    let Ids(ids) = bpe.vocab;
    if !plain || ids.len() <= DEFERRED_ABOVE {
        return None;
    }
    let mut tokens: Vec<Option<&str>> = vec![None; ids.len()];
    for (token, id) in &ids {
        let own = tokens.get_mut(*id as usize)?;
        if own.replace(token).is_some() || token.contains(' ') {
            return None;
        }
    }
    let tokens: Texts = tokens.into_iter().collect::<Option<Vec<&str>>>()?.into_iter().collect();
    let merges: Texts = bpe.merges.0.iter().map(AsRef::as_ref).collect();
    // Old files begin their merges with a line that names their version.
    if merges.iter().any(|merge| merge.matches(' ').count() != 1 || merge.starts_with("#version")) {
        return None;
    }
    let size = tokens.len();
    let unknown =
        UnknownCharacters { token: bpe.unk_token, fuse: bpe.fuse_unk, byte_fallback: bpe.byte_fallback };
    let model = LazyBpe::new(tokens, merges, bpe.ignore_merges).with_unknown(unknown);
    let mut pipeline = Pipeline::new(model);
    pipeline.with_normalizer(file.normalizer).ok()?;
    pipeline.with_pre_tokenizer(file.pre_tokenizer);
    pipeline.with_post_processor(file.post_processor);
    pipeline.with_decoder(file.decoder);
    let (ids, added): (Vec<u32>, Vec<AddedToken>) =
        file.added_tokens.into_iter().map(|added| (added.id, added.token)).unzip();
    pipeline.add_tokens(added.clone()).ok()?;
    let as_written =
        ids.iter().zip(&added).all(|(id, token)| pipeline.token_to_id(&token.content) == Some(*id));
    let highest = ids.iter().max().map_or(0, |id| *id as usize + 1);
    as_written.then_some((pipeline, size.max(highest)))
}
