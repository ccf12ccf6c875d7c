//! Connections: accepted, shaken hands with, handed to the server.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use skep_runtime::shutdown::Token;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use super::connection::Connection;
use crate::ingest::peer;
use crate::shares::Shares;

/// Handshakes at once: more than a fleet's reconnects need, few enough to bound memory.
const MAX_HANDSHAKES: usize = 128;

/// How long a peer has for its handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Connections of one agent: it needs one, and those of its lives before may not be gone yet.
const MAX_CONNECTIONS: usize = 16;

/// Takes as many open files as the hard limit allows: every agent is one, and the usual soft limit is 1024.
pub(super) fn allow_many() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, files = ?limit.current, "the number of agents is bounded by this limit on open files");
    }
}

/// Connections of peers with a certificate of our authority. Ends when the collector stops.
pub(super) fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    mut stop: Token,
) -> impl Stream<Item = std::io::Result<TlsStream<Connection>>> {
    let (ready, connections) = mpsc::channel(MAX_HANDSHAKES);
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let shares = Arc::new(Shares::default());
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.stopped() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: give others time to close.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
            let (acceptor, ready, shares) = (acceptor.clone(), ready.clone(), Arc::clone(&shares));
            tokio::spawn(async move {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "no TCP_NODELAY");
                }
                let accepting = acceptor.accept(Connection::new(stream));
                match tokio::time::timeout(HANDSHAKE_WITHIN, accepting).await {
                    Ok(Ok(mut stream)) => match count(&shares, &mut stream) {
                        // The server is gone only while stopping.
                        Ok(()) => drop(ready.send(Ok(stream)).await),
                        Err(node) => {
                            tracing::warn!(%peer, %node, "the node has {MAX_CONNECTIONS} connections; refused another")
                        }
                    },
                    Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                        tracing::debug!(%peer, "hung up before the handshake was over");
                    }
                    Ok(Err(error)) => tracing::warn!(%peer, %error, "refused a connection"),
                    Err(_) => tracing::warn!(%peer, "refused a connection that did not shake hands"),
                }
                drop(permit);
            });
        }
    });
    ReceiverStream::new(connections)
}

/// Counts a connection that shook hands among those of its agent; the agent's name if it has too many.
fn count(shares: &Arc<Shares>, stream: &mut TlsStream<Connection>) -> Result<(), String> {
    let (connection, session) = stream.get_mut();
    let Some(node) = session.peer_certificates().and_then(peer::agent) else { return Ok(()) };
    connection.keep(shares.take(&node, 1, |own, _| own < MAX_CONNECTIONS).ok_or(node)?);
    Ok(())
}
