//! The story of the demo, step by step, each waited for and measured.

use super::judge::{Expected, judge};
use super::report::{GuestLine, Report, Step};
use super::site::{NODES, Site, WITNESS};
use super::switch::{Switch, break_outlet};
use super::watch::{self, Event, Events, Guest, Status, wait};
use super::{DemoError, record};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const GUESTS: [&str; 6] = ["g1", "g2", "g3", "g4", "g5", "g6"];
/// Long enough for a busy machine; every step takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A telling of the story.
pub(super) struct Story<'a> {
    exe: PathBuf,
    site: Arc<Site>,
    stop: &'a dyn Fn() -> bool,
    tell: &'a dyn Fn(&str),
    began: u64,
    report: Report,
    expected: Vec<Expected>,
}

/// An act: its name and when it began.
#[derive(Clone, Copy)]
struct Act {
    name: &'static str,
    began: u64,
}

impl<'a> Story<'a> {
    pub(super) fn new(
        exe: &Path,
        site: Arc<Site>,
        began: u64,
        stop: &'a dyn Fn() -> bool,
        tell: &'a dyn Fn(&str),
    ) -> Story<'a> {
        Story {
            exe: exe.to_owned(),
            site,
            stop,
            tell,
            began,
            report: Report::default(),
            expected: Vec::new(),
        }
    }

    /// Tells it all.
    pub(super) fn tell(mut self) -> Result<Report, DemoError> {
        let _switch = Switch::start(Arc::clone(&self.site));
        let events = self.form()?;
        self.add_guests()?;
        self.cut_power(&events)?;
        self.settled()?;
        self.pull_cable(&events)?;
        self.go_on()?;
        self.judge()
    }

    fn form(&mut self) -> Result<Vec<Events>, DemoError> {
        let act = self.act(
            "form",
            "five hosts, a bridge and a power switch; nothing runs yet",
        );
        let key = self.site.key();
        let key = key.display().to_string();
        self.quorate(&["key", "generate", &key])?;
        // The founder waits for the stores of all voters, so all are asked at once.
        let mut asked = Vec::new();
        for name in NODES {
            let file = self.site.config(name).display().to_string();
            let args: &[&str] = if name == NODES[0] {
                &["cluster", "init", "--config", &file]
            } else {
                &["join", "--config", &file]
            };
            let what = format!("quorate {} (on {name})", args.join(" "));
            let mut command = self.site.command(name, args)?;
            asked.push((watch::start(&mut command, &what)?, what));
        }
        for (child, what) in asked {
            watch::finish(child, &what)?;
        }
        self.step(
            act,
            "stores made",
            record::now(),
            "key, cluster init, four joins".into(),
        );
        for name in NODES {
            self.site.start_daemon(name)?;
        }
        let (exe, site) = (self.exe.clone(), Arc::clone(&self.site));
        let status = wait("a view of five members", PATIENCE, self.stop, || {
            let status = watch::status(&exe, &site, WITNESS)?;
            whole(&status).map(|()| status)
        })?;
        let text = format!("view {} with five members", status.view.number);
        self.step(act, "view", record::now(), text);
        let events = NODES
            .iter()
            .map(|name| Events::follow(&self.site, name))
            .collect::<Result<Vec<Events>, String>>()?;
        self.hosts_lead(act)?;
        self.hosts_ready(&events)?;
        Ok(events)
    }

    /// Guests are spread over the hosts that may take some. A host may once the log holds its word
    /// who guards its lease, and a beat of it said that it has one: it has renewed it.
    fn hosts_ready(&self, events: &[Events]) -> Result<(), DemoError> {
        for name in NODES.iter().filter(|name| **name != WITNESS) {
            let guarded = |e: &Event| {
                e.kind == "view" && e.host.as_deref() == Some(name) && e.text.starts_with("attests")
            };
            let mut before = f64::MAX;
            wait(
                &format!("{name} to be fit for guests"),
                PATIENCE,
                self.stop,
                || {
                    if !events
                        .iter()
                        .any(|source| source.first(0, guarded).is_some())
                    {
                        return Err("nobody is known to guard its lease".into());
                    }
                    let status = watch::status(&self.exe, &self.site, name)?;
                    if status.unread(name) {
                        return Err("its fence device was not read yet".into());
                    }
                    let left = status.lease_left;
                    let renewed = left > before;
                    before = if left > 0.0 { left } else { f64::MAX };
                    if renewed {
                        Ok(())
                    } else {
                        Err(format!("{left} s left of its lease"))
                    }
                },
            )?;
        }
        Ok(())
    }

    /// The demo cuts the coordinator's power *with guests in it*; a witness has none. So a witness
    /// that leads is held until a host does.
    fn hosts_lead(&mut self, act: Act) -> Result<(), DemoError> {
        if self.coordinator(WITNESS)? != WITNESS {
            return Ok(());
        }
        self.site.signal_daemon(WITNESS, "STOP")?;
        let (exe, site) = (self.exe.clone(), Arc::clone(&self.site));
        let led = wait(
            "a host that coordinates",
            PATIENCE,
            self.stop,
            || match watch::status(&exe, &site, NODES[0])?.view.coordinator {
                Some(name) if name != WITNESS => Ok(name),
                other => Err(format!("coordinator: {other:?}")),
            },
        );
        self.site.signal_daemon(WITNESS, "CONT")?;
        let led = led?;
        self.step(
            act,
            "a host leads",
            record::now(),
            format!("the witness led and was held until {led} did"),
        );
        let (exe, site) = (self.exe.clone(), Arc::clone(&self.site));
        wait("five members again", PATIENCE, self.stop, || {
            whole(&watch::status(&exe, &site, WITNESS)?)
        })
    }

    fn add_guests(&mut self) -> Result<(), DemoError> {
        let act = self.act("form", "six guests are added");
        let coordinator = self.coordinator(WITNESS)?;
        for guest in GUESTS {
            let file = self.site.guest_file(guest)?.display().to_string();
            watch::ask(
                &self.exe,
                &self.site,
                &coordinator,
                &["guest", "add", &file],
            )?;
        }
        self.settled()?;
        let homes = self.homes()?;
        let mut words: Vec<String> = homes.iter().map(|(g, h)| format!("{g} on {h}")).collect();
        words.sort();
        self.step(act, "guests run", record::now(), words.join(", "));
        Ok(())
    }

    fn cut_power(&mut self, events: &[Events]) -> Result<(), DemoError> {
        let victim = self.coordinator(WITNESS)?;
        let guests = self.guests_on(&victim)?;
        let act = self.act(
            "power-off",
            &format!(
                "{victim}, the coordinator's host, loses power with {}",
                list(&guests)
            ),
        );
        self.site.power_off(&victim)?;
        self.expect(&victim, &guests, act.began);
        self.event(act, events, "verdict", &victim, |e| e.kind == "verdict")?;
        self.event(act, events, "fence", &victim, |e| e.kind == "fence")?;
        self.event(act, events, "proof", &victim, |e| e.kind == "proof")?;
        self.back(act, &victim, &guests)
    }

    fn pull_cable(&mut self, events: &[Events]) -> Result<(), DemoError> {
        let coordinator = self.coordinator(WITNESS)?;
        let homes = self.homes()?;
        let victim = homes
            .values()
            .filter(|host| **host != coordinator)
            .max_by_key(|host| homes.values().filter(|h| h == host).count())
            .cloned()
            .ok_or_else(|| DemoError::Failed("all guests run on the coordinator's host".into()))?;
        let guests = self.guests_on(&victim)?;
        break_outlet(&self.site.switch(), &victim)?;
        let act = self.act(
            "cable",
            &format!(
                "{victim}'s cable is pulled while its power switch is broken; {} run on it",
                list(&guests)
            ),
        );
        self.site.cable(&victim, false)?;
        self.expect(&victim, &guests, act.began);
        self.event(act, events, "verdict", &victim, |e| e.kind == "verdict")?;
        self.event(act, events, "proof", &victim, |e| e.kind == "proof")?;
        self.back(act, &victim, &guests)?;
        if !self.site.alive(&victim) {
            return Err(DemoError::Failed(format!(
                "{victim} lost its power, so this act shows nothing"
            )));
        }
        self.site.cable(&victim, true)?;
        self.act(
            "cable",
            &format!("{victim}'s cable is plugged in again; nothing may wake up there"),
        );
        Ok(())
    }

    /// Waits until every guest has written a while longer, so that a copy that was only held, not
    /// ended, has time to show when its host hears the others again.
    fn go_on(&self) -> Result<(), DemoError> {
        const LONGER_NS: u64 = 2_000_000_000;
        let after = record::now() + LONGER_NS;
        wait("every guest to go on", PATIENCE, self.stop, || {
            for guest in GUESTS {
                match record::last(&self.site.record(guest)).map_err(|e| e.to_string())? {
                    Some(line) if line.at > after => {}
                    other => return Err(format!("{guest}: its last line: {other:?}")),
                }
            }
            Ok(())
        })
    }

    /// The last line of a guest on `host`, and its first elsewhere after that.
    fn handover(&self, guest: &str, host: &str, after: u64) -> Result<(u64, u64), DemoError> {
        let text = self.read(guest)?;
        let lines = || text.lines().filter_map(record::parse);
        let ended = lines().filter(|l| l.life.host == host).map(|l| l.at).max();
        let started = lines()
            .filter(|l| l.life.host != host && l.at > after)
            .map(|l| l.at)
            .min();
        match (ended, started) {
            (Some(ended), Some(started)) => Ok((ended, started)),
            _ => Err(DemoError::Failed(format!(
                "{guest} left no trace of its move"
            ))),
        }
    }

    /// Waits until every guest of `guests` runs elsewhere by its own records.
    fn back(&mut self, act: Act, victim: &str, guests: &[String]) -> Result<(), DemoError> {
        let (mut gone, mut first, mut last) = (0, u64::MAX, 0);
        for guest in guests {
            let site = Arc::clone(&self.site);
            wait(
                &format!("{guest} to run elsewhere"),
                PATIENCE,
                self.stop,
                || match record::last(&site.record(guest)).map_err(|e| e.to_string())? {
                    Some(r) if r.life.host != victim && r.at > act.began => Ok(()),
                    other => Err(format!("its last line: {other:?}")),
                },
            )?;
            let (ended, started) = self.handover(guest, victim, act.began)?;
            (gone, first, last) = (gone.max(ended), first.min(started), last.max(started));
        }
        let homes = self.homes()?;
        let words: Vec<String> = guests
            .iter()
            .map(|g| format!("{g} on {}", homes.get(g).map_or("?", |h| h)))
            .collect();
        let text = format!("the last line any of them wrote on {victim}");
        self.step(act, "all ended there", gone, text);
        let text = match first.checked_sub(gone) {
            Some(gap) => format!("by its own record, {:.3} s after that", seconds(gap)),
            None => "by its own record, BEFORE that".into(),
        };
        self.step(act, "first guest back", first, text);
        self.step(act, "last guest back", last, words.join(", "));
        Ok(())
    }

    /// Waits for a coordinator, and for every guest to run by the cluster's word and its own.
    fn settled(&self) -> Result<(), DemoError> {
        wait("every guest to run", PATIENCE, self.stop, || {
            let status = watch::status(&self.exe, &self.site, WITNESS)?;
            if !status.quorate || status.view.coordinator.is_none() {
                return Err(format!("status: {status:?}"));
            }
            let guests = watch::guests(&self.exe, &self.site, WITNESS)?;
            for name in GUESTS {
                let guest = guests.iter().find(|g| g.name == name);
                match guest {
                    Some(Guest { state, host, .. }) if state == "running" => {
                        let line = record::last(&self.site.record(name));
                        let line = line.map_err(|e| e.to_string())?;
                        let there = line.as_ref().map(|r| &r.life.host);
                        let fresh = line
                            .as_ref()
                            .is_some_and(|r| record::now().saturating_sub(r.at) < 1_000_000_000);
                        if !fresh || there != host.as_ref() {
                            return Err(format!("{name}: {guest:?}, but it wrote {line:?}"));
                        }
                    }
                    other => return Err(format!("{name}: {other:?}")),
                }
            }
            Ok(())
        })
    }

    fn judge(mut self) -> Result<Report, DemoError> {
        let end = record::now();
        let mut records = BTreeMap::new();
        for guest in GUESTS {
            records.insert(guest.to_owned(), self.read(guest)?);
        }
        let (findings, charges) = judge(&records, &self.expected, end);
        for (guest, finding) in findings {
            self.report.guests.push(GuestLine {
                guest,
                hosts: finding.runs.iter().map(|r| r.life.host.clone()).collect(),
                lines: finding.runs.iter().map(|r| r.lines).sum(),
                least_gap_seconds: finding.least_gap_ns.map(seconds),
            });
        }
        self.report.charges = charges.iter().map(ToString::to_string).collect();
        self.report.seconds = seconds(record::now().saturating_sub(self.began));
        Ok(self.report)
    }

    fn read(&self, guest: &str) -> Result<String, DemoError> {
        let path = self.site.record(guest);
        std::fs::read_to_string(&path)
            .map_err(|e| DemoError::Failed(format!("{}: {e}", path.display())))
    }

    fn expect(&mut self, off: &str, guests: &[String], failed_at: u64) {
        self.expected.extend(guests.iter().map(|guest| Expected {
            guest: guest.clone(),
            off: off.to_owned(),
            failed_at,
        }));
    }

    /// The host each guest last wrote from.
    fn homes(&self) -> Result<BTreeMap<String, String>, DemoError> {
        let mut homes = BTreeMap::new();
        for guest in GUESTS {
            let line = record::last(&self.site.record(guest))
                .map_err(|e| DemoError::Failed(format!("{guest}: {e}")))?;
            if let Some(line) = line {
                homes.insert(guest.to_owned(), line.life.host);
            }
        }
        Ok(homes)
    }

    fn guests_on(&self, host: &str) -> Result<Vec<String>, DemoError> {
        let homes = self.homes()?;
        let guests: Vec<String> = homes
            .iter()
            .filter(|(_, h)| *h == host)
            .map(|(g, _)| g.clone())
            .collect();
        if guests.is_empty() {
            return Err(DemoError::Failed(format!(
                "no guest runs on {host}, so its failure would show nothing: {homes:?}"
            )));
        }
        Ok(guests)
    }

    fn coordinator(&self, node: &str) -> Result<String, DemoError> {
        wait("a coordinator", PATIENCE, self.stop, || {
            let status = watch::status(&self.exe, &self.site, node)?;
            status.view.coordinator.ok_or("there is none".into())
        })
    }

    fn event(
        &mut self,
        act: Act,
        events: &[Events],
        name: &'static str,
        host: &str,
        fits: impl Fn(&Event) -> bool,
    ) -> Result<(), DemoError> {
        let fits = |e: &Event| e.host.as_deref() == Some(host) && fits(e);
        let what = format!("the event {name:?} of {host}");
        let (at, event) = wait(&what, PATIENCE, self.stop, || {
            // A host that is cut off may say what it likes about itself.
            events
                .iter()
                .filter(|source| source.node != host)
                .filter_map(|source| source.first(act.began, fits))
                .min_by_key(|(at, _)| *at)
                .ok_or("no node told of it".into())
        })?;
        self.step(act, name, at, event.text);
        Ok(())
    }

    fn quorate(&self, args: &[&str]) -> Result<String, String> {
        let what = format!("quorate {}", args.join(" "));
        let mut command = std::process::Command::new(&self.exe);
        watch::finish(watch::start(command.args(args), &what)?, &what)
    }

    fn act(&self, name: &'static str, text: &str) -> Act {
        let began = record::now();
        (self.tell)(&format!("\n{:9.3}  {text}", seconds(began - self.began)));
        Act { name, began }
    }

    fn step(&mut self, act: Act, step: &'static str, at: u64, text: String) {
        let since = seconds(at.saturating_sub(act.began));
        (self.tell)(&format!(
            "{:9.3}  {since:+8.3} s  {step}: {text}",
            seconds(at.saturating_sub(self.began))
        ));
        self.report.steps.push(Step {
            act: act.name,
            step,
            seconds: since,
            text,
        });
    }
}

fn whole(status: &Status) -> Result<(), String> {
    let members = |m: &&super::watch::Member| m.state == "member";
    let all = NODES.iter().all(|name| {
        status
            .view
            .members
            .iter()
            .filter(members)
            .any(|m| m.name == *name)
    });
    if status.quorate && all && status.view.coordinator.is_some() {
        Ok(())
    } else {
        Err(format!("status: {status:?}"))
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn list(guests: &[String]) -> String {
    guests.join(", ")
}
