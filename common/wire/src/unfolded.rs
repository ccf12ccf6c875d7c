//! What an encoded batch takes in memory, told without decoding it.
//!
//! An empty text of two bytes takes a hundred once it is decoded, and a row that is only counted as much as all the
//! columns of its table: a batch of some kilobytes could unfold to gigabytes. Whoever reads what others send looks first.
//!
//! Cost: one pass over the bytes, most of it counting where numbers end. Source: Protocol Buffers, "Encoding".

use std::mem::size_of;

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::{tables, v1};

/// A vector of numbers has room for twice as many, if they come in pieces.
const NUMBERS_GROW: usize = 2;

/// A vector of anything larger has room for four even if there is one.
const OTHERS_GROW: usize = 4;

/// A value of a row, or its number in a dictionary.
const VALUE_BYTES: usize = 8;

/// Messages of a batch that have others or lists in them.
#[derive(Clone, Copy)]
enum Message {
    Batch,
    Delivery,
    Chunk,
    Column,
    Ints,
    Floats,
    Texts,
    TextLists,
    Histograms,
}

/// What a field holds that takes more than it has bytes.
enum Field {
    /// A message, in a vector of structs of so many bytes or in its place already.
    Message(Message, usize),
    /// Texts.
    Texts,
    /// Numbers of so many bytes, each encoded in one byte or more.
    Numbers(usize),
    /// Numbers encoded in as many bytes as they take.
    Fixed,
}

fn field(of: Message, number: u32) -> Option<Field> {
    use Message::{Batch, Chunk, Column, Delivery, Floats, Histograms, Ints, TextLists, Texts};
    Some(match (of, number) {
        (Batch, 2) => Field::Message(Chunk, size_of::<v1::Chunk>()),
        (Batch, 3) => Field::Message(Delivery, size_of::<v1::Delivery>()),
        (Chunk, 3) => Field::Message(Column, size_of::<v1::ColumnData>()),
        (Column, 2) => Field::Message(Ints, 0),
        (Column, 3) => Field::Message(Floats, 0),
        (Column, 4) | (TextLists, 2) => Field::Message(Texts, 0),
        (Column, 5) => Field::Message(TextLists, 0),
        (Column, 6) => Field::Message(Histograms, 0),
        (Texts, 1) => Field::Texts,
        (Texts, 2) | (TextLists, 1) | (Histograms, 1 | 2) => Field::Numbers(size_of::<u32>()),
        (Ints, 1) | (Histograms, 3) => Field::Numbers(size_of::<u64>()),
        (Floats, 1) => Field::Fixed,
        _ => return None,
    })
}

/// The most bytes `batch`, encoded, takes once it is decoded, and its rows beside it as arrays. Of what is no batch, what
/// was decoded before that shows.
pub(crate) fn bytes(batch: &[u8]) -> usize {
    message(Message::Batch, batch)
}

fn message(of: Message, mut bytes: &[u8]) -> usize {
    let mut all = 0;
    let (mut table, mut rows) = (&[][..], 0);
    while let Some((number, value)) = next(&mut bytes) {
        match (of, number, value) {
            (Message::Chunk, 2, Value::Number(number)) => rows = number as u32 as usize,
            (Message::Chunk, 1, Value::Bytes(name)) => table = name,
            _ => {}
        }
        all += match value {
            Value::Bytes(bytes) => taken(field(of, number), bytes),
            Value::Number(_) => NUMBERS_GROW * VALUE_BYTES,
        };
    }
    all + rows * columns(table) * VALUE_BYTES
}

fn taken(field: Option<Field>, bytes: &[u8]) -> usize {
    match field {
        Some(Field::Message(inner, in_vector)) => OTHERS_GROW * in_vector + message(inner, bytes),
        Some(Field::Texts) => OTHERS_GROW * size_of::<String>() + bytes.len(),
        Some(Field::Numbers(width)) => NUMBERS_GROW * width * bytes.iter().filter(|byte| **byte < 0x80).count(),
        Some(Field::Fixed) => NUMBERS_GROW * bytes.len(),
        None => bytes.len(),
    }
}

/// How many columns rows of a table have, whichever of them come; those of an unknown table are stored nowhere.
fn columns(table: &[u8]) -> usize {
    let table = std::str::from_utf8(table).ok().and_then(tables::find);
    table.map_or(0, |table| table.stored_columns().count())
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Bytes(&'a [u8]),
    Number(u64),
}

/// The next field; `None` at the end, and where there is none.
fn next<'a>(bytes: &mut &'a [u8]) -> Option<(u32, Value<'a>)> {
    let (number, wire_type) = decode_key(bytes).ok()?;
    let value = match wire_type {
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(bytes).ok()?).ok()?;
            let (value, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Value::Bytes(value)
        }
        WireType::Varint => Value::Number(decode_varint(bytes).ok()?),
        _ => {
            skip_field(wire_type, number, bytes, DecodeContext::default()).ok()?;
            Value::Number(0)
        }
    };
    Some((number, value))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::chunk::Builder;

    fn of(batch: &v1::Batch) -> usize {
        bytes(&batch.encode_to_vec())
    }

    fn chunk(columns: Vec<v1::ColumnData>) -> v1::Chunk {
        v1::Chunk { table: "unknown".to_owned(), rows: 0, columns }
    }

    fn column(data: v1::column_data::Data) -> v1::ColumnData {
        v1::ColumnData { data: Some(data), ..v1::ColumnData::default() }
    }

    #[test]
    fn what_is_small_as_it_comes_counts_as_what_it_becomes() {
        use v1::column_data::Data;
        let many = 10_000;
        let ints = column(Data::Ints(v1::Ints { values: vec![1; many] }));
        let counts = v1::Histograms { counts: vec![1; many], buckets: vec![1; many], lengths: Vec::new() };
        let texts = v1::Texts { dictionary: vec![String::new(); many], index: Vec::new() };
        let lists = v1::TextLists { lengths: vec![1; many], items: Some(texts.clone()) };
        let empty = v1::Batch { chunks: vec![chunk(Vec::new())], ..v1::Batch::default() };
        let with = |data| v1::Batch { chunks: vec![chunk(vec![column(data)])], ..v1::Batch::default() };
        let deliveries = vec![v1::Delivery::default(); many];
        for (least, batch) in [
            (8, v1::Batch { chunks: vec![chunk(vec![ints])], ..v1::Batch::default() }),
            (8, with(Data::Floats(v1::Floats { values: vec![0.5; many] }))),
            (12, with(Data::Histograms(counts))),
            (size_of::<String>(), with(Data::Texts(texts))),
            (size_of::<String>() + 4, with(Data::TextLists(lists))),
            (size_of::<v1::Delivery>(), v1::Batch { deliveries, ..v1::Batch::default() }),
            (
                size_of::<v1::ColumnData>(),
                v1::Batch { chunks: vec![chunk(vec![v1::ColumnData::default(); many])], ..v1::Batch::default() },
            ),
            (size_of::<v1::Chunk>(), v1::Batch { chunks: vec![v1::Chunk::default(); many], ..v1::Batch::default() }),
        ] {
            let found = of(&batch) - of(&empty);
            assert!((least * many..5 * least * many).contains(&found), "{found} for {many} of {least} bytes");
        }
    }

    #[test]
    fn rows_count_though_nothing_is_said_of_them() {
        let rows = |rows, table: &str| v1::Batch {
            chunks: vec![v1::Chunk { table: table.to_owned(), rows, columns: Vec::new() }],
            ..v1::Batch::default()
        };
        let columns = tables::CPU.stored_columns().count();
        assert!((columns * 8_000_000..columns * 8_000_000 + 1_000).contains(&of(&rows(1_000_000, "cpu"))));
        assert!(of(&rows(1_000_000, "of a later release")) < 1_000);
    }

    #[test]
    fn rows_as_agents_send_them_unfold_to_a_few_times_what_they_are() {
        let mut cpu = Builder::new(&tables::CPU);
        for pid in 0..1_000 {
            cpu.int("time", 1_795_305_590_000_000).float("window_s", 10.0).int("pid", pid).int("start_ns", 1);
            cpu.text("comm", "x").text("workload", "unit:x").text("attribution", "exact").int("on_cpu_ns", 1);
            cpu.int("slices", 1).int("voluntary_switches", 1).int("involuntary_switches", 0).int("migrations", 0);
            cpu.int("run_queue_delay_count", 3).int("run_queue_delay_sum_ns", 60).int("off_cpu_count", 0);
            cpu.histogram("run_queue_delay", [(10, 1), (20, 1), (30, 1)]).histogram("off_cpu", []);
            cpu.int("off_cpu_sum_ns", 0).float("coverage", 1.0).end_row().unwrap();
        }
        let batch = v1::Batch { chunks: cpu.finish().into_iter().collect(), ..v1::Batch::default() }.encode_to_vec();
        let times = bytes(&batch) as f64 / batch.len() as f64;
        assert!((5.0..15.0).contains(&times), "{times}");
    }

    #[test]
    fn what_is_no_batch_is_no_more_than_what_comes_before_that() {
        assert_eq!(bytes(&[0xff; 20]), 0);
        let mut batch = v1::Batch { deliveries: vec![v1::Delivery::default()], ..v1::Batch::default() }.encode_to_vec();
        let whole = bytes(&batch);
        // A chunk that is longer than what is left.
        batch.extend([0x12, 0x7f, 0]);
        assert_eq!(bytes(&batch), whole);
    }
}
