//! Matches stored tensors with the decoder's, under any of their names, and accounts for every one that is
//! left over.
//!
//! As transformers loads a checkpoint (`from_pretrained` and `tie_weights`, 5.23): a tied head and its
//! embedding stand for each other, two that differ are not tied, and tensors outside the decoder are left
//! alone with a warning. Tensors inside it that this config.json does not know are an error here, because
//! they were part of what the model computed.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::arch::{Architecture, CheckpointTensor, TIED_HEAD};
use crate::config::{DecoderConfig, Head};
use crate::decoder::Role;
use crate::error::{LoadErrorKind, ModelLoadError};
use crate::files::{Container, TensorEntry, WeightFiles};

/// Names shown in an error.
const SHOWN: usize = 4;
/// Names shown in a warning.
const SHOWN_EXTRA: usize = 16;

/// The tensors that were found, in the order in which they were asked for, each with its name.
pub(crate) type Found<'a> = Vec<(String, &'a TensorEntry)>;

/// The configuration with a separate head, where config.json ties head and embedding but the weights of the
/// two differ.
///
/// # Errors
/// `Corrupt` when one of the two cannot be read.
pub(crate) fn untie_differing_head<'c>(
    files: &WeightFiles,
    architecture: Architecture,
    config: &'c DecoderConfig,
) -> Result<(Cow<'c, DecoderConfig>, Option<String>), ModelLoadError> {
    let same = (Cow::Borrowed(config), None);
    let (Head::Tied, Container::Safetensors) = (config.head, files.container()) else { return Ok(same) };
    let Some(head) = files.get(TIED_HEAD) else { return Ok(same) };
    let disk = architecture.checkpoint_tensors(config);
    let embedding = disk.iter().find(|tensor| tensor.roles == [Role::TokenEmbedding]);
    let names =
        embedding.into_iter().flat_map(|tensor| std::iter::once(&tensor.name).chain(&tensor.alternatives));
    let Some((name, embedding)) = names.filter_map(|name| Some((name, files.get(name)?))).next() else {
        return Ok(same);
    };
    if head.bytes() == embedding.bytes() && head.weight_dtype() == embedding.weight_dtype() {
        return Ok(same);
    }
    let values = |name: &str, entry: &TensorEntry| -> Result<Vec<f32>, ModelLoadError> {
        Ok(entry.tensor(name, &[config.vocab_size, config.hidden_size])?.to_f32_vec())
    };
    if values(TIED_HEAD, head)? == values(name, embedding)? {
        return Ok(same);
    }
    let warning = format!(
        "config.json ties the output head to the embedding, but `{TIED_HEAD}` and `{name}` differ; both are used, as in \
         transformers; set `tie_word_embeddings: false` in config.json if that is right, or delete `{TIED_HEAD}`"
    );
    Ok((Cow::Owned(DecoderConfig { head: Head::Separate, ..config.clone() }), Some(warning)))
}

/// Finds each tensor under one of its names. Missing tensors and unknown ones inside the decoder are errors;
/// others are a warning.
///
/// # Errors
/// `Corrupt`, naming the tensors.
pub(crate) fn match_names<'a>(
    files: &'a WeightFiles,
    disk: &[CheckpointTensor],
    architecture: Architecture,
    config: &DecoderConfig,
    place: &str,
) -> Result<(Found<'a>, Option<String>), ModelLoadError> {
    let mut found = Vec::with_capacity(disk.len());
    let mut missing = Vec::new();
    let mut used = BTreeSet::new();
    for tensor in disk {
        let mut names = std::iter::once(tensor.name.as_str())
            .chain(tensor.alternatives.iter().map(String::as_str))
            .filter(|name| files.get(name).is_some());
        let first = names.next().or_else(|| {
            // A program that writes shared tensors once may keep either name.
            let tied = config.head == Head::Tied && tensor.roles == [Role::TokenEmbedding];
            Some(TIED_HEAD).filter(|_| tied)
        });
        match first.and_then(|name| Some((name, files.get(name)?))) {
            Some((name, entry)) => {
                if let Some(second) = names.next() {
                    return Err(ModelLoadError::new(
                        LoadErrorKind::Corrupt,
                        entry.place(name),
                        format!("the same weights are there a second time, as `{second}`"),
                        "two models were mixed; copy or download the weights again",
                    ));
                }
                used.insert(name);
                found.push((name.to_owned(), entry));
            }
            None => missing.push(tensor.name.as_str()),
        }
    }
    if !missing.is_empty() {
        return Err(missing_error(files.container(), &missing, disk.len(), architecture, place));
    }
    let ignores = |name: &str| match files.container() {
        Container::Safetensors => architecture.ignores(name, config),
        Container::Gguf => architecture.ignores_of_gguf(name, config),
    };
    let unused = files.iter().map(|(name, _)| name).filter(|name| !used.contains(name) && !ignores(name));
    let (inside, outside): (Vec<&str>, Vec<&str>) = unused.partition(|name| match files.container() {
        Container::Safetensors => architecture.is_inside(name),
        Container::Gguf => true,
    });
    if !inside.is_empty() {
        return Err(ModelLoadError::new(
            LoadErrorKind::Corrupt,
            place,
            format!(
                "tensors that have no place in a {architecture} model of {} ({}): {}",
                described(files.container()),
                inside.len(),
                several(&inside, SHOWN)
            ),
            files.container().advice(),
        ));
    }
    let warning = (!outside.is_empty()).then(|| {
        format!(
            "tensors that a {architecture} model does not have are not used ({}): {}",
            outside.len(),
            several(&outside, SHOWN_EXTRA)
        )
    });
    Ok((found, warning))
}

fn missing_error(
    container: Container,
    missing: &[&str],
    all: usize,
    architecture: Architecture,
    place: &str,
) -> ModelLoadError {
    if missing == [TIED_HEAD] {
        return ModelLoadError::new(
            LoadErrorKind::Corrupt,
            place,
            format!("the tensor `{TIED_HEAD}` is missing: the checkpoint has no output head"),
            "it was saved without its head, or its config.json lacks `tie_word_embeddings: true`",
        );
    }
    ModelLoadError::new(
        LoadErrorKind::Corrupt,
        place,
        format!(
            "tensors that a {architecture} model of {} needs are missing ({} of {all}): {}",
            described(container),
            missing.len(),
            several(missing, SHOWN)
        ),
        match container {
            Container::Safetensors => {
                "config.json and the weights are of different models, or a part was not copied; get all files again"
            }
            Container::Gguf => container.advice(),
        },
    )
}

fn described(container: Container) -> &'static str {
    match container {
        Container::Safetensors => "this config.json",
        Container::Gguf => "this metadata",
    }
}

/// At most `most` of `names`, quoted.
fn several(names: &[&str], most: usize) -> String {
    let shown: Vec<String> = names.iter().take(most).map(|name| format!("`{name}`")).collect();
    let rest = names.len().saturating_sub(shown.len());
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
