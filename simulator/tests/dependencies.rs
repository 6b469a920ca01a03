//! The harness is a plain program: whoever tests a protocol with it gets no async runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crates whose presence would mean one.
const RUNTIMES: [&str; 8] = [
    "tokio",
    "async-std",
    "smol",
    "async-executor",
    "futures-executor",
    "mio",
    "glommio",
    "monoio",
];

#[test]
fn no_async_runtime_is_below_the_simulator() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let told = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--all-features", "--manifest-path", manifest])
        .output()
        .expect("cargo runs");
    let why = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{why}");
    let metadata: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let nodes = metadata["resolve"]["nodes"].as_array().expect("nodes");
    let text = |v: &serde_json::Value| v.as_str().expect("a text").to_owned();
    // What each package needs to be built and run; tests may need more.
    let needs: BTreeMap<String, Vec<String>> = nodes
        .iter()
        .map(|node| {
            let deps = node["deps"].as_array().expect("deps").iter();
            let used = deps.filter(|d| {
                let kinds = d["dep_kinds"].as_array().expect("kinds");
                kinds.iter().any(|k| k["kind"] != "dev")
            });
            (text(&node["id"]), used.map(|d| text(&d["pkg"])).collect())
        })
        .collect();
    let names: BTreeMap<String, String> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|p| (text(&p["id"]), text(&p["name"])))
        .collect();
    let me = names.iter().find(|(_, name)| *name == "quorate-simulator");
    let mut open = vec![me.expect("this package").0.clone()];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id.clone()) {
            open.extend(needs.get(&id).into_iter().flatten().cloned());
        }
    }
    let below: BTreeSet<&str> = seen.iter().map(|id| names[id].as_str()).collect();
    assert!(below.contains("clap") && below.len() > 10, "{below:?}");
    let found: Vec<&str> = RUNTIMES.into_iter().filter(|r| below.contains(r)).collect();
    assert!(found.is_empty(), "{found:?} below the simulator");
}
