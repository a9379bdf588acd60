//! ringspin-control
