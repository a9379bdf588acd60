//! Data of a job: files wherever they are, what their bytes mean, who trains on which record when, and the
//! batches that come of it.

pub mod blocks;
mod dataset;
mod error;
pub mod formats;
pub mod index;
pub mod output;
pub mod plan;
pub mod reader;
pub mod storage;

pub use dataset::{Dataset, DatasetOptions};
pub use error::{DataError, Place};
