//! The loops that take the time. `unsafe` lives here, in `team`, in `arena` and in `execute`, and nowhere else.
//!
//! Refuses to: allocate, know layers, choose threads. A kernel gets slices and does one thing with them.

pub(crate) mod attention;
pub(crate) mod batch_norm;
mod bounds;
pub mod conv;
pub(crate) mod correlate;
pub(crate) mod drop;
pub(crate) mod elementwise;
mod functions;
pub(crate) mod gemm;
mod isa;
pub(crate) mod lanes;
pub(crate) mod layer_norm;
pub(crate) mod math;
mod peak;
pub(crate) mod pool;
mod portable;
pub(crate) mod prefetch;
pub(crate) mod recurrent;
pub(crate) mod response_norm;
pub(crate) mod rows;
pub(crate) mod softmax;
pub(crate) mod update;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

pub use bounds::Bounds;
pub use isa::Isa;
pub(crate) use isa::Kernel;
pub use peak::peak_flops;
