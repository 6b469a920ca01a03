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
            "time, when, do",
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
    assert!(of("[cluster]\noutlets = [1]\n").contains("one for each host"));
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
fn steps_that_cannot_be_are_refused_where_they_stand() {
    let step = |rest: &str| refused(&format!("[[at]]\ntime = 1\n{rest}"));
    let two = "[cluster]\nhosts = 2\nvoters = 2\n[[at]]\ntime = 1\ndo = \"bridge\"\n";
    let e = parse("f", two).expect_err("bad").to_string();
    assert!(e.starts_with("f:6:6: bridge of 2 hosts; expected 3"), "{e}");
    let e = step("do = \"cut\"\nfrom = \"h1\"\nto = \"h2\"\nnet = 1\n");
    assert!(e.contains(":10:7: net is 1") && e.contains("0 to 0"), "{e}");
    let e = step("do = \"partition\"\ngroups = [[\"h1\"], [\"h2\", \"h1\"]]\n");
    assert!(e.contains(":8:26: ") && e.contains("two groups"), "{e}");
    let e = step("do = \"isolate\"\nhost = \"that-host\"\n");
    assert!(e.contains(":8:8: that-host"), "{e}");
    let e = step("when = \"verdict\"\ndo = \"heal\"\n");
    assert!(e.contains("not both"), "{e}");
    let e = refused("[[at]]\nwhen = \"verdict\"\nof = \"g1\"\ndo = \"heal\"\n");
    assert!(e.contains(":7:6: ") && e.contains("h1 to h4"), "{e}");
    let e = refused("[[at]]\nwhen = \"noon\"\ndo = \"heal\"\n");
    assert!(
        e.contains(":6:8: ") && e.contains("coordinator-changes, "),
        "{e}"
    );
}

#[test]
fn an_unsafe_timing_is_refused_with_the_promise_it_breaks() {
    let of = |rest: &str| {
        let text = format!("[cluster]\nhosts = 3\n[cluster.timing]\n{rest}");
        parse("f", &text).expect_err("bad").to_string()
    };
    let e = of("takeover = 5\n");
    assert!(e.contains("not safe") && e.contains("S3"), "{e}");
    assert!(of("watchdog = 0\n").starts_with("f:4:12: watchdog is below"));
    assert!(of("profile = \"slow\"\n").contains("fast, default"));
}

#[test]
fn what_needs_something_is_listed_and_not_run() {
    let text = "needs = \"wings\"\n[cluster]\nhosts = 3\n[[at]]\ntime = 1\ndo = \"fly\"\n";
    assert_eq!(needs("f", text), Ok(Some("wings".into())));
    let e = parse("f", text).expect_err("not run").to_string();
    assert!(e.starts_with("f:1:9: ") && e.contains("wings"), "{e}");
    assert_eq!(needs("f", "[cluster]\nhosts = 3\n"), Ok(None));
    assert!(needs("f", "needs = 3\n[cluster]\n").is_err());
}

#[test]
fn every_drawn_plan_can_be_written_and_read_back() {
    use crate::cluster::draw::{self, aimed};
    let swarm = (0..500).chain([u64::MAX]).map(draw::plan);
    let mixes = aimed::MIXES.iter().flat_map(|(mix, _)| {
        let drawn = (1..30).map(move |seed| aimed::aimed(mix, seed));
        drawn.map(|plan| plan.expect("a mix"))
    });
    for plan in swarm.chain(mixes) {
        let text = write(&plan);
        let back = parse("drawn.toml", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(back, plan, "seed {}\n{text}", plan.seed);
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
            if needs("f", &text).expect("a scenario").is_some() {
                continue;
            }
            let plan = parse(&path.to_string_lossy(), &text).unwrap_or_else(|e| panic!("{e}"));
            let text = write(&plan);
            let back = parse("again.toml", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(back, plan, "{}\n{text}", path.display());
        }
    }
}

/// Bits of scenarios, to be put where they do not belong.
const BITS: &[&str] = &[
    "[[at]]",
    "[cluster]",
    "[cluster.timing]",
    "[[expect]]",
    "time = 1",
    "when = \"verdict\"",
    "of = \"g1\"",
    "do = \"ring\"",
    "do = \"cut\"",
    "host = \"h9\"",
    "hosts = 8",
    "hosts = 1",
    "voters = 7",
    "guests = 0",
    "\u{e4}",
    "\"",
    "[",
    "]",
    "=",
    "\n",
    "-1",
    "1e300",
    "nan",
    "inf",
    "0x7fffffffffffffff",
    "[[\"h1\"]]",
    "groups = [[]]",
    "violation = []",
    "agents = []",
    "timing = {}",
    "net = 7",
    "1979-05-27",
    "for = 0",
];

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,200}") {
        let _ = (parse("f", &text), needs("f", &text));
    }

    #[test]
    fn no_broken_scenario_makes_the_reader_panic(
        seed in 0u64..1000, cuts in proptest::collection::vec((0usize..10_000, 0usize..40, 0..BITS.len()), 1..6)
    ) {
        let mut text: Vec<char> = write(&crate::cluster::draw::plan(seed)).chars().collect();
        for (at, length, bit) in cuts {
            let from = at % text.len();
            let to = (from + length).min(text.len());
            text.splice(from..to, BITS[bit].chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(e) = parse("f", &text) {
            proptest::prop_assert!(e.line >= 1 && e.column >= 1 && !e.what.is_empty());
        }
        let _ = needs("f", &text);
    }
}
