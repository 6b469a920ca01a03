//! The run in the JSON that trace viewers read (Chrome's, Perfetto): nodes are processes; steps,
//! roles and guests their threads; messages are flows.

use crate::record::{Kind, Loss, NONE, Record};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Length drawn for a step, in microseconds: flows need something to begin and end in.
const STEP: f64 = 20.0;

/// Threads of one process, by name; 0 is for steps.
#[derive(Default)]
struct Threads(BTreeMap<(u32, String), u32>);

impl Threads {
    fn of(&mut self, node: u32, name: &str) -> u32 {
        let next = 1 + self.0.keys().filter(|(n, _)| *n == node).count() as u32;
        *self.0.entry((node, name.to_owned())).or_insert(next)
    }
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

/// The trace as text.
#[must_use]
pub fn chrome(record: &Record) -> String {
    let mut out: Vec<Value> = Vec::new();
    let mut threads = Threads::default();
    // Process 0 is the run itself: faults and the broken promise.
    let process = |lane: u32| if lane == NONE { 0 } else { lane + 1 };
    let node = |lane: u32| match record.lanes.get(lane as usize) {
        Some(l) => l.on.unwrap_or(lane),
        None => NONE,
    };
    for (i, e) in record.entries.iter().enumerate() {
        let (pid, ts) = (process(node(e.lane)), micros(e.at));
        let words = record.words(e);
        match e.kind {
            Kind::Sent | Kind::Received => {
                let name = record.text(e.text);
                out.push(json!({
                    "ph": "X", "name": words, "cat": "message", "pid": pid, "tid": 0, "ts": ts,
                    "dur": STEP,
                }));
                let (ph, id) = match e.kind {
                    Kind::Sent => ("s", i as u32),
                    _ => ("f", e.cause),
                };
                out.push(json!({
                    "ph": ph, "bp": "e", "id": id, "name": name, "cat": "message", "pid": pid,
                    "tid": 0, "ts": ts,
                }));
            }
            Kind::Lost => {
                let why = Loss::ALL.get(e.value as usize).map_or("", |l| l.words());
                out.push(json!({
                    "ph": "i", "s": "t", "name": words, "cat": "lost", "pid": pid, "tid": 0,
                    "ts": ts, "args": { "why": why },
                }));
            }
            Kind::Timer | Kind::Stored | Kind::Local | Kind::Event if e.lane != NONE => {
                out.push(json!({
                    "ph": "X", "name": words, "cat": e.kind.name(), "pid": pid, "tid": 0,
                    "ts": ts, "dur": STEP,
                }));
            }
            Kind::Begin | Kind::Timer | Kind::Stored | Kind::Local | Kind::Event => {}
            Kind::Fault | Kind::Broken => out.push(json!({
                "ph": "i", "s": "g", "name": words, "cat": e.kind.name(), "pid": 0, "tid": 0,
                "ts": ts,
            })),
            _ => out.push(json!({
                "ph": "i", "s": "p", "name": words, "cat": e.kind.name(), "pid": pid, "tid": 0,
                "ts": ts,
            })),
        }
    }
    for (i, band) in record.bands.iter().enumerate() {
        let on = node(band.lane);
        let thread = if band.lane == on {
            band.name.to_owned()
        } else {
            record.lane(band.lane).to_owned()
        };
        let (pid, tid) = (process(on), threads.of(on, &thread));
        let text = record.text(band.text);
        let name = if text.is_empty() { band.name } else { text };
        for (ph, at) in [("b", band.from), ("e", band.until)] {
            out.push(json!({
                "ph": ph, "id": format!("band{i}"), "name": name, "cat": thread, "pid": pid,
                "tid": tid, "ts": micros(at),
            }));
        }
    }
    let name = |kind: &str, pid: u32, tid: u32, name: &str| json!({ "ph": "M", "name": kind, "pid": pid, "tid": tid, "args": { "name": name } });
    out.push(name("process_name", 0, 0, "run"));
    for n in 0..record.nodes as u32 {
        out.push(name("process_name", process(n), 0, record.lane(n)));
        out.push(name("thread_name", process(n), 0, "steps"));
    }
    for ((node, thread), tid) in &threads.0 {
        out.push(name("thread_name", process(*node), *tid, thread));
    }
    json!({ "displayTimeUnit": "ms", "traceEvents": out }).to_string()
}
