//! What the client was told of each guest, and whether the cluster still says so.

use crate::common::{Lab, host};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How a guest may stand, by what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    Running,
    Stopped,
    Gone,
}

/// Every guest with the ways it may stand: one, or more after a change whose outcome is unknown.
pub(crate) struct Ledger(Mutex<BTreeMap<String, Vec<Stand>>>);

impl Ledger {
    pub(crate) fn new(running: &[String]) -> Ledger {
        let all = running.iter().map(|g| (g.clone(), vec![Stand::Running]));
        Ledger(Mutex::new(all.collect()))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Stand>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on the guest may stand like this.
    pub(crate) fn set(&self, guest: &str, stands: &[Stand]) {
        self.all().insert(guest.to_owned(), stands.to_vec());
    }

    /// The guests of whom one stand is known.
    pub(crate) fn known(&self) -> Vec<(String, Stand)> {
        let all = self.all();
        let known = all.iter().filter_map(|(guest, stands)| match stands[..] {
            [one] => Some((guest.clone(), one)),
            _ => None,
        });
        known.collect()
    }

    /// Guests that must run.
    pub(crate) fn running(&self) -> Vec<String> {
        let known = self.known().into_iter();
        known
            .filter(|(_, stand)| *stand == Stand::Running)
            .map(|(guest, _)| guest)
            .collect()
    }

    /// Whether each guest stands as it may, by what a node of the cluster says.
    pub(crate) fn agrees(&self, lab: &Lab) -> Result<(), String> {
        let rows = rows(lab)?;
        for (guest, stands) in self.all().iter() {
            let row = rows.get(guest);
            if !stands.contains(&stand(row)?) {
                return Err(format!("{guest} may be {stands:?} and is {row:?}"));
            }
        }
        Ok(())
    }

    /// Reads off how changes of unknown outcome ended, now that everything is settled.
    pub(crate) fn settle(&self, lab: &Lab) {
        let rows = lab.wait("the guests", || rows(lab));
        let mut all = self.all();
        for (guest, stands) in all.iter_mut().filter(|(_, s)| s.len() > 1) {
            *stands = vec![stand(rows.get(guest)).expect("it agreed before")];
        }
        all.retain(|_, stands| stands[..] != [Stand::Gone]);
    }
}

fn stand(row: Option<&Value>) -> Result<Stand, String> {
    let Some(row) = row else {
        return Ok(Stand::Gone);
    };
    match (row["wanted"].as_str(), row["state"].as_str()) {
        (Some("running"), Some("running")) => Ok(Stand::Running),
        (Some("stopped"), Some("stopped")) => Ok(Stand::Stopped),
        _ => Err(format!("neither runs nor is stopped: {row}")),
    }
}

/// What the cluster's coordinator or any other node says of every guest.
fn rows(lab: &Lab) -> Result<BTreeMap<String, Value>, String> {
    let all = lab.json("h1", &["guests", "--json"])?;
    let rows = all.as_array().ok_or("no list of guests")?;
    let named = rows.iter().map(|row| {
        let name = row["name"].as_str().unwrap_or_default();
        (name.to_owned(), row.clone())
    });
    Ok(named.collect())
}

/// Whether every node sees every node as a member.
pub(crate) fn whole(lab: &Lab) -> Result<(), String> {
    for by in lab.site.nodes() {
        let status = lab.status(by)?;
        if status["quorate"] != true || status["view"]["coordinator"].is_null() {
            return Err(format!("{by} sees no quorum or no coordinator"));
        }
        for node in lab.site.nodes() {
            let state = &host(&status, node)["state"];
            if state != "member" {
                return Err(format!("{by} sees {node} as {state}"));
            }
        }
    }
    Ok(())
}
