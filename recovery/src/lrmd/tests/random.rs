//! Whatever the looks are and in whatever order they come: no verdict of a hang without its time of
//! agreeing evidence, and none by the silence of an agent.

use super::*;
use proptest::prelude::*;

fn agent() -> impl Strategy<Value = Agent> {
    prop_oneof![
        2 => Just(Agent::Answered),
        6 => Just(Agent::Silent),
        2 => Just(Agent::None),
        1 => Just(Agent::Frozen),
    ]
}

/// A stretch of looks of one kind; most look dead.
fn stretch() -> impl Strategy<Value = Phase> {
    let counters = (
        prop_oneof![4 => Just(980u64), 2 => Just(0), 1 => Just(50), 1 => Just(500)],
        prop_oneof![6 => Just(Some(0u64)), 1 => Just(None), 1 => Just(Some(600)), 1 => Just(Some(100))],
        prop_oneof![6 => Just(Some(0u64)), 1 => Just(Some(4)), 1 => Just(None)],
        prop_oneof![6 => Just(Some(0u64)), 1 => Just(Some(1)), 1 => Just(None)],
        agent(),
    );
    let around = (
        prop_oneof![10 => Just(None), 1 => Just(Some(Held::Told)), 1 => Just(Some(Held::Move))],
        proptest::bool::weighted(0.05),
        prop_oneof![8 => Just(2000u64), 1 => Just(4000), 1 => Just(7000)],
        prop_oneof![10 => Just(50u64), 1 => Just(2500)],
        proptest::bool::weighted(0.05),
        proptest::bool::weighted(0.05),
        1..20u64,
    );
    (counters, around).prop_map(
        |((cpu, wait, disk, packets, agent), (held, job, every, late, ours, crowded, looks))| {
            Phase {
                seconds: looks * every / 1000,
                cpu,
                wait,
                disk,
                packets,
                agent,
                held,
                job,
                every,
                late,
                ours,
                crowded,
            }
        },
    )
}

/// Evidence by a second, simpler reading: time of looks in a row that nothing speaks against.
#[derive(Default)]
struct Reading {
    before: Option<Phase>,
    agreeing: u64,
    known: (bool, bool),
}

impl Reading {
    fn look(&mut self, p: &Phase) {
        let odd_ends = |x: &Phase| x.held.is_some() || x.job || x.ours || x.agent == Agent::Frozen;
        let known = |x: &Phase| (x.disk.is_some(), x.packets.is_some());
        let (now, then) = (known(p), self.before.as_ref().map_or((false, false), known));
        let both = (now.0 && then.0, now.1 && then.1);
        self.known = (self.known.0 || both.0, self.known.1 || both.1);
        let void = self.before.as_ref().is_none_or(odd_ends)
            || odd_ends(p)
            || both != self.known
            || p.every > 6000
            || p.late > 2000;
        let active = p.disk.unwrap_or(0) > 0 || p.packets.unwrap_or(0) > 0;
        // How long it waited is known only between two looks that both say so.
        let wait = p
            .wait
            .filter(|_| self.before.is_some_and(|b| b.wait.is_some()));
        let starved = wait.map_or(p.crowded, |w| w > 300 || p.cpu <= 5 && w > 5);
        if void || active || p.agent == Agent::Answered {
            self.agreeing = 0;
        } else if !starved {
            self.agreeing += p.every;
        }
        self.before = Some(*p);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_verdict_without_its_time_of_agreeing_evidence(
        with_agent in any::<bool>(),
        stretches in proptest::collection::vec(stretch(), 1..20),
    ) {
        let mut story = Story::new();
        let mut reading = Reading::default();
        let first = if with_agent { well(120) } else { alone(120) };
        for phase in std::iter::once(first).chain(stretches) {
            let one = Phase { seconds: phase.every / 1000, ..phase };
            for _ in 0..phase.seconds / one.seconds {
                let failed = story.live(one);
                reading.look(&one);
                if matches!(failed, Some((_, Failure::Hung(_)))) {
                    prop_assert!(reading.agreeing >= 20_000, "{} ms at {one:?}", reading.agreeing);
                }
            }
        }
    }

    #[test]
    fn the_silence_of_an_agent_is_never_enough(
        stretches in proptest::collection::vec(
            (1..60u64, 6..890u64, 0..5u64, any::<bool>(), agent()), 1..20),
    ) {
        let mut story = Story::new();
        story.live(well(60));
        for (seconds, cpu, disk, wrote, agent) in stretches {
            // It works at something, or its CPU is neither idle nor pinned.
            let p = Phase { cpu, wait: Some(0), agent, disk: Some(disk), packets: Some(u64::from(wrote)), ..well(seconds * 2) };
            prop_assert_eq!(story.live(p), None);
        }
    }
}
