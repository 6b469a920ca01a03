//! Makes a record while a run goes on. It draws nothing and changes nothing.

use super::{Band, Broken, Entry, Kind, Lane, Loss, NONE, Names, Record, Sort, Way};
use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    /// What a run that panicked had recorded.
    static LEFT: RefCell<Option<Record>> = const { RefCell::new(None) };
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let record = std::mem::take(&mut self.record);
            LEFT.with(|left| *left.borrow_mut() = Some(record));
        }
    }
}

/// The record of the run that has just panicked in this thread, if it made one. Its last entry is
/// the panic, as a broken promise.
#[must_use]
pub fn left_behind(what: &str, facts: &[String; 2]) -> Option<Record> {
    let mut record = LEFT.with(|left| left.borrow_mut().take())?;
    let last = *record.entries.last()?;
    let text = record.texts.len() as u32;
    record.texts.push(format!("panic: {what}"));
    record.entries.push(Entry {
        kind: Kind::Broken,
        lane: NONE,
        peer: NONE,
        value: 0,
        text,
        cause: record.entries.len() as u32 - 1,
        because: 0,
        ..last
    });
    record.broken = Some(Broken {
        property: "panic".into(),
        what: what.to_owned(),
        facts: facts.clone(),
        entry: record.entries.len() as u32 - 1,
    });
    Some(record.end(last.at))
}

/// For each way a link can be, the step that made it so bad: where one fault ends and another goes
/// on, what is left is the other's doing.
#[derive(Clone, Copy, Debug, Default)]
struct Worsened([u32; 4]);

/// A record in the making. Times are true times in nanoseconds; `cause` is always the number of an
/// entry.
#[derive(Clone, Debug)]
pub struct Recorder {
    record: Record,
    known: BTreeMap<String, u32>,
    /// The newest band of each name on each lane.
    newest: BTreeMap<(u32, &'static str), usize>,
    /// How each link of each network is and would be if it were not cut, and who made it so.
    links: Vec<(Way, Way, Worsened)>,
    /// The newest entry that took a node's machine or process away.
    away: Vec<u32>,
}

impl Recorder {
    /// Of a world whose first `joining` networks join its nodes.
    #[must_use]
    pub fn new(names: Names, joining: usize) -> Recorder {
        let nodes = names.nodes.len();
        let links = names.networks.len() * nodes * nodes;
        let lane = |name| Lane { name, on: None };
        let mut recorder = Recorder {
            record: Record {
                lanes: names.nodes.into_iter().map(lane).collect(),
                nodes,
                networks: names.networks,
                joining,
                entries: Vec::new(),
                bands: Vec::new(),
                texts: Vec::new(),
                lasting: Vec::new(),
                notes: BTreeMap::new(),
                broken: None,
                ended: 0,
            },
            known: BTreeMap::new(),
            newest: BTreeMap::new(),
            links: vec![(Way::Whole, Way::Whole, Worsened::default()); links],
            away: vec![0; nodes],
        };
        recorder.add(0, Kind::Begin, NONE, 0, "");
        recorder
    }

    /// The record, the run being over at `now`.
    #[must_use]
    pub fn finish(mut self, now: u64) -> Record {
        std::mem::take(&mut self.record).end(now)
    }

    fn word(&mut self, text: &str) -> u32 {
        if let Some(number) = self.known.get(text) {
            return *number;
        }
        let number = self.record.texts.len() as u32;
        self.record.texts.push(text.to_owned());
        self.known.insert(text.to_owned(), number);
        number
    }

    /// Adds an entry; gives its number.
    pub fn add(&mut self, at: u64, kind: Kind, lane: u32, cause: u32, text: &str) -> u32 {
        let text = self.word(text);
        self.push(Entry {
            at,
            kind,
            lane,
            peer: NONE,
            value: 0,
            text,
            cause,
            because: 0,
        })
    }

    fn push(&mut self, entry: Entry) -> u32 {
        self.record.entries.push(entry);
        (self.record.entries.len() - 1) as u32
    }

    /// Adds an entry about a node and another one.
    pub fn between(
        &mut self,
        at: u64,
        kind: Kind,
        (lane, peer): (usize, usize),
        cause: u32,
        text: &str,
    ) -> u32 {
        let number = self.add(at, kind, lane as u32, cause, text);
        self.record.entries[number as usize].peer = peer as u32;
        number
    }

    /// A message arrives that left with entry `sent`.
    pub fn received(&mut self, at: u64, to: usize, from: usize, sent: u32) -> u32 {
        let text = self.record.entry(sent).text;
        self.push(Entry {
            at,
            kind: Kind::Received,
            lane: to as u32,
            peer: from as u32,
            value: 0,
            text,
            cause: sent,
            because: 0,
        })
    }

    /// A message that left with entry `sent` does not arrive. `net` is the network that cut it.
    pub fn lost(&mut self, at: u64, sent: u32, why: Loss, net: Option<usize>) {
        let e = *self.record.entry(sent);
        if e.kind != Kind::Sent {
            return;
        }
        let because = match why {
            Loss::Cut | Loss::Chance | Loss::Large | Loss::Full => {
                net.map_or(0, |net| self.link(net, e.lane, e.peer).1)
            }
            Loss::SenderOff => self.away[e.lane as usize],
            Loss::ReceiverOff | Loss::Down | Loss::SocketFull => self.away[e.peer as usize],
            Loss::NoSession => {
                let nets = 0..self.record.joining;
                let cut = |net: usize| {
                    let there = self.link(net, e.lane, e.peer);
                    let back = self.link(net, e.peer, e.lane);
                    let cut = [there, back].into_iter().filter(|w| w.0 >= Way::Filtered);
                    cut.map(|w| w.1).max()
                };
                nets.filter_map(cut).max().unwrap_or(0)
            }
        };
        self.push(Entry {
            at,
            kind: Kind::Lost,
            value: why as u32,
            cause: sent,
            because,
            ..e
        });
    }

    /// How a link is, and the entry that made it so bad.
    fn link(&self, net: usize, from: u32, to: u32) -> (Way, u32) {
        let n = self.record.nodes;
        let (way, _, by) = self.links[(net * n + from as usize) * n + to as usize];
        (way, by.0[way as usize])
    }

    /// How a link is from now on, and how it would be if it were not cut.
    pub fn way(
        &mut self,
        at: u64,
        net: usize,
        (from, to): (usize, usize),
        (way, under): (Way, Way),
        cause: u32,
    ) {
        let n = self.record.nodes;
        let place = (net * n + from) * n + to;
        let (before, before_under, mut by) = self.links[place];
        if under > before_under {
            by.0[under as usize] = cause;
        }
        if way > before {
            by.0[way as usize] = cause;
        }
        self.links[place] = (way, under, by);
        if way == before {
            return;
        }
        let number = self.between(at, Kind::Link, (from, to), cause, "");
        let entry = &mut self.record.entries[number as usize];
        entry.value = Way::pack(way, net);
        entry.because = by.0[way as usize];
    }

    /// A node's process or machine changes: [`Kind::Up`] to [`Kind::On`].
    pub fn life(&mut self, at: u64, node: usize, kind: Kind, cause: u32) -> u32 {
        let number = self.add(at, kind, node as u32, cause, "");
        if matches!(kind, Kind::Down | Kind::Stopped | Kind::Off) {
            self.away[node] = number;
        }
        let (name, begins) = match kind {
            Kind::Up => ("up", true),
            Kind::Down => ("up", false),
            Kind::Off => ("off", true),
            Kind::On => ("off", false),
            Kind::Stopped => ("stopped", true),
            _ => ("stopped", false),
        };
        if begins {
            self.band(at, node as u32, name, "", u64::MAX, number);
        } else {
            self.end_band(at, node as u32, name);
        }
        if kind == Kind::Down {
            self.end_band(at, node as u32, "stopped");
        }
        number
    }

    /// Something holds on a lane from now until `until`, or goes on until then if it does already
    /// in the same words.
    pub fn band(
        &mut self,
        at: u64,
        lane: u32,
        name: &'static str,
        text: &str,
        until: u64,
        cause: u32,
    ) {
        let text = self.word(text);
        if let Some(place) = self.newest.get(&(lane, name)) {
            let band = &mut self.record.bands[*place];
            if band.until >= at && band.text == text {
                band.until = until;
                return;
            }
            band.until = band.until.min(at);
        }
        self.newest.insert((lane, name), self.record.bands.len());
        self.record.bands.push(Band {
            lane,
            name,
            text,
            from: at,
            until,
            opened: cause,
        });
    }

    /// It holds no longer.
    pub fn end_band(&mut self, at: u64, lane: u32, name: &'static str) {
        if let Some(place) = self.newest.remove(&(lane, name)) {
            let band = &mut self.record.bands[place];
            band.until = band.until.min(at);
        }
    }

    /// The lane of that name on a node; made if there is none yet.
    pub fn lane(&mut self, on: usize, name: &str) -> u32 {
        let on = Some(on as u32);
        let lanes = &mut self.record.lanes;
        let known = lanes.iter().position(|l| l.on == on && l.name == name);
        let number = known.unwrap_or_else(|| {
            lanes.push(Lane {
                name: name.to_owned(),
                on,
            });
            lanes.len() - 1
        });
        number as u32
    }

    /// Something worth saying on a lane.
    pub fn mark(&mut self, at: u64, lane: u32, sort: Sort, cause: u32, text: &str) -> u32 {
        let number = self.add(at, Kind::Mark, lane, cause, text);
        self.record.entries[number as usize].value = sort as u32;
        number
    }

    /// Words that facts may name; they speak of step `cause`.
    pub fn note(&mut self, text: String, cause: u32) {
        self.record.notes.insert(text, cause);
    }

    /// The step that asked for what entry `mark` marks, by the words noted then.
    pub fn asked_by(&mut self, mark: u32, note: &str) {
        let step = self.record.notes.get(note).copied().unwrap_or(0);
        self.record.entries[mark as usize].because = step;
    }

    /// Whether no step noted these words yet.
    #[must_use]
    pub fn newly(&self, text: &str) -> bool {
        !self.record.notes.contains_key(text)
    }

    /// Whether a band of that name holds on a lane.
    #[must_use]
    pub fn holds(&self, at: u64, lane: u32, name: &'static str) -> bool {
        let newest = self.newest.get(&(lane, name));
        newest.is_some_and(|place| self.record.bands[*place].until >= at)
    }

    /// Action `which` of the plan is done. If the world does not see its effect, `until` says how
    /// long it lasts.
    pub fn fault(&mut self, at: u64, which: usize, text: &str, until: Option<u64>) -> u32 {
        let number = self.add(at, Kind::Fault, NONE, 0, text);
        self.record.entries[number as usize].value = which as u32;
        if let Some(until) = until {
            self.record.lasting.push((number, until));
        }
        number
    }

    /// A promise is broken; later ones are consequences and not kept.
    pub fn broken(&mut self, at: u64, cause: u32, property: &str, what: &str, facts: &[String; 2]) {
        if self.record.broken.is_some() {
            return;
        }
        let entry = self.add(
            at,
            Kind::Broken,
            NONE,
            cause,
            &format!("{property}: {what}"),
        );
        self.record.broken = Some(Broken {
            property: property.to_owned(),
            what: what.to_owned(),
            facts: facts.clone(),
            entry,
        });
    }
}
