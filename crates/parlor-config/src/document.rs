//! A configuration file and the files that it extends.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::interpolate;
use crate::node::{Content, Node, Origin, Source};
use crate::problem::{Layer, Problem};
use crate::yaml;

/// Largest file in bytes: a configuration is written by hand, so anything larger is a mistake.
const MAX_BYTES: u64 = 8 << 20;
const EXTENDS: &str = "extends";
/// Maximum number of files that one file extends, directly or not, counting repetitions.
const MAX_FILES: usize = 100;

/// Reads `path` and everything that it extends, base files first, and records every file that was read.
pub(crate) fn read(
    path: &Path,
    lookup: &dyn Fn(&str) -> Option<String>,
    files: &mut Vec<PathBuf>,
    problems: &mut Vec<Problem>,
) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut reading = Reading { lookup, files, problems, chain: Vec::new(), read: 0 };
    reading.read(path, None, &mut nodes);
    nodes
}

/// The text of a file, without a byte-order mark.
///
/// # Errors
/// Why it cannot be read, with what to do.
pub(crate) fn read_text(path: &Path) -> Result<String, Box<Problem>> {
    let wrong = |message: String| Box::new(Problem::at("", format!("{}: {message}", path.display())));
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Box::new(
            wrong("no such file".to_owned())
                .help("`parlor init` writes a commented one; `-c FILE` names another"),
        ),
        _ => wrong(error.to_string()),
    })?;
    if metadata.is_dir() {
        return Err(wrong("this is a directory; a YAML file was expected".to_owned()));
    }
    if metadata.len() > MAX_BYTES {
        let message = format!("{} bytes; a configuration file has at most {MAX_BYTES}", metadata.len());
        return Err(wrong(message));
    }
    // The size of a pipe is not known before.
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| wrong(error.to_string()))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(wrong(format!("a configuration file has at most {MAX_BYTES} bytes")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{FEFF}').map_or(text.clone(), str::to_owned)),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let source = Arc::new(Source { name: path.to_owned(), text: text.into(), layer: Layer::File });
            let origin = Origin { source, span: valid..valid + 1 };
            let problem = Problem::at("", "not valid UTF-8").help("save the file as UTF-8");
            Err(Box::new(Problem { place: origin.place(), layer: Some(Layer::File), ..problem }))
        }
    }
}

struct Reading<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    files: &'a mut Vec<PathBuf>,
    problems: &'a mut Vec<Problem>,
    chain: Vec<PathBuf>,
    read: usize,
}

impl Reading<'_> {
    fn read(&mut self, path: &Path, named_by: Option<&Node>, nodes: &mut Vec<Node>) {
        let place = named_by.and_then(|node| node.origin.place());
        let layer = Some(Layer::File);
        let identity = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if self.chain.contains(&identity) {
            let message = format!("`{}` extends itself", path.display());
            self.problems.push(Problem { place, layer, ..Problem::at(EXTENDS, message) });
            return;
        }
        self.read += 1;
        if self.read > MAX_FILES {
            let message = format!("more than {MAX_FILES} files are extended");
            self.problems.push(Problem { place, layer, ..Problem::at(EXTENDS, message) });
            return;
        }
        self.files.push(path.to_owned());
        let text = match read_text(path) {
            Ok(text) => text,
            Err(problem) => {
                let mut problem = Problem { layer, ..*problem };
                if named_by.is_some() && problem.place.is_none() {
                    problem.path = EXTENDS.to_owned();
                    problem.place = place;
                    problem.help = Some("a file name is relative to the file that says `extends`".to_owned());
                }
                return self.problems.push(problem);
            }
        };
        let source = Arc::new(Source { name: path.to_owned(), text: text.into(), layer: Layer::File });
        let (node, problems) = yaml::parse(&source);
        if node.is_none() && !problems.is_empty() {
            return self.problems.extend(problems);
        }
        self.problems.extend(problems);
        // A file of comments alone counts as empty.
        let empty = Node { content: Content::Map(Vec::new()), origin: Origin { source, span: 0..0 } };
        let mut node = node.filter(|node| !node.is_null()).unwrap_or(empty);
        interpolate::resolve(&mut node, "", self.lookup, self.problems);
        let Content::Map(entries) = &mut node.content else {
            let message = "the file holds no keys; `key: value` lines were expected".to_owned();
            let place = node.origin.place();
            return self.problems.push(Problem { place, layer, ..Problem::at("", message) });
        };
        let extends = entries.iter().position(|(key, _)| key.name == EXTENDS).map(|at| entries.remove(at).1);
        self.chain.push(identity);
        if let Some(extends) = extends {
            for base in self.bases(&extends) {
                let file = path.parent().unwrap_or(Path::new("")).join(&base.1);
                self.read(&file, Some(&base.0), nodes);
            }
        }
        self.chain.pop();
        nodes.push(node);
    }

    fn bases(&mut self, extends: &Node) -> Vec<(Node, String)> {
        let items = match &extends.content {
            Content::List(items) => items.clone(),
            _ => vec![extends.clone()],
        };
        let mut bases = Vec::new();
        for item in items {
            match item.to_json() {
                Value::String(name) => bases.push((item, name)),
                _ => self.problems.push(Problem {
                    place: item.origin.place(),
                    layer: Some(Layer::File),
                    ..Problem::at(EXTENDS, "a file name, or a list of file names, was expected")
                }),
            }
        }
        bases
    }
}
