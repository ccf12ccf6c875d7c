//! What SQL can do here beyond the engine's own functions. What each is for stands in [`skep_wire::views::FUNCTIONS`].
//!
//! * [`aggregate`]: `hist_merge` and `hist_quantile`.
//! * [`fold`]: many histograms into one a group.
//! * [`scalar`]: `hist_count`, `hist_mean`, `hist_quantile_of`, of one histogram a row.
//! * [`buckets`]: the parts of a histogram column.
//! * [`time_bucket`]: `time_bucket(width, time)`.

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::prelude::SessionContext;

pub mod aggregate;

pub mod fold;

pub mod scalar;

pub mod buckets;

pub mod time_bucket;

use aggregate::{Fold, HistAggregate};
use scalar::{HistScalar, Of};
use time_bucket::TimeBucket;

/// Makes the functions known to statements.
pub fn register(context: &SessionContext) {
    for fold in [Fold::Merge, Fold::Quantile] {
        context.register_udaf(AggregateUDF::from(HistAggregate::new(fold)));
    }
    for of in [Of::Count, Of::Mean, Of::Quantile] {
        context.register_udf(ScalarUDF::from(HistScalar::new(of)));
    }
    context.register_udf(ScalarUDF::from(TimeBucket::new()));
}

#[cfg(test)]
mod tests;
