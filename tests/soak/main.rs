//! Real daemons under faults that a seed draws, for as long as is asked.
//!
//! Five nodes of one rack with their power switch, guests that write down that they run, a client
//! whose acknowledged changes are kept account of, and a nemesis. In rounds: faults for a while, then
//! all is mended, and within a minute everything must be back. Judged by the guests' own records
//! and by what the client was told.
//!
//! `QUORATE_SOAK_SECONDS`, `QUORATE_SOAK_SEED` and `QUORATE_SOAK_GUESTS` say how long at least, which
//! faults and how many guests; without them it is a short run. The seed draws the faults; when each
//! meets the daemons is the machine's own.

#[path = "../common/mod.rs"]
mod common;

mod client;
mod dice;
mod faults;
mod ledger;
mod nemesis;
mod over;
mod records;

use client::Client;
use common::Lab;
use dice::setting;
use ledger::Ledger;
use nemesis::Nemesis;
use records::Records;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NODES: [&str; 5] = ["h1", "h2", "h3", "h4", "w"];
/// A cluster that is whole again has everything back within this.
const BACK: Duration = Duration::from_secs(60);

#[test]
fn nothing_runs_twice_and_nothing_acknowledged_is_lost_whatever_fails() {
    let test = "nothing_runs_twice_and_nothing_acknowledged_is_lost_whatever_fails";
    if common::skipped(test) {
        return;
    }
    let (seed, seconds, guests) = (
        setting("QUORATE_SOAK_SEED", 1),
        setting("QUORATE_SOAK_SECONDS", 40),
        setting("QUORATE_SOAK_GUESTS", 8),
    );
    let round = Duration::from_secs(seconds.clamp(1, 90));
    println!("soak: seed {seed}, {seconds} s or more, {guests} guests");
    let mut lab = Lab::new(&NODES);
    let names: Vec<String> = (1..=guests).map(|n| format!("g{n}")).collect();
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    lab.add("h1", &asked);
    let ledger = Arc::new(Ledger::new(&names));
    let mut records = Records::new(lab.path().join("records"));
    let mut nemesis = Nemesis::new(seed, Arc::clone(&lab.site), lab.path().join("copies"));
    nemesis.copy(&lab);
    let mut client = Client::new(seed, Arc::clone(&lab.site), Arc::clone(&ledger));
    let begun = Instant::now();
    let mut rounds = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        client.start();
        nemesis.trouble(round);
        nemesis.mend(&lab);
        client.stop();
        rounds += 1;
        let mended = Instant::now();
        let back = lab.within("everything to be back", BACK, || {
            ledger::whole(&lab)?;
            ledger.agrees(&lab)?;
            records.fresh(&ledger.running())
        });
        let broken = records.judge();
        assert!(
            broken.is_empty(),
            "seed {seed}, round {rounds}: {broken:#?}"
        );
        if let Err(why) = back {
            panic!("seed {seed}, round {rounds}: not back within {BACK:?}: {why}");
        }
        println!(
            "{:7.1} round {rounds}: back after {:.1} s",
            begun.elapsed().as_secs_f64(),
            mended.elapsed().as_secs_f64()
        );
        ledger.settle(&lab);
        nemesis.set_back(&lab);
    }
    nemesis.report();
    let acknowledged = client.report();
    assert!(
        acknowledged > 0,
        "no change was acknowledged, so none could be lost: {guests} guests leave no room for more?"
    );
    println!("rounds {rounds}: nothing ran twice, nothing acknowledged was lost, all came back");
}
