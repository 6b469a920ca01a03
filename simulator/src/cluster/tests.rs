//! The real node in the false world.

use crate::check::Violation;
use crate::cluster::{Cluster, Plan, Sim, SimNode, draw};
use crate::harness::{Outcome, run};
use crate::scenario;
use crate::world::SECOND;
use quorate_membership::member::Untaken;
use quorate_membership::{Time, Token};
use quorate_recovery::contract::{Effect, Fact, GuestAction, GuestOrder};
use quorate_recovery::executor::{ExecutorWrite, GuestPromise};
use quorate_recovery::guest::{Definition, GuestId, GuestSpec};
use quorate_recovery::{Node, Setup};
use std::path::Path;

#[test]
fn one_seed_gives_one_hash() {
    let hash = |seed| {
        let mut plan = draw::plan(seed);
        plan.end = 25 * SECOND;
        plan.healed = None;
        let report = run(&Cluster, &plan, false);
        (report.hash, report.events)
    };
    assert_eq!(hash(5), hash(5));
    assert_ne!(hash(5).0, hash(6).0);
}

#[test]
fn a_trace_changes_nothing() {
    let run = |traced| {
        let mut plan = Plan::new(3, 4, 3, 2);
        plan.end = 12 * SECOND;
        Sim::<Node>::new(plan, traced).run()
    };
    let (quiet, loud) = (run(false), run(true));
    assert_eq!((quiet.hash, quiet.events), (loud.hash, loud.events));
    assert!(quiet.trace.is_empty() && loud.trace.len() > 50);
}

fn stories(folder: &str) -> Vec<(String, Outcome)> {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = std::fs::read_dir(&at)
        .expect("the folder of scenarios")
        .filter_map(|f| Some(f.ok()?.path()))
        .filter(|f| f.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    let one = |f: std::path::PathBuf| {
        let name = f.display().to_string();
        let text = std::fs::read_to_string(&f).expect("readable");
        let waits = scenario::needs(&name, &text).expect("a scenario");
        if waits.is_some() {
            return None;
        }
        let plan = scenario::parse(&name, &text).unwrap_or_else(|e| panic!("{e}"));
        if plan.end > 1000 * SECOND {
            // Hours are for `quorate-sim corpus`.
            return None;
        }
        let outcome = run(&Cluster, &plan, false);
        let gone_off = outcome.exposure.of("triggers");
        let all = plan.triggers.len() as u64;
        assert_eq!(gone_off, all, "{name}: what a step waits for never came");
        Some((name, outcome))
    };
    files.into_iter().filter_map(one).collect()
}

#[test]
fn every_story_ends_as_it_should() {
    let stories = stories("scenarios");
    assert!(stories.len() >= 20);
    for (name, report) in stories {
        if let Some(v) = report.violation {
            panic!("{name}: {v}");
        }
    }
}

#[test]
fn a_trigger_goes_off_at_its_occurrence_and_no_more_often_than_it_may() {
    use crate::cluster::action::{Action, Who};
    use crate::cluster::triggers::{Trigger, When};
    let cuts = |nth: u32, times: u32, after: u64| {
        let mut plan = Plan::new(4, 4, 3, 3);
        plan.triggers.push(Trigger {
            when: When::GuestStarts,
            host: None,
            guest: None,
            after,
            before: u64::MAX,
            nth,
            times,
            delay: SECOND / 10,
            action: Action::PowerOff {
                who: Who::That,
                back: Some(SECOND),
            },
        });
        plan.end = 30 * SECOND;
        let report = Sim::<Node>::new(plan, true).run();
        assert_eq!(report.violation, None);
        let of = |what: &str| {
            let found = report.trace.iter().filter(|l| l.contains(what));
            found.cloned().collect::<Vec<String>>()
        };
        (of("loses power"), of("can write on"))
    };
    let (lost, wrote) = cuts(2, 1, 0);
    let host = wrote[1].split(' ').next_back().expect("a host");
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(
        lost[0].contains(&format!("{host} loses")),
        "{lost:?} {wrote:?}"
    );
    assert_eq!(cuts(1, 3, 0).0.len(), 3);
    assert_eq!(cuts(1, 1, 29 * SECOND).0.len(), 0);
}

/// A node that obeys nobody and starts the same guest on every host.
struct Careless<const LEASE: bool> {
    guest: GuestId,
    step: u64,
}

impl<const LEASE: bool> SimNode for Careless<LEASE> {
    fn new(_now: Time, _setup: Setup) -> Result<Self, String> {
        Ok(Careless {
            guest: GuestId(1),
            step: 0,
        })
    }

    fn set_untaken(&mut self, _: Untaken) {}

    fn step(&mut self, now: Time, _fact: Fact, out: &mut Vec<Effect>) {
        self.step += 1;
        let (guest, epoch) = (self.guest, Token(1));
        let order = |order, action| {
            Effect::Guest(GuestOrder {
                order,
                guest,
                epoch,
                action,
                not_after: None,
            })
        };
        let spec = GuestSpec {
            name: "g1".into(),
            definition: Definition::Command {
                argv: vec!["x".into()],
                env: Default::default(),
                images: Vec::new(),
            },
            needs: Default::default(),
            priority: 0,
            policy: Default::default(),
            probe: None,
        };
        if self.step == 1 {
            let promise = Some(GuestPromise {
                promised: epoch,
                closed: Token::NONE,
            });
            let write = ExecutorWrite { guest, promise };
            let writes = vec![quorate_recovery::contract::NodeWrite::Executor(write)];
            out.push(Effect::Persist { batch: 1, writes });
        }
        if LEASE && self.step == 2 {
            let end = now + std::time::Duration::from_secs(100);
            out.push(Effect::Lease { end });
        }
        if self.step == 20 {
            out.push(order(1, GuestAction::Create(Box::new(spec.into()))));
        }
        if self.step == 40 {
            out.push(order(2, GuestAction::Continue));
        }
        let until = now + std::time::Duration::from_millis(50);
        out.push(Effect::Wait { until });
    }

    fn acting(&self, now: Time) -> Option<Time> {
        Some(now + std::time::Duration::from_secs(1))
    }

    fn applied(&self) -> u64 {
        0
    }

    fn state(&self) -> u64 {
        0
    }

    fn alter(&mut self, _: u64) {}

    fn left_log(&self) -> bool {
        false
    }

    fn made(&self, _: &quorate_membership::State<quorate_recovery::Guests>) -> bool {
        true
    }

    fn agrees(&self, _: &Self) -> bool {
        true
    }
}

#[test]
fn a_careless_node_is_found_out() {
    fn broken<const LEASE: bool>(hosts: usize) -> Option<&'static str> {
        let mut plan = Plan::new(1, hosts, 1, 0);
        plan.end = 20 * SECOND;
        let report = Sim::<Careless<LEASE>>::new(plan, false).run();
        report.violation.map(|v: Violation| v.property)
    }
    // Two of them both act as coordinator. Alone, it counts on a lease that nobody gave it; and
    // without one it starts what no entry places.
    assert_eq!(broken::<false>(2), Some("S6"));
    assert_eq!(broken::<true>(1), Some("S3"));
    assert_eq!(broken::<false>(1), Some("S2"));
}
