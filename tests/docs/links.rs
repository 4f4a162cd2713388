//! What the documents point at is there: files, and the tests that a guarantee names.

use std::path::{Path, PathBuf};

use ottla_tests::artifact::root;

/// `[text](target)` in one document.
struct Link {
    document: PathBuf,
    text: String,
    target: String,
}

#[test]
fn every_relative_link_leads_somewhere() {
    let links = links();
    assert!(!links.is_empty());
    for Link { document, text, target } in links {
        let path = document.with_file_name(target.split('#').next().unwrap_or_default());
        assert!(path.exists(), "{}: [{text}]({target}) leads nowhere", document.display());
    }
}

/// A link to Rust code whose text is a name of several words in backticks promises that a test of this name is in that
/// file, unless the name is that of the file. That and one word alone mean a module.
#[test]
fn every_test_that_a_document_names_exists() {
    for Link { document, text, target } in links() {
        let path = document.with_file_name(&target);
        let name = text.strip_prefix('`').and_then(|text| text.strip_suffix('`'));
        let name = name.filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        let name = name.filter(|name| name.contains('_') && path.file_stem().is_some_and(|stem| stem != *name));
        if let (Some(name), true) = (name, path.extension().is_some_and(|extension| extension == "rs")) {
            let code = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(code.contains(&format!("fn {name}(")), "{}: {target} has no test `{name}`", document.display());
        }
    }
}

fn links() -> Vec<Link> {
    let mut documents = Vec::new();
    collect(&root(), &mut documents);
    documents.iter().flat_map(|document| links_of(document)).collect()
}

/// Every document of the project; what is built or hidden is not part of it.
fn collect(directory: &Path, documents: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            let ours = !name.starts_with('.') && !["target", "node_modules", "ottla-data", "corpus"].contains(&&*name);
            if ours && !path.is_symlink() {
                collect(&path, documents);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            documents.push(path);
        }
    }
}

fn links_of(document: &Path) -> Vec<Link> {
    let text = std::fs::read_to_string(document).expect("a document");
    let mut links = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        in_code ^= line.trim_start().starts_with("```");
        let mut rest = if in_code { "" } else { line };
        while let Some((before, after)) = rest.split_once("](") {
            let Some((target, tail)) = after.split_once(')') else { break };
            let text = before.rsplit('[').next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with('#') && !target.is_empty() {
                let document = document.to_path_buf();
                links.push(Link { document, text: text.to_owned(), target: target.to_owned() });
            }
            rest = tail;
        }
    }
    links
}
