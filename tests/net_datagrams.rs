//! Datagrams between nodes of one machine: real sockets on the loopback card.

use quorate::net::{
    ClusterKey, Interface, LinkConfig, LinkError, LinkKind, Links, Opener, Refused, Sealer,
};
use quorate_membership::frame::{Datagram, Header, Join};
use quorate_membership::{ClusterId, Epoch, Incarnation, LinkId, NodeId, StoreId};
use quorate_recovery::contract::NodeFrame;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

/// Far beyond anything loopback needs; only a lost datagram reaches it.
const DEADLINE: Duration = Duration::from_secs(20);

struct Node {
    id: NodeId,
    links: Links,
    sealer: Sealer,
    opener: Opener,
    life: Incarnation,
}

impl Node {
    fn new(id: u32, configs: &[LinkConfig]) -> Node {
        let key = ClusterKey::from_bytes([7; 32]);
        let id = NodeId(id);
        let life = Incarnation {
            counter: 1,
            random: u64::from(id.0) * 1000,
        };
        Node {
            id,
            links: Links::open(configs).expect("links open"),
            sealer: Sealer::new(&key, id, life),
            opener: Opener::new(&key, id, life),
            life,
        }
    }

    fn say(&mut self, number: u64, to: &[NodeId]) {
        let frame = NodeFrame {
            to: to.to_vec(),
            header: Header {
                cluster: ClusterId(1),
                epoch: Epoch(0),
                from: self.id,
                incarnation: self.life,
                number,
            },
            body: Datagram::Join(Join::Seeking {
                store: StoreId(u128::from(self.id.0)),
                pledged: None,
                floor: quorate_membership::Epoch(7),
            }),
        };
        let bytes = self.sealer.seal(&frame).expect("sealed");
        self.links.send(to, &bytes);
    }

    /// Who was heard on which link, until `count` frames of others came.
    async fn hear(&mut self, count: usize) -> BTreeSet<(NodeId, LinkId, u64)> {
        let mut heard = BTreeSet::new();
        let all = async {
            while heard.len() < count {
                let (link, bytes, _) = self.links.recv().await;
                match self.opener.open(&bytes) {
                    Ok(frame) => {
                        heard.insert((frame.header.from, link, frame.header.number));
                    }
                    Err(why) => assert_eq!(why, Refused::OwnEcho),
                }
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, all).await;
        assert!(in_time.is_ok(), "{} heard only {heard:?}", self.id);
        heard
    }
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    socket.local_addr().expect("has an address").port()
}

fn group(name: &str, last: u8, port: u16) -> LinkConfig {
    LinkConfig {
        name: name.to_owned(),
        kind: LinkKind::Multicast {
            interface: Interface::Address(Ipv4Addr::LOCALHOST.into()),
            group: SocketAddr::from(([239, 192, 77, last], port)),
            ttl: 1,
            loopback: true,
        },
    }
}

fn copies(name: &str, bind: SocketAddr) -> LinkConfig {
    LinkConfig {
        name: name.to_owned(),
        kind: LinkKind::Unicast {
            bind,
            card: None,
            peers: BTreeMap::new(),
        },
    }
}

#[tokio::test]
async fn three_nodes_hear_each_other_on_two_multicast_links() {
    let links = [group("red", 1, free_port()), group("blue", 2, free_port())];
    let mut nodes: Vec<Node> = (1..=3).map(|id| Node::new(id, &links)).collect();
    for node in &mut nodes {
        // An addressee list changes nothing on the wire of a group: the core judges it.
        node.say(1, &[]);
        node.say(2, &[NodeId(9)]);
    }
    for node in &mut nodes {
        let heard = node.hear(8).await;
        let expected: BTreeSet<_> = (1..=3)
            .filter(|id| NodeId(*id) != node.id)
            .flat_map(|id| (0..2).map(move |link| (NodeId(id), LinkId(link))))
            .flat_map(|(id, link)| [(id, link, 1), (id, link, 2)])
            .collect();
        assert_eq!(heard, expected);
        assert_eq!(node.opener.dropped().faults(), 0);
        let counters = node.links.counters();
        assert_eq!((counters[0].sent, counters[1].sent), (2, 2));
    }
}

#[tokio::test]
async fn a_card_can_be_given_by_name() {
    let mut link = group("red", 3, free_port());
    if let LinkKind::Multicast { interface, .. } = &mut link.kind {
        *interface = Interface::Name("lo".to_owned());
    }
    let links = [link];
    let (mut a, mut b) = (Node::new(1, &links), Node::new(2, &links));
    a.say(5, &[]);
    let heard = b.hear(1).await;
    assert_eq!(heard, [(NodeId(1), LinkId(0), 5)].into());
}

/// The loopback card takes no IPv6 groups, so the test runs itself again in a network namespace
/// with a pair of cards.
#[tokio::test]
async fn groups_of_ipv6_work_too() {
    const INSIDE: &str = "QUORATE_TEST_INSIDE_NAMESPACE";
    if std::env::var_os(INSIDE).is_none() {
        let cards =
            "ip link add q0 type veth peer name q1 && ip link set q0 up && ip link set q1 up";
        let script = format!("{cards} || exit 77; exec \"$0\" --exact groups_of_ipv6_work_too");
        let run = Command::new("unshare")
            .args(["--map-root-user", "--net", "sh", "-c", &script])
            .arg(std::env::current_exe().expect("this program"))
            .env(INSIDE, "1")
            .output();
        match run {
            Ok(done) if done.status.success() => {}
            Ok(done) if done.status.code() == Some(101) => panic!("{done:?}"),
            other => println!("skipped: no network namespace with a pair of cards: {other:?}"),
        }
        return;
    }
    let links = [LinkConfig {
        name: "six".to_owned(),
        kind: LinkKind::Multicast {
            interface: Interface::Name("q0".to_owned()),
            group: SocketAddr::new("ff05::7:77".parse().expect("a group"), 5405),
            ttl: 1,
            loopback: true,
        },
    }];
    let (mut a, mut b) = (Node::new(1, &links), Node::new(2, &links));
    let heard = async {
        let mut turn = tokio::time::interval(Duration::from_millis(50));
        for number in 1.. {
            // A fresh card loses what is sent before its own address is settled.
            a.say(number, &[]);
            tokio::select! {
                (link, bytes, _) = b.links.recv() => return (link, b.opener.open(&bytes)),
                _ = turn.tick() => {}
            }
        }
        unreachable!("numbers do not end");
    };
    let in_time = tokio::time::timeout(DEADLINE, heard).await;
    let (link, frame) = in_time.expect("heard");
    assert_eq!(link, LinkId(0));
    assert_eq!(frame.expect("opened").header.from, NodeId(1));
}

#[tokio::test]
async fn unicast_copies_go_to_everyone_or_to_those_named() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut nodes: Vec<Node> = (1..=3)
        .map(|id| Node::new(id, &[copies("copies", any)]))
        .collect();
    let addresses: BTreeMap<NodeId, SocketAddr> = nodes
        .iter()
        .map(|n| (n.id, n.links.local_addr(LinkId(0)).expect("bound")))
        .collect();
    for node in &mut nodes {
        let mut peers = addresses.clone();
        peers.remove(&node.id);
        node.links.set_peers(LinkId(0), peers);
    }
    nodes[0].say(1, &[NodeId(3), NodeId(8)]);
    nodes[0].say(2, &[]);
    let link = LinkId(0);
    assert_eq!(nodes[1].hear(1).await, [(NodeId(1), link, 2)].into());
    let both = [(NodeId(1), link, 1), (NodeId(1), link, 2)];
    assert_eq!(nodes[2].hear(2).await, both.into());
    let counters = &nodes[0].links.counters()[0];
    assert_eq!((counters.sent, counters.unknown_peer), (3, 1));
}

#[tokio::test]
async fn datagrams_that_would_travel_as_fragments_never_leave() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut to = Links::open(&[copies("copies", any)]).expect("opens");
    let address = to.local_addr(LinkId(0)).expect("bound");
    let mut from = Links::open(&[copies("copies", any)]).expect("opens");
    from.set_peers(LinkId(0), [(NodeId(2), address)].into());
    from.send(&[], &[1; 1231]);
    from.send(&[], &[2; 1232]);
    from.send(&[], &[3; 1233]);
    for length in [1231, 1232] {
        let got = tokio::time::timeout(DEADLINE, to.recv()).await;
        assert_eq!(got.expect("in time").1.len(), length);
    }
    let counters = &from.counters()[0];
    assert_eq!((counters.sent, counters.send_errors), (2, 1));
    let said = counters.last_error.as_deref().unwrap_or_default();
    assert!(said.contains("1233"), "{said}");
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_link_address_and_cause() {
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let address = taken.local_addr().expect("has an address");
    let said = refused(&[copies("storage", address)]);
    for part in ["storage", &address.to_string(), "in use"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }

    let group_address = SocketAddr::from(([239, 192, 77, 5], 0));
    let taken = UdpSocket::bind(group_address).expect("bound");
    let port = taken.local_addr().expect("has an address").port();
    let said = refused(&[group("red", 5, port)]);
    for part in ["red", &format!("239.192.77.5:{port}"), "in use"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[tokio::test]
async fn an_address_or_card_not_on_this_host_is_named() {
    let elsewhere = SocketAddr::from(([192, 0, 2, 7], 5405));
    let said = refused(&[copies("storage", elsewhere)]);
    for part in ["storage", "192.0.2.7:5405", "no card of this host"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    for (card, part) in [
        (Interface::Address(elsewhere.ip()), "192.0.2.7"),
        (Interface::Name("nosuch0".to_owned()), "nosuch0"),
    ] {
        let mut link = group("red", 6, free_port());
        if let LinkKind::Multicast { interface, .. } = &mut link.kind {
            *interface = card;
        }
        let said = refused(&[link]);
        for part in ["red", part, "no card of this host"] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
    }
}

#[tokio::test]
async fn impossible_configurations_are_refused() {
    assert!(matches!(
        Links::open(&[]).err(),
        Some(LinkError::Count { found: 0 })
    ));
    let nine = vec![copies("x", SocketAddr::from(([127, 0, 0, 1], 0))); 9];
    assert!(matches!(
        Links::open(&nine).err(),
        Some(LinkError::Count { found: 9 })
    ));
    let mut link = group("red", 7, 5405);
    if let LinkKind::Multicast { group, .. } = &mut link.kind {
        *group = SocketAddr::from(([10, 0, 0, 1], 5405));
    }
    assert!(refused(&[link]).contains("not a multicast address"));
    let mut link = group("red", 7, 5405);
    if let LinkKind::Multicast { interface, .. } = &mut link.kind {
        *interface = Interface::Address("::1".parse().expect("an address"));
    }
    assert!(refused(&[link]).contains("differ in IP version"));
}

fn refused(configs: &[LinkConfig]) -> String {
    match Links::open(configs) {
        Ok(_) => panic!("opened {configs:?}"),
        Err(e) => e.to_string(),
    }
}
