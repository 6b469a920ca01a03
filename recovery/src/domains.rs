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
        let Definition::Domain { xml } = &spec.definition else {
            return Ok(());
        };
        let new = Domain::read(xml)?;
        self.0.retain(|id, _| guests.contains_key(id));
        if let Some(id) = itself {
            self.0.remove(&id);
        }
        for (id, record) in guests.iter().filter(|(id, _)| Some(**id) != itself) {
            let name = &record.spec.name;
            let Definition::Domain { xml } = &record.spec.definition else {
                continue;
            };
            if !self.0.contains_key(id) {
                // It was read when it was added.
                let theirs = Domain::read(xml).map_err(|why| format!("guest {name}: {why}"))?;
                self.0.insert(*id, theirs);
            }
            if let Some(theirs) = self.0.get(id) {
                new.check_against(name, theirs)?;
            }
        }
        Ok(())
    }
}
