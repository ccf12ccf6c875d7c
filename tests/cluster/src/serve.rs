//! The protocol, over TLS.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::TOKEN;
use crate::state::{Fault, State, scale_of};

/// Resources: group's path, plural, kind, namespaced.
const RESOURCES: [(&str, &str, &str, bool); 8] = [
    ("/api/v1", "namespaces", "Namespace", false),
    ("/api/v1", "nodes", "Node", false),
    ("/api/v1", "pods", "Pod", true),
    ("/apis/apps/v1", "deployments", "Deployment", true),
    ("/apis/apps/v1", "replicasets", "ReplicaSet", true),
    ("/apis/apps/v1", "statefulsets", "StatefulSet", true),
    ("/apis/apps/v1", "daemonsets", "DaemonSet", true),
    ("/apis/autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", true),
];

/// Listens on a port of its own; the address, and the authority clients trust.
pub(crate) async fn start(state: Arc<Mutex<State>>) -> (SocketAddr, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (config, authority) = certificates();
    let app = Router::new().fallback(answer).with_state(state);
    let listener = Tls { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, authority)
}

fn certificates() -> (ServerConfig, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    (config.with_single_cert(vec![certificate.der().clone()], key).unwrap(), authority)
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn answer(
    Shared(state): Shared<Arc<Mutex<State>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let known = text(header::AUTHORIZATION) == format!("Bearer {TOKEN}");
    let result = if known {
        let ours = !text(header::USER_AGENT).starts_with("kubectl");
        serve(&mut state, &method, &uri, text(header::CONTENT_TYPE), ours, &body)
    } else {
        Err(Fault(401, "Unauthorized", "Unauthorized".to_owned()))
    };
    if method != Method::GET && state.lost > 0 {
        state.lost -= 1;
        let cut = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut off")) });
        return Body::from_stream(cut).into_response();
    }
    let (code, value) = match result {
        Ok(value) => (if method == Method::POST { 201 } else { 200 }, value),
        Err(Fault(code, reason, message)) => (
            code,
            json!({
                "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
                "message": message, "reason": reason, "code": code,
            }),
        ),
    };
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn serve(state: &mut State, method: &Method, uri: &Uri, kind: &str, ours: bool, body: &[u8]) -> Result<Value, Fault> {
    let path = uri.path().trim_end_matches('/');
    if let Some(value) = discovery(path) {
        return Ok(value);
    }
    if state.busy > 0 {
        state.busy -= 1;
        return Err(Fault(429, "TooManyRequests", "the server is busy".to_owned()));
    }
    let (verb, resource) = asked(method, path);
    if ours {
        state.asked.insert((verb.to_owned(), resource.clone()));
    }
    if state.forbidden.contains(&(verb.to_owned(), resource.clone())) {
        let message = format!(
            "{resource} is forbidden: User \"system:serviceaccount:skep:collector\" cannot {verb} resource \"{resource}\""
        );
        return Err(Fault(403, "Forbidden", message));
    }
    if *method != Method::GET {
        state.changes.push(format!("{verb} {path}"));
    }
    let options: Value = serde_json::from_slice(body).unwrap_or_default();
    match *method {
        Method::GET => read(state, path, uri.query().unwrap_or_default()),
        Method::PATCH => state.patch(path, kind, body),
        Method::DELETE => state.delete(path, &options),
        Method::POST => match path.strip_suffix("/eviction") {
            Some(pod) => {
                state.evict(pod, &options)?;
                Ok(json!({ "apiVersion": "v1", "kind": "Status", "status": "Success" }))
            }
            None => Err(Fault(405, "MethodNotAllowed", "only evictions are made here".to_owned())),
        },
        _ => Err(Fault(405, "MethodNotAllowed", format!("{method} is not for this server"))),
    }
}

/// The verb and the resource, as roles name them.
fn asked(method: &Method, path: &str) -> (&'static str, String) {
    let parts: Vec<&str> = path.split('/').collect();
    let at = parts.iter().rposition(|part| RESOURCES.iter().any(|(_, plural, ..)| plural == part)).unwrap_or(0);
    let named = parts.len() > at + 1;
    let verb = match *method {
        Method::GET if named => "get",
        Method::GET => "list",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "create",
    };
    let sub = parts.get(at + 2).map_or_else(String::new, |sub| format!("/{sub}"));
    (verb, format!("{}{sub}", parts[at]))
}

fn read(state: &State, path: &str, query: &str) -> Result<Value, Fault> {
    if let Some(value) = state.objects.get(path) {
        return Ok(value.clone());
    }
    if let Some(value) = path.strip_suffix("/scale").and_then(|base| state.objects.get(base)) {
        return Ok(scale_of(value));
    }
    let (group, plural) = path.rsplit_once('/').unwrap_or_default();
    let found = RESOURCES.iter().find(|(of, resource, ..)| *resource == plural && group.starts_with(of));
    let Some((version, _, kind, _)) = found else { return Err(Fault::not_found(path)) };
    let labels = query.split('&').find_map(|part| part.strip_prefix("labelSelector=")).unwrap_or_default();
    let labels = labels.replace("%3D", "=").replace("%2C", ",");
    let fits = |value: &Value| {
        labels
            .split(',')
            .filter_map(|label| label.split_once('='))
            .all(|(key, wanted)| value["metadata"]["labels"][key] == wanted)
    };
    // All of a namespace, or of all.
    let namespaced = group != *version;
    let within = |of: &str| {
        let here = of.rsplit_once('/').map_or("", |(parent, _)| parent);
        if namespaced { here == path } else { here.starts_with(version) && here.ends_with(&format!("/{plural}")) }
    };
    let items: Vec<Value> =
        state.objects.iter().filter(|(of, value)| within(of) && fits(value)).map(|(_, value)| value.clone()).collect();
    let api = version.trim_start_matches("/apis/").trim_start_matches("/api/");
    Ok(json!({
        "apiVersion": api, "kind": format!("{kind}List"), "metadata": { "resourceVersion": state.version() }, "items": items,
    }))
}

/// What clients ask first.
fn discovery(path: &str) -> Option<Value> {
    let resources = |of: &str| -> Value {
        let own = RESOURCES.iter().filter(|(group, ..)| *group == of);
        let mut list: Vec<Value> = own
            .clone()
            .map(|(_, plural, kind, namespaced)| {
                json!({
                    "name": plural, "singularName": kind.to_lowercase(), "namespaced": namespaced, "kind": kind,
                    "verbs": ["get", "list", "patch", "delete"],
                })
            })
            .collect();
        for (_, plural, ..) in own.filter(|(_, plural, ..)| matches!(*plural, "deployments" | "statefulsets")) {
            list.push(json!({
                "name": format!("{plural}/scale"), "singularName": "", "namespaced": true, "group": "autoscaling",
                "version": "v1", "kind": "Scale", "verbs": ["get", "patch"],
            }));
        }
        if of == "/api/v1" {
            list.push(json!({
                "name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy", "version": "v1",
                "kind": "Eviction", "verbs": ["create"],
            }));
        }
        let version = of.trim_start_matches("/apis/").trim_start_matches("/api/");
        json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": list })
    };
    Some(match path {
        "/version" => json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0-in-memory" }),
        "/api" => json!({ "kind": "APIVersions", "versions": ["v1"] }),
        "/apis" => {
            let version = json!({ "groupVersion": "apps/v1", "version": "v1" });
            json!({
                "kind": "APIGroupList", "apiVersion": "v1",
                "groups": [{ "name": "apps", "versions": [version], "preferredVersion": version }],
            })
        }
        "/api/v1" | "/apis/apps/v1" => resources(path),
        _ => return None,
    })
}
