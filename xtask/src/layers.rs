//! What may depend on what: crates by `cargo tree`, the modules inside a crate by the paths in their code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::shell::cargo;

/// Crates that a package must not pull in, however far down.
const WITHOUT: &[(&str, &[&str])] = &[
    ("ottla-wire", &["tokio", "ottla-log", "wasmtime"]),
    ("ottla-log", &["tokio", "wasmtime"]),
    ("ottla-coordinator", &["tokio", "ottla-log", "wasmtime"]),
    ("ottla-front", &["clap", "ottla-client", "redb", "wasmtime"]),
    ("ottla-stage", &["ottla-log", "ottla-front"]),
    ("ottla-broker", &["clap", "ottla-client"]),
];

/// Packages whose tests run without wasmtime as well.
const TESTS_WITHOUT_WASMTIME: &[&str] =
    &["ottla-wire", "ottla-log", "ottla-coordinator", "ottla-front", "ottla-client"];

/// Sources whose modules, files or folders at the top, must not import each other in a circle.
const SOURCES: &[&str] = &["broker/front/src", "broker/ottla/src", "broker/server/src", "plugins/stage/src"];

/// Imports between the modules of one crate.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// Fails with every rule that is broken.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut broken = Vec::new();
    for (package, without) in WITHOUT {
        let used = dependencies(root, package, "normal")?;
        broken.extend(without.iter().filter(|name| used.contains(**name)).map(|name| format!("{package} uses {name}")));
    }
    for package in TESTS_WITHOUT_WASMTIME {
        if dependencies(root, package, "normal,dev")?.contains("wasmtime") {
            broken.push(format!("the tests of {package} use wasmtime"));
        }
    }
    for source in SOURCES {
        let imports = imports(&root.join(source))?;
        let circle = circle(&imports);
        broken.extend(circle.map(|modules| format!("{source}: a circle of imports: {}", modules.join(" -> "))));
    }
    if !broken.is_empty() {
        bail!("{}", broken.join("\n"));
    }
    Ok(())
}

/// The names of the crates below a package.
fn dependencies(root: &Path, package: &str, edges: &str) -> Result<BTreeSet<String>> {
    let words = ["tree", "--package", package, "--edges", edges, "--prefix", "none", "--format", "{p}"];
    let tree = cargo(root, &words).quiet().with_context(|| format!("the dependencies of {package}"))?;
    Ok(tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

fn imports(source: &Path) -> Result<Imports> {
    let mut imports = Imports::new();
    for entry in fs::read_dir(source)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() || !matches!(name.as_str(), "lib" | "main") {
            collect(&path, imports.entry(name).or_default())?;
        }
    }
    let modules: BTreeSet<String> = imports.keys().cloned().collect();
    for (module, imported) in &mut imports {
        imported.retain(|other| other != module && modules.contains(other));
    }
    Ok(imports)
}

/// The names that follow `crate::` in a file or in all files of a folder.
fn collect(path: &Path, names: &mut BTreeSet<String>) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), names)?;
        }
        return Ok(());
    }
    let code = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for after in line.split("crate::").skip(1) {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            names.insert(after[..end].to_owned());
        }
    }
    Ok(())
}

/// One circle, its first module repeated at the end.
fn circle(imports: &Imports) -> Option<Vec<&str>> {
    let mut done = BTreeSet::new();
    imports.keys().find_map(|module| walk(imports, module, &mut Vec::new(), &mut done))
}

fn walk<'a>(
    imports: &'a Imports,
    module: &'a str,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<&'a str>> {
    if let Some(at) = path.iter().position(|known| *known == module) {
        return Some(path[at..].iter().copied().chain([module]).collect());
    }
    if done.contains(module) {
        return None;
    }
    path.push(module);
    let found = imports.get(module)?.iter().find_map(|next| walk(imports, next, path, done));
    path.pop();
    done.insert(module);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_found_however_long_and_a_diamond_is_none() {
        let of = |edges: &[(&str, &str)]| {
            let mut imports = Imports::new();
            for (from, to) in edges {
                imports.entry((*to).to_owned()).or_default();
                imports.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            }
            circle(&imports).map(|modules| modules.join(" "))
        };
        assert_eq!(of(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]), None);
        assert_eq!(of(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")]).as_deref(), Some("b c d b"));
    }
}
