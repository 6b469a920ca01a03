//! A lab that runs: a cluster on its machine room, guests, and what was measured.

use super::bmc::Wires;
use super::disk::{self, Record};
use super::domain::{self, Kit};
use super::group;
use super::judge::{self, Life};
use super::report::{GuestLine, Report, Step};
use super::site::{HOSTS, NODES, Site, WITNESS};
use super::tools::Tools;
use quorate::demo::DemoError;
use quorate::demo::record::now;
use quorate::demo::watch::{self, Event, Events, Guest, Status};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Long enough for guests that boot on a busy machine; a healthy lab waits seconds.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// What a lab is run with.
pub struct Setting<'a> {
    /// Files and programs.
    pub tools: &'a Tools,
    /// Asked while it waits.
    pub stop: &'a dyn Fn() -> bool,
    /// Gets a line when something happens.
    pub tell: &'a dyn Fn(&str),
    /// When it all began, by the boot clock.
    pub began: u64,
}

/// The youngest start of every guest; none if it never ran.
pub type Starts = BTreeMap<String, Option<String>>;

/// A guest of the lab.
#[derive(Clone, Debug)]
pub struct Protected {
    /// Its name.
    pub name: String,
    /// The image it writes to.
    pub disk: PathBuf,
}

/// So often a leader that is no host is held.
const TRIES: u32 = 5;

/// A cluster of real daemons with real guests. Everything in it ends with it.
pub struct Lab<'a> {
    pub setting: &'a Setting<'a>,
    // In this order: the wires are cut, the hosts go, the files go.
    wires: Option<Wires>,
    pub site: Arc<Site>,
    dir: Work,
    pub events: BTreeMap<String, Events>,
    pub guests: Vec<Protected>,
    pub report: Report,
    /// The cases that were played here.
    pub played: Vec<&'static str>,
    case: String,
    began: u64,
    commands: u64,
}

impl<'a> Lab<'a> {
    /// Builds the machine room and forms the cluster.
    pub fn form(setting: &'a Setting<'a>) -> Result<Lab<'a>, DemoError> {
        let dir = Work::new(setting.tools)?;
        // A build while the lab runs must not change what its hosts run.
        let (built, exe) = (&setting.tools.exe, dir.0.join("quorate"));
        let kept = std::fs::hard_link(built, &exe);
        kept.or_else(|_| std::fs::copy(built, &exe).map(|_| ()))
            .map_err(|e| format!("{}: {e}", exe.display()))?;
        let tools = Tools {
            exe,
            ..setting.tools.clone()
        };
        let site = Arc::new(Site::build(&dir.0, &tools)?);
        let wires = Some(Wires::connect(Arc::clone(&site)));
        let mut lab = Lab {
            setting,
            wires,
            site,
            dir,
            events: BTreeMap::new(),
            guests: Vec::new(),
            report: Report::default(),
            played: Vec::new(),
            case: "form".to_owned(),
            began: now(),
            commands: 0,
        };
        match lab.make_cluster() {
            Ok(()) => Ok(lab),
            Err(e) => Err(lab.explain(e)),
        }
    }

    fn make_cluster(&mut self) -> Result<(), DemoError> {
        self.begin(
            "form",
            "three hosts with a libvirt each, a witness, a bridge, controllers",
        );
        let key = self.site.key().display().to_string();
        self.site.quorate(NODES[0], &["key", "generate", &key])?;
        // The founder waits for the stores of all voters, so all are asked at once.
        let mut asked = Vec::new();
        for name in NODES {
            let mut command = self.site.command(name, self.site.exe())?;
            let words: &[&str] = if name == NODES[0] {
                &["cluster", "init"]
            } else {
                &["join"]
            };
            command
                .args(words)
                .arg("--config")
                .arg(self.site.config(name));
            let what = format!("quorate {} (on {name})", words.join(" "));
            asked.push((watch::start(&mut command, &what)?, what));
        }
        for (child, what) in asked {
            watch::finish(child, &what)?;
        }
        for name in NODES {
            self.site.start_daemon(name)?;
        }
        self.whole()?;
        for name in HOSTS {
            self.libvirt_answers(name)?;
        }
        self.step("view", now(), "all four are members, every libvirt answers");
        // libvirt's first look at the emulator takes seconds; one host looks, all remember.
        let emulator = self.setting.tools.program("qemu-system-x86_64");
        let emulator = emulator.display().to_string();
        for name in HOSTS {
            let words = [
                "domcapabilities",
                "--virttype",
                "qemu",
                "--emulatorbin",
                &emulator,
            ];
            self.wait("libvirt to know the emulator", || {
                self.site.virsh(name, &words).map(|_| ())
            })?;
        }
        self.step("emulator known", now(), "by every libvirt");
        for name in NODES {
            self.follow(name)?;
        }
        Ok(())
    }

    /// Hears the events of a node from now on.
    pub fn follow(&mut self, name: &str) -> Result<(), DemoError> {
        let mut command = self.site.command(name, self.site.exe())?;
        command.args(["events", "--follow", "--json"]);
        let events = Events::of(name, command)?;
        self.events.insert(name.to_owned(), events);
        Ok(())
    }

    /// Waits until every node is a member and a host or the witness leads.
    pub fn whole(&self) -> Result<(), DemoError> {
        self.wait("four members", || {
            let status = self.status(WITNESS)?;
            let member = |name: &&'static str| {
                let mut all = status.view.members.iter();
                all.any(|m| m.name == **name && m.state == "member")
            };
            if status.quorate && status.view.coordinator.is_some() && NODES.iter().all(member) {
                Ok(())
            } else {
                Err(format!("status: {status:?}"))
            }
        })?;
        // A host takes guests once its lease is renewed.
        for name in HOSTS {
            self.renewed(name)?;
        }
        Ok(())
    }

    /// Waits until the lease of a host was renewed.
    pub fn renewed(&self, name: &str) -> Result<(), DemoError> {
        let mut before = f64::MAX;
        self.wait(&format!("{name}'s lease to be renewed"), || {
            let left = self.status(name)?.lease_left;
            let renewed = left > before;
            before = if left > 0.0 { left } else { f64::MAX };
            renewed.then_some(()).ok_or(format!("{left} s left of it"))
        })
    }

    /// Waits until the libvirt of a host answers.
    pub fn libvirt_answers(&self, name: &str) -> Result<(), DemoError> {
        self.wait(&format!("{name}'s libvirt"), || {
            self.site.virsh(name, &["uri"]).map(|_| ())
        })
    }

    /// The status as a node sees it.
    pub fn status(&self, name: &str) -> Result<Status, String> {
        let text = self.site.quorate(name, &["status", "--json"])?;
        serde_json::from_str(&text).map_err(|e| format!("quorate status --json: {e} in {text}"))
    }

    /// The guests as the witness sees them.
    pub fn known(&self) -> Result<Vec<Guest>, String> {
        let text = self.site.quorate(WITNESS, &["guests", "--json"])?;
        serde_json::from_str(&text).map_err(|e| format!("quorate guests --json: {e} in {text}"))
    }

    /// The coordinator.
    pub fn coordinator(&self) -> Result<String, DemoError> {
        self.wait("a coordinator", || {
            let status = self.status(WITNESS)?;
            status.view.coordinator.ok_or("there is none".into())
        })
    }

    /// The coordinator, a host with guests: a witness that leads is held until one does.
    pub fn leading_host(&mut self) -> Result<String, DemoError> {
        for _ in 0..TRIES {
            let leader = self.coordinator()?;
            if leader != WITNESS {
                return Ok(leader);
            }
            self.site.signal(WITNESS, "daemon", "STOP")?;
            let led = self.wait("a host that coordinates", || {
                match self.status(NODES[0])?.view.coordinator {
                    Some(name) if name != WITNESS => Ok(name),
                    other => Err(format!("coordinator: {other:?}")),
                }
            });
            self.site.signal(WITNESS, "daemon", "CONT")?;
            led?;
            // Which of them leads may change once more, and the witness may lead again.
            self.whole()?;
        }
        let why = format!("{WITNESS} led again, {TRIES} times");
        Err(DemoError::Failed(why))
    }

    /// Adds a guest; `policy` is what `guest add --with` reads beside the description.
    pub fn add_guest(&mut self, number: u8, kit: Kit, policy: &str) -> Result<String, DemoError> {
        let name = format!("g{number}");
        let disk = self.site.disk(&name);
        disk::make(&disk).map_err(|e| format!("{}: {e}", disk.display()))?;
        let xml = domain::describe(self.setting.tools, &name, number, &disk, kit);
        let (file, with) = (self.site.description(&name), self.site.policy(&name));
        for (file, text) in [(&file, xml.as_str()), (&with, policy)] {
            std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        }
        let (file, with) = (file.display().to_string(), with.display().to_string());
        // On a host with a libvirt: it knows what is shared.
        let words = ["guest", "add", "--xml", &file, "--with", &with];
        self.site.quorate(HOSTS[0], &words)?;
        self.guests.push(Protected {
            name: name.clone(),
            disk,
        });
        Ok(name)
    }

    /// The work directory.
    pub fn directory(&self) -> &Path {
        &self.dir.0
    }

    /// The image that a guest writes to.
    pub fn disk(&self, guest: &str) -> PathBuf {
        let known = self.guests.iter().find(|g| g.name == guest);
        known.map_or_else(|| self.site.disk(guest), |g| g.disk.clone())
    }

    /// A guest writes to another image from now on.
    pub fn writes_to(&mut self, guest: &str, image: &Path) {
        for known in self.guests.iter_mut().filter(|g| g.name == guest) {
            known.disk = image.to_owned();
        }
    }

    /// The last record of a guest's youngest start.
    pub fn last(&self, guest: &str) -> Result<Option<Record>, String> {
        disk::last(&self.disk(guest)).map_err(|e| format!("{guest}: {e}"))
    }

    /// Waits until a guest runs by the cluster's word and by its own: two further records.
    pub fn runs(&self, guest: &str) -> Result<Record, DemoError> {
        let mut first: Option<Record> = None;
        self.wait(&format!("{guest} to run"), || {
            let known = self.known()?;
            let row = known.iter().find(|g| g.name == guest);
            let host = match row {
                Some(row) if row.state == "running" => row.host.clone(),
                other => return Err(format!("{other:?}")),
            };
            let last = self.last(guest)?.ok_or("it has written nothing")?;
            if Some(&last.host) != host.as_ref() {
                return Err(format!(
                    "the log has it on {host:?}, it writes on {}",
                    last.host
                ));
            }
            match &first {
                Some(first) if first.start == last.start && last.counter >= first.counter + 2 => {
                    Ok(last)
                }
                Some(first) if first.start == last.start => Err(format!("{last:?}")),
                _ => {
                    let why = format!("{last:?}");
                    first = Some(last);
                    Err(why)
                }
            }
        })
    }

    /// Waits until every guest runs.
    pub fn settled(&self) -> Result<(), DemoError> {
        for guest in &self.guests {
            self.runs(&guest.name)?;
        }
        Ok(())
    }

    /// The guests whose records say that they run on a host.
    pub fn guests_on(&self, host: &str) -> Result<Vec<String>, DemoError> {
        let mut found = Vec::new();
        for guest in &self.guests {
            if self.last(&guest.name)?.is_some_and(|r| r.host == host) {
                found.push(guest.name.clone());
            }
        }
        Ok(found)
    }

    /// Tells the youngest start of a guest to do something.
    pub fn tell_guest(&mut self, guest: &str, words: &str) -> Result<Record, DemoError> {
        let last = self
            .last(guest)?
            .ok_or(format!("{guest} has written nothing"))?;
        self.commands += 1;
        disk::command(&self.disk(guest), self.commands, &last.start, words)
            .map_err(|e| format!("{guest}: {e}"))?;
        Ok(last)
    }

    /// Begins a case: what is measured from here on counts from this moment.
    pub fn begin(&mut self, case: &str, text: &str) {
        self.case = case.to_owned();
        self.began = now();
        (self.setting.tell)(&format!("\n{:9.3}  {case}: {text}", self.clock(self.began)));
    }

    /// The moment the present case counts from.
    pub fn since(&self) -> u64 {
        self.began
    }

    /// Counts from this moment on.
    pub fn mark(&mut self, text: &str) {
        self.began = now();
        (self.setting.tell)(&format!("{:9.3}  {text}", self.clock(self.began)));
    }

    /// Counts from a moment that has passed.
    pub fn mark_at(&mut self, at: u64, text: &str) {
        self.began = at;
        (self.setting.tell)(&format!("{:9.3}  {text}", self.clock(at)));
    }

    /// Notes a measured step.
    pub fn step(&mut self, step: &str, at: u64, text: &str) {
        let seconds = (at as f64 - self.began as f64) / 1e9;
        (self.setting.tell)(&format!(
            "{:9.3}  {seconds:+8.3} s  {step}: {text}",
            self.clock(at)
        ));
        self.report.steps.push(Step {
            case: self.case.clone(),
            step: step.to_owned(),
            seconds,
            text: text.to_owned(),
        });
    }

    fn clock(&self, at: u64) -> f64 {
        at.saturating_sub(self.setting.began) as f64 / 1e9
    }

    /// The first event that fits, of any node but `except`.
    pub fn event(
        &self,
        what: &str,
        except: &str,
        fits: impl Fn(&Event) -> bool,
    ) -> Result<(u64, Event), DemoError> {
        self.wait(what, || {
            self.events
                .values()
                .filter(|source| source.node != except)
                .filter_map(|source| source.first(self.began, &fits))
                .min_by_key(|(at, _)| *at)
                .ok_or("no node told of it".into())
        })
    }

    /// Notes the first event of a kind about a host as a step.
    pub fn host_event(&mut self, kind: &str, host: &str) -> Result<u64, DemoError> {
        let what = format!("the event {kind:?} of {host}");
        let about = |e: &Event| e.kind == kind && e.host.as_deref() == Some(host);
        let (at, event) = self.event(&what, host, about)?;
        self.step(kind, at, &event.text);
        Ok(at)
    }

    /// Notes the first event of a kind about a host as a step, if a node told of one.
    pub fn noted(&mut self, kind: &str, host: &str) {
        let about = |e: &Event| e.kind == kind && e.host.as_deref() == Some(host);
        let told = self.events.iter().filter(|(node, _)| *node != host);
        let told = told.filter_map(|(_, source)| source.first(self.began, about));
        if let Some((at, event)) = told.min_by_key(|(at, _)| *at) {
            self.step(kind, at, &event.text);
        }
    }

    /// Waits until every attempt at the power of a host that began since the mark has ended.
    pub fn attempts_ended(&self, host: &str) -> Result<(), DemoError> {
        self.wait(&format!("the attempts at {host}'s power to end"), || {
            // Their node tells its own end of one before the log does: "attempt N on it ended".
            let begun = |e: &Event| e.text.starts_with("fence level");
            let ended = |e: &Event| e.text.starts_with("attempt") && !e.text.contains(" on it ");
            let told = self.events.iter().filter(|(node, _)| *node != host);
            let open = told.map(|(_, source)| {
                let about = |e: &Event| e.kind == "fence" && e.host.as_deref() == Some(host);
                let begun = source.all(self.began, |e| about(e) && begun(e)).len();
                begun.saturating_sub(source.all(self.began, |e| about(e) && ended(e)).len())
            });
            match open.sum::<usize>() {
                0 => Ok(()),
                open => Err(format!("the nodes were told of {open} that have not")),
            }
        })
    }

    /// Repeats `look` until it gives something.
    pub fn wait<T>(
        &self,
        what: &str,
        look: impl FnMut() -> Result<T, String>,
    ) -> Result<T, DemoError> {
        watch::wait(what, PATIENCE, self.setting.stop, look)
    }

    /// The same, looked at much more often, for moments that are measured.
    pub fn quickly<T>(
        &self,
        what: &str,
        mut look: impl FnMut() -> Result<T, String>,
    ) -> Result<T, DemoError> {
        let give_up = now() + PATIENCE.as_nanos() as u64;
        loop {
            match look() {
                Ok(found) => return Ok(found),
                Err(_) if (self.setting.stop)() => return Err(DemoError::Interrupted),
                Err(why) if now() > give_up => {
                    return Err(DemoError::Failed(format!("waited for {what}: {why}")));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Lets time pass, with an eye on Ctrl-C.
    pub fn pass(&self, time: Duration) -> Result<(), DemoError> {
        let until = now() + time.as_nanos() as u64;
        while now() < until {
            if (self.setting.stop)() {
                return Err(DemoError::Interrupted);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// What a guest's console said so far.
    pub fn console(&self, guest: &str) -> Result<Vec<u8>, String> {
        let path = self.site.disk(guest).with_extension("raw.console");
        std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// The youngest start of every guest.
    pub fn starts(&self) -> Result<Starts, DemoError> {
        let mut found = Starts::new();
        for guest in &self.guests {
            let last = self.last(&guest.name)?;
            found.insert(guest.name.clone(), last.map(|r| r.start));
        }
        Ok(found)
    }

    /// What the monitors said of guests since the case began, each once.
    pub fn health_notes(&self) -> String {
        let mut said = Vec::new();
        for source in self.events.values() {
            let all = source.all(self.began, |e| e.kind == "health");
            for (_, e) in all {
                let text = format!("{}: {}", e.guest.unwrap_or_default(), e.text);
                if !said.contains(&text) {
                    said.push(text);
                }
            }
        }
        if said.is_empty() {
            "nothing".into()
        } else {
            said.join("; ")
        }
    }

    /// Reads and judges all disks. What is wrong goes into the report.
    pub fn judge(&mut self) -> Result<(), DemoError> {
        for guest in &self.guests {
            let slots = disk::read(&guest.disk).map_err(|e| format!("{}: {e}", guest.name))?;
            let (lives, charges) = judge::judge(&slots);
            let charges = charges.iter().map(|c| format!("{}: {c}", guest.name));
            self.report.charges.extend(charges);
            let cases = self.played.join(", ");
            self.report.guests.push(line(&guest.name, &lives, cases));
        }
        Ok(())
    }

    /// The lives of a guest so far, judged.
    pub fn lives(&self, guest: &str) -> Result<Vec<Life>, String> {
        let slots = disk::read(&self.disk(guest)).map_err(|e| format!("{guest}: {e}"))?;
        Ok(judge::judge(&slots).0)
    }

    /// A failure with what the nodes said last.
    pub fn explain(&self, e: DemoError) -> DemoError {
        const LINES: usize = 25;
        let DemoError::Failed(why) = e else { return e };
        let mut out = format!("{}: {why}\n", self.case);
        for name in NODES {
            let files = [
                self.site.daemon_log(name),
                self.dir.0.join(name).join("libvirtd.out"),
            ];
            for file in files {
                let text = std::fs::read(&file).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let lines: Vec<&str> = text.lines().collect();
                if lines.is_empty() {
                    continue;
                }
                out.push_str(&format!("--- the end of {}\n", file.display()));
                for line in &lines[lines.len().saturating_sub(LINES)..] {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        DemoError::Failed(out)
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        self.events.clear();
        // Before the hosts go: nothing may switch one on again.
        self.wires = None;
    }
}

fn line(guest: &str, lives: &[Life], cases: String) -> GuestLine {
    GuestLine {
        cases,
        guest: guest.to_owned(),
        hosts: lives.iter().map(|l| l.host.clone()).collect(),
        records: lives.iter().map(|l| l.last.counter + 1).sum(),
    }
}

/// The work directory; it goes away in the end unless `QUORATE_LAB_KEEP` is set.
struct Work(PathBuf);

impl Work {
    fn new(tools: &Tools) -> Result<Work, DemoError> {
        // What a lab that was killed could not clean up; its processes ended with it.
        for (path, kept) in Work::stale(tools) {
            if !kept {
                remove(&path)?;
            }
        }
        group::sweep()?;
        let dir = tools.lab.join(format!("run-{}", std::process::id()));
        let made = std::fs::create_dir_all(&dir);
        made.map_err(|e| format!("work directory {}: {e}", dir.display()))?;
        Ok(Work(dir))
    }

    /// The work directories of processes that are gone, and whether they are to be kept.
    fn stale(tools: &Tools) -> Vec<(PathBuf, bool)> {
        let entries = std::fs::read_dir(&tools.lab)
            .into_iter()
            .flatten()
            .flatten();
        let stale = |name: &str| {
            let pid = name.strip_prefix("run-")?.parse::<u32>().ok()?;
            (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        };
        entries
            .filter(|e| e.file_name().to_str().and_then(stale).is_some())
            .map(|e| (e.path(), e.path().join("kept").exists()))
            .collect()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if std::env::var_os("QUORATE_LAB_KEEP").is_some() {
            // Only for the next lab, which removes what is not marked.
            let _ = std::fs::write(self.0.join("kept"), "");
            eprintln!("kept: {}", self.0.display());
        } else if let Err(e) = remove(&self.0) {
            eprintln!("{e}");
        }
    }
}

fn remove(dir: &Path) -> Result<(), String> {
    std::fs::remove_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))
}
