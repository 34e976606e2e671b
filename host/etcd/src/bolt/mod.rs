//! bbolt database files: etcd's backend on disk, and so the form of its snapshots. A pure reader and a bulk
//! writer of sorted buckets; they know pages, no etcd.
//!
//! A file is pages of one size. Pages 0 and 1 are *metas* (the valid one with the higher transaction counts),
//! the others belong to the freelist or to B+ trees of *branch* and *leaf* pages; a page that is too small
//! for what is in it continues in the pages after it (*overflow*). The root tree's leaves hold one entry a
//! bucket: where its tree's root is, or, of a small bucket, its only page itself (*inline*).
//!
//! Little-endian, as on every machine that etcd supports. Called by [`crate::backup`]. Left out: changing a
//! file in place, and buckets in buckets, which etcd does not make.

mod page;
mod reader;
mod writer;

pub(crate) use reader::{Reader, Visit};
pub(crate) use writer::{Layout, Writer, plan, write};

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BoltError {
    /// The disk failed.
    #[error("reading at byte {offset}: {source}")]
    Read {
        /// Where.
        offset: u64,
        /// What the disk said.
        source: std::io::Error,
    },
    /// Neither of the two metas is valid.
    #[error("not a bbolt database: {0}")]
    NotADatabase(String),
    /// The file ends before its last page.
    #[error("the file is cut off: it has {have} bytes, its pages need {need}")]
    Truncated {
        /// Bytes that there are.
        have: u64,
        /// Bytes that there should be.
        need: u64,
    },
    /// A page is not what it should be.
    #[error("page {page} is damaged: {what}")]
    Damaged {
        /// The page.
        page: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The writer was given keys or buckets out of order.
    #[error("writing a database: {what} is out of order")]
    Unsorted {
        /// The key or the bucket.
        what: String,
    },
    /// The writer was given something else than what was planned.
    #[error("writing a database: its content changed between planning and writing")]
    Changed,
}

#[cfg(test)]
mod tests;
