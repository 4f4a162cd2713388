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

/// Sources that have no row in the table: in their folders there are no circles but those of [`CIRCLES_LEFT`].
const WITHOUT_ORDER: &[&str] =
    &["broker/coordinator/src", "broker/log/src", "sdk/wire/src", "sdk/client/src", "bindings/python/src", "xtask/src"];

/// The circles that there still are: a folder, and its modules that import each other. None may come, and none may grow.
const CIRCLES_LEFT: &[(&str, &[&str])] = &[
    ("broker/coordinator/src/group", &["context", "effect", "offsets", "reply", "writes"]),
    (
        "broker/log/src",
        &[
            "checkpoint",
            "clean",
            "commit",
            "dir_state",
            "disk",
            "error",
            "handles",
            "partition",
            "scan",
            "segment",
            "state_file",
        ],
    ),
    ("broker/log/src/inspect", &["files", "verify", "walk"]),
    ("broker/log/src/partition", &["locate", "slot"]),
    ("sdk/wire/src", &["budget", "error_code", "header", "message", "primitive"]),
    ("sdk/client/src", &["config", "net", "producer"]),
    ("sdk/client/src/consumer", &["fetcher", "intake"]),
    (
        "bindings/python/src",
        &["batch", "callbacks", "delivery", "events", "exit", "failure", "fork", "logs", "record", "runtime"],
    ),
];

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
        let folders = Modules::read(&root.join(source))?.folders();
        if let Some(imports) = folders.get(&Vec::new()) {
            broken.extend(out_of_order(imports, order).into_iter().map(|wrong| format!("{source}: {wrong}")));
        }
        broken.extend(circles(source, folders.iter().filter(|(folder, _)| !folder.is_empty())));
    }
    for source in WITHOUT_ORDER {
        broken.extend(circles(source, &Modules::read(&root.join(source))?.folders()));
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

/// Where the circles in the folders of a crate are not those that are known.
fn circles<'a>(source: &str, folders: impl IntoIterator<Item = (&'a Vec<String>, &'a Imports)>) -> Vec<String> {
    let of_folder = |(folder, imports): (&Vec<String>, &Imports)| {
        let place = [source].into_iter().chain(folder.iter().map(String::as_str)).collect::<Vec<_>>().join("/");
        let known = CIRCLES_LEFT.iter().find(|(folder, _)| *folder == place).map_or(&[][..], |(_, modules)| modules);
        let found = in_circles(imports);
        let gone = known.iter().filter(|module| !found.contains(*module)).map(|module| {
            format!("{place}: {module} is in no circle of imports any more: take it out of CIRCLES_LEFT")
        });
        let new: Vec<&str> = found.iter().copied().filter(|module| !known.contains(module)).collect();
        let new = (!new.is_empty())
            .then(|| format!("{place}: a circle of imports: {}; new in it: {}", list(&found), new.join(", ")));
        gone.chain(new).collect::<Vec<_>>()
    };
    folders.into_iter().flat_map(of_folder).collect()
}

fn list(modules: &BTreeSet<&str>) -> String {
    modules.iter().copied().collect::<Vec<_>>().join(", ")
}

/// The modules that import themselves by way of others.
fn in_circles(imports: &Imports) -> BTreeSet<&str> {
    imports.keys().map(String::as_str).filter(|module| reached(imports, module).contains(module)).collect()
}

/// What a module imports, and what that imports, and so on.
fn reached<'a>(imports: &'a Imports, module: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = vec![module];
    while let Some(module) = next.pop() {
        let imported = imports.get_key_value(module).into_iter().flat_map(|(_, imported)| imported);
        next.extend(imported.map(String::as_str).filter(|imported| reached.insert(*imported)));
    }
    reached
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
            in_circles(&imports).into_iter().map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]), "");
        assert_eq!(of(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b"), ("d", "e")]), "b c d");
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
