//! SentencePiece's BPE from a list of pieces with scores, as `SentencePieceExtractor` in `transformers`
//! converts it: its merges are all pairs of pieces that make a piece, the highest score first.

use rayon::prelude::*;
use tokenizers::TokenizerImpl;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, BpeBuilder};
use tokenizers::normalizers::{Prepend, Replace, Sequence as NormalizerSequence};

use super::error::{TokenizerError, failed};
use super::pipeline::Pipeline;
use super::texts::Texts;
use super::vocabulary::{TokenKind, token_ids};

/// Longest piece in bytes. Every cut of a piece is tried, which takes the square of its length; runs of
/// spaces are the longest in practice.
const LONGEST_PIECE: usize = 1024;
/// SentencePiece's sign for a space.
const SPACE: &str = "▁";

/// The model, with SentencePiece's normalizer and decoder around it. With `space_prefix`, text begins with a
/// space.
///
/// # Errors
/// When tokens and scores differ in number, or a piece is longer than [`LONGEST_PIECE`].
pub(super) fn pipeline(
    tokens: &Texts,
    kinds: &[TokenKind],
    scores: &[f32],
    space_prefix: bool,
) -> Result<Pipeline<BPE>, TokenizerError> {
    let mut pipeline = TokenizerImpl::new(bpe(tokens, kinds, scores)?);
    let mut steps = vec![Replace::new(" ", SPACE).map_err(failed)?.into()];
    if space_prefix {
        steps.insert(0, Prepend::new(SPACE.to_owned()).into());
    }
    pipeline.with_normalizer(Some(NormalizerSequence::new(steps))).map_err(failed)?;
    let mut steps = vec![
        Replace::new(SPACE, " ").map_err(failed)?.into(),
        ByteFallback::default().into(),
        Fuse::default().into(),
    ];
    if space_prefix {
        steps.push(Strip::new(' ', 1, 0).into());
    }
    pipeline.with_decoder(Some(DecoderSequence::new(steps)));
    Ok(pipeline)
}

fn bpe(tokens: &Texts, kinds: &[TokenKind], scores: &[f32]) -> Result<BPE, TokenizerError> {
    if tokens.len() != scores.len() {
        return Err(failed(format!("{} tokens have {} scores", tokens.len(), scores.len())));
    }
    let long = tokens
        .iter()
        .zip(kinds)
        .find(|(token, kind)| **kind == TokenKind::Normal && token.len() > LONGEST_PIECE);
    if let Some((token, _)) = long {
        return Err(failed(format!("a piece has {} bytes; at most {LONGEST_PIECE} are read", token.len())));
    }
    let ids = token_ids(tokens);
    // Every way to make a normal token out of two others.
    let mut pairs: Vec<(f32, u32, u32, &str, &str)> = (0..tokens.len().min(kinds.len()))
        .into_par_iter()
        .filter(|&id| kinds[id] == TokenKind::Normal)
        .filter_map(|id| Some((tokens.get(id)?, scores[id])))
        .flat_map_iter(|(token, score)| {
            let cuts = token.char_indices().skip(1);
            cuts.filter_map(|(at, _)| {
                let (left, right) = token.split_at(at);
                Some((score, *ids.get(left)?, *ids.get(right)?, left, right))
            })
            .collect::<Vec<_>>()
        })
        .collect();
    // By score, then by the ids of the two parts.
    pairs.par_sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let merges =
        pairs.iter().map(|(_, _, _, left, right)| ((*left).to_owned(), (*right).to_owned())).collect();
    let unknown = tokens.iter().zip(kinds).find(|(_, kind)| **kind == TokenKind::Unknown);
    let mut builder = BpeBuilder::new().vocab_and_merges(ids, merges).fuse_unk(true).byte_fallback(true);
    if let Some((token, _)) = unknown {
        builder = builder.unk_token(token.to_owned());
    }
    builder.build().map_err(failed)
}
