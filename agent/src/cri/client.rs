//! One question to the runtime.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use skep_wire::cri::ListPodSandboxRequest;
use skep_wire::cri::runtime_service_client::RuntimeServiceClient;
use thiserror::Error;
use tonic::transport::Endpoint;

use crate::aggregate::pods::{PodName, PodNames};

/// How long the runtime may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bound of its answer: some kilobytes a pod, and a node has hundreds.
const MOST_BYTES: usize = 16 << 20;

/// Bound of one pod's labels in a row.
const MOST_LABEL_BYTES: usize = 1024;

/// Why there was no answer.
#[derive(Debug, Error)]
pub enum CriError {
    /// Nobody listens there, or it is no gRPC.
    #[error("cannot reach the container runtime")]
    Connect(#[source] tonic::transport::Error),
    /// It refused.
    #[error("the container runtime does not list its pods")]
    Refused(#[source] Box<tonic::Status>),
}

/// The names of all pods there are.
///
/// # Errors
/// [`CriError`]; asking later may work.
pub(super) async fn list(socket: &Path) -> Result<PodNames, CriError> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(CriError::Connect)?;
    let channel = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE).connect().await.map_err(CriError::Connect)?;
    let mut client = RuntimeServiceClient::new(channel).max_decoding_message_size(MOST_BYTES);
    let answer = client.list_pod_sandbox(ListPodSandboxRequest {}).await;
    let items = answer.map_err(|status| CriError::Refused(Box::new(status)))?.into_inner().items;
    let named = items.into_iter().filter_map(|pod| {
        let metadata = pod.metadata.filter(|metadata| !metadata.uid.is_empty())?;
        let labels = selector(&pod.labels).into();
        Some((metadata.uid, PodName { namespace: metadata.namespace, name: metadata.name, labels }))
    });
    Ok(named.collect())
}

/// Labels as a selector writes them, sorted. Those of the kubelet say again what the other columns say.
fn selector(labels: &HashMap<String, String>) -> String {
    let mut pairs: Vec<_> = labels.iter().filter(|(key, _)| !key.starts_with("io.kubernetes.")).collect();
    pairs.sort_unstable();
    let mut text = String::new();
    for (key, value) in pairs {
        if text.len() + key.len() + value.len() + 2 > MOST_LABEL_BYTES {
            break;
        }
        let comma = if text.is_empty() { "" } else { "," };
        text.extend([comma, key, "=", value]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_bounded() {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(selector(&HashMap::new()), "");
        let given = labels(&[("tier", "x"), ("app", "web"), ("io.kubernetes.pod.name", "web-0")]);
        assert_eq!(selector(&given), "app=web,tier=x");
        let long = "v".repeat(MOST_LABEL_BYTES);
        assert_eq!(selector(&labels(&[("a", "1"), ("b", &long), ("c", "3")])), "a=1");
    }

    #[tokio::test]
    async fn a_socket_nobody_listens_on_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = list(&folder.path().join("none.sock")).await.unwrap_err();
        assert!(matches!(error, CriError::Connect(_)), "{error:?}");
    }
}
