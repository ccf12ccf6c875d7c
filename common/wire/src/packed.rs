//! Messages that are long lists of numbers. Their encoding is protobuf's own; what is ours is that a list is read eight
//! bytes at a time into room made once, for a collector does little else.

use prost::DecodeError;
use prost::Message;
use prost::bytes::{Buf, BufMut};
use prost::encoding::{self, DecodeContext, WireType, sint64, string, uint32, uint64};

/// Integers, booleans (0 and 1) and times (microseconds since the epoch).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Ints {
    /// One a row.
    pub values: Vec<i64>,
}

/// Texts of a column.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Texts {
    /// Every different one.
    pub dictionary: Vec<String>,
    /// Into `dictionary`, one a row.
    pub index: Vec<u32>,
}

/// Distributions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Histograms {
    /// Non-empty buckets a row.
    pub lengths: Vec<u32>,
    /// Bucket indices, ascending within a row; after a row's first, the difference to the one before.
    pub buckets: Vec<u32>,
    /// One a bucket.
    pub counts: Vec<u64>,
}

impl Message for Ints {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        sint64::encode_packed(1, &self.values, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 if read(wire_type, buf, &mut self.values, zigzag) => Ok(()),
            1 => sint64::merge_repeated(wire_type, &mut self.values, buf, context),
            _ => encoding::skip_field(wire_type, tag, buf, context),
        }
    }

    fn encoded_len(&self) -> usize {
        sint64::encoded_len_packed(1, &self.values)
    }

    fn clear(&mut self) {
        self.values.clear();
    }
}

impl Message for Texts {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        string::encode_repeated(1, &self.dictionary, buf);
        uint32::encode_packed(2, &self.index, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => string::merge_repeated(wire_type, &mut self.dictionary, buf, context),
            2 if read(wire_type, buf, &mut self.index, |value| value as u32) => Ok(()),
            2 => uint32::merge_repeated(wire_type, &mut self.index, buf, context),
            _ => encoding::skip_field(wire_type, tag, buf, context),
        }
    }

    fn encoded_len(&self) -> usize {
        string::encoded_len_repeated(1, &self.dictionary) + uint32::encoded_len_packed(2, &self.index)
    }

    fn clear(&mut self) {
        self.dictionary.clear();
        self.index.clear();
    }
}

impl Message for Histograms {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        uint32::encode_packed(1, &self.lengths, buf);
        uint32::encode_packed(2, &self.buckets, buf);
        uint64::encode_packed(3, &self.counts, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 if read(wire_type, buf, &mut self.lengths, |value| value as u32) => Ok(()),
            1 => uint32::merge_repeated(wire_type, &mut self.lengths, buf, context),
            2 if read(wire_type, buf, &mut self.buckets, |value| value as u32) => Ok(()),
            2 => uint32::merge_repeated(wire_type, &mut self.buckets, buf, context),
            3 if read(wire_type, buf, &mut self.counts, |value| value) => Ok(()),
            3 => uint64::merge_repeated(wire_type, &mut self.counts, buf, context),
            _ => encoding::skip_field(wire_type, tag, buf, context),
        }
    }

    fn encoded_len(&self) -> usize {
        uint32::encoded_len_packed(1, &self.lengths)
            + uint32::encoded_len_packed(2, &self.buckets)
            + uint64::encoded_len_packed(3, &self.counts)
    }

    fn clear(&mut self) {
        self.lengths.clear();
        self.buckets.clear();
        self.counts.clear();
    }
}

fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Of eight bytes, the bits that say that more of a number follows.
const TOP_BITS: u64 = 0x8080_8080_8080_8080;

/// Reads a packed list. What is not plainly one is left as it was, for prost to say what is wrong with it.
fn read<T>(wire_type: WireType, buf: &mut impl Buf, values: &mut Vec<T>, of: impl Fn(u64) -> T) -> bool {
    if wire_type != WireType::LengthDelimited {
        return false;
    }
    let (bytes, before) = (buf.chunk(), values.len());
    let Some((length, mut at)) = varint(bytes) else { return false };
    let end = usize::try_from(length).ok().and_then(|length| at.checked_add(length));
    let Some(bytes) = end.and_then(|end| bytes.get(..end)) else { return false };
    values.reserve(bytes[at..].iter().filter(|byte| **byte < 0x80).count());
    while at < bytes.len() {
        // Most of what is counted is small: eight numbers of a byte each are told from others at one look.
        if let Some(eight) = bytes[at..].first_chunk::<8>()
            && u64::from_le_bytes(*eight) & TOP_BITS == 0
        {
            values.extend(eight.iter().map(|byte| of(u64::from(*byte))));
            at += 8;
            continue;
        }
        let Some((value, taken)) = varint(&bytes[at..]) else {
            values.truncate(before);
            return false;
        };
        values.push(of(value));
        at += taken;
    }
    buf.advance(at);
    true
}

/// The number `bytes` begin with, and how many bytes it has; `None` where there is none.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    if let Some(eight) = bytes.first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        let last = !word & TOP_BITS;
        if last != 0 {
            // Seven bits of each byte up to the first whose top bit is not set, brought together in three steps.
            let bits = last.trailing_zeros() + 1;
            let word = word & (u64::MAX >> (64 - bits));
            let word = (word & 0x007f_007f_007f_007f) | ((word & 0x7f00_7f00_7f00_7f00) >> 1);
            let word = (word & 0x0000_3fff_0000_3fff) | ((word & 0x3fff_0000_3fff_0000) >> 2);
            let word = (word & 0x0fff_ffff) | ((word & 0x0fff_ffff_0000_0000) >> 4);
            return Some((word, (bits / 8) as usize));
        }
    }
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        let seven = u64::from(byte & 0x7f);
        if at == 9 && seven > 1 {
            return None;
        }
        value |= seven << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same messages as prost makes them.
    mod theirs {
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Ints {
            #[prost(sint64, repeated, tag = "1")]
            pub(super) values: Vec<i64>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Texts {
            #[prost(string, repeated, tag = "1")]
            pub(super) dictionary: Vec<String>,
            #[prost(uint32, repeated, tag = "2")]
            pub(super) index: Vec<u32>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Histograms {
            #[prost(uint32, repeated, tag = "1")]
            pub(super) lengths: Vec<u32>,
            #[prost(uint32, repeated, tag = "2")]
            pub(super) buckets: Vec<u32>,
            #[prost(uint64, repeated, tag = "3")]
            pub(super) counts: Vec<u64>,
        }
    }

    /// Numbers of every length.
    fn number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0u32..64).prop_map(|(number, shift)| number >> shift)
    }

    fn numbers() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(number(), 0..40)
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_prost_writes_and_reads(a in numbers(), b in numbers(), texts in prop::collection::vec(".{0,9}", 0..4)) {
            let values: Vec<i64> = a.iter().map(|number| number.cast_signed()).collect();
            let ours = Ints { values: values.clone() };
            let bytes = theirs::Ints { values }.encode_to_vec();
            prop_assert_eq!(ours.encode_to_vec(), bytes.clone());
            prop_assert_eq!(Ints::decode(bytes.as_slice()).unwrap(), ours);

            let index: Vec<u32> = a.iter().map(|number| *number as u32).collect();
            let ours = Texts { dictionary: texts.clone(), index: index.clone() };
            let bytes = theirs::Texts { dictionary: texts, index: index.clone() }.encode_to_vec();
            prop_assert_eq!(ours.encode_to_vec(), bytes.clone());
            prop_assert_eq!(Texts::decode(bytes.as_slice()).unwrap(), ours);

            let buckets: Vec<u32> = b.iter().map(|number| *number as u32).collect();
            let ours = Histograms { lengths: index.clone(), buckets: buckets.clone(), counts: b.clone() };
            let bytes = theirs::Histograms { lengths: index, buckets, counts: b }.encode_to_vec();
            prop_assert_eq!(ours.encode_to_vec(), bytes.clone());
            prop_assert_eq!(Histograms::decode(bytes.as_slice()).unwrap(), ours);
        }

        #[test]
        fn bytes_that_are_no_message_are_read_and_refused_as_prost_does(bytes in prop::collection::vec(any::<u8>(), 0..40), tag in 1u8..5) {
            let bytes = [vec![tag << 3 | 2, bytes.len() as u8], bytes].concat();
            let theirs = theirs::Histograms::decode(bytes.as_slice()).map(|theirs| (theirs.lengths, theirs.buckets, theirs.counts)).ok();
            let ours = Histograms::decode(bytes.as_slice()).map(|ours| (ours.lengths, ours.buckets, ours.counts)).ok();
            prop_assert_eq!(ours, theirs);
            let theirs = theirs::Ints::decode(bytes.as_slice()).map(|theirs| theirs.values).ok();
            prop_assert_eq!(Ints::decode(bytes.as_slice()).map(|ours| ours.values).ok(), theirs);
        }
    }

    #[test]
    fn a_list_that_is_cut_off_or_not_packed_is_judged_by_prost() {
        assert!(Ints::decode([0x0a, 5, 1].as_slice()).is_err());
        assert!(Ints::decode([0x0a, 1, 0x80].as_slice()).is_err());
        assert_eq!(Ints::decode([0x08, 2, 0x08, 4].as_slice()).unwrap().values, [1, 2]);
        let twice = [Ints { values: vec![1] }.encode_to_vec(), Ints { values: vec![-1] }.encode_to_vec()].concat();
        assert_eq!(Ints::decode(twice.as_slice()).unwrap().values, [1, -1]);
    }
}
