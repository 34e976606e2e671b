//! Header blocks: name and value pairs under one zlib stream a direction, with SPDY/3's own dictionary.
//!
//! Every block must go through, in order, also of frames that mean nothing to us: the streams have state.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::SpdyError;

/// Bytes of one block once it is unpacked.
const BLOCK_BYTES_MAX: usize = 64 << 10;
/// Pairs of one block.
const PAIRS_MAX: usize = 256;
/// Bytes unpacked or packed at once.
const STEP_BYTES: usize = 4 << 10;

/// Names in lower case, and values.
pub(crate) type Headers = Vec<(String, String)>;

/// Names and values that every SPDY/3 header dictionary begins with, each after its length.
const WORDS: [&str; 65] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

/// What follows them without lengths.
const REST: [&str; 8] = [
    "10010120120220520630030230330430530630740240540640740840941041141241341441541641",
    "7502504505203 Non-Authoritative Information204 No Content301 Moved Permanently40",
    "0 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error",
    "501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept O",
    "ct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,imag",
    "e/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/",
    "javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1",
    ",utf-,*,enq=0.",
];

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in WORDS {
        bytes.extend_from_slice(&(word.len() as u32).to_be_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend(REST.concat().bytes());
    bytes
}

/// Reads blocks.
pub(crate) struct Unpacker(Decompress);

impl Unpacker {
    pub(crate) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(crate) fn unpack(&mut self, mut packed: &[u8]) -> Result<Headers, SpdyError> {
        let mut block = Vec::new();
        loop {
            let (before_in, before_out) = (self.0.total_in(), block.len());
            block.reserve(STEP_BYTES);
            let status = match self.0.decompress_vec(packed, &mut block, FlushDecompress::Sync) {
                Ok(status) => status,
                Err(error) if error.needs_dictionary().is_some() => {
                    let unfit = |_| SpdyError::Headers("another dictionary");
                    self.0.set_dictionary(&dictionary()).map_err(unfit)?;
                    Status::Ok
                }
                Err(_) => return Err(SpdyError::Headers("not zlib")),
            };
            let used = usize::try_from(self.0.total_in() - before_in).unwrap_or(packed.len());
            packed = &packed[used..];
            if block.len() > BLOCK_BYTES_MAX {
                return Err(SpdyError::Headers("too many"));
            }
            let stuck = used == 0 && block.len() == before_out && status != Status::Ok;
            if (packed.is_empty() && block.len() < block.capacity()) || stuck {
                return parse(&block);
            }
        }
    }
}

fn parse(mut block: &[u8]) -> Result<Headers, SpdyError> {
    let cut = || SpdyError::Headers("cut off");
    let pairs = number(&mut block).ok_or_else(cut)?;
    if pairs > PAIRS_MAX {
        return Err(SpdyError::Headers("too many"));
    }
    let mut headers = Vec::with_capacity(pairs);
    for _ in 0..pairs {
        let name = text(&mut block).ok_or_else(cut)?.to_ascii_lowercase();
        headers.push((name, text(&mut block).ok_or_else(cut)?));
    }
    Ok(headers)
}

fn number(block: &mut &[u8]) -> Option<usize> {
    let (head, rest) = block.split_first_chunk::<4>()?;
    *block = rest;
    Some(u32::from_be_bytes(*head) as usize)
}

fn text(block: &mut &[u8]) -> Option<String> {
    let length = number(block)?;
    let (head, rest) = block.split_at_checked(length)?;
    *block = rest;
    Some(String::from_utf8_lossy(head).into_owned())
}

/// Writes blocks.
pub(crate) struct Packer(Compress);

impl Packer {
    pub(crate) fn new() -> Self {
        let mut compress = Compress::new(Compression::default(), true);
        // A fresh stream takes a dictionary.
        let _ = compress.set_dictionary(&dictionary());
        Self(compress)
    }

    pub(crate) fn pack(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>, SpdyError> {
        let mut block = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&(text.len() as u32).to_be_bytes());
            block.extend_from_slice(text.as_bytes());
        }
        let mut packed = Vec::new();
        let mut left = block.as_slice();
        loop {
            let before = self.0.total_in();
            packed.reserve(STEP_BYTES);
            self.0
                .compress_vec(left, &mut packed, FlushCompress::Sync)
                .map_err(|_| SpdyError::Headers("not packable"))?;
            let used = usize::try_from(self.0.total_in() - before).unwrap_or(left.len());
            left = &left[used..];
            if left.is_empty() && packed.len() < packed.capacity() {
                return Ok(packed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_go_through_in_order() {
        assert_eq!(dictionary().len(), 1423);
        let (mut packer, mut unpacker) = (Packer::new(), Unpacker::new());
        for round in 0..3 {
            let value = format!("value {round}");
            let packed = packer.pack(&[("streamtype", "stdin"), ("x", &value)]).unwrap();
            assert_eq!(
                packed[0] & 0x0f == 8 && round == 0,
                round == 0,
                "a zlib header comes first, and once"
            );
            let headers = unpacker.unpack(&packed).unwrap();
            assert_eq!(
                headers,
                [("streamtype".to_owned(), "stdin".to_owned()), ("x".into(), value)]
            );
        }
        assert!(Unpacker::new().unpack(b"nonsense").is_err());
        assert!(Unpacker::new().unpack(&[]).is_err());
    }
}
