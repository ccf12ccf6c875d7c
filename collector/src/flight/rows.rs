//! Answers on their way out.

use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, IpcMessage, SchemaAsIpc};
use futures::{Stream, TryStreamExt, stream};
use prost::bytes::Bytes;
use tonic::{Response, Status};

use crate::missing::Missing;
use crate::query::{Answer, QueryError};

/// What `DoGet` sends.
pub type Rows = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;

/// The rows of a statement. Who hangs up drops the stream, and with it the statement. Files that could not be read end
/// it with a status, after all the rows there are.
pub fn answer(answer: Answer, missing: Arc<Missing>) -> Response<Rows> {
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
    encode(batch.schema(), stream::iter([Ok(batch)]))
}

fn encode(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static,
) -> Response<Rows> {
    let encoder = FlightDataEncoderBuilder::new().with_schema(schema).build(batches);
    Response::new(Box::pin(encoder.map_err(Status::from)))
}

/// A schema as messages carry it outside a stream.
///
/// # Errors
/// `INTERNAL` for one that IPC cannot hold.
pub fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let message: Result<IpcMessage, _> = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into();
    message.map(|message| message.0).map_err(|error| Status::internal(error.to_string()))
}
