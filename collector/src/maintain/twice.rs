//! What a rewrite leaves out because other collectors' files have it: the rule of [`crate::query::once`], for files.
//!
//! It holds only as long as those other files are live. So a rewrite goes in only then ([`Guard`]): of two collectors that
//! leave out for each other's sake, the second begins again. And since sums cannot be taken apart, they go in only when no
//! others came in meanwhile.

use crate::history::batches::{Batches, BatchesError, KnownBatches};
use crate::history::upkeep::{Guard, HourFile};

/// What becomes of the batches of some files of one hour.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parting {
    /// By file, which batches are left out.
    pub left_out: Vec<Batches>,
    /// Which stay.
    pub kept: Batches,
    /// Under which condition.
    pub guard: Guard,
}

impl Parting {
    /// Whether anything is left out.
    pub fn leaves_out(&self) -> bool {
        self.left_out.iter().any(|batches| !batches.is_empty())
    }

    /// Of `inputs` that are to become one file of `collector`, beside the `others` of their hour: its own other files too,
    /// which inputs that it took over from somebody may repeat. `sums` is whether the file is to hold sums.
    ///
    /// # Errors
    /// [`BatchesError`]: a file does not read.
    pub fn of(
        known: &KnownBatches,
        collector: &str,
        inputs: &[HourFile],
        others: &[HourFile],
        sums: bool,
    ) -> Result<Self, BatchesError> {
        let mut all = Batches::default();
        for input in inputs {
            all.add(known.of(&input.file)?.as_ref());
        }
        let (mut seen, mut guard) = (Batches::default(), Guard::default());
        for other in others.iter().filter(|other| other.is_summed() || other.name.collector.as_str() <= collector) {
            let both = known.of(&other.file)?.both(&all);
            if !both.is_empty() {
                guard.relied_on.insert(other.path.clone());
                seen.add(&both);
            }
        }
        if sums {
            let known = inputs.iter().chain(others).filter(|file| file.is_summed()).map(|file| file.path.clone());
            guard.sums = inputs.first().map(|input| (input.hour, known.collect()));
        }
        // Sums first, which cannot be taken apart; then by collector, as statements read them.
        let mut order: Vec<usize> = (0..inputs.len()).collect();
        order.sort_by_key(|&at| (!inputs[at].is_summed(), &inputs[at].name.collector, &inputs[at].path));
        let (mut left_out, mut kept) = (vec![Batches::default(); inputs.len()], Batches::default());
        let (mut of_one, mut before) = (Batches::default(), None);
        for at in order {
            let input = &inputs[at];
            let batches = known.of(&input.file)?;
            if before != Some(&input.name.collector) {
                seen.add(&std::mem::take(&mut of_one));
                before = Some(&input.name.collector);
            }
            if !input.is_summed() {
                left_out[at] = batches.both(&seen);
            }
            kept.add(&batches.without(&left_out[at]));
            of_one.add(&batches);
        }
        Ok(Self { left_out, kept, guard })
    }
}

impl Parting {
    /// Of files of which nothing is left out: what they were sums of, they stay sums of.
    ///
    /// # Errors
    /// [`BatchesError`]: a file does not read.
    pub fn alone(known: &KnownBatches, inputs: &[HourFile]) -> Result<Self, BatchesError> {
        let mut kept = Batches::default();
        for input in inputs.iter().filter(|input| input.is_summed()) {
            kept.add(known.of(&input.file)?.as_ref());
        }
        Ok(Self { kept, ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ops::RangeInclusive;
    use std::sync::Arc;

    use skep_wire::tables::CPU;

    use super::*;
    use crate::buffer::sample;
    use crate::history::path::{FileName, Hour};
    use crate::history::{DataFile, Folders, parquet_file};

    const HOUR: &str = "date=1970-01-01/hour=00";

    /// A file of batches of one stream; one of sums says which.
    fn file(folder: &std::path::Path, name: &str, seqs: RangeInclusive<i64>) -> HourFile {
        let relative = format!("{HOUR}/{name}");
        let (path, rows) = (folder.join(&relative), sample::cpu("s", seqs));
        let mut draft = parquet_file::Draft::new(&Folders::default(), &path, &CPU).unwrap();
        draft.sum_of(&Batches::of_rows(std::slice::from_ref(&rows)).unwrap());
        draft.write(&crate::buffer::schema::plain(&rows).unwrap()).unwrap();
        draft.finish().unwrap();
        let file = DataFile { path, bytes: 1, rows: None, times_us: None, crc32c: None };
        let name = FileName::parse(name).unwrap();
        HourFile { path: relative, name, hour: Hour::of(0), file }
    }

    /// Whether batch `seq` of `s` is left out of each file, and whether it is kept.
    fn fate(parting: &Parting, seq: i64) -> (Vec<bool>, bool) {
        (parting.left_out.iter().map(|batches| batches.hold("s", seq)).collect(), parting.kept.hold("s", seq))
    }

    #[test]
    fn every_batch_is_kept_by_exactly_one_collector() {
        let temp = tempfile::tempdir().unwrap();
        let known = KnownBatches::new(Arc::new(Folders::default()));
        let a = [file(temp.path(), "aa-1-1.parquet", 1..=6)];
        let b = [file(temp.path(), "bb-1-1.parquet", 4..=9), file(temp.path(), "bb-2-2.parquet", 10..=12)];
        let c = [file(temp.path(), "cc-1-2-m0123456789abcdef-60s.parquet", 6..=7)];
        let others = |files: &[&[HourFile]]| files.concat();
        let of_a = Parting::of(&known, "aa", &a, &others(&[&b, &c]), false).unwrap();
        let of_b = Parting::of(&known, "bb", &b, &others(&[&a, &c]), false).unwrap();
        let of_c = Parting::of(&known, "cc", &c, &others(&[&a, &b]), true).unwrap();
        for seq in 1..=12 {
            let kept = [&of_a, &of_b, &of_c].map(|parting| fate(parting, seq).1);
            assert_eq!(kept.iter().filter(|kept| **kept).count(), 1, "{seq}: {kept:?}");
        }
        assert_eq!(fate(&of_a, 6), (vec![true], false), "sums have it");
        assert_eq!(fate(&of_b, 5), (vec![true, false], false), "aa has it");
        assert_eq!(fate(&of_b, 9), (vec![false, false], true));
        assert!(of_a.leaves_out() && !of_c.leaves_out());
        let relied_on = |parting: &Parting| parting.guard.relied_on.iter().cloned().collect::<Vec<_>>();
        assert_eq!(relied_on(&of_a), [c[0].path.clone()]);
        assert_eq!(relied_on(&of_b), [a[0].path.clone(), c[0].path.clone()]);
        assert_eq!(of_c.guard.sums, Some((Hour::of(0), BTreeSet::from([c[0].path.clone()]))));
    }

    #[test]
    fn files_of_two_collectors_become_one_with_every_batch_once() {
        let temp = tempfile::tempdir().unwrap();
        let known = KnownBatches::new(Arc::new(Folders::default()));
        let inputs = [
            file(temp.path(), "cc-1-1.parquet", 3..=5),
            file(temp.path(), "bb-1-1.parquet", 1..=4),
            file(temp.path(), "bb-2-2.parquet", 6..=6),
        ];
        let parting = Parting::of(&known, "cc", &inputs, &[], false).unwrap();
        for (seq, fate_of) in [(3, vec![true, false, false]), (5, vec![false; 3]), (6, vec![false; 3])] {
            assert_eq!(fate(&parting, seq), (fate_of, true), "{seq}");
        }
    }
}
