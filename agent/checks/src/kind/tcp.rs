//! A connection.

use tokio::net::TcpStream;

use super::Fault;

/// Connects to `HOST:PORT`: every address of the name is tried.
pub(super) async fn connect(address: &str) -> Result<TcpStream, Fault> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|source| Fault::Connect { address: address.to_owned(), source })?;
    // Without it a request waits for an acknowledgement of the one before; all else is the same.
    let _late = stream.set_nodelay(true).is_err();
    Ok(stream)
}
