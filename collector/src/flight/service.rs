//! The Flight SQL calls that skep answers; what would change something is refused by name.

use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::metadata::SqlInfoData;
use arrow_flight::sql::server::{DoPutError, FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, CommandGetCatalogs, CommandGetDbSchemas,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery, CommandStatementUpdate,
    DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{Action, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, Ticket};
use futures::stream::BoxStream;
use prost::Message;
use prost::bytes::Bytes;
use tonic::{Request, Response, Status, Streaming};

use super::{facts, lists, rows, statement};
use crate::buffer::Store;
use crate::missing::Missing;
use crate::query::Engine;
use crate::query::engine::Listed;
use crate::query::error::NO_PARAMETERS;

/// The service.
pub struct FlightSql {
    store: Arc<Store>,
    engine: Arc<Engine>,
    missing: Arc<Missing>,
    facts: SqlInfoData,
}

impl std::fmt::Debug for FlightSql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlightSql").field("engine", &self.engine).finish_non_exhaustive()
    }
}

type Info = Result<Response<FlightInfo>, Status>;
type Got = Result<Response<<FlightSql as FlightService>::DoGetStream>, Status>;
type Put = Request<PeekableFlightDataStream>;

impl FlightSql {
    /// Answers from `store` with `engine`; `missing` hears of files that cannot be read.
    ///
    /// # Errors
    /// As [`facts::facts`].
    pub fn new(store: Arc<Store>, engine: Arc<Engine>, missing: Arc<Missing>) -> Result<Self, FlightError> {
        Ok(Self { store, engine, missing, facts: facts::facts()? })
    }

    /// The columns of the statement of `handle`, which is planned for that and not run.
    async fn columns(&self, handle: &Bytes) -> Result<Arc<Schema>, Status> {
        let columns = self.engine.columns(self.store.snapshot(), statement::read(handle)?).await;
        columns.map_err(|error| error.status())
    }

    async fn run(&self, handle: &Bytes) -> Got {
        let answer = self.engine.ask(self.store.snapshot(), statement::read(handle)?, None).await;
        Ok(rows::answer(answer.map_err(|error| error.status())?, Arc::clone(&self.missing)))
    }

    async fn tables(&self) -> Result<Vec<Listed>, Status> {
        self.engine.tables(self.store.snapshot()).await.map_err(|error| error.status())
    }
}

#[tonic::async_trait]
impl FlightSqlService for FlightSql {
    type FlightService = Self;

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Info {
        let handle = statement::handle(query.query)?;
        let columns = self.columns(&handle).await?;
        info(request, TicketStatementQuery { statement_handle: handle }, &columns)
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, _: Request<Ticket>) -> Got {
        self.run(&ticket.statement_handle).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let handle = statement::handle(query.query)?;
        let dataset_schema = rows::schema_bytes(self.columns(&handle).await?.as_ref())?;
        let parameter_schema = rows::schema_bytes(&Schema::empty())?;
        Ok(ActionCreatePreparedStatementResult { prepared_statement_handle: handle, dataset_schema, parameter_schema })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _: ActionClosePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        // The handle is the statement: there is nothing to forget.
        Ok(())
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Info {
        let columns = self.columns(&query.prepared_statement_handle).await?;
        info(request, query, &columns)
    }

    async fn do_get_prepared_statement(&self, query: CommandPreparedStatementQuery, _: Request<Ticket>) -> Got {
        self.run(&query.prepared_statement_handle).await
    }

    async fn get_flight_info_catalogs(&self, query: CommandGetCatalogs, request: Request<FlightDescriptor>) -> Info {
        info(request, query, &query.into_builder().schema())
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, _: Request<Ticket>) -> Got {
        Ok(rows::list(lists::catalogs(query, &self.tables().await?)?))
    }

    async fn get_flight_info_schemas(&self, query: CommandGetDbSchemas, request: Request<FlightDescriptor>) -> Info {
        let schema = query.clone().into_builder().schema();
        info(request, query, &schema)
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, _: Request<Ticket>) -> Got {
        Ok(rows::list(lists::schemas(query, &self.tables().await?)?))
    }

    async fn get_flight_info_tables(&self, query: CommandGetTables, request: Request<FlightDescriptor>) -> Info {
        let schema = query.clone().into_builder().schema();
        info(request, query, &schema)
    }

    async fn do_get_tables(&self, query: CommandGetTables, _: Request<Ticket>) -> Got {
        Ok(rows::list(lists::tables(query, &self.tables().await?)?))
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Info {
        info(request, query, &query.into_builder().schema())
    }

    async fn do_get_table_types(&self, query: CommandGetTableTypes, _: Request<Ticket>) -> Got {
        Ok(rows::list(lists::table_types(query)?))
    }

    async fn get_flight_info_sql_info(&self, query: CommandGetSqlInfo, request: Request<FlightDescriptor>) -> Info {
        let schema = query.clone().into_builder(&self.facts).schema();
        info(request, query, &schema)
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _: Request<Ticket>) -> Got {
        Ok(rows::list(query.into_builder(&self.facts).build()?))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {
        // Nobody calls it; the facts are in `facts`.
    }

    async fn do_handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<BoxStream<'static, Result<HandshakeResponse, Status>>>, Status> {
        Err(Status::unimplemented("the client certificate says who you are: connect without a user and a password"))
    }

    async fn do_put_prepared_statement_query(
        &self,
        _: CommandPreparedStatementQuery,
        _: Put,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        Err(Status::unimplemented(NO_PARAMETERS))
    }

    async fn do_put_error_callback(
        &self,
        _: Put,
        _: DoPutError,
    ) -> Result<Response<<Self as FlightService>::DoPutStream>, Status> {
        Err(reads_only("uploads"))
    }

    async fn do_put_statement_update(&self, _: CommandStatementUpdate, _: Put) -> Result<i64, Status> {
        Err(reads_only("updates"))
    }

    async fn do_put_prepared_statement_update(&self, _: CommandPreparedStatementUpdate, _: Put) -> Result<i64, Status> {
        Err(reads_only("updates"))
    }

    async fn do_put_statement_ingest(&self, _: CommandStatementIngest, _: Put) -> Result<i64, Status> {
        Err(reads_only("ingestion"))
    }

    async fn do_action_begin_transaction(
        &self,
        _: ActionBeginTransactionRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        Err(reads_only("transactions"))
    }
}

fn reads_only(what: &str) -> Status {
    Status::unimplemented(format!("there are no {what}: this server only answers statements that read"))
}

/// Where to get what `request` asks for: here, with `command` as the ticket.
fn info(request: Request<FlightDescriptor>, command: impl ProstMessageExt, schema: &Schema) -> Info {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(command.as_any().encode_to_vec()));
    let info = FlightInfo::new().with_descriptor(request.into_inner()).with_endpoint(endpoint);
    let info = info.try_with_schema(schema).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Response::new(info))
}
