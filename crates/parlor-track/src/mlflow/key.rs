//! MLflow's rules for keys and values, enforced by changing what breaks them rather than refusing it.
//!
//! A key is letters, digits, `_ - . / :` and space, at most 250 of them, and must be a path that normalises
//! to itself, since it becomes one. Only ASCII letters are kept: what counts as a letter differs between
//! readers, and 250 of them must fit a file name.

/// Longest key.
pub(crate) const MAX_KEY: usize = 250;
/// Longest value of a parameter, in characters.
pub(crate) const MAX_PARAM: usize = 6000;
/// Longest value of a tag, in characters.
pub(crate) const MAX_TAG: usize = 8000;
/// Longest name of an experiment, in characters.
pub(crate) const MAX_EXPERIMENT: usize = 500;

/// The key itself if it is allowed, else a similar one that is.
pub(crate) fn sanitised_key(key: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-. /".contains(c) || (c == ':' && !cfg!(windows));
    let clean: String = key.chars().take(MAX_KEY).map(|c| if allowed(c) { c } else { '_' }).collect();
    let parts: Vec<&str> = clean
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .map(|part| if part == ".." { "__" } else { part })
        .collect();
    if parts.is_empty() { "_".to_owned() } else { parts.join("/") }
}

/// `text` cut to `most` characters, with a mark at the cut.
pub(crate) fn cut(value: &str, most: usize) -> String {
    if value.chars().count() <= most {
        return value.to_owned();
    }
    value.chars().take(most - 3).chain("...".chars()).collect()
}

/// A name on one line, without characters that YAML readers refuse.
pub(crate) fn printable(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&c) { ' ' } else { c })
        .collect()
}
