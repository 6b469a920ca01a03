//! Planted bugs: rules that a simulator may switch off by name to prove that it would notice.
//!
//! Without the feature `mutants` every question here is answered "no" at compile time, and the
//! root package refuses to be built with the feature at all.

/// A planted bug of this crate and the promise it breaks.
pub const BUGS: &[(&str, &str)] = &[
    (
        "lease-from-receipt",
        "S3: the holder counts its lease from the acknowledgement, not the send",
    ),
    (
        "restarted-voter-says-never",
        "S14: a restarted voter answers as if it had never acknowledged",
    ),
    (
        "stop-promise-forgotten",
        "S14: a restarted voter forgets that it promised to stop",
    ),
    (
        "promise-to-stop-not-kept",
        "S14: a voter acknowledges an incarnation that it has promised to acknowledge no more",
    ),
    (
        "age-per-incarnation",
        "S14: acknowledgements of a host's last incarnation do not count for the age of its lease",
    ),
    (
        "one-answer-is-enough",
        "S14: the answer of one voter, not of a quorum, proves a lease over",
    ),
    (
        "answer-to-an-old-revoke",
        "S14: answers to a revoke that was undone count for the next one",
    ),
    (
        "verdict-is-proof",
        "S2: the verdict alone frees the guests of a host",
    ),
    (
        "unadmitted-acknowledged",
        "S14: an incarnation is acknowledged before the log admits it",
    ),
    (
        "votes-of-many-beats",
        "S3: acknowledgements of different beats add up to one quorum",
    ),
    (
        "answer-to-an-earlier-life",
        "S3: an acknowledgement of the last life of a host counts for this one",
    ),
    (
        "half-is-a-quorum",
        "S3: half of the voters, rounded down, count as a quorum",
    ),
    (
        "takeover-without-drain",
        "S14: G leaves out Q, the time that writes take",
    ),
    (
        "takeover-with-one-period",
        "S14: G counts one period of the watchdog, not two",
    ),
    (
        "takeover-without-clock-rate",
        "S14: G leaves out the clocks' rate errors",
    ),
    (
        "admit-over-revoke",
        "S2: an incarnation is admitted while its predecessor is revoked and not proved",
    ),
    (
        "admit-over-attempt",
        "S8 S2: an incarnation is admitted while an attempt on its predecessor is open",
    ),
    (
        "unarmed-lease-proves",
        "S2: an expired lease proves an incarnation that attested nobody who ends its guests",
    ),
    (
        "armed-never-taken-back",
        "S14: the word that nobody ends a host's guests any more takes no attestation back",
    ),
    (
        "counter-not-read",
        "S14: a guardian that was found once is held to be at work for ever",
    ),
    (
        "old-armed-word-counts",
        "S14: an attestation that is entered late counts over a later word",
    ),
    (
        "unarmed-still-renews",
        "S14: a host without guardian renews its lease before the log knows that it has none",
    ),
    (
        "repeat-applied",
        "S10 S2: an entry that was proposed twice is applied twice",
    ),
    (
        "takeover-not-waited",
        "S6: a new coordinator gives orders without waiting for its predecessor's lease",
    ),
    (
        "renew-under-old-term",
        "S6: a coordinator renews a term that another has replaced",
    ),
    (
        "renewal-from-decision",
        "S6: a coordinator counts its lease from the decision, not the send",
    ),
    (
        "leader-is-coordinator",
        "S6: whoever leads the log gives orders, with or without a term",
    ),
    (
        "promise-not-written",
        "S10: a voter keeps its promised round in memory only",
    ),
    (
        "outvoted-and-stays",
        "L2 S4: a voter whose copy was vouched for neither votes nor begins a life above it",
    ),
    (
        "only-heard-life-is-kept",
        "L1 L2: a life that was only heard outranks the admitted one for good, though it is gone",
    ),
    (
        "named-life-not-heeded",
        "S4 L2: a life below one that others have vouched for is not told, and the next is not above it",
    ),
    (
        "only-heard-life-is-kept-beside-sessions",
        "L2: a life that is gone bars the datagrams of the admitted one, which is heard by sessions",
    ),
    (
        "own-longer-tail-waited-for",
        "S4: a voter acknowledges no lease before it has applied a tail of its own that was dropped",
    ),
    (
        "lives-of-one-number-are-one-in-the-log",
        "S10 L2: a proposal is taken for one that another life of the same number made",
    ),
    (
        "heard-life-outranks-in-the-log",
        "L2: a proposal of a life that was never admitted makes those of the admitted one repeats",
    ),
    (
        "earlier-life-acknowledges",
        "S14 S1: a host counts what an earlier life of a voter acknowledges beside the one vouched for",
    ),
    (
        "answer-stands-unsaid",
        "S14 S1: the answer of a voter counts though its newest report does not hold it",
    ),
    (
        "vouches-for-a-twin",
        "S10: a voter vouches for a copy and for its original, which began lives of one number",
    ),
    (
        "deaf-judged-while-divided",
        "S4: a coordinator whose state no quorum shares condemns a host that nobody can give the log to",
    ),
    (
        "dropped-tail-waited-for",
        "L1: a voter that starts grants no lease before it has applied entries that a later round dropped",
    ),
    (
        "known-log-forgotten",
        "S10: a voter that gets no log from the voter with the newest one votes unvouched without it",
    ),
    (
        "answer-without-log-stands",
        "L2: a voter that answered and has left the log since is asked for its log for ever",
    ),
    (
        "out-of-the-log-for-life",
        "L2: a voter that left the log takes no part again though it has a right state, and vouches for nobody",
    ),
    (
        "set-back-voter-vouches",
        "S10: a voter that holds less than it claimed to another vouches for a third all the same",
    ),
    (
        "all-together-forget",
        "S10: voters that wait to be vouched for go on together, though one had claimed more than any holds",
    ),
    (
        "own-earlier-life-unattested",
        "L1: a voter that booted anew does not attest that its earlier life is silent, and nobody else can",
    ),
    (
        "first-answer-stands",
        "S14 S1: the first answer of a voter to a revoke counts for good, whatever age it states later",
    ),
    (
        "answers-while-it-seeks",
        "S14 S1: a voter that nobody vouches for yet answers revokes",
    ),
    (
        "cut-beyond-own-state",
        "S10: voters cut the log when the leader says so, whatever their own durable state contains",
    ),
    (
        "untrusted-state-handed-over",
        "S17: a voter that was left behind is given a state that no quorum is known to have made",
    ),
    (
        "compared-in-memory-only",
        "L2: a voter that seeks forgets over a start with whom it compared its store, and takes it for set back",
    ),
    (
        "vouched-for-leads-no-more",
        "L2: a leader that voted unvouched drops its lead when it is vouched for, though it learns nothing",
    ),
    (
        "state-handed-on-only-once-compared",
        "L2: a leader hands no state to voters behind it before they have compared theirs with it, which they cannot",
    ),
    (
        "states-kept-before-they-are-taken",
        "S10: a state is kept though the program above has not taken all that led to it, and a start never tells it",
    ),
    (
        "cut-told-by-leaders-only",
        "S4 L1: a voter that reaches no leader hears of no follower that the log it lacks is cut",
    ),
    (
        "cut-and-not-told",
        "L2: nobody tells a voter that the log it lacks is cut",
    ),
    (
        "cut-waits-to-be-vouched-for",
        "L2: a voter that was left behind wants to be vouched for by several before it takes a state",
    ),
    (
        "one-voter-condemns",
        "L1 S4: one voter's word, not a quorum's, is ground for a verdict",
    ),
    (
        "pause-is-silence",
        "S4: a voter that was stopped counts the time as silence of the others",
    ),
    (
        "beats-not-relayed",
        "S4: voters pass no beats on for a host that reaches only some of them",
    ),
    (
        "pause-restarts-windows",
        "L1: every pause of a voter makes all silences begin anew",
    ),
    (
        "deaf-ground-ends-in-silence",
        "L1: a host that was deaf and falls silent is judged by its silence alone",
    ),
    (
        "deaf-stays-lost",
        "L1: a deaf host that nothing can be proved of is lost for ever",
    ),
    (
        "elections-wait-for-disk",
        "L1: answers in an election wait for writes, so slow disks change the leader over and over",
    ),
    (
        "slow-leader-stays",
        "L1: a leader keeps its place however slow its disk is",
    ),
    (
        "bulletin-in-one-datagram",
        "N2: all that a host says of its guests goes into one datagram",
    ),
    (
        "leases-by-datagram-only",
        "S4: leases go by datagrams only, though sessions are open where none passes",
    ),
    (
        "overheard-acted-on",
        "N1: a node acts on a frame for another that it overhears on a multicast link",
    ),
    (
        "deaf-never-lost",
        "L1: a host that hears nobody is never lost",
    ),
    (
        "term-outlives-its-life",
        "L2: a leader asks for no term while the log names an earlier life of it",
    ),
    (
        "left-behind-voter-waits",
        "L1: a voter that its leader does not reach follows nobody",
    ),
    (
        "set-back-by-counter-only",
        "S10: a store that holds less than was heard of it votes, since its counter is high enough",
    ),
    (
        "unmarked-votes-at-once",
        "S10 S1: a voter votes after a boot without asking whether its store is the newest",
    ),
    (
        "reverted-life-goes-on",
        "S10 S4: a machine that was reverted with its memory goes on in the same life",
    ),
    (
        "one-voter-vouches",
        "S10 S5: the word of one other voter, not of n - q + 1, vouches for a store",
    ),
    (
        "newer-heard-votes-unvouched",
        "S10: a voter votes unvouched although somebody heard more of it than it holds",
    ),
    (
        "alone-states-what-it-holds-now",
        "L2: a voter that votes unvouched tells one not yet compared with it what it promised since",
    ),
    (
        "refused-and-not-told",
        "S4: a node whose store was set back over several starts does not heed that it is refused",
    ),
    (
        "whole-store-still-fetches",
        "L2: a voter of which nobody heard more waits for a newer log that is out of reach",
    ),
    (
        "answers-ask",
        "N3: two voters that wait to be vouched for answer each other's answers without end",
    ),
    (
        "boot-id-believed-from-a-clone",
        "S14 S1: a new boot id, or the word emptied, frees guests whatever machine it comes from",
    ),
    (
        "old-hello-admits",
        "L1: a hello from before the last fence attempt ended admits the life that the fence cut",
    ),
    (
        "copy-speaks-for-the-original",
        "L1: the frames of a copy of a host count as signs of life of the original",
    ),
    (
        "floor-not-taken",
        "S10: a founder begins at the first epoch, whatever clusters its voters belonged to before",
    ),
    (
        "states-not-compared",
        "S17: nobody compares what the voters made of the log",
    ),
    (
        "divided-goes-on",
        "S17: guests are placed and hosts proved over though no quorum made the same of the log",
    ),
    (
        "follower-keeps-it-to-itself",
        "L1: a voter that follows another passes on neither the log nor what others propose",
    ),
];

#[cfg(feature = "mutants")]
mod planted_bugs {
    use std::cell::Cell;
    thread_local! {
        static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Plants one bug for this thread, or none.
    pub fn plant(name: Option<&'static str>) {
        PLANTED.with(|p| p.set(name));
    }

    /// Whether the bug `name` is planted in this thread.
    #[must_use]
    pub fn planted(name: &str) -> bool {
        PLANTED.with(|p| p.get() == Some(name))
    }
}
#[cfg(feature = "mutants")]
pub use planted_bugs::{plant, planted};

/// Whether the bug `name` is planted: never, in this build.
#[cfg(not(feature = "mutants"))]
#[must_use]
pub const fn planted(_name: &str) -> bool {
    false
}
