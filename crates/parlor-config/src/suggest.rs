//! "Did you mean": the most similar known word.

use crate::node::join;

/// Similarity from which a word is suggested.
const ALIKE: f64 = 0.6;
/// Similarity from which one word is almost certainly a misspelling of the other.
const MISSPELT: f64 = 0.8;

/// Longest text in characters for which suggestions are made.
const LONGEST: usize = 100;

/// The word most similar to `given`, if one is similar enough.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_from(ALIKE, given, known)
}

fn nearest_from<'a>(least: f64, given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // No key is that long, and the cost of comparing grows with the length.
    if given.len() > LONGEST {
        return None;
    }
    let given = given.to_lowercase();
    known
        .into_iter()
        .map(|word| (strsim::normalized_damerau_levenshtein(&given, &word.to_lowercase()), word))
        .filter(|(score, _)| *score >= least)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

/// The most probable key for an unknown one below `section`: a misspelt sibling, the same name elsewhere, a
/// similar sibling, or a similar name elsewhere.
pub(crate) fn key(section: &str, given: &str, siblings: &[&str], all: &[String]) -> Option<String> {
    if let Some(sibling) = nearest_from(MISSPELT, given, siblings.iter().copied()) {
        return Some(join(section, sibling));
    }
    let last = |path: &'_ str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let elsewhere: Vec<&String> = all.iter().filter(|path| last(path) == given).collect();
    // Several sections may have it: the one most similar to where it was written.
    let within = elsewhere.iter().find(|path| path.starts_with(section)).or(elsewhere.first());
    if let Some(path) = within {
        return Some((*path).clone());
    }
    if let Some(sibling) = nearest(given, siblings.iter().copied()) {
        return Some(join(section, sibling));
    }
    let names: Vec<String> = all.iter().map(|path| last(path)).collect();
    let name = nearest(given, names.iter().map(String::as_str))?;
    all.iter().find(|path| last(path) == name).cloned()
}
