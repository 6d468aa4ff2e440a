//! The house style that a machine can check: sizes, headers, forbidden words.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Hard limit of lines before the tests of a file.
const FILE_LINES_MAX: usize = 600;

/// Words that say "not done yet".
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "FIXME", "XXX", "#[ignore"];

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn files(dirs: &[&str]) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for dir in dirs {
        rust_files(&root.join(dir), &mut paths);
    }
    assert!(!paths.is_empty());
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

#[test]
fn files_stay_small() {
    let mut broken = Vec::new();
    for (path, text) in files(&["src", "migrations"]) {
        let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let is_test = path.file_stem().is_some_and(|stem| stem.to_string_lossy().contains("tests"));
        let lines = code.lines().count();
        if lines > FILE_LINES_MAX && !is_test {
            broken.push(format!("{} has {lines} lines", path.display()));
        }
    }
    report("a file has at most 600 lines before its tests", &broken);
}

#[test]
fn every_module_says_what_it_is() {
    let mut broken = Vec::new();
    for (path, text) in files(&["src", "migrations", "tests", "benches"]) {
        let is_included = path.to_string_lossy().contains("tests.rs");
        if !text.starts_with("//!") && !is_included {
            broken.push(path.display().to_string());
        }
    }
    report("a module begins with //! and what it owns", &broken);
}

#[test]
fn nothing_is_left_unfinished() {
    let own = Path::new(file!()).file_name().unwrap().to_owned();
    let mut broken = Vec::new();
    for (path, text) in files(&["src", "migrations", "tests", "benches"]) {
        if path.file_name() == Some(&own) {
            continue;
        }
        for word in UNFINISHED {
            if text.contains(word) {
                broken.push(format!("{} has {word}", path.display()));
            }
        }
    }
    report("unfinished work is an issue, not a word in the code", &broken);
}

#[test]
fn records_of_decisions_are_listed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/adr");
    let index = fs::read_to_string(dir.join("README.md")).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(name == "README.md" || index.contains(&name), "{name} is not in the index");
    }
}
