//! A listener that answers what it is told to, with and without TLS, and plain connections.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::real::free_port;
use crate::support::Asked;

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
    let (mut asked, mut part) = (Vec::new(), [0; 1024]);
    while !asked.ends_with(b"\r\n\r\n") {
        match stream.read(&mut part).await {
            Ok(count @ 1..) => asked.extend_from_slice(&part[..count]),
            Ok(0) | Err(_) => break,
        }
    }
    stream.write_all(answer.as_bytes()).await.ok();
    stream.shutdown().await.ok();
    String::from_utf8_lossy(&asked).into_owned()
}

fn text(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Answers one request; what was asked.
async fn once(asked: &mut Asked, listener: &TcpListener, with: &str) -> (Result<(), String>, String) {
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        answer(stream, with).await
    };
    tokio::join!(asked.run(), serve)
}

#[tokio::test]
async fn status_and_body_say_whether_a_web_server_is_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("kind = \"http\"\ntarget = \"http://{}/health?full\"\n", listener.local_addr().unwrap());
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "hush\n").unwrap();
    let mut asked = Asked::new(&format!("{target}secret_file = \"{}\"\n", token.path().display()));
    let (result, request) = once(&mut asked, &listener, &text("302 Found", "")).await;
    assert_eq!(result, Ok(()));
    assert!(request.starts_with("GET /health?full HTTP/1.1\r\nhost: 127.0.0.1:"), "{request}");
    assert!(request.contains("\r\nauthorization: Bearer hush\r\n"), "{request}");
    let (result, _) = once(&mut asked, &listener, &text("503 Service Unavailable", "")).await;
    assert_eq!(result.unwrap_err(), "it answered with status 503");
    let (result, _) = once(&mut asked, &listener, "SSH-2.0\r\n").await;
    assert!(result.unwrap_err().starts_with("no answer in HTTP"));

    let mut asked = Asked::new(&format!("{target}status = [503]\nbody_contains = \"all well\"\n"));
    let (result, _) = once(&mut asked, &listener, &text("503 x", "it is all well here")).await;
    assert_eq!(result, Ok(()));
    let (result, _) = once(&mut asked, &listener, &text("503 x", "no database")).await;
    assert_eq!(result.unwrap_err(), "the answer does not contain \"all well\"; it begins with \"no database\"");
    drop(listener);
    assert!(asked.run().await.unwrap_err().contains("Connection refused"));
}

fn acceptor(days: i64) -> (TlsAcceptor, String) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = params.not_before + std::time::Duration::from_secs(86_400) * u32::try_from(days).unwrap();
    let key = KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    let chain = vec![CertificateDer::from(made.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    (TlsAcceptor::from(Arc::new(config)), made.pem())
}

#[tokio::test]
async fn a_certificate_is_verified_and_about_to_expire_is_not_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // rcgen's certificates begin in 1975.
    let passed = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400).unwrap() - 1826;
    for (left_days, wanted) in [(100, None), (5, Some("the certificate is about to expire")), (-5, Some("TLS failed"))]
    {
        let (acceptor, pem) = acceptor(passed + left_days);
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), pem).unwrap();
        let target =
            format!("kind = \"http\"\ntarget = \"https://localhost:{port}/\"\nca = \"{}\"\n", ca.path().display());
        let mut asked = Asked::new(&target);
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, &text("200 OK", "")).await;
            }
        };
        let (result, ()) = tokio::join!(asked.run(), serve);
        match wanted {
            None => assert_eq!(result, Ok(()), "{left_days}"),
            Some(part) => assert!(result.as_ref().is_err_and(|line| line.starts_with(part)), "{left_days}: {result:?}"),
        }
        let figure = asked.figure("certificate_left_days");
        assert_eq!(figure.is_some(), left_days > 0, "{figure:?}");
    }
}

#[tokio::test]
async fn a_connection_is_all_that_tcp_asks_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut asked = Asked::new(&format!("kind = \"tcp\"\ntarget = \"{}\"\n", listener.local_addr().unwrap()));
    assert_eq!(asked.run().await, Ok(()));
    let port = free_port();
    let mut asked = Asked::new(&format!("kind = \"tcp\"\ntarget = \"localhost:{port}\"\n"));
    assert!(
        asked.run().await.unwrap_err().starts_with(&format!("no connection to localhost:{port}: Connection refused"))
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for kind in ["redis", "http", "grpc"] {
        let target = if kind == "redis" { address.to_string() } else { format!("http://{address}") };
        let mut asked = Asked::new(&format!("kind = \"{kind}\"\ntarget = \"{target}\"\ntimeout = \"100ms\"\n"));
        assert_eq!(asked.run().await.unwrap_err(), "timeout", "{kind}");
    }
}
