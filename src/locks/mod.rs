//! Locks beside images: read before a start, written before a guest goes on, raised while it runs.
//!
//! Storage may hang, so nothing here waits for it but processes of their own: a *reader*, which
//! writes nothing and may be left behind, and a *keeper* in the guest's own control group, which
//! ends with the guest. What a keeper has to say lies in the run directory, so a daemon that comes
//! back reads it as the one before did. `block` has the bytes, `file` their way past the page
//! cache, `keeper` and `reader` the two processes, `Locks` what the daemon asks of them.

mod block;
mod file;
mod files;
mod keeper;
mod place;
mod reader;

pub use keeper::lock_keep_main;
pub use place::Placing;
pub use reader::lock_read_main;

use crate::clock::Clock;
use crate::guardian::records::{self, RunDir};
use crate::hypervisor::Gate;
use files::Files;
use keeper::{KeeperPlan, KeeperState};
use quorate_membership::{BootId, Token};
use quorate_recovery::guest::GuestId;
use quorate_recovery::lock::{LockPlan, LockReading, LockState, LockedImage};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Between two looks while a keeper or reader is waited for.
const LOOK: Duration = Duration::from_millis(2);

/// Guest and epoch: one life of a guest.
type Life = (GuestId, Token);

/// How locks are kept on this host.
#[derive(Clone, Debug)]
pub struct Locks {
    /// The quorate program itself.
    pub program: PathBuf,
    /// Where daemon, guardian and guests meet.
    pub run: RunDir,
    /// The present boot.
    pub boot: BootId,
    /// Where locks stand.
    pub placing: Placing,
    /// This host's name, for people who look at a lock.
    pub host: String,
}

impl Locks {
    /// What stands beside these images. The reader is left behind when the gate's time is up.
    ///
    /// # Errors
    /// Nothing can be said of any of them.
    pub fn read(
        &self,
        images: &[LockedImage],
        guest: GuestId,
        gate: &Gate,
    ) -> Result<Vec<LockReading>, String> {
        let ask = reader::Ask {
            guest,
            images: images.to_vec(),
            placing: self.placing.clone(),
        };
        reader::ask(&self.program, &ask, gate.give_up())
    }

    /// Begins to keep the locks of a life that was created and has not run, or whose images have
    /// changed since. `Ok`: all are written. One that is kept already is.
    ///
    /// # Errors
    /// Some could not be written (yet); the keeper goes on trying while the guest lives.
    pub fn keep(&self, plan: &LockPlan, gate: &Gate) -> Result<(), String> {
        let life = (plan.lock.guest, plan.lock.life.epoch);
        self.prune();
        let mut of = KeeperPlan {
            boot: self.boot,
            lock: plan.lock,
            name: plan.name.clone(),
            host: self.host.clone(),
            images: plan.images.clone(),
            placing: self.placing.clone(),
        };
        gate.pass()?;
        self.files().make().map_err(|e| e.to_string())?;
        let path = self.files().plan(life.0, life.1);
        if std::fs::File::open(&path).is_ok_and(|plan| keeper::taken(&plan)) {
            let before = records::read::<KeeperPlan>(&path)?;
            if before.is_none_or(|b| b.images == of.images) {
                // By the daemon before this one.
                let written = self.state(life).is_some_and(|s| s.written);
                let kept = written.then_some(());
                return kept.ok_or_else(|| "the storage of its locks does not answer".into());
            }
            // The keeper of the images it had ends when it finds another plan in place of its own.
            of.lock.raised = keeper::TAKEN_OVER;
            records::remove(&self.files().state(life.0, life.1)).map_err(|e| e.to_string())?;
        }
        records::write(&path, &of).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut child = self
            .marked(life)
            .arg(keeper::SUBCOMMAND)
            .arg(self.run.path())
            .arg(&path)
            .spawn()
            .map_err(|e| format!("{}: {e}", self.program.display()))?;
        let result = loop {
            match self.state(life) {
                Some(KeeperState {
                    written: true,
                    failing: None,
                    ..
                }) => break Ok(()),
                Some(KeeperState {
                    failing: Some(why), ..
                }) => break Err(why),
                _ => {}
            }
            if let Ok(Some(status)) = child.try_wait() {
                // Another one keeps them, or this one could not begin.
                break match self.state(life) {
                    Some(KeeperState { written: true, .. }) if status.success() => Ok(()),
                    _ => Err(format!("the keeper of its locks ended: {status}")),
                };
            }
            if Clock.now() >= gate.give_up() {
                break Err("the storage of its locks does not answer".into());
            }
            std::thread::sleep(LOOK);
        };
        // Whenever it ends, somebody takes note.
        let reap = std::thread::Builder::new().name("lock".into());
        let _ = reap.spawn(move || child.wait());
        result
    }

    fn files(&self) -> Files {
        Files::of(&self.run)
    }

    fn marked(&self, (guest, epoch): Life) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            // In reach of everything that ends guests, from its first instant.
            .env(records::MARK_DIR, self.run.path())
            .env(records::MARK_GUEST, format!("{:016x}", guest.0))
            .env(records::MARK_EPOCH, format!("{:016x}", epoch.0))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn state(&self, (guest, epoch): Life) -> Option<KeeperState> {
        let state = records::read::<KeeperState>(&self.files().state(guest, epoch)).ok()??;
        (state.boot == self.boot).then_some(state)
    }

    /// How the locks of every life stand that is kept here.
    #[must_use]
    pub fn states(&self) -> Vec<(GuestId, Token, LockState)> {
        let lives = self.files().lives().unwrap_or_default().into_iter();
        let states = lives.filter_map(|life| Some((life, self.state(life)?)));
        states
            .map(|((guest, epoch), state)| (guest, epoch, state.into()))
            .collect()
    }

    /// Forgets lives whose keeper has ended.
    fn prune(&self) {
        for (guest, epoch) in self.files().lives().unwrap_or_default() {
            let plan = self.files().plan(guest, epoch);
            let held = std::fs::File::open(&plan).is_ok_and(|f| keeper::taken(&f));
            let leads = records::read::<records::GuestRecord>(&self.run.guest(guest, epoch));
            if !held && matches!(leads, Ok(None)) {
                let _ = records::remove(&self.files().state(guest, epoch));
                let _ = records::remove(&plan);
            }
        }
    }
}
