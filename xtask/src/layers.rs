//! What may depend on what: crates by `cargo tree`, the modules inside a crate by the paths in their code.
//!
//! A table in ARCHITECTURE.md has the modules of each crate in an order in which they import only what is behind them.
//! In the folders below there is no circle of imports.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::imports::{Imports, Modules};
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

/// The document with the table that says which modules of a crate may import which.
const DOCUMENT: &str = "ARCHITECTURE.md";
/// The heading above the table.
const HEADING: &str = "## The order of modules";

/// Packages whose tests run without wasmtime as well.
const TESTS_WITHOUT_WASMTIME: &[&str] =
    &["ottla-wire", "ottla-log", "ottla-coordinator", "ottla-front", "ottla-client"];

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
    let document = fs::read_to_string(root.join(DOCUMENT)).context(DOCUMENT)?;
    let orders = orders(&document);
    if orders.is_empty() {
        bail!("{DOCUMENT} has no table below {HEADING:?}");
    }
    for (source, order) in &orders {
        for (folder, imports) in Modules::read(&root.join(source))?.folders() {
            if folder.is_empty() {
                let wrong = out_of_order(&imports, order);
                broken.extend(wrong.into_iter().map(|wrong| format!("{source}: {wrong}")));
            } else if let Some(modules) = circle(&imports) {
                let folder = folder.join("/");
                broken.push(format!("{source}/{folder}: a circle of imports: {}", modules.join(" -> ")));
            }
        }
    }
    if !broken.is_empty() {
        bail!("{}", broken.join("\n"));
    }
    Ok(())
}

/// The rows of the table: sources, and their modules in order.
fn orders(document: &str) -> Vec<(&str, Vec<&str>)> {
    let section = document.split_once(HEADING).map_or("", |(_, section)| section);
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| {
        let (source, modules) = line.strip_prefix("| `")?.split_once("` | ")?;
        Some((source, modules.trim_end_matches([' ', '|']).split(", ").map(|name| name.trim_matches('`')).collect()))
    });
    rows.collect()
}

/// The names of the crates below a package.
fn dependencies(root: &Path, package: &str, edges: &str) -> Result<BTreeSet<String>> {
    let words = ["tree", "--package", package, "--edges", edges, "--prefix", "none", "--format", "{p}"];
    let tree = cargo(root, &words).quiet().with_context(|| format!("the dependencies of {package}"))?;
    Ok(tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

/// What contradicts an order in which each module imports only modules behind it.
fn out_of_order(imports: &Imports, order: &[&str]) -> Vec<String> {
    let at = |module: &str| order.iter().position(|known| *known == module);
    let mut wrong = Vec::new();
    for (module, imported) in imports {
        let Some(place) = at(module) else {
            wrong.push(format!("module {module} is not in the table of {DOCUMENT}: put it before all that it imports"));
            continue;
        };
        let before = imported.iter().filter(|other| at(other).is_some_and(|other| other <= place));
        wrong.extend(before.map(|other| format!("{module} imports {other}, which is before it in {DOCUMENT}")));
    }
    let gone = order.iter().filter(|module| !imports.contains_key(**module));
    wrong.extend(gone.map(|module| format!("{DOCUMENT} has a module {module} that is not there")));
    wrong
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

    #[test]
    fn an_import_against_the_order_and_a_module_outside_it_are_found() {
        let document = "## The order of modules\n\n| sources | modules |\n|---|---|\n| `a/src` | `x`, `y`, `z` |\n\n## Next\n| `b` | `c` |\n";
        let orders = orders(document);
        assert_eq!(orders, [("a/src", vec!["x", "y", "z"])]);
        let of = |edges: &[(&str, &str)]| {
            let mut imports: Imports = ["x", "y", "z"].map(|name| (name.to_owned(), BTreeSet::new())).into();
            for (from, to) in edges {
                imports.entry((*to).to_owned()).or_default();
                imports.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            }
            out_of_order(&imports, &orders[0].1)
        };
        assert_eq!(of(&[("x", "z"), ("y", "z")]), [""; 0]);
        assert_eq!(of(&[("z", "x")]), ["z imports x, which is before it in ARCHITECTURE.md"]);
        assert_eq!(of(&[("x", "new")]).len(), 1);
    }
}
