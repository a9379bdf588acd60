//! Data of a job: files wherever they are, what their bytes mean, who trains on which record when, and the
//! batches that come of it.

pub mod storage;
