//! A word with the container runtime: Docker's interface over a unix socket, which podman speaks as well.
//!
//! One question a connection, of HTTP's version 1.0, which has the runtime close it behind the answer.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::kind::ActError;

/// How long the runtime may take to answer a question.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The longest answer that is read.
const MAX_ANSWER: u64 = 4 << 20;

/// What the runtime says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The whole id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// running, paused, exited and others.
    pub status: String,
    /// When it was started last, as the runtime says it.
    pub started: String,
    /// Its first process; 0 where it does not run.
    pub pid: u32,
}

/// An answer: its status and its body.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    /// What the runtime says is wrong.
    fn said(&self) -> String {
        let value: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let said = ["message", "cause"].iter().find_map(|key| value[*key].as_str());
        said.map_or_else(|| format!("status {}", self.status), |said| format!("{said} (status {})", self.status))
    }
}

/// Looks at a container by its id or its name; `None` where there is none.
///
/// # Errors
/// The runtime cannot be asked.
pub fn inspect(socket: &Path, container: &str) -> Result<Option<Container>, ActError> {
    let answer = ask(socket, "GET", &format!("/containers/{}/json", escaped(container)), ANSWER_WITHIN)?;
    if answer.status == 404 {
        return Ok(None);
    }
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (id, state) = (text(&value["Id"]), &value["State"]);
    if answer.status != 200 || id.is_empty() {
        return Err(ActError::Host(format!("the container runtime: {}", answer.said())));
    }
    Ok(Some(Container {
        id,
        name: text(&value["Name"]).trim_start_matches('/').to_owned(),
        status: text(&state["Status"]),
        started: text(&state["StartedAt"]),
        pid: state["Pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
    }))
}

/// Has it do something to the container with this id, and waits until that is done.
///
/// # Errors
/// It refuses, or does not answer.
pub fn order(socket: &Path, id: &str, verb: &str, within: Duration) -> Result<(), ActError> {
    let answer = ask(socket, "POST", &format!("/containers/{}/{verb}", escaped(id)), within)?;
    // 304 is Docker's word for "is so already".
    if (200..300).contains(&answer.status) || answer.status == 304 {
        return Ok(());
    }
    Err(ActError::Host(format!("the container runtime: {}", answer.said())))
}

/// Nothing but a name goes into the path.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn ask(socket: &Path, method: &str, path: &str, within: Duration) -> Result<Answer, ActError> {
    let failed = |error: std::io::Error| {
        ActError::Host(format!("the container runtime at {} cannot be asked: {error}", socket.display()))
    };
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(within)).map_err(failed)?;
    stream.set_write_timeout(Some(ANSWER_WITHIN)).map_err(failed)?;
    let request = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut bytes).map_err(failed)?;
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    match (response.parse(&bytes), response.code) {
        (Ok(httparse::Status::Complete(head)), Some(status)) => Ok(Answer { status, body: bytes.split_off(head) }),
        _ => Err(ActError::Host(format!("what answers at {} is no container runtime", socket.display()))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Answers one question with this.
    fn answering(answer: &'static str) -> (tempfile::TempDir, std::path::PathBuf, std::thread::JoinHandle<String>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 1024];
            let bytes = stream.read(&mut question).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&question[..bytes]).into_owned()
        });
        (dir, socket, asked)
    }

    #[test]
    fn a_name_stays_a_name() {
        let (_dir, socket, asked) = answering("HTTP/1.0 404 Not Found\r\n\r\n{\"message\":\"no such container\"}");
        assert_eq!(inspect(&socket, "../web?x= y").unwrap(), None);
        assert!(asked.join().unwrap().starts_with("GET /containers/..%2Fweb%3Fx%3D%20y/json HTTP/1.0\r\n"));
    }

    #[test]
    fn what_the_runtime_refuses_is_told() {
        let (_dir, socket, _asked) = answering("HTTP/1.0 409 Conflict\r\n\r\n{\"message\":\"it is paused\"}");
        let error = order(&socket, "a", "pause", ANSWER_WITHIN).unwrap_err().to_string();
        assert_eq!(error, "the container runtime: it is paused (status 409)");
        let (_dir, socket, _asked) = answering("SSH-2.0-OpenSSH\r\n");
        let error = inspect(&socket, "a").unwrap_err().to_string();
        assert!(error.ends_with("is no container runtime"), "{error}");
        let error = inspect(Path::new("/nowhere/sock"), "a").unwrap_err().to_string();
        assert!(error.contains("/nowhere/sock cannot be asked: No such file"), "{error}");
    }
}
