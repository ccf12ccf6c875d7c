//! Drops what comes from and goes to an address, what comes in for a port, or everything but management.

use skep_wire::v1::{self, Step};

use super::gauge::Reading;
use super::host::Host;
use super::kind::{Act, ActError, Captured, Outcome};
use super::nft::{self, Element};
use crate::config::net::Net;
use crate::verify::{Refusal, protected};

/// The kernel lets go so long after this program should have.
const GRACE_S: u32 = 5;

/// Dropping packets.
#[derive(Debug, Clone)]
pub struct Block {
    element: Element,
    lease_s: u32,
}

impl Block {
    /// As a command asks for it.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn new(block: &v1::Block, lease_s: u32) -> Result<Self, Refusal> {
        let malformed = |what| Refusal::Malformed { what };
        let element = if block.address.is_empty() {
            let protocol = match block.protocol.as_str() {
                "tcp" => "tcp",
                "udp" => "udp",
                _ => return Err(malformed("its protocol is neither tcp nor udp")),
            };
            match u16::try_from(block.port) {
                Ok(port) if port != 0 => Element::Port { protocol, port },
                _ => return Err(malformed("it blocks neither an address nor a port")),
            }
        } else if block.port != 0 {
            return Err(malformed("it blocks both an address and a port"));
        } else {
            Element::Address(Net::parse(&block.address).ok_or(malformed("its address is none"))?)
        };
        Ok(Self { element, lease_s })
    }

    /// Everything but management.
    pub fn isolation(lease_s: u32) -> Self {
        Self { element: Element::All, lease_s }
    }

    /// Whom nobody may cut off.
    fn unprotected(&self, host: &Host) -> Result<(), Refusal> {
        let management = &host.policy.network.management;
        let protected = |why: String| Err(Refusal::Protected { subject: self.subject(), why });
        if management.is_empty() {
            let why = "network.management names nobody who could still reach this host".to_owned();
            return Err(Refusal::Policy { why });
        }
        match &self.element {
            Element::Address(net) if net.is_special() => protected("it holds this host itself".to_owned()),
            Element::Address(net) => match management.iter().find(|other| other.overlaps(net)) {
                Some(other) => protected(format!("{other} is management")),
                None => Ok(()),
            },
            Element::Port { port, .. } => match protected::protects_port((*port).into()) {
                Some(why) => protected(why),
                None => Ok(()),
            },
            Element::All => Ok(()),
        }
    }

    fn add(&self, host: &Host, lease_s: u32) -> Result<(), ActError> {
        let network = &host.policy.network;
        nft::add(&network.nft, &network.management, &self.element, lease_s + GRACE_S)
    }
}

impl Act for Block {
    fn subject(&self) -> String {
        match &self.element {
            Element::Address(net) => format!("address {net}"),
            Element::Port { protocol, port } => format!("port {port}/{protocol}"),
            Element::All => "the network of this host".to_owned(),
        }
    }

    fn check(&self, host: &Host) -> Result<(), Refusal> {
        self.unprotected(host)
    }

    fn capture(&self, host: &Host) -> Result<Captured, Refusal> {
        self.unprotected(host)?;
        match nft::holds(&host.policy.network.nft, &self.element) {
            Ok(true) => Err(Refusal::Moot { reading: format!("{} is blocked already", self.subject()) }),
            Ok(false) => Ok(Captured { previous: "open".to_owned(), ours: "blocked".to_owned(), held: None }),
            Err(error) => Err(Refusal::Unsupported { what: error.to_string() }),
        }
    }

    fn apply(&self, host: &Host, _captured: &Captured) -> Result<(), ActError> {
        self.add(host, self.lease_s)
    }

    fn told(&self, _before: Option<&Reading>) -> String {
        match &self.element {
            Element::All => format!("this host isolated for {} s, but for management", self.lease_s),
            _ => format!("{} blocked for {} s", self.subject(), self.lease_s),
        }
    }

    fn follow(&self, host: &Host, _before: Option<&Reading>) -> Outcome {
        match nft::holds(&host.policy.network.nft, &self.element) {
            Ok(true) => Outcome::of(Step::Improved, "it is in the packet filter"),
            Ok(false) => Outcome::of(Step::Failed, "it is not in the packet filter"),
            Err(error) => Outcome::of(Step::Failed, error.to_string()),
        }
    }

    fn undo(&self, host: &Host, _captured: &Captured) -> Result<String, ActError> {
        Ok(match nft::remove(&host.policy.network.nft, &self.element)? {
            true => "it passes again".to_owned(),
            false => "it passes already".to_owned(),
        })
    }

    fn extend(&self, host: &Host, lease_s: u32) -> Result<(), ActError> {
        self.add(host, lease_s)
    }
}
