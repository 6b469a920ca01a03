//! What a bad scenario is answered with.

use super::*;
use crate::cluster::action::{Action, Who};

const HEAD: &str = "[cluster]\nhosts = 4\nvoters = 3\nguests = 2\n";

fn refused(rest: &str) -> String {
    let text = format!("{HEAD}{rest}");
    parse("story.toml", &text).expect_err("bad").to_string()
}

#[test]
fn a_story_becomes_a_plan() {
    let text = format!(
        "{HEAD}[[at]]\ntime = 12.5\ndo = \"isolate\"\nhost = \"host-of-g2\"\n\
         [[expect]]\nby = 30\nguest = \"g1\"\nruns = true\n"
    );
    let plan = parse("story.toml", &text).expect("good");
    assert_eq!(
        plan.timeline,
        [(12_500_000_000, Action::Isolate(Who::HostOf(1)))]
    );
    assert_eq!((plan.expect[0].line, plan.expect[0].at), (9, 30 * SECOND));
    assert_eq!(plan.end, 31 * SECOND);
}

#[test]
fn every_mistake_is_answered_with_its_line_and_what_is_allowed() {
    let step = "[[at]]\ntime = 1\n";
    for (rest, line, found, allowed) in [
        (
            format!("{step}do = \"isolat\"\n"),
            7,
            "\"isolat\"",
            "isolate,",
        ),
        (
            format!("{step}do = \"isolate\"\nhost = \"h5\"\n"),
            8,
            "\"h5\"",
            "h1 to h4",
        ),
        (
            format!("{step}do = \"isolate\"\n"),
            5,
            "isolate",
            "needs `host`",
        ),
        (
            format!("{step}do = \"heal\"\nhots = \"h1\"\n"),
            8,
            "\"hots\"",
            "time, do",
        ),
        ("[[at]]\ndo = \"heal\"\n".into(), 5, "no `time`", "seconds"),
        (
            "[[at]]\ntime = \"x\"\ndo = \"heal\"\n".into(),
            6,
            "\"x\"",
            "seconds from 0",
        ),
        (
            "[[expect]]\nby = 3\n".into(),
            5,
            "expects nothing",
            "all-run",
        ),
        (
            "[[expect]]\nby = 3\nguest = \"g3\"\n".into(),
            7,
            "\"g3\"",
            "g1 to g2",
        ),
        ("[[expect]]\nall-run = true\n".into(), 5, "`by`", "`after`"),
        ("[what]\n".into(), 5, "\"what\"", "cluster, at, expect"),
        ("x = = 1\n".into(), 5, "", ""),
    ] {
        let e = refused(&rest);
        let place = format!("story.toml:{line}:");
        assert!(e.starts_with(&place), "{e}\nshould be on line {line}");
        assert!(e.contains(found) && e.contains(allowed), "{e}");
    }
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    let of = |text: &str| parse("f", text).expect_err("bad").to_string();
    assert!(of("").contains("[cluster]"));
    assert!(of("[cluster]\nvoters = 5\nhosts = 4\n").contains("5 voters"));
    assert!(of("[cluster]\nvoters = 0\n").contains("1 to 7"));
    assert!(of("[cluster]\ntiming = \"slow\"\n").contains("fast, default"));
    assert!(of("[cluster]\ndevices = \"fine\"\n").contains("gone"));
    assert!(of("[cluster]\nclock-ppm = [true]\n").contains("numbers from"));
}

#[test]
fn a_mistake_is_named_by_its_column_in_characters() {
    let e = refused("[[at]]\ntime = 1\ndo = \"ä\" # ä\n");
    assert!(e.starts_with("story.toml:7:6: do"), "{e}");
    let e = refused("[[at]]\ntime = 1\n\"ä\" = 1\ndo = \"heal\"\n");
    assert!(e.starts_with("story.toml:7:1: key"), "{e}");
}

#[test]
fn time_that_goes_back_is_refused_where_it_does() {
    let e = refused("[[at]]\ntime = 5\ndo = \"heal\"\n[[at]]\ntime = 4.5\ndo = \"heal\"\n");
    assert!(e.starts_with("story.toml:9:8: "), "{e}");
    assert!(
        e.contains("back to 4.5 s") && e.contains("5 s or later"),
        "{e}"
    );
}

#[test]
fn every_drawn_plan_can_be_written_and_read_back() {
    for seed in (0..500).chain([u64::MAX]) {
        let plan = crate::cluster::draw::plan(seed);
        let text = write(&plan);
        let back = parse("drawn.toml", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(back, plan, "seed {seed}\n{text}");
    }
}

#[test]
fn what_was_read_back_runs_to_the_same_hash() {
    use crate::harness::Subject;
    let run = |plan: &Plan| crate::cluster::Cluster.run(plan, false).hash;
    for seed in 1..6 {
        let plan = crate::cluster::draw::plan(seed);
        let back = parse("drawn.toml", &write(&plan)).expect("read back");
        assert_eq!(run(&plan), run(&back), "seed {seed}");
    }
}

#[test]
fn every_story_can_be_written_and_read_back() {
    let stories = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    for entry in std::fs::read_dir(stories).expect("scenarios").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "toml") {
            let text = std::fs::read_to_string(&path).expect("readable");
            let plan = parse(&path.to_string_lossy(), &text).unwrap_or_else(|e| panic!("{e}"));
            let text = write(&plan);
            let back = parse("again.toml", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(back, plan, "{}\n{text}", path.display());
        }
    }
}
