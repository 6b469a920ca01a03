//! One round of an ending, and what is looked for between two endings.

use super::cgroups;
use super::known::{EMPTY_ROUNDS, Leader, Strays};
use super::processes;
use super::records::{self, GuestRecord};
use super::run::{Guard, Look};
use super::search::{Ask, Found, Marked};
use crate::clock::Clock;
use quorate_membership::Time;
use std::io;
use std::time::Duration;

/// For this part of K, what the kernel itself says is ending is left to end before all processes are
/// looked through: a look takes the time that they need for it, and sees them all.
const PATIENCE: u32 = 4;
/// Ending all groups again waits for so many times as long as it took.
const BREATH: u32 = 5;
/// Between two sweeps for unregistered processes while the lease is over.
const SWEEP: Duration = Duration::from_secs(5);

impl Guard {
    /// Whether anything is left that the host is reset for.
    pub(super) fn left(&self, look: &Look) -> bool {
        let agents = self.agents || self.ending.is_some() && self.strays == Strays::Unknown;
        look.blind
            || !look.intents.is_empty()
            || self.strays == Strays::Yes
            || self.resources.resets().is_some()
            || agents && self.resources.resets_for_agents()
            || self.known.values().any(|k| !k.ended())
    }

    /// Takes note of what looking through all processes has found.
    pub(super) fn hear(&mut self, look: &Look) {
        let Some(found) = self.search.answer() else {
            return;
        };
        if found.ask.end {
            if found.number >= self.valid {
                self.round(look, &found);
            }
            return;
        }
        let none = matches!(found.guests, Ok(0));
        if let Err(e) = &found.guests {
            self.alarm(format!("guests cannot be looked for: {e}"));
        }
        if found.ask.marked == Marked::All {
            self.strays = match found.guests {
                Ok(0) => Strays::No,
                Ok(_) => Strays::Yes,
                Err(_) => Strays::Unknown,
            };
        } else if none {
            let (run, boot) = (&self.run, self.boot);
            self.known.retain(|_, k| {
                let looked = k.vanished.is_some_and(|from| found.number >= from);
                let group = || {
                    k.record.is_some_and(|r| {
                        found.ask.records.contains(&r)
                            && !cgroups::populated(run, boot, (r.guest, r.epoch))
                    })
                };
                !(looked && k.leader.gone() && group())
            });
        }
    }

    /// Judges a complete round of an ending.
    fn round(&mut self, look: &Look, found: &Found) {
        self.agents = !matches!(found.agents, Ok(0));
        let grouped = if look.displaced {
            Ok(0)
        } else {
            cgroups::end(&self.run, self.boot, &|_| true)
        };
        let led = self.known.values().filter(|k| !k.leader.gone()).count();
        for failed in [&found.guests, &found.agents, &grouped] {
            if let Err(e) = failed {
                self.state.alarm = Some(format!("guests cannot be ended: {e}"));
            }
        }
        let some = |n: &io::Result<usize>| !matches!(n, Ok(0) | Err(_));
        let unknown = found.guests.is_err() || found.agents.is_err() || grouped.is_err();
        self.strays = match (some(&found.guests) || some(&grouped) || led > 0, unknown) {
            (true, _) => Strays::Yes,
            (false, true) => Strays::Unknown,
            (false, false) if self.agents || self.resources.left(look.displaced) => Strays::Unknown,
            (false, false) => Strays::No,
        };
        for known in self.known.values_mut() {
            known.empty = if self.strays == Strays::No {
                (known.empty + 1).min(EMPTY_ROUNDS)
            } else {
                0
            };
        }
        self.swept = Clock.now();
    }

    /// Asks for what only a look through all processes shows, while nothing is being ended.
    pub(super) fn wonder(&mut self, look: &Look, over: bool, now: Time) {
        if self.rules.killing() {
            return;
        }
        if over && now >= self.swept + SWEEP {
            self.swept = now;
            let marked = self.marks(look);
            let records = self.records();
            self.search.ask(|| Ask {
                records,
                marked,
                end: false,
            });
            return;
        }
        let gone = self.known.values().filter(|k| k.vanished.is_some());
        let gone: Vec<GuestRecord> = gone.filter_map(|k| k.record).collect();
        if !gone.is_empty() {
            let lives = gone.iter().map(|r| (r.guest, r.epoch)).collect();
            self.search.ask(|| Ask {
                records: gone,
                marked: Marked::Lives(lives),
                end: false,
            });
        }
    }

    fn records(&self) -> Vec<GuestRecord> {
        self.known.values().filter_map(|k| k.record).collect()
    }

    fn marks(&self, look: &Look) -> Marked {
        // In another's directory the marks belong to the guests of that one.
        if look.displaced && self.run.path().exists() {
            Marked::None
        } else {
            Marked::All
        }
    }

    /// One round: calls off the starts, then ends what is registered or marked.
    pub(super) fn end(&mut self, look: &Look, kill: Duration) {
        // What needs no look at any other process: nothing here waits for one.
        let mut wrong = self.end_groups(look);
        let mut dying = self.groups.0;
        for known in self.known.values_mut() {
            if matches!(known.leader, Leader::Unknown) {
                known.leader = Leader::of(known.record.as_ref());
            }
            if let (Some(record), Leader::Held(handle)) = (&known.record, &known.leader)
                && let Err(e) = processes::end_held(record, handle)
            {
                wrong = Some(format!("a guest cannot be ended: {e}"));
            }
        }
        for intent in &look.intents {
            if let Err(e) = records::remove(intent) {
                wrong = Some(format!("a start cannot be called off: {e}"));
            }
        }
        // A start either lost its intent or is registered by now.
        if !look.displaced
            && let Ok(entries) = self.run.entries()
        {
            self.refresh(&entries);
        }
        // After the processes, which end at once; nothing here waits for an agent.
        if let Err(why) = self.resources.end(look.displaced) {
            wrong = Some(why);
        }
        dying += self.known.values().filter(|k| !k.leader.gone()).count();
        let began = self.ending.map_or(Time::ZERO, |(_, began)| began);
        if dying == 0 || Clock.now() >= began + kill / PATIENCE {
            let (records, marked) = (self.records(), self.marks(look));
            self.search.ask(|| Ask {
                records,
                marked,
                end: true,
            });
        }
        if let Some(why) = wrong {
            self.alarm(why);
        }
        self.word.left(self.what_is_left());
        if let Some(came) = self.word.came() {
            self.alarm(came);
        }
    }

    /// Ends every group on record, unless that was just done: what runs before all others must leave
    /// the processors to those that are ending.
    fn end_groups(&mut self, look: &Look) -> Option<String> {
        let began = Clock.now();
        if look.displaced || began < self.groups.1 {
            return None;
        }
        let held = cgroups::end(&self.run, self.boot, &|_| true);
        let now = Clock.now();
        let wrong = held.as_ref().err();
        let wrong = wrong.map(|e| format!("a control group cannot be ended: {e}"));
        self.groups = (held.unwrap_or(0), now + now.since(began) * BREATH);
        wrong
    }

    /// What is left, in words.
    fn what_is_left(&self) -> String {
        if let Some(name) = self.resources.resets() {
            return format!("{name} was not seen stopped");
        }
        let mut led = self.known.values().filter(|k| !k.leader.gone());
        if let Some(record) = led.find_map(|k| k.record) {
            let (guest, pid) = (record.guest, record.pgid);
            return format!("process {pid} of {guest} is still there");
        }
        self.state.alarm.clone().unwrap_or_else(|| {
            "nothing has shown yet that the processes of all guests are gone".into()
        })
    }
}
