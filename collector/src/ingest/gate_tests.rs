use std::future::poll_fn;

use bytes::BufMut;
use futures::FutureExt;
use http_body_util::StreamBody;
use prost::Message;
use skep_wire::v1::{self, up};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;

/// A message as it comes, with what precedes it.
pub(in crate::ingest) fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.put_u32(message.len() as u32);
    bytes.extend_from_slice(message);
    bytes
}

fn batch(bytes: usize) -> v1::Up {
    let envelope = v1::Envelope { payload: vec![7; bytes], ..v1::Envelope::default() };
    v1::Up { message: Some(up::Message::Batch(envelope)) }
}

/// A message that is read before all others.
fn hello() -> Vec<u8> {
    framed(&v1::Up { message: Some(up::Message::Hello(v1::Hello::default())) }.encode_to_vec())
}

/// What an agent sends on that was greeted, and the call as it comes out of the gate.
async fn greeted(gate: &Arc<Gate>) -> (mpsc::Sender<Vec<u8>>, Gated) {
    let (sender, mut call) = call(gate);
    sender.send(hello()).await.unwrap();
    read(&mut call, hello().len()).await;
    (sender, call)
}

/// What an agent sends on, and the call as it comes out of the gate.
pub(in crate::ingest) fn call(gate: &Arc<Gate>) -> (mpsc::Sender<Vec<u8>>, Gated) {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>(1_000_000);
    let frames =
        futures::StreamExt::map(ReceiverStream::new(receiver), |bytes| Ok::<_, Status>(Frame::data(bytes.into())));
    (sender, gate.pass(Body::new(StreamBody::new(frames))))
}

async fn next(call: &mut Gated) -> Option<Result<Bytes, Status>> {
    let frame = poll_fn(|cx| Pin::new(&mut *call).poll_frame(cx)).await;
    frame.map(|frame| frame.map(|frame| frame.into_data().unwrap()))
}

/// Reads so many bytes of a call.
async fn read(call: &mut Gated, bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < bytes {
        all.extend_from_slice(&next(call).await.unwrap().unwrap());
    }
    assert_eq!(all.len(), bytes, "nothing beyond the end of the message");
    all
}

#[tokio::test]
async fn all_that_comes_is_handed_on_message_by_message_however_it_is_cut() {
    let leave = v1::Up { message: Some(up::Message::Leave(v1::Leave { reason: "so".to_owned() })) };
    let messages = [leave, batch(300_000), batch(0), batch(1_000), batch(400_000), batch(500_000), v1::Up::default()];
    let messages = messages.map(|message| framed(&message.encode_to_vec()));
    for cut in [3, 7, 1_000, 16_384, usize::MAX] {
        let gate = Gate::new(1 << 20);
        let (sender, mut call) = call(&gate);
        for piece in messages.concat().chunks(cut) {
            sender.send(piece.to_vec()).await.unwrap();
        }
        drop(sender);
        for message in &messages {
            assert!(read(&mut call, message.len()).await == *message, "cut every {cut}");
            assert_eq!(call.holds_room(), message.len() > LARGE_BYTES);
        }
        assert!(next(&mut call).await.is_none());
        assert_eq!(gate.room.available_permits(), 1 << 20);
    }
}

#[tokio::test]
async fn a_large_message_waits_for_room_and_a_small_one_never_does() {
    let gate = Gate::new(1_000_000);
    let (large, small) = (framed(&batch(600_000).encode_to_vec()), framed(&batch(LARGE_BYTES - 100).encode_to_vec()));
    let (first_up, mut first) = greeted(&gate).await;
    let (second_up, mut second) = greeted(&gate).await;
    first_up.send(large.clone()).await.unwrap();
    read(&mut first, large.len()).await;
    second_up.send([small.clone(), large.clone()].concat()).await.unwrap();
    read(&mut second, small.len()).await;
    assert!(next(&mut second).now_or_never().is_none(), "600 kB of 1 MB are taken");
    let (third_up, mut third) = call(&gate);
    third_up.send(small.clone()).await.unwrap();
    read(&mut third, small.len()).await;

    assert!(next(&mut first).now_or_never().is_none(), "the first is read on, and its message was done with");
    read(&mut second, large.len()).await;
    drop(second);
    assert_eq!(gate.room.available_permits(), 1_000_000);
    assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn room_that_is_not_used_goes_to_who_waits_for_it() {
    let gate = Gate::new(1_000_000);
    let large = framed(&batch(600_000).encode_to_vec());
    let (slow_up, mut slow) = greeted(&gate).await;
    slow_up.send(large[..1_000].to_vec()).await.unwrap();
    read(&mut slow, 1_000).await;
    let alone = tokio::time::timeout(Duration::from_secs(100), next(&mut slow)).await;
    assert!(alone.is_err(), "nobody else wants the room");

    let (other_up, mut other) = greeted(&gate).await;
    other_up.send(large.clone()).await.unwrap();
    let length = large.len() - HEAD_BYTES;
    let reading = tokio::spawn(async move { read(&mut other, large.len()).await.len() });
    let status = next(&mut slow).await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(slow.given_up(), Some(length));
    assert_eq!(reading.await.unwrap(), HEAD_BYTES + length);
}

#[tokio::test]
async fn nothing_but_a_batch_may_be_large() {
    let gate = Gate::new(1 << 20);
    let hello = v1::Hello { probes: vec![String::new(); 200_000], ..v1::Hello::default() };
    let hello = v1::Up { message: Some(up::Message::Hello(hello)) };
    // Another message behind a batch, in one: the last one counts.
    let two = [batch(10).encode_to_vec(), hello.encode_to_vec()].concat();
    for message in [framed(&hello.encode_to_vec()), framed(&two)] {
        let (sender, mut call) = greeted(&gate).await;
        sender.send(message).await.unwrap();
        let status = next(&mut call).await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains("only a batch"), "{status}");
    }
    let (sender, mut call) = greeted(&gate).await;
    let beyond = framed(&batch(2 << 20).encode_to_vec());
    sender.send(beyond).await.unwrap();
    assert_eq!(next(&mut call).await.unwrap().unwrap().len(), HEAD_BYTES, "gRPC refuses it by its length");
}

#[tokio::test]
async fn who_was_not_greeted_gets_no_room() {
    let (sender, mut call) = call(&Gate::new(1 << 20));
    sender.send(framed(&batch(300_000).encode_to_vec())).await.unwrap();
    let status = next(&mut call).await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert!(status.message().starts_with("the first message must be a hello; this one has 300"), "{status}");
}
