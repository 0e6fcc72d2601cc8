//! Rows as the tokens that training would see, each kind by its own rules; what is too long is not cut here.

use parlor::Config;
use parlor::text::{
    EncodeOptions, OnBadRow, OnLongRow, PreferenceOptions, Row, RowKind, RowSource, SourcedRow,
    encode_preference, encode_unpaired,
};
use parlor::train::materials::{TextSide, encode_rows, train_on};

use crate::cli::{ModelArgs, TemplateArgs};
use crate::context::Context;
use crate::failure::Failure;
use crate::model::template_kwargs;

/// A row as tokens: parts with a name each, where a row has several.
pub(super) struct Measured {
    pub(super) source: RowSource,
    pub(super) parts: Vec<Part>,
}

/// A sequence of tokens, and how much each counts.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) ids: Vec<u32>,
    pub(super) weights: Vec<f32>,
}

impl Measured {
    pub(super) fn tokens(&self) -> usize {
        self.parts.iter().map(|part| part.ids.len()).sum()
    }

    pub(super) fn trained(&self) -> usize {
        self.parts.iter().flat_map(|part| &part.weights).filter(|&&weight| weight > 0.0).count()
    }
}

/// The text side of the model that the arguments, or the config, name.
pub(super) fn text_side(
    context: &Context,
    args: &ModelArgs,
    template: &TemplateArgs,
) -> Result<TextSide, Failure> {
    let kwargs = template_kwargs(context, template)?;
    let side = crate::model::TextSide::read(context, args)?;
    let template = side.find_template()?;
    Ok(TextSide { tokenizer: side.tokenizer, template }.with_template_kwargs(&kwargs))
}

/// Rows as tokens.
pub(super) fn measure(
    config: &Config,
    rows: &[SourcedRow],
    side: &TextSide,
) -> Result<Vec<Measured>, Failure> {
    let of = |kinds: &[RowKind]| -> Vec<SourcedRow> {
        rows.iter().filter(|row| kinds.contains(&row.row.kind())).cloned().collect()
    };
    let (pairs, unpaired) = (of(&[RowKind::Preference]), of(&[RowKind::Unpaired]));
    let others: Vec<SourcedRow> = rows
        .iter()
        .filter(|row| !matches!(row.row, Row::Preference { .. } | Row::Unpaired { .. }))
        .cloned()
        .collect();
    let mut measured = Vec::with_capacity(rows.len());
    if !others.is_empty() {
        let options = EncodeOptions {
            max_length: usize::MAX,
            batch_size: config.data.batch_size,
            train_on: train_on(config.training.sft.train_on),
            on_long_row: OnLongRow::Truncate,
        };
        let threads = config.training.dataloader_num_workers;
        let kind = config.training.training_type;
        for example in encode_rows(&others, side, kind, &options, threads)?.0 {
            let part = Part { name: "", ids: example.ids, weights: example.weights };
            measured.push(Measured { source: example.source, parts: vec![part] });
        }
    }
    let options = PreferenceOptions {
        max_length: usize::MAX,
        max_prompt_length: None,
        on_bad_row: OnBadRow::Skip,
        on_long_row: OnLongRow::Truncate,
    };
    let template = side.template.as_ref();
    let part = |name, ids: Vec<u32>, weight: f32| Part { name, weights: vec![weight; ids.len()], ids };
    if !pairs.is_empty() {
        for pair in encode_preference(&pairs, &side.tokenizer, template, &options)?.0 {
            let parts = vec![
                part("prompt", pair.prompt, 0.0),
                part("chosen", pair.chosen, 1.0),
                part("rejected", pair.rejected, 1.0),
            ];
            measured.push(Measured { source: pair.source, parts });
        }
    }
    if !unpaired.is_empty() {
        for row in encode_unpaired(&unpaired, &side.tokenizer, template, &options, unpaired.len())?.0 {
            let name = if row.desirable { "wanted completion" } else { "unwanted completion" };
            let parts = vec![part("prompt", row.prompt, 0.0), part(name, row.completion, 1.0)];
            measured.push(Measured { source: row.source, parts });
        }
    }
    Ok(measured)
}
