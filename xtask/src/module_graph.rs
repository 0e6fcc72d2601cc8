//! The modules of a crate and what each takes from which other, read from the sources with `syn`.
//!
//! An arrow goes from the module that names an item to the module that *defines* it: re-exports (`pub use`) are
//! followed, so a facade that only re-exports is no arrow. Paths inside macro calls count; items that a macro makes,
//! `#[cfg(test)]` modules and `#[path]` do not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Item, UseTree};

/// A module's path within its crate, without `crate`: empty for the root.
pub(crate) type ModulePath = Vec<String>;

/// Arrows between modules, each with the names that the first takes from the second.
pub(crate) type Arrows = BTreeMap<(ModulePath, ModulePath), BTreeSet<String>>;

/// A name that a `use` brings into a module.
struct Import {
    path: Vec<String>,
    /// `None` for a glob.
    name: Option<String>,
}

#[derive(Default)]
struct Module {
    defines: BTreeSet<String>,
    imports: Vec<Import>,
    /// Paths of two segments or more, and single names, outside of `use`.
    paths: BTreeSet<Vec<String>>,
}

type Modules = BTreeMap<ModulePath, Module>;

/// Reads the modules below `root` (a `lib.rs` or `main.rs`) and returns the arrows between them.
pub(crate) fn arrows(root: &Path) -> anyhow::Result<Arrows> {
    let mut modules = Modules::new();
    let directory = root.parent().unwrap_or(Path::new(".")).to_owned();
    read(root, &directory, Vec::new(), &mut modules)?;
    let mut arrows = Arrows::new();
    for (from, module) in &modules {
        let used = |name: &str| module.paths.iter().any(|path| path[0] == name);
        let imports = module.imports.iter().filter(|import| import.name.as_deref().is_none_or(used));
        for path in imports.map(|import| &import.path).chain(&module.paths) {
            if let Some((to, name)) = resolve(&modules, from, path, 0)
                && to != *from
            {
                arrows.entry((from.clone(), to)).or_default().insert(name);
            }
        }
    }
    Ok(arrows)
}

fn read(file: &Path, children: &Path, path: ModulePath, modules: &mut Modules) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let syntax = syn::parse_file(&text).with_context(|| file.display().to_string())?;
    let mut module = Module::default();
    for item in syntax.items {
        match item {
            Item::Mod(item) if is_test(&item.attrs) => {}
            Item::Mod(item) if item.content.is_none() => {
                let name = item.ident.to_string();
                let (file, below) = file_of(children, &name);
                let mut child = path.clone();
                child.push(name);
                read(&file, &below, child, modules)?;
            }
            Item::Use(item) => collect_use(&item.tree, Vec::new(), &mut module.imports),
            item => {
                module.defines.extend(defined(&item));
                collect_paths(item.to_token_stream(), &mut module.paths);
            }
        }
    }
    modules.insert(path, module);
    Ok(())
}

fn file_of(children: &Path, name: &str) -> (PathBuf, PathBuf) {
    let below = children.join(name);
    let flat = children.join(format!("{name}.rs"));
    if flat.is_file() { (flat, below) } else { (below.join("mod.rs"), below) }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.to_token_stream().to_string().contains("test")
    })
}

fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(name.to_string())
}

fn collect_use(tree: &UseTree, mut before: Vec<String>, imports: &mut Vec<Import>) {
    match tree {
        UseTree::Path(tree) => {
            before.push(tree.ident.to_string());
            collect_use(&tree.tree, before, imports);
        }
        UseTree::Group(tree) => {
            for tree in &tree.items {
                collect_use(tree, before.clone(), imports);
            }
        }
        UseTree::Glob(_) => imports.push(Import { path: before, name: None }),
        UseTree::Name(tree) => add_import(before, &tree.ident.to_string(), None, imports),
        UseTree::Rename(tree) => {
            add_import(before, &tree.ident.to_string(), Some(tree.rename.to_string()), imports);
        }
    }
}

fn add_import(mut path: Vec<String>, last: &str, renamed: Option<String>, imports: &mut Vec<Import>) {
    if last != "self" {
        path.push(last.to_owned());
    }
    let name = renamed.or_else(|| path.last().cloned());
    imports.push(Import { path, name });
}

/// Every path in `tokens`, however deep in groups and macro calls.
fn collect_paths(tokens: TokenStream, paths: &mut BTreeSet<Vec<String>>) {
    let mut path: Vec<String> = Vec::new();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                if colons != 2 && !path.is_empty() {
                    paths.insert(std::mem::take(&mut path));
                }
                path.push(ident.to_string());
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
            other => {
                if !path.is_empty() {
                    paths.insert(std::mem::take(&mut path));
                }
                colons = 0;
                if let TokenTree::Group(group) = other {
                    collect_paths(group.stream(), paths);
                }
            }
        }
    }
    if !path.is_empty() {
        paths.insert(path);
    }
}

/// The module that defines what `path` means in module `from`, and the item's name. `None` for what is outside the
/// crate, a local name, or a module that is only named.
fn resolve(
    modules: &Modules,
    from: &ModulePath,
    path: &[String],
    depth: usize,
) -> Option<(ModulePath, String)> {
    // Re-exports that lead back to themselves do not compile; the limit guards this program alone.
    if depth > 16 {
        return None;
    }
    let (mut at, mut rest) = match path.first()?.as_str() {
        "crate" => (Vec::new(), &path[1..]),
        "self" => (from.clone(), &path[1..]),
        "super" => {
            let levels = path.iter().take_while(|segment| *segment == "super").count();
            (from[..from.len().checked_sub(levels)?].to_vec(), &path[levels..])
        }
        first => {
            let mut child = from.clone();
            child.push(first.to_owned());
            if modules.contains_key(&child) {
                (child, &path[1..])
            } else if path.len() > 1 {
                // By a module that a `use` brought in; an item's own import counts where it is written.
                let import = modules.get(from)?.imports.iter().find(|i| i.name.as_deref() == Some(first))?;
                let whole: Vec<String> = import.path.iter().chain(&path[1..]).cloned().collect();
                if import.path.first().map(String::as_str) == Some(first) {
                    return None;
                }
                return resolve(modules, from, &whole, depth + 1);
            } else {
                return None;
            }
        }
    };
    while let Some(next) = rest.first() {
        let mut child = at.clone();
        child.push(next.clone());
        if !modules.contains_key(&child) {
            break;
        }
        (at, rest) = (child, &rest[1..]);
    }
    let name = rest.first()?;
    let module = modules.get(&at)?;
    if module.defines.contains(name) {
        return Some((at, name.clone()));
    }
    for import in &module.imports {
        let whole: Vec<String> = match &import.name {
            Some(imported) if imported == name => import.path.iter().chain(&rest[1..]).cloned().collect(),
            None => import.path.iter().chain(rest).cloned().collect(),
            Some(_) => continue,
        };
        if let Some(found) = resolve(modules, &at, &whole, depth + 1) {
            return Some(found);
        }
    }
    None
}
