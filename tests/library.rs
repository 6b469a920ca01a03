//! Promises of the library to the author of a service.

mod library_support;

use library_support::{Site, all_up_to, publish, soon, texts};
use quorate::{
    Cluster, ClusterError, ClusterId, ClusterKey, Epoch, Event, EventKind, Gap, HostState,
    InMemory, Inbox, Interface, Item, KeyError, LinkConfig, LinkError, LinkKind, Message, NodeId,
    OnDisk, Options, SessionError, StoreError, Timing, TimingError, Token, View, ViewMember,
};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use tokio::sync::broadcast;

/// The term a member holds, waited for.
async fn term_of_any(members: &[Cluster]) -> Token {
    let held = async {
        loop {
            if let Some(term) = members.iter().find_map(Cluster::coordinates) {
                return term;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("a coordinator", held).await
}

#[tokio::test(flavor = "current_thread")]
async fn members_with_a_store_restart_one_by_one_and_all_at_once_and_lose_nothing() {
    let site = Site::new(3);
    let mut members = site.three().await;
    let mut inbox = members[0].subscribe();
    let id = members[0].id();
    let mut expected = vec!["m0".to_owned()];
    let first = publish(&members[0], b"m0").await;
    for n in [2, 3, 1] {
        members[n - 1].leave().await;
        let text = format!("while {n} is away");
        let other = &members[n % 3];
        publish(other, text.as_bytes()).await;
        expected.push(text);
        members[n - 1] = site.join(n as u32).await;
        assert_eq!(members[n - 1].id(), id, "the same cluster");
        let text = format!("{n} is back");
        publish(&members[n - 1], text.as_bytes()).await;
        expected.push(text);
    }
    // Member 1 left as well: its subscriber is told, after everything it had.
    let had = loop {
        match inbox.recv().await {
            Ok(Item::Message(_)) => {}
            Ok(Item::Gap(gap)) => panic!("{gap:?}"),
            Err(ClusterError::Ended(_)) => break inbox.at(),
            Err(e) => panic!("{e}"),
        }
    };
    assert!(had > first);
    let last = publish(&members[1], b"the last").await;
    expected.push("the last".into());
    let term = term_of_any(&members).await;
    // All at once, without a word.
    drop(members);
    let members = site.three().await;
    let later = publish(&members[2], b"after all").await;
    expected.push("after all".into());
    assert!(later > last, "{later} after {last}");
    assert!(term_of_any(&members).await > term);
    for member in &members {
        assert_eq!(member.id(), id);
        let mut inbox = member
            .subscribe_after(Token::NONE)
            .expect("of this cluster");
        let all = all_up_to(&mut inbox, later).await;
        assert_eq!(texts(&all), expected, "of {:?}", member.node());
        let mut inbox = member.subscribe_after(last).expect("of this cluster");
        assert_eq!(texts(&all_up_to(&mut inbox, later).await), ["after all"]);
    }
    let other = Token::new(Epoch(9), 1);
    let wrong = members[0].subscribe_after(other);
    assert!(matches!(wrong, Err(ClusterError::Options { place, .. }) if place == "after"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_member_in_memory_does_not_come_back_under_its_number_or_name() {
    let site = Site::new(4);
    let [a, b, _c] = site.three_in_memory().await;
    b.leave().await;
    let refused = |joined: Result<Cluster<InMemory>, ClusterError>, word: &str| match joined {
        Err(ClusterError::Refused(why)) => assert!(why.contains(word), "{why}"),
        other => panic!("{word}: {other:?}"),
    };
    let again = soon("an answer", Cluster::in_memory(site.options(2))).await;
    refused(again, "store");
    let mut options = site.options(4);
    options.name = "m2".into();
    let named = soon("an answer", Cluster::in_memory(options)).await;
    refused(named, "m2");
    // A new number under a new name is admitted, and does not vote.
    let d = site.in_memory(4).await;
    let view = d.views().borrow().clone();
    let found = view.members.iter().find(|m| m.node == NodeId(4));
    assert!(found.is_some_and(|m| m.state == HostState::Member && !m.voter));
    assert!(publish(&d, b"from a new one").await > Token::NONE);
    assert_eq!(a.id(), d.id());
}

#[tokio::test(flavor = "current_thread")]
async fn a_member_that_is_handed_a_state_names_the_messages_it_never_saw() {
    let site = Site::new(4);
    let members = site.three().await;
    let mut inboxes: Vec<Inbox> = members.iter().map(Cluster::subscribe).collect();
    // More entries than any log keeps of them, once every service has taken them.
    let mut tokens = publish_many(&members, 32).await;
    let taken = *tokens.iter().max().expect("some");
    for inbox in &mut inboxes {
        all_up_to(inbox, taken).await;
        assert_eq!(inbox.try_recv().expect("open"), None);
    }
    tokens.extend(publish_many(&members, 32).await);
    let late = site.join(4).await;
    let mut inbox = late.subscribe_after(Token::NONE).expect("of this cluster");
    let last = publish(&members[0], b"the last").await;
    tokens.push(last);
    let items = all_up_to(&mut inbox, last).await;
    let mut gaps = Vec::new();
    let mut seen = Vec::new();
    for item in &items {
        match item {
            Item::Gap(gap) => gaps.push(*gap),
            Item::Message(m) => seen.push(m.token),
        }
    }
    assert!(!gaps.is_empty(), "a state was handed over");
    tokens.sort();
    let missed = |t: &Token| gaps.iter().any(|g| g.after < *t && *t <= g.upto);
    let told: Vec<Token> = tokens.iter().copied().filter(|t| !missed(t)).collect();
    assert_eq!(seen, told, "every token is received or in a gap: {gaps:?}");
    assert_eq!(seen.last(), Some(&last));
}

/// All of these at once.
/// Publishes 64 messages at once, so many times; gives their tokens.
async fn publish_many(members: &[Cluster], rounds: usize) -> Vec<Token> {
    let mut tokens = Vec::new();
    for round in 0..rounds {
        let texts = (0..64).map(|i| format!("{round}.{i}"));
        let member = &members[round % members.len()];
        let sent: Vec<_> = texts.map(|t| member.propose(t.into())).collect();
        for one in futures(sent).await {
            tokens.push(one.expect("decided"));
        }
    }
    tokens
}

#[tokio::test(flavor = "current_thread")]
async fn what_no_service_has_taken_is_told_again_after_all_have_failed_at_once() {
    let site = Site::new(3);
    let members = site.three().await;
    let begin = |m: &Cluster| m.subscribe_after(Token::NONE).expect("of this cluster");
    let mut inboxes: Vec<Inbox> = members.iter().map(begin).collect();
    let first = publish(&members[0], b"the first").await;
    // Each service has kept the first message, and works on the second.
    for inbox in &mut inboxes {
        assert_eq!(texts(&all_up_to(inbox, first).await), ["the first"]);
    }
    // Several snapshots could contain these.
    let mut tokens = publish_many(&members, 48).await;
    for inbox in &mut inboxes {
        let second = soon("a message", inbox.recv()).await.expect("open");
        assert!(matches!(second, Item::Message(_)), "{second:?}");
    }
    drop((members, inboxes));
    let members = site.three().await;
    let last = publish(&members[0], b"the last").await;
    tokens.push(last);
    tokens.sort();
    for member in &members {
        let mut inbox = member.subscribe_after(first).expect("of this cluster");
        let all = all_up_to(&mut inbox, last).await;
        let told = all.iter().map(|item| match item {
            Item::Message(message) => message.token,
            Item::Gap(gap) => panic!("{:?} names {gap:?}", member.node()),
        });
        let told: Vec<Token> = told.collect();
        assert_eq!(told, tokens, "of {:?}", member.node());
    }
}

async fn futures<T>(all: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        let mut ready = true;
        for (future, done) in &mut all {
            if done.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *done = Some(value),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        match ready {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    all.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test(flavor = "current_thread")]
async fn a_subscriber_that_reads_too_slowly_is_told_what_it_missed() {
    let site = Site::new(3);
    let [a, _b, _c] = site.three_in_memory().await;
    let mut slow = a.subscribe();
    let block = vec![7; 64 << 10];
    let first = publish(&a, &block).await;
    let blocks = quorate::cluster::KEPT_BYTES / block.len() + 8;
    let mut last = first;
    for _ in 0..blocks {
        last = publish(&a, &block).await;
    }
    let items = all_up_to(&mut slow, last).await;
    let Item::Gap(Gap { after, upto }) = items[0] else {
        panic!("no gap: {:?}", items[0].upto());
    };
    assert!(after < first && first <= upto && upto < last);
    let rest = items[1..]
        .iter()
        .all(|i| matches!(i, Item::Message(m) if m.token > upto));
    assert!(rest, "one gap, then what is kept");
    let long = a.propose(vec![0; (64 << 10) + 1]).await;
    assert!(matches!(
        long,
        Err(ClusterError::TooLong { found: 65_537, .. })
    ));
}

/// Waits until one of two members says that its log grows for a voter that lacks what the others hold.
async fn log_grows(told: &mut [broadcast::Receiver<Event>; 2]) {
    let [a, b] = told;
    loop {
        let event = tokio::select! { event = a.recv() => event, event = b.recv() => event };
        let event = event.expect("not too many");
        if event.kind == EventKind::Alert && event.text.starts_with("the log holds") {
            return;
        }
    }
}

/// More than one session message holds, and than the others keep for who is away (core audit, B5).
#[tokio::test(flavor = "current_thread")]
async fn a_voter_that_was_away_while_megabytes_were_published_votes_again() {
    let site = Site::new(3);
    let [a, b, c] = site.three().await;
    let before = publish(&c, b"before").await;
    drop(c);
    let long = vec![7; 60_000];
    let mut services = [a.subscribe(), b.subscribe()];
    let mut told = [a.events(), b.events()];
    for round in 0..12 {
        let sent = futures((0..40).map(|_| publish(&a, &long)).collect()).await;
        let newest = sent.into_iter().max().expect("some");
        for service in &mut services {
            all_up_to(service, newest).await;
            assert_eq!(service.try_recv().expect("open"), None);
        }
        if round == 1 {
            // The leader cuts nothing before it has heard that the other holds a state. It says that
            // it has, once the log is half as long as it may be.
            soon("word that the log grows", log_grows(&mut told)).await;
        }
    }
    let c = site.join(3).await;
    let mut inbox = c.subscribe_after(before).expect("of this cluster");
    // Only with its vote is there a quorum.
    b.leave().await;
    let after = publish(&a, b"after").await;
    let items = all_up_to(&mut inbox, after).await;
    assert!(
        matches!(items[0], Item::Gap(gap) if gap.after == before),
        "{:?}",
        items[0]
    );
    assert_eq!(texts(&items[items.len() - 1..]), ["after"]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_member_that_is_dropped_ends_and_gives_up_what_it_held() {
    let site = Site::new(3);
    let mut members: Vec<Cluster> = site.three().await.into();
    let term = term_of_any(&members).await;
    let held = members.iter().position(|m| m.coordinates().is_some());
    let coordinator = members.remove(held.expect("it still holds the term"));
    let gone = coordinator.node();
    let mut inbox = coordinator.subscribe();
    let mut views = members[0].views();
    drop(coordinator);
    let ended = soon("the end", async {
        loop {
            if let Err(e) = inbox.recv().await {
                return e;
            }
        }
    });
    assert!(matches!(ended.await, ClusterError::Ended(_)));
    let lost = |v: &View| {
        let of = v.members.iter().find(|m| m.node == gone);
        of.is_some_and(|m| m.state == HostState::Lost)
    };
    soon("the others miss it", views.wait_for(lost))
        .await
        .expect("a view");
    assert!(term_of_any(&members).await > term, "another coordinator");
    publish(&members[1], b"the two go on").await;
    // What it held is free: it comes back.
    members.push(site.join(gone.0).await);
    publish(&members[2], b"as three").await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_joining_that_is_called_off_leaves_nothing_behind() {
    let site = Site::new(3);
    let alone = Cluster::join(site.options(1), site.state_dir(1));
    let cut = tokio::time::timeout(Duration::from_millis(500), alone).await;
    assert!(cut.is_err(), "nobody else is there");
    let (datagrams, sessions) = site.addresses[&1];
    let free = async {
        while TcpListener::bind(sessions).is_err() || std::net::UdpSocket::bind(datagrams).is_err()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("its addresses are free", free).await;
    let mut options = site.options(2);
    options.patience = Duration::from_millis(600);
    let late = soon("its patience", Cluster::join(options, site.state_dir(2))).await;
    assert!(
        matches!(&late, Err(ClusterError::Alone(why)) if why.contains("founder")),
        "{late:?}"
    );
    // None of the abandoned ones founds anything, or is in the way.
    let all = site.three().await;
    publish(&all[0], b"all three").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_outcome_that_was_not_seen_is_unknown_and_one_never_proposed_is_not_made() {
    let site = Site::new(3);
    let [a, b, c] = site.three().await;
    publish(&a, b"as three").await;
    drop((b, c));
    // Member 1 still believes that it reaches them.
    let first = soon("an answer", a.propose(b"perhaps".to_vec())).await;
    assert!(matches!(first, Err(ClusterError::Unknown)), "{first:?}");
    let second = soon("an answer", a.propose(b"never".to_vec())).await;
    assert!(matches!(second, Err(ClusterError::NoQuorum)), "{second:?}");
    let mut inbox = a.subscribe();
    let (_b, _c) = tokio::join!(site.join(2), site.join(3));
    let last = publish(&a, b"the last").await;
    let texts = texts(&all_up_to(&mut inbox, last).await);
    assert!(!texts.contains(&"never".to_owned()), "{texts:?}");
    a.leave().await;
    let ended = a.propose(b"too late".to_vec()).await;
    assert!(matches!(ended, Err(ClusterError::Ended(_))), "{ended:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn bad_options_are_refused_with_their_place_before_anything_is_opened() {
    let site = Site::new(3);
    let zero: SocketAddr = ([127, 0, 0, 1], 0).into();
    type Spoil = fn(&mut Options);
    let cases: [(Spoil, &str, &str); 13] = [
        (|o| o.node = 0, "node", "from 1"),
        (|o| o.name = "a\nb".into(), "name", "a-z"),
        (|o| o.name = "x".repeat(180), "name", "64"),
        (|o| o.voters = vec![1, 2], "voters", "3 to 7"),
        (|o| o.voters = vec![1, 2, 2], "voters[2]", "twice"),
        (|o| o.voters = vec![0, 2, 3], "voters[0]", "from 1"),
        (|o| _ = o.sessions.remove(&3), "sessions", "voter 3"),
        (|o| o.links.clear(), "links", "1 to 8"),
        (|o| o.links[0].name.clear(), "links[0].name", "a name"),
        (|o| o.timing.misses = 0, "timing", "misses"),
        (|o| o.patience = Duration::ZERO, "patience", "0"),
        (|o| o.listen.set_port(0), "listen", "port"),
        (
            |o| {
                if let LinkKind::Unicast { peers, .. } = &mut o.links[0].kind {
                    peers.remove(&NodeId(2));
                }
            },
            "links[0].kind.peers",
            "voter 2",
        ),
    ];
    for (spoil, at, word) in cases {
        let mut options = site.options(1);
        spoil(&mut options);
        match Cluster::join(options, site.state_dir(1)).await {
            Err(ClusterError::Options { place, why }) => {
                assert_eq!(place, at, "{why}");
                assert!(why.contains(word), "{place}: {why}");
            }
            other => panic!("{at}: {other:?}"),
        }
        assert!(!site.state_dir(1).exists(), "{at}: nothing was made");
    }
    let mut options = site.options(1);
    options.sessions.insert(2, zero);
    let why = options.check().expect_err("port 0").to_string();
    assert!(why.starts_with("sessions[2]: found 127.0.0.1:0"), "{why}");
    options = site.options(1);
    options.links[0].kind = LinkKind::Multicast {
        interface: Interface::Address([127, 0, 0, 1].into()),
        group: ([10, 0, 0, 1], 5405).into(),
        ttl: 0,
        loopback: true,
    };
    let why = options.check().expect_err("no group").to_string();
    assert!(
        why.starts_with("links[0].kind.group: found 10.0.0.1:5405"),
        "{why}"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_directory_of_another_member_or_cluster_is_refused_by_type() {
    let site = Site::new(4);
    let [_a, _b, c] = site.three().await;
    let taken = Cluster::join(site.options(4), site.state_dir(3)).await;
    assert!(
        matches!(taken, Err(ClusterError::Store(StoreError::Locked { .. }))),
        "{taken:?}"
    );
    c.leave().await;
    let other = Cluster::join(site.options(4), site.state_dir(3)).await;
    assert!(
        matches!(&other, Err(ClusterError::Options { place, .. }) if place == "node"),
        "{other:?}"
    );
    let mut options = site.options(3);
    options.timing = Timing::default();
    let slow = Cluster::join(options, site.state_dir(3)).await;
    assert!(
        matches!(&slow, Err(ClusterError::Options { place, .. }) if place == "timing"),
        "{slow:?}"
    );
    // A store that is gone takes its number with it.
    std::fs::remove_dir_all(site.state_dir(3)).expect("removed");
    let fresh = soon(
        "an answer",
        Cluster::join(site.options(3), site.state_dir(3)),
    )
    .await;
    match fresh {
        Err(ClusterError::Refused(why)) => assert!(why.contains("votes from store"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// Every type of a signature has a name here; that it compiles is the test.
#[test]
fn every_type_of_a_signature_can_be_named() {
    struct Everything<P> {
        _events: quorate::cluster::broadcast::Receiver<Event>,
        _views: quorate::cluster::watch::Receiver<View>,
        _inbox: Inbox,
        _member: Cluster<P>,
    }
    fn take<P>(member: Cluster<P>) -> Everything<P> {
        Everything {
            _events: member.events(),
            _views: member.views(),
            _inbox: member.subscribe(),
            _member: member,
        }
    }
    type Parts = (
        ClusterId,
        EventKind,
        Message,
        ViewMember,
        (LinkConfig, BTreeMap<NodeId, SocketAddr>),
        (KeyError, LinkError, SessionError, StoreError, TimingError),
        ClusterKey,
    );
    let _ = (
        take::<OnDisk>,
        take::<InMemory>,
        std::mem::size_of::<Parts>(),
    );
    fn shared<T: Send + Sync>() {}
    shared::<Cluster<OnDisk>>();
    shared::<Inbox>();
}
