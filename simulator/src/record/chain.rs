//! Why a promise broke: the steps that led to each of its two facts, back to where they began.

use super::story::{self, Fault, fault_of};
use super::{Broken, Entry, Kind, Record, Sort};
use crate::check::At;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Marks made during each step.
type Marks = BTreeMap<u32, Vec<u32>>;

/// Steps shown for one fact.
const SHOWN: usize = 11;
/// Of them at the far end, when some are left out.
const FAR: usize = 3;

/// One step of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its entry.
    pub entry: u32,
    /// What was marked during it, the most telling first.
    pub marks: Vec<u32>,
    /// Steps left out between this one and what caused it.
    pub skipped: usize,
}

/// What led to one fact, newest first: each hop happened because of the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The fact.
    pub fact: String,
    /// The steps. Empty if no entry of the record fits the fact.
    pub hops: Vec<Hop>,
}

/// A fault that lies on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lying {
    /// Which.
    pub fault: Fault,
    /// What it did to the chains.
    pub how: String,
}

/// A broken promise explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// One for each fact.
    pub chains: [Chain; 2],
    /// Faults on them, those that did most first.
    pub lying: Vec<Lying>,
    /// Actions of the plan that were carried out before the promise broke.
    pub before: usize,
}

/// Follows both facts of the broken promise back; none if none is broken.
#[must_use]
pub fn explain(record: &Record) -> Option<Explained> {
    let broken = record.broken.as_ref()?;
    let mut marks = Marks::new();
    for (i, e) in record.entries.iter().enumerate() {
        if e.kind == Kind::Mark {
            marks.entry(e.cause).or_default().push(i as u32);
        }
    }
    let end = record.cause(broken.entry);
    // The first fact is what happens now, unless it names something else.
    let first = anchor(record, broken, 0);
    let first = first
        .filter(|(score, _)| *score >= EXACT)
        .map_or(end, |(_, e)| e);
    let second = anchor(record, broken, 1);
    let mut visited = BTreeSet::new();
    let told: BTreeSet<&str> = words(&broken.what)
        .chain(broken.facts.iter().flat_map(|f| words(f)))
        .collect();
    let mut chain = |fact: &String, from: Option<u32>| {
        let all = from.map_or(Vec::new(), |from| walk(record, from, &told, &marks));
        visited.extend(all.iter().copied());
        Chain {
            fact: fact.clone(),
            hops: prune(record, &all, &marks, &told),
        }
    };
    let chains = [
        chain(&broken.facts[0], Some(first)),
        chain(&broken.facts[1], second.map(|(_, e)| e)),
    ];
    let lying = lying(record, &chains, &visited, broken.entry);
    let at = record.entry(broken.entry).at;
    let before = record.entries.iter().take(broken.entry as usize);
    let before = before.filter(|e| e.kind == Kind::Fault && e.at <= at);
    Some(Explained {
        chains,
        lying,
        before: before.count(),
    })
}

/// Faults so long before the end count, however short the chains are (nanoseconds).
const NEAR: u64 = 30_000_000_000;

/// Score of a fact that names the time of an entry.
const EXACT: u32 = 8;

fn words(text: &str) -> impl Iterator<Item = &str> {
    let edge = |c: char| !c.is_alphanumeric();
    text.split_whitespace().map(move |w| w.trim_matches(edge))
}

/// The entry a fact most likely speaks of: it names its time, its place or its words. Facts are
/// text for people, so this is a search and not a lookup; of equal ones the newest counts.
fn anchor(record: &Record, broken: &Broken, number: usize) -> Option<(u32, u32)> {
    let (what, fact) = (&broken.what, &broken.facts[number]);
    let (before, now) = (broken.entry, record.cause(broken.entry));
    let told: BTreeSet<&str> = words(fact).collect();
    let noted = told.iter().filter_map(|w| record.notes.get(*w)).max();
    if let Some(entry) = noted {
        return Some((EXACT, *entry));
    }
    let named: BTreeSet<&str> = words(what).chain(words(fact)).collect();
    let own: Vec<u32> = lanes(record, &told);
    let lanes = if own.is_empty() {
        lanes(record, &named)
    } else {
        own
    };
    let mut best: Option<(u32, u32)> = None;
    for (i, e) in record.entries.iter().enumerate().take(before as usize) {
        let fits = matches!(
            e.kind,
            Kind::Mark | Kind::Sent | Kind::Up | Kind::Down | Kind::Off | Kind::On
        );
        if !fits {
            continue;
        }
        let mut score = 0;
        if told.contains(At(e.at).to_string().as_str()) {
            score += EXACT;
        }
        if lanes.contains(&e.lane) {
            score += 3;
        }
        for word in words(record.text(e.text)) {
            if record.lanes.iter().any(|l| l.name == word) {
                score += u32::from(told.contains(word));
            } else if told.contains(word) {
                let number = word.contains(|c: char| c.is_ascii_digit());
                score += if number { 4 } else { u32::from(word.len() > 3) };
            }
        }
        score += u32::from(e.kind == Kind::Mark);
        if number == 0 && e.cause == now && score > 3 {
            score += EXACT;
        }
        if score > 3 && best.is_none_or(|(most, _)| score >= most) {
            best = Some((score, i as u32));
        }
    }
    best
}

fn lanes(record: &Record, named: &BTreeSet<&str>) -> Vec<u32> {
    let lanes = record.lanes.iter().enumerate();
    let hit = lanes.filter(|(_, l)| named.contains(l.name.as_str()));
    hit.map(|(i, _)| i as u32).collect()
}

/// Every step from an entry back to the beginning; a message counts once, where it arrives. Where a
/// step decided something the facts speak of, the way goes on from whoever asked for it.
fn walk(record: &Record, from: u32, told: &BTreeSet<&str>, marks: &Marks) -> Vec<u32> {
    let mut all = vec![from];
    let mut entry = from;
    loop {
        let e = record.entry(entry);
        let decided = marks.get(&entry).into_iter().flatten().rev().find(|m| {
            let mark = record.entry(**m);
            all.last().is_none_or(|last| *last == entry)
                && mark.because != 0
                && mark.because < entry
                && all.iter().rev().nth(1).is_none_or(|after| **m < *after)
                && told_in(record, **m, told) > 0
        });
        entry = match (e.kind, decided) {
            (Kind::Mark, _) if e.because != 0 => e.because,
            (_, Some(mark)) => {
                all.push(*mark);
                record.entry(*mark).because
            }
            _ => e.cause,
        };
        if entry == 0 {
            return all;
        }
        if record.entry(entry).kind != Kind::Sent {
            all.push(entry);
        }
    }
}

/// How many names and numbers of the facts an entry's words hold.
fn told_in(record: &Record, entry: u32, told: &BTreeSet<&str>) -> usize {
    let number = |w: &&str| w.contains(|c: char| c.is_ascii_digit());
    let words = words(record.text(record.entry(entry).text));
    words.filter(number).filter(|w| told.contains(w)).count()
}

fn prune(record: &Record, all: &[u32], marks: &Marks, told: &BTreeSet<&str>) -> Vec<Hop> {
    let mut hops: Vec<Hop> = Vec::new();
    let own: BTreeSet<u32> = all.iter().copied().collect();
    let mut alike: Option<(Kind, u32, u32, String)> = None;
    for (i, &entry) in all.iter().enumerate() {
        let e = record.entry(entry);
        let next = i.checked_sub(1).map_or(u32::MAX, |n| all[n]);
        let mut shown = telling(record, marks.get(&entry), next, told);
        shown.retain(|m| !own.contains(m));
        let tells = match e.kind {
            _ if i == 0 => true,
            Kind::Timer | Kind::Local | Kind::Stored | Kind::Event => !shown.is_empty(),
            Kind::Received => {
                let kind = record.text(e.text).split(' ').next().unwrap_or_default();
                let now = (e.kind, e.lane, e.peer, kind.to_owned());
                let fresh = alike.as_ref() != Some(&now);
                alike = Some(now);
                fresh || !shown.is_empty()
            }
            _ => true,
        };
        match hops.last_mut() {
            Some(last) if !tells => last.skipped += 1,
            _ => hops.push(Hop {
                entry,
                marks: shown,
                skipped: 0,
            }),
        }
    }
    if hops.len() > SHOWN {
        let far = hops.split_off(hops.len() - FAR);
        let out = hops.split_off(SHOWN - FAR);
        if let Some(last) = hops.last_mut() {
            last.skipped += out.iter().map(|h| 1 + h.skipped).sum::<usize>();
        }
        hops.extend(far);
    }
    hops
}

/// The two most telling marks of a step that were made before the entry it led to.
fn telling(
    record: &Record,
    marks: Option<&Vec<u32>>,
    before: u32,
    told: &BTreeSet<&str>,
) -> Vec<u32> {
    let rank = |m: &u32| {
        let note = record.entry(*m).value == Sort::Note as u32;
        (Reverse(told_in(record, *m, told)), note, Reverse(*m))
    };
    let mut best: Vec<u32> = marks.map_or(Vec::new(), |marks| {
        marks.iter().copied().filter(|m| *m < before).collect()
    });
    best.sort_by_key(rank);
    best.truncate(2);
    best
}

/// What faults did to the nodes of the chains before the promise broke.
#[derive(Default)]
struct Doings {
    /// Messages each fault took, and between whom.
    lost: BTreeMap<u32, (usize, BTreeSet<(u32, u32)>)>,
    /// Nodes whose process or machine each fault ended: what was not on their disks is forgotten.
    ended: BTreeMap<u32, BTreeSet<u32>>,
}

/// What faults did between `begin` and entry `end`. A lost message counts if `about` says so of its
/// two ends.
fn doings(
    record: &Record,
    (begin, end): (u64, u32),
    nodes: &BTreeSet<u32>,
    about: impl Fn(bool, bool) -> bool,
) -> Doings {
    let mut done = Doings::default();
    let entries = record.entries.iter().take(end as usize);
    for e in entries.filter(|e| e.at >= begin) {
        match e.kind {
            Kind::Lost if about(nodes.contains(&e.lane), nodes.contains(&e.peer)) => {
                if let Some(fault) = fault_of(record, e.because) {
                    let known = done.lost.entry(fault).or_default();
                    known.0 += 1;
                    known.1.insert((e.lane, e.peer));
                }
            }
            Kind::Down | Kind::Off if nodes.contains(&e.lane) => {
                if let Some(fault) = fault_of(record, e.cause) {
                    done.ended.entry(fault).or_default().insert(e.lane);
                }
            }
            _ => {}
        }
    }
    done
}

/// Faults that are steps of the chains, ended or held up processes of their nodes, or took messages
/// from them.
fn lying(record: &Record, chains: &[Chain; 2], visited: &BTreeSet<u32>, end: u32) -> Vec<Lying> {
    let hops = || {
        chains
            .iter()
            .flat_map(|c| &c.hops)
            .map(|h| record.entry(h.entry))
    };
    let on = |lane: u32| record.lanes.get(lane as usize).and_then(|l| l.on);
    let nodes: BTreeSet<u32> = hops()
        .flat_map(|e: &Entry| [e.lane, e.peer])
        .flat_map(|lane| [Some(lane), on(lane)])
        .flatten()
        .collect();
    let at = record.entry(end).at;
    let begin = hops()
        .map(|e| e.at)
        .min()
        .unwrap_or(0)
        .min(at.saturating_sub(NEAR));
    let faults: Vec<Fault> = story::faults(record)
        .into_iter()
        .filter(|f| f.from <= at)
        .collect();
    // Messages between nodes of the chains first; where no fault did anything to those, one end is enough.
    let found = |about: fn(bool, bool) -> bool| {
        let done = doings(record, (begin, end), &nodes, about);
        let all = faults.iter();
        let all = all.filter_map(|f| weigh(record, f, visited, &nodes, begin, &done));
        all.collect::<Vec<(usize, Lying)>>()
    };
    let mut all = found(|from, to| from && to);
    if all.is_empty() {
        all = found(|from, to| from || to);
    }
    all.sort_by_key(|(weight, l)| (Reverse(*weight), l.fault.entry));
    all.into_iter().map(|(_, l)| l).take(6).collect()
}

/// What one fault did, in words and as a weight; none if it did nothing.
fn weigh(
    record: &Record,
    fault: &Fault,
    visited: &BTreeSet<u32>,
    nodes: &BTreeSet<u32>,
    begin: u64,
    done: &Doings,
) -> Option<(usize, Lying)> {
    let names = |lanes: &BTreeSet<u32>| {
        let names: Vec<&str> = lanes.iter().map(|l| record.lane(*l)).collect();
        names.join(", ")
    };
    let ended = done.ended.get(&fault.entry);
    let held: BTreeSet<u32> = record
        .bands
        .iter()
        .filter(|b| !["up", "off"].contains(&b.name))
        .filter(|b| record.cause(b.opened) == fault.entry)
        .filter(|b| nodes.contains(&b.lane) && b.until >= begin)
        .map(|b| b.lane)
        .collect();
    let mut how = Vec::new();
    let mut weight = 0;
    if visited.contains(&fault.entry) {
        how.push("it is a step of the chain".to_owned());
        weight += 1_000_000;
    }
    if let Some(ended) = ended {
        how.push(format!(
            "it ended {}, which forgot what its disk had not kept",
            names(ended)
        ));
        weight += 10_000;
    }
    if !held.is_empty() {
        how.push(format!("it held up {}", names(&held)));
        weight += 1000;
    }
    if let Some((n, pairs)) = done.lost.get(&fault.entry) {
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(a, b)| format!("{}\u{2192}{}", record.lane(*a), record.lane(*b)))
            .collect();
        how.push(format!("it took {n} messages ({})", shortened(&pairs)));
        weight += n;
    }
    let (fault, how) = (fault.clone(), how.join("; "));
    (weight > 0).then_some((weight, Lying { fault, how }))
}

fn shortened(pairs: &[String]) -> String {
    match pairs.len() {
        0..=6 => pairs.join(", "),
        n => format!("{} and {} more pairs", pairs[..6].join(", "), n - 6),
    }
}
