//! The tokenizer of a [`Vocabulary`], without writing or parsing a `tokenizer.json` on the way. It encodes as
//! the same vocabulary's `tokenizer.json` would.

use serde_json::Map;
use tokenizers::AddedToken;

use super::byte_level::{self, ByteLevelSteps};
use super::codec::Tokenizer;
use super::deferred::{DEFERRED_ABOVE, DeferredSource, DeferredTokenizer};
use super::error::{TokenizerError, failed};
use super::lazy_bpe::LazyBpe;
use super::pipeline::AddedTokens;
use super::sentencepiece;
use super::vocabulary::{BpeKind, TokenKind, Vocabulary};

impl Tokenizer {
    /// The tokenizer of a vocabulary.
    ///
    /// # Errors
    /// [`TokenizerError::Use`] when its parts contradict each other: a merge of or into no token, say. In a
    /// vocabulary so large that building it is deferred, such a merge is never applied instead.
    pub fn from_vocabulary(vocabulary: Vocabulary) -> Result<Self, TokenizerError> {
        let Vocabulary { tokens, kinds, bpe, special, add_bos, add_eos } = vocabulary;
        if tokens.len() != kinds.len() {
            return Err(failed(format!("{} tokens have {} kinds", tokens.len(), kinds.len())));
        }
        let size = tokens.len();
        let text = |id: u32| tokens.get(id as usize).map(str::to_owned);
        let named = |name: &str| {
            let id = special.iter().find(|(known, _)| *known == name).map(|(_, id)| *id)?;
            Some((id, text(id)?))
        };
        let mut config = Map::new();
        config.insert("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into());
        config.insert("clean_up_tokenization_spaces".to_owned(), false.into());
        for (name, id) in &special {
            if let Some(text) = text(*id) {
                config.insert((*name).to_owned(), text.into());
            }
        }
        let tokens_to_add = tokens.iter().zip(&kinds).filter_map(|(token, kind)| match kind {
            TokenKind::Control | TokenKind::Unknown => Some(AddedToken::from(token, true)),
            TokenKind::UserDefined => Some(AddedToken::from(token, false).normalized(false)),
            TokenKind::Normal | TokenKind::Byte => None,
        });
        let added = AddedTokens {
            bos: named("bos_token").filter(|_| add_bos),
            eos: named("eos_token").filter(|_| add_eos),
            added: tokens_to_add.collect(),
        };
        match bpe {
            BpeKind::ByteLevel { words, nfc, whole_words, merges } => {
                let steps = ByteLevelSteps { words, nfc, added };
                if size <= DEFERRED_ABOVE {
                    let built = steps.pipeline(byte_level::bpe(&tokens, &merges, whole_words)?)?;
                    return Ok(Self::from_built(built.into(), config, size));
                }
                let lazy = steps.pipeline(LazyBpe::new(tokens, merges, whole_words))?;
                let source = DeferredSource::ByteLevel(steps);
                Ok(Self::from_deferred(DeferredTokenizer { lazy, source }, config, size))
            }
            BpeKind::SentencePiece { scores, space_prefix } => {
                let mut built = sentencepiece::pipeline(&tokens, &kinds, &scores, space_prefix)?;
                added.add_to(&mut built)?;
                Ok(Self::from_built(built.into(), config, size))
            }
        }
    }
}
