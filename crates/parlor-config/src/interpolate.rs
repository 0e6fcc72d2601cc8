//! `${VAR}` and `${VAR:-default}` inside the scalars of a file; `$${` stands for `${`.

use crate::node::{Content, Node, join};
use crate::problem::Problem;
use crate::yaml;

/// Interpolates every `${...}` at and below `node`, whose key is `path`. A variable that is not set and has
/// no default is a problem.
pub(crate) fn resolve(
    node: &mut Node,
    path: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<Problem>,
) {
    match &mut node.content {
        Content::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                resolve(item, &join(path, &index.to_string()), lookup, problems);
            }
        }
        Content::Map(entries) => {
            for (key, item) in entries {
                resolve(item, &join(path, &key.name), lookup, problems);
            }
        }
        Content::Scalar(scalar) => {
            if !scalar.text.contains("${") {
                return;
            }
            match replace(&scalar.text, lookup) {
                Ok(text) => {
                    let raw = std::mem::take(&mut scalar.text);
                    // Unquoted, the result gets its type as if it were written there.
                    *scalar = yaml::scalar(&text, scalar.style);
                    scalar.raw = Some(raw);
                }
                Err(message) => problems.push(Problem {
                    place: node.origin.place(),
                    layer: Some(node.origin.layer()),
                    ..Problem::at(path, message).help(
                        "set the variable, or give a default: `${NAME:-default}`; `$${` stands for `${`",
                    )
                }),
            }
        }
    }
}

fn replace(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = rest.find("${") {
        if start > 0 && rest.as_bytes()[start - 1] == b'$' {
            out.push_str(&rest[..start - 1]);
            out.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start]);
        let Some(end) = rest[start..].find('}') else {
            return Err("`${` without its `}`".to_owned());
        };
        let inside = &rest[start + 2..start + end];
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if inside.contains("${") {
            return Err("`${` inside of `${...}` is not understood".to_owned());
        }
        match lookup(name).filter(|value| !value.is_empty()).or_else(|| default.map(str::to_owned)) {
            Some(value) => out.push_str(&value),
            None => return Err(format!("the environment variable `{name}` is not set")),
        }
        rest = &rest[start + end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}
