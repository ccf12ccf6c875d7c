//! What the marked process does: one connection to a port of this host where nobody listens.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use skep_wire::canary::EXIT_CODE;

/// The exit code of one whose connection was not refused.
pub const NOT_REFUSED: u8 = 1;

/// A host that does not answer itself within this has a packet filter on its loopback.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connects, is refused, and returns the exit code that says so.
pub fn run(port: u16) -> u8 {
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpStream::connect_timeout(&target, PATIENCE) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => EXIT_CODE,
        Err(_) | Ok(_) => NOT_REFUSED,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_a_refused_connection_is_what_was_meant() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(run(port), NOT_REFUSED);
        drop(listener);
        assert_eq!(run(port), EXIT_CODE);
    }
}
