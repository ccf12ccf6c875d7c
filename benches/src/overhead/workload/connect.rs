//! Connections on loopback.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::Result;

use super::Work;
use crate::overhead::arguments::OverheadArguments;

/// Both ends are ours, one after the other on one CPU: nothing depends on when another thread wakes.
struct Connect {
    listener: TcpListener,
    port: u16,
    turn: u32,
}

pub(super) fn start(_: &OverheadArguments) -> Result<Box<dyn Work>> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    Ok(Box::new(Connect { listener, port, turn: 0 }))
}

impl Work for Connect {
    fn repeat(&mut self, times: u32) -> Result<()> {
        for _ in 0..times {
            // Connections that have ended keep their port for a minute; with an address of its own each finds a free one
            // as fast as the first.
            self.turn = (self.turn + 1) % 60_000;
            let [.., high, low] = self.turn.to_be_bytes();
            let near = TcpStream::connect((Ipv4Addr::new(127, 1, high, low), self.port))?;
            let (far, _) = self.listener.accept()?;
            drop(near);
            drop(far);
        }
        Ok(())
    }
}
