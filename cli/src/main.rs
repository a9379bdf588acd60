//! The `ringspin` executable.
fn main() {}
