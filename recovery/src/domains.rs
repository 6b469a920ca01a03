//! The protected domains as their descriptions have them, each read once.

use crate::domain::Domain;
use crate::guest::{Definition, GuestId, GuestSpec};
use crate::machine::GuestRecord;
use std::collections::BTreeMap;

/// Follows from the guests' descriptions, so it is neither compared nor handed over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Domains(BTreeMap<GuestId, Domain>);

impl PartialEq for Domains {
    fn eq(&self, _: &Domains) -> bool {
        true
    }
}

impl Domains {
    /// Refuses a domain that takes name, UUID, hardware address or a writable disk of another
    /// protected one. Decided where guests are added, so that of two that are added at once only
    /// the first is. `itself`: the guest whose description this is to become.
    ///
    /// # Errors
    /// What they both have, and who has it already.
    pub(crate) fn check(
        &mut self,
        guests: &BTreeMap<GuestId, GuestRecord>,
        spec: &GuestSpec,
        itself: Option<GuestId>,
    ) -> Result<(), String> {
        self.0.retain(|id, _| guests.contains_key(id));
        if let Some(id) = itself {
            self.0.remove(&id);
        }
        if matches!(spec.definition, Definition::Domain { .. }) {
            for (id, record) in guests.iter().filter(|(id, _)| Some(**id) != itself) {
                if !self.0.contains_key(id)
                    && let Some(theirs) = read(record)?
                {
                    self.0.insert(*id, theirs);
                }
            }
        }
        self.judge(guests, spec, itself)
    }

    /// The same of a change that is not made yet.
    ///
    /// # Errors
    /// What they both have, and who has it already.
    pub(crate) fn judge(
        &self,
        guests: &BTreeMap<GuestId, GuestRecord>,
        spec: &GuestSpec,
        itself: Option<GuestId>,
    ) -> Result<(), String> {
        let Definition::Domain { xml } = &spec.definition else {
            return Ok(());
        };
        let new = Domain::read(xml)?;
        for (id, record) in guests.iter().filter(|(id, _)| Some(**id) != itself) {
            let known = self.0.get(id).map_or_else(|| read(record), |_| Ok(None))?;
            if let Some(theirs) = known.as_ref().or_else(|| self.0.get(id)) {
                new.check_against(&record.spec.name, theirs)?;
            }
        }
        Ok(())
    }
}

/// The domain of a record, if it is one. It was read when it was added.
fn read(record: &GuestRecord) -> Result<Option<Domain>, String> {
    let Definition::Domain { xml } = &record.spec.definition else {
        return Ok(None);
    };
    let theirs = Domain::read(xml);
    let theirs = theirs.map_err(|why| format!("guest {}: {why}", record.spec.name))?;
    Ok(Some(theirs))
}
