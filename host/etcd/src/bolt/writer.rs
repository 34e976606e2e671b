//! Writes a database front to back: buckets in order, each with its keys in order.
//!
//! The metas come first in the file but name the root, which is known last. So what fills the database runs
//! twice: [`plan`] only counts pages, [`write`] emits them, and whoever fills must put the same both times.
//! Rather than a temporary file, because a backup then needs no space on a disk that may be full and does not
//! compete with the log for it; what it costs is a second read. Memory: one page a level of the tree.

use super::BoltError;
use super::page::{
    BRANCH, BUCKET_BYTES, ENTRY_BYTES, FREELIST, HEADER_BYTES, Header, IS_BUCKET, LEAF, Meta, PAGE_BYTES,
};

/// The empty freelist's page; the metas are 0 and 1.
const FREELIST_PAGE: u64 = 2;
/// A bucket is inline up to so many bytes (bbolt's bound).
const INLINE_BYTES_MAX: usize = PAGE_BYTES / 4;
/// Entries of a branch page at least; only a branch's keys can be so large that it needs more pages for them.
const BRANCH_ENTRIES_MIN: usize = 2;

/// Where the root will be, and how many pages there will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    root: u64,
    pages: u64,
}

impl Layout {
    /// Bytes of the whole file.
    pub(crate) fn size_bytes(self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// Takes whole pages, in the order of the file.
pub(crate) type Sink<'a, E> = dyn FnMut(&[u8]) -> Result<(), E> + 'a;

/// Finds the layout of what `fill` puts.
pub(crate) fn plan<E: From<BoltError>>(
    fill: impl FnOnce(&mut Writer<'_, E>) -> Result<(), E>,
) -> Result<Layout, E> {
    let mut writer = Writer::new(None);
    fill(&mut writer)?;
    writer.finish()
}

/// Writes what `fill` puts, which must have the layout that [`plan`] found.
pub(crate) fn write<E: From<BoltError>>(
    layout: Layout,
    sink: &mut Sink<'_, E>,
    fill: impl FnOnce(&mut Writer<'_, E>) -> Result<(), E>,
) -> Result<(), E> {
    for id in [0, 1] {
        let meta = Meta {
            page_bytes: PAGE_BYTES as u32,
            root: layout.root,
            freelist: FREELIST_PAGE,
            pages: layout.pages,
            transaction: id,
        };
        let mut page = meta.encode(id);
        page.resize(PAGE_BYTES, 0);
        sink(&page)?;
    }
    let freelist = Header {
        id: FREELIST_PAGE,
        flags: FREELIST,
        count: 0,
        overflow: 0,
    };
    let mut page = freelist.encode().to_vec();
    page.resize(PAGE_BYTES, 0);
    sink(&page)?;
    let mut writer = Writer::new(Some(sink));
    fill(&mut writer)?;
    if writer.finish()? == layout {
        Ok(())
    } else {
        Err(BoltError::Changed.into())
    }
}

/// Takes buckets and their keys, ascending.
pub(crate) struct Writer<'a, E> {
    pages: Pages<'a, E>,
    root: Tree,
    bucket: Option<(Vec<u8>, Tree)>,
}

impl<'a, E: From<BoltError>> Writer<'a, E> {
    fn new(sink: Option<&'a mut Sink<'_, E>>) -> Self
    where
        E: 'a,
    {
        Self {
            pages: Pages {
                sink: sink.map(|sink| Box::new(move |page: &[u8]| sink(page)) as Box<Sink<'a, E>>),
                next: FREELIST_PAGE + 1,
            },
            root: Tree::default(),
            bucket: None,
        }
    }

    /// Ends the bucket before and begins the next.
    pub(crate) fn bucket(&mut self, name: &str) -> Result<(), E> {
        self.end_bucket()?;
        self.bucket = Some((name.as_bytes().to_vec(), Tree::default()));
        Ok(())
    }

    /// Puts a key into the bucket that was begun last.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), E> {
        match &mut self.bucket {
            Some((_, tree)) => tree.put(&mut self.pages, 0, key, value),
            None => Err(unsorted(key).into()),
        }
    }

    fn end_bucket(&mut self) -> Result<(), E> {
        let Some((name, tree)) = self.bucket.take() else {
            return Ok(());
        };
        let value = tree.into_bucket(&mut self.pages)?;
        self.root.put(&mut self.pages, IS_BUCKET, &name, &value)
    }

    fn finish(mut self) -> Result<Layout, E> {
        self.end_bucket()?;
        let root = self.root.into_root(&mut self.pages)?;
        Ok(Layout {
            root,
            pages: self.pages.next,
        })
    }
}

fn unsorted(key: &[u8]) -> BoltError {
    BoltError::Unsorted {
        what: format!("\"{}\"", key.escape_ascii()),
    }
}

/// Numbers pages and hands them on.
struct Pages<'a, E> {
    sink: Option<Box<Sink<'a, E>>>,
    next: u64,
}

impl<E> Pages<'_, E> {
    fn emit(&mut self, node: &Node) -> Result<u64, E> {
        let id = self.next;
        let pages = node.size().div_ceil(PAGE_BYTES);
        self.next += pages as u64;
        if let Some(sink) = &mut self.sink {
            let mut bytes = node.encode(id, (pages - 1) as u32);
            bytes.resize(pages * PAGE_BYTES, 0);
            sink(&bytes)?;
        }
        Ok(id)
    }
}

/// A tree that grows at its right edge: of each level, the page that is being filled.
#[derive(Default)]
struct Tree {
    levels: Vec<Node>,
    last_key: Vec<u8>,
}

impl Tree {
    fn put<E: From<BoltError>>(
        &mut self,
        pages: &mut Pages<'_, E>,
        flags: u32,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), E> {
        if key <= &self.last_key[..] {
            return Err(unsorted(key).into());
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        if self.levels.is_empty() {
            self.levels.push(Node::new(true));
        }
        let leaf = &self.levels[0];
        if !leaf.entries.is_empty() && leaf.size() + ENTRY_BYTES + key.len() + value.len() > PAGE_BYTES {
            self.flush(pages, 0)?;
        }
        self.levels[0].push(u64::from(flags), key, value);
        Ok(())
    }

    /// Emits a level's page and enters it in the level above.
    fn flush<E>(&mut self, pages: &mut Pages<'_, E>, level: usize) -> Result<(), E> {
        let is_leaf = self.levels[level].is_leaf;
        let node = std::mem::replace(&mut self.levels[level], Node::new(is_leaf));
        let id = pages.emit(&node)?;
        let above = level + 1;
        if self.levels.len() == above {
            self.levels.push(Node::new(false));
        }
        let branch = &self.levels[above];
        let is_full = branch.size() + ENTRY_BYTES + node.first_key().len() > PAGE_BYTES;
        if is_full && branch.entries.len() > BRANCH_ENTRIES_MIN {
            // The last one begins the next page, so that no branch is left with a single entry.
            let last = self.levels[above].split_last();
            self.flush(pages, above)?;
            self.levels[above] = last;
        }
        self.levels[above].push(id, node.first_key(), &[]);
        Ok(())
    }

    /// Emits what is left; returns the root's page.
    fn into_root<E>(mut self, pages: &mut Pages<'_, E>) -> Result<u64, E> {
        if self.levels.is_empty() {
            self.levels.push(Node::new(true));
        }
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.flush(pages, level)?;
            level += 1;
        }
        pages.emit(&self.levels[level])
    }

    /// The bucket's entry in the root tree.
    fn into_bucket<E>(mut self, pages: &mut Pages<'_, E>) -> Result<Vec<u8>, E> {
        let inline = match self.levels.len() {
            0 => Some(Node::new(true)),
            1 if self.levels[0].size() <= INLINE_BYTES_MAX => self.levels.pop(),
            _ => None,
        };
        let root = match &inline {
            Some(_) => 0,
            None => self.into_root(pages)?,
        };
        let mut value = root.to_le_bytes().to_vec();
        value.resize(BUCKET_BYTES, 0);
        if let Some(node) = inline {
            value.extend_from_slice(&node.encode(0, 0));
        }
        Ok(value)
    }
}

/// A page being filled.
struct Node {
    is_leaf: bool,
    entries: Vec<Entry>,
    /// Keys and values, one after the other.
    data: Vec<u8>,
}

struct Entry {
    /// A leaf's flags, a branch's page.
    tag: u64,
    key_bytes: usize,
    value_bytes: usize,
}

impl Node {
    fn new(is_leaf: bool) -> Self {
        Self {
            is_leaf,
            entries: Vec::new(),
            data: Vec::new(),
        }
    }

    fn push(&mut self, tag: u64, key: &[u8], value: &[u8]) {
        self.entries.push(Entry {
            tag,
            key_bytes: key.len(),
            value_bytes: value.len(),
        });
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    fn size(&self) -> usize {
        HEADER_BYTES + self.entries.len() * ENTRY_BYTES + self.data.len()
    }

    fn first_key(&self) -> &[u8] {
        self.entries
            .first()
            .map_or(&[], |entry| &self.data[..entry.key_bytes])
    }

    /// Takes the last entry out, as a page of its own.
    fn split_last(&mut self) -> Self {
        let entries: Vec<_> = self.entries.pop().into_iter().collect();
        let bytes: usize = entries
            .iter()
            .map(|entry| entry.key_bytes + entry.value_bytes)
            .sum();
        Self {
            is_leaf: self.is_leaf,
            data: self.data.split_off(self.data.len() - bytes),
            entries,
        }
    }

    fn encode(&self, id: u64, overflow: u32) -> Vec<u8> {
        let header = Header {
            id,
            flags: if self.is_leaf { LEAF } else { BRANCH },
            count: self.entries.len() as u16,
            overflow,
        };
        let mut out = Vec::with_capacity(self.size());
        out.extend_from_slice(&header.encode());
        let mut data_at = HEADER_BYTES + self.entries.len() * ENTRY_BYTES;
        for entry in &self.entries {
            // Positions count from the entry itself.
            let position = (data_at - out.len()) as u32;
            let (key_bytes, value_bytes) = (entry.key_bytes as u32, entry.value_bytes as u32);
            if self.is_leaf {
                for field in [entry.tag as u32, position, key_bytes, value_bytes] {
                    out.extend_from_slice(&field.to_le_bytes());
                }
            } else {
                for field in [position, key_bytes] {
                    out.extend_from_slice(&field.to_le_bytes());
                }
                out.extend_from_slice(&entry.tag.to_le_bytes());
            }
            data_at += entry.key_bytes + entry.value_bytes;
        }
        out.extend_from_slice(&self.data);
        out
    }
}
