//! Holding a domain, letting it run, and resetting it.

use super::driver::{Inner, until};
use super::link::Failure;
use super::registry::Life;
use super::sense::State;
use super::survey::{self, Activity};
use crate::clock::Clock;
use crate::hypervisor::Gate;
use quorate_recovery::observation::Held;
use virt::connect::Connect;
use virt::domain::Domain;

/// The domain of this number, which must be this life's by its tag.
pub(super) fn own(c: &Connect, cluster: &str, id: u128, life: Life) -> Result<Domain, Failure> {
    let domain = survey::numbered(c, id)?.ok_or_else(gone)?;
    let tag = survey::tag(&domain)?;
    if !tag.is_some_and(|t| t.cluster == cluster && (t.guest, t.epoch) == life) {
        return Err(Failure::no("the domain is another's by its tag"));
    }
    Ok(domain)
}

fn gone() -> Failure {
    Failure::no("the domain is gone")
}

impl Inner {
    /// Refuses what would let a guest run that has no lease. The guardian would end it; better not
    /// to begin at all.
    pub(super) fn leased(&self) -> Result<(), String> {
        if self.qemu() && Clock.now() >= self.registry.run.lease_end(self.registry.boot)? {
            return Err("the lease is over".into());
        }
        Ok(())
    }

    /// Holds a domain or lets it run, and looks that it is so.
    pub(super) fn turn_to(&self, life: Life, run: bool, gate: &Gate) -> Result<(), String> {
        if run {
            self.leased()?;
        }
        let id = self.standing(life)?.uuid;
        let (cluster, theirs) = (self.cluster.clone(), gate.clone());
        let done = self.link.call(until(gate.give_up()), move |c| {
            let domain = own(c, &cluster, id, life)?;
            let before = survey::activity(&domain)?.ok_or_else(gone)?;
            let wanted = if run { Activity::Runs } else { Activity::Held };
            if before == wanted {
                return Ok(());
            }
            theirs.pass().map_err(Failure::no)?;
            if run {
                domain.resume()?;
            } else {
                domain.suspend()?;
            }
            match survey::activity(&domain)?.ok_or_else(gone)? {
                now if now == wanted => Ok(()),
                now => Err(Failure::no(format!("it is found {now:?} afterwards"))),
            }
        });
        done.map_err(|f| {
            // If it comes back from wherever it hangs, it must do nothing more.
            gate.abandon();
            f.why
        })
    }

    /// Resets a domain. One that its panic or its watchdog stopped runs again afterwards; one that
    /// somebody holds is left alone.
    pub(super) fn reset(&self, life: Life, gate: &Gate) -> Result<(), String> {
        self.leased()?;
        let id = self.standing(life)?.uuid;
        let (cluster, theirs) = (self.cluster.clone(), gate.clone());
        let done = self.link.call(until(gate.give_up()), move |c| {
            let domain = own(c, &cluster, id, life)?;
            let before = State::of(&domain)?.ok_or_else(gone)?;
            let stands = match before {
                State::Runs => false,
                State::Panicked | State::Held(Held::Watchdog) => true,
                State::Held(why) => {
                    let why = format!("it is held ({why:?}), and a reset would not let it go on");
                    return Err(Failure::no(why));
                }
            };
            theirs.pass().map_err(Failure::no)?;
            domain.reset()?;
            if stands {
                theirs.pass().map_err(Failure::no)?;
                domain.resume()?;
            }
            match State::of(&domain)?.ok_or_else(gone)? {
                State::Runs => Ok(()),
                now => Err(Failure::no(format!("it is found {now:?} afterwards"))),
            }
        });
        done.map_err(|f| {
            gate.abandon();
            f.why
        })
    }
}
