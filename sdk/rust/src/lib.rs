//! capstan-sdk
