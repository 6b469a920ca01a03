//! Messages on their way to those who subscribed: the newest ones, kept for whoever is slow or comes
//! late, and a word for every one that is not there any more.

use super::ClusterError;
use quorate_membership::Token;
use quorate_membership::member::Untaken;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Messages and gaps that are kept; the oldest go first.
pub const KEPT: usize = 16_384;
/// Bytes of messages that are kept.
pub const KEPT_BYTES: usize = 16 << 20;

/// A message as every member receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the one order of all messages of this cluster. Tokens rise; they are not dense.
    pub token: Token,
    /// The bytes published.
    pub bytes: Arc<[u8]>,
}

/// Messages that this subscriber will not receive: those with tokens above `after`, up to `upto`.
/// There may be none with such a token; nobody here knows any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last token before the gap.
    pub after: Token,
    /// The last token of the gap.
    pub upto: Token,
}

/// Item of an [`Inbox`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The next message.
    Message(Message),
    /// Messages were missed. Whoever builds a state from messages must take a state from another
    /// member, or from storage, that holds everything up to `upto`.
    Gap(Gap),
}

impl Item {
    /// Everything up to this token is accounted for once the item is taken.
    #[must_use]
    pub fn upto(&self) -> Token {
        match self {
            Item::Message(message) => message.token,
            Item::Gap(gap) => gap.upto,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Item::Message(message) => message.bytes.len(),
            Item::Gap(_) => 0,
        }
    }
}

/// Messages that a member keeps for its subscribers.
#[derive(Debug)]
pub(super) struct Feed {
    kept: Mutex<Kept>,
    changed: watch::Sender<()>,
    bounds: (usize, usize),
}

#[derive(Debug, Default)]
struct Kept {
    /// A life of the member has begun.
    begun: bool,
    /// Everything after this token is among the items.
    base: Token,
    /// Everything up to this token is among the items, or was.
    upto: Token,
    items: VecDeque<Item>,
    /// Number of the first item, counted from the beginning.
    first: u64,
    bytes: usize,
    /// Up to where each subscriber has what it received, by its number; empty before the first. The last
    /// one that went stays: whoever ends drops its inbox before its member.
    taken: BTreeMap<u64, Token>,
    /// The last subscriber went.
    deserted: bool,
    /// Subscribers up to now.
    subscribed: u64,
    /// Reason for which nothing more comes.
    ended: Option<String>,
}

impl Kept {
    fn add(&mut self, item: Item, (most, most_bytes): (usize, usize)) {
        if item.upto() <= self.upto {
            // An earlier life of this member has told it.
            return;
        }
        self.upto = item.upto();
        self.bytes += item.bytes();
        self.items.push_back(item);
        while self.items.len() > most || self.bytes > most_bytes {
            let Some(oldest) = self.items.pop_front() else {
                return;
            };
            self.base = oldest.upto();
            self.bytes -= oldest.bytes();
            self.first += 1;
        }
    }
}

impl Feed {
    pub(super) fn new() -> Feed {
        Feed::bounded(KEPT, KEPT_BYTES)
    }

    fn bounded(items: usize, bytes: usize) -> Feed {
        Feed {
            kept: Mutex::default(),
            changed: watch::Sender::new(()),
            bounds: (items, bytes),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A life of the member begins, which will tell every message after `base`.
    pub(super) fn begin(&self, base: Token) {
        let mut kept = self.lock();
        if kept.begun {
            let after = kept.upto;
            kept.add(Item::Gap(Gap { after, upto: base }), self.bounds);
        } else {
            (kept.begun, kept.base, kept.upto) = (true, base, base);
        }
        drop(kept);
        self.changed.send_replace(());
    }

    pub(super) fn add(&self, item: Item) {
        self.lock().add(item, self.bounds);
        self.changed.send_replace(());
    }

    /// What some subscriber does not have yet of all that was told.
    pub(super) fn untaken(&self) -> Untaken {
        let kept = self.lock();
        let Some(least) = kept.taken.values().min() else {
            return Untaken::Unknown;
        };
        let next = kept.items.partition_point(|item| item.upto() <= *least);
        match kept.items.get(next) {
            Some(Item::Message(message)) => Untaken::From(message.token),
            Some(Item::Gap(gap)) => Untaken::From(Token(gap.after.0 + 1)),
            None => Untaken::Nothing,
        }
    }

    /// Nothing more comes, for this reason; the first one stands.
    pub(super) fn end(&self, why: &str) {
        self.lock().ended.get_or_insert_with(|| why.to_owned());
        self.changed.send_replace(());
    }

    /// Everything from now on, or after a token.
    pub(super) fn subscribe(self: &Arc<Feed>, after: Option<Token>) -> Inbox {
        let mut kept = self.lock();
        let (next, at) = match after {
            Some(token) => (kept.first, token),
            None => (kept.first + kept.items.len() as u64, kept.upto),
        };
        kept.subscribed += 1;
        let number = kept.subscribed;
        if std::mem::take(&mut kept.deserted) {
            kept.taken.clear();
        }
        kept.taken.insert(number, at);
        drop(kept);
        Inbox {
            number,
            next,
            at,
            changed: self.changed.subscribe(),
            feed: Arc::clone(self),
        }
    }
}

/// Messages for one subscriber: every message once, in the order of tokens, and a [`Gap`] in the
/// place of those that it does not receive. It keeps no member from ending.
///
/// To ask for the next item is to say that everything before it is done with: a member with a
/// `state_dir` tells what was not again after a start, as long as that is no more than 8 MiB. So keep what
/// must outlive the process before you ask.
#[derive(Debug)]
pub struct Inbox {
    feed: Arc<Feed>,
    /// Which subscriber it is.
    number: u64,
    /// Number of the next item to look at.
    next: u64,
    at: Token,
    changed: watch::Receiver<()>,
}

impl Inbox {
    /// The next item. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// [`ClusterError::Ended`] once the member has ended and everything it left behind was taken.
    pub async fn recv(&mut self) -> Result<Item, ClusterError> {
        loop {
            self.changed.borrow_and_update();
            if let Some(item) = self.try_recv()? {
                return Ok(item);
            }
            if self.changed.changed().await.is_err() {
                return Err(ClusterError::Ended("nothing is left of it".into()));
            }
        }
    }

    /// The next item, if there is one now.
    ///
    /// # Errors
    /// As [`Inbox::recv`].
    pub fn try_recv(&mut self) -> Result<Option<Item>, ClusterError> {
        let mut kept = self.feed.lock();
        kept.taken.insert(self.number, self.at);
        if self.at < kept.base {
            let gap = Gap {
                after: self.at,
                upto: kept.base,
            };
            self.next = self.next.max(kept.first);
            self.at = gap.upto;
            return Ok(Some(Item::Gap(gap)));
        }
        self.next = self.next.max(kept.first);
        while let Some(item) = kept.items.get((self.next - kept.first) as usize) {
            self.next += 1;
            if item.upto() <= self.at {
                continue;
            }
            let after = self.at;
            self.at = item.upto();
            return Ok(Some(match item {
                Item::Gap(gap) => Item::Gap(Gap {
                    after: gap.after.max(after),
                    ..*gap
                }),
                message => message.clone(),
            }));
        }
        match &kept.ended {
            Some(why) => Err(ClusterError::Ended(why.clone())),
            None => Ok(None),
        }
    }

    /// Everything up to this token was received, or named in a [`Gap`]. A service that keeps it with
    /// its state goes on after a restart by [`Cluster::subscribe_after`](super::Cluster::subscribe_after).
    #[must_use]
    pub fn at(&self) -> Token {
        self.at
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut kept = self.feed.lock();
        if kept.taken.len() > 1 {
            kept.taken.remove(&self.number);
        } else {
            kept.deserted = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(token: u64, length: usize) -> Item {
        Item::Message(Message {
            token: Token(token),
            bytes: vec![0; length].into(),
        })
    }

    fn gap(after: u64, upto: u64) -> Item {
        let (after, upto) = (Token(after), Token(upto));
        Item::Gap(Gap { after, upto })
    }

    fn take(inbox: &mut Inbox) -> Vec<Item> {
        std::iter::from_fn(|| inbox.try_recv().expect("not ended")).collect()
    }

    #[test]
    fn who_falls_behind_is_told_which_tokens_are_gone() {
        let feed = Arc::new(Feed::bounded(3, 1000));
        feed.begin(Token::NONE);
        let mut inbox = feed.subscribe(None);
        (1..=3).for_each(|n| feed.add(message(10 * n, 1)));
        assert_eq!(inbox.try_recv().expect("open"), Some(message(10, 1)));
        (4..=6).for_each(|n| feed.add(message(10 * n, 1)));
        let left = [gap(10, 30), message(40, 1), message(50, 1), message(60, 1)];
        assert_eq!(take(&mut inbox), left);
        assert_eq!(inbox.at(), Token(60));
        feed.add(message(70, 999));
        feed.add(message(80, 2));
        assert_eq!(take(&mut inbox), [gap(60, 70), message(80, 2)], "bytes");
    }

    #[test]
    fn a_subscriber_goes_on_after_the_token_it_had() {
        let feed = Arc::new(Feed::bounded(10, 1000));
        feed.begin(Token(20));
        feed.add(message(21, 1));
        feed.add(gap(21, 30));
        feed.add(message(31, 1));
        let from = |token| take(&mut feed.subscribe(Some(Token(token))));
        assert_eq!(
            from(7),
            [gap(7, 20), message(21, 1), gap(21, 30), message(31, 1)]
        );
        assert_eq!(from(25), [gap(25, 30), message(31, 1)]);
        assert_eq!(from(31), []);
        let mut ahead = feed.subscribe(Some(Token(32)));
        feed.add(message(32, 1));
        feed.add(message(33, 1));
        assert_eq!(take(&mut ahead), [message(33, 1)], "32 was had before");
    }

    #[test]
    fn what_was_received_is_taken_when_the_next_is_asked_for() {
        let feed = Arc::new(Feed::bounded(10, 1000));
        assert_eq!(feed.untaken(), Untaken::Unknown);
        feed.begin(Token::NONE);
        feed.add(message(5, 1));
        let mut all = feed.subscribe(Some(Token::NONE));
        let mut new = feed.subscribe(None);
        assert_eq!(feed.untaken(), Untaken::From(Token(5)));
        assert_eq!(all.try_recv().expect("open"), Some(message(5, 1)));
        assert_eq!(
            feed.untaken(),
            Untaken::From(Token(5)),
            "perhaps not done with"
        );
        assert_eq!(take(&mut all), []);
        assert_eq!(feed.untaken(), Untaken::Nothing);
        feed.add(gap(7, 9));
        take(&mut all);
        assert_eq!(feed.untaken(), Untaken::From(Token(8)), "by the other");
        take(&mut new);
        assert_eq!(feed.untaken(), Untaken::Nothing);
        feed.add(message(10, 1));
        drop(new);
        take(&mut all);
        assert_eq!(feed.untaken(), Untaken::Nothing);
        feed.add(message(11, 1));
        drop(all);
        let left = Untaken::From(Token(11));
        assert_eq!(feed.untaken(), left, "whoever ends has not kept it");
        let again = feed.subscribe(None);
        assert_eq!(feed.untaken(), Untaken::Nothing, "who comes wants no more");
        drop(again);
    }

    #[test]
    fn a_next_life_repeats_nothing_and_names_what_it_lacks() {
        let feed = Arc::new(Feed::bounded(10, 1000));
        feed.begin(Token::NONE);
        let mut inbox = feed.subscribe(None);
        feed.add(message(5, 1));
        feed.add(message(6, 1));
        feed.begin(Token(4));
        (5..=7).for_each(|n| feed.add(message(n, 1)));
        feed.begin(Token(9));
        feed.add(message(10, 1));
        let told = [5, 6, 7].map(|n| message(n, 1));
        let (found, rest) = {
            let all = take(&mut inbox);
            (all[..3].to_vec(), all[3..].to_vec())
        };
        assert_eq!(found, told);
        assert_eq!(rest, [gap(7, 9), message(10, 1)]);
        feed.end("it left");
        assert!(matches!(inbox.try_recv(), Err(ClusterError::Ended(why)) if why == "it left"));
    }
}
