//! ringspin-ring
