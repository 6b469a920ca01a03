//! The record as the page reads it: columns of small numbers, words once.

use super::About;
use crate::check::At;
use crate::record::{self, Kind, Loss, NONE, Record, Sort};
use serde_json::{Value, json};

/// Microseconds: finer than anybody looks.
fn micros(ns: u64) -> u64 {
    ns / 1000
}

/// A lane or node; −1 for none.
fn place(number: u32) -> i64 {
    if number == NONE { -1 } else { number.into() }
}

/// Columns of every entry. Times are differences, causes are distances.
fn entries(record: &Record) -> Value {
    let mut before = 0;
    let mut at = Vec::with_capacity(record.entries.len());
    let mut cause = Vec::with_capacity(record.entries.len());
    let mut kinds = String::with_capacity(record.entries.len());
    for (i, e) in record.entries.iter().enumerate() {
        let now = micros(e.at);
        at.push(now - before);
        before = now;
        cause.push(i as u64 - u64::from(e.cause));
        kinds.push((b'a' + e.kind as u8) as char);
    }
    let column =
        |of: fn(&record::Entry) -> i64| -> Vec<i64> { record.entries.iter().map(of).collect() };
    json!({
        "at": at, "kind": kinds, "cause": cause,
        "lane": column(|e| place(e.lane)),
        "peer": column(|e| place(e.peer)),
        "value": column(|e| e.value.into()),
        "text": column(|e| e.text.into()),
    })
}

fn chains(record: &Record) -> (Value, Value) {
    let Some(why) = record::explain(record) else {
        return (json!([]), json!([]));
    };
    let chains: Vec<Value> = why
        .chains
        .iter()
        .map(|c| {
            let hops: Vec<Value> = c
                .hops
                .iter()
                .map(|h| json!({ "entry": h.entry, "marks": h.marks, "skipped": h.skipped }))
                .collect();
            json!({ "fact": c.fact, "hops": hops })
        })
        .collect();
    let lying: Vec<Value> = why
        .lying
        .iter()
        .map(|l| {
            json!({
                "number": l.fault.number, "text": l.fault.text, "from": micros(l.fault.from),
                "until": micros(l.fault.until), "how": l.how,
            })
        })
        .collect();
    (json!(chains), json!(lying))
}

/// Everything the page needs.
pub(super) fn json(record: &Record, about: &About) -> String {
    let lanes: Vec<Value> = record
        .lanes
        .iter()
        .map(|l| json!({ "name": l.name, "on": l.on }))
        .collect();
    let bands: Vec<Value> = record
        .bands
        .iter()
        .map(|b| json!([b.lane, b.name, b.text, micros(b.from), micros(b.until)]))
        .collect();
    let cuts: Vec<Value> = record::cuts(record)
        .iter()
        .map(|c| {
            json!([
                c.net,
                c.from,
                c.to,
                c.way as u8,
                micros(c.start),
                micros(c.end),
                c.by
            ])
        })
        .collect();
    let faults: Vec<Value> = record::faults(record)
        .iter()
        .map(|f| json!([f.number, f.text, micros(f.from), micros(f.until), f.entry]))
        .collect();
    let broken = record.broken.as_ref().map(|b| {
        let at = record.entry(b.entry).at;
        json!({
            "property": b.property, "what": b.what, "facts": b.facts, "entry": b.entry,
            "at": micros(at), "time": At(at).to_string(),
        })
    });
    let (chains, lying) = chains(record);
    json!({
        "seed": about.seed.to_string(), "hash": format!("{:016x}", about.hash),
        "again": about.again, "bug": about.bug, "version": env!("CARGO_PKG_VERSION"),
        "lanes": lanes, "nodes": record.nodes, "networks": record.networks,
        "joining": record.joining, "ended": micros(record.ended),
        "kinds": Kind::ALL.map(Kind::name), "losses": Loss::ALL.map(Loss::words),
        "sorts": Sort::ALL.map(Sort::name), "texts": record.texts,
        "entries": entries(record), "bands": bands, "cuts": cuts, "faults": faults,
        "broken": broken, "chains": chains, "lying": lying,
        "story": record::sentences(record),
    })
    .to_string()
}
