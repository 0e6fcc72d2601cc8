//! Why the masks of a conversation could not be computed.

use crate::template::TemplateError;
use crate::tokenizer::TokenizerError;

/// Why a conversation could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum MaskError {
    /// From the template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// From the tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The template renders earlier messages differently once another one follows.
    #[error(
        "cannot tell which tokens are the assistant's: with message {message} the template renders the text before it \
         differently (from byte {byte} on): {before:?} became {after:?}. Put {{% generation %}} and {{% endgeneration %}} \
         around the assistant's part of the template, or train on all tokens with `training.sft.train_on: all`"
    )]
    Prefix {
        /// Number of the message, from 0.
        message: usize,
        /// First byte that differs.
        byte: usize,
        /// The text from there on, before.
        before: String,
        /// The text from there on, with the message.
        after: String,
    },
    /// A message is not to be trained, and its part cannot be told from the others'.
    #[error(
        "cannot tell which tokens are those of message {message}, which is not to be trained (`weight: 0`, `train: \
         false`): the template does not go over the messages one by one"
    )]
    Untrained {
        /// Number of the message, from 0.
        message: usize,
    },
}
