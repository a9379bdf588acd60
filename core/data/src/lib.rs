//! Data of a job: files wherever they are, what their bytes mean, who trains on which record when, and the
//! batches that come of it.

mod error;
pub mod formats;
pub mod index;
pub mod storage;

pub use error::{DataError, Place};
