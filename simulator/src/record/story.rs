//! A record in plain words: how long each fault lasted, and who was cut off from whom.

use super::{Kind, NONE, Record, Way};
use crate::check::At;
use std::collections::{BTreeMap, BTreeSet};

/// A link that was not whole for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Which network.
    pub net: u32,
    /// Sender.
    pub from: u32,
    /// Receiver.
    pub to: u32,
    /// How it was.
    pub way: Way,
    /// True time of its start in nanoseconds.
    pub start: u64,
    /// True time of its end in nanoseconds.
    pub end: u64,
    /// The step that made it so bad.
    pub by: u32,
}

/// Every stretch in which a link was not whole, by start.
#[must_use]
pub fn cuts(record: &Record) -> Vec<Stretch> {
    let mut open: BTreeMap<(u32, u32, u32), Stretch> = BTreeMap::new();
    let mut all = Vec::new();
    for e in &record.entries {
        if e.kind != Kind::Link {
            continue;
        }
        let (way, net) = Way::unpack(e.value);
        let key = (net, e.lane, e.peer);
        if let Some(mut stretch) = open.remove(&key) {
            stretch.end = e.at;
            all.push(stretch);
        }
        if way > Way::Whole {
            open.insert(
                key,
                Stretch {
                    net: key.0,
                    from: key.1,
                    to: key.2,
                    way,
                    start: e.at,
                    end: record.ended,
                    by: e.because,
                },
            );
        }
    }
    all.extend(open.into_values());
    all.sort_by_key(|s| (s.start, s.net, s.from, s.to));
    all
}

/// An action of the plan, and how long what it did lasted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its number in the plan, from 0.
    pub number: u32,
    /// Its entry.
    pub entry: u32,
    /// In words.
    pub text: String,
    /// True time in nanoseconds.
    pub from: u64,
    /// When nothing of it was left; the same as `from` if it was over at once.
    pub until: u64,
    /// Nodes it did something to.
    pub nodes: BTreeSet<u32>,
}

/// Every action of the plan that was carried out.
#[must_use]
pub fn faults(record: &Record) -> Vec<Fault> {
    let mut all: BTreeMap<u32, Fault> = BTreeMap::new();
    for (i, e) in record.entries.iter().enumerate() {
        if e.kind == Kind::Fault {
            let fault = Fault {
                number: e.value,
                entry: i as u32,
                text: record.text(e.text).to_owned(),
                from: e.at,
                until: e.at,
                nodes: BTreeSet::new(),
            };
            all.insert(i as u32, fault);
        }
    }
    for s in cuts(record) {
        if let Some(f) = all.get_mut(&s.by) {
            f.until = f.until.max(s.end);
            f.nodes.extend([s.from, s.to]);
        }
    }
    for band in record.bands.iter().filter(|b| b.name != "up") {
        if let Some(f) = all.get_mut(&record.cause(band.opened)) {
            f.until = f.until.max(band.until);
            f.nodes.insert(band.lane);
        }
    }
    let mut down: BTreeMap<u32, u32> = BTreeMap::new();
    for e in &record.entries {
        match e.kind {
            Kind::Down => {
                down.insert(e.lane, e.cause);
            }
            Kind::Up => {
                if let Some(f) = down.remove(&e.lane).and_then(|f| all.get_mut(&f)) {
                    f.until = f.until.max(e.at);
                    f.nodes.insert(e.lane);
                }
            }
            _ => {}
        }
    }
    for (lane, cause) in down {
        if let Some(f) = all.get_mut(&cause) {
            f.until = record.ended;
            f.nodes.insert(lane);
        }
    }
    for (entry, until) in &record.lasting {
        if let Some(f) = all.get_mut(entry) {
            f.until = f.until.max((*until).min(record.ended));
        }
    }
    all.into_values().collect()
}

/// Names, with commas.
fn list(record: &Record, nodes: impl IntoIterator<Item = u32>) -> String {
    let names: Vec<&str> = nodes.into_iter().map(|n| record.lane(n)).collect();
    names.join(", ")
}

/// Who did not reach whom at a time, in one clause, and since when; none if all links passed.
fn cut_at(record: &Record, cuts: &[Stretch], at: u64) -> Option<(String, u64)> {
    // A pair is cut when every network that joins the nodes is.
    let mut nets: BTreeMap<(u32, u32), (usize, u64)> = BTreeMap::new();
    for s in cuts {
        let here = s.start <= at && (at < s.end || s.end == record.ended);
        if s.way == Way::Cut && (s.net as usize) < record.joining && here {
            let known = nets.entry((s.from, s.to)).or_insert((0, 0));
            *known = (known.0 + 1, known.1.max(s.start));
        }
    }
    nets.retain(|_, (n, _)| *n == record.joining);
    let since = nets.values().map(|(_, since)| *since).min()?;
    let mut missing: BTreeSet<(u32, u32)> = nets.into_keys().collect();
    let all: Vec<u32> = (0..record.nodes as u32).collect();
    let mut said = Vec::new();
    let mut left: Vec<u32> = all.clone();
    let others = |v: u32| all.iter().copied().filter(move |o| *o != v);
    let mut alone = Vec::new();
    for &v in &all {
        let hears_none = others(v).all(|o| missing.contains(&(o, v)));
        let heard_by_none = others(v).all(|o| missing.contains(&(v, o)));
        let name = record.lane(v);
        match (hears_none, heard_by_none) {
            (true, true) => alone.push(v),
            (true, false) => said.push(format!("{name} heard nobody, though it was heard")),
            (false, true) => said.push(format!("{name} was heard by nobody, though it heard")),
            _ => continue,
        }
        if hears_none && heard_by_none {
            left.retain(|o| *o != v);
        }
    }
    match alone.len() {
        0 => {}
        n if n == all.len() => said.push("every node was cut off from every other".into()),
        n => {
            let verb = if n == 1 { "was" } else { "were each" };
            let names = list(record, alone.iter().copied());
            said.insert(0, format!("{names} {verb} cut off from everybody"));
        }
    }
    let covered = |(a, b): &(u32, u32)| {
        let whole_in = |v: u32| others(v).all(|o| missing.contains(&(o, v)));
        let whole_out = |v: u32| others(v).all(|o| missing.contains(&(v, o)));
        whole_in(*b) || whole_out(*a)
    };
    let rest: BTreeSet<(u32, u32)> = missing.iter().copied().filter(|p| !covered(p)).collect();
    missing = rest;
    if let Some(groups) = groups(&left, &missing) {
        let words: Vec<String> = groups
            .iter()
            .map(|g| format!("{{{}}}", list(record, g.iter().copied())))
            .collect();
        said.push(format!(
            "{} were cut off from each other",
            words.join(" and ")
        ));
        missing.clear();
    }
    let mut pairs = Vec::new();
    while let Some((a, b)) = missing.pop_first() {
        let (from, to) = (record.lane(a), record.lane(b));
        if missing.remove(&(b, a)) {
            pairs.push(format!("{from} and {to} were cut off from each other"));
        } else {
            pairs.push(format!("{to} did not hear {from}"));
        }
    }
    let more = pairs.len().saturating_sub(6);
    pairs.truncate(6);
    said.extend(pairs);
    if more > 0 {
        said.push(format!("{more} more pairs were cut"));
    }
    Some((said.join("; "), since))
}

/// Groups with every link inside and none between them, if the missing links are just that.
fn groups(nodes: &[u32], missing: &BTreeSet<(u32, u32)>) -> Option<Vec<Vec<u32>>> {
    if missing.is_empty() {
        return None;
    }
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for &v in nodes {
        let linked = |o: &u32| !missing.contains(&(v, *o)) && !missing.contains(&(*o, v));
        let apart = |o: &u32| missing.contains(&(v, *o)) && missing.contains(&(*o, v));
        if let Some(g) = groups.iter_mut().find(|g| g.iter().all(linked)) {
            g.push(v);
        } else if groups.iter().flatten().all(apart) {
            groups.push(vec![v]);
        } else {
            return None;
        }
    }
    let between = |a: usize, b: usize| {
        groups[a].iter().all(|x| {
            groups[b]
                .iter()
                .all(|y| missing.contains(&(*x, *y)) && missing.contains(&(*y, *x)))
        })
    };
    let n = groups.len();
    let clean = (0..n).all(|a| (0..n).all(|b| a == b || between(a, b)));
    (clean && n > 1).then_some(groups)
}

/// The run in a few sentences: who was cut off from whom, what else was wrong then, and why the
/// promise broke, if one did.
#[must_use]
pub fn sentences(record: &Record) -> Vec<String> {
    let mut said = Vec::new();
    let cuts = cuts(record);
    let broken = record.broken.as_ref();
    let at = broken.map_or(record.ended, |b| record.entry(b.entry).at);
    let seconds = |t: u64| format!("{} s", At(t));
    match cut_at(record, &cuts, at) {
        Some((words, since)) => said.push(format!("From {} on, {words}.", seconds(since))),
        None => {
            let past = cuts.iter().filter(|s| s.way == Way::Cut && s.end <= at);
            let last = past.max_by_key(|s| (s.end, s.start));
            let then = last.and_then(|s| Some((s, cut_at(record, &cuts, s.end - 1)?)));
            said.push(match then {
                Some((s, (words, since))) => format!(
                    "From {} to {}, {words}; after that every link passed.",
                    seconds(since),
                    seconds(s.end)
                ),
                None => "No link between nodes was cut.".into(),
            });
        }
    }
    let holds = |name: &str| {
        let bands = record.bands.iter();
        let mut lanes: Vec<u32> = bands
            .filter(|b| b.name == name && b.from <= at)
            .filter(|b| at < b.until || b.until == record.ended)
            .map(|b| b.lane)
            .collect();
        lanes.sort_unstable();
        lanes
    };
    let up = holds("up");
    let off = holds("off");
    let down = (0..record.nodes as u32)
        .filter(|n| !up.contains(n) && !off.contains(n))
        .collect();
    for (nodes, how) in [
        (off, "off or frozen"),
        (holds("stopped"), "stopped"),
        (down, "without its process"),
    ] {
        if !nodes.is_empty() {
            let verb = if nodes.len() == 1 { "was" } else { "were" };
            said.push(format!(
                "At that moment {} {verb} {how}.",
                list(record, nodes)
            ));
        }
    }
    match broken {
        Some(b) => said.push(format!(
            "At {}, {} broke: {}, for {}, but {}.",
            seconds(at),
            b.property,
            b.what,
            b.facts[0],
            b.facts[1]
        )),
        None => said.push("No promise was broken.".into()),
    }
    said
}

/// The action of the plan that an entry follows from directly.
pub(super) fn fault_of(record: &Record, mut entry: u32) -> Option<u32> {
    for _ in 0..16 {
        if entry == 0 || entry == NONE {
            return None;
        }
        if record.entry(entry).kind == Kind::Fault {
            return Some(entry);
        }
        entry = record.cause(entry);
    }
    None
}
