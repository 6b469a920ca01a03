//! Sessions between nodes of one machine: real connections on the loopback card.

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use quorate::net::{
    ClusterKey, SessionConfig, SessionCounters, SessionEvent, SessionEvents, SessionHandle,
    Sessions, dials,
};
use quorate_membership::frame::Stream;
use quorate_membership::{Epoch, Incarnation, NodeId};
use quorate_recovery::contract::NodeStream;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Far beyond anything loopback needs; only a fault reaches it.
const DEADLINE: Duration = Duration::from_secs(30);
/// Long, so that no session of a test is given up because the machine is busy.
const PATIENT: Duration = Duration::from_secs(10);

struct Node {
    id: NodeId,
    handle: SessionHandle,
    events: SessionEvents,
}

fn life(counter: u64) -> Incarnation {
    Incarnation {
        counter,
        random: 42,
    }
}

impl Node {
    fn start(id: u32, key: u8, keepalive: Duration) -> Node {
        let config = SessionConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
            keepalive,
        };
        let key = ClusterKey::from_bytes([key; 32]);
        let id = NodeId(id);
        let (handle, events) =
            Sessions::start(&config, &key, id, life(u64::from(id.0))).expect("starts");
        Node { id, handle, events }
    }

    fn dial(&self, peer: NodeId, address: SocketAddr) {
        self.handle.set_peers([(peer, address)].into());
    }

    fn address(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    async fn next(&mut self) -> SessionEvent {
        match tokio::time::timeout(DEADLINE, self.events.recv()).await {
            Ok(Some(event)) => event,
            other => panic!(
                "{}: no event: {other:?}, {:?}",
                self.id,
                self.handle.counters()
            ),
        }
    }

    async fn expect_up(&mut self, from: u32) {
        match self.next().await {
            SessionEvent::Up { peer, incarnation } => {
                assert_eq!((peer, incarnation), (NodeId(from), life(u64::from(from))));
            }
            other => panic!("{}: expected Up, got {other:?}", self.id),
        }
    }

    async fn expect_down(&mut self, from: u32) {
        match self.next().await {
            SessionEvent::Down { peer } => assert_eq!(peer, NodeId(from)),
            other => panic!("{}: expected Down, got {other:?}", self.id),
        }
    }

    /// The number in the next message.
    async fn number(&mut self, from: u32) -> u64 {
        match self.next().await {
            SessionEvent::Message {
                peer,
                message: Stream::Follow { from: number },
            } => {
                assert_eq!(peer, NodeId(from));
                number
            }
            other => panic!("{}: expected a message, got {other:?}", self.id),
        }
    }

    async fn until(&self, what: &str, holds: impl Fn(&SessionCounters) -> bool) {
        let wait = async {
            while !holds(&self.handle.counters()) {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, wait).await;
        assert!(in_time.is_ok(), "{what}: {:?}", self.handle.counters());
    }
}

fn number(number: u64) -> NodeStream {
    Stream::Follow { from: number }
}

fn bulk(length: usize) -> NodeStream {
    Stream::State {
        epoch: Epoch(1),
        applied: 1,
        bytes: vec![5; length],
    }
}

async fn connected() -> (Node, Node) {
    let mut a = Node::start(1, 1, PATIENT);
    let mut b = Node::start(2, 1, PATIENT);
    a.dial(b.id, b.address());
    a.expect_up(2).await;
    b.expect_up(1).await;
    (a, b)
}

/// Passes bytes between whoever connects to it and `target`, until it is told to cut.
struct Proxy {
    address: SocketAddr,
    task: JoinHandle<()>,
    cut: watch::Sender<()>,
    /// Bytes passed on to the target.
    passed: watch::Sender<u64>,
}

impl Proxy {
    async fn before(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("bound");
        let address = listener.local_addr().expect("bound");
        let (cut, cutting) = watch::channel(());
        let passed = watch::Sender::new(0);
        let count = passed.clone();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut cutting = cutting.clone();
                cutting.mark_unchanged();
                let far = TcpStream::connect(target).await.expect("connected");
                let count = count.clone();
                tokio::spawn(async move {
                    let (mut near_out, mut near_in) = near.into_split();
                    let (mut far_out, mut far_in) = far.into_split();
                    tokio::select! {
                        () = pass(&mut near_out, &mut far_in, Some(count)) => {}
                        () = pass(&mut far_out, &mut near_in, None) => {}
                        _ = cutting.changed() => {}
                    }
                });
            }
        });
        Proxy {
            address,
            task,
            cut,
            passed,
        }
    }
}

async fn pass(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    count: Option<watch::Sender<u64>>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        if let Some(count) = &count {
            count.send_modify(|bytes| *bytes += read as u64);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn messages_pass_both_ways_in_order_under_load() {
    let (mut a, mut b) = connected().await;
    // More bytes than the connection itself holds; fewer than its queue.
    let count = 3000;
    for n in 0..count {
        assert!(a.handle.send(b.id, &number(n)));
        assert!(b.handle.send(a.id, &number(n + 1_000_000)));
        if n % 100 == 0 {
            assert!(a.handle.send(b.id, &bulk(200_000)));
        }
    }
    for n in 0..count {
        assert_eq!(b.number(1).await, n);
        if n % 100 == 0 {
            let event = b.next().await;
            let SessionEvent::Message {
                message: Stream::State { bytes, .. },
                ..
            } = event
            else {
                panic!("expected bulk, got {event:?}");
            };
            assert!(bytes.len() == 200_000 && bytes.iter().all(|b| *b == 5));
        }
        assert_eq!(a.number(2).await, n + 1_000_000);
    }
    let counters = a.handle.counters();
    assert_eq!(
        counters,
        SessionCounters {
            opened: 1,
            ..SessionCounters::default()
        }
    );
}

#[tokio::test]
async fn the_longest_message_passes_and_a_longer_one_closes_the_session() {
    let (mut a, mut b) = connected().await;
    assert!(a.handle.send(b.id, &bulk((16 << 20) - 64)));
    let event = b.next().await;
    assert!(matches!(event, SessionEvent::Message { .. }));
    assert!(!a.handle.send(b.id, &bulk(16 << 20)));
    a.expect_down(2).await;
    b.expect_down(1).await;
    assert_eq!(a.handle.counters().too_long, 1);
}

#[tokio::test]
async fn without_a_session_a_message_is_dropped_and_counted() {
    let a = Node::start(1, 1, PATIENT);
    assert!(!a.handle.send(NodeId(2), &number(1)));
    assert_eq!(a.handle.counters().unsent, 1);
}

#[tokio::test]
async fn nothing_is_sent_on_a_session_before_its_up_was_received() {
    let mut a = Node::start(1, 1, PATIENT);
    let mut b = Node::start(2, 1, PATIENT);
    a.dial(b.id, b.address());
    b.expect_up(1).await;
    // The session exists, but this end's driver does not know yet.
    a.until("a session", |c| c.opened == 1).await;
    assert!(!a.handle.send(b.id, &number(1)));
    a.expect_up(2).await;
    assert!(a.handle.send(b.id, &number(2)));
    assert_eq!(b.number(1).await, 2);
}

#[tokio::test]
async fn a_broken_connection_is_dialled_again_and_events_stay_in_order() {
    let mut a = Node::start(1, 1, PATIENT);
    let mut b = Node::start(2, 1, PATIENT);
    let proxy = Proxy::before(b.address()).await;
    a.dial(b.id, proxy.address);
    for round in 0..3 {
        a.expect_up(2).await;
        b.expect_up(1).await;
        assert!(a.handle.send(b.id, &number(round)));
        assert_eq!(b.number(1).await, round);
        proxy.cut.send_replace(());
        a.expect_down(2).await;
        b.expect_down(1).await;
        assert!(!a.handle.send(b.id, &number(99)), "no session, no message");
    }
    a.expect_up(2).await;
    b.expect_up(1).await;
}

#[tokio::test]
async fn a_peer_that_starts_later_is_reached_and_until_then_the_reason_is_known() {
    let early = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("bound");
    let address = early.local_addr().expect("bound");
    drop(early);
    let mut a = Node::start(1, 1, PATIENT);
    a.dial(NodeId(2), address);
    a.until("an attempt", |c| c.unreachable > 0).await;
    let said = a.handle.unreached()[&NodeId(2)].clone();
    assert!(said.contains(&address.to_string()), "{said}");
    let b = Node::start(2, 1, PATIENT);
    a.dial(b.id, b.address());
    a.expect_up(2).await;
    assert!(a.handle.unreached().is_empty());
}

#[tokio::test]
async fn another_key_never_becomes_a_session() {
    let a = Node::start(1, 1, PATIENT);
    let b = Node::start(2, 9, PATIENT);
    a.dial(b.id, b.address());
    b.until("refused", |c| c.wrong_key > 0).await;
    // The dialer learns it from the listener's proof, or from being hung up on.
    a.until("refused", |c| c.wrong_key + c.ended + c.broken > 0)
        .await;
    assert_eq!(a.handle.counters().opened + b.handle.counters().opened, 0);
}

#[tokio::test]
async fn another_node_at_the_address_is_refused() {
    let a = Node::start(1, 1, PATIENT);
    let c = Node::start(3, 1, PATIENT);
    a.dial(NodeId(2), c.address());
    a.until("refused", |c| c.unexpected_peer > 0).await;
    assert_eq!(a.handle.counters().opened, 0);
    let said = a.handle.unreached()[&NodeId(2)].clone();
    assert!(said.contains("another node"), "{said}");
    // A node that reaches itself is refused too.
    c.dial(NodeId(2), c.address());
    c.until("refused", |c| c.unexpected_peer > 0).await;
}

#[tokio::test]
async fn a_new_session_of_the_same_peer_replaces_the_old_one() {
    let (_a, mut b) = connected().await;
    // The same node again, as after a restart nobody noticed.
    let again = Node::start(1, 1, PATIENT);
    again.dial(b.id, b.address());
    b.expect_down(1).await;
    b.expect_up(1).await;
    assert_eq!(b.handle.counters().replaced, 1);
}

#[tokio::test]
async fn a_peer_no_longer_wanted_is_hung_up_on() {
    let (mut a, mut b) = connected().await;
    a.handle.set_peers(BTreeMap::<NodeId, SocketAddr>::new());
    a.expect_down(2).await;
    b.expect_down(1).await;
    assert_eq!(a.handle.counters().unwanted, 1);
    drop(a);
    assert_eq!(b.handle.counters().opened, 1);
}

#[tokio::test]
async fn when_the_handle_is_dropped_the_peer_hears_of_it() {
    let (a, mut b) = connected().await;
    let Node {
        handle, mut events, ..
    } = a;
    drop(handle);
    b.expect_down(1).await;
    let down = events.recv().await;
    assert!(matches!(down, Some(SessionEvent::Down { .. })), "{down:?}");
    assert!(events.recv().await.is_none(), "nothing comes any more");
}

#[tokio::test]
async fn a_silent_peer_is_given_up() {
    let short = Duration::from_millis(50);
    let mut a = Node::start(1, 1, PATIENT);
    let mut b = Node::start(2, 1, short);
    // Its signs of life come every 10 s: the other end, which expects one within 200 ms, gives up.
    a.dial(b.id, b.address());
    a.expect_up(2).await;
    b.expect_up(1).await;
    b.expect_down(1).await;
    assert!(b.handle.counters().silent >= 1);
    a.expect_down(2).await;
}

#[tokio::test]
async fn signs_of_life_keep_a_quiet_session() {
    let mut a = Node::start(1, 1, Duration::from_millis(250));
    let mut b = Node::start(2, 1, Duration::from_millis(250));
    let proxy = Proxy::before(b.address()).await;
    a.dial(b.id, proxy.address);
    a.expect_up(2).await;
    b.expect_up(1).await;
    // A sign of life is 21 bytes and comes every 250 ms; four missed ones would be the end.
    let mut passed = proxy.passed.subscribe();
    let start = *passed.borrow_and_update();
    let many = passed.wait_for(|bytes| *bytes >= start + 10 * 21);
    let in_time = tokio::time::timeout(DEADLINE, many).await;
    in_time.expect("signs of life").expect("the proxy runs");
    assert!(a.handle.send(b.id, &number(1)));
    assert_eq!(b.number(1).await, 1);
}

#[tokio::test]
async fn a_peer_that_reads_nothing_overflows_its_queue_and_loses_the_session() {
    let (mut a, b) = connected().await;
    // The other driver takes no events, so its session stops reading, and the queue fills.
    let mut sent = 0;
    let filled = async {
        while a.handle.send(b.id, &bulk(1 << 20)) {
            sent += 1;
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(DEADLINE, filled).await;
    assert!(in_time.is_ok(), "{sent} messages were taken");
    // 32 MiB wait here, up to 64 MiB there, and some are on the way.
    assert!((30..130).contains(&sent), "{sent}");
    a.expect_down(2).await;
    assert_eq!(a.handle.counters().overflow, 1);
}

#[tokio::test]
async fn arbitrary_bytes_to_the_port_are_counted_and_hurt_nobody() {
    let (mut a, mut b) = connected().await;
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[8; 32]);
    let hello = |rest: &[u8]| [b"Qs\x01\x01".as_slice(), rest].concat();
    let mut noises: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nUser-Agent: y\r\n\r\n".to_vec(),
        [b"Qs\x02\x01".as_slice(), &[0; 52]].concat(),
        hello(&[1; 52]),
        hello(&[&[7; 52][..], &[255; 4]].concat()),
        hello(&[&[7; 52][..], &[17, 0, 0, 0], &[0; 17]].concat()),
        Vec::new(),
    ];
    for length in [1, 55, 56, 60, 500] {
        let mut noise = vec![0; length];
        random.fill_bytes(&mut noise);
        noises.push(noise);
    }
    for noise in &noises {
        let mut stream = TcpStream::connect(b.address()).await.expect("connected");
        stream.write_all(noise).await.expect("sent");
        stream.shutdown().await.expect("shut down");
        // Until it hangs up; a reset is as good.
        let mut rest = Vec::new();
        let done = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
        assert!(done.is_ok(), "it goes on listening to {noise:?}");
    }
    let refused = |c: &SessionCounters| {
        c.magic + c.version + c.wrong_key + c.ended + c.broken + c.unexpected_peer
    };
    let all = noises.len() as u64;
    b.until("all refused", |c| refused(c) == all).await;
    let counters = b.handle.counters();
    assert!(counters.magic >= 2 && counters.version == 1 && counters.wrong_key == 2);
    assert_eq!(counters.opened, 1);
    assert!(a.handle.send(b.id, &number(3)));
    assert_eq!(b.number(1).await, 3);
    assert!(b.handle.send(a.id, &number(4)));
    assert_eq!(a.number(2).await, 4);
}

#[tokio::test]
async fn strangers_that_say_nothing_are_bounded_in_number_and_time() {
    let node = Node::start(1, 1, PATIENT);
    let mut strangers = Vec::new();
    for _ in 0..80 {
        let stranger = TcpStream::connect(node.address()).await;
        strangers.push(stranger.expect("connected"));
    }
    node.until("too many", |c| c.busy == 80 - 64).await;
    drop(strangers);
    node.until("all gone", |c| c.ended + c.broken == 64).await;

    let hasty = Node::start(2, 1, Duration::from_millis(20));
    let _silent = TcpStream::connect(hasty.address())
        .await
        .expect("connected");
    hasty.until("hung up on", |c| c.silent == 1).await;
}

#[tokio::test]
async fn three_voters_and_a_follower_have_one_session_per_pair_that_needs_one() {
    let mut nodes: Vec<Node> = (1..=4).map(|id| Node::start(id, 1, PATIENT)).collect();
    let votes = |id: NodeId| id != NodeId(2);
    let addresses: BTreeMap<NodeId, SocketAddr> =
        nodes.iter().map(|n| (n.id, n.address())).collect();
    for node in &nodes {
        let mut peers = addresses.clone();
        peers.retain(|peer, _| dials(node.id, votes(node.id), *peer, votes(*peer)));
        node.handle.set_peers(peers);
    }
    for node in &mut nodes {
        let mut up = Vec::new();
        while up.len() < 3 {
            let SessionEvent::Up { peer, .. } = node.next().await else {
                panic!("a session ended");
            };
            up.push(peer);
        }
        up.sort();
        let others = (1..=4).map(NodeId).filter(|id| *id != node.id);
        assert_eq!(up, others.collect::<Vec<_>>());
    }
    for node in &nodes {
        assert_eq!(node.handle.counters().opened, 3);
        assert_eq!(node.handle.counters().replaced, 0);
    }
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let a = Node::start(1, 1, PATIENT);
    let config = SessionConfig {
        listen: a.address().into(),
        keepalive: PATIENT,
    };
    let key = ClusterKey::from_bytes([1; 32]);
    let Err(refused) = Sessions::start(&config, &key, NodeId(2), life(2)) else {
        panic!("two listen on one address");
    };
    let said = refused.to_string();
    assert!(said.contains(&a.address().to_string()), "{said}");
    assert!(said.contains("in use"), "{said}");
}
