//! capstan-controllers
