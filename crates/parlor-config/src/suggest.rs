//! "Did you mean": the nearest known word.

use crate::node::join;

/// From here on, words are alike.
const ALIKE: f64 = 0.6;
/// From here on, one is surely a misspelling of the other.
const MISSPELT: f64 = 0.8;

/// Of what is longer, nothing is a misspelling.
const LONGEST: usize = 100;

/// The word nearest to `given`, when one is near.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_from(ALIKE, given, known)
}

fn nearest_from<'a>(least: f64, given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // No key is that long, and the comparison takes time and memory for every character.
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

/// The key that an unknown one below `section` was meant to be: a neighbour misspelt, the same name elsewhere, a
/// neighbour that is alike, or a name elsewhere that is.
pub(crate) fn key(section: &str, given: &str, siblings: &[&str], all: &[String]) -> Option<String> {
    if let Some(sibling) = nearest_from(MISSPELT, given, siblings.iter().copied()) {
        return Some(join(section, sibling));
    }
    let last = |path: &'_ str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let elsewhere: Vec<&String> = all.iter().filter(|path| last(path) == given).collect();
    // Several sections may know it: the one most like where it was written.
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
