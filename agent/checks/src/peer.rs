//! How a service of another node looks from here, for a collector that is about to have something done to it.
//!
//! The collector names a service as the other node's settings do. Where this node has a check of its own for the same, that
//! is run, with all it knows; else a bare request is made, without secrets, and of what comes back nothing but whether it
//! looks well is told. A collector in other hands could learn by this which of a network's ports are open: so the addresses
//! are those the settings allow, and looks are few.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::Uri;
use ipnet::IpNet;
use skep_runtime::error;
use skep_runtime::settings::Section;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_postgres::config::Host;

use crate::check::{Check, Grpc, Http, Way};
use crate::figure::Limits;
use crate::kind::{self, Fault, Memory};

/// Looks at a time; one more is not made.
const AT_ONCE: usize = 4;

/// Looks in any minute.
const A_MINUTE: usize = 60;

/// Longest target, in bytes.
const MAX_TARGET: usize = 512;

/// Times a look may take.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Networks where peers are usually.
const PRIVATE: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];

/// What is looked at for others, by the settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Allowed {
    /// Whether anything is.
    pub look: bool,
    /// Where.
    pub networks: Vec<IpNet>,
}

impl Default for Allowed {
    fn default() -> Self {
        Self { look: true, networks: PRIVATE.iter().filter_map(|net| net.parse().ok()).collect() }
    }
}

impl Allowed {
    /// Reads the table `[peers]`. Faults are noted.
    pub fn read(mut section: Section) -> Self {
        let mut allowed = Self::default();
        allowed.look = section.truth("look").unwrap_or(allowed.look);
        if let Some(texts) = section.texts("networks") {
            allowed.networks.clear();
            for text in texts {
                match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
                    Ok(net) => allowed.networks.push(net),
                    Err(_) => section.note("networks", format_args!("{text:?} is no address or network")),
                }
            }
        }
        section.finish();
        allowed
    }

    fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let own = match address {
            IpAddr::V4(address) => address.is_loopback() || address.is_link_local() || address.is_unspecified(),
            IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local() || address.is_unspecified(),
        };
        !own && self.networks.iter().any(|net| net.contains(&address))
    }
}

/// What is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It is well.
    Well,
    /// It is not.
    Down,
    /// This node cannot or may not tell.
    Unknown,
}

/// What came of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What is seen.
    pub sight: Sight,
    /// One line.
    pub detail: String,
}

impl Seen {
    fn unknown(why: impl Into<String>) -> Self {
        Self { sight: Sight::Unknown, detail: why.into() }
    }
}

/// Looks at services for others.
#[derive(Debug)]
pub struct Looker {
    allowed: Allowed,
    own: Vec<Check>,
    places: Semaphore,
    recent: Mutex<VecDeque<Instant>>,
}

impl Looker {
    /// `own` are this host's checks.
    pub fn new(allowed: Allowed, own: Vec<Check>) -> Self {
        Self { allowed, own, places: Semaphore::new(AT_ONCE), recent: Mutex::default() }
    }

    /// Looks once, within about `within`.
    pub async fn look(&self, kind: &str, target: &str, within: Duration) -> Seen {
        if !self.allowed.look {
            return Seen::unknown("this node's settings say that it looks at nothing for others");
        }
        if target.len() > MAX_TARGET {
            return Seen::unknown(format!("the target has {} bytes, {MAX_TARGET} are allowed", target.len()));
        }
        let Ok(_place) = self.places.try_acquire() else {
            return Seen::unknown(format!("this node looks at {AT_ONCE} others already"));
        };
        if !self.may_again(Instant::now()) {
            return Seen::unknown(format!("this node looks at others {A_MINUTE} times a minute at most"));
        }
        let within = within.clamp(SHORTEST, LONGEST);
        if let Some(check) = self.own.iter().find(|check| check.way.kind() == kind && check.target == target) {
            return own(check, within).await;
        }
        let Some(Bare { way, host, port }) = Bare::read(kind, target) else {
            return Seen::unknown(format!("{kind} {target:?} cannot be looked at from another node"));
        };
        match timeout(within, self.permit(&host, port)).await {
            Ok(Ok(())) => bare(&way, kind, within).await,
            Ok(Err(why)) => Seen::unknown(why),
            Err(_) => Seen::unknown(format!("the name {host} is not resolved in time")),
        }
    }

    fn may_again(&self, now: Instant) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        while recent.front().is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(60)) {
            recent.pop_front();
        }
        let may = recent.len() < A_MINUTE;
        if may {
            recent.push_back(now);
        }
        may
    }

    /// Whether all addresses of a host may be looked at.
    async fn permit(&self, host: &str, port: u16) -> Result<(), String> {
        let found = tokio::net::lookup_host((host, port)).await;
        let addresses: Vec<_> = found.map_err(|error| format!("the name {host} is not known here: {error}"))?.collect();
        match addresses.iter().find(|address| !self.allowed.allows(address.ip())) {
            Some(address) => Err(format!("{} is in none of the networks of this node's settings", address.ip())),
            None if addresses.is_empty() => Err(format!("the name {host} has no address")),
            None => Ok(()),
        }
    }
}

/// A request without anything that only the node that asks could know.
struct Bare {
    way: Way,
    host: String,
    port: u16,
}

impl Bare {
    fn read(kind: &str, target: &str) -> Option<Self> {
        match kind {
            "http" | "grpc" => {
                let url: Uri = target.parse().ok()?;
                let usual = match url.scheme_str()? {
                    "http" => 80,
                    "https" => 443,
                    _ => return None,
                };
                if url.authority()?.as_str().contains('@') {
                    return None;
                }
                let (host, port) = (url.host()?.trim_matches(['[', ']']).to_owned(), url.port_u16().unwrap_or(usual));
                let way = if kind == "http" {
                    Way::Http(Http { url, status: Vec::new(), body_contains: None, ca: None, token: None })
                } else {
                    Way::Grpc(Grpc { url, service: String::new(), ca: None })
                };
                Some(Self { way, host, port })
            }
            "tcp" | "redis" => {
                let (host, port) = target.rsplit_once(':')?;
                Some(Self::port(host.trim_matches(['[', ']']), port.parse().ok()?))
            }
            "postgres" => {
                let config = tokio_postgres::Config::from_str(target).ok()?;
                let [Host::Tcp(host)] = config.get_hosts() else { return None };
                Some(Self::port(host, config.get_ports().first().copied().unwrap_or(5432)))
            }
            _ => None,
        }
    }

    fn port(host: &str, port: u16) -> Self {
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Self { way: Way::Tcp { address }, host: host.to_owned(), port }
    }
}

/// What this node's own check of the same says.
async fn own(check: &Check, within: Duration) -> Seen {
    let way = &check.way;
    match ask(way, within, &check.limits).await {
        Ok(()) => Seen { sight: Sight::Well, detail: format!("by its check {}", check.name) },
        Err(Trouble::Silent) => Seen { sight: Sight::Down, detail: silent(within) },
        Err(Trouble::Beyond(line)) => Seen { sight: Sight::Down, detail: line },
        Err(Trouble::Fault(fault)) => {
            let sight = if is_own_trouble(&fault) { Sight::Unknown } else { Sight::Down };
            Seen { sight, detail: error::chain(&fault) }
        }
    }
}

/// What a request says that knows neither secrets nor what the answer should be.
async fn bare(way: &Way, kind: &str, within: Duration) -> Seen {
    match ask(way, within, &Limits::default()).await {
        Ok(()) if matches!(kind, "redis" | "postgres") => {
            Seen::unknown("it takes connections; whether it is well only a check of this node's own could tell")
        }
        Ok(()) => Seen { sight: Sight::Well, detail: String::new() },
        Err(Trouble::Silent) => Seen { sight: Sight::Down, detail: silent(within) },
        Err(Trouble::Beyond(line)) => Seen::unknown(line),
        Err(Trouble::Fault(fault)) => {
            let other_answer = match &fault {
                // Without a token, or where that is what it should say, this is no fault of the server.
                Fault::Status { found } => *found < 500,
                Fault::Health { .. } => true,
                _ => false,
            };
            let sight = if other_answer || is_own_trouble(&fault) { Sight::Unknown } else { Sight::Down };
            Seen { sight, detail: error::chain(&fault) }
        }
    }
}

fn silent(within: Duration) -> String {
    format!("no answer within {}", humantime::format_duration(within))
}

/// Why a look ended otherwise than well.
enum Trouble {
    Silent,
    Beyond(String),
    Fault(Fault),
}

async fn ask(way: &Way, within: Duration, limits: &Limits) -> Result<(), Trouble> {
    let (mut memory, mut figures) = (Memory::default(), Vec::new());
    match timeout(within, kind::ask(way, &mut memory, &mut figures)).await {
        Ok(Ok(())) => limits.judge(&figures).map_or(Ok(()), |line| Err(Trouble::Beyond(line))),
        Ok(Err(fault)) => Err(Trouble::Fault(fault)),
        Err(_) => Err(Trouble::Silent),
    }
}

/// Whether a fault may be this node's and not the service's.
fn is_own_trouble(fault: &Fault) -> bool {
    match fault {
        Fault::Connect { source, .. } => {
            matches!(source.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable)
        }
        Fault::Tls(_) | Fault::Trust(_) | Fault::Secret(_) | Fault::Request(_) | Fault::Shape { .. } => true,
        Fault::Spawn { .. } | Fault::Systemd(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn allowed(networks: &[&str]) -> Allowed {
        Allowed { look: true, networks: networks.iter().map(|net| net.parse().unwrap()).collect() }
    }

    const WITHIN: Duration = Duration::from_secs(2);

    #[test]
    fn settings_are_read_and_their_faults_told() {
        let read = |text: &str| {
            let (mut top, noted) = skep_runtime::settings::parse(text).unwrap();
            let allowed = Allowed::read(top.section("peers"));
            top.finish();
            (allowed, noted.into_result().err().map(|faults| faults.0).unwrap_or_default())
        };
        assert_eq!(read(""), (Allowed::default(), Vec::new()));
        assert_eq!(Allowed::default().networks.len(), PRIVATE.len());
        let (given, faults) = read("[peers]\nlook = false\nnetworks = [\"192.0.2.7\", \"hive\"]\nmore = 1\n");
        assert_eq!(given, Allowed { look: false, ..allowed(&["192.0.2.7/32"]) });
        assert_eq!(faults, ["peers.more: unknown key", "peers.networks: \"hive\" is no address or network"]);
    }

    #[test]
    fn what_is_this_host_is_never_another() {
        let all = allowed(&["0.0.0.0/0", "::/0"]);
        for address in ["127.0.0.1", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "::ffff:127.0.0.1"] {
            assert!(!all.allows(address.parse().unwrap()), "{address}");
        }
        assert!(all.allows("192.0.2.1".parse().unwrap()));
        assert!(Allowed::default().allows("10.1.2.3".parse().unwrap()));
        assert!(!Allowed::default().allows("192.0.2.1".parse().unwrap()), "not everybody's ports are looked at");
    }

    #[tokio::test]
    async fn what_may_not_be_looked_at_is_not() {
        let looker = Looker::new(Allowed::default(), Vec::new());
        for (kind, target, why) in [
            ("tcp", "127.0.0.1:1".to_owned(), "in none of the networks"),
            ("http", "http://169.254.169.254/latest".to_owned(), "in none of the networks"),
            ("http", "http://me@10.0.0.1/".to_owned(), "cannot be looked at from another node"),
            ("unit", "sshd.service".to_owned(), "cannot be looked at from another node"),
            ("command", "/bin/true".to_owned(), "cannot be looked at from another node"),
            ("tcp", "x".repeat(600), "the target has 600 bytes, 512 are allowed"),
        ] {
            let seen = looker.look(kind, &target, WITHIN).await;
            assert!(seen.sight == Sight::Unknown && seen.detail.contains(why), "{kind} {target}: {seen:?}");
        }
        let (mut last, mut asked) = (Seen::unknown(""), 0);
        while !last.detail.contains("times a minute") && asked < 100 {
            (last, asked) = (looker.look("tcp", "nowhere", WITHIN).await, asked + 1);
        }
        assert!(asked > 50 && asked < 62, "{asked} {last:?}");
        let closed = Looker::new(Allowed { look: false, ..Allowed::default() }, Vec::new());
        assert!(closed.look("tcp", "10.0.0.1:1", WITHIN).await.detail.contains("looks at nothing for others"));
    }

    /// A server that says one thing to everybody; its address.
    async fn server(says: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(says.as_bytes()).await.ok();
                // Kept open where it says nothing.
                if says.is_empty() {
                    std::mem::forget(stream);
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn an_answer_is_well_an_error_or_silence_is_down_and_the_rest_is_not_known() {
        for (says, expected) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", Sight::Well),
            ("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", Sight::Down),
            ("HTTP/1.1 401 Who\r\ncontent-length: 0\r\n\r\n", Sight::Unknown),
            ("", Sight::Down),
            ("garbage", Sight::Down),
        ] {
            let url = format!("http://{}/", server(says).await);
            let Bare { way, .. } = Bare::read("http", &url).unwrap();
            let seen = bare(&way, "http", Duration::from_millis(300)).await;
            assert_eq!(seen.sight, expected, "{says:?}: {seen:?}");
        }
        let address = server("").await;
        let Bare { way, host, port } = Bare::read("redis", &address).unwrap();
        assert_eq!((host.as_str(), format!("{host}:{port}")), ("127.0.0.1", address));
        assert_eq!(bare(&way, "redis", WITHIN).await.sight, Sight::Unknown);
        assert_eq!(bare(&way, "tcp", WITHIN).await.sight, Sight::Well);
        let Bare { way, .. } = Bare::read("postgres", "postgres://me@127.0.0.1:1/x").unwrap();
        assert_eq!(bare(&way, "postgres", WITHIN).await.sight, Sight::Down);
    }

    #[tokio::test]
    async fn a_check_of_the_nodes_own_knows_more() {
        let url = format!("http://{}/", server("HTTP/1.1 200 Ok\r\ncontent-length: 2\r\n\r\nno").await);
        let text =
            format!("[[check]]\nname = \"shop\"\nkind = \"http\"\ntarget = \"{url}\"\nbody_contains = \"yes\"\n");
        let (mut top, _) = skep_runtime::settings::parse(&text).unwrap();
        let looker = Looker::new(Allowed::default(), crate::settings::read(&mut top));
        let seen = looker.look("http", &url, WITHIN).await;
        assert!(seen.sight == Sight::Down && seen.detail.contains("does not contain"), "{seen:?}");
    }
}
