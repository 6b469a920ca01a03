//! A toy in the world of any protocol: every fault does what its name says.

use super::*;
use crate::harness::{Outcome, Subject, run};
use crate::world::{MS, SECOND};
use proptest::prelude::*;

/// Counts, and sends its count to everybody ten times a second; answers what it hears.
struct Toy(u64);

#[derive(Clone, Debug, PartialEq)]
enum Ball {
    Ping(u64),
    Pong,
}

impl Protocol for Toy {
    type Message = Ball;
    type Write = u64;
    type Fact = u64;
    const CLASSES: &'static [&'static str] = &["ping", "pong"];
    const BUGS: &'static [(&'static str, &'static str)] = &[
        ("storm", "every answer is answered twice"),
        ("panic", "the tenth beat panics"),
    ];

    fn class(message: &Ball) -> usize {
        usize::from(*message == Ball::Pong)
    }

    fn start(ctx: &mut Ctx<'_, Self>) -> Toy {
        ctx.set_timer(7, 100 * MS);
        ctx.set_timer(8, 50 * MS);
        ctx.cancel_timer(8);
        Toy(0)
    }

    fn restart(ctx: &mut Ctx<'_, Self>, disk: &[u64]) -> Toy {
        Toy::start(ctx);
        Toy(disk.last().copied().unwrap_or(0))
    }

    fn timer(&mut self, ctx: &mut Ctx<'_, Self>, timer: u64) {
        assert_eq!(timer, 7, "the other one was taken back");
        assert!(self.0 < 10 || !ctx.planted("panic"), "the tenth beat");
        self.0 += 1;
        ctx.persist(self.0);
        ctx.broadcast(Ball::Ping(self.0));
        ctx.tell(self.0);
        ctx.set_timer(7, 100 * MS);
    }

    fn message(&mut self, ctx: &mut Ctx<'_, Self>, from: usize, ball: Ball) {
        match ball {
            Ball::Ping(_) => ctx.send(from, Ball::Pong),
            Ball::Pong if ctx.planted("storm") => {
                ctx.send(from, Ball::Pong);
                ctx.send(from, Ball::Pong);
            }
            Ball::Pong => ctx.reached("an answer"),
        }
    }
}

fn toy<C: Promise<Toy>>() -> Test<Toy, C> {
    Test::new().with(&[Kind::ClockJump])
}

fn played(text: &str) -> Outcome {
    let test = toy::<()>();
    let plan = test.read("toy.toml", text).expect("a scenario");
    run(&test, &plan, true)
}

/// The lines of a run of three nodes for ten seconds with one step in it: milliseconds and text.
fn lines(step: &str) -> Vec<(u64, String)> {
    let outcome = played(&format!("[world]\nnodes = 3\nend = 10\n\n[[at]]\n{step}"));
    assert_eq!(outcome.violation, None);
    let one = |line: String| {
        let (time, text) = line.trim_start().split_once(' ').expect("time and text");
        let seconds: f64 = time.parse().expect("seconds");
        ((seconds * 1000.0) as u64, text.to_owned())
    };
    outcome.trace.into_iter().map(one).collect()
}

/// How many lines with this beginning there are in a stretch of milliseconds.
fn count(lines: &[(u64, String)], begins: &str, from: u64, to: u64) -> usize {
    let there = |(at, text): &&(u64, String)| (from..to).contains(at) && text.starts_with(begins);
    lines.iter().filter(there).count()
}

#[test]
fn one_seed_one_run_and_a_trace_changes_nothing() {
    let test = toy::<()>();
    for seed in [3, 4] {
        let plan = test.draw(seed);
        let (quiet, loud) = (run(&test, &plan, false), run(&test, &plan, true));
        assert_eq!((quiet.hash, quiet.events), (loud.hash, loud.events));
        assert!(quiet.trace.is_empty() && loud.trace.len() > 100);
    }
    let hash = |seed| run(&test, &test.draw(seed), false).hash;
    assert_ne!(hash(3), hash(4));
}

#[test]
fn drawn_plans_keep_their_rules_and_can_be_written_and_read() {
    let test = toy::<()>();
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let plan = test.draw(seed);
        assert_eq!(plan, test.draw(seed));
        assert!((3..=5).contains(&plan.nodes));
        let text = test.write(&plan);
        let again = test.read("drawn.toml", &text);
        assert_eq!(again.as_ref(), Ok(&plan), "{text}");
        let healed = plan.healed.expect("trouble ends");
        for step in &plan.steps {
            let stays = step.lasts.is_none();
            assert!(
                step.at <= healed && stays == (step.at == healed),
                "{step:?}"
            );
            kinds.insert(step.fault.kind());
        }
        let quiet = test.keep(&plan, &[]);
        assert_eq!(test.faults(&quiet), 0);
        assert_eq!(run(&test, &quiet, false).violation, None);
    }
    assert_eq!(kinds.len(), Kind::ALL.len(), "{kinds:?}");
    // A seed that TOML has no number for.
    let plan = Plan {
        seed: u64::MAX - 1,
        ..test.draw(1)
    };
    assert_eq!(test.read("big.toml", &test.write(&plan)), Ok(plan));
}

#[test]
fn what_is_left_out_changes_nothing_else() {
    let test = toy::<()>();
    let plan = (1..50).map(|s| test.draw(s)).find(|p| p.steps.len() > 3);
    let plan = plan.expect("some have faults");
    let kept = test.keep(&plan, &[0, 2]);
    assert_eq!(kept.steps, [plan.steps[0].clone(), plan.steps[2].clone()]);
    assert_eq!((kept.seed, kept.end), (plan.seed, plan.end));
}

#[test]
fn cuts_are_of_one_direction_or_both_and_end() {
    let l = lines("time = 3\ndo = \"cut\"\nfrom = \"n1\"\nto = \"n2\"\nfor = 2\n");
    assert_eq!(count(&l, "n2 hears n1", 3010, 5000), 0);
    assert!(count(&l, "n2 hears n1", 5000, 7000) > 18);
    assert!(count(&l, "n1 hears n2: Ping", 3010, 5000) > 18);
    let l = lines("time = 3\ndo = \"cut\"\nfrom = \"n1\"\nto = \"n2\"\nboth = true\n");
    assert_eq!(count(&l, "n1 hears n2", 3010, 10_000), 0, "it stays");
    let l = lines("time = 3\ndo = \"deaf\"\nnode = \"n3\"\n");
    assert_eq!(count(&l, "n3 hears", 3010, 10_000), 0);
    assert!(count(&l, "n1 hears n3: Ping", 3010, 10_000) > 60);
    let l = lines("time = 3\ndo = \"mute\"\nnode = \"n3\"\n");
    assert!(count(&l, "n3 hears n1", 3010, 10_000) > 60);
    assert_eq!(count(&l, "n1 hears n3", 3010, 10_000), 0);
}

#[test]
fn one_kind_of_message_can_be_stopped() {
    let step = "time = 3\ndo = \"block\"\nfrom = \"n1\"\nto = \"n2\"\nclass = \"ping\"\n";
    let l = lines(step);
    assert_eq!(count(&l, "n2 hears n1: Ping", 3010, 10_000), 0);
    assert!(count(&l, "n2 hears n1: Pong", 3010, 10_000) > 60);
}

#[test]
fn a_heal_ends_what_was_done_to_links() {
    let heal = "\n[[at]]\ntime = 4\ndo = \"heal\"\n";
    let l = lines(&format!(
        "time = 3\ndo = \"isolate\"\nnode = \"n1\"\n{heal}"
    ));
    assert_eq!(count(&l, "n1 hears", 3010, 4000), 0);
    assert!(count(&l, "n1 hears n2: Ping", 4000, 10_000) > 55);
}

#[test]
fn a_clog_ends_in_a_burst() {
    let l = lines("time = 3\ndo = \"clog\"\nnode = \"n1\"\nfor = 1\n");
    assert_eq!(count(&l, "n2 hears n1", 3010, 4000), 0);
    assert!(count(&l, "n2 hears n1: Ping", 4000, 4010) >= 10);
}

#[test]
fn a_flap_comes_and_goes_and_a_swizzle_too() {
    let l = lines("time = 3\ndo = \"flap\"\nfrom = \"n1\"\nto = \"n2\"\nperiod = 2\nfor = 4\n");
    assert_eq!(count(&l, "n2 hears n1", 3010, 4000), 0);
    assert!(count(&l, "n2 hears n1", 4000, 5000) > 8);
    assert_eq!(count(&l, "n2 hears n1", 5010, 6000), 0);
    assert!(count(&l, "n2 hears n1", 6000, 7000) > 8);
    let both = "stop = [\"n1\", \"n2\"]\nrelease = [\"n1\", \"n2\"]";
    let l = lines(&format!("time = 2\ndo = \"swizzle\"\n{both}\nfor = 4\n"));
    // n1 goes, n2 goes, n1 is back, n2 is back at the end.
    assert_eq!(count(&l, "n3 hears n1", 2010, 4000), 0);
    assert!(count(&l, "n3 hears n2", 2010, 3000) > 8);
    assert_eq!(count(&l, "n3 hears n2", 3010, 5000), 0);
    assert!(count(&l, "n3 hears n1", 4000, 5000) > 8);
    assert!(count(&l, "n3 hears n2", 6000, 7000) > 8);
}

#[test]
fn noise_loses_and_doubles_and_delay_delays() {
    let l = lines("time = 0\ndo = \"noise\"\nloss = 500000\nduplicate = 0\n");
    let heard = count(&l, "n2 hears n1: Ping", 0, 10_000);
    assert!((25..75).contains(&heard), "{heard}");
    let l = lines("time = 0\ndo = \"noise\"\nloss = 0\nduplicate = 1000000\n");
    assert!(count(&l, "n2 hears n1: Ping", 0, 10_000) > 190);
    let l = lines("time = 0\ndo = \"delay\"\njitter-ms = 0\nlong = 1000000\nlong-ms = 5000\n");
    let early = count(&l, "n2 hears n1: Ping", 0, 2000);
    assert!(early < 15, "{early} of 20 within two seconds");
}

#[test]
fn a_crash_keeps_what_was_durable_and_a_pause_keeps_all() {
    let l = lines("time = 3.05\ndo = \"crash\"\nnode = \"n1\"\nfor = 2\n");
    assert_eq!(count(&l, "n1 ", 3050, 5050), 0);
    assert_eq!(count(&l, "n1 starts again with 30 writes", 5050, 5051), 1);
    assert_eq!(count(&l, "n1 tells: 31", 5100, 5200), 1);
    let l = lines("time = 3.05\ndo = \"crash\"\nnode = \"n1\"\n");
    assert_eq!(count(&l, "n1 ", 3050, 10_000), 0, "for ever");
    let l = lines("time = 3.05\ndo = \"pause\"\nnode = \"n1\"\nfor = 2\n");
    assert_eq!(count(&l, "n1 ", 3050, 5050), 0);
    assert!(
        count(&l, "n1 hears n2: Ping", 5050, 5051) >= 19,
        "all at once"
    );
}

#[test]
fn disks_are_slow_and_clocks_jump_and_race() {
    let l = lines("time = 3\ndo = \"slow-disk\"\nnode = \"n1\"\nfrom-ms = 900\nto-ms = 900\n");
    assert_eq!(count(&l, "n1 has write", 3010, 3900), 0);
    assert!(count(&l, "n2 has write", 3010, 3900) > 7);
    let l = lines("time = 3.05\ndo = \"clock-jump\"\nnode = \"n1\"\nby = 60\n");
    assert_eq!(count(&l, "n1 timer", 3050, 3051), 1);
    let l = lines("time = 3.05\ndo = \"clock-jump\"\nnode = \"n1\"\nby = -4\n");
    assert_eq!(count(&l, "n1 timer", 3050, 7050), 0);
    assert!(count(&l, "n1 timer", 7050, 8050) >= 9);
    let rate = "do = \"clock-rate\"\nnode = \"n1\"\nppm = 100000\nfor = 5\n";
    let l = lines(&format!("time = 3\n{rate}"));
    assert_eq!(count(&l, "n1 timer", 3000, 8000), 55);
    assert_eq!(count(&l, "n1 timer", 8000, 9000), 10);
}

#[test]
fn every_shape_leaves_the_links_of_its_name() {
    let left = |shape, n: usize, one_way| {
        let order: Vec<usize> = (0..n).rev().collect();
        let fault = Fault::Shape {
            shape,
            order,
            one_way,
        };
        n * (n - 1) - fault.cuts(n, 0, SECOND).len()
    };
    assert_eq!(left(Shape::Chain, 4, false), 6);
    assert_eq!(left(Shape::Chain, 4, true), 6 + 3);
    assert_eq!(left(Shape::Star, 5, false), 8);
    assert_eq!(left(Shape::Ring, 5, false), 10);
    assert_eq!(left(Shape::Bridge, 5, false), 12);
    let only = Fault::Only(vec![(0, 1), (1, 2)]);
    assert_eq!(only.cuts(3, 0, SECOND), [(0, 2), (1, 0), (2, 0), (2, 1)]);
    let groups = Fault::Partition(vec![vec![0], vec![1]]);
    assert_eq!(
        groups.cuts(3, 0, SECOND),
        [(0, 1), (1, 0)],
        "n3 is left alone"
    );
}

/// Says what it sees at the end, as a broken promise.
#[derive(Default)]
struct Sees(u32);

impl Promise<Toy> for Sees {
    fn watch(&mut self, _node: usize, truth: &Truth<'_, Toy>) -> Verdict {
        self.0 += u32::from(truth.healed().is_some());
        Ok(())
    }

    fn due(&mut self, truth: &Truth<'_, Toy>) -> Verdict {
        let nodes: Vec<u64> = truth.up().map(|(_, toy)| toy.0).collect();
        assert!(nodes.iter().all(|n| *n > 50) && self.0 > 100);
        assert!(truth.disk(0).len() > 50 && truth.reading(0) > truth.now());
        let (hub, passes) = (truth.hub(), truth.passes(0, 1));
        Err(Broken::new("seen", format!("{hub:?} {passes}")).facts(truth.nodes(), "two"))
    }
}

#[test]
fn what_is_owed_is_asked_for_when_a_quorum_is_linked() {
    let test = toy::<Sees>();
    let seen = |steps: &str| {
        let text = format!("[world]\nnodes = 3\nhealed = 5\nend = 10\n{steps}");
        let plan = test.read("sees.toml", &text).expect("a scenario");
        run(&test, &plan, false)
            .violation
            .map(|v| (v.what, v.at, v.facts))
    };
    let facts = |hub: &str| {
        (
            hub.to_owned(),
            10 * SECOND,
            ["3".to_owned(), "two".to_owned()],
        )
    };
    let step = |time: u32, rest: &str| format!("\n[[at]]\ntime = {time}\ndo = {rest}\n");
    assert_eq!(seen("").map(|s| s.0), Some("Some(0) true".into()));
    let cut = step(5, "\"cut\"\nfrom = \"n1\"\nto = \"n2\"");
    assert_eq!(seen(&cut).map(|s| s.0), Some(facts("Some(0) false").0));
    let alone = step(4, "\"isolate\"\nnode = \"n1\"");
    assert_eq!(seen(&alone).map(|s| s.0), Some("Some(1) false".into()));
    // Nobody has two links, and then nothing is owed.
    let nobody = step(
        5,
        "\"only\"\nlinks = [[\"n1\", \"n2\"], [\"n2\", \"n3\"], [\"n3\", \"n1\"]]",
    );
    assert_eq!(seen(&nobody), None);
    // What lasts beyond the healing ends with it.
    let long = step(4, "\"isolate\"\nnode = \"n1\"\nfor = 90");
    assert_eq!(seen(&long).map(|s| s.0), Some("Some(0) true".into()));
}

#[test]
fn a_storm_and_a_panic_are_found_and_reached_is_counted() {
    let test = toy::<()>();
    let plan = Plan {
        end: 3 * SECOND,
        ..Plan::new(1, 3)
    };
    let broken = |bug| {
        test.plant(bug);
        let outcome = run(&test, &plan, false);
        test.plant(None);
        (outcome.violation.map(|v| v.property), outcome.exposure)
    };
    assert_eq!(broken(Some("storm")).0, Some("bounded"));
    assert_eq!(broken(Some("panic")).0, Some("panic"));
    let (clean, exposure) = broken(None);
    assert_eq!(clean, None);
    assert!(exposure.of("reached: an answer") > 100 && exposure.of("messages") > 200);
    assert_eq!(
        exposure.0.get("fault: flap"),
        Some(&0),
        "what was never done is listed"
    );
}

#[test]
fn a_test_that_is_broken_by_default_can_be_whole() {
    let test = toy::<()>().broken_by("panic");
    let names: Vec<&str> = test.bugs().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["storm", "panic", "none"]);
    let plan = Plan {
        end: 3 * SECOND,
        ..Plan::new(1, 3)
    };
    assert!(run(&test, &plan, false).violation.is_some());
    test.plant(Some("none"));
    let whole = run(&test, &plan, false).violation;
    test.plant(None);
    assert_eq!(whole, None);
}

#[test]
fn simpler_plans_are_sound_and_come_to_an_end() {
    let test = toy::<()>().nodes(2..=5).trouble(5 * SECOND);
    for seed in 1..8 {
        let mut plan = test.draw(seed);
        let before = plan.steps.len();
        // Whoever takes every step that is offered arrives.
        for turn in 0.. {
            assert!(turn < 3000, "seed {seed} goes on for ever");
            let offers = test.simpler(&plan);
            for offer in &offers {
                assert!(offer.steps.len() <= plan.steps.len() && offer.nodes >= 2);
                assert!(
                    offer.steps.windows(2).all(|w| w[0].at <= w[1].at),
                    "{offer:?}"
                );
                assert_ne!(*offer, plan);
                // A promise of progress keeps its time to settle.
                assert!(
                    offer
                        .healed
                        .is_none_or(|healed| offer.end - healed >= 10 * SECOND),
                    "{offer:?}"
                );
            }
            match offers.into_iter().next_back() {
                Some(offer) => plan = offer,
                None => break,
            }
        }
        let text = test.write(&plan);
        assert_eq!(test.read("end.toml", &text).as_ref(), Ok(&plan), "{text}");
        assert!(plan.steps.len() <= before);
    }
}

#[test]
fn a_two_way_cut_is_weakened_to_one_way() {
    let test = toy::<()>();
    let isolate = |side| Fault::Isolate { node: 0, side };
    let plan = |fault| Plan {
        steps: vec![Step {
            at: SECOND,
            lasts: Some(SECOND),
            fault,
        }],
        ..Plan::new(1, 3)
    };
    let offers = |fault| {
        let offers = test.simpler(&plan(fault)).into_iter();
        offers.map(|p| p.steps[0].fault.clone()).collect::<Vec<_>>()
    };
    let cut = |from, to, both| Fault::Cut { from, to, both };
    assert!(offers(cut(0, 1, true)).contains(&cut(1, 0, false)));
    let weaker = offers(isolate(Side::Both));
    assert!(weaker.contains(&isolate(Side::In)) && weaker.contains(&cut(0, 2, true)));
    assert!(!weaker.contains(&cut(1, 2, false)), "it never cut that");
    let split = Fault::Partition(vec![vec![0], vec![1, 2]]);
    assert!(offers(split).contains(&isolate(Side::Both)));
}

#[test]
fn bad_input_is_answered_with_its_place() {
    let world = "[world]\nnodes = 3\n";
    let step = |rest: &str| format!("{world}[[at]]\ntime = 1\n{rest}");
    let cases: &[(String, usize, &str)] = &[
        ("".into(), 1, "no [world]"),
        ("[world]\n".into(), 1, "no `nodes`"),
        (
            "[world]\nnodes = 0\n".into(),
            2,
            "nodes is 0; allowed: a whole number from 1 to 64",
        ),
        (
            "[world]\nnodes = 3\nhosts = 3\n".into(),
            3,
            "key \"hosts\" is unknown",
        ),
        ("[world]\nnodes = 3 3\n".into(), 2, ""),
        (
            format!("{world}clock-ppm = [1, 2]\n"),
            3,
            "expected 3, one for each node",
        ),
        (format!("{world}[[at]]\ndo = \"heal\"\n"), 3, "no `time`"),
        (step(""), 3, "no `do`; allowed: cut, isolate"),
        (
            step("do = \"explode\"\n"),
            5,
            "do \"explode\"; allowed: cut",
        ),
        (step("do = \"cut\"\nfrom = \"n1\"\n"), 3, "cut needs `to`"),
        (
            step("do = \"isolate\"\nnode = \"n4\"\n"),
            6,
            "node \"n4\"; allowed: n1 to n3",
        ),
        (
            step("do = \"heal\"\nnode = \"n1\"\n"),
            6,
            "key \"node\" is unknown",
        ),
        (
            step("do = \"block\"\nfrom = \"n1\"\nto = \"n2\"\nclass = \"x\"\n"),
            8,
            "ping, pong, session",
        ),
        (
            step("do = \"ring\"\norder = [\"n1\", \"n2\", \"n3\"]\n"),
            5,
            "ring needs 4 nodes",
        ),
        (
            step("do = \"chain\"\norder = [\"n1\", \"n2\", \"n2\"]\n"),
            6,
            "each of n1 to n3 once",
        ),
        (
            step("do = \"only\"\nlinks = [[\"n1\"]]\n"),
            6,
            "a link is [from, to]",
        ),
        (step("do = \"only\"\nlinks = [1]\n"), 6, "a list of nodes"),
        (
            step("do = \"flap\"\nfrom = \"n1\"\nto = \"n2\"\nperiod = 0.001\n"),
            8,
            "period",
        ),
        (
            step("do = \"clock-rate\"\nnode = \"n1\"\nppm = \"fast\"\n"),
            7,
            "numbers from",
        ),
        (
            step("do = \"heal\"\n[[at]]\ntime = 0.5\ndo = \"heal\"\n"),
            7,
            "time goes back",
        ),
        (
            format!(
                "[world]\nnodes = 3\nhealed = 0.5\n{}",
                &step("do = \"heal\"\n")[world.len()..]
            ),
            3,
            "healed at 0.5 s",
        ),
        (
            format!(
                "[world]\nnodes = 3\nend = 0.5\n{}",
                &step("do = \"heal\"\n")[world.len()..]
            ),
            3,
            "end is 0.5 s",
        ),
    ];
    for (text, line, said) in cases {
        let bad = toy::<()>().read("bad.toml", text).expect_err(text);
        let at = format!("bad.toml:{line}:");
        let all = bad.to_string();
        assert!(all.starts_with(&at) && all.contains(said), "{text}\n{all}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(\\[\\[?[a-z]{1,5}\\]?\\]\n|[a-z-]{1,6} = [-0-9.\"n\\[\\], a-z]{0,12}\n){0,12}") {
        let _ = toy::<()>().read("any.toml", &text);
    }

    #[test]
    fn no_change_of_one_word_makes_the_reader_or_the_run_panic(
        seed in 0u64..40, at in 0usize..4000, word in "[-0-9a-z\"\\[\\].,=\n ]{0,6}"
    ) {
        let test = toy::<()>().trouble(2 * SECOND).settle(SECOND);
        let mut text = test.write(&test.draw(seed));
        let at = at % text.len();
        text.replace_range(at..(at + word.len()).min(text.len()), &word);
        if let Ok(plan) = test.read("changed.toml", &text)
            && plan.end < 20 * SECOND && plan.nodes < 8
        {
            let outcome = run(&test, &plan, false);
            prop_assert_ne!(outcome.violation.map(|v| v.property), Some("panic"), "{}", text);
        }
    }
}
