//! Connections: accepted, shaken hands with, handed to the server.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use skep_runtime::shutdown::Token;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

/// Handshakes at once: more than a fleet's reconnects need, few enough to bound memory.
const MAX_HANDSHAKES: usize = 128;

/// How long a peer has for its handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

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
) -> impl Stream<Item = std::io::Result<TlsStream<TcpStream>>> {
    let (ready, connections) = mpsc::channel(MAX_HANDSHAKES);
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
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
            let (acceptor, ready) = (acceptor.clone(), ready.clone());
            tokio::spawn(async move {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "no TCP_NODELAY");
                }
                match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        // The server is gone only while stopping.
                        let _stopping = ready.send(Ok(stream)).await.is_err();
                    }
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
