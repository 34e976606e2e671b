//! How pages and metas lie on disk: offsets, flags, checksum.

/// Bytes of a page that the writer makes; a reader takes the size from the meta.
pub(super) const PAGE_BYTES: usize = 4096;
/// Page sizes that a reader accepts.
pub(super) const PAGE_BYTES_MIN: usize = 512;
pub(super) const PAGE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a page's header, and of an entry's in branch and leaf pages.
pub(super) const HEADER_BYTES: usize = 16;
pub(super) const ENTRY_BYTES: usize = 16;
/// Bytes of a bucket's header: its root page and its sequence.
pub(super) const BUCKET_BYTES: usize = 16;

pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const META: u16 = 0x04;
pub(super) const FREELIST: u16 = 0x10;
/// The flag of a leaf's entry that is a bucket.
pub(super) const IS_BUCKET: u32 = 0x01;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Bytes of a meta without its checksum.
const META_SUMMED_BYTES: usize = 56;
/// Bytes of a meta page that matter.
pub(super) const META_BYTES: usize = HEADER_BYTES + META_SUMMED_BYTES + 8;
/// The meta's freelist page when the freelist was not written.
pub(super) const NO_FREELIST: u64 = u64::MAX;

/// A page's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u64,
    pub(super) flags: u16,
    pub(super) count: u16,
    pub(super) overflow: u32,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&self.id.to_le_bytes());
        out[8..10].copy_from_slice(&self.flags.to_le_bytes());
        out[10..12].copy_from_slice(&self.count.to_le_bytes());
        out[12..].copy_from_slice(&self.overflow.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }
}

/// What a meta page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_bytes: u32,
    /// The root tree's root.
    pub(super) root: u64,
    pub(super) freelist: u64,
    /// How many pages the file has.
    pub(super) pages: u64,
    pub(super) transaction: u64,
}

impl Meta {
    /// The meta page of `id`, without the rest of its page.
    pub(super) fn encode(self, id: u64) -> Vec<u8> {
        let header = Header {
            id,
            flags: META,
            count: 0,
            overflow: 0,
        };
        let mut out = header.encode().to_vec();
        for field in [MAGIC, VERSION, self.page_bytes, 0] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        let sequence = 0;
        for field in [self.root, sequence, self.freelist, self.pages, self.transaction] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        let sum = fnv1a(&out[HEADER_BYTES..]);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads a meta page; says why it is none.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let body = bytes.get(HEADER_BYTES..META_BYTES).ok_or("too short")?;
        let field = |at| u32_at(body, at).ok_or("too short");
        let wide = |at| u64_at(body, at).ok_or("too short");
        if field(0)? != MAGIC {
            return Err("its magic number is wrong");
        }
        if field(4)? != VERSION {
            return Err("its version is not known");
        }
        if wide(META_SUMMED_BYTES)? != fnv1a(&body[..META_SUMMED_BYTES]) {
            return Err("its checksum does not match");
        }
        Ok(Self {
            page_bytes: field(8)?,
            root: wide(16)?,
            freelist: wide(32)?,
            pages: wide(40)?,
            transaction: wide(48)?,
        })
    }
}

/// FNV-1a of 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
