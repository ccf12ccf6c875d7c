//! Answers on their way out.

use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, IpcMessage, SchemaAsIpc};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use crate::missing::Missing;
use crate::query::{Answer, QueryError};

/// What `DoGet` sends.
pub type Rows = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;

/// Messages of an answer that wait for its reader.
const MESSAGES_AHEAD: usize = 2;

/// The rows of a statement, which ends with its reader. Files that could not be read end it with a status, after all
/// the rows there are.
pub fn answer(answer: Answer, missing: Arc<Missing>) -> Response<Rows> {
    let (deadline, too_late) = (answer.deadline(), answer.too_late().status());
    let (sender, receiver) = mpsc::channel(MESSAGES_AHEAD);
    tokio::spawn(async move {
        let sent = tokio::select! {
            sent = tokio::time::timeout_at(deadline, send(answer, missing, &sender)) => sent,
            () = sender.closed() => return,
        };
        if sent.is_err() {
            // The statement is gone by now; only these words wait for a reader who does not read.
            let _hung_up = sender.send(Err(too_late)).await.is_err();
        }
    });
    Response::new(Box::pin(ReceiverStream::new(receiver)))
}

/// Sends everything there is, as the reader takes it.
async fn send(answer: Answer, missing: Arc<Missing>, reader: &mpsc::Sender<Result<FlightData, Status>>) {
    let mut messages = messages(answer, missing);
    while let Some(message) = messages.next().await {
        if reader.send(message).await.is_err() {
            return;
        }
    }
}

fn messages(answer: Answer, missing: Arc<Missing>) -> Rows {
    let schema = answer.schema();
    let batches = stream::try_unfold((answer, missing), |(mut answer, missing)| async move {
        if let Some(batch) = answer.next().await.map_err(|error| error.status())? {
            return Ok::<_, FlightError>(Some((batch, (answer, missing))));
        }
        let files = answer.unreadable();
        if files.is_empty() {
            return Ok(None);
        }
        missing.report(&files);
        Err(QueryError::Incomplete { files }.status().into())
    });
    encode(schema, batches)
}

/// One batch that is all there is.
pub fn list(batch: RecordBatch) -> Response<Rows> {
    Response::new(encode(batch.schema(), stream::iter([Ok(batch)])))
}

fn encode(schema: SchemaRef, batches: impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static) -> Rows {
    let encoder = FlightDataEncoderBuilder::new().with_schema(schema).build(batches);
    Box::pin(encoder.map_err(Status::from))
}

/// A schema as messages carry it outside a stream.
///
/// # Errors
/// `INTERNAL` for one that IPC cannot hold.
pub fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let message: Result<IpcMessage, _> = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into();
    message.map(|message| message.0).map_err(|error| Status::internal(error.to_string()))
}
