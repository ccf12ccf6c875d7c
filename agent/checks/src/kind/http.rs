//! A request to a web server: status, what is in the answer, how long its certificate lasts.
//!
//! One connection a run, so that it shows what a new client meets; redirections are not followed, they are an answer.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::{Fault, Memory, tcp, tls};
use crate::check::Http;
use crate::figure::Figure;

/// As much of an answer is read as is searched; the rest is not waited for.
const MAX_BODY: usize = 1 << 20;

/// As much of an answer is shown as tells what it is.
const SHOWN_CHARACTERS: usize = 80;

const AGENT: &str = concat!("skep/", env!("CARGO_PKG_VERSION"));

pub(super) async fn ask(wanted: &Http, memory: &mut Memory, figures: &mut Vec<Figure>) -> Result<(), Fault> {
    let host = wanted.url.host().unwrap_or_default();
    let is_tls = wanted.url.scheme_str() == Some("https");
    let port = wanted.url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = tcp::connect(&format!("{host}:{port}")).await?;
    let (status, body) = if is_tls {
        let config = match memory.tls.take() {
            Some(config) => config,
            None => tls::config(wanted.ca.as_deref())?,
        };
        memory.tls = Some(Arc::clone(&config));
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|error| Fault::Tls(std::io::Error::other(error)))?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(Fault::Tls)?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let left = certificate.and_then(|certificate| tls::left_days(certificate, now_s()));
        figures.extend(left.map(|value| Figure { name: "certificate_left_days", value }));
        exchange(stream, wanted).await?
    } else {
        exchange(stream, wanted).await?
    };
    judge(wanted, status, &body)
}

async fn exchange<S>(stream: S, wanted: &Http) -> Result<(u16, Vec<u8>), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Fault::Http)?;
    let request = request(wanted)?;
    let talk = async move {
        let response: Response<Incoming> = sender.send_request(request).await.map_err(Fault::Http)?;
        let status = response.status().as_u16();
        let body = if wanted.body_contains.is_some() { read(response.into_body()).await? } else { Vec::new() };
        Ok((status, body))
    };
    let mut talk = std::pin::pin!(talk);
    tokio::select! {
        biased;
        answer = &mut talk => answer,
        // The server may hang up right behind its answer, which is with us by then.
        ended = connection => match ended {
            Ok(()) => talk.await,
            Err(error) => Err(Fault::Http(error)),
        },
    }
}

fn request(wanted: &Http) -> Result<Request<Empty<Bytes>>, Fault> {
    let path = wanted.url.path_and_query().map_or("/", |path| path.as_str());
    let authority = wanted.url.authority().map_or("", |authority| authority.as_str());
    let mut request = Request::get(path).header(HOST, authority).header(USER_AGENT, AGENT).header(CONNECTION, "close");
    if let Some(token) = &wanted.token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.read()?.expose()));
    }
    request.body(Empty::new()).map_err(Fault::Request)
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, Fault> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.map_err(Fault::Http)?.data_ref() {
            all.extend_from_slice(data);
        }
        if all.len() >= MAX_BODY {
            break;
        }
    }
    Ok(all)
}

fn judge(wanted: &Http, status: u16, body: &[u8]) -> Result<(), Fault> {
    let is_well = if wanted.status.is_empty() { (200..400).contains(&status) } else { wanted.status.contains(&status) };
    if !is_well {
        return Err(Fault::Status { found: status });
    }
    let Some(text) = &wanted.body_contains else { return Ok(()) };
    if body.windows(text.len().max(1)).any(|part| part == text.as_bytes()) || text.is_empty() {
        return Ok(());
    }
    let begins = String::from_utf8_lossy(body).chars().take(SHOWN_CHARACTERS).collect();
    Err(Fault::Body { wanted: text.clone(), begins })
}

fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
