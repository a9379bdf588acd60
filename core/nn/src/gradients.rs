//! The gradients of a model: one flat buffer, and the touched rows of its tables.

use crate::kernels::update::is_finite;
use crate::layer::ParameterKind;
use crate::model::{Model, Parameter};
use crate::pages::zeros;
use crate::sparse_rows::SparseRows;
use std::ops::Range;

/// Where a pass leaves the gradients of a model's parameters, and where an update takes them from. They are the
/// caller's, who may scale or replace them in between.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradients {
    /// Of the first [`Model::dense_count`] parameters, in their order.
    pub dense: Vec<f32>,
    /// Of the tables behind these, whose gradient are single rows.
    pub tables: Vec<TableGradient>,
}

/// The gradient of a table of which a step touches few rows.
#[derive(Clone, Debug, PartialEq)]
pub struct TableGradient {
    range: Range<usize>,
    inputs: usize,
    /// The rows that were touched, and their gradients.
    pub sum: SparseRows<f32>,
}

impl Gradients {
    /// Zeros, with room for passes over `records` records; where several are added up, tables may take more.
    pub fn new(model: &Model, records: usize) -> Gradients {
        let tables = model.parameters().iter().filter(|parameter| parameter.kind.is_rows());
        let tables = tables.map(|parameter| TableGradient::new(model, parameter, records));
        Gradients { dense: zeros(model.dense_count()), tables: tables.collect() }
    }

    /// Everything is 0.
    pub fn clear(&mut self) {
        self.dense.fill(0.0);
        self.tables.iter_mut().for_each(|table| table.sum.clear());
    }

    /// Whether no number in these parts of the dense gradients, or of a table, is infinite or none.
    pub fn are_finite(&self, dense: &[Range<usize>]) -> bool {
        let mut parts = dense.iter().map(|range| &self.dense[range.clone()]);
        parts.all(is_finite) && self.tables.iter().all(|table| is_finite(table.sum.values()))
    }

    /// The gradient of a parameter, of a table those of the touched rows.
    pub(crate) fn of(&self, parameter: &Parameter) -> &[f32] {
        let table = self.tables.iter().find(|table| table.range == parameter.range);
        table.map_or_else(|| &self.dense[parameter.range.clone()], |table| table.sum.values())
    }
}

impl From<Vec<f32>> for Gradients {
    /// Of a model without tables whose gradient are single rows.
    fn from(dense: Vec<f32>) -> Gradients {
        Gradients { dense, tables: Vec::new() }
    }
}

impl TableGradient {
    fn new(model: &Model, parameter: &Parameter, records: usize) -> TableGradient {
        let (rows, columns, inputs) = (parameter.shape[0], parameter.shape[1], model.looked_up(parameter));
        let contributions = inputs.saturating_mul(records);
        let sum = SparseRows::new(columns, rows.min(contributions), contributions);
        TableGradient { range: parameter.range.clone(), inputs, sum }
    }

    /// The table, in the flat buffer of parameters.
    pub fn range(&self) -> &Range<usize> {
        &self.range
    }

    /// Rows of the table.
    pub fn rows(&self) -> usize {
        self.range.len() / self.sum.columns()
    }

    /// Most rows that a record touches.
    pub fn rows_of_record(&self) -> usize {
        self.inputs
    }
}

impl ParameterKind {
    /// Whether the gradient are single rows.
    pub fn is_rows(self) -> bool {
        matches!(self, ParameterKind::Rows { .. })
    }
}
