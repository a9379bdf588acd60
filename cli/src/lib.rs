//! Ringspin
