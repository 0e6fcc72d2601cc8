//! Words of an earlier, private vocabulary, and the field's words that stand in their place.
//!
//! A word is looked for whole and as it is written here, in code, comments, texts, file names and documentation. Words that
//! are plain English too (*offset*, *level*, *near*) are left out: only their private meaning is gone.

use std::path::Path;

use crate::lexer::{Line, has_word};

/// (retired, use instead)
const RETIRED: &[(&str, &str)] = &[
    // Preferences (TRL).
    ("judged", "preference pair, unpaired preference"),
    ("Judged", "preference pair, unpaired preference"),
    ("verdict", "label"),
    ("verdicts", "labels"),
    ("Answerer", "generation model"),
    // Matrix products (BLAS, BLIS, CUTLASS).
    ("few_rows", "gemv"),
    ("Along", "KContiguous / MnContiguous"),
    ("pack_across", "pack_mn"),
    ("pack_along", "pack_k"),
    ("Thin", "LowRankEpilogue"),
    ("Narrow", "bf16 store"),
    ("Band", "batched operand"),
    ("BlockOf", "q8 block"),
    ("soften", "online softmax"),
    ("ask_for", "prefetch"),
    ("asked for ahead", "prefetched"),
    ("asks for ahead", "prefetches"),
    ("asking ahead", "prefetching"),
    ("let go of", "released"),
    ("lets go of", "releases"),
    ("of few bits", "quantized"),
    // Adapters (PEFT).
    ("Beside", "low-rank update"),
    ("factors beside", "low-rank update"),
    ("beside the weight", "with the weight"),
    // Models (torch, transformers).
    ("outline", "meta model"),
    ("load_adapted", "load with adapters"),
    ("locate_adapted", "load with adapters"),
    ("write_staged", "atomic_dir"),
    ("lineage", "llama family"),
    ("footprint", "activation memory"),
    ("TextSide", "name what it holds"),
    // Training.
    ("Groundwork", "Run"),
    ("Prepared", "Run"),
    ("Surroundings", "artifacts"),
    ("materials", "tokenizer and model artifacts"),
    ("Supply", "example source"),
    ("RunData", "TrainingData"),
    ("RowFeed", "row reader"),
    ("Survey", "data statistics"),
    ("converses", "is_conversational"),
];

/// The breaches of a source file.
pub(crate) fn in_source(shown: &str, lines: &[Line], breaches: &mut Vec<String>) {
    for (number, line) in lines.iter().enumerate() {
        for part in [&line.code, &line.strings, &line.comment] {
            in_text(shown, number, part, breaches);
        }
    }
    in_name(shown, breaches);
}

/// The breaches of a page of documentation.
pub(crate) fn in_page(shown: &str, text: &str, breaches: &mut Vec<String>) {
    for (number, line) in text.lines().enumerate() {
        in_text(shown, number, line, breaches);
    }
}

fn in_text(shown: &str, number: usize, text: &str, breaches: &mut Vec<String>) {
    for (word, instead) in RETIRED.iter().filter(|(word, _)| has_word(text, word)) {
        breaches.push(format!("{shown}:{}: `{word}` is retired; use: {instead}", number + 1));
    }
}

fn in_name(shown: &str, breaches: &mut Vec<String>) {
    let stem = Path::new(shown).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    for (word, instead) in RETIRED.iter().filter(|(word, _)| *word == stem) {
        breaches.push(format!("{shown}: the name `{word}` is retired; use: {instead}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retired_words_are_found_in_code_comments_texts_and_names() {
        let source = "struct Band; // let go of it\nlet x = \"a verdict\"; let husband = 1;";
        let mut breaches = Vec::new();
        in_source("a/lineage.rs", &crate::lexer::lines(source), &mut breaches);
        assert_eq!(breaches.len(), 4, "{breaches:?}");
    }
}
