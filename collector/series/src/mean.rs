//! Means that forget.

use crate::state::{Reader, StateError, Writer};

/// An exponentially weighted mean. The first values weigh alike, so that it does not cling to the very first.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mean {
    value: f64,
}

impl Mean {
    /// So far; 0 of nothing.
    pub fn value(self) -> f64 {
        self.value
    }

    /// Learns the `count`-th value.
    pub fn learn(&mut self, value: f64, rate: f64, count: u64) {
        self.value += rate.max(1.0 / count as f64) * (value - self.value);
    }

    /// Forgets all but this.
    pub fn restart(&mut self, value: f64) {
        self.value = value;
    }

    pub(crate) fn write(self, out: &mut Writer) {
        out.f64(self.value);
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, StateError> {
        Ok(Self { value: from.f64()? })
    }
}
