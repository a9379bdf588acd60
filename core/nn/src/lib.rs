//! ringspin-nn
