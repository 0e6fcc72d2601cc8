//! Encodes rows as training would, each kind by its own rules, but without cutting long ones.

use parlor::Config;
use parlor::text::{
    DataReport, EncodeError, EncodeOptions, EncodeReport, Findings, OnBadRow, OnLongRow, PreferenceOptions,
    Row, RowKind, RowSource, SourcedRow, encode_preference, encode_pretraining, encode_sft, encode_unpaired,
};
use parlor::train::{TextArtifacts, TrainingType};

use crate::cli::{ModelArgs, TemplateArgs};
use crate::context::Context;
use crate::failure::Failure;
use crate::model::template_kwargs;

/// The sequences of a row, with names if there are several.
pub(super) struct EncodedRow {
    pub(super) source: RowSource,
    pub(super) parts: Vec<Sequence>,
}

/// A sequence of tokens with the weight of each.
pub(super) struct Sequence {
    pub(super) name: &'static str,
    pub(super) ids: Vec<u32>,
    pub(super) weights: Vec<f32>,
}

impl EncodedRow {
    pub(super) fn tokens(&self) -> usize {
        self.parts.iter().map(|part| part.ids.len()).sum()
    }

    pub(super) fn trained(&self) -> usize {
        self.parts.iter().flat_map(|part| &part.weights).filter(|&&weight| weight > 0.0).count()
    }
}

/// Tokenizer and chat template of the model that the arguments or the config name.
pub(super) fn text_model(
    context: &Context,
    args: &ModelArgs,
    template: &TemplateArgs,
) -> Result<TextArtifacts, Failure> {
    let kwargs = template_kwargs(context, template)?;
    let side = crate::model::TextModel::read(context, args)?;
    let template = side.find_template()?;
    let side = TextArtifacts { tokenizer: side.tokenizer, template }.with_template_kwargs(&kwargs);
    Ok(side.with_date(&context.config()?.model, None))
}

/// Encodes rows. Those that cannot be encoded go to the report.
pub(super) fn encode_rows(
    config: &Config,
    rows: &[SourcedRow],
    side: &TextArtifacts,
    report: &mut DataReport,
) -> Result<(Vec<EncodedRow>, Findings), Failure> {
    let mut findings = Findings::default();
    let of = |kinds: &[RowKind]| -> Vec<SourcedRow> {
        rows.iter().filter(|row| kinds.contains(&row.row.kind())).cloned().collect()
    };
    let (pairs, unpaired) = (of(&[RowKind::Preference]), of(&[RowKind::Unpaired]));
    let others: Vec<SourcedRow> = rows
        .iter()
        .filter(|row| !matches!(row.row, Row::Preference { .. } | Row::Unpaired { .. }))
        .cloned()
        .collect();
    let mut encoded_rows = Vec::with_capacity(rows.len());
    if !others.is_empty() {
        let options = EncodeOptions {
            max_length: usize::MAX,
            batch_size: config.data.batch_size,
            train_on: config.training.sft.train_on.into(),
            on_long_row: OnLongRow::Truncate,
            on_bad_row: OnBadRow::Skip,
        };
        let (tokenizer, template) = (&side.tokenizer, side.template.as_ref());
        let encoded = match config.training.training_type {
            TrainingType::FromScratch => encode_pretraining(&others, tokenizer, template, &options),
            _ => encode_sft(&others, tokenizer, template, &options),
        };
        for example in usable(encoded, report, &mut findings)? {
            let part = Sequence { name: "", ids: example.ids, weights: example.weights };
            encoded_rows.push(EncodedRow { source: example.source, parts: vec![part] });
        }
    }
    let options = PreferenceOptions {
        max_length: usize::MAX,
        max_prompt_length: None,
        on_bad_row: OnBadRow::Skip,
        on_long_row: OnLongRow::Truncate,
    };
    let template = side.template.as_ref();
    let part = |name, ids: Vec<u32>, weight: f32| Sequence { name, weights: vec![weight; ids.len()], ids };
    if !pairs.is_empty() {
        for pair in
            usable(encode_preference(&pairs, &side.tokenizer, template, &options), report, &mut findings)?
        {
            let parts = vec![
                part("prompt", pair.prompt, 0.0),
                part("chosen", pair.chosen, 1.0),
                part("rejected", pair.rejected, 1.0),
            ];
            encoded_rows.push(EncodedRow { source: pair.source, parts });
        }
    }
    if !unpaired.is_empty() {
        let encoded = encode_unpaired(&unpaired, &side.tokenizer, template, &options, unpaired.len());
        for row in usable(encoded, report, &mut findings)? {
            let name = if row.desirable { "wanted completion" } else { "unwanted completion" };
            let parts = vec![part("prompt", row.prompt, 0.0), part(name, row.completion, 1.0)];
            encoded_rows.push(EncodedRow { source: row.source, parts });
        }
    }
    Ok((encoded_rows, findings))
}

/// The examples of the rows that can be used; the others go to the report.
fn usable<T>(
    encoded: Result<(Vec<T>, EncodeReport), EncodeError>,
    report: &mut DataReport,
    findings: &mut Findings,
) -> Result<Vec<T>, Failure> {
    match encoded {
        Ok((examples, encoded)) => {
            findings.add(encoded.findings);
            report.add_problems(encoded.bad, encoded.bad_rows);
            Ok(examples)
        }
        Err(EncodeError::Rows { count, problems }) => {
            report.add_problems(count, problems);
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
    }
}
