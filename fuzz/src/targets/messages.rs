//! Messages of the gRPC services, and what is made of those that carry more than fields.
//!
//! Input: a byte that chooses the message, then its encoding.

use bytes::Bytes;
use prost::Message;
use tonic::{Code, Status};
use vltava_broker::api::records;
use vltava_proto::status;
use vltava_proto::v1::*;

/// Decodes a message of one kind; encoding it again must lose nothing.
fn both_ways<M: Message + Default + PartialEq>(bytes: &[u8]) {
    let Ok(message) = M::decode(bytes) else { return };
    let again = M::decode(&message.encode_to_vec()[..]).expect("what was encoded can be decoded");
    assert!(message == again, "encoding loses nothing");
}

/// Every message that a listener or a client reads.
const KINDS: &[fn(&[u8])] = &[
    both_ways::<CreateTopicsRequest>,
    both_ways::<DeleteTopicsRequest>,
    both_ways::<CreatePartitionsRequest>,
    both_ways::<DescribeTopicsResponse>,
    both_ways::<DeleteRecordsRequest>,
    both_ways::<ElectLeadersRequest>,
    both_ways::<DescribeConfigsResponse>,
    both_ways::<AlterConfigsRequest>,
    both_ways::<DescribeClusterResponse>,
    both_ways::<DescribeQuorumResponse>,
    both_ways::<AddVoterRequest>,
    both_ways::<RemoveVoterRequest>,
    both_ways::<UnregisterBrokerRequest>,
    both_ways::<ProduceResponse>,
    both_ways::<FetchRequest>,
    both_ways::<ConsumeRequest>,
    both_ways::<FetchResponse>,
    both_ways::<ListOffsetsRequest>,
    both_ways::<ListOffsetsResponse>,
    both_ways::<MetadataRequest>,
    both_ways::<MetadataResponse>,
    both_ways::<InitProducerResponse>,
    both_ways::<BrokerMessage>,
    both_ways::<ControllerMessage>,
    both_ways::<AlterPartitionsRequest>,
    both_ways::<AlterPartitionsResponse>,
    both_ways::<AllocateProducerIdsRequest>,
    both_ways::<AssignDirectoriesRequest>,
    both_ways::<IdentifyResponse>,
    both_ways::<ObserveRequest>,
    both_ways::<RaftRequest>,
    both_ways::<RaftResponse>,
    both_ways::<FollowerMessage>,
    both_ways::<LeaderMessage>,
    produce,
    plain,
    error,
];

/// What a producer sends, with the records that it may leave to the broker to put into a batch.
fn produce(bytes: &[u8]) {
    both_ways::<ProduceRequest>(bytes);
    both_ways::<PlainRecords>(bytes);
    plain(bytes);
}

fn plain(bytes: &[u8]) {
    let Ok(plain) = PlainRecords::decode(bytes) else { return };
    let sent = plain.len();
    let Ok(batch) = records::encode(&plain, 1_000) else { return };
    let decoded = records::decode(batch, vltava_model::Offset::ZERO).expect("a batch of our own can be read");
    assert_eq!(decoded.len(), sent);
}

/// How errors travel: whatever a server sends, a client makes an error of it.
fn error(bytes: &[u8]) {
    both_ways::<ErrorDetail>(bytes);
    if let Ok(detail) = ErrorDetail::decode(bytes) {
        let code = status::code_of(&detail);
        assert_eq!(status::code_of(&status::detail_of(&status::from_detail(detail))), code);
    }
    let raw = tonic_status(bytes);
    let _ = status::detail_of(&raw);
}

/// A status whose details are these bytes.
fn tonic_status(details: &[u8]) -> Status {
    Status::with_details(Code::Internal, "made up", Bytes::copy_from_slice(details))
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let record = Record { value: Some("value".into()), key: Some("key".into()), ..Record::default() };
    let plain = [record.clone(), record].into_iter().collect::<PlainRecords>().encode_to_vec();
    let topic = CreateTopicsRequest {
        topics: vec![NewTopic { name: "orders".to_owned(), ..NewTopic::default() }],
        ..CreateTopicsRequest::default()
    };
    let mut seeds = Vec::new();
    for kind in 0..u8::try_from(KINDS.len()).expect("there are few kinds") {
        for body in [
            &plain[..],
            &topic.encode_to_vec(),
            b"\x08\x01\x12\x02\x08\x05",
            b"\x0a\x10aaaaaaaaaaaaaaaa\x10\x07",
        ] {
            seeds.push([&[kind][..], body].concat());
        }
    }
    seeds
}

pub(super) fn run(input: &[u8]) {
    let Some((&kind, bytes)) = input.split_first() else { return };
    KINDS[usize::from(kind) % KINDS.len()](bytes);
}
