//! The layers of the house: who may use whom. A violation fails with the text of the rule.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules by layer; a module may use only lower layers, and never its neighbours.
const LAYERS: &[(&str, u8)] = &[
    ("base", 0),
    ("protocol", 1),
    ("coordinator", 2),
    ("log", 2),
    ("store", 3),
    ("engine", 4),
    ("consumers", 5),
    ("http", 6),
    ("kafka", 6),
    ("config", 7),
    ("telemetry", 7),
    ("cli", 8),
];

/// What the doors may use below them, besides base and protocol: the engine's seam, and for HTTP
/// the consumer instances.
const DOORS: &[(&str, &[&str])] = &[
    ("http", &["base", "protocol", "engine", "consumers"]),
    ("kafka", &["base", "protocol", "engine"]),
    ("consumers", &["base", "protocol", "engine"]),
];

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

/// Files of `src` without their tests: (module, path, text before the tests).
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let mut sources = Vec::new();
    for path in files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let inside = path.strip_prefix(&root).unwrap().to_path_buf();
        let module = inside.iter().next().unwrap().to_string_lossy().replace(".rs", "");
        let text = fs::read_to_string(&path).unwrap();
        let in_tests = inside.iter().any(|part| part == "tests");
        let is_test =
            in_tests || name.ends_with("tests") || name == "harness" || name.starts_with("fake_");
        if !is_test {
            let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap().to_owned();
            sources.push((module, inside, code));
        }
    }
    assert!(sources.len() > 100, "the scan must see the whole crate");
    sources
}

/// Modules of ours that a text uses, comments left out.
fn uses(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for part in line.split("crate::").skip(1) {
            let end = part.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(part.len());
            found.push(part[..end].to_owned());
        }
    }
    found
}

#[test]
fn modules_use_only_lower_layers() {
    let layers: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let mut broken = Vec::new();
    for (module, path, text) in sources() {
        let Some(own) = layers.get(module.as_str()) else { continue };
        // The embedded broker is where the engine's seam is implemented, on log and store.
        for used in uses(&text) {
            let Some(layer) = layers.get(used.as_str()) else { continue };
            if used != module && layer >= own {
                broken.push(format!("{} uses {used}, which is not below {module}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "a module may use only lower layers:\n{}", broken.join("\n"));
}

#[test]
fn doors_reach_the_log_only_through_the_engine() {
    let mut broken = Vec::new();
    for (module, path, text) in sources() {
        let Some((_, allowed)) = DOORS.iter().find(|(door, _)| *door == module) else { continue };
        for used in uses(&text) {
            let is_ours = LAYERS.iter().any(|(name, _)| *name == used);
            if is_ours && used != module && !allowed.contains(&used.as_str()) {
                broken.push(format!("{} uses {used}", path.display()));
            }
        }
        if text.contains("engine::embedded") {
            broken.push(format!("{} names the embedded broker", path.display()));
        }
    }
    assert!(broken.is_empty(), "a door talks only to the engine's roles:\n{}", broken.join("\n"));
}

#[test]
fn crates_are_named_only_where_they_belong() {
    // crate → the modules that may name it.
    let homes: &[(&str, &[&str])] = &[
        ("sled", &["store"]),
        ("kacrab_protocol", &["protocol"]),
        ("axum", &["http", "cli"]),
        ("utoipa", &["http"]),
        ("clap", &["cli", "config", "main"]),
        ("figment", &["config"]),
    ];
    let mut broken = Vec::new();
    for (module, path, text) in sources() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = code.collect::<Vec<_>>().join("\n");
        for (name, allowed) in homes {
            let named = code.contains(&format!("{name}::"));
            if named && !allowed.contains(&module.as_str()) {
                broken.push(format!("{} names {name}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "a crate has one home:\n{}", broken.join("\n"));
}

#[test]
fn pure_modules_do_no_io_and_read_no_clock() {
    let forbidden =
        ["tokio::", "std::fs", "std::net", "SystemTime", "Instant::now", "thread::", "new_v4"];
    let mut broken = Vec::new();
    for (module, path, text) in sources() {
        if module != "protocol" && module != "coordinator" {
            continue;
        }
        for word in forbidden {
            if text.lines().any(|l| !l.trim_start().starts_with("//") && l.contains(word)) {
                broken.push(format!("{} has {word}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "protocol and coordinator are pure:\n{}", broken.join("\n"));
}

#[test]
fn only_log_and_store_touch_files_of_the_data_directory() {
    let mut broken = Vec::new();
    for (module, path, text) in sources() {
        let allowed = ["log", "store", "cli", "config", "telemetry", "main"];
        let opening = path.ends_with("engine/embedded/open.rs");
        if allowed.contains(&module.as_str()) || opening {
            continue;
        }
        if text.contains("std::fs::") && !text.contains("std::fs::File;") {
            broken.push(format!("{} uses std::fs", path.display()));
        }
    }
    assert!(broken.is_empty(), "files belong to log and store:\n{}", broken.join("\n"));
}
