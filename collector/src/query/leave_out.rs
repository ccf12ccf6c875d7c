//! The condition that a row is not of some batches, as the engine's scans understand it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::catalog::Session;
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::history::batches::Batches;

/// `not_of(stream, seq)`; no statement can name it.
#[derive(Debug)]
struct NotOf {
    batches: Arc<Batches>,
    signature: Signature,
}

impl PartialEq for NotOf {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.batches, &other.batches)
    }
}

impl Eq for NotOf {}

impl Hash for NotOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.batches).hash(state);
    }
}

impl ScalarUDFImpl for NotOf {
    fn name(&self) -> &str {
        "not_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let others = match columns.as_slice() {
            [streams, seqs] => self.batches.others(streams, seqs),
            _ => None,
        };
        others.map_or_else(
            || exec_err!("rows without stream and seq"),
            |others| Ok(ColumnarValue::Array(Arc::new(others))),
        )
    }
}

/// The condition over a scan in which `stream` and `seq` stand at these places.
pub(super) fn predicate(
    batches: Batches,
    (stream, seq): (usize, usize),
    schema: &Schema,
    state: &dyn Session,
) -> Result<Arc<dyn PhysicalExpr>> {
    let signature = Signature::exact(vec![DataType::Utf8, DataType::Int64], Volatility::Immutable);
    let not_of = Arc::new(ScalarUDF::from(NotOf { batches: Arc::new(batches), signature }));
    let columns: Vec<Arc<dyn PhysicalExpr>> =
        vec![Arc::new(Column::new("stream", stream)), Arc::new(Column::new("seq", seq))];
    let options = Arc::clone(state.config().options());
    Ok(Arc::new(ScalarFunctionExpr::try_new(not_of, columns, schema, options)?))
}
