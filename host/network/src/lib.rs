//! capstan-network
