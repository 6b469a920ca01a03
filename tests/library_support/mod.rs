//! Members of clusters on the loopback interface of this machine, by unicast.

// Each test uses a part of it.
#![allow(dead_code)]

use quorate::{
    Cluster, ClusterError, ClusterKey, InMemory, Inbox, Item, LinkConfig, LinkKind, NodeId,
    Options, Timing, Token,
};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Longest that anything may take that is waited for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A site: addresses, a key and directories for members 1 to `n`, of which the first three vote.
pub(crate) struct Site {
    pub(crate) key: ClusterKey,
    /// Of each member: where it takes datagrams, and sessions.
    pub(crate) addresses: BTreeMap<u32, (SocketAddr, SocketAddr)>,
    dir: PathBuf,
    _owned: Option<TempDir>,
}

/// Waits for what must come.
pub(crate) async fn soon<T>(what: &str, done: impl Future<Output = T>) -> T {
    let in_time = tokio::time::timeout(DEADLINE, done).await;
    in_time.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

impl Site {
    pub(crate) fn new(n: u32) -> Site {
        // All are held until all are found, so that they differ.
        let held: Vec<_> = (0..n)
            .map(|_| {
                let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
                let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
                (udp, tcp)
            })
            .collect();
        let addresses = (1..).zip(&held).map(|(n, (udp, tcp))| {
            let of = |at: std::io::Result<SocketAddr>| at.expect("bound");
            (n, (of(udp.local_addr()), of(tcp.local_addr())))
        });
        let dir = TempDir::new().expect("a directory");
        Site {
            key: ClusterKey::generate().expect("random numbers"),
            addresses: addresses.collect(),
            dir: dir.path().to_owned(),
            _owned: Some(dir),
        }
    }

    /// Writes the site down for other processes; gives the file.
    pub(crate) fn write(&self) -> PathBuf {
        self.key
            .write_new(&self.dir().join("key"))
            .expect("a key file");
        let each = self.addresses.iter();
        let text: String = each.map(|(n, (d, s))| format!("{n} {d} {s}\n")).collect();
        let file = self.dir().join("site");
        std::fs::write(&file, text).expect("a file");
        file
    }

    /// A site that another process wrote down, and cleans up.
    pub(crate) fn read(file: &Path) -> Site {
        let text = std::fs::read_to_string(file).expect("a site");
        let dir = file.parent().expect("a directory").to_owned();
        let addresses = text.lines().map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let at = |i: usize| words[i].parse().expect("an address");
            (words[0].parse().expect("a number"), (at(1), at(2)))
        });
        Site {
            key: ClusterKey::load(&dir.join("key")).expect("a key"),
            addresses: addresses.collect(),
            dir,
            _owned: None,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn options(&self, node: u32) -> Options {
        let others = self.addresses.iter().filter(|(n, _)| **n != node);
        let peers = others.map(|(n, (at, _))| (NodeId(*n), *at)).collect();
        let kind = LinkKind::Unicast {
            bind: self.addresses[&node].0,
            card: None,
            peers,
        };
        Options {
            node,
            name: format!("m{node}"),
            key: self.key.clone(),
            voters: vec![1, 2, 3],
            links: vec![LinkConfig {
                name: "lo".into(),
                kind,
            }],
            listen: self.addresses[&node].1,
            sessions: (1..=3).map(|n| (n, self.addresses[&n].1)).collect(),
            timing: Timing::fast(),
            above: Token::NONE,
            patience: DEADLINE,
        }
    }

    pub(crate) fn state_dir(&self, node: u32) -> PathBuf {
        self.dir.join(format!("m{node}"))
    }

    pub(crate) async fn join(&self, node: u32) -> Cluster {
        let joined = Cluster::join(self.options(node), self.state_dir(node)).await;
        joined.unwrap_or_else(|e| panic!("member {node} joins: {e}"))
    }

    pub(crate) async fn in_memory(&self, node: u32) -> Cluster<InMemory> {
        let joined = Cluster::in_memory(self.options(node)).await;
        joined.unwrap_or_else(|e| panic!("member {node} joins: {e}"))
    }

    /// The first three, which keep their stores.
    pub(crate) async fn three(&self) -> [Cluster; 3] {
        tokio::join!(self.join(1), self.join(2), self.join(3)).into()
    }

    /// The first three, which keep nothing.
    pub(crate) async fn three_in_memory(&self) -> [Cluster<InMemory>; 3] {
        tokio::join!(self.in_memory(1), self.in_memory(2), self.in_memory(3)).into()
    }
}

/// Publishes, until it is decided; what is known not to be is asked again.
pub(crate) async fn publish<P>(member: &Cluster<P>, bytes: &[u8]) -> Token {
    soon("a decision", async {
        loop {
            match member.propose(bytes.to_vec()).await {
                Ok(token) => return token,
                Err(ClusterError::NoQuorum | ClusterError::Busy) => {}
                Err(e) => panic!("{}: {e}", String::from_utf8_lossy(bytes)),
            }
        }
    })
    .await
}

/// Everything up to `upto`: the messages, and the gaps.
pub(crate) async fn all_up_to(inbox: &mut Inbox, upto: Token) -> Vec<Item> {
    let mut items = Vec::new();
    while inbox.at() < upto {
        items.push(soon("the next item", inbox.recv()).await.expect("it lives"));
    }
    items
}

/// The messages as text; there must be no gap.
pub(crate) fn texts(items: &[Item]) -> Vec<String> {
    let text = |item: &Item| match item {
        Item::Message(m) => String::from_utf8_lossy(&m.bytes).into_owned(),
        Item::Gap(gap) => panic!("{gap:?}"),
    };
    items.iter().map(text).collect()
}
