//! capstan-client
