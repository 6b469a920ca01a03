//! The replicated state of the guests: what belongs where, under which epoch.

use crate::command::{Closure, Command, GuestStatus};
use crate::devices::Devices;
use crate::domains::Domains;
use crate::guest::{GuestId, GuestSpec, Wanted};
use crate::hold::{Hold, HoldKind, HoldReason};
use crate::images::Images;
use crate::lock::{Life, Lock};
use crate::mutants::planted;
use crate::placement;
use quorate_fencing::Level;
use quorate_membership::store::Image;
use quorate_membership::{Application, Cluster, Ended, Incarnation, NodeId, State, Token, codec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The guests, and how their hosts are fenced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Guests {
    /// Every protected guest.
    pub guests: BTreeMap<GuestId, GuestRecord>,
    /// The fence levels of each host, as it stated them.
    pub fencing: BTreeMap<NodeId, Vec<Level>>,
    /// What is known of the devices in them.
    pub devices: BTreeMap<NodeId, Devices>,
    /// The last lives of guests that were removed: their images may be other guests' by now.
    pub retired: Vec<(GuestId, Life)>,
    /// The newest message.
    pub published: Token,
    /// What their descriptions say, read when it is first needed.
    #[serde(skip)]
    domains: Domains,
}

/// What is decided about one guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuestRecord {
    /// The operator's description.
    pub spec: GuestSpec,
    /// What the operator wants.
    pub wanted: Wanted,
    /// The host it belongs to, or belonged to last.
    pub host: Option<NodeId>,
    /// That host's incarnation.
    pub incarnation: Incarnation,
    /// Its epoch: the token of its newest Placed. Zero before the first.
    pub epoch: Token,
    /// How that epoch ended; `None` while the guest may run there.
    pub closed: Option<Closed>,
    /// Failures in a row that no restart on the spot helped. One that comes after the guest has run
    /// for the window of its policy begins a new row.
    pub failures: u32,
    /// What keeps it from being placed; at most one of each kind.
    pub holds: Vec<Hold>,
    /// Hosts in a row that could not start it.
    pub refused: u32,
    /// The hosts that failed it in this row, oldest first.
    pub tried: Vec<NodeId>,
    /// The newest entry that closed it by a failure; zero if none did in this row.
    pub failed_at: Token,
    /// What is known of its images beside their names.
    #[serde(default)]
    pub images: Images,
    /// Lives whose lock may stand beside its images: of the last that was reported written, and of
    /// every one since.
    pub lives: Vec<Life>,
    /// The last epoch whose locks were reported written.
    pub locked: Token,
    /// Locks of others that a person released.
    pub covered: Vec<Lock>,
}

/// Whose fault it was that an epoch of a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blame {
    /// Nobody's: it was told to end, or its host or lease ended.
    Nobody,
    /// The guest failed.
    Guest,
    /// The host could not run it.
    Host,
}

/// The most hosts of a row of failures that are remembered.
const TRIED: usize = 32;
/// The longest words of a closing that are kept, in characters.
const WORDS: usize = 200;

/// How an epoch of a guest ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// The entry that closed it.
    pub at: Token,
    /// By an expired lease, whose wait contains the drain time already (V1).
    pub drained: bool,
    /// Whose fault it was.
    pub blame: Blame,
    /// In words.
    pub why: String,
}

impl GuestRecord {
    /// Whether the guest may run on its host.
    #[must_use]
    pub fn open(&self) -> bool {
        self.closed.is_none()
    }

    fn close(&mut self, at: Token, drained: bool, blame: Blame, why: String) {
        self.closed = Some(Closed {
            at,
            drained,
            blame,
            why,
        });
    }

    /// A failure of the present row, on the guest's last host.
    fn fails(&mut self, at: Token) {
        self.failed_at = at;
        let Some(host) = self.host else { return };
        self.tried.retain(|tried| *tried != host);
        self.tried.push(host);
        if self.tried.len() > TRIED {
            self.tried.remove(0);
        }
    }

    /// What failed before says nothing about what comes.
    fn begins_a_new_row(&mut self) {
        self.failures = 0;
        self.refused = 0;
        self.tried.clear();
        self.failed_at = Token::NONE;
    }

    /// Closes the epoch by the host's word.
    fn closed_by(&mut self, at: Token, why: &Closure) {
        let (mut blame, mut drained) = (Blame::Nobody, false);
        let words = match why {
            Closure::Taken(how) => {
                self.hold_for(at, HoldReason::ByHand(how.clone()));
                format!("taken by hand: {how}")
            }
            Closure::Told => "stopped when told to".to_owned(),
            Closure::LeaseEnded => "ended with the lease of its host".to_owned(),
            Closure::ShutDown => {
                self.wanted = Wanted::Stopped;
                "shut down from inside".to_owned()
            }
            Closure::Failed { how, ran_ms } => {
                if *ran_ms >= self.spec.policy.window_ms && !planted("failures-never-forgotten") {
                    self.begins_a_new_row();
                }
                blame = Blame::Guest;
                self.refused = 0;
                self.failures = self.failures.saturating_add(1);
                self.fails(at);
                format!("failed: {}", short(how))
            }
            Closure::Refused(how) => {
                blame = Blame::Host;
                self.refused = self.refused.saturating_add(1);
                self.fails(at);
                format!("could not run there: {}", short(how))
            }
            Closure::NotBegun(how) => {
                // It never ran, and what ran before had drained when it was placed.
                drained = true;
                format!("not begun there: {}", short(how))
            }
        };
        self.close(at, drained, blame, words);
    }
}

/// Words of others, bounded.
fn short(words: &str) -> String {
    words.chars().take(WORDS).collect()
}

impl Guests {
    /// The guest of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<(GuestId, &GuestRecord)> {
        self.guests
            .iter()
            .find(|(_, r)| r.spec.name == name)
            .map(|(id, r)| (*id, r))
    }

    /// Guests that may run on `host`.
    pub fn on(&self, host: NodeId) -> impl Iterator<Item = (GuestId, &GuestRecord)> {
        self.guests
            .iter()
            .filter(move |(_, r)| r.open() && r.host == Some(host))
            .map(|(id, r)| (*id, r))
    }

    /// Whether any guest may run on `host`.
    #[must_use]
    pub fn holds_open(&self, host: NodeId) -> bool {
        self.on(host).next().is_some()
    }

    /// Refuses another description of a guest, or more images, for which there is no space, or which
    /// take what another guest has.
    pub(crate) fn may_become(
        &self,
        guest: GuestId,
        spec: &GuestSpec,
        images: &Images,
    ) -> Result<(), String> {
        self.has_space_instead(guest, spec, images)?;
        self.domains.judge(&self.guests, spec, Some(guest))
    }

    /// Gives a guest another description and other images.
    pub(crate) fn redefine(
        &mut self,
        guest: GuestId,
        spec: GuestSpec,
        images: Images,
    ) -> Result<(), String> {
        self.has_space_instead(guest, &spec, &images)?;
        self.domains.check(&self.guests, &spec, Some(guest))?;
        let r = self.record(guest)?;
        (r.spec, r.images) = (spec, images);
        Ok(())
    }

    pub(crate) fn record(&mut self, guest: GuestId) -> Result<&mut GuestRecord, String> {
        self.guests
            .get_mut(&guest)
            .ok_or_else(|| format!("{guest} does not exist"))
    }
}

/// The newest message of those that a start from `image` does not tell.
#[must_use]
pub fn published_before(image: &Image<Command>) -> Token {
    let Some((applied, bytes)) = &image.snapshot else {
        return Token::NONE;
    };
    match codec::decode::<State<Guests>>(codec::Kind::State, bytes) {
        Ok(state) => state.app.published,
        // The start from it fails, too.
        Err(_) => Token::new(image.founding.epoch, *applied),
    }
}

impl Application for Guests {
    type Command = Command;
    type Status = GuestStatus;

    fn apply(&mut self, at: Token, cluster: &Cluster, command: &Command) -> Result<(), String> {
        match command {
            Command::AddGuest(spec) => {
                spec.check()?;
                if self.named(&spec.name).is_some() {
                    return Err(format!("a guest named {:?} exists", spec.name));
                }
                self.has_space_for(spec)?;
                self.domains.check(&self.guests, spec, None)?;
                let record = GuestRecord {
                    spec: (**spec).clone(),
                    wanted: Wanted::Running,
                    host: None,
                    incarnation: Incarnation::default(),
                    epoch: Token::NONE,
                    closed: Some(Closed {
                        at,
                        drained: true,
                        blame: Blame::Nobody,
                        why: "new".into(),
                    }),
                    failures: 0,
                    holds: Vec::new(),
                    refused: 0,
                    tried: Vec::new(),
                    failed_at: Token::NONE,
                    images: Images::default(),
                    lives: Vec::new(),
                    locked: Token::NONE,
                    covered: Vec::new(),
                };
                self.guests.insert(GuestId(at.0), record);
                if let Err(why) = placement::survivable(cluster, self) {
                    self.guests.remove(&GuestId(at.0));
                    return Err(why);
                }
                Ok(())
            }
            Command::RemoveGuest { guest } => {
                let r = self.record(*guest)?;
                if r.wanted != Wanted::Stopped || r.open() {
                    return Err(format!("guest {:?} is not stopped", r.spec.name));
                }
                if let Some(record) = self.guests.remove(guest) {
                    self.retire(*guest, &record);
                }
                Ok(())
            }
            Command::SetWanted { guest, wanted } => {
                let r = self.record(*guest)?;
                let begins = r.wanted == Wanted::Stopped && *wanted == Wanted::Running;
                r.wanted = *wanted;
                if begins && let Err(why) = placement::survivable(cluster, self) {
                    self.record(*guest)?.wanted = Wanted::Stopped;
                    return Err(why);
                }
                self.record(*guest)?.begins_a_new_row();
                Ok(())
            }
            Command::Placed {
                guest,
                previous,
                host,
                incarnation,
            } => {
                let usable = cluster
                    .hosts
                    .get(host)
                    .is_some_and(|h| h.usable() && h.incarnation == *incarnation);
                let r = self.record(*guest)?;
                if (r.open() && !r.never_locked()) || r.epoch != *previous {
                    return Err("its epoch is not the one named, or not closed".into());
                }
                if !usable && !planted("placed-on-lost-host") {
                    return Err(format!("{host} cannot take guests in that incarnation"));
                }
                if r.wanted != Wanted::Running {
                    return Err("the guest is not wanted running".into());
                }
                if let Some(hold) = r.held().filter(|_| !planted("held-guest-placed")) {
                    return Err(format!("the guest is held: {}", hold.reason));
                }
                if !r.images.read_by(*host) {
                    return Err(format!("{host} has not read the guest's images"));
                }
                r.host = Some(*host);
                r.incarnation = *incarnation;
                r.epoch = at;
                r.closed = None;
                r.given();
                Ok(())
            }
            Command::Closed {
                guest,
                epoch,
                host,
                incarnation,
                why,
            } => {
                // The word of a life that is not admitted may be that of a copy.
                let admitted =
                    cluster.admitted(*host, *incarnation) || planted("closed-believed-from-a-copy");
                let r = self.record(*guest)?;
                let holds =
                    r.open() && r.host == Some(*host) && *incarnation >= r.incarnation && admitted;
                if !holds || *epoch < r.epoch {
                    return Err("no open epoch of that guest on that host".into());
                }
                if let Closure::Taken(words) = why {
                    words.check()?;
                }
                r.closed_by(at, why);
                Ok(())
            }
            Command::SetFencing { host, levels } => self.state_fencing(at, *host, levels),
            Command::Publish(_) => {
                self.published = at;
                Ok(())
            }
            Command::Hold {
                guest,
                epoch,
                reason,
            } => self.hold(at, *guest, *epoch, reason),
            Command::Release { holds, by } => self.release(holds, by),
            Command::Follow {
                guest,
                life,
                tops,
                left,
                over,
            } => {
                self.follow(at, *guest, life, tops, left)?;
                if *over {
                    let r = self.record(*guest)?;
                    r.holds.retain(|h| h.reason.kind() != HoldKind::NewTop);
                }
                Ok(())
            }
            Command::Reads {
                guest,
                followed,
                host,
            } => self.reads(*guest, *followed, *host),
            Command::Adopt { guest, epoch, xml } => self.adopt(at, *guest, *epoch, xml),
            Command::Locked { host, guests } => self.locked(*host, guests),
            Command::Tried {
                host,
                incarnation,
                stated,
                device,
                on,
            } => self.tried(cluster, *host, *incarnation, (*stated, device), *on),
            Command::Scratch {
                guest,
                life,
                images,
            } => self.scratch(*guest, life, images),
        }
    }

    fn ended(&mut self, at: Token, host: NodeId, last: Incarnation, how: Ended) {
        for r in self.guests.values_mut() {
            if r.open() && r.host == Some(host) && r.incarnation <= last {
                let drained = how == Ended::Lease;
                r.close(at, drained, Blame::Nobody, "its host ended".into());
            }
        }
    }

    fn holds(&self, host: NodeId) -> bool {
        self.holds_open(host)
    }

    fn taken_over(&mut self, _at: Token, host: NodeId, from: Incarnation, to: Incarnation) {
        for r in self.guests.values_mut() {
            if r.open() && r.host == Some(host) && r.incarnation == from {
                r.incarnation = to;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_membership::{ClusterId, Epoch, Founding, StoreId, Timing};

    #[test]
    fn a_start_skips_no_entries_that_hold_no_message() {
        let founding = Founding {
            cluster: ClusterId(1),
            rules: quorate_membership::states::RULES,
            epoch: Epoch(1),
            voters: vec![(NodeId(1), StoreId(1))],
            timing: Timing::fast(),
            proof: Default::default(),
        };
        let life = Incarnation::default();
        let mut state: State<Guests> = State::new(&founding);
        let mut image = Image::new(NodeId(1), StoreId(1), life, founding);
        assert_eq!(published_before(&image), Token::NONE);
        let at = Token::new(Epoch(1), 5);
        let told = Command::Publish(vec![1]);
        let done = state.app.apply(at, &state.cluster, &told);
        assert_eq!(done, Ok(()));
        // Renewals follow, and then the state is kept.
        state.cluster.applied = 1024;
        let bytes = codec::encode(codec::Kind::State, &state).expect("short");
        image.snapshot = Some((1024, bytes));
        assert_eq!(published_before(&image), at);
        image.snapshot = Some((1024, vec![0xff]));
        assert_eq!(published_before(&image), Token::new(Epoch(1), 1024));
    }
}
