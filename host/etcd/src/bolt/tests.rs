//! What is written is read back; nothing that is read makes the reader panic.

use std::io;

use super::reader::ReadAt;
use super::*;

impl ReadAt for &[u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let bytes = self.get(start..start + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

type Content = Vec<(String, Vec<(Vec<u8>, Vec<u8>)>)>;

fn fill(content: &Content, writer: &mut Writer<'_, BoltError>) -> Result<(), BoltError> {
    for (bucket, entries) in content {
        writer.bucket(bucket)?;
        for (key, value) in entries {
            writer.put(key, value)?;
        }
    }
    Ok(())
}

fn write_all(content: &Content) -> Result<Vec<u8>, BoltError> {
    let layout = plan(|writer| fill(content, writer))?;
    let mut file = Vec::new();
    let mut sink = |page: &[u8]| {
        file.extend_from_slice(page);
        Ok(())
    };
    write(layout, &mut sink, |writer| fill(content, writer))?;
    assert_eq!(file.len() as u64, layout.size_bytes());
    Ok(file)
}

fn read_all(file: &[u8]) -> Result<Content, BoltError> {
    let mut content = Content::new();
    Reader::open(file, file.len() as u64)?.walk(&mut |visit| {
        match visit {
            Visit::Bucket(name) => {
                content.push((String::from_utf8_lossy(name).into_owned(), Vec::new()));
            }
            Visit::Entry { key, value } => {
                let bucket = &mut content.last_mut().unwrap().1;
                bucket.push((key.to_vec(), value.to_vec()));
            }
        }
        Ok::<_, BoltError>(())
    })?;
    Ok(content)
}

fn entries(count: usize, value_bytes: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let entry = |n: usize| (format!("key/{n:08}").into_bytes(), vec![n as u8; value_bytes]);
    (0..count).map(entry).collect()
}

fn mixed() -> Content {
    vec![
        ("alarm".into(), Vec::new()),
        ("auth".into(), entries(3, 10)),
        ("key".into(), entries(5_000, 90)),
        ("lease".into(), entries(40, 400)),
        ("meta".into(), entries(2, 40_000)),
    ]
}

#[test]
fn what_is_written_is_read() {
    let long_keys = (0..50u8).map(|n| (vec![n + 1; 3_000], vec![n]));
    let cases: [Content; 7] = [
        Vec::new(),
        vec![("one".into(), Vec::new())],
        vec![
            ("inline".into(), entries(2, 100)),
            ("page".into(), entries(2, 900)),
        ],
        vec![("deep".into(), entries(200_000, 1))],
        vec![("large".into(), entries(3, 1_500_000))],
        vec![("keys".into(), long_keys.collect())],
        mixed(),
    ];
    for content in cases {
        let file = write_all(&content).unwrap();
        assert_eq!(file.len() % 4096, 0);
        let names: Vec<_> = content.iter().map(|(name, _)| name).collect();
        assert!(read_all(&file).unwrap() == content, "{names:?}");
    }
}

#[test]
fn what_is_out_of_order_is_refused() {
    let put = |key: &str| (key.as_bytes().to_vec(), Vec::new());
    let cases: [(Content, &str); 4] = [
        (vec![("a".into(), vec![put("2"), put("1")])], "\"1\""),
        (vec![("a".into(), vec![put("1"), put("1")])], "\"1\""),
        (vec![("b".into(), Vec::new()), ("a".into(), Vec::new())], "\"a\""),
        (vec![("a".into(), vec![put("")])], "\"\""),
    ];
    for (content, mentions) in cases {
        let error = write_all(&content).unwrap_err().to_string();
        assert!(error.contains(mentions), "{error}");
    }
}

#[test]
fn content_that_changes_between_the_passes_is_noticed() {
    let layout = plan(|writer| fill(&mixed(), writer)).unwrap();
    let mut other = mixed();
    other[2].1.truncate(4_000);
    let written = write(layout, &mut |_| Ok(()), |writer| fill(&other, writer));
    assert!(matches!(written, Err(BoltError::Changed)), "{written:?}");
}

#[test]
fn damage_is_named() {
    let good = write_all(&mixed()).unwrap();
    let leaf = 3 * 4096;
    type Damage = fn(&mut Vec<u8>);
    let cases: [(Damage, &str); 7] = [
        (|file| file.truncate(5 * 4096), "cut off: it has 20480 bytes"),
        (|file| file.truncate(20), "not a bbolt database"),
        (|file| file[16] ^= 1, ""),
        (
            |file| {
                file[16] ^= 1;
                file[4096 + 60] ^= 1;
            },
            "not a bbolt database",
        ),
        (
            |file| file[3 * 4096] = 9,
            "page 3 is damaged: it says that it is page 9",
        ),
        (
            |file| file[3 * 4096 + 8] = 4,
            "page 3 is damaged: its type is 0x4",
        ),
        (
            |file| file[2 * 4096 + 10] = 1,
            "page 0 is damaged: it is in use twice",
        ),
    ];
    assert_eq!(good[leaf], 3);
    for (damage, mentions) in cases {
        let mut file = good.clone();
        damage(&mut file);
        match read_all(&file) {
            Ok(content) => assert!(mentions.is_empty() && content == mixed(), "{mentions}"),
            Err(error) => assert!(
                !mentions.is_empty() && error.to_string().contains(mentions),
                "{error}: {mentions}"
            ),
        }
    }
}

/// How many damaged files are read; more by `BOLT_FUZZ_RUNS`.
const FUZZ_RUNS: usize = 3_000;

#[test]
fn garbage_is_an_error_or_an_answer() {
    let runs = std::env::var("BOLT_FUZZ_RUNS").map_or(FUZZ_RUNS, |runs| runs.parse().unwrap());
    let seed =
        std::env::var("BOLT_FUZZ_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("BOLT_FUZZ_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut content = mixed();
    content[2].1.truncate(300);
    let good = write_all(&content).unwrap();
    let mut refused = 0;
    for _ in 0..runs {
        let mut file = good.clone();
        for _ in 0..random.usize(1..4) {
            mutate(&mut file, &mut random);
        }
        refused += usize::from(read_all(&file).is_err());
    }
    assert!(refused > 0, "no damage was noticed in {runs} runs");
}

fn mutate(file: &mut Vec<u8>, random: &mut fastrand::Rng) {
    // Headers and entries are at the pages' beginnings: most damage goes there.
    let page = random.usize(0..file.len().div_ceil(4096)) * 4096;
    let reach = if random.bool() { 64 } else { 4096 };
    let at = (page + random.usize(0..reach)).min(file.len() - 1);
    match random.u8(0..5) {
        0 => file[at] ^= 1 << random.u8(0..8),
        1 => file[at] = random.u8(..),
        2 => file[at..].iter_mut().take(8).for_each(|byte| *byte = u8::MAX),
        3 => {
            let from = random.usize(0..file.len().div_ceil(4096)) * 4096;
            let copy: Vec<u8> = file[from..].iter().take(4096).copied().collect();
            file[page..]
                .iter_mut()
                .zip(copy)
                .for_each(|(to, from)| *to = from);
        }
        _ => file.truncate(at.max(1)),
    }
}
