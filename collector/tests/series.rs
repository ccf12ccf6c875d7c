//! What was learned of the series outlives the collector, and damage to it hurts nobody.

mod support;

use support::Ground;
use support::agent::Uplink;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_learned_is_written_down_and_damage_is_kept_aside() {
    let ground = Ground::new();
    let learned = ground.data().join("series.state");
    let collector = ground.serve("");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", &"a".repeat(32)).await.unwrap();
    assert_eq!(uplink.deliver(1, 130).await.unwrap(), 130);
    drop(uplink);
    assert_eq!(collector.stop(), Some(0));
    let mut bytes = std::fs::read(&learned).unwrap();
    assert!(bytes.starts_with(b"SKGL"));
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&learned, &bytes).unwrap();

    let collector = ground.serve("");
    assert!(collector.log().contains("all series are learned anew"), "{}", collector.log());
    assert_eq!(std::fs::read(ground.data().join("quarantine/wal/series.state")).unwrap(), bytes);
    assert_eq!(collector.stop(), Some(0));
    assert_ne!(std::fs::read(&learned).unwrap(), bytes, "what is learned from here on is written down");

    let collector = ground.serve("");
    assert_eq!(collector.log().matches("learned anew").count(), 1, "only the second start: {}", collector.log());
    assert_eq!(collector.stop(), Some(0));
}
