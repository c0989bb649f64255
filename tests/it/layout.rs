//! The layers of the sources: a module imports only modules below it.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, top to bottom; modules in the same line do not import each other.
const LAYERS: [&[&str]; 13] = [
    &["main"],
    &["app"],
    &["commands"],
    &["report"],
    &["cycle"],
    &["state", "output"],
    &["config"],
    &["db"],
    &["net"],
    &["process"],
    &["types"],
    &["cli"],
    &["error"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|it| it == "rs"))
        .collect()
}

/// Returns the top-level modules that a source file imports, without those of its tests.
fn imports(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let names = code.split("crate::").skip(1).flat_map(|rest| {
        // `use crate::{a, b};` imports several.
        let group = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
        group.unwrap_or(rest).split(", ").take(if group.is_some() { 9 } else { 1 })
    });
    let word = |name: &str| name.chars().take_while(|c| c.is_alphanumeric()).collect();
    names.map(word).collect()
}

#[test]
fn no_module_imports_a_module_above_it() {
    assert_eq!(imports("use crate::db::url; crate::{cli, net::tls}"), ["db", "cli", "net"]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut checked = 0;
    for path in sources(&root) {
        let inside = path.strip_prefix(&root).unwrap();
        let top = inside.iter().next().unwrap().to_str().unwrap();
        let top = top.trim_end_matches(".rs");
        if inside.to_str().unwrap().contains("test") || top == "lib" {
            continue;
        }
        let own = layer(top).unwrap_or_else(|| panic!("{top} has no layer"));
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            let Some(other) = layer(&import) else {
                continue;
            };
            let is_below = other > own || import == top;
            assert!(is_below, "{} imports {import}", inside.display());
            checked += 1;
        }
    }
    assert!(checked > 200, "{checked} imports");
}
