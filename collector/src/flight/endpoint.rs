//! Who may call, and what arrow-flight leaves out.

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, PollInfo, SchemaResult, Ticket,
};
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};

use super::FlightSql;
use crate::ingest::peer::{self, Role};

/// [`FlightSql`] with what its library does not pass on.
#[derive(Debug)]
pub struct Endpoint(FlightSql);

/// The service as the listener takes it: every call needs an operator's certificate.
pub fn server(service: FlightSql) -> InterceptedService<FlightServiceServer<Endpoint>, Check> {
    FlightServiceServer::with_interceptor(Endpoint(service), operators_only)
}

/// A call that may go on, or why not.
type Checked = Result<Request<()>, Status>;

/// What looks at every call.
type Check = fn(Request<()>) -> Checked;

fn operators_only(request: Request<()>) -> Checked {
    match peer::peer(&request, Role::Operator) {
        Ok(_) => Ok(request),
        Err(error) => Err(Status::permission_denied(error.to_string())),
    }
}

type Replied<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FlightService for Endpoint {
    type HandshakeStream = <FlightSql as FlightService>::HandshakeStream;
    type ListFlightsStream = <FlightSql as FlightService>::ListFlightsStream;
    type DoGetStream = <FlightSql as FlightService>::DoGetStream;
    type DoPutStream = <FlightSql as FlightService>::DoPutStream;
    type DoActionStream = <FlightSql as FlightService>::DoActionStream;
    type ListActionsStream = <FlightSql as FlightService>::ListActionsStream;
    type DoExchangeStream = <FlightSql as FlightService>::DoExchangeStream;

    /// The schema alone of what [`FlightService::get_flight_info`] describes.
    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Replied<SchemaResult> {
        let info = self.0.get_flight_info(request).await?.into_inner();
        Ok(Response::new(SchemaResult { schema: info.schema }))
    }

    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Replied<Self::HandshakeStream> {
        self.0.handshake(request).await
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Replied<Self::ListFlightsStream> {
        self.0.list_flights(request).await
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Replied<FlightInfo> {
        self.0.get_flight_info(request).await
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Replied<PollInfo> {
        self.0.poll_flight_info(request).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> Replied<Self::DoGetStream> {
        self.0.do_get(request).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Replied<Self::DoPutStream> {
        self.0.do_put(request).await
    }

    async fn do_action(&self, request: Request<Action>) -> Replied<Self::DoActionStream> {
        self.0.do_action(request).await
    }

    async fn list_actions(&self, request: Request<Empty>) -> Replied<Self::ListActionsStream> {
        self.0.list_actions(request).await
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Replied<Self::DoExchangeStream> {
        self.0.do_exchange(request).await
    }
}
