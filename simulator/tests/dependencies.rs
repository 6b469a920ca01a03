//! The harness is a plain program: whoever tests a protocol with it gets no async runtime.

use std::collections::BTreeSet;
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
    let told = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--offline", "--locked", "--all-features"])
        .args(["--edges", "normal,build", "--prefix", "none"])
        .args(["--package", "quorate-simulator"])
        .output()
        .expect("cargo runs");
    let (tree, why) = (
        String::from_utf8_lossy(&told.stdout),
        String::from_utf8_lossy(&told.stderr),
    );
    assert!(told.status.success(), "{why}");
    let below: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let known = ["quorate-simulator", "quorate-recovery", "clap"];
    assert!(known.iter().all(|name| below.contains(name)), "{tree}");
    let found: Vec<&str> = RUNTIMES
        .into_iter()
        .filter(|name| below.contains(name))
        .collect();
    assert!(found.is_empty(), "{found:?} below the simulator");
}
