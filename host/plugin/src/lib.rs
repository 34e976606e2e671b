//! capstan-plugin
