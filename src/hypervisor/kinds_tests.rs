//! Drivers that only take note of what they are asked.

use super::*;
use quorate_recovery::guest::{Needs, Policy};
use std::sync::mpsc::{Receiver, Sender, channel};

const G: GuestId = GuestId(7);
const E: Token = Token(5);

/// What one driver was asked, and what it answers.
#[derive(Default)]
struct State {
    asked: Vec<String>,
    seen: Vec<GuestSeen>,
    blind: Option<String>,
    /// Ends fail for this reason.
    stays: Option<String>,
    /// A poll waits here first.
    hangs: Option<Receiver<()>>,
    gave_up: Vec<quorate_membership::Time>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<State>>);

impl Fake {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    fn note(&self, what: &str) -> Result<(), String> {
        self.state().asked.push(what.to_owned());
        Ok(())
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state().asked)
    }

    fn shows(&self, guest: GuestId, epoch: Token, paused: bool) {
        self.state().seen.push(GuestSeen {
            guest,
            epoch,
            paused,
        });
    }
}

impl Driver for Fake {
    fn create(&self, _: GuestId, _: Token, _: &GuestSpec, gate: &Gate) -> Result<(), String> {
        self.state().gave_up.push(gate.give_up());
        self.note("create")
    }

    fn resume(&self, _: GuestId, _: Token, _: &Gate) -> Result<(), String> {
        self.note("resume")
    }

    fn pause(&self, _: GuestId, _: Token, _: &Gate) -> Result<(), String> {
        self.note("pause")
    }

    fn end(&self, _: GuestId, _: Token, _: &Gate) -> Result<(), String> {
        self.note("end")?;
        self.state().stays.clone().map_or(Ok(()), Err)
    }

    fn list(&self) -> Result<Vec<GuestSeen>, String> {
        let hangs = self.state().hangs.take();
        if let Some(hangs) = hangs {
            // Until the test lets go of the other end.
            let _ = hangs.recv();
        }
        let state = self.state();
        match &state.blind {
            Some(why) => Err(why.clone()),
            None => Ok(state.seen.clone()),
        }
    }

    fn watch(&self, _: UnboundedSender<Notice>) -> Result<(), String> {
        self.note("watch")?;
        self.state().blind.clone().map_or(Ok(()), Err)
    }
}

fn two() -> (Fake, Fake, Kinds) {
    let (a, b) = (Fake::default(), Fake::default());
    let s = Duration::from_secs;
    let kinds = Kinds::new(vec![
        Kind::new(GuestKind::Command, s(10), a.clone()),
        Kind::new(GuestKind::Domain, s(60), b.clone()),
    ]);
    (a, b, kinds)
}

fn gate() -> Gate {
    Gate::new(None, Clock.now() + Duration::from_secs(60))
}

fn spec(definition: Definition) -> GuestSpec {
    GuestSpec {
        name: "web1".into(),
        definition,
        needs: Needs::default(),
        priority: 0,
        policy: Policy::default(),
        probe: None,
    }
}

fn a_domain() -> GuestSpec {
    spec(Definition::Domain { xml: String::new() })
}

fn a_command() -> GuestSpec {
    let (argv, env) = (vec!["/bin/true".into()], BTreeMap::new());
    spec(Definition::Command {
        argv,
        env,
        images: Vec::new(),
    })
}

#[test]
fn a_guest_goes_to_the_kind_that_runs_its_definition_and_stays_there() {
    let (a, b, kinds) = two();
    kinds.create(G, E, &a_domain(), &gate()).expect("created");
    kinds.resume(G, E, &gate()).expect("resumed");
    kinds.pause(G, E, &gate()).expect("held");
    assert_eq!(b.asked(), ["create", "resume", "pause"]);
    assert!(a.asked().is_empty());
    let agent = Definition::Ocf {
        agent: "ocf:heartbeat:Dummy".into(),
        parameters: BTreeMap::new(),
        every_ms: 10_000,
    };
    let why = kinds.create(GuestId(8), E, &spec(agent), &gate());
    assert_eq!(
        why.expect_err("refused"),
        "this host runs no resource agents"
    );
    assert!(a.asked().is_empty() && b.asked().is_empty());
}

#[test]
fn a_kind_of_quick_starts_is_not_given_the_time_of_a_slow_one() {
    let (a, _, kinds) = two();
    assert_eq!(kinds.create_limit(), Duration::from_secs(60));
    let begun = Clock.now();
    let theirs = Gate::new(None, begun + kinds.create_limit());
    kinds.create(G, E, &a_command(), &theirs).expect("created");
    let given = a.state().gave_up[0];
    assert!(given >= begun + Duration::from_secs(10));
    assert!(given < begun + kinds.create_limit());
}

#[test]
fn a_life_from_before_is_found_where_it_is() {
    let (a, b, kinds) = two();
    b.shows(G, E, true);
    kinds.resume(G, E, &gate()).expect("resumed");
    assert_eq!((a.asked().len(), b.asked()), (0, vec!["resume".to_owned()]));
    let why = kinds.resume(G, Token(6), &gate()).expect_err("none");
    assert!(why.contains("is not on this host"), "{why}");
    // One that cannot see may have it.
    a.state().blind = Some("no answer".into());
    let why = kinds.resume(G, Token(6), &gate()).expect_err("blind");
    assert!(why.contains("commands: no answer"), "{why}");
}

#[test]
fn an_end_goes_to_every_kind_and_is_done_only_if_all_say_so() {
    let (a, b, kinds) = two();
    kinds.create(G, E, &a_domain(), &gate()).expect("created");
    kinds.end(G, E, &gate()).expect("ended");
    assert_eq!(a.asked(), ["end"]);
    assert_eq!(b.asked(), ["create", "end"]);
    // Nobody knows it any more; it is looked for all the same.
    a.state().stays = Some("2 processes are still there".into());
    let why = kinds.end(G, E, &gate()).expect_err("left");
    assert_eq!(why, "commands: 2 processes are still there");
    assert_eq!((a.asked().len(), b.asked().len()), (1, 1));
}

#[test]
fn a_poll_names_the_kinds_that_cannot_be_asked() {
    let (a, b, kinds) = two();
    a.shows(GuestId(1), E, false);
    b.shows(G, E, true);
    // A process of a domain: the built-in hypervisor finds it by its marks and knows no more.
    a.shows(G, E, false);
    let seen = kinds.list().expect("a poll");
    let seen: Vec<_> = seen.iter().map(|s| (s.guest, s.paused)).collect();
    assert_eq!(seen, [(GuestId(1), false), (G, true)]);
    assert_eq!(kinds.present(), kinds.list());
    b.state().blind = Some("libvirt: no connection".into());
    let why = "libvirt: libvirt: no connection".to_owned();
    assert_eq!(kinds.list(), Err(why.clone()));
    let poll = kinds.poll();
    let domains = GuestKinds::NONE.with(GuestKind::Domain);
    assert_eq!(poll.blind, Some((domains, why)));
    assert_eq!(poll.seen.len(), 2, "what the other kind shows");
}

#[test]
fn one_that_hangs_makes_a_poll_blind_and_holds_nobody_up() {
    let (a, b, mut kinds) = two();
    kinds.look = Duration::from_millis(100);
    a.shows(GuestId(1), E, false);
    let (free, hangs): (Sender<()>, _) = channel();
    b.state().hangs = Some(hangs);
    let kinds = Arc::new(kinds);
    let polling = Arc::clone(&kinds);
    let poll = std::thread::spawn(move || polling.list());
    // Meanwhile orders for the other kind are carried out.
    kinds
        .create(GuestId(1), E, &a_command(), &gate())
        .expect("created");
    kinds.resume(GuestId(1), E, &gate()).expect("resumed");
    let why = poll.join().expect("a poll").expect_err("blind");
    assert!(why.starts_with("libvirt: no answer within"), "{why}");
    drop(free);
}

#[test]
fn all_are_watched_though_one_cannot_be() {
    let (a, b, kinds) = two();
    a.state().blind = Some("no thread".into());
    let (tell, _told) = tokio::sync::mpsc::unbounded_channel();
    assert_eq!(kinds.watch(tell), Err("commands: no thread".to_owned()));
    assert_eq!((a.asked().len(), b.asked().len()), (1, 1));
}
