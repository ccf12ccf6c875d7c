//! Who talks to whom, by the connections of the last minutes.
//!
//! A client is known by its node and workload, a server by the address and port it takes connections on; on a loopback
//! address, by the node too. What goes through an address translation has no server here, and joins nothing.

use std::collections::HashMap;
use std::net::IpAddr;

use skep_wire::chunk::Row;

use super::state::Member;
use crate::detect::series::minute::NODE;

/// A connection counts for so long.
const RECENT_US: i64 = 15 * 60 * 1_000_000;

/// Most servers, and most clients, that are known; beyond it nothing is added until the old ones go.
const MAX_KNOWN: usize = 20_000;

/// Servers known of one client: who calls more of them is a monitor or a crawler, and says nothing by it.
const MAX_CALLED: usize = 16;

/// Where somebody listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Endpoint {
    /// The node of a loopback address.
    node: String,
    address: String,
    port: i64,
}

/// Who was heard of, and when last.
type Heard<T> = (T, i64);

/// One calls the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Talk {
    /// Who depends.
    pub client: Member,
    /// On whom.
    pub server: Member,
    /// Where that listens.
    pub port: i64,
}

/// All that talk.
#[derive(Debug, Default)]
pub struct Talks {
    servers: HashMap<Endpoint, Heard<Member>>,
    clients: HashMap<Member, HashMap<Endpoint, i64>>,
}

impl Talks {
    /// Takes a row of `connections`.
    pub fn row(&mut self, node: &str, row: &Row<'_>) {
        let (Some(time_us), Some(workload)) = (row.int("time"), row.text("workload")) else { return };
        let who = Member::new(node, workload);
        match (row.text("event"), row.text("direction")) {
            (Some("open"), Some("accept")) => {
                let Some(endpoint) = endpoint(node, row.text("local_address"), row.int("local_port")) else { return };
                if self.servers.len() < MAX_KNOWN || self.servers.contains_key(&endpoint) {
                    self.servers.insert(endpoint, (who, time_us));
                }
            }
            // One that cannot be reached is depended on all the more.
            (Some("open" | "fail"), Some("connect")) => {
                let Some(endpoint) = endpoint(node, row.text("remote_address"), row.int("remote_port")) else { return };
                if self.clients.len() >= MAX_KNOWN && !self.clients.contains_key(&who) {
                    return;
                }
                let called = self.clients.entry(who).or_default();
                if called.len() <= MAX_CALLED || called.contains_key(&endpoint) {
                    called.insert(endpoint, time_us);
                }
            }
            _ => {}
        }
    }

    /// Forgets what is too old to matter.
    pub fn tick(&mut self, now_us: i64) {
        let is_recent = |heard_us: i64| now_us - heard_us <= RECENT_US;
        self.servers.retain(|_, (_, heard_us)| is_recent(*heard_us));
        for called in self.clients.values_mut() {
            called.retain(|_, heard_us| is_recent(*heard_us));
        }
        self.clients.retain(|_, called| !called.is_empty());
    }

    /// How one of two depends on the other, if it does. A client is always one workload; a server may be meant by its node
    /// as a whole, whose trouble is that of all on it.
    pub fn between(&self, one: &Member, other: &Member) -> Option<Talk> {
        self.calls(one, other).or_else(|| self.calls(other, one))
    }

    fn calls(&self, client: &Member, server: &Member) -> Option<Talk> {
        let called = self.clients.get(client).filter(|called| called.len() <= MAX_CALLED)?;
        let is_meant = |known: &Member| known == server || server.is_whole_node() && known.node == server.node;
        let fitting = called.keys().filter_map(|endpoint| {
            let (known, _) = self.servers.get(endpoint)?;
            is_meant(known).then_some((known, endpoint))
        });
        // Of several the lowest port, so that the same rows give the same answer.
        let (known, endpoint) = fitting.min_by_key(|(_, endpoint)| endpoint.port)?;
        (known != client).then(|| Talk { client: client.clone(), server: known.clone(), port: endpoint.port })
    }
}

impl Talk {
    /// One line for people.
    pub fn explain(&self) -> String {
        let Self { client, server, port } = self;
        format!("{} on {} calls {} on {}, port {port}", client.workload, client.node, server.workload, server.node)
    }
}

impl Member {
    fn is_whole_node(&self) -> bool {
        self.workload == NODE || self.workload == "host"
    }
}

fn endpoint(node: &str, address: Option<&str>, port: Option<i64>) -> Option<Endpoint> {
    let (address, port) = (address?, port?);
    let is_loopback = address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    let node = if is_loopback { node.to_owned() } else { String::new() };
    Some(Endpoint { node, address: address.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use skep_wire::chunk::{self, Builder};
    use skep_wire::tables::CONNECTIONS;

    use super::*;

    fn connect(talks: &mut Talks, time_us: i64, client: (&str, &str), server: (&str, &str), port: i64) {
        let local = "10.0.0.1";
        for (event, direction, (node, workload), ports) in
            [("open", "connect", client, (40_000, port)), ("open", "accept", server, (port, 40_000))]
        {
            let mut row = Builder::new(&CONNECTIONS);
            row.int("time", time_us).text("event", event).text("direction", direction).int("socket_id", 1);
            row.int("pid", 1).int("start_ns", 1).text("comm", "x").text("workload", workload);
            row.text("attribution", "exact").text("local_address", local).int("local_port", ports.0);
            row.text("remote_address", local).int("remote_port", ports.1).end_row().unwrap();
            let chunk = row.finish().unwrap();
            chunk::rows(&chunk).for_each(|row| talks.row(node, &row));
        }
    }

    #[test]
    fn a_client_depends_on_whom_it_calls_and_on_the_node_of_that() {
        let mut talks = Talks::default();
        connect(&mut talks, 1, ("a", "unit:shop"), ("b", "unit:db"), 5432);
        let (shop, db) = (Member::new("a", "unit:shop"), Member::new("b", "unit:db"));
        let talk = talks.between(&db, &shop).unwrap();
        assert_eq!(talk.explain(), "unit:shop on a calls unit:db on b, port 5432");
        assert_eq!(talks.between(&shop, &Member::new("b", "")).map(|talk| talk.server), Some(db.clone()));
        assert_eq!(talks.between(&Member::new("a", ""), &db), None, "the client's node is not the client");
        assert_eq!(talks.between(&shop, &Member::new("b", "unit:other")), None);
        talks.tick(RECENT_US + 2);
        assert_eq!(talks.between(&shop, &db), None, "that was long ago");
    }

    #[test]
    fn who_calls_everybody_depends_on_nobody() {
        let mut talks = Talks::default();
        for port in 0..=MAX_CALLED as i64 {
            connect(&mut talks, 1, ("a", "unit:monitor"), ("b", "unit:db"), 9000 + port);
        }
        assert_eq!(talks.between(&Member::new("a", "unit:monitor"), &Member::new("b", "unit:db")), None);
    }

    #[test]
    fn a_loopback_address_is_of_its_node() {
        let of = |node: &str, address: &str| endpoint(node, Some(address), Some(80)).unwrap();
        assert_ne!(of("a", "127.0.0.1"), of("b", "127.0.0.1"));
        assert_ne!(of("a", "::ffff:127.0.0.1"), of("b", "::ffff:127.0.0.1"));
        assert_eq!(of("a", "10.0.0.1"), of("b", "10.0.0.1"));
    }
}
