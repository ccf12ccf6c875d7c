//! The health service of gRPC. Source: grpc/health/v1/health.proto.

use hyper::http::uri::PathAndQuery;
use tonic::client::Grpc as Client;
use tonic::transport::{ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::{Fault, tls};
use crate::check::Grpc;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthReply {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Its values, by number.
const STATUS: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

const SERVING: i32 = 1;

pub(super) async fn ask(wanted: &Grpc) -> Result<(), Fault> {
    let mut endpoint = Endpoint::from(wanted.url.clone());
    if wanted.url.scheme_str() == Some("https") {
        let authorities = tls::authorities(wanted.ca.as_deref())?.roots;
        endpoint = endpoint.tls_config(ClientTlsConfig::new().trust_anchors(authorities)).map_err(Fault::Channel)?;
    }
    let channel = endpoint.connect().await.map_err(Fault::Channel)?;
    let mut client = Client::new(channel);
    client.ready().await.map_err(Fault::Channel)?;
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = Request::new(HealthRequest { service: wanted.service.clone() });
    let codec: ProstCodec<HealthRequest, HealthReply> = ProstCodec::default();
    let reply = client.unary(request, path, codec).await.map_err(|status| refused(&status))?;
    match reply.into_inner().status {
        SERVING => Ok(()),
        other => {
            let name = usize::try_from(other).ok().and_then(|at| STATUS.get(at));
            Err(Fault::NotServing { found: name.map_or_else(|| other.to_string(), |name| (*name).to_owned()) })
        }
    }
}

fn refused(status: &Status) -> Fault {
    Fault::Health { code: status.code().to_string(), message: status.message().to_owned() }
}
