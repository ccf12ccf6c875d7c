//! The commands against a console that answers over real mutual TLS, with the certificates `skep up` makes.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::ipc::writer::StreamWriter;
use futures::Stream;
use skep::up::certificates;
use skep::up::folder::Folder;
use skep_wire::chunk::Builder;
use skep_wire::v1::console_server::{Console, ConsoleServer};
use skep_wire::{tables, v1};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// When the second half of a slow answer comes.
const LATER: Duration = Duration::from_secs(4);

/// Answers by what the statement says.
#[derive(Debug)]
struct Scripted;

type Pieces<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn ipc(batch: &RecordBatch, rows: bool) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    if rows {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn sample() -> RecordBatch {
    let comm: ArrayRef = Arc::new(StringArray::from(vec!["sh", "curl"]));
    let n: ArrayRef = Arc::new(Int64Array::from(vec![1, 20]));
    RecordBatch::try_from_iter([("comm", comm), ("n", n)]).unwrap()
}

/// Two rows, and much later two more.
fn slow() -> impl Stream<Item = Result<v1::QueryReply, Status>> + Send {
    let mut writer = StreamWriter::try_new(Vec::new(), &sample().schema()).unwrap();
    writer.write(&sample()).unwrap();
    let first = writer.get_ref().clone();
    writer.write(&sample()).unwrap();
    writer.finish().unwrap();
    let rest = writer.get_ref()[first.len()..].to_vec();
    futures::stream::unfold(vec![rest, first], |mut left| async move {
        let arrow_ipc = left.pop()?;
        if left.is_empty() {
            tokio::time::sleep(LATER).await;
        }
        Some((Ok(v1::QueryReply { arrow_ipc }), left))
    })
}

#[tonic::async_trait]
impl Console for Scripted {
    type QueryStream = Pieces<v1::QueryReply>;
    type EventsStream = Pieces<v1::EventsReply>;

    async fn query(&self, request: Request<v1::QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        let v1::QueryRequest { sql, timeout_s } = request.into_inner();
        let bytes = match sql.as_str() {
            "timeout" => {
                let seconds: ArrayRef = Arc::new(Int64Array::from(vec![i64::from(timeout_s)]));
                ipc(&RecordBatch::try_from_iter([("timeout_s", seconds)]).unwrap(), true)
            }
            "slow" => return Ok(Response::new(Box::pin(slow()))),
            "rows" => ipc(&sample(), true),
            "none" => ipc(&sample(), false),
            "forbidden" => return Err(Status::permission_denied("not for operators")),
            "break" => {
                let half = ipc(&sample(), true)[..200].to_vec();
                let pieces = vec![Ok(v1::QueryReply { arrow_ipc: half }), Err(Status::unavailable("going down"))];
                return Ok(Response::new(Box::pin(futures::stream::iter(pieces))));
            }
            // What `skep export` asks; rows of two hours.
            sql if sql.starts_with("SELECT count(*) AS n") => {
                let n: ArrayRef = Arc::new(Int64Array::from(vec![4]));
                let first: ArrayRef = Arc::new(Int64Array::from(vec![1]));
                let last: ArrayRef = Arc::new(Int64Array::from(vec![3_600_000_001]));
                ipc(&RecordBatch::try_from_iter([("n", n), ("first", first), ("last", last)]).unwrap(), true)
            }
            sql if sql.ends_with(" LIMIT 0") => ipc(&sample(), false),
            sql if sql.starts_with("SELECT * FROM loss WHERE") || sql.starts_with("SELECT * FROM audit WHERE") => {
                ipc(&sample(), true)
            }
            // Ids of actions, for `skep actions`.
            sql if sql.contains("FROM actions") => {
                let id: ArrayRef = Arc::new(StringArray::from(vec!["a1b2", "a1c3"]));
                let all = RecordBatch::try_from_iter([("id", id)]).unwrap();
                ipc(&if sql.contains("'a1b'") { all.slice(0, 1) } else { all }, true)
            }
            _ => return Err(Status::invalid_argument("table 'nowhere' not found\nsee `skep tables`")),
        };
        // Cut where it hurts: a piece ends anywhere.
        let pieces: Vec<_> = bytes.chunks(7).map(|piece| Ok(v1::QueryReply { arrow_ipc: piece.to_vec() })).collect();
        Ok(Response::new(Box::pin(futures::stream::iter(pieces))))
    }

    async fn events(&self, _: Request<v1::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let mut rows = Builder::new(&tables::PROCESSES);
        for event in ["exec", "fork"] {
            rows.int("time", 1_700_000_000_000_000).text("event", event).int("pid", 7).int("start_ns", 9);
            rows.text("comm", "sh").text("workload", "host").text("attribution", "exact").int("parent_pid", 1);
            rows.text_list("argv", &["sh", "-c", "true"]).bool("argv_truncated", false);
            rows.end_row().unwrap();
        }
        let reply = v1::EventsReply { node: "h".to_owned(), chunk: rows.finish(), missed: 3 };
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(reply)]))))
    }

    async fn act(&self, request: Request<v1::ActRequest>) -> Result<Response<v1::ActReply>, Status> {
        let request = request.into_inner();
        if request.verb() == v1::Verb::Undo {
            return Err(Status::failed_precondition("action is pending, there is nothing to undo"));
        }
        Ok(Response::new(v1::ActReply { state: "sent".to_owned(), detail: request.reason, ..Default::default() }))
    }

    async fn flush(&self, _: Request<v1::FlushRequest>) -> Result<Response<v1::FlushReply>, Status> {
        Ok(Response::new(v1::FlushReply { rows: 1_234, files: 2 }))
    }

    async fn nodes(&self, _: Request<v1::NodesRequest>) -> Result<Response<v1::NodesReply>, Status> {
        Ok(Response::new(v1::NodesReply::default()))
    }
}

/// A data folder whose endpoint is served from within this test.
struct Served {
    root: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

fn make_certificates(root: &Path) {
    let folder = Folder::create(root).unwrap();
    certificates::ensure(&folder, "h", IpAddr::V4(Ipv4Addr::LOCALHOST), jiff::Timestamp::now()).unwrap();
}

/// Serves with the certificate in `server`, trusting clients of `clients`.
fn serve(server: &Path, clients: &Path, root: tempfile::TempDir) -> Served {
    let read = |folder: &Path, name: &str| std::fs::read(folder.join("tls").join(name)).unwrap();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read(server, "collector.pem"), read(server, "collector.key")))
        .client_ca_root(Certificate::from_pem(read(clients, "ca.pem")));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = serde_json::json!({ "grpc": listener.local_addr().unwrap().to_string(), "pid": 1 });
    std::fs::write(root.path().join("endpoint.json"), endpoint.to_string()).unwrap();
    // Once per process is enough, and a second time is no error worth stopping for.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Server::builder().tls_config(tls).unwrap().add_service(ConsoleServer::new(Scripted));
    runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Served { root, _runtime: runtime }
}

fn served() -> Served {
    let root = tempfile::tempdir().unwrap();
    make_certificates(root.path());
    let path: PathBuf = root.path().to_owned();
    serve(&path, &path, root)
}

impl Served {
    fn skep(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_skep"))
            .args(args)
            .arg("--data")
            .arg(self.root.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn fails(&self, args: &[&str], code: i32, said: &str) {
        let output = self.skep(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(said) && stderr.lines().count() == 1, "{args:?}: {stderr}");
    }

    fn prints(&self, args: &[&str]) -> String {
        let output = self.skep(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn rows_come_out_in_every_format() {
    let served = served();
    assert_eq!(served.prints(&["query", "rows"]), "comm   n\n────  ──\nsh     1\ncurl  20\n");
    assert_eq!(served.prints(&["query", "rows", "--format", "csv"]), "comm,n\nsh,1\ncurl,20\n");
    let json: serde_json::Value = serde_json::from_str(&served.prints(&["query", "rows", "--format", "json"])).unwrap();
    assert_eq!(json[1]["n"], 20);
    for format in ["arrow", "parquet"] {
        let out = served.root.path().join(format);
        served.prints(&["query", "rows", "--format", format, "--out", out.to_str().unwrap()]);
        assert!(std::fs::metadata(out).unwrap().len() > 100);
    }
}

#[test]
fn first_rows_are_out_while_the_rest_is_on_its_way() {
    let served = served();
    for (format, rows) in [("table", 2), ("csv", 1), ("ndjson", 0)] {
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_skep"))
            .args(["query", "slow", "--format", format, "--data"])
            .arg(served.root.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.nth(rows).unwrap().unwrap();
        assert!(first.contains("sh") && began.elapsed() < LATER, "{format}: {first} after {:?}", began.elapsed());
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        assert_eq!(rest.len(), 3, "{format}: {rest:?}");
        assert!(began.elapsed() >= LATER && child.wait().unwrap().success());
    }
}

#[test]
fn a_timeout_is_told_to_the_collector() {
    let served = served();
    assert_eq!(served.prints(&["query", "timeout", "--format", "csv"]), "timeout_s\n0\n");
    assert_eq!(served.prints(&["query", "timeout", "--format", "csv", "--timeout", "1500ms"]), "timeout_s\n2\n");
}

#[test]
fn an_export_that_broke_off_goes_on_behind_what_is_done() {
    let served = served();
    let folder = served.root.path().join("export");
    let to = folder.to_str().unwrap();
    served.fails(&["export", "--table", "loss,cpu", "--to", to, "--format", "csv"], 1, "not found");
    let (loss, journal) = (folder.join("loss.csv"), folder.join("export.json"));
    let text = std::fs::read_to_string(&loss).unwrap();
    assert_eq!(text, "comm,n\nsh,1\ncurl,20\nsh,1\ncurl,20\n", "two hours of two rows");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "the file, the journal and nothing half");

    // What failed can be asked now; what was done is not asked again.
    let asked = std::fs::read_to_string(&journal).unwrap().replace("\"cpu\"", "\"audit\"");
    std::fs::write(&journal, asked).unwrap();
    let kept = text.replace("sh", "xx");
    std::fs::write(&loss, &kept).unwrap();
    let summary = served.prints(&["export", "--to", to, "--resume", "--summary", "json"]);
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((&summary[0]["table"], &summary[1]["table"]), (&"loss".into(), &"audit".into()));
    assert_eq!((&summary[1]["rows"], &summary[1]["bytes"]), (&4.into(), &kept.len().into()));
    assert_eq!(std::fs::read_to_string(&loss).unwrap(), kept);
    assert!(folder.join("audit.csv").exists() && !journal.exists());
    served.fails(&["export", "--to", to, "--resume"], 2, "no export into");
}

#[test]
fn an_empty_answer_is_no_failure() {
    let served = served();
    assert_eq!(served.prints(&["query", "none"]).lines().next(), Some("comm  n"));
    assert_eq!(served.prints(&["query", "none", "--format", "json"]), "[]\n");
    assert_eq!(served.prints(&["query", "none", "--format", "csv"]), "comm,n\n");
}

#[test]
fn a_wrong_statement_is_one_line_and_one() {
    served().fails(&["query", "SELECT * FROM nowhere"], 1, "table 'nowhere' not found see `skep tables`");
}

#[test]
fn a_refusal_is_four() {
    let served = served();
    served.fails(&["query", "forbidden"], 4, "not for operators");
    served.fails(&["actions", "undo", "a1b"], 4, "nothing to undo");
}

#[test]
fn a_collector_that_goes_away_under_an_answer_is_three_and_leaves_no_file() {
    let served = served();
    let out = served.root.path().join("rows.json");
    served.fails(&["query", "break", "--format", "json", "--out", out.to_str().unwrap()], 3, "going down");
    let left: Vec<_> = std::fs::read_dir(served.root.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("rows"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_impostor_is_not_talked_to() {
    let root = tempfile::tempdir().unwrap();
    make_certificates(root.path());
    let other = tempfile::tempdir().unwrap();
    make_certificates(other.path());
    let path = root.path().to_owned();
    let served = serve(other.path(), &path, root);
    served.fails(&["query", "rows"], 3, "certificate");
}

#[test]
fn a_collector_of_another_authority_refuses_us() {
    let root = tempfile::tempdir().unwrap();
    make_certificates(root.path());
    let other = tempfile::tempdir().unwrap();
    make_certificates(other.path());
    let path = root.path().to_owned();
    let served = serve(&path, other.path(), root);
    served.fails(&["query", "rows"], 4, "refused");
}

#[test]
fn events_are_filtered_and_what_was_missed_is_said() {
    let served = served();
    let output = served.skep(&["events", "--follow", "--kind", "exec"]);
    // The scripted console ends its stream, a collector never does.
    assert_eq!(output.status.code(), Some(3));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("exec") && stdout.contains("sh -c true") && !stdout.contains("fork"), "{stdout}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("missed 3 events"));
    let output = served.skep(&["events", "--follow", "--format", "json"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let first: serde_json::Value = serde_json::from_str(stdout.lines().next().unwrap()).unwrap();
    assert_eq!(first["missed"], 3);
}

#[test]
fn an_action_is_found_by_the_start_of_its_id() {
    let served = served();
    assert_eq!(served.prints(&["actions", "approve", "a1b", "--reason", "ok"]), "action a1b2 is sent: ok\n");
    served.fails(&["actions", "approve", "a1"], 1, "a1 is the start of several actions: a1b2, a1c3");
    served.fails(&["actions", "approve", "a%"], 2, "no id");
}

#[test]
fn a_flush_says_what_it_wrote() {
    assert_eq!(served().prints(&["flush"]), "1,234 rows in 2 files\n");
}
