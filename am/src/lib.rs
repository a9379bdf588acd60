//! ringspin-am
