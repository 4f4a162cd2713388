//! The modules of a crate, and which of them import which, by the paths in their code.
//!
//! Tests are left out: they may look at everything. What a module re-exports of its children counts as the child's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// A module, as the names on the way to it from the crate.
type Module = Vec<String>;

/// The modules of one crate.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    code: BTreeMap<Module, String>,
    tests: BTreeSet<Module>,
    /// The child from which a module re-exports a name.
    reexports: BTreeMap<(Module, String), String>,
}

/// Imports between the children of one module.
pub(crate) type Imports = BTreeMap<String, BTreeSet<String>>;

impl Modules {
    /// Reads all modules below a directory of sources.
    pub(crate) fn read(source: &Path) -> Result<Self> {
        let mut modules = Self::default();
        modules.read_folder(source, &Module::new())?;
        let parents: Vec<Module> = modules.code.keys().cloned().collect();
        for parent in parents {
            modules.note_children(&parent);
        }
        Ok(modules)
    }

    fn read_folder(&mut self, folder: &Path, module: &Module) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let is_own = matches!(name.as_str(), "lib" | "main" | "mod");
            let child = if is_own { module.clone() } else { below(module, &name) };
            if path.is_dir() {
                self.read_folder(&path, &child)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                self.code.entry(child).or_default().push_str(&code_of(&text));
            }
        }
        Ok(())
    }

    /// Takes down which children are tests, and what is re-exported from which of them.
    fn note_children(&mut self, parent: &Module) {
        let code = self.code.get(parent).cloned().unwrap_or_default();
        let mut attribute = "";
        for line in code.lines() {
            if let Some(name) =
                line.trim().strip_suffix(';').and_then(|line| line.rsplit_once("mod ")).map(|(_, it)| it)
                && attribute == "#[cfg(test)]"
            {
                self.tests.insert(below(parent, name));
            }
            attribute = line.trim();
        }
        for statement in code.split(';') {
            let Some((before, tree)) = statement.rsplit_once("use ") else { continue };
            if !before.trim_end().ends_with("pub") && !before.trim_end().ends_with(')') {
                continue;
            }
            let mut paths = Vec::new();
            read_tree(tree.trim_start_matches("self::"), &mut Vec::new(), &mut paths);
            for path in paths {
                if let [child, .., name] = &path[..]
                    && self.code.contains_key(&below(parent, child))
                {
                    self.reexports.insert((parent.clone(), name.clone()), child.clone());
                }
            }
        }
    }

    /// The modules with children, each with the imports between these.
    pub(crate) fn folders(&self) -> BTreeMap<Module, Imports> {
        let mut folders: BTreeMap<Module, Imports> = BTreeMap::new();
        for module in self.code.keys().filter(|module| !self.is_test(module)) {
            if let Some((name, parent)) = module.split_last() {
                folders.entry(parent.to_vec()).or_default().entry(name.clone()).or_default();
            }
        }
        for (module, code) in self.code.iter().filter(|(module, _)| !self.is_test(module)) {
            for target in self.targets(module, code) {
                let common = module.iter().zip(&target).take_while(|(one, other)| one == other).count();
                if let (Some(from), Some(to)) = (module.get(common), target.get(common))
                    && let Some(imports) = folders.get_mut(&module[..common])
                {
                    imports.entry(from.clone()).or_default().insert(to.clone());
                }
            }
        }
        folders
    }

    fn is_test(&self, module: &[String]) -> bool {
        (1..=module.len()).any(|length| self.tests.contains(&module[..length]))
    }

    /// The modules that a module names.
    fn targets(&self, module: &Module, code: &str) -> Vec<Module> {
        let mut paths = Vec::new();
        for (at, _) in code.match_indices("crate::").chain(code.match_indices("super::")) {
            let before = &code[..at];
            // Visibilities import nothing; the path of another crate's item is none of ours.
            if before.ends_with("in ") || before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            read_tree(&code[at..], &mut Vec::new(), &mut paths);
        }
        paths.iter().filter_map(|path| self.resolve(module, path)).collect()
    }

    /// The module in which what a path names is.
    fn resolve(&self, module: &Module, path: &[String]) -> Option<Module> {
        let ups = path.iter().take_while(|name| *name == "super").count();
        let (mut at, rest) = match path.first()?.as_str() {
            "crate" => (Module::new(), &path[1..]),
            _ => (module[..module.len().checked_sub(ups)?].to_vec(), &path[ups..]),
        };
        for name in rest {
            let child = self.reexports.get(&(at.clone(), name.clone())).unwrap_or(name);
            at = below(&at, child);
            if !self.code.contains_key(&at) {
                at.pop();
                break;
            }
            if child != name {
                break;
            }
        }
        Some(at)
    }
}

fn below(module: &[String], name: &str) -> Module {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// A file without comments and without the tests at its bottom.
fn code_of(text: &str) -> String {
    let end = text.find("\n#[cfg(test)]\nmod tests {").or_else(|| text.find("\n#[cfg(test)]\npub(super) mod tests {"));
    let code = &text[..end.unwrap_or(text.len())];
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| [line.split(" // ").next().unwrap_or_default(), "\n"]).collect()
}

/// All paths of a tree of imports, `a::{b, c::d}` for one. What is behind the end of the tree; a path in other code is a
/// tree without branches.
fn read_tree<'a>(mut text: &'a str, path: &mut Vec<String>, paths: &mut Vec<Vec<String>>) -> &'a str {
    let depth = path.len();
    loop {
        text = text.trim_start();
        if let Some(mut branches) = text.strip_prefix('{') {
            while !branches.trim_start().starts_with('}') && !branches.trim_start().is_empty() {
                branches = read_tree(branches, path, paths).trim_start();
                branches = branches.strip_prefix(',').unwrap_or(branches);
            }
            text = branches.trim_start().strip_prefix('}').unwrap_or_default();
            break;
        }
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '*').unwrap_or(text.len());
        if end == 0 {
            // Nothing that can be an import: its end is the end of everything.
            text = "";
            break;
        }
        path.push(text[..end].to_owned());
        text = &text[end..];
        match text.strip_prefix("::") {
            Some(rest) if !rest.starts_with('<') => text = rest,
            _ => {
                paths.push(path.clone());
                break;
            }
        }
    }
    path.truncate(depth);
    let behind = text.trim_start();
    // `as` gives another name.
    match behind.strip_prefix("as ") {
        Some(name) => name.trim_start().trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_'),
        None => behind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Imports between the modules at the top and in `a`, of sources given as paths and code.
    fn edges(sources: &[(&[&str], &str)]) -> Vec<String> {
        let mut modules = Modules::default();
        for (path, code) in sources {
            modules.code.insert(path.iter().map(|name| (*name).to_owned()).collect(), code_of(code));
        }
        let parents: Vec<Module> = modules.code.keys().cloned().collect();
        for parent in &parents {
            modules.note_children(parent);
        }
        let mut edges = Vec::new();
        for (folder, imports) in modules.folders() {
            for (from, imported) in imports {
                edges.extend(imported.iter().map(|to| format!("{}:{from}>{to}", folder.join("/"))));
            }
        }
        edges
    }

    #[test]
    fn an_import_is_found_however_it_is_written() {
        let a: &[&str] = &["a"];
        let ab: &[&str] = &["a", "b"];
        let ac: &[&str] = &["a", "c"];
        let d: &[&str] = &["d"];
        let with =
            |code: &str| edges(&[(&[], ""), (a, "pub use c::Thing;\nmod b;\nmod c;\n"), (ab, code), (ac, ""), (d, "")]);
        let none: [&str; 0] = [];
        assert_eq!(with("use super::c::Thing;"), ["a:b>c"]);
        assert_eq!(with("use super::{Other, Thing};"), ["a:b>c"], "by its re-export");
        assert_eq!(with("use crate::{a::c, d::Thing};"), [":a>d", "a:b>c"]);
        assert_eq!(with("fn f() { super::super::d::f(); }"), [":a>d"]);
        assert_eq!(with("use super::Other;"), none);
        assert_eq!(with("pub(in crate::d) fn f() {}"), none);
        assert_eq!(with("// crate::d"), none);
        assert_eq!(with("fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::d;\n}\n"), none);
    }

    #[test]
    fn a_module_of_tests_may_import_everything() {
        let (a, b): (&[&str], &[&str]) = (&["a"], &["b"]);
        assert_eq!(edges(&[(&[], "#[cfg(test)]\nmod a;\nmod b;\n"), (a, "use crate::b;"), (b, "")]), [""; 0]);
    }
}
