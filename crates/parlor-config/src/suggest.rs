//! "Did you mean": the nearest known word.

/// The word nearest to `given`, when one is near.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    known
        .into_iter()
        .map(|word| (strsim::normalized_damerau_levenshtein(&given, &word.to_lowercase()), word))
        .filter(|(score, _)| *score >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

/// The key that an unknown one below `section` was meant to be: a neighbour, or the same name elsewhere.
pub(crate) fn key(section: &str, given: &str, siblings: &[&str], all: &[String]) -> Option<String> {
    let qualified =
        |name: &str| if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
    if let Some(sibling) = nearest(given, siblings.iter().copied()) {
        return Some(qualified(sibling));
    }
    let last = |path: &'_ str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let elsewhere: Vec<&String> = all.iter().filter(|path| last(path) == given).collect();
    match elsewhere[..] {
        [] => {
            let names: Vec<String> = all.iter().map(|path| last(path)).collect();
            let name = nearest(given, names.iter().map(String::as_str))?;
            all.iter().find(|path| last(path) == name).cloned()
        }
        // Several sections know it: the one most like where it was written.
        [first, ..] => elsewhere
            .iter()
            .find(|path| path.starts_with(section))
            .or(Some(&first))
            .map(|path| (*path).clone()),
    }
}
