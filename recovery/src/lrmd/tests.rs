//! The judge, one story each, in virtual time.

use super::*;

mod others;
mod random;
use crate::observation::{Agent, GuestEvent, HostHealth, Observation, Sample};
use std::collections::VecDeque;

/// What a guest and its host do for a while, by the second.
#[derive(Clone, Copy, Debug)]
struct Phase {
    seconds: u64,
    /// CPU time and time waited for a CPU, in thousandths of one CPU.
    cpu: u64,
    wait: Option<u64>,
    disk: Option<u64>,
    packets: Option<u64>,
    agent: Agent,
    held: Option<Held>,
    job: bool,
    /// Between two looks, in milliseconds.
    every: u64,
    /// How much later a look is taken in hand.
    late: u64,
    /// This cluster holds it.
    ours: bool,
    crowded: bool,
}

/// A guest with an agent that writes and sends a little all the time.
const fn well(seconds: u64) -> Phase {
    Phase {
        seconds,
        cpu: 50,
        wait: Some(10),
        disk: Some(4),
        packets: Some(1),
        agent: Agent::Answered,
        held: None,
        job: false,
        every: 2000,
        late: 50,
        ours: false,
        crowded: false,
    }
}

/// The same without an agent.
const fn alone(seconds: u64) -> Phase {
    Phase {
        agent: Agent::None,
        ..well(seconds)
    }
}

/// A kernel that is dead and spins.
const fn dead(seconds: u64) -> Phase {
    Phase {
        cpu: 980,
        disk: Some(0),
        packets: Some(0),
        agent: Agent::Silent,
        ..well(seconds)
    }
}

/// The same, halted.
const fn halted(seconds: u64) -> Phase {
    Phase {
        cpu: 0,
        wait: Some(0),
        ..dead(seconds)
    }
}

/// A guest that has nothing to do, with an agent.
const fn idle(seconds: u64) -> Phase {
    Phase {
        cpu: 2,
        wait: Some(0),
        disk: Some(0),
        packets: Some(0),
        ..well(seconds)
    }
}

/// A guest that only computes, with an agent.
const fn computing(seconds: u64) -> Phase {
    Phase {
        cpu: 1000,
        ..idle(seconds)
    }
}

struct Story {
    watch: Watch,
    now: Time,
    sample: Sample,
    policy: Policy,
    running_since: Time,
    reports: Vec<Report>,
}

impl Story {
    fn new() -> Story {
        let now = Time::from_millis(1_000_000);
        Story {
            watch: Watch::new(now, VecDeque::new()),
            now,
            sample: Sample {
                at: now,
                held: None,
                vcpus: 2,
                cpu_ns: 0,
                wait_ns: None,
                disk_requests: None,
                packets_sent: None,
                agent: Agent::None,
                job: None,
            },
            policy: Policy::default(),
            running_since: now,
            reports: Vec::new(),
        }
    }

    fn context(&self, ours: bool, crowded: bool) -> (Policy, Option<Time>, bool) {
        let steady = (!ours).then_some(self.running_since);
        (self.policy, steady, crowded)
    }

    fn take(&mut self, seen: &Observation, ours: bool, crowded: bool) -> Option<Failure> {
        let (policy, steady, crowded) = self.context(ours, crowded);
        let c = Context {
            now: self.now,
            policy: &policy,
            probe_failures: Some(3),
            steady,
            crowded,
            elsewhere: true,
        };
        self.watch.take(&c, seen);
        self.reports.extend(self.watch.report(self.now));
        self.watch.failure(&c)
    }

    fn event(&mut self, event: GuestEvent) -> Option<Failure> {
        self.take(&Observation::Event(event), false, false)
    }

    /// Lives through a phase; gives after how many seconds of it the guest failed, and how.
    fn live(&mut self, p: Phase) -> Option<(u64, Failure)> {
        let begun = self.now;
        let looks = p.seconds * 1000 / p.every;
        for _ in 0..looks {
            let ns = p.every * 1_000_000;
            let s = &mut self.sample;
            s.at = self.now + Duration::from_nanos(ns);
            let rise = |n: Option<u64>, by: Option<u64>| {
                by.map(|by| n.unwrap_or(1000) + by * p.every / 1000)
            };
            s.cpu_ns += p.cpu * ns / 1000;
            s.wait_ns = p.wait.map(|w| s.wait_ns.unwrap_or(0) + w * ns / 1000);
            s.disk_requests = rise(s.disk_requests, p.disk);
            s.packets_sent = rise(s.packets_sent, p.packets);
            (s.agent, s.held) = (p.agent, p.held);
            s.job = p.job.then(|| "backup".to_owned());
            self.now = s.at + Duration::from_millis(p.late);
            let seen = Observation::Sample(self.sample.clone());
            if let Some(failure) = self.take(&seen, p.ours, p.crowded) {
                return Some((self.now.since(begun).as_secs(), failure));
            }
            if p.ours {
                self.running_since = self.now;
            }
            self.now = self.sample.at;
        }
        None
    }
}

/// After the last phase begins, the guest is said to hang within these seconds, or never.
type Expect = Option<(u64, u64)>;

#[test]
fn a_hang_is_said_when_signs_agree_and_never_else() {
    let computing_alone = Phase {
        agent: Agent::None,
        ..computing(0)
    };
    let starved = |p: Phase| Phase {
        cpu: p.cpu / 3,
        wait: Some(600),
        ..p
    };
    let waiting = |p: Phase| Phase {
        wait: Some(100),
        ..p
    };
    let stories: Vec<(&str, Vec<Phase>, Expect)> = vec![
        // Both methods.
        (
            "kernel dead, spinning, with an agent",
            vec![well(60), dead(40)],
            Some((20, 28)),
        ),
        (
            "kernel dead, halted, with an agent",
            vec![well(60), halted(40)],
            Some((20, 28)),
        ),
        (
            "kernel dead, spinning, agent never there, always at work for longer than ten minutes",
            vec![
                alone(700),
                Phase {
                    agent: Agent::None,
                    ..dead(140)
                },
            ],
            Some((120, 128)),
        ),
        (
            "a guest without an agent begins to compute after two minutes of work",
            vec![
                alone(120),
                Phase {
                    agent: Agent::None,
                    ..dead(600)
                },
            ],
            None,
        ),
        (
            "a guest without an agent computes for a minute and a half after long work",
            vec![
                alone(700),
                Phase {
                    agent: Agent::None,
                    ..dead(90)
                },
                alone(60),
            ],
            None,
        ),
        (
            "it computed for a while with its agent answering, and dies spinning later",
            vec![well(60), computing(20), well(60), dead(40)],
            Some((20, 28)),
        ),
        (
            "its host was busy and its agent answered now and then; later it dies spinning",
            vec![
                well(60),
                starved(computing(2)),
                starved(dead(8)),
                starved(computing(2)),
                starved(dead(8)),
                starved(computing(2)),
                starved(dead(8)),
                starved(computing(2)),
                well(20),
                dead(40),
            ],
            Some((20, 28)),
        ),
        (
            "kernel dead, halted, agent never there, always at work for longer than ten minutes",
            vec![
                alone(700),
                Phase {
                    agent: Agent::None,
                    ..halted(40)
                },
            ],
            Some((20, 28)),
        ),
        (
            "an idle guest that dies spinning",
            vec![idle(120), dead(40)],
            Some((20, 28)),
        ),
        (
            "dead on a machine where it must wait now and then",
            vec![
                well(60),
                Phase {
                    cpu: 840,
                    wait: Some(140),
                    ..dead(40)
                },
            ],
            Some((20, 28)),
        ),
        (
            "dead, then starved by others for a while: the evidence stands still, and is kept",
            vec![well(60), dead(12), starved(dead(60)), dead(30)],
            Some((8, 14)),
        ),
        (
            "dead and halted, then made to wait for a moment: no sign of life either",
            vec![well(60), halted(12), waiting(halted(2)), halted(30)],
            Some((8, 14)),
        ),
        (
            "dead, asked only at every second look",
            vec![
                well(60),
                dead(2),
                Phase {
                    agent: Agent::None,
                    ..dead(2)
                },
                dead(2),
                Phase {
                    agent: Agent::None,
                    ..dead(2)
                },
                dead(2),
                dead(40),
            ],
            Some((12, 28)),
        ),
        // Agent silence is not death.
        (
            "agent stopped, the guest works on",
            vec![
                well(60),
                Phase {
                    agent: Agent::Silent,
                    ..well(3600)
                },
            ],
            None,
        ),
        (
            "agent stopped in an idle guest",
            vec![
                idle(120),
                Phase {
                    agent: Agent::Silent,
                    ..idle(3600)
                },
            ],
            None,
        ),
        (
            "agent stopped in a computing guest",
            vec![
                computing(120),
                Phase {
                    agent: Agent::Silent,
                    ..computing(3600)
                },
            ],
            None,
        ),
        (
            "agent stopped long ago, then the guest computes without writing",
            vec![
                well(60),
                Phase {
                    agent: Agent::Silent,
                    cpu: 20,
                    disk: Some(0),
                    packets: Some(0),
                    ..well(600)
                },
                dead(600),
            ],
            None,
        ),
        (
            "agent stopped long ago in an idle guest, then it computes",
            vec![
                idle(120),
                Phase {
                    agent: Agent::Silent,
                    ..idle(600)
                },
                dead(600),
            ],
            None,
        ),
        (
            "agent never answered in this life, nothing learned",
            vec![dead(600)],
            None,
        ),
        // An agent that answers is life.
        (
            "computing at 100 % with an agent",
            vec![well(60), computing(600)],
            None,
        ),
        ("idle with an agent", vec![well(60), idle(600)], None),
        // Counters alone.
        (
            "an idle guest without an agent",
            vec![Phase {
                agent: Agent::None,
                ..idle(600)
            }],
            None,
        ),
        (
            "a guest without an agent has finished its work and idles",
            vec![
                alone(300),
                Phase {
                    agent: Agent::None,
                    ..idle(600)
                },
            ],
            None,
        ),
        (
            "a guest without an agent that always computes",
            vec![
                alone(10),
                Phase {
                    seconds: 600,
                    ..computing_alone
                },
                Phase {
                    seconds: 600,
                    ..computing_alone
                },
            ],
            None,
        ),
        (
            "a guest that computes all the time and stops writing",
            vec![
                Phase {
                    cpu: 1000,
                    ..alone(300)
                },
                Phase {
                    seconds: 600,
                    ..computing_alone
                },
            ],
            None,
        ),
        (
            "work now and then, then computing without an agent",
            vec![
                alone(70),
                Phase {
                    agent: Agent::None,
                    ..idle(30)
                },
                alone(30),
                Phase {
                    seconds: 600,
                    ..computing_alone
                },
            ],
            None,
        ),
        (
            "a boot that reads and then computes a key",
            vec![
                alone(50),
                Phase {
                    seconds: 50,
                    ..computing_alone
                },
            ],
            None,
        ),
        (
            "the network lives on: storage stalls, the kernel does not",
            vec![
                well(60),
                Phase {
                    packets: Some(1),
                    cpu: 2,
                    ..halted(600)
                },
            ],
            None,
        ),
        (
            "nobody can say what it does",
            vec![
                well(60),
                Phase {
                    disk: None,
                    packets: None,
                    ..dead(600)
                },
            ],
            None,
        ),
        // Vetoes.
        (
            "suspended by hand",
            vec![
                well(60),
                Phase {
                    held: Some(Held::Told),
                    ..halted(3600)
                },
            ],
            None,
        ),
        (
            "suspended for an hour and resumed, the agent a little late",
            vec![
                well(60),
                Phase {
                    held: Some(Held::Told),
                    ..halted(3600)
                },
                Phase {
                    agent: Agent::Silent,
                    ..idle(8)
                },
                well(60),
            ],
            None,
        ),
        (
            "a backup job",
            vec![
                well(60),
                Phase {
                    job: true,
                    ..dead(600)
                },
            ],
            None,
        ),
        (
            "live migration",
            vec![
                well(60),
                Phase {
                    held: Some(Held::Move),
                    job: true,
                    ..halted(30)
                },
                Phase {
                    job: true,
                    ..dead(60)
                },
            ],
            None,
        ),
        (
            "file systems frozen for a minute",
            vec![
                well(60),
                Phase {
                    agent: Agent::Frozen,
                    ..idle(60)
                },
                well(60),
            ],
            None,
        ),
        (
            "frozen, the agent answers nothing else",
            vec![
                well(60),
                Phase {
                    agent: Agent::Frozen,
                    cpu: 1000,
                    ..idle(60)
                },
                Phase {
                    agent: Agent::Silent,
                    ..idle(10)
                },
                well(20),
            ],
            None,
        ),
        (
            "held by this cluster near the end of a lease",
            vec![
                well(60),
                Phase {
                    ours: true,
                    held: Some(Held::Told),
                    ..halted(60)
                },
                well(30),
            ],
            None,
        ),
        (
            "two busy loops on every core: starved, and late",
            vec![well(60), starved(dead(600))],
            None,
        ),
        (
            "the same where waiting is not known",
            vec![
                well(60),
                Phase {
                    wait: None,
                    crowded: true,
                    cpu: 0,
                    ..dead(600)
                },
            ],
            None,
        ),
        (
            "the node itself is late",
            vec![
                well(60),
                Phase {
                    late: 2500,
                    ..dead(600)
                },
            ],
            None,
        ),
        (
            "looks too far apart",
            vec![
                well(60),
                Phase {
                    every: 7000,
                    ..dead(600)
                },
            ],
            None,
        ),
        (
            "nineteen seconds of it, again and again",
            [vec![well(60)], [dead(19), well(40)].repeat(8)].concat(),
            None,
        ),
    ];
    for (name, phases, expected) in stories {
        let mut story = Story::new();
        let last = phases.len() - 1;
        for (n, phase) in phases.into_iter().enumerate() {
            let failed = story.live(phase);
            match (failed, expected) {
                (Some((at, Failure::Hung(_))), Some((from, to))) if n == last => {
                    assert!((from..=to).contains(&at), "{name}: after {at} s");
                }
                (None, Some(_)) if n < last => {}
                (None, None) => {}
                (found, _) => panic!("{name}: phase {n}: {found:?}, expected {expected:?}"),
            }
        }
    }
}

#[test]
fn a_hang_is_told_with_its_evidence() {
    let mut story = Story::new();
    assert_eq!(story.live(well(60)), None);
    let (_, failure) = story.live(dead(40)).expect("hangs");
    let words = failure.words();
    for part in [
        "hangs: agent silent for 2",
        "no disk request for 2",
        "(before: 4.0 per s)",
        "no packet sent for",
        "CPU 98 %",
    ] {
        assert!(words.contains(part), "{words}");
    }
    let told: Vec<&str> = story.reports.iter().map(|r| r.text.as_str()).collect();
    assert!(told[0].starts_with("suspect: "), "{told:?}");
    assert!(told[1].starts_with("hangs: "), "{told:?}");
    let kept = story.watch.evidence(story.now);
    assert!(kept.iter().any(|l| l.contains("agent Silent")), "{kept:?}");
    assert!(kept.len() <= 64, "bounded");
}

#[test]
fn silence_alone_is_a_word_and_an_answer_ends_it() {
    let mut story = Story::new();
    story.live(well(60));
    story.live(Phase {
        agent: Agent::Silent,
        ..well(60)
    });
    story.live(well(4));
    let told: Vec<&str> = story.reports.iter().map(|r| r.text.as_str()).collect();
    assert_eq!(told, ["suspect: agent silent for 6 s", "recovered"]);
    assert!(story.reports.iter().all(|r| !r.alert));
}
