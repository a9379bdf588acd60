//! ringspin-container
