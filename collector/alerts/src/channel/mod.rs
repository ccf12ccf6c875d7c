//! How each kind of channel is told, a file for each that has a form of its own.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use skep_runtime::secret::{Secret, SecretError};
use thiserror::Error;

use crate::report::Notice;

mod alertmanager;

mod file;

mod mail;

mod pagerduty;

mod slack;

mod webhook;

pub(crate) use mail::mailbox;

/// How long a channel may take.
const WITHIN: Duration = Duration::from_secs(15);

/// Characters of an answer that are told.
const TOLD_CHARACTERS: usize = 200;

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// How it is told.
    pub way: Way,
}

/// An address that may be a secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// It stands in the settings.
    Plain(String),
    /// It is read where it is.
    Secret(Secret),
}

/// How a channel is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A line in the collector's log.
    Log,
    /// A line of JSON at the end of a file.
    File(PathBuf),
    /// JSON to an address.
    Webhook {
        /// Where.
        url: Address,
        /// Bearer token.
        token: Option<Secret>,
    },
    /// What Slack and its kin take.
    Slack {
        /// Where; it is the secret.
        url: Address,
    },
    /// `PagerDuty`'s events, version 2.
    PagerDuty {
        /// Where.
        url: Address,
        /// Integration key.
        key: Secret,
    },
    /// A mail.
    Mail(Mail),
    /// Prometheus' Alertmanager, version 2 of its interface.
    Alertmanager {
        /// Where, without the path.
        url: Address,
        /// Bearer token.
        token: Option<Secret>,
    },
}

/// A mail server, and who writes to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// When it is encrypted.
    pub security: Security,
    /// User, where it wants one.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Sender.
    pub from: String,
    /// Receivers.
    pub to: Vec<String>,
}

/// When a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// From the beginning.
    Tls,
    /// Before anything is said (STARTTLS).
    StartTls,
    /// Never.
    None,
}

/// Why a channel did not take a notice.
#[derive(Debug, Error)]
pub enum TellError {
    /// A secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Nobody answers.
    #[error("it cannot be reached")]
    Reach(#[source] reqwest::Error),
    /// It says no.
    #[error("it answered with {status}: {said}")]
    Answer {
        /// Status.
        status: StatusCode,
        /// Beginning of the answer.
        said: String,
    },
    /// The file.
    #[error("cannot append to {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The mail cannot be made.
    #[error("the mail cannot be made")]
    Mail(#[from] lettre::error::Error),
    /// An address is none.
    #[error("{address:?} is no mail address")]
    MailAddress {
        /// Which.
        address: String,
        /// Why.
        source: lettre::address::AddressError,
    },
    /// The mail server says no, or is not there.
    #[error("the mail server")]
    MailServer(#[from] lettre::transport::smtp::Error),
}

impl TellError {
    /// Whether telling it once more would end the same way.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Answer { status, .. } => {
                status.is_client_error()
                    && !matches!(
                        *status,
                        // A key that is being replaced, and a server that is busy, are set right.
                        StatusCode::UNAUTHORIZED
                            | StatusCode::FORBIDDEN
                            | StatusCode::REQUEST_TIMEOUT
                            | StatusCode::TOO_MANY_REQUESTS
                    )
            }
            Self::Mail(_) | Self::MailAddress { .. } => true,
            Self::MailServer(error) => error.is_permanent(),
            Self::Secret(_) | Self::Reach(_) | Self::File { .. } => false,
        }
    }
}

impl Address {
    /// The address, for the one who goes there.
    fn resolve(&self) -> Result<String, SecretError> {
        match self {
            Self::Plain(url) => Ok(url.clone()),
            Self::Secret(secret) => Ok(secret.read()?.expose().to_owned()),
        }
    }
}

impl Channel {
    /// Tells it.
    ///
    /// # Errors
    /// [`TellError`].
    pub async fn tell(&self, notice: &Notice, client: &Client) -> Result<(), TellError> {
        match &self.way {
            Way::Log => {
                tracing::warn!(channel = %self.name, group = %notice.group, "{}", notice.headline());
                Ok(())
            }
            Way::File(path) => file::append(path, notice).await,
            Way::Webhook { url, token } => {
                let body = webhook::body(notice);
                post(client, &url.resolve()?, token.as_ref(), &body, Some(&notice.id)).await
            }
            Way::Slack { url } => post(client, &url.resolve()?, None, &slack::body(notice), None).await,
            Way::PagerDuty { url, key } => {
                let (url, key) = (url.resolve()?, key.read()?);
                for event in pagerduty::events(notice, key.expose()) {
                    post(client, &url, None, &event, None).await?;
                }
                Ok(())
            }
            Way::Mail(mail) => mail::send(mail, notice).await,
            Way::Alertmanager { url, token } => {
                let url = format!("{}/api/v2/alerts", url.resolve()?.trim_end_matches('/'));
                post(client, &url, token.as_ref(), &alertmanager::alerts(notice), None).await
            }
        }
    }
}

/// The client of all channels that speak HTTP.
///
/// # Errors
/// [`reqwest::Error`]: TLS cannot be used.
pub fn client() -> reqwest::Result<Client> {
    Client::builder().timeout(WITHIN).user_agent(concat!("skep/", env!("CARGO_PKG_VERSION"))).build()
}

async fn post(
    client: &Client,
    url: &str,
    token: Option<&Secret>,
    body: &serde_json::Value,
    id: Option<&str>,
) -> Result<(), TellError> {
    let mut request = client.post(url).header("content-type", "application/json").body(body.to_string());
    if let Some(token) = token {
        request = request.bearer_auth(token.read()?.expose());
    }
    if let Some(id) = id {
        request = request.header("idempotency-key", id);
    }
    // The address may be a secret, and errors are logged.
    let response = request.send().await.map_err(|error| TellError::Reach(error.without_url()))?;
    if response.status().is_success() { Ok(()) } else { Err(answer(response).await) }
}

async fn answer(response: Response) -> TellError {
    let status = response.status();
    let said = response.text().await.unwrap_or_default();
    let said = said.chars().filter(|character| !character.is_control()).take(TOLD_CHARACTERS).collect();
    TellError::Answer { status, said }
}

#[cfg(test)]
mod tests;
