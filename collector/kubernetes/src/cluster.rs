//! A word with the API server, and what its errors mean.

use std::path::Path;
use std::time::Duration;

use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use skep_runtime::error::chain;
use thiserror::Error;

use crate::settings::Settings;
use crate::target::Object;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// A read is tried so often while the server is busy or away.
const READS: u32 = 3;

/// The pause before the second of them; twice as long before the third.
const PAUSE: Duration = Duration::from_millis(300);

/// Where a pod finds the namespace it is in.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// Nothing says how the cluster is reached.
    #[error("cannot tell how to reach the cluster: {why}; set kubernetes.kubeconfig, or run the collector in a pod")]
    Config {
        /// Why.
        why: String,
    },
    /// It does not answer.
    #[error("the API server does not answer: {why}")]
    Unreachable {
        /// Why.
        why: String,
    },
    /// It does not know us.
    #[error(
        "the API server does not take the collector's credentials ({message}): renew the token or certificate of the kubeconfig"
    )]
    Unauthorized {
        /// Its words.
        message: String,
    },
    /// It knows us and says no.
    #[error(
        "the API server refuses: {message}; give the collector's role that verb on that resource (README, \"What it can do to a cluster\")"
    )]
    Forbidden {
        /// Its words: who cannot do what.
        message: String,
    },
    /// What was meant changed, or was made again.
    #[error("it was changed meanwhile: {message}")]
    Conflict {
        /// Its words.
        message: String,
    },
    /// Not now.
    #[error("not now: {message}")]
    TooMany {
        /// Its words: a disruption budget, or how busy it is.
        message: String,
    },
    /// Anything else.
    #[error("the API server says {code}: {message}")]
    Api {
        /// HTTP's.
        code: u16,
        /// Its words.
        message: String,
    },
}

impl ClusterError {
    fn of(error: kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::Unreachable { why: chain(&error) };
        };
        let message = if status.message.is_empty() { status.reason.clone() } else { status.message.clone() };
        match status.code {
            401 => Self::Unauthorized { message },
            403 => Self::Forbidden { message },
            409 => Self::Conflict { message },
            429 => Self::TooMany { message },
            // Another uid than the object has.
            422 if message.contains("metadata.uid") => Self::Conflict { message },
            code => Self::Api { code, message },
        }
    }

    /// Whether asking again may help.
    fn passes(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TooMany { .. } | Self::Api { code: 500..=599, .. })
    }
}

/// How a patch is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// What is there takes the place of what was, key by key.
    Merge,
    /// A list of operations, which may begin with tests.
    Json,
}

/// The API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// Where this program runs, if in the cluster.
    pub own_namespace: Option<String>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Cluster {
    /// As the settings say. Asks nobody yet.
    ///
    /// # Errors
    /// [`ClusterError::Config`].
    pub async fn of(settings: &Settings) -> Result<Self, ClusterError> {
        let why = |error: &(dyn std::error::Error + 'static)| ClusterError::Config { why: chain(error) };
        let mut config = match &settings.kubeconfig {
            Some(path) => {
                let options = KubeConfigOptions { context: settings.context.clone(), ..Default::default() };
                let file = Kubeconfig::read_from(path).map_err(|error| why(&error))?;
                Config::from_custom_kubeconfig(file, &options).await.map_err(|error| why(&error))?
            }
            None => Config::incluster().map_err(|error| why(&error))?,
        };
        // A disruption budget's "not now" would be tried again and again.
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(5));
        config.read_timeout = Some(ANSWER_WITHIN);
        config.write_timeout = Some(ANSWER_WITHIN);
        let client = Client::try_from(config).map_err(|error| why(&error))?;
        Ok(Self { client, own_namespace: own_namespace(Path::new(OWN_NAMESPACE)) })
    }

    /// Which cluster this is, by the uid of its first namespace, and its version.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn identity(&self) -> Result<(String, String), ClusterError> {
        let first = self.get("/api/v1/namespaces/kube-system").await?.unwrap_or_default();
        let uid = text(&first, "/metadata/uid");
        if uid.is_empty() {
            return Err(ClusterError::Api { code: 404, message: "there is no namespace kube-system".to_owned() });
        }
        let version = self.get("/version").await?.unwrap_or_default();
        Ok((uid, text(&version, "/gitVersion")))
    }

    /// Reads; `None` where there is nothing.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn get(&self, path: &str) -> Result<Option<Value>, ClusterError> {
        let mut pause = PAUSE;
        let mut tries = 1;
        loop {
            match self.ask(Method::GET, path, None).await {
                Ok(value) => return Ok(Some(value)),
                Err(ClusterError::Api { code: 404, .. }) => return Ok(None),
                Err(error) if error.passes() && tries < READS => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Changes an object, or a subresource of it.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn patch(&self, path: &str, how: Patch, body: &Value) -> Result<Value, ClusterError> {
        let kind = match how {
            Patch::Merge => "application/merge-patch+json",
            Patch::Json => "application/json-patch+json",
        };
        match self.ask(Method::PATCH, path, Some((kind, body))).await {
            // One of its tests does not hold.
            Err(ClusterError::Api { code: 422, message }) if how == Patch::Json => {
                Err(ClusterError::Conflict { message })
            }
            answer => answer,
        }
    }

    /// Has this very pod go, as its disruption budget allows.
    ///
    /// # Errors
    /// [`ClusterError::TooMany`] where the budget does not.
    pub async fn evict(&self, pod: &Object) -> Result<(), ClusterError> {
        let body = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": { "name": pod.name, "namespace": pod.namespace },
            "deleteOptions": { "preconditions": { "uid": pod.uid } },
        });
        let path = format!("{}/eviction", pod.url());
        self.ask(Method::POST, &path, Some(("application/json", &body))).await.map(drop)
    }

    /// Has this very object go.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn delete(&self, object: &Object) -> Result<(), ClusterError> {
        let body = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": { "uid": object.uid },
            "propagationPolicy": "Background",
        });
        self.ask(Method::DELETE, &object.url(), Some(("application/json", &body))).await.map(drop)
    }

    async fn ask(&self, method: Method, path: &str, body: Option<(&str, &Value)>) -> Result<Value, ClusterError> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some((kind, _)) = body {
            request = request.header(http::header::CONTENT_TYPE, kind);
        }
        let bytes = body.map_or_else(Vec::new, |(_, value)| value.to_string().into_bytes());
        let request = request.body(bytes).map_err(|error| ClusterError::Unreachable { why: error.to_string() })?;
        let answer = tokio::time::timeout(ANSWER_WITHIN, self.client.request::<Value>(request)).await;
        let late = || ClusterError::Unreachable { why: format!("not within {} s", ANSWER_WITHIN.as_secs()) };
        answer.map_err(|_| late())?.map_err(ClusterError::of)
    }
}

fn own_namespace(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    Some(text.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The text at a place in an object; empty where there is none.
pub fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The number at a place in an object; 0 where there is none, as the API leaves zeros out.
pub fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}
