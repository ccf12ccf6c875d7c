//! `time_bucket(width, time [, origin])`: the start of the bucket that holds a time, as in TimescaleDB and DuckDB.
//!
//! Shape: an interval (or text such as '1 minute'), a time, a time; the type of the second. Buckets are counted from
//! `origin`, by default from Monday 2000-01-03 so that weeks begin on Mondays, or from 2000-01-01 for widths in months.
//! Times before the origin are in the bucket that began before them. The engine's `date_bin` does the arithmetic; its own
//! origin is a Thursday.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::functions::datetime::date_bin;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

/// As statements call it.
pub const NAME: &str = "time_bucket";

/// 2000-01-03T00:00:00Z, a Monday.
const MONDAY_NS: i64 = 946_857_600_000_000_000;

/// 2000-01-01T00:00:00Z.
const NEW_YEAR_NS: i64 = 946_684_800_000_000_000;

const WIDTH: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TimeBucket {
    signature: Signature,
}

impl TimeBucket {
    /// The function.
    pub fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Default for TimeBucket {
    fn default() -> Self {
        Self::new()
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let (width, time, origin) = match types {
            [width, time] => (width, time, None),
            [width, time, origin] => (width, time, Some(origin)),
            _ => return plan_err!("time_bucket takes a width, a time and maybe an origin"),
        };
        if !matches!(width, DataType::Interval(_) | DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) {
            return plan_err!("time_bucket takes an interval such as '1 minute' first, not {width}");
        }
        let time = as_time(time)?;
        let DataType::Timestamp(_, zone) = &time else { return plan_err!("time_bucket takes a time second") };
        let counted_from = DataType::Timestamp(TimeUnit::Nanosecond, zone.clone());
        let mut coerced = vec![WIDTH, time];
        if let Some(origin) = origin {
            as_time(origin)?;
            coerced.push(counted_from);
        }
        Ok(coerced)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.get(1).map_or_else(|| plan_err!("time_bucket takes a width and a time"), |time| Ok(time.clone()))
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let width = match args.args.first() {
            Some(ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(width)))) => *width,
            Some(ColumnarValue::Scalar(width)) if width.is_null() => {
                return exec_err!("time_bucket: the width is null");
            }
            _ => return exec_err!("time_bucket: the width must be the same for all rows"),
        };
        if width.months < 0 || width.days < 0 || width.nanoseconds < 0 || width == Default::default() {
            return exec_err!("time_bucket: the width must be longer than nothing");
        }
        if args.args.len() == 2 {
            let origin_ns = if width.months > 0 { NEW_YEAR_NS } else { MONDAY_NS };
            let DataType::Timestamp(_, zone) = args.args[1].data_type() else {
                return exec_err!("time_bucket takes a time second");
            };
            args.args.push(ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(Some(origin_ns), zone)));
        }
        date_bin().invoke_with_args(args)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        date_bin().output_ordering(inputs)
    }
}

/// What a time is taken as.
fn as_time(kind: &DataType) -> Result<DataType> {
    match kind {
        DataType::Timestamp(_, _) => Ok(kind.clone()),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => {
            Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
        }
        DataType::Date32 | DataType::Date64 => Ok(DataType::Timestamp(TimeUnit::Microsecond, None)),
        other => plan_err!("time_bucket takes a time, not {other}"),
    }
}
