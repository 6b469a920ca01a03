//! The rules of the house that a compiler does not hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// Crates that do no I/O and read no clock.
const PURE: [&str; 3] = ["membership", "fencing", "recovery"];

/// Files that may be longer than [`LINES_MAX`], each with its own bound. A ratchet: bounds only
/// fall, and a file that fits again leaves the list.
const LONG: [(&str, usize); 4] = [
    ("membership/src/consensus/replica.rs", 580),
    ("membership/src/member.rs", 640),
    ("simulator/src/world/mod.rs", 580),
    ("src/hypervisor/embedded.rs", 560),
];

/// A file is one idea; above this it is two.
const LINES_MAX: usize = 500;
/// Tests may list more.
const TEST_LINES_MAX: usize = 700;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the project with its path from the root; build results and history left out.
fn files() -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut open = vec![root()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)
            .expect("a directory of the project")
            .flatten()
        {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", ".git", "node_modules"].contains(&name.as_str()) {
                    open.push(path);
                }
                continue;
            }
            // In a second work tree of the repository it is a file.
            if name == ".git" {
                continue;
            }
            // What is not text has no words to judge.
            if let Ok(text) = fs::read_to_string(&path) {
                let relative = path.strip_prefix(root()).expect("below the root");
                out.insert(relative.to_string_lossy().into_owned(), text);
            }
        }
    }
    assert!(out.contains_key("src/lib.rs") && out.contains_key("tests/tidy.rs"));
    out
}

/// Rust files, this one left out: it must name what it forbids.
fn rust() -> BTreeMap<String, String> {
    let mut rust = files();
    rust.retain(|path, _| path.ends_with(".rs") && path != "tests/tidy.rs");
    rust
}

/// The lines of Rust code, counted from 1, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, line)| {
        let code = line.find("//").map_or(line, |at| &line[..at]);
        (i + 1, code)
    })
}

/// Whether `text` holds `word` with no letter, digit or underscore at either side.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn some_names_appear_in_one_place_only() {
    let mut faults = Vec::new();
    for (path, text) in rust() {
        for (name, allowed) in [
            (
                "omnipaxos",
                &["membership/src/consensus/", "membership/src/consensus.rs"][..],
            ),
            (
                "bincode",
                &["membership/src/codec.rs", "membership/src/codec/"],
            ),
            ("tokio", &["src/", "tests/", "examples/", "benches/"]),
            ("socket2", &["src/"]),
            ("virt", &["src/libvirt/"]),
            ("redb", &["src/store/", "src/store.rs"]),
            // A test lays out a lock by hand.
            ("ring", &["src/", "tests/"]),
        ] {
            if allowed.iter().any(|place| path.starts_with(place)) {
                continue;
            }
            for (line, code) in code(&text) {
                if has_word(code, &format!("{name}::")) || has_word(code, &format!("use {name}")) {
                    faults.push(format!("{path}:{line}: {name} belongs to {}", allowed[0]));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn arrows_between_crates_point_down_only() {
    let allowed: [(&str, &[&str]); 5] = [
        ("membership", &[]),
        ("fencing", &[]),
        ("recovery", &["quorate-membership", "quorate-fencing"]),
        (
            "simulator",
            &["quorate-membership", "quorate-fencing", "quorate-recovery"],
        ),
        (
            ".",
            &["quorate-membership", "quorate-fencing", "quorate-recovery"],
        ),
    ];
    let mut faults = Vec::new();
    for (krate, below) in allowed {
        let path = root().join(krate).join("Cargo.toml");
        let text = fs::read_to_string(&path).expect("a crate of the house");
        let manifest: toml::Table = toml::from_str(&text).expect("a manifest");
        // A test of the root may use the simulator; nothing else may look up, not even a test.
        let kinds: &[&str] = if krate == "." {
            &["dependencies", "build-dependencies"]
        } else {
            &["dependencies", "dev-dependencies", "build-dependencies"]
        };
        let names = kinds
            .iter()
            .filter_map(|kind| manifest.get(*kind)?.as_table())
            .flat_map(toml::Table::keys);
        for name in names.filter(|n| n.starts_with("quorate")) {
            if !below.contains(&name.as_str()) {
                faults.push(format!("{krate}/Cargo.toml: must not know {name}"));
            }
        }
    }
    report(&faults);
}

#[test]
fn pure_crates_read_no_clock_no_chance_no_environment_and_no_unordered_map() {
    let mut faults = Vec::new();
    for (path, text) in rust() {
        let pure = PURE.iter().any(|c| path.starts_with(&format!("{c}/src/")));
        let test = path.ends_with("/tests.rs") || path.ends_with("_tests.rs");
        if !pure || test {
            continue;
        }
        for (line, code) in code(&text) {
            // What follows is tests.
            if code.trim() == "#[cfg(test)]" {
                break;
            }
            for name in [
                "Instant",
                "SystemTime",
                "HashMap",
                "HashSet",
                "RandomState",
                "std::fs",
                "std::net",
                "std::env",
                "std::thread",
                "std::process",
                "std::os",
                "std::io",
                "thread_local",
                "rand",
                "getrandom",
                "static mut",
                "println",
                "eprintln",
            ] {
                // Which bug is planted is chosen per thread, in builds no daemon can be.
                let planted = name == "thread_local" && path.ends_with("/mutants.rs");
                if has_word(code, name) && !planted {
                    faults.push(format!(
                        "{path}:{line}: {name} in a crate that is handed facts"
                    ));
                }
            }
        }
    }
    report(&faults);
}

/// Directories that are rooms: crates, and what holds code directly below `src/`.
fn rooms() -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for path in files().keys().filter(|path| path.ends_with(".rs")) {
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["src", room, _, ..] => rooms.insert(format!("src/{room}/")),
            ["src", _] => continue,
            [top, _, ..] => rooms.insert(format!("{top}/")),
            _ => continue,
        };
    }
    rooms
}

#[test]
fn the_architecture_names_every_room_and_none_that_does_not_exist() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    // The map is the table whose rows begin with a path that ends in a slash.
    let named: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|path| path.ends_with('/'))
        .map(str::to_owned)
        .collect();
    let rooms = rooms();
    let mut faults: Vec<String> = rooms
        .difference(&named)
        .map(|room| format!("ARCHITECTURE.md: does not name {room}"))
        .collect();
    faults.extend(
        named
            .iter()
            .filter(|name| !root().join(name).is_dir())
            .map(|name| format!("ARCHITECTURE.md: names {name}, which does not exist")),
    );
    report(&faults);
}

/// Text outside fenced blocks, which hold commands and examples.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(i, line)| {
        if line.starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((i + 1, line))
    })
}

#[test]
fn documents_name_and_link_only_what_exists() {
    const TOP: [&str; 10] = [
        "docs",
        "examples",
        "fencing",
        "membership",
        "packaging",
        "recovery",
        "scripts",
        "simulator",
        "src",
        "tests",
    ];
    let mut faults = Vec::new();
    let files = files();
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".md")) {
        let here = root().join(path);
        let here = here.parent().expect("a directory");
        for (line, words) in prose(text) {
            // Every second piece stands between backticks.
            for name in words.split('`').skip(1).step_by(2) {
                let below = name.split_once('/').filter(|(top, _)| TOP.contains(top));
                let plain =
                    |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-./".contains(c);
                if below.is_some() && name.chars().all(plain) && !root().join(name).exists() {
                    faults.push(format!("{path}:{line}: {name} does not exist"));
                }
            }
            for link in words
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split(')').next())
            {
                let target = link.split('#').next().unwrap_or_default();
                if !link.contains("://") && !target.is_empty() && !here.join(target).exists() {
                    faults.push(format!(
                        "{path}:{line}: links to {target}, which does not exist"
                    ));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn the_first_page_is_short() {
    let text = fs::read_to_string(root().join("README.md")).expect("README.md");
    let lines = text.lines().count();
    assert!(lines < 150, "README.md: {lines} lines; allowed: below 150");
}

#[test]
fn files_hold_one_idea() {
    let long: BTreeMap<&str, usize> = LONG.into_iter().collect();
    let files = files();
    let mut faults = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".rs")) {
        let (lines, most) = (text.lines().count(), long.get(path.as_str()));
        let test = path.contains("tests");
        let allowed = if test { TEST_LINES_MAX } else { LINES_MAX };
        match most {
            None if lines > allowed => {
                faults.push(format!("{path}: {lines} lines; allowed: {allowed}"));
            }
            Some(most) if lines > *most => {
                faults.push(format!("{path}: {lines} lines; its bound was {most}"));
            }
            Some(_) if lines <= allowed => {
                faults.push(format!("{path}: fits again; take it off the list"));
            }
            _ => {}
        }
    }
    for path in long.keys().filter(|path| !files.contains_key(**path)) {
        faults.push(format!("{path}: is on the list but does not exist"));
    }
    report(&faults);
}

#[test]
fn words_with_another_meaning_elsewhere_are_not_used() {
    let mut faults = Vec::new();
    for (path, text) in files() {
        if path == "tests/tidy.rs" || path == "Cargo.lock" || path.starts_with("LICENSE") {
            continue;
        }
        for (i, line) in text.lines().enumerate() {
            let line = line.to_lowercase();
            for word in ["master", "slave", "primary", "stonith"] {
                let allowed = match path.as_str() {
                    // The documents say once what others call a fence.
                    "ARCHITECTURE.md" => word == "stonith",
                    // A keyword of `ip link set`.
                    "src/demo/rack.rs" => word == "master" && line.contains("link set"),
                    _ => false,
                };
                if has_word(&line, word) && !allowed {
                    faults.push(format!("{path}:{}: the word {word:?}", i + 1));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn no_file_names_a_place_that_only_one_machine_has() {
    let mut faults = Vec::new();
    for (path, text) in files() {
        if path == "tests/tidy.rs" || path == "Cargo.lock" {
            continue;
        }
        for (i, line) in text.lines().enumerate() {
            for place in ["/work/", "/farm", "/root/", "/home/"] {
                // Not as a part of a longer path, like target/…/work/.
                let own = line.match_indices(place).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || "}>._-".contains(c))
                });
                if own {
                    faults.push(format!("{path}:{}: {place}", i + 1));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn nothing_makes_rustup_fetch_a_toolchain() {
    for name in ["rust-toolchain", "rust-toolchain.toml"] {
        assert!(!root().join(name).exists(), "{name}");
    }
}

#[test]
fn every_script_is_named_by_something_that_runs_it() {
    let files = files();
    let callers: String = ["Makefile", ".ci/run", "scripts/test.sh", "scripts/lab.sh"]
        .iter()
        .map(|name| files.get(*name).expect("a caller").as_str())
        .collect();
    let lost: Vec<&String> = files
        .keys()
        .filter(|path| {
            // What a script reads stands beside it and is named by its name alone.
            let name = path.rsplit('/').next().unwrap_or_default();
            let read = files
                .get("scripts/lab/guest.sh")
                .is_some_and(|s| s.contains(name));
            path.starts_with("scripts/") && !callers.contains(path.as_str()) && !read
        })
        .collect();
    assert!(lost.is_empty(), "nobody runs {lost:?}");
}
