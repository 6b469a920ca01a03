//! The lab: real daemons, libvirt, QEMU and IPMI on hosts made of namespaces (`make lab`).
//!
//! It needs root and what `scripts/lab.sh` installs; that script runs it. Exit code 0 if every case
//! went well and no two copies of a guest ever wrote to a disk at once, 1 if not, 2 if it cannot
//! run here. As a test program it lists no tests: `scripts/test.sh` runs it as a step of its own.
#![allow(unreachable_pub, missing_docs)]

#[path = "../soak/dice.rs"]
mod dice;

mod backup;
mod bmc;
mod by_hand;
mod cases;
mod disk;
mod domain;
mod group;
mod guardian;
mod holds;
mod image;
mod images;
mod judge;
mod lab;
mod leftovers;
mod locks;
mod numbers;
mod report;
mod resources;
mod site;
mod soak;
mod storage;
mod tools;

use lab::{Lab, Setting};
use quorate::demo::DemoError;
use quorate::demo::record::now;
use report::Report;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tools::Tools;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // What a test runner asks.
    if words.iter().any(|w| w == "--list") {
        return ExitCode::SUCCESS;
    }
    let (mut json, mut check) = (false, false);
    let mut named = Vec::new();
    for word in words {
        match word.as_str() {
            "--json" => json = true,
            "--check" => check = true,
            _ if word.starts_with('-') => {
                eprintln!("lab: unknown argument {word}");
                return ExitCode::from(2);
            }
            _ => named.push(word),
        }
    }
    let chosen = match choose(&named) {
        Ok(chosen) => chosen,
        Err(why) => {
            eprintln!("lab: {why}");
            return ExitCode::from(2);
        }
    };
    let tools = Tools::find();
    if let Some(why) = tools.missing() {
        eprintln!("lab: {why}");
        return ExitCode::from(2);
    }
    if check {
        return ExitCode::SUCCESS;
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [2, 15] {
        // The second one ends us at once; the hosts go with us all the same.
        let first = signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop));
        let then = signal_hook::flag::register(signal, Arc::clone(&stop));
        if let Err(e) = first.and(then) {
            eprintln!("lab: signal {signal} will end it at once: {e}");
        }
    }
    let tell = move |line: &str| {
        if json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    };
    let began = now();
    let setting = Setting {
        tools: &tools,
        stop: &|| stop.load(Ordering::Relaxed),
        tell: &tell,
        began,
    };
    let mut report = Report::default();
    play(&setting, &chosen, &mut report);
    report.seconds = now().saturating_sub(began) as f64 / 1e9;
    if json {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => println!("{text}"),
            Err(e) => eprintln!("{e}"),
        }
    } else {
        print!("{report}");
    }
    ExitCode::from(u8::from(!report.charges.is_empty()))
}

/// The cases of these names; `cases` and `numbers` are whole groups, no name is the first.
fn choose(names: &[String]) -> Result<Vec<&'static cases::Case>, String> {
    if names.is_empty() {
        return Ok(cases::CASES.iter().collect());
    }
    let all = || {
        let cases = cases::CASES.iter();
        cases.chain(&numbers::NUMBERS).chain(&soak::SOAK)
    };
    let mut chosen = Vec::new();
    for name in names {
        let found: Vec<&cases::Case> = match name.as_str() {
            "cases" => cases::CASES.iter().collect(),
            "numbers" => numbers::NUMBERS.iter().collect(),
            name => all().filter(|c| c.name == name).collect(),
        };
        if found.is_empty() {
            let known: Vec<String> = all()
                .map(|c| format!("  {:<12} {}", c.name, c.text))
                .collect();
            return Err(format!("no case {name:?}; there are\n{}", known.join("\n")));
        }
        chosen.extend(found);
    }
    Ok(chosen)
}

/// Plays the cases one after the other; after a failed one, what is left on a new lab.
fn play(setting: &Setting<'_>, cases: &[&cases::Case], report: &mut Report) {
    let mut open: Option<Lab<'_>> = None;
    for case in cases {
        if let Some(lab) = open.take_if(|lab| case.fresh && !lab.played.is_empty()) {
            close(lab, report);
        }
        let result = match open.take() {
            Some(lab) => Ok(lab),
            None => Lab::form(setting).and_then(|mut lab| match cases::add_guests(&mut lab) {
                Ok(()) => Ok(lab),
                Err(e) => Err(lab.explain(e)),
            }),
        };
        let played = result.and_then(|mut lab| {
            lab.played.push(case.name);
            match (case.play)(&mut lab) {
                Ok(()) => Ok(lab),
                Err(e) => {
                    let e = lab.explain(e);
                    // What the disks say counts also then.
                    close(lab, report);
                    Err(e)
                }
            }
        });
        match played {
            Ok(lab) => open = Some(lab),
            Err(e) => {
                (setting.tell)(&format!("{} failed: {e}", case.name));
                let first = e.to_string();
                let first = first.lines().next().unwrap_or_default().to_owned();
                report.charges.push(format!("{}: {first}", case.name));
                if e == DemoError::Interrupted {
                    break;
                }
            }
        }
    }
    if let Some(lab) = open {
        close(lab, report);
    }
}

/// Judges the disks of a lab and ends it.
fn close(mut lab: Lab<'_>, report: &mut Report) {
    if let Err(e) = lab.judge() {
        lab.report.charges.push(e.to_string());
    }
    report.take(std::mem::take(&mut lab.report));
    let (spaces, dir) = (lab.site.spaces(), lab.directory().to_owned());
    let tell = lab.setting.tell;
    drop(lab);
    let left = leftovers::left(&spaces, &dir);
    if left.is_empty() {
        tell(&format!(
            "           {} hosts were made; nothing of them is left",
            spaces.len() - 1
        ));
    } else {
        let left = left.into_iter().map(|what| format!("left behind: {what}"));
        report.charges.extend(left);
    }
}
