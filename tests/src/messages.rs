//! Messages for any method of our services, made from the services' own descriptors and then bent, so that a new field or
//! method is tried without a line here. Knows nothing of what any of them means.

use std::collections::HashMap;

use bytes::{BufMut, Bytes};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use rand::RngExt;
use rand::rngs::StdRng;

/// Messages are not nested deeper.
const DEPTH_MAX: u32 = 6;

/// The messages and methods there are.
#[derive(Debug)]
pub struct Grammar {
    messages: HashMap<String, DescriptorProto>,
    enums: HashMap<String, EnumDescriptorProto>,
    methods: Vec<Method>,
}

/// One method.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Method {
    /// As HTTP/2 names it: `/vltava.v1.Log/Fetch`.
    pub path: String,
    /// The full name of the message that it takes.
    pub input: String,
    /// What it takes and what it gives.
    pub shape: Shape,
}

/// How many messages a call carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// One each way: it ends by itself.
    Unary,
    /// Several in one direction or both.
    Streaming,
}

/// What fields are filled with.
#[derive(Clone, Debug)]
pub struct Words {
    /// For names and values: some that exist, and some that don't.
    pub strings: Vec<String>,
    /// For ids, batches and bodies.
    pub bytes: Vec<Bytes>,
    /// For offsets, epochs, ids, sizes and times alike.
    pub numbers: Vec<u64>,
    /// Fields that always have one value, by name.
    pub fixed: HashMap<&'static str, Bytes>,
}

impl Grammar {
    /// Of an encoded `FileDescriptorSet`, as `vltava_proto::DESCRIPTORS` is one.
    ///
    /// # Panics
    /// When it is none: it comes from our own build.
    pub fn new(descriptors: &[u8]) -> Self {
        let set = FileDescriptorSet::decode(descriptors).expect("descriptors of our own can be read");
        let mut grammar = Self { messages: HashMap::new(), enums: HashMap::new(), methods: Vec::new() };
        for file in set.file {
            let package = format!(".{}", file.package());
            for service in &file.service {
                grammar.methods.extend(service.method.iter().map(|method| Method {
                    path: format!("/{}.{}/{}", file.package(), service.name(), method.name()),
                    input: method.input_type().to_owned(),
                    shape: if method.client_streaming() || method.server_streaming() {
                        Shape::Streaming
                    } else {
                        Shape::Unary
                    },
                }));
            }
            for item in file.enum_type {
                grammar.enums.insert(format!("{package}.{}", item.name()), item);
            }
            for message in file.message_type {
                grammar.learn(&package, message);
            }
        }
        grammar
    }

    fn learn(&mut self, scope: &str, message: DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for item in &message.enum_type {
            self.enums.insert(format!("{name}.{}", item.name()), item.clone());
        }
        for inner in &message.nested_type {
            self.learn(&name, inner.clone());
        }
        self.messages.insert(name, message);
    }

    /// The methods of a service, as `vltava.v1.Log`.
    pub fn methods(&self, service: &str) -> impl Iterator<Item = &Method> {
        let prefix = format!("/{service}/");
        self.methods.iter().filter(move |method| method.path.starts_with(&prefix))
    }

    /// A message of this type, encoded, with any of its fields.
    ///
    /// # Panics
    /// When there is no such message.
    pub fn message(&self, name: &str, words: &Words, rng: &mut StdRng) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.fill(name, words, rng, 0, &mut bytes);
        bytes
    }

    fn fill(&self, name: &str, words: &Words, rng: &mut StdRng, depth: u32, out: &mut Vec<u8>) {
        let message = self.messages.get(name).unwrap_or_else(|| panic!("no message is called {name}"));
        for field in &message.field {
            let times = if field.label() == Label::Repeated {
                rng.random_range(0..4)
            } else {
                // Most fields are there: a request that lacks something is refused before it reaches anything. What may be
                // left out often is, since it narrows down what is right.
                u32::from(rng.random_bool(if field.proto3_optional() { 0.3 } else { 0.9 }))
            };
            for _ in 0..times {
                self.field(field, words, rng, depth, out);
            }
        }
    }

    fn field(
        &self,
        field: &FieldDescriptorProto,
        words: &Words,
        rng: &mut StdRng,
        depth: u32,
        out: &mut Vec<u8>,
    ) {
        let tag = u32::try_from(field.number()).expect("numbers of fields are positive");
        let mut delimited = |bytes: &[u8]| {
            encode_key(tag, WireType::LengthDelimited, out);
            encode_varint(bytes.len() as u64, out);
            out.put_slice(bytes);
        };
        match field.r#type() {
            Type::Message if depth < DEPTH_MAX => {
                let mut inner = Vec::new();
                self.fill(field.type_name(), words, rng, depth + 1, &mut inner);
                delimited(&inner);
            }
            Type::Message | Type::Group => {}
            Type::String => delimited(one_of(&words.strings, rng).as_bytes()),
            Type::Bytes => match words.fixed.get(field.name()) {
                Some(bytes) => delimited(bytes),
                None => delimited(&one_of::<Bytes>(&words.bytes, rng)[..]),
            },
            Type::Enum => {
                let values = &self.enums[field.type_name()].value;
                encode_key(tag, WireType::Varint, out);
                encode_varint(i64::from(one_of(values, rng).number()).cast_unsigned(), out);
            }
            Type::Bool => {
                encode_key(tag, WireType::Varint, out);
                encode_varint(rng.random_range(0..2), out);
            }
            Type::Double | Type::Fixed64 | Type::Sfixed64 => {
                encode_key(tag, WireType::SixtyFourBit, out);
                out.put_u64_le(*one_of(&words.numbers, rng));
            }
            Type::Float | Type::Fixed32 | Type::Sfixed32 => {
                encode_key(tag, WireType::ThirtyTwoBit, out);
                out.put_u32_le(*one_of(&words.numbers, rng) as u32);
            }
            Type::Int64 | Type::Uint64 | Type::Sint64 | Type::Int32 | Type::Uint32 | Type::Sint32 => {
                encode_key(tag, WireType::Varint, out);
                encode_varint(*one_of(&words.numbers, rng), out);
            }
        }
    }
}

fn one_of<'a, T>(of: &'a [T], rng: &mut StdRng) -> &'a T {
    &of[rng.random_range(0..of.len())]
}

/// Changes a few of a message's bytes: most of it stays what it was.
pub fn bend(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            bytes.push(rng.random());
        }
        let at = rng.random_range(0..bytes.len());
        let end = rng.random_range(at..=bytes.len().min(at + 32));
        match rng.random_range(0..7) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << rng.random_range(0..8),
            2 => bytes[at] = *one_of(&[0, 1, 0x7f, 0x80, 0xff], rng),
            3 => bytes.insert(at, rng.random()),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let again = bytes[at..end].to_vec();
                let place = rng.random_range(0..=bytes.len());
                bytes.splice(place..place, again);
            }
            _ => bytes[at..end].reverse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use vltava_proto::v1::{FetchRequest, FollowerMessage, ProduceRequest};

    use super::*;

    fn words() -> Words {
        Words {
            strings: vec!["orders".to_owned()],
            bytes: vec![Bytes::from_static(&[7; 16])],
            numbers: vec![0, 3, u64::from(u32::MAX)],
            fixed: HashMap::from([("cluster_id", Bytes::from_static(&[9; 16]))]),
        }
    }

    #[test]
    fn every_method_is_known_and_its_messages_can_be_read() {
        let grammar = Grammar::new(vltava_proto::DESCRIPTORS);
        let mut rng = StdRng::seed_from_u64(1);
        let log: Vec<&str> = grammar.methods("vltava.v1.Log").map(|method| &method.path[..]).collect();
        assert!(log.contains(&"/vltava.v1.Log/Produce") && log.contains(&"/vltava.v1.Log/Fetch"), "{log:?}");
        assert!(grammar.methods("vltava.v1.Raft").count() >= 3);
        let (mut hello, mut records) = (0, 0);
        for _ in 0..200 {
            let fetch = grammar.message(".vltava.v1.FetchRequest", &words(), &mut rng);
            FetchRequest::decode(&fetch[..]).expect("a whole message can be read");
            let produce = grammar.message(".vltava.v1.ProduceRequest", &words(), &mut rng);
            let produce = ProduceRequest::decode(&produce[..]).expect("a whole message can be read");
            records += usize::from(produce.payload.is_some());
            let follow = grammar.message(".vltava.v1.FollowerMessage", &words(), &mut rng);
            let follow = FollowerMessage::decode(&follow[..]).expect("a whole message can be read");
            hello += usize::from(follow.hello.is_some_and(|hello| hello.cluster_id[..] == [9; 16]));
        }
        assert!(hello > 100 && records > 100, "{hello} {records}");
        for method in &grammar.methods {
            grammar.message(&method.input, &words(), &mut rng);
        }
    }

    #[test]
    fn bent_messages_differ_and_stay_short() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut changed = 0;
        for _ in 0..500 {
            let mut bytes = vec![8; 64];
            bend(&mut bytes, &mut rng);
            changed += usize::from(bytes != [8; 64]);
            assert!(bytes.len() < 256);
        }
        assert!(changed > 250, "{changed}");
    }
}
