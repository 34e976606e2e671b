//! capstan-scheduler
