//! What stands against the rules on this host and an operator must put right: said once when it is
//! seen, once when it is over, and by `status` in between.

use quorate_membership::Token;
use quorate_recovery::Node;
use quorate_recovery::contract::{Event, EventKind};
use std::collections::BTreeMap;

/// Something an operator must put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alarm {
    /// What it is, the same at every look.
    pub(crate) key: String,
    /// The guest it is about.
    pub(crate) guest: String,
    /// In words, with what to do.
    pub(crate) text: String,
}

/// A look that is done, to be judged by what the node knows at the moment it comes in.
pub(crate) type Look = Box<dyn FnOnce(&Node) -> Vec<Alarm> + Send>;

/// The alarms that stand.
#[derive(Debug, Default)]
pub(crate) struct Alarms(BTreeMap<String, Alarm>);

impl Alarms {
    /// Takes what a complete look found: events for what is new and for what is over. A look that
    /// could not be made is not taken here, and changes nothing.
    pub(crate) fn renew(&mut self, host: &str, found: Vec<Alarm>) -> Vec<Event> {
        let found: BTreeMap<String, Alarm> =
            found.into_iter().map(|a| (a.key.clone(), a)).collect();
        let event = |kind, alarm: &Alarm, text| Event {
            token: Token::NONE,
            kind,
            host: Some(host.to_owned()),
            guest: Some(alarm.guest.clone()),
            text,
        };
        let new = found.values().filter(|a| !self.0.contains_key(&a.key));
        let new = new.map(|a| event(EventKind::Alert, a, a.text.clone()));
        let over = self.0.values().filter(|a| !found.contains_key(&a.key));
        let over = over.map(|a| event(EventKind::Changed, a, format!("no longer: {}", a.text)));
        let events = new.chain(over).collect();
        self.0 = found;
        events
    }

    /// Those that stand, in words.
    pub(crate) fn standing(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(|a| a.text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(key: &str, text: &str) -> Alarm {
        Alarm {
            key: key.into(),
            guest: "web1".into(),
            text: text.into(),
        }
    }

    #[test]
    fn each_is_said_once_when_it_comes_and_once_when_it_goes() {
        let mut alarms = Alarms::default();
        let events = alarms.renew("h1", vec![alarm("a", "one"), alarm("b", "two")]);
        let said: Vec<_> = events.iter().map(|e| (e.kind, e.text.as_str())).collect();
        assert_eq!(said, [(EventKind::Alert, "one"), (EventKind::Alert, "two")]);
        assert_eq!(events[0].host.as_deref(), Some("h1"));
        assert_eq!(events[0].guest.as_deref(), Some("web1"));
        // It stands, in other words.
        let events = alarms.renew("h1", vec![alarm("a", "one more"), alarm("b", "two")]);
        assert_eq!(events, []);
        assert_eq!(alarms.standing().collect::<Vec<_>>(), ["one more", "two"]);
        let events = alarms.renew("h1", vec![alarm("b", "two")]);
        let said: Vec<_> = events.iter().map(|e| (e.kind, e.text.as_str())).collect();
        assert_eq!(said, [(EventKind::Changed, "no longer: one more")]);
        assert_eq!(alarms.standing().collect::<Vec<_>>(), ["two"]);
        // And again, if it comes back.
        let events = alarms.renew("h1", vec![alarm("a", "one"), alarm("b", "two")]);
        assert_eq!(events.len(), 1);
    }
}
