//! ringspin-hadoop
