//! tonic's own health service.

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic_health::ServingStatus;

use crate::support::Asked;

#[tokio::test]
async fn the_health_service_says_whether_a_server_is_well() {
    let (reporter, service) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("kind = \"grpc\"\ntarget = \"http://{}\"\n", listener.local_addr().unwrap());
    let serving =
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    let mut whole = Asked::new(&target);
    assert_eq!(whole.run().await, Ok(()));
    let mut shop = Asked::new(&format!("{target}service = \"shop\"\n"));
    assert!(shop.run().await.unwrap_err().starts_with("the health service answered "), "nobody knows it");
    reporter.set_service_status("shop", ServingStatus::NotServing).await;
    assert_eq!(shop.run().await.unwrap_err(), "the health service says NOT_SERVING");
    reporter.set_service_status("shop", ServingStatus::Serving).await;
    assert_eq!(shop.run().await, Ok(()));
    serving.abort();
    assert!(serving.await.is_err());
    assert!(whole.run().await.unwrap_err().starts_with("no gRPC connection: "));
}
