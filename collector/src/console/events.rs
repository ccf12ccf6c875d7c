//! Discrete events out of durable batches.

use std::collections::BTreeSet;

use skep_wire::chunk;
use skep_wire::v1::{self, column_data::Data};

/// Tables whose rows are events.
pub const TABLES: [&str; 3] = ["processes", "connections", "findings"];

/// Kinds a listener may ask for.
pub const KINDS: [&str; 7] = ["fork", "exec", "exit", "open", "close", "fail", "finding"];

/// Which kinds a listener wants.
#[derive(Debug, Clone)]
pub struct Filter(BTreeSet<String>);

impl Filter {
    /// Reads a request's kinds; none means all.
    ///
    /// # Errors
    /// The first kind there is not.
    pub fn parse(kinds: Vec<String>) -> Result<Self, String> {
        if let Some(unknown) = kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
            return Err(unknown.clone());
        }
        if kinds.is_empty() { Ok(Self(KINDS.map(str::to_owned).into())) } else { Ok(Self(kinds.into_iter().collect())) }
    }

    /// The wanted rows of `chunk`; `None` when there are none.
    pub fn apply(&self, chunk: &v1::Chunk) -> Option<v1::Chunk> {
        let wanted = |kind: Option<&str>| kind.is_some_and(|kind| self.0.contains(kind));
        let keep: Vec<usize> = match chunk.table.as_str() {
            "processes" | "connections" => {
                let rows = chunk::rows(chunk).enumerate();
                rows.filter(|(_, row)| wanted(row.text("event"))).map(|(index, _)| index).collect()
            }
            "findings" if wanted(Some("finding")) => (0..chunk.rows as usize).collect(),
            _ => return None,
        };
        (!keep.is_empty()).then(|| select(chunk, &keep))
    }
}

/// The rows `keep` (ascending) of a checked chunk.
fn select(chunk: &v1::Chunk, keep: &[usize]) -> v1::Chunk {
    if keep.len() == chunk.rows as usize {
        return chunk.clone();
    }
    let columns = chunk.columns.iter().map(|column| v1::ColumnData {
        name: column.name.clone(),
        validity: select_bits(column, keep),
        data: column.data.as_ref().map(|data| select_data(data, keep)),
    });
    v1::Chunk { table: chunk.table.clone(), rows: keep.len() as u32, columns: columns.collect() }
}

fn select_bits(column: &v1::ColumnData, keep: &[usize]) -> Vec<u8> {
    if column.validity.is_empty() {
        return Vec::new();
    }
    let mut bits = vec![0u8; keep.len().div_ceil(8)];
    for (to, &from) in keep.iter().enumerate() {
        bits[to / 8] |= u8::from(chunk::is_present(column, from)) << (to % 8);
    }
    bits
}

fn select_data(data: &Data, keep: &[usize]) -> Data {
    fn at<T: Copy>(values: &[T], keep: &[usize]) -> Vec<T> {
        keep.iter().filter_map(|&row| values.get(row).copied()).collect()
    }
    match data {
        Data::Ints(ints) => Data::Ints(v1::Ints { values: at(&ints.values, keep) }),
        Data::Floats(floats) => Data::Floats(v1::Floats { values: at(&floats.values, keep) }),
        Data::Texts(texts) => {
            Data::Texts(v1::Texts { dictionary: texts.dictionary.clone(), index: at(&texts.index, keep) })
        }
        Data::TextLists(lists) => {
            let items = lists.items.clone().unwrap_or_default();
            let inner = ranges(&lists.lengths, keep);
            let index = at(&items.index, &inner);
            Data::TextLists(v1::TextLists {
                lengths: at(&lists.lengths, keep),
                items: Some(v1::Texts { dictionary: items.dictionary, index }),
            })
        }
        Data::Histograms(histograms) => {
            let inner = ranges(&histograms.lengths, keep);
            Data::Histograms(v1::Histograms {
                lengths: at(&histograms.lengths, keep),
                buckets: at(&histograms.buckets, &inner),
                counts: at(&histograms.counts, &inner),
            })
        }
    }
}

/// Positions of the items of the kept rows.
fn ranges(lengths: &[u32], keep: &[usize]) -> Vec<usize> {
    let mut starts = Vec::with_capacity(lengths.len());
    let mut start = 0usize;
    for &length in lengths {
        starts.push(start);
        start += length as usize;
    }
    keep.iter()
        .filter_map(|&row| Some((*starts.get(row)?, *lengths.get(row)? as usize)))
        .flat_map(|(start, length)| start..start + length)
        .collect()
}

#[cfg(test)]
mod tests {
    use skep_wire::chunk::Builder;
    use skep_wire::tables::{CPU, PROCESSES};

    use super::*;

    fn processes() -> v1::Chunk {
        let mut builder = Builder::new(&PROCESSES);
        for (n, event) in ["fork", "exec", "running", "exec", "exit"].into_iter().enumerate() {
            builder.int("time", n as i64).text("event", event).int("pid", n as i64).int("start_ns", 1);
            builder.text("comm", "sh").text("workload", "host").text("attribution", "exact").int("parent_pid", 1);
            builder.bool("argv_truncated", false);
            if event == "exec" {
                builder.text_list("argv", &["sh".to_owned(), n.to_string()]).int("uid", n as i64);
            }
            builder.end_row().unwrap();
        }
        builder.finish().unwrap()
    }

    #[test]
    fn only_wanted_rows_come_and_they_are_whole() {
        let filter = Filter::parse(vec!["exec".to_owned()]).unwrap();
        let chosen = filter.apply(&processes()).unwrap();
        assert_eq!(chunk::check(&chosen, &PROCESSES), Ok(0));
        let rows: Vec<_> = chunk::rows(&chosen).collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1].text_list("argv"), Some(vec!["sh", "3"]));
        assert_eq!((rows[0].int("uid"), rows[0].int("pid")), (Some(1), Some(1)));
    }

    #[test]
    fn without_kinds_everything_that_happened_comes() {
        let filter = Filter::parse(Vec::new()).unwrap();
        assert_eq!(filter.apply(&processes()).unwrap().rows, 4);
        let cpu = v1::Chunk { table: CPU.name.to_owned(), rows: 1, columns: Vec::new() };
        assert_eq!(filter.apply(&cpu), None);
    }

    #[test]
    fn a_kind_there_is_not_is_named() {
        assert_eq!(Filter::parse(vec!["exek".to_owned()]).unwrap_err(), "exek");
    }

    #[test]
    fn histograms_are_cut_with_their_rows() {
        let data = Data::Histograms(v1::Histograms {
            lengths: vec![2, 1, 3],
            buckets: vec![1, 2, 3, 4, 5, 6],
            counts: vec![10, 20, 30, 40, 50, 60],
        });
        let Data::Histograms(cut) = select_data(&data, &[0, 2]) else { panic!("another kind") };
        assert_eq!((cut.lengths, cut.buckets), (vec![2, 3], vec![1, 2, 4, 5, 6]));
        assert_eq!(cut.counts, [10, 20, 40, 50, 60]);
    }
}
