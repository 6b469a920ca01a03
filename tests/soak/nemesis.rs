//! Draws faults, one at a time for each host, and mends all of them before a look.

use crate::common::{Lab, PATIENCE};
use crate::dice::Dice;
use crate::faults::{self, Drawn, Fault, WEIGHTS};
use crate::over::Over;
use quorate::demo::site::Site;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How far the clocks of the next boot are ahead, in seconds: the kernel's own, or up to ten years,
/// so that no time of one boot says anything in another.
fn clock(dice: &mut Dice) -> u64 {
    match dice.below(3) {
        0 => 0,
        _ => dice.draw() % 315_000_000,
    }
}

/// How long faults last, in milliseconds: around the silence (3 s) and the lease (3.7 s) of the fast
/// profile, and far from both.
const LENGTHS_MS: [u64; 8] = [400, 1000, 2000, 3000, 3600, 5000, 8000, 15_000];
/// A host whose guardian was hit is left alone for two leases.
const AFTER_GUARDIAN: Duration = Duration::from_millis(7400);
/// What was switched off by a fence device comes back after so long.
const OFF_MAX: Duration = Duration::from_secs(6);

/// A fault under way.
struct Busy {
    thread: JoinHandle<()>,
    fault: Fault,
    free: Instant,
}

pub(crate) struct Nemesis {
    dice: Dice,
    site: Arc<Site>,
    /// Where copies of stores lie.
    copies: PathBuf,
    busy: BTreeMap<String, Busy>,
    over: Arc<Over>,
    off_since: BTreeMap<String, Instant>,
    counted: BTreeMap<Fault, u32>,
    set_back: u32,
    begun: Instant,
}

impl Nemesis {
    pub(crate) fn new(seed: u64, site: Arc<Site>, copies: PathBuf) -> Nemesis {
        Nemesis {
            dice: Dice::new(seed),
            site,
            copies,
            busy: BTreeMap::new(),
            over: Arc::default(),
            off_since: BTreeMap::new(),
            counted: BTreeMap::new(),
            set_back: 0,
            begun: Instant::now(),
        }
    }

    /// Makes trouble for so long.
    pub(crate) fn trouble(&mut self, length: Duration) {
        self.over.set(false);
        let until = Instant::now() + length;
        while Instant::now() < until {
            self.step();
            self.switch_on(OFF_MAX);
            self.over.wait(self.dice.between(200, 3000));
        }
    }

    fn step(&mut self) {
        let all: usize = WEIGHTS.iter().map(|(_, parts)| parts).sum();
        let mut at = self.dice.below(all);
        let drawn = WEIGHTS.iter().find(|(_, parts)| {
            let hit = at < *parts;
            at = at.saturating_sub(*parts);
            hit
        });
        let fault = drawn.map_or(Fault::Cable, |(fault, _)| *fault);
        let nodes = self.site.nodes();
        let host = self.dice.below(nodes.len());
        let other = (host + 1 + self.dice.below(nodes.len() - 1)) % nodes.len();
        let drawn = Drawn {
            fault,
            host: nodes[host].clone(),
            other: nodes[other].clone(),
            length: Duration::from_millis(LENGTHS_MS[self.dice.below(LENGTHS_MS.len())]),
            clock: clock(&mut self.dice),
        };
        let now = Instant::now();
        self.busy
            .retain(|_, busy| !busy.thread.is_finished() || now < busy.free);
        let minority = (nodes.len() - 1) / 2;
        let rare = self.busy.values().filter(|busy| busy.fault.is_rare());
        if self.busy.contains_key(&drawn.host) || fault.is_rare() && rare.count() >= minority {
            return;
        }
        self.begin(drawn);
    }

    fn begin(&mut self, drawn: Drawn) {
        println!(
            "{:7.1} {:?} {} {:?}",
            self.begun.elapsed().as_secs_f64(),
            drawn.fault,
            drawn.host,
            drawn.length
        );
        *self.counted.entry(drawn.fault).or_default() += 1;
        let (name, fault) = (drawn.host.clone(), drawn.fault);
        let mut free = Instant::now();
        if fault.is_of_guardian() {
            free += drawn.length + AFTER_GUARDIAN;
        }
        let (site, over) = (Arc::clone(&self.site), Arc::clone(&self.over));
        let thread = std::thread::spawn(move || {
            // A host that was fenced or reset in the middle of it can be told nothing more.
            if let Err(why) = faults::carry_out(&site, &drawn, &over) {
                println!("        {:?} {}: {why}", drawn.fault, drawn.host);
            }
        });
        let busy = Busy {
            thread,
            fault,
            free,
        };
        self.busy.insert(name, busy);
    }

    /// Gives power to hosts that lost it to a fence device or reset themselves so long ago.
    fn switch_on(&mut self, since: Duration) {
        let now = Instant::now();
        let clock = clock(&mut self.dice);
        for name in self.site.nodes() {
            let under_way = self.busy.get(name);
            let cut = under_way.is_some_and(|b| b.fault == Fault::Power && !b.thread.is_finished());
            if cut || self.site.alive(name) {
                self.off_since.remove(name);
                continue;
            }
            let off = *self.off_since.entry(name.clone()).or_insert(now);
            if now.duration_since(off) >= since
                && let Err(why) = faults::power_on(&self.site, name, clock)
            {
                println!("        {name} cannot be switched on: {why}");
            }
        }
    }

    /// Mends everything.
    pub(crate) fn mend(&mut self, lab: &Lab) {
        self.over.set(true);
        for (name, busy) in std::mem::take(&mut self.busy) {
            assert!(busy.thread.join().is_ok(), "a fault of {name} failed");
        }
        let nodes = self.site.nodes().to_vec();
        for name in nodes {
            // A fence that is under way may cut it once more.
            lab.wait(&format!("{name} to have power"), || {
                self.switch_on(Duration::ZERO);
                self.site.cable(&name, true)
            });
        }
    }

    /// Keeps a copy of the store of every host, as a snapshot of its disk would.
    pub(crate) fn copy(&self, lab: &Lab) {
        for name in self.site.nodes() {
            let store = lab.path().join(name).join("state");
            lab.signal(name, "STOP");
            faults::copied(&store, &self.copies.join(name)).expect("a copy of the store");
            lab.signal(name, "CONT");
        }
    }

    /// Sets the store of one host back to a copy of an earlier calm, over a boot. Nobody else is
    /// disturbed meanwhile: with others away it would not be known what the store forgot.
    pub(crate) fn set_back(&mut self, lab: &Lab) {
        let nodes = self.site.nodes().to_vec();
        let name = nodes[self.dice.below(nodes.len())].clone();
        let by = nodes[usize::from(nodes[0] == name)].clone();
        let store = lab.path().join(&name).join("state");
        let (copy, newer) = (self.copies.join(&name), self.copies.join("newer"));
        let earlier = lab.incarnation(&name);
        lab.power_off(&name);
        faults::copied(&store, &newer).expect("a copy of the store");
        faults::copied(&copy, &store).expect("the store set back");
        faults::copied(&newer, &copy).expect("a copy of the store");
        self.set_back += 1;
        let at = self.begun.elapsed().as_secs_f64();
        println!("{at:7.1} the store of {name} is set back");
        let clock = clock(&mut self.dice);
        faults::power_on(&self.site, &name, clock).expect("power");
        let back = lab.within("it to be back", PATIENCE, || {
            // The life before was lost and may be fenced still, which cuts this boot.
            self.switch_on(Duration::ZERO);
            let status = lab.status(&by)?;
            if faults::is_back(&status, &name, earlier) {
                return Ok(());
            }
            Err(status.to_string())
        });
        if let Err(why) = back {
            panic!("{name} is not back after its store was set back: {why}");
        }
    }

    pub(crate) fn report(&self) {
        let all: u32 = self.counted.values().sum();
        println!(
            "faults: {all} and {} stores set back: {:?}",
            self.set_back, self.counted
        );
    }
}
