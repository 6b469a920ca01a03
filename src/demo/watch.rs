//! Looking at the cluster from outside, by the commands an operator has.

use super::site::Site;
use super::{DemoError, record};
use serde::Deserialize;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest time one command may take to answer.
const COMMAND: Duration = Duration::from_secs(30);

/// What the demo reads of `quorate status --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    pub quorate: bool,
    /// Seconds left of the node's own lease.
    #[serde(default)]
    pub lease_left: f64,
    /// What an operator should know.
    #[serde(default)]
    pub remarks: Vec<String>,
    pub view: View,
}

/// The view in it.
#[derive(Clone, Debug, Deserialize)]
pub struct View {
    pub number: u64,
    pub members: Vec<Member>,
    pub coordinator: Option<String>,
}

/// One node in it.
#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    pub name: String,
    pub state: String,
    /// Why it is in that state, if it is no member.
    #[serde(default)]
    pub reason: Option<String>,
    /// What is known of its fence devices.
    #[serde(default)]
    pub devices: Vec<Device>,
}

/// One fence device in it.
#[derive(Clone, Debug, Deserialize)]
pub struct Device {
    pub said: String,
}

impl Member {
    /// Whether the reason of its state contains these words.
    #[must_use]
    pub fn says(&self, words: &str) -> bool {
        self.reason.as_ref().is_some_and(|why| why.contains(words))
    }
}

impl Status {
    /// Whether a device of this host never read on while it ran: none such is relied on.
    #[must_use]
    pub fn unread(&self, host: &str) -> bool {
        let of = self.view.members.iter().filter(|m| m.name == host);
        of.flat_map(|m| &m.devices).any(|d| d.said != "on")
    }
}

/// What the demo reads of one guest of `quorate guests --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Guest {
    pub name: String,
    pub wanted: String,
    pub state: String,
    pub host: Option<String>,
}

/// What the demo reads of an event.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    pub kind: String,
    pub host: Option<String>,
    #[serde(default)]
    pub guest: Option<String>,
    #[serde(default)]
    pub text: String,
}

/// Waits for a child with a deadline; past it the child is ended.
pub fn finish(mut child: Child, what: &str) -> Result<String, String> {
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            if let Some(mut pipe) = pipe {
                // Half an answer is judged like a whole one: by what it says.
                let _ = pipe.read_to_string(&mut text);
            }
            text
        })
    };
    let out = read(child.stdout.take().map(|p| Box::new(p) as _));
    let err = read(child.stderr.take().map(|p| Box::new(p) as _));
    let deadline = Instant::now() + COMMAND;
    let status = loop {
        match child.try_wait().map_err(|e| format!("{what}: {e}"))? {
            Some(status) => break status,
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            None => {
                // It is ours and it answers nobody: ending it can fail only if it just ended.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{what}: no answer within {COMMAND:?}"));
            }
        }
    };
    let (out, err) = (out.join(), err.join());
    if status.success() {
        return Ok(out.unwrap_or_default());
    }
    Err(format!(
        "{what}: {status}: {}",
        err.unwrap_or_default().trim()
    ))
}

/// Starts a command with pipes for [`finish`].
pub fn start(command: &mut Command, what: &str) -> Result<Child, String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{what}: {e}"))
}

/// Runs `quorate ARGS --socket S` against one node and returns what it prints.
pub fn ask(
    exe: &std::path::Path,
    site: &Site,
    node: &str,
    args: &[&str],
) -> Result<String, String> {
    let what = format!("quorate {} (of {node})", args.join(" "));
    let mut command = Command::new(exe);
    command.args(args).arg("--socket").arg(site.socket(node));
    finish(start(&mut command, &what)?, &what)
}

/// The status as `node` sees it.
pub fn status(exe: &std::path::Path, site: &Site, node: &str) -> Result<Status, String> {
    let text = ask(exe, site, node, &["status", "--json"])?;
    serde_json::from_str(&text).map_err(|e| format!("quorate status --json: {e} in {text}"))
}

/// The guests as `node` sees them.
pub fn guests(exe: &std::path::Path, site: &Site, node: &str) -> Result<Vec<Guest>, String> {
    let text = ask(exe, site, node, &["guests", "--json"])?;
    serde_json::from_str(&text).map_err(|e| format!("quorate guests --json: {e} in {text}"))
}

/// Events of one node as they come, each with the moment it was read.
#[derive(Debug)]
pub struct Events {
    /// The node that tells them.
    pub node: String,
    child: Child,
    seen: Arc<Mutex<Vec<(u64, Event)>>>,
}

impl Events {
    /// Follows the events of `node`, from inside it, so that the command goes when the host does.
    pub fn follow(site: &Site, node: &str) -> Result<Events, String> {
        let mut command = site.command(node, &["events", "--follow", "--json", "--socket"])?;
        command.arg(site.socket(node));
        Events::of(node, command)
    }

    /// Follows what `command` prints of the events of `node`.
    pub fn of(node: &str, mut command: Command) -> Result<Events, String> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("quorate events: {e}"))?;
        let stdout = child.stdout.take().ok_or("quorate events: no pipe")?;
        let seen: Arc<Mutex<Vec<(u64, Event)>>> = Arc::default();
        let sink = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(event) => sink
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((record::now(), event)),
                    Err(e) => eprintln!("quorate events --json: {e} in {line}"),
                }
            }
        });
        Ok(Events {
            node: node.to_owned(),
            child,
            seen,
        })
    }

    /// The first event since `after` (boot clock) that fits.
    pub fn first(&self, after: u64, fits: impl Fn(&Event) -> bool) -> Option<(u64, Event)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().find(|(at, e)| *at >= after && fits(e)).cloned()
    }

    /// All events since `after` (boot clock) that fit.
    pub fn all(&self, after: u64, fits: impl Fn(&Event) -> bool) -> Vec<(u64, Event)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = seen.iter().filter(|(at, e)| *at >= after && fits(e));
        fitting.cloned().collect()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // It follows for ever; ending it can fail only if its daemon ended it before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Repeats `look` until it gives something.
///
/// # Errors
/// Past the deadline: what was waited for, and the last reason why it was not there.
pub fn wait<T>(
    what: &str,
    limit: Duration,
    stop: &dyn Fn() -> bool,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, DemoError> {
    let deadline = Instant::now() + limit;
    loop {
        let why = match look() {
            Ok(found) => return Ok(found),
            Err(why) => why,
        };
        if stop() {
            return Err(DemoError::Interrupted);
        }
        if Instant::now() >= deadline {
            return Err(DemoError::Failed(format!(
                "waited {} s for {what}: {why}",
                limit.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
