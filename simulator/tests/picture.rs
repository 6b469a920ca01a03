//! The commands that show a run: picture, explanation, comparison.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Five nodes, two of them cut off, and an expectation that cannot hold.
const STORY: &str = r#"
[cluster]
hosts = 5
voters = 5
guests = 2

[[at]]
time = 8
do = "isolate"
host = "h2"

[[expect]]
by = 12
none-run = true
"#;

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate-sim"))
        .args(args)
        .output()
        .expect("quorate-sim runs")
}

fn said(run: &Output) -> String {
    String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr)
}

fn json(run: &Output) -> Value {
    let text = String::from_utf8_lossy(&run.stdout);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}:\n{text}"))
}

/// A file of this test.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn story(name: &str) -> String {
    let path = file(name);
    std::fs::write(&path, STORY).expect("written");
    path.display().to_string()
}

fn picture(name: &str, source: &str) -> (PathBuf, String) {
    let page = file(name);
    let run = sim(&["view", source, "-o", &page.display().to_string()]);
    assert_eq!(run.status.code(), Some(0), "{}", said(&run));
    let text = std::fs::read_to_string(&page).expect("the page");
    (page, text)
}

#[test]
fn a_picture_stands_alone_and_is_the_same_every_time() {
    let source = story("alone.toml");
    let (_, first) = picture("alone.html", &source);
    let (_, second) = picture("alone.html", &source);
    assert_eq!(first, second);
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!first.contains(outside), "{outside} in the page");
    }
    assert!(first.contains("h2 was cut off from everybody"));
}

#[test]
fn a_hundred_thousand_entries_fit_into_three_megabytes() {
    let (_, page) = picture("large.html", "5");
    let data = page
        .split("type=\"application/json\">")
        .nth(1)
        .expect("the data");
    let data = data.split("</script>").next().expect("its end");
    let run: Value = serde_json::from_str(data).expect("JSON");
    let entries = run["entries"]["at"].as_array().expect("a column").len();
    assert!(entries > 10_000, "a run worth measuring");
    assert!(
        page.len() < 100_000 + entries * 30,
        "{} bytes, {entries} entries",
        page.len()
    );
}

/// The browser to look with, if there is one; otherwise says so where the test script shows it.
fn browser(test: &str) -> Option<&'static str> {
    let known = ["chromium", "chromium-browser", "google-chrome"];
    let works = |b: &&&str| {
        Command::new(b)
            .arg("--version")
            .output()
            .is_ok_and(|o| o.status.success())
    };
    let found = known.iter().find(works).copied();
    if found.is_none() {
        let why = "no Chromium is installed (scripts/setup.sh --browser)";
        println!("skipped: {test}: {why}");
        if let Some(path) = std::env::var_os("QUORATE_SKIPPED") {
            let mut file = std::fs::OpenOptions::new();
            let mut file = file
                .append(true)
                .create(true)
                .open(path)
                .expect("the file of skipped tests");
            writeln!(file, "{test}: {why}").expect("the file of skipped tests");
        }
    }
    found
}

#[test]
fn a_browser_shows_lanes_and_the_broken_promise() {
    let Some(browser) = browser("a_browser_shows_lanes_and_the_broken_promise") else {
        return;
    };
    let (page, _) = picture("browser.html", &story("browser.toml"));
    let profile = file("browser-profile");
    let run = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .args(["--disable-sync", "--dump-dom", "--virtual-time-budget=5000"])
        .args(["--window-size=1600,1000"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("the browser runs");
    let _ = std::fs::remove_dir_all(&profile);
    let dom = said(&run);
    assert!(
        dom.contains("data-drawn=\"yes\""),
        "the script came to its end:\n{dom}"
    );
    for lane in ["h1", "h2", "h3", "h4", "h5"] {
        assert!(
            dom.contains(&format!("data-lane=\"{lane}\"")),
            "no lane {lane}"
        );
    }
    let guests = dom.matches("class=\"guest\"").count();
    assert!(guests >= 2, "guests under their hosts");
    let mark = dom.split("<div id=\"violation\"").nth(1).expect("the mark");
    let mark = mark.split('>').next().expect("its tag");
    assert!(!mark.contains("hidden") && mark.contains("left:"), "{mark}");
    assert!(dom.contains("expectation broken"), "{dom}");
    assert!(
        dom.contains("<b>h2</b> | h1 h3 h4 h5"),
        "who was cut from whom"
    );
    assert!(dom.contains("What led to fact 1"));
}

#[test]
fn a_trace_for_viewers_has_nodes_messages_and_spans() {
    let (page, trace) = (file("chrome.html"), file("chrome.json"));
    let (page, trace) = (page.display().to_string(), trace.display().to_string());
    let source = story("chrome.toml");
    let run = sim(&["view", &source, "-o", &page, "--chrome", &trace, "--json"]);
    assert_eq!(json(&run)["chrome"], Value::from(trace.as_str()));
    let text = std::fs::read_to_string(&trace).expect("the trace");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let events = all["traceEvents"].as_array().expect("events");
    let of = |ph: &'static str| events.iter().filter(move |e| e["ph"] == ph);
    assert_eq!(of("M").filter(|e| e["name"] == "process_name").count(), 6);
    let starts: std::collections::BTreeSet<u64> =
        of("s").filter_map(|e| e["id"].as_u64()).collect();
    assert!(of("f").count() > 100);
    assert!(of("f").all(|e| e["id"].as_u64().is_some_and(|id| starts.contains(&id))));
    assert!(of("b").count() > 10 && of("b").count() == of("e").count());
    assert!(of("i").any(|e| e["cat"] == "broken promise" && e["s"] == "g"));
}

#[test]
fn an_explanation_names_the_fault() {
    let source = story("explain.toml");
    let run = sim(&["explain", &source]);
    assert_eq!(run.status.code(), Some(1), "{}", said(&run));
    let text = said(&run);
    assert!(text.contains("h2 was cut off from everybody"), "{text}");
    assert!(
        text.contains("fact 1:") && text.contains("fact 2:") && text.contains("because "),
        "{text}"
    );
    assert!(text.lines().count() <= 60, "{text}");
    let run = sim(&["explain", &source, "--json"]);
    assert_eq!(run.status.code(), Some(1));
    let faults = json(&run)["faults"].to_string();
    assert!(faults.contains("h2 is cut off from everybody"), "{faults}");
}

#[test]
fn nothing_broken_is_nothing_to_explain() {
    let quiet = file("quiet.toml");
    std::fs::write(
        &quiet,
        "[cluster]\nhosts = 3\nvoters = 3\nguests = 1\nend = 5\n",
    )
    .expect("written");
    let run = sim(&["explain", &quiet.display().to_string(), "--json"]);
    assert_eq!(run.status.code(), Some(0), "{}", said(&run));
    assert_eq!(json(&run)["violation"], Value::Null);
}

#[test]
fn runs_are_compared() {
    let source = story("diff.toml");
    let same = sim(&["diff", &source, &source, "--json"]);
    assert_eq!(same.status.code(), Some(0), "{}", said(&same));
    assert_eq!(json(&same)["same"], Value::Bool(true));
    let other = file("diff-later.toml");
    std::fs::write(&other, STORY.replace("time = 8", "time = 9")).expect("written");
    let other = other.display().to_string();
    let parted = sim(&["diff", &source, &other, "--json"]);
    assert_eq!(parted.status.code(), Some(1), "{}", said(&parted));
    let parted = json(&parted);
    let part = parted["a"].to_string();
    let fault = "8.000000 FAULT 1: h2 is cut off from everybody";
    assert!(part.contains(fault), "{part}");
    assert_eq!(parted["common"].as_array().map(Vec::len), Some(6));
}

#[test]
fn what_cannot_be_read_is_bad_input() {
    for args in [
        &["view", "no-such-file.toml"][..],
        &["explain", "no-such-file.toml"],
        &["diff", "1", "no-such-file.toml"],
        &["view", "1", "--bug", "no-such-bug"],
    ] {
        let run = sim(args);
        assert_eq!(run.status.code(), Some(2), "{args:?}: {}", said(&run));
        assert!(said(&run).contains("no-such"), "{}", said(&run));
    }
    let nowhere = file("no-such-directory").join("page.html");
    let nowhere = nowhere.display().to_string();
    let run = sim(&["view", &story("nowhere.toml"), "-o", &nowhere]);
    assert_eq!(run.status.code(), Some(2));
    assert!(said(&run).contains(&nowhere), "{}", said(&run));
}
