//! Flight SQL on the collector's listener: statements, prepared statements, lists, refusals, and the end of what nobody
//! waits for.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, Schema};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetTables, CommandStatementIngest, CommandStatementQuery, ProstMessageExt, SqlInfo,
};
use arrow_flight::{FlightDescriptor, FlightInfo, IpcMessage};
use futures::TryStreamExt;
use prost::Message;
use support::agent::{ROWS, Uplink};
use support::{Collector, Ground, number};
use tonic::Code;
use tonic::transport::Channel;

const STREAM: &str = "fedcba9876543210fedcba9876543210";

type Client = FlightSqlServiceClient<Channel>;

/// A collector that holds ten batches in files and ten in memory.
async fn filled<'a>(ground: &'a Ground, config: &str) -> Collector<'a> {
    let collector = ground.serve(config);
    let mut uplink = Uplink::open(ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.deliver(1, 10).await.unwrap();
    collector.flush().await;
    uplink.deliver(11, 20).await.unwrap();
    collector
}

async fn client(ground: &Ground, collector: &Collector<'_>, who: &str) -> Client {
    Client::new(ground.channel(&collector.grpc, who).await.unwrap())
}

async fn fetch(client: &mut Client, info: FlightInfo) -> Result<Vec<RecordBatch>, FlightError> {
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    client.do_get(ticket).await?.try_collect().await
}

async fn ask(client: &mut Client, sql: &str) -> Result<Vec<RecordBatch>, FlightError> {
    let info = client.execute(sql.to_owned(), None).await?;
    fetch(client, info).await
}

fn texts(batches: &[RecordBatch], column: &str) -> Vec<String> {
    let columns = batches.iter().map(|batch| batch.column_by_name(column).unwrap().as_string::<i32>());
    columns.flat_map(|column| column.iter().flatten().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, FlightError>, code: Code, said: &str) {
    let Err(FlightError::Tonic(status)) = answer else { panic!("not refused with a status: {answer:?}") };
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(said), "{status:?}");
}

#[tokio::test]
async fn statements_are_answered_from_memory_and_files() {
    let ground = Ground::new();
    let collector = filled(&ground, "").await;
    let mut client = client(&ground, &collector, "operator").await;
    let count = ask(&mut client, "SELECT count(*) FROM cpu").await.unwrap();
    assert_eq!(number(&count), 20 * ROWS);
    let p99 = ask(&mut client, "SELECT hist_quantile(run_queue_delay, 0.99) FROM cpu").await.unwrap();
    assert_eq!(number(&p99), collector.number("SELECT hist_quantile(run_queue_delay, 0.99) FROM cpu").await);
    let full = ask(&mut client, "SELECT count(*) FROM datafusion.public.cpu WHERE seq > 15").await.unwrap();
    assert_eq!(number(&full), 5 * ROWS);

    let sql = "SELECT node, upper(comm) AS loud, time, pid, run_queue_delay FROM cpu";
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let promised = Schema::try_from(info.clone()).unwrap();
    let rows = fetch(&mut client, info).await.unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>() as i64, 20 * ROWS);
    assert!(rows.iter().all(|batch| batch.schema().fields() == promised.fields()), "{promised:?}");
    assert!(rows[0].column(3).as_primitive_opt::<Int64Type>().is_some());

    let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let mut plain = FlightServiceClient::new(ground.channel(&collector.grpc, "operator").await.unwrap());
    let schema = plain.get_schema(descriptor).await.unwrap().into_inner().schema;
    assert_eq!(Schema::try_from(IpcMessage(schema)).unwrap().fields(), promised.fields());
}

#[tokio::test]
async fn a_prepared_statement_says_its_columns_and_runs_as_often_as_one_likes() {
    let ground = Ground::new();
    let collector = filled(&ground, "").await;
    let mut client = client(&ground, &collector, "operator").await;
    let mut prepared = client.prepare("SELECT count(*) AS n FROM cpu".to_owned(), None).await.unwrap();
    assert_eq!(prepared.dataset_schema().unwrap().field(0).name(), "n");
    assert!(prepared.parameter_schema().unwrap().fields().is_empty());
    for _ in 0..2 {
        let info = prepared.execute().await.unwrap();
        assert_eq!(number(&fetch(&mut client, info).await.unwrap()), 20 * ROWS);
    }
    prepared.close().await.unwrap();
    refused(client.prepare("SELECT x FROM cpu".to_owned(), None).await, Code::InvalidArgument, "no column x");
}

#[tokio::test]
async fn catalogs_schemas_tables_and_facts_are_listed() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut client = client(&ground, &collector, "operator").await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(texts(&fetch(&mut client, info).await.unwrap(), "catalog_name"), ["datafusion"]);
    let info = client.get_db_schemas(CommandGetDbSchemas::default()).await.unwrap();
    assert_eq!(texts(&fetch(&mut client, info).await.unwrap(), "db_schema_name"), ["public"]);
    let info = client.get_table_types().await.unwrap();
    assert_eq!(texts(&fetch(&mut client, info).await.unwrap(), "table_type"), ["TABLE", "VIEW"]);

    let all = CommandGetTables { table_types: vec!["TABLE".to_owned()], ..Default::default() };
    let info = client.get_tables(all).await.unwrap();
    let mut expected: Vec<_> = skep_wire::tables::TABLES.iter().map(|table| table.name).collect();
    expected.sort_unstable();
    assert_eq!(texts(&fetch(&mut client, info).await.unwrap(), "table_name"), expected);

    let filter = Some("sys%".to_owned());
    let some = CommandGetTables { table_name_filter_pattern: filter, include_schema: true, ..Default::default() };
    let info = client.get_tables(some).await.unwrap();
    let found = fetch(&mut client, info).await.unwrap();
    assert_eq!(texts(&found, "table_name"), ["syscalls"]);
    let schema = found[0].column_by_name("table_schema").unwrap().as_binary::<i32>().value(0).to_vec();
    let schema = Schema::try_from(IpcMessage(schema.into())).unwrap();
    assert!(schema.field_with_name("latency").is_ok(), "{schema:?}");

    let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerName, SqlInfo::FlightSqlServerReadOnly]).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.unwrap()[0].num_rows(), 2);
}

#[tokio::test]
async fn what_is_wrong_or_would_change_something_is_refused_by_name() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut client = client(&ground, &collector, "operator").await;
    for (sql, code, said) in [
        ("SELEC 1", Code::InvalidArgument, "wrong SQL"),
        ("SELECT 1; SELECT 2", Code::InvalidArgument, "expected one statement, found 2"),
        ("DROP TABLE cpu", Code::InvalidArgument, "only statements that read"),
        ("SELECT * FROM syscall", Code::NotFound, "did you mean syscalls?"),
        ("SELECT * FROM cpu WHERE pid = $1", Code::InvalidArgument, "statements take no parameters"),
        ("SELECT pidd FROM cpu", Code::InvalidArgument, "did you mean pid or"),
    ] {
        refused(ask(&mut client, sql).await, code, said);
    }
    let long = format!("SELECT '{}'", "x".repeat(70_000));
    refused(ask(&mut client, &long).await, Code::InvalidArgument, "bytes; at most 65536");
    let update = client.execute_update("DELETE FROM cpu".to_owned(), None).await;
    refused(update, Code::Unimplemented, "only answers statements that read");
    let ingest = client.execute_ingest(CommandStatementIngest::default(), futures::stream::empty()).await;
    refused(ingest, Code::Unimplemented, "only answers statements that read");
    let handshake = client.handshake("olga", "secret").await.unwrap_err().to_string();
    assert!(handshake.contains("connect without a user and a password"), "{handshake}");
    refused(client.begin_transaction().await, Code::Unimplemented, "no transactions");
}

#[tokio::test]
async fn only_operators_are_answered() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut agent = client(&ground, &collector, "a").await;
    refused(ask(&mut agent, "SELECT 1").await, Code::PermissionDenied, "this needs operator");
    refused(agent.get_catalogs().await, Code::PermissionDenied, "this needs operator");
    let forged = arrow_flight::Ticket::new("nonsense");
    refused(agent.do_get(forged.clone()).await.map(|_| ()), Code::PermissionDenied, "this needs operator");
    let mut operator = client(&ground, &collector, "operator").await;
    assert!(operator.do_get(forged).await.is_err());
}

#[tokio::test]
async fn a_statement_ends_with_the_connection_that_asked_it() {
    let ground = Ground::new();
    let collector = filled(&ground, "").await;
    let mut client = client(&ground, &collector, "operator").await;
    // 400 rows to the fifth: nobody lives to see the answer.
    let endless = "SELECT count(*) FROM cpu a, cpu b, cpu c, cpu d, cpu e WHERE a.pid + b.pid + c.pid + d.pid <> e.pid";
    let at_work = collector.cpu_time() + Duration::from_millis(500);
    let watch = async {
        while collector.cpu_time() < at_work {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        answer = ask(&mut client, endless) => panic!("it ended: {answer:?}"),
        () = watch => {}
    }
    drop(client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = collector.cpu_time();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = collector.cpu_time() - before;
    assert!(after < Duration::from_millis(500), "{after:?} of CPU time for nobody");
}

#[tokio::test]
async fn a_reader_that_does_not_read_keeps_no_statement() {
    let ground = Ground::new();
    let collector = filled(&ground, "[query]\ntimeout_s = 12\n").await;
    let mut client = client(&ground, &collector, "operator").await;
    // 64 million rows: more than lie on the way to a reader, and more than are made in that time.
    let info = client.execute("SELECT a.*, b.* FROM cpu a, cpu b, cpu c".to_owned(), None).await.unwrap();
    let mut rows = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(13)).await;
    let before = collector.cpu_time();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = collector.cpu_time() - before;
    assert!(after < Duration::from_millis(250), "{after:?} of CPU time for nobody");
    let ended = loop {
        match rows.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    refused(ended, Code::DeadlineExceeded, "took longer than 12 s");
}
