//! The power switch: a thread that does what fence agents ask of it by files in a directory.
//!
//! `<plug>.cmd`, put there by rename, holds `off` or `on`. It is taken by rename, carried out, and
//! only when the host is really gone does `<plug>.state` say so. While `broken-<plug>` exists, that
//! outlet does nothing at all.

use super::site::Site;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A running switch; dropping it stops it.
#[derive(Debug)]
pub struct Switch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    /// Begins to obey. Commands from before are dropped: a late cut would hit a healthy host.
    pub fn start(site: Arc<Site>) -> Switch {
        let stop = Arc::new(AtomicBool::new(false));
        for plug in site.nodes() {
            let _ = fs::remove_file(site.switch().join(format!("{plug}.cmd")));
        }
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                for plug in site.nodes() {
                    if let Err(e) = serve(&site, plug) {
                        // The agent sees no new state and times out, as with a real switch.
                        eprintln!("power switch, outlet {plug}: {e}");
                    }
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Switch {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

/// Makes an outlet deaf.
pub fn break_outlet(switch: &Path, plug: &str) -> Result<(), String> {
    let path = switch.join(format!("broken-{plug}"));
    fs::write(&path, "").map_err(|e| format!("{}: {e}", path.display()))
}

/// Says what an outlet's state is, by rename, so that no agent reads half a word.
pub fn write_state(switch: &Path, plug: &str, state: &str) -> Result<(), String> {
    let (new, path) = (
        switch.join(format!(".state-{plug}")),
        switch.join(format!("{plug}.state")),
    );
    fs::write(&new, format!("{state}\n"))
        .and_then(|()| fs::rename(&new, &path))
        .map_err(|e| format!("{}: {e}", path.display()))
}

fn serve(site: &Site, plug: &str) -> Result<(), String> {
    let switch = site.switch();
    if switch.join(format!("broken-{plug}")).exists() {
        return Ok(());
    }
    // Taken by rename: from here on the agent cannot take it back, and it is carried out once.
    let taken = switch.join(format!(".taken-{plug}"));
    if fs::rename(switch.join(format!("{plug}.cmd")), &taken).is_err() {
        return Ok(());
    }
    let wanted = fs::read_to_string(&taken).map_err(|e| e.to_string())?;
    fs::remove_file(&taken).map_err(|e| e.to_string())?;
    match wanted.trim() {
        "off" => {
            site.power_off(plug)?;
            write_state(&switch, plug, "off")
        }
        "on" => {
            if !site.alive(plug) {
                site.power_on(plug)?;
                site.start_daemon(plug)?;
            }
            write_state(&switch, plug, "on")
        }
        other => Err(format!("cannot {other:?}")),
    }
}
