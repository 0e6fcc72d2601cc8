//! The modules of a model under transformers' names, and which of them a PEFT configuration selects.
//!
//! Source: `check_target_module_exists`, `get_pattern_key` and `ModulesToSaveWrapper` in PEFT 0.21.

use fancy_regex::Regex;

use crate::arch::{Architecture, CheckpointTensor, TIED_HEAD};
use crate::config::{ALL_LINEAR, AdapterBias, AdapterConfig, DecoderConfig, Head, TargetModules};
use crate::decoder::{ParameterPart, Role, Site, TensorLayout};

/// A module of transformers, and the tensors in it.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    /// `model.layers.0.self_attn.q_proj`.
    pub(crate) path: String,
    /// Its tensors, each with the last part of its name (`weight`, `bias`).
    pub(crate) tensors: Vec<(String, CheckpointTensor)>,
}

impl Module {
    /// Block and sites of the linear layers in its weight, when it can be adapted.
    pub(crate) fn linear(&self) -> Option<(usize, Vec<Site>)> {
        let (_, weight) = self.tensors.iter().find(|(name, _)| name == "weight")?;
        let site = |role: &Role| match *role {
            Role::Block { layer, site, part: ParameterPart::Weight } if site.is_linear() => {
                Some((layer, site))
            }
            _ => None,
        };
        let sites: Option<Vec<(usize, Site)>> = weight.roles.iter().map(site).collect();
        let sites = sites?;
        Some((sites.first()?.0, sites.iter().map(|(_, site)| *site).collect()))
    }
}

/// All modules, in the order of the checkpoint's tensors; the head comes last, also where it is tied.
pub(crate) fn modules(architecture: Architecture, config: &DecoderConfig) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    let mut tensors = architecture.checkpoint_tensors(config);
    if config.head == Head::Tied {
        tensors.push(CheckpointTensor {
            name: TIED_HEAD.to_owned(),
            alternatives: Vec::new(),
            layout: TensorLayout::Plain,
            roles: vec![Role::Head],
        });
    }
    for tensor in tensors {
        let Some((path, last)) = tensor.name.rsplit_once('.') else { continue };
        let (path, last) = (path.to_owned(), last.to_owned());
        match modules.iter_mut().find(|module| module.path == path) {
            Some(module) => module.tensors.push((last, tensor)),
            None => modules.push(Module { path, tensors: vec![(last, tensor)] }),
        }
    }
    modules
}

/// The modules of a model that a configuration selects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chosen {
    /// Linear modules that get low-rank factors.
    pub(crate) adapted: Vec<Module>,
    /// Tensors that the adapter replaces, with PEFT's name of each (without its prefix).
    pub(crate) own: Vec<(String, CheckpointTensor)>,
    /// What the user should know.
    pub(crate) warnings: Vec<String>,
}

/// Compiles a pattern that must match a whole name, as Python's `re.fullmatch`.
fn whole(pattern: &str) -> Result<Regex, String> {
    Regex::new(&format!(r"\A(?:{pattern})\z"))
        .map_err(|error| format!("is `{pattern}`, which is no regular expression: {error}"))
}

fn matches(regex: &Regex, path: &str) -> Result<bool, String> {
    regex
        .is_match(path)
        .map_err(|error| format!("is `{}`, which takes too long to match: {error}", regex.as_str()))
}

/// Whether `path` is `name`, or ends with it after a dot.
pub(crate) fn ends_with(path: &str, name: &str) -> bool {
    path == name || path.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether the value of the key `key` selects the module.
fn means(key: &str, target: &TargetModules, path: &str) -> Result<bool, String> {
    match target {
        TargetModules::Names(names) => Ok(names.iter().any(|name| ends_with(path, name))),
        TargetModules::Pattern(pattern) => {
            whole(pattern).and_then(|regex| matches(&regex, path)).map_err(|why| format!("`{key}` {why}"))
        }
    }
}

/// The value of the first pattern of the key `key` that fits the end of `path` (`get_pattern_key`).
pub(crate) fn by_pattern<T: Copy>(
    key: &str,
    patterns: &indexmap::IndexMap<String, T>,
    path: &str,
) -> Result<Option<T>, String> {
    for (pattern, value) in patterns {
        if fits_end(pattern, path).map_err(|why| format!("a key of `{key}` {why}"))? {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

fn fits_end(pattern: &str, path: &str) -> Result<bool, String> {
    matches(&whole(&format!(r"(?:.*\.)?(?:{pattern})"))?, path)
}

/// Whether `pattern` fits the end of some module's name.
pub(crate) fn fits_any(pattern: &str, modules: &[Module]) -> Result<bool, String> {
    for module in modules {
        if fits_end(pattern, &module.path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Selects modules of a model.
///
/// # Errors
/// When nothing is adapted, a module that is named cannot be, or a pattern is no regular expression.
pub(crate) fn choose(
    architecture: Architecture,
    decoder: &DecoderConfig,
    config: &AdapterConfig,
) -> Result<Chosen, String> {
    let modules = modules(architecture, decoder);
    let mut chosen = Chosen::default();
    let saved: Vec<bool> =
        modules.iter().map(|module| is_saved(&config.modules_to_save, &module.path)).collect();
    for (module, &saved) in modules.iter().zip(&saved) {
        if saved || !is_target(config, module)? {
            continue;
        }
        if module.linear().is_none() {
            return Err(format!(
                "`target_modules` means `{}`, which is no linear layer of a block: adapters of embeddings, norms and the \
                 output head are not in this build; name it in `modules_to_save` to train it whole",
                module.path
            ));
        }
        chosen.adapted.push(module.clone());
    }
    if chosen.adapted.is_empty() {
        return Err(format!(
            "`target_modules` ({}) means no module of this {architecture} model; its linear layers are {}, and \
             `{ALL_LINEAR}` means all of them",
            shown(&config.target_modules),
            linear_names(&modules).join(", ")
        ));
    }
    if let TargetModules::Names(names) = &config.target_modules {
        for name in names.iter().filter(|name| !modules.iter().any(|module| ends_with(&module.path, name))) {
            chosen.warnings.push(format!(
                "`target_modules` names `{name}`, which this {architecture} model does not have; its linear layers are {}",
                linear_names(&modules).join(", ")
            ));
        }
    }
    for name in &config.modules_to_save {
        let one = std::slice::from_ref(name);
        if !modules.iter().any(|module| is_saved(one, &module.path)) {
            return Err(format!(
                "`modules_to_save` names `{name}`, which this {architecture} model does not have"
            ));
        }
    }
    for (module, &saved) in modules.iter().zip(&saved) {
        let adapted = chosen.adapted.iter().any(|adapted| adapted.path == module.path);
        for (last, tensor) in &module.tensors {
            let biased = last == "bias"
                && match config.bias {
                    AdapterBias::None => false,
                    AdapterBias::All => true,
                    AdapterBias::LoraOnly => adapted,
                };
            // PEFT wraps what it adapts, and names what is inside after that.
            let inside = if adapted && !saved { ".base_layer" } else { "" };
            if saved || biased {
                chosen.own.push((format!("{}{inside}.{last}", module.path), tensor.clone()));
            }
        }
    }
    Ok(chosen)
}

fn is_target(config: &AdapterConfig, module: &Module) -> Result<bool, String> {
    if let Some(exclude) = &config.exclude_modules
        && means("exclude_modules", exclude, &module.path)?
    {
        return Ok(false);
    }
    if let (Some(layers), Some((layer, _))) = (&config.layers_to_transform, module.linear())
        && !layers.contains(&layer)
    {
        return Ok(false);
    }
    match &config.target_modules {
        TargetModules::Pattern(pattern) if pattern.eq_ignore_ascii_case(ALL_LINEAR) => {
            Ok(module.linear().is_some())
        }
        target => means("target_modules", target, &module.path),
    }
}

/// Whether a module, or one that it is part of, ends with one of `names`; PEFT asks for no dot before it.
fn is_saved(names: &[String], path: &str) -> bool {
    let ends = path.char_indices().filter(|(_, c)| *c == '.').map(|(at, _)| at).chain([path.len()]);
    let mut parents = ends.map(|end| &path[..end]);
    parents.any(|parent| names.iter().any(|name| !name.is_empty() && parent.ends_with(name.as_str())))
}

/// The last parts of the names of all linear layers, each once.
fn linear_names(modules: &[Module]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for module in modules.iter().filter(|module| module.linear().is_some()) {
        let last = module.path.rsplit('.').next().unwrap_or_default();
        let quoted = format!("`{last}`");
        if !names.contains(&quoted) {
            names.push(quoted);
        }
    }
    names
}

fn shown(target: &TargetModules) -> String {
    match target {
        TargetModules::Names(names) => {
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        }
        TargetModules::Pattern(pattern) => format!("`{pattern}`"),
    }
}
