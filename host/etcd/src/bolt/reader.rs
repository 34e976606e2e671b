//! Reads a database and believes nothing of it: every page, bound and order is checked on the way.
//!
//! Nothing in a file makes it panic, loop, or take memory beyond one page a level of the tree and one bit a
//! page of the file. [`Reader::walk`] visits everything once, so whoever has walked a file knows it is whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::BoltError;
use super::page::{
    BRANCH, BUCKET_BYTES, ENTRY_BYTES, FREELIST, HEADER_BYTES, Header, IS_BUCKET, LEAF, META_BYTES, Meta,
    NO_FREELIST, PAGE_BYTES, PAGE_BYTES_MAX, PAGE_BYTES_MIN, u32_at, u64_at,
};

/// Levels of a tree: far more than any file can need.
const DEPTH_MAX: usize = 32;
/// Bytes of a page with its overflow. etcd's requests are 1.5 MiB; a leaf may hold several.
const NODE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes that can be read anywhere.
pub(crate) trait ReadAt {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

/// What a walk meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit<'a> {
    /// A bucket begins.
    Bucket(&'a [u8]),
    /// An entry of the bucket that began last.
    Entry { key: &'a [u8], value: &'a [u8] },
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Reader<S> {
    source: S,
    meta: Meta,
}

impl<S: ReadAt> Reader<S> {
    /// Opens a database of so many bytes by its newest valid meta.
    pub(crate) fn open(source: S, length: u64) -> Result<Self, BoltError> {
        let meta = newest_meta(&source, length)?;
        let page_bytes = u64::from(meta.page_bytes);
        let need = meta.pages.saturating_mul(page_bytes);
        if need > length {
            return Err(BoltError::Truncated { have: length, need });
        }
        Ok(Self { source, meta })
    }

    /// Bytes up to the last page that was ever used.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.meta.pages * u64::from(self.meta.page_bytes)
    }

    /// Visits all buckets and their entries in order, and checks every page on the way.
    pub(crate) fn walk<E: From<BoltError>>(
        &self,
        visit: &mut dyn FnMut(Visit<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut walk = Walk {
            reader: self,
            seen: Seen::new(self.meta.pages),
            visit,
        };
        walk.seen.take(0, 2)?;
        walk.freelist()?;
        walk.node(self.meta.root, &Place::root(Tree::Buckets), &mut Vec::new())?;
        walk.seen.nothing_lost(self.meta.freelist)?;
        Ok(())
    }

    /// A page with its overflow.
    fn page(&self, id: u64) -> Result<(Header, Vec<u8>), BoltError> {
        let damaged = |what: String| BoltError::Damaged { page: id, what };
        if id < 2 || id >= self.meta.pages {
            return Err(damaged(format!(
                "it is named, but the file's pages are 2 to {}",
                self.meta.pages.saturating_sub(1)
            )));
        }
        let page_bytes = u64::from(self.meta.page_bytes);
        let mut bytes = vec![0; self.meta.page_bytes as usize];
        read(&self.source, &mut bytes, id * page_bytes)?;
        let header = Header::decode(&bytes).ok_or_else(|| damaged("shorter than its header".into()))?;
        if header.id != id {
            return Err(damaged(format!("it says that it is page {}", header.id)));
        }
        if header.overflow > 0 {
            let pages = u64::from(header.overflow) + 1;
            if pages > self.meta.pages - id {
                return Err(damaged(format!("its {pages} pages go beyond the file")));
            }
            if pages * page_bytes > NODE_BYTES_MAX {
                return Err(damaged(format!(
                    "it has {} bytes, more than the {NODE_BYTES_MAX} that are read",
                    pages * page_bytes
                )));
            }
            let first = bytes.len();
            bytes.resize((pages * page_bytes) as usize, 0);
            read(&self.source, &mut bytes[first..], (id + 1) * page_bytes)?;
        }
        Ok((header, bytes))
    }
}

fn read(source: &impl ReadAt, buffer: &mut [u8], offset: u64) -> Result<(), BoltError> {
    source
        .read_exact_at(buffer, offset)
        .map_err(|source| BoltError::Read { offset, source })
}

/// Of the two metas the valid one with the higher transaction. The second lies one page after the first, and
/// how long a page is, the first says; where that is damaged, all sizes are tried.
fn newest_meta(source: &impl ReadAt, length: u64) -> Result<Meta, BoltError> {
    let meta_at = |offset: u64| -> Result<Result<Meta, &'static str>, BoltError> {
        if length < offset + META_BYTES as u64 {
            return Ok(Err("the file is too short"));
        }
        let mut bytes = [0; META_BYTES];
        read(source, &mut bytes, offset)?;
        Ok(Meta::decode(&bytes).and_then(|meta| {
            let size = meta.page_bytes as usize;
            let is_usable = size.is_power_of_two() && (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&size);
            is_usable.then_some(meta).ok_or("its page size is not usable")
        }))
    };
    let first = meta_at(0)?;
    let mut found: Vec<Meta> = first.iter().copied().collect();
    let mut size = PAGE_BYTES_MIN as u64;
    while size <= PAGE_BYTES_MAX as u64 {
        if first.is_err() || first.is_ok_and(|meta| u64::from(meta.page_bytes) == size) {
            let second = meta_at(size)?.ok();
            found.extend(second.filter(|meta| u64::from(meta.page_bytes) == size));
        }
        size *= 2;
    }
    let newest = found.into_iter().max_by_key(|meta| meta.transaction);
    newest.ok_or_else(|| {
        let why = first.err().unwrap_or("no meta");
        BoltError::NotADatabase(format!(
            "both of its first pages (of {PAGE_BYTES} bytes as a rule) are damaged; of the first, {why}"
        ))
    })
}

/// Which pages were met: each may be met once.
struct Seen {
    bits: Vec<u64>,
    pages: u64,
    taken: u64,
}

impl Seen {
    fn new(pages: u64) -> Self {
        Self {
            bits: vec![0; pages.div_ceil(64) as usize],
            pages,
            taken: 0,
        }
    }

    fn take(&mut self, first: u64, count: u64) -> Result<(), BoltError> {
        for page in first..first.saturating_add(count) {
            let damaged = |what: &str| BoltError::Damaged {
                page,
                what: what.into(),
            };
            let word = self.bits.get_mut((page / 64) as usize);
            let word = word.filter(|_| page < self.pages);
            let word = word.ok_or_else(|| damaged("it is named, but beyond the file"))?;
            let bit = 1 << (page % 64);
            if *word & bit != 0 {
                return Err(damaged("it is in use twice"));
            }
            *word |= bit;
            self.taken += 1;
        }
        Ok(())
    }

    /// Where the freelist was written, a page is in it or in a tree.
    fn nothing_lost(&self, freelist: u64) -> Result<(), BoltError> {
        if freelist == NO_FREELIST || self.taken == self.pages {
            return Ok(());
        }
        let page = (0..self.pages).find(|page| self.bits[(page / 64) as usize] & (1 << (page % 64)) == 0);
        Err(BoltError::Damaged {
            page: page.unwrap_or_default(),
            what: "it is neither free nor in use".into(),
        })
    }
}

/// Whose tree a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tree {
    Buckets,
    Entries,
}

/// Where a page stands in its tree: its keys are `from` or later, and before `until`.
struct Place {
    tree: Tree,
    depth: usize,
    from: Vec<u8>,
    until: Option<Vec<u8>>,
}

impl Place {
    fn root(tree: Tree) -> Self {
        Self {
            tree,
            depth: 0,
            from: Vec::new(),
            until: None,
        }
    }
}

struct Walk<'a, S, E> {
    reader: &'a Reader<S>,
    seen: Seen,
    visit: &'a mut dyn FnMut(Visit<'_>) -> Result<(), E>,
}

impl<S: ReadAt, E: From<BoltError>> Walk<'_, S, E> {
    fn freelist(&mut self) -> Result<(), E> {
        let id = self.reader.meta.freelist;
        if id == NO_FREELIST {
            return Ok(());
        }
        let (header, bytes) = self.reader.page(id)?;
        self.seen.take(id, u64::from(header.overflow) + 1)?;
        let damaged = |what: &str| BoltError::Damaged {
            page: id,
            what: what.into(),
        };
        if header.flags != FREELIST {
            return Err(damaged("it is to be the freelist, and is not").into());
        }
        // A long list's count is its first item.
        let short = || damaged("the freelist is longer than its page");
        let mut items = bytes[HEADER_BYTES..].chunks_exact(8);
        let count = if header.count == u16::MAX {
            items.next().and_then(|item| u64_at(item, 0)).ok_or_else(short)?
        } else {
            u64::from(header.count)
        };
        if count > items.len() as u64 {
            return Err(short().into());
        }
        for item in items.take(count as usize) {
            self.seen.take(u64_at(item, 0).ok_or_else(short)?, 1)?;
        }
        Ok(())
    }

    /// `last` is the greatest key of the tree so far.
    fn node(&mut self, id: u64, place: &Place, last: &mut Vec<u8>) -> Result<(), E> {
        let damaged = |what: String| BoltError::Damaged { page: id, what };
        if place.depth >= DEPTH_MAX {
            return Err(damaged(format!("it lies deeper than {DEPTH_MAX} levels")).into());
        }
        let (header, bytes) = self.reader.page(id)?;
        self.seen.take(id, u64::from(header.overflow) + 1)?;
        let node = Node {
            id,
            count: usize::from(header.count),
            bytes: &bytes,
        };
        match header.flags {
            LEAF => self.leaf(&node, place, last),
            BRANCH => self.branch(&node, place, last),
            flags => Err(damaged(format!("its type is {flags:#x}; a branch or a leaf is due")).into()),
        }
    }

    fn branch(&mut self, node: &Node<'_>, place: &Place, last: &mut Vec<u8>) -> Result<(), E> {
        if node.count == 0 {
            return Err(node.damaged("it is a branch without children").into());
        }
        let mut child = node.branch_entry(0)?;
        for at in 0..node.count {
            let next = (at + 1 < node.count)
                .then(|| node.branch_entry(at + 1))
                .transpose()?;
            let (key, page) = child;
            if key < &place.from[..] || place.until.as_deref().is_some_and(|until| key >= until) {
                return Err(node
                    .damaged("a child's key is outside of what its parent says")
                    .into());
            }
            if next.is_some_and(|(next, _)| next <= key) {
                return Err(node.damaged("its keys are not in order").into());
            }
            let below = Place {
                tree: place.tree,
                depth: place.depth + 1,
                from: key.to_vec(),
                until: next.map(|(key, _)| key.to_vec()).or_else(|| place.until.clone()),
            };
            self.node(page, &below, last)?;
            if let Some(next) = next {
                child = next;
            }
        }
        Ok(())
    }

    fn leaf(&mut self, node: &Node<'_>, place: &Place, last: &mut Vec<u8>) -> Result<(), E> {
        for at in 0..node.count {
            let (flags, key, value) = node.leaf_entry(at)?;
            if key <= &last[..] {
                return Err(node.damaged("its keys are empty or not in order").into());
            }
            if key < &place.from[..] || place.until.as_deref().is_some_and(|until| key >= until) {
                return Err(node.damaged("a key is outside of what its parent says").into());
            }
            last.clear();
            last.extend_from_slice(key);
            match (place.tree, flags) {
                (Tree::Buckets, IS_BUCKET) => {
                    (self.visit)(Visit::Bucket(key))?;
                    self.bucket(node.id, value)?;
                }
                (Tree::Entries, 0) => (self.visit)(Visit::Entry { key, value })?,
                (Tree::Buckets, _) => return Err(node.damaged("an entry is outside of all buckets").into()),
                (Tree::Entries, IS_BUCKET) => {
                    return Err(node
                        .damaged("there is a bucket in a bucket, which etcd does not make")
                        .into());
                }
                (Tree::Entries, flags) => {
                    return Err(node.damaged(&format!("an entry has the flags {flags:#x}")).into());
                }
            }
        }
        Ok(())
    }

    /// `parent` is the page that the bucket's entry is in.
    fn bucket(&mut self, parent: u64, value: &[u8]) -> Result<(), E> {
        let damaged = |what: &str| BoltError::Damaged {
            page: parent,
            what: what.into(),
        };
        let short = || damaged("a bucket's entry is too short");
        let place = Place::root(Tree::Entries);
        let root = u64_at(value, 0).ok_or_else(short)?;
        let inline = value.get(BUCKET_BYTES..).ok_or_else(short)?;
        if root != 0 {
            return self.node(root, &place, &mut Vec::new());
        }
        let header = Header::decode(inline).ok_or_else(short)?;
        if header.flags != LEAF {
            return Err(damaged("an inline bucket is no leaf").into());
        }
        let node = Node {
            id: parent,
            count: usize::from(header.count),
            bytes: inline,
        };
        self.leaf(&node, &place, &mut Vec::new())
    }
}

/// A branch or leaf page in memory.
struct Node<'a> {
    /// The page to name when it is damaged.
    id: u64,
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Node<'a> {
    fn damaged(&self, what: &str) -> BoltError {
        BoltError::Damaged {
            page: self.id,
            what: what.into(),
        }
    }

    fn branch_entry(&self, at: usize) -> Result<(&'a [u8], u64), BoltError> {
        let fields = |entry: &'a [u8]| Some((u32_at(entry, 0)?, u32_at(entry, 4)?, u64_at(entry, 8)?));
        let (entry_at, entry) = self.entry(at)?;
        let (position, key_bytes, page) = fields(entry).ok_or_else(|| self.short())?;
        let key = self.data(entry_at, position, 0, key_bytes)?;
        Ok((key, page))
    }

    fn leaf_entry(&self, at: usize) -> Result<(u32, &'a [u8], &'a [u8]), BoltError> {
        let field = |entry: &'a [u8], at| u32_at(entry, at).ok_or_else(|| self.short());
        let (entry_at, entry) = self.entry(at)?;
        let (flags, position) = (field(entry, 0)?, field(entry, 4)?);
        let (key_bytes, value_bytes) = (field(entry, 8)?, field(entry, 12)?);
        let key = self.data(entry_at, position, 0, key_bytes)?;
        let value = self.data(entry_at, position, key_bytes, value_bytes)?;
        Ok((flags, key, value))
    }

    fn short(&self) -> BoltError {
        self.damaged("it has more entries than room")
    }

    fn entry(&self, at: usize) -> Result<(usize, &'a [u8]), BoltError> {
        let start = HEADER_BYTES + at * ENTRY_BYTES;
        let entry = self.bytes.get(start..start + ENTRY_BYTES);
        Ok((start, entry.ok_or_else(|| self.short())?))
    }

    /// Positions count from the entry.
    fn data(&self, entry_at: usize, position: u32, skip: u32, length: u32) -> Result<&'a [u8], BoltError> {
        let start = entry_at + position as usize + skip as usize;
        let data = self
            .bytes
            .get(start..)
            .and_then(|rest| rest.get(..length as usize));
        data.ok_or_else(|| self.damaged("an entry reaches beyond its page"))
    }
}
