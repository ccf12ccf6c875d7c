//! A running collector: gRPC over mutual TLS with the operator's certificate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::buffer::Buffer;
use skep_wire::v1;
use skep_wire::v1::console_client::ConsoleClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status, Streaming};

use super::ConnectError;
use super::answer::{Answer, AskError, Pieces};
use super::handshake;
use crate::exit::one_line;

/// Largest message taken: pieces of an answer are far smaller, a chunk of events may be a window's.
const MESSAGE_BYTES: usize = 64 << 20;

/// What an operator shows and whom it trusts.
#[derive(Debug, Clone)]
pub struct Tls {
    pub(super) folder: PathBuf,
    pub(super) authority: Vec<u8>,
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

impl Tls {
    /// Reads `ca.pem`, `operator.pem` and `operator.key`.
    ///
    /// # Errors
    /// [`ConnectError::Unreadable`] naming the file.
    pub fn read(folder: &Path) -> Result<Self, ConnectError> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(|source| ConnectError::Unreadable { path, source })
        };
        Ok(Self {
            folder: folder.to_owned(),
            authority: read("ca.pem")?,
            certificate: read("operator.pem")?,
            key: read("operator.key")?,
        })
    }

    fn config(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority))
            .identity(Identity::from_pem(&self.certificate, &self.key))
    }
}

/// A connected console.
#[derive(Debug, Clone)]
pub struct Live {
    url: String,
    console: ConsoleClient<Channel>,
}

impl Live {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// [`ConnectError::NotReachable`], [`ConnectError::Refused`], [`ConnectError::BadTls`].
    pub async fn connect(url: &str, tls: &Tls) -> Result<Self, ConnectError> {
        handshake::attempt(url, tls).await?;
        let unreachable = |reason: String| ConnectError::NotReachable { url: url.to_owned(), reason };
        let endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(|error| unreachable(one_line(&error)))?
            .tls_config(tls.config())
            .map_err(|source| ConnectError::BadTls { tls: tls.folder.clone(), source: source.into() })?
            .connect_timeout(handshake::CONNECT_WITHIN)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10));
        let channel = endpoint.connect().await.map_err(|error| unreachable(innermost(&error)))?;
        let console = ConsoleClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        Ok(Self { url: url.to_owned(), console })
    }

    /// `https://host:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(super) async fn ask(&self, sql: &str, timeout_s: Option<u64>) -> Result<Answer, AskError> {
        let timeout_s = timeout_s.map_or(0, |seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
        let request = v1::QueryRequest { sql: sql.to_owned(), timeout_s };
        let stream = self.console.clone().query(request).await.map_err(|status| self.fault(&status))?.into_inner();
        Answer::start(Pieces::Live(LivePieces { live: self.clone(), stream })).await
    }

    /// Events as they become durable; the reply's stream ends only when the collector does.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn events(&self, kinds: Vec<String>) -> Result<Streaming<v1::EventsReply>, AskError> {
        let reply = self.console.clone().events(v1::EventsRequest { kinds }).await;
        Ok(reply.map_err(|status| self.fault(&status))?.into_inner())
    }

    /// An operator's word on an action.
    ///
    /// # Errors
    /// [`AskError`]; `Refused` when the action is not in a state that allows it.
    pub async fn act(&self, request: v1::ActRequest) -> Result<v1::ActReply, AskError> {
        Ok(self.console.clone().act(request).await.map_err(|status| self.fault(&status))?.into_inner())
    }

    /// Writes everything in memory to Parquet.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn flush(&self) -> Result<v1::FlushReply, AskError> {
        let reply = self.console.clone().flush(v1::FlushRequest {}).await;
        Ok(reply.map_err(|status| self.fault(&status))?.into_inner())
    }

    /// Nodes the collector knows.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn nodes(&self) -> Result<Vec<v1::Node>, AskError> {
        let reply = self.console.clone().nodes(v1::NodesRequest {}).await;
        Ok(reply.map_err(|status| self.fault(&status))?.into_inner().nodes)
    }

    /// What a status means for who asked.
    pub fn fault(&self, status: &Status) -> AskError {
        let url = self.url.clone();
        let message = one_status_line(status);
        match status.code() {
            Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition => {
                AskError::Refused { url, message }
            }
            // The transport reports a connection that broke under a call with the cause attached.
            Code::Unavailable | Code::Unknown | Code::Internal => {
                match std::error::Error::source(status).map(innermost) {
                    Some(message) => AskError::Lost { url, message },
                    None if status.code() == Code::Unavailable => AskError::Lost { url, message },
                    None => AskError::Failed { message },
                }
            }
            _ => AskError::Failed { message },
        }
    }
}

/// An answer's pieces from a running collector.
#[derive(Debug)]
pub(super) struct LivePieces {
    live: Live,
    stream: Streaming<v1::QueryReply>,
}

impl LivePieces {
    pub(super) async fn next(&mut self) -> Result<Option<Buffer>, AskError> {
        let reply = self.stream.message().await.map_err(|status| self.live.fault(&status))?;
        Ok(reply.map(|reply| Buffer::from_vec(reply.arrow_ipc)))
    }
}

fn one_status_line(status: &Status) -> String {
    let message = status.message().trim().replace('\n', " ");
    if message.is_empty() { status.code().to_string() } else { message }
}

/// The cause at the end of the chain: what the kernel or the TLS library said.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string().replace('\n', " ")
}
