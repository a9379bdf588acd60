//! ringspin-data
