//! Every command of README.md is run, and answers what the README shows.
//!
//! A fenced block of `sh`, `python`, `js` or `ts` is run; a block of `json`, `text` or no language that
//! follows it is what it prints. The blocks of a `##` section run in one bash, so variables last;
//! all sections run in order against one server, on whose port `localhost:8082` is put.
//! Words after the language say more:
//! - `no-test`: needs what a test has not (a build, a browser, the network),
//! - `tools`: needs packages of registries; run when `HYDRANT_README_TOOLS` names the folder that
//!   `compat/readme/run` installs them in,
//! - `needs=TOOL`: the rest of the section is left out where the tool is missing,
//! - `follow`: has no end, and is left when it has printed as many lines as are shown,
//! - `unordered`: the lines may come in another order.
//!
//! What is shown must be within what is printed; timestamps, cursors and other ids may differ, and
//! `…` stands for anything.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Server, eventually, note, steer};
use regex::Regex;
use rustix::process::{Pid, Signal, kill_process_group};

/// What the README calls the two doors.
const HTTP: &str = "localhost:8082";
const KAFKA: &str = "localhost:9092";

/// Where a page finds the browser client.
const SCRIPT: &str = "\"http://localhost:8082/hydrant.js\"";

/// What a browser has and Node has not.
const EVENT_SOURCE: &str = "import { EventSource } from 'eventsource';\n";

/// Checks the types of a block and runs it.
const TYPED: &str = "npx tsc --noEmit --strict --target es2022 --module esnext --moduleResolution \
    bundler --allowImportingTsExtensions --skipLibCheck block.mts\nnpx tsx block.mts\n";

/// A section takes no longer; less than what a test waits for anything.
const SECTION_SECONDS: &str = "25";

/// Between the outputs of two blocks.
const SEPARATOR: char = '\u{1e}';

#[derive(Debug, Default)]
struct Block {
    line: usize,
    language: String,
    flags: Vec<String>,
    text: String,
    shown: Option<String>,
}

impl Block {
    fn is_run(&self, has_tools: bool) -> bool {
        let runs = ["sh", "python", "js", "ts"].contains(&self.language.as_str());
        runs && !self.has("no-test") && (has_tools || !self.has("tools"))
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|found| found == flag)
    }

    /// The tools it cannot do without.
    fn needs(&self) -> impl Iterator<Item = &str> {
        let own = match self.language.as_str() {
            "python" => "python3-with-requests",
            "js" | "ts" => "node",
            _ => "curl",
        };
        self.flags.iter().filter_map(|flag| flag.strip_prefix("needs=")).chain([own])
    }

    /// As a part of a script of bash.
    fn script(&self) -> String {
        let text = match self.language.as_str() {
            "python" => format!("python3 - <<'END OF BLOCK'\n{}END OF BLOCK\n", self.text),
            "js" => {
                let get = "curl -s http://localhost:8082/hydrant.js -o hydrant.mjs";
                let run = "node --input-type=module - <<'END OF BLOCK'";
                let text = self.text.replace(SCRIPT, "'./hydrant.mjs'");
                let has_source = text.contains("new EventSource");
                let source = if has_source { EVENT_SOURCE } else { "" };
                format!("{get}\n{run}\n{source}{text}END OF BLOCK\n")
            }
            "ts" => format!("cat > block.mts <<'END OF BLOCK'\n{}END OF BLOCK\n{TYPED}", self.text),
            _ => self.text.clone(),
        };
        if !self.has("follow") {
            return text;
        }
        let lines = self.shown.as_deref().expect("what is followed is shown").lines().count();
        format!("head -n {lines} < <(\n{text})\n")
    }
}

/// The blocks of each section.
fn sections(markdown: &str) -> Vec<(String, Vec<Block>)> {
    let mut sections = vec![("top".to_owned(), Vec::<Block>::new())];
    let mut lines = markdown.lines().enumerate();
    let mut is_followed = false;
    while let Some((at, line)) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            sections.push((title.to_owned(), Vec::new()));
            is_followed = false;
        }
        let Some(info) = line.strip_prefix("```") else { continue };
        let mut text = String::new();
        for (_, line) in lines.by_ref().take_while(|(_, line)| *line != "```") {
            text.push_str(line);
            text.push('\n');
        }
        let mut words = info.split_whitespace().map(str::to_owned);
        let language = words.next().unwrap_or_default();
        let blocks = &mut sections.last_mut().unwrap().1;
        assert!(!text.trim().is_empty(), "line {}: an empty block", at + 1);
        match language.as_str() {
            "" | "text" | "json" if is_followed => blocks.last_mut().unwrap().shown = Some(text),
            "" | "text" | "json" => panic!("line {}: nothing prints this", at + 1),
            _ => {
                let flags = words.collect();
                blocks.push(Block { line: at + 1, language, flags, text, shown: None });
                is_followed = true;
                continue;
            }
        }
        is_followed = false;
    }
    sections
}

/// What stands for a text that may differ from one run to the next.
fn pattern(shown: &str) -> String {
    let kinds: [(&str, &str); 7] = [
        ("…", "[^\n]*?"),
        (r"\b\d{13}\b", r"\d{13}"),
        (r"\b1\.[A-Za-z0-9_-]{10,}", r"1\.[A-Za-z0-9_-]{10,}"),
        (r"\bs-[0-9a-f]{16}\b", "s-[0-9a-f]{16}"),
        (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "[0-9a-f-]{36}"),
        (r"\b\d{4}-\d\d-\d\dT[0-9:.]+Z", r"\d{4}-\d\d-\d\dT[0-9:.]+Z"),
        (r"hydrant/\d+\.\d+\.\d+", r"hydrant/\d+\.\d+\.\d+"),
    ];
    let groups: Vec<_> = kinds.iter().map(|(kind, _)| format!("({kind})")).collect();
    let differing = Regex::new(&groups.join("|")).unwrap();
    let (mut pattern, mut end) = (String::new(), 0);
    for found in differing.captures_iter(shown) {
        let whole = found.get(0).unwrap();
        pattern.push_str(&regex::escape(&shown[end..whole.start()]));
        let kind = (1..=kinds.len()).find(|group| found.get(*group).is_some()).unwrap();
        pattern.push_str(kinds[kind - 1].1);
        end = whole.end();
    }
    pattern + &regex::escape(&shown[end..])
}

/// Whether what is shown is within what was printed.
fn is_within(shown: &str, printed: &str) -> bool {
    Regex::new(&pattern(shown.trim_end())).unwrap().is_match(printed)
}

fn judge(block: &Block, printed: Option<&str>) -> Option<String> {
    let Some(shown) = &block.shown else {
        return printed.is_none().then(|| format!("line {} was not run", block.line));
    };
    let printed = printed.unwrap_or_default();
    let is_right = if block.has("unordered") {
        shown.lines().count() == printed.lines().count()
            && shown.lines().all(|line| is_within(line, printed))
    } else {
        is_within(shown, printed)
    };
    (!is_right).then(|| format!("line {} shows\n{shown}but prints\n{printed}", block.line))
}

fn is_there(tool: &str) -> bool {
    let mut command = match tool {
        "python3-with-requests" => {
            let mut python = Command::new("python3");
            python.args(["-c", "import requests"]);
            python
        }
        tool => {
            let mut look = Command::new("bash");
            look.args(["-c", "command -v \"$0\"", tool]);
            look
        }
    };
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs blocks in one bash, and says what is wrong.
fn run(server: &Server, blocks: &[&Block], dir: &Path) -> Vec<String> {
    let mut script = "set -euo pipefail\n".to_owned();
    for block in blocks {
        writeln!(script, "{}\nprintf '\\036'", block.script()).unwrap();
    }
    let (http, kafka) = (server.http.to_string(), server.kafka.to_string());
    let script = script.replace(HTTP, &http).replace(KAFKA, &kafka);
    let (out, err) = (dir.join("stdout"), dir.join("stderr"));
    let mut command = Command::new("timeout");
    command
        .args([SECTION_SECONDS, "bash", "-c", &script])
        .current_dir(dir)
        .stdin(Stdio::null())
        .process_group(0);
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut bash = command.spawn().unwrap();
    let group = Pid::from_child(&bash);
    let status = eventually("a section of the README ends", || bash.try_wait().unwrap());
    // What was followed has no end of its own; there may be nothing left.
    let _ended = kill_process_group(group, Signal::KILL);
    let printed = std::fs::read_to_string(&out).unwrap().replace('\r', "");
    let printed = printed.replace(&http, HTTP).replace(&kafka, KAFKA);
    let mut parts: Vec<_> = printed.split(SEPARATOR).collect();
    parts.pop();
    let mut parts = parts.into_iter();
    let judged = blocks.iter().filter_map(|block| judge(block, parts.next()));
    let mut failures: Vec<_> = judged.collect();
    if !status.success() {
        failures.push(format!("{status}: {}", std::fs::read_to_string(&err).unwrap()));
    }
    failures
}

#[test]
fn every_command_answers_what_is_shown() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::on(data.path());
    let markdown = include_str!("../README.md");
    let mut ran = 0;
    let mut failures = Vec::new();
    let tools = steer("HYDRANT_README_TOOLS");
    for (title, blocks) in sections(markdown) {
        let wanted = blocks.iter().filter(|block| block.is_run(tools.is_some()));
        let mut missing = None;
        let is_possible = |block: &&Block| {
            missing = block.needs().find(|tool| !is_there(tool)).map(str::to_owned);
            missing.is_none()
        };
        let blocks: Vec<&Block> = wanted.take_while(is_possible).collect();
        if let Some(tool) = missing {
            note(&format!("{title}: left out what needs {tool}"));
        }
        if blocks.is_empty() {
            continue;
        }
        ran += blocks.len();
        let dir = tempfile::tempdir().unwrap();
        if let Some(tools) = &tools {
            let modules = Path::new(tools).join("node_modules");
            std::os::unix::fs::symlink(modules, dir.path().join("node_modules")).unwrap();
        }
        let wrong = run(&server, &blocks, dir.path());
        failures.extend(wrong.into_iter().map(|what| format!("{title}: {what}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(ran >= 5, "only {ran} blocks were run");
}

#[test]
fn what_differs_from_run_to_run_may_differ() {
    let shown = "{\"offset\":3,\"timestamp\":1795261904414,\"id\":\"…\"}";
    assert!(is_within(shown, "x {\"offset\":3,\"timestamp\":1795261904999,\"id\":\"abc\"} y"));
    assert!(!is_within(shown, "{\"offset\":4,\"timestamp\":1795261904414,\"id\":\"abc\"}"));
    assert!(!is_within(shown, "{\"offset\":3,\"timestamp\":17,\"id\":\"abc\"}"));
    assert!(is_within("id: 1.AQC8iuo8AQIAAAEAHvw", "id: 1.BBBBBBBBBBBBBBBBBBBBBBB"));
    assert!(!is_within("id: 1.AQC8iuo8AQIAAAEAHvw", "id: 12"));
}
