//! capstan-node
