//! capstan-kinds
