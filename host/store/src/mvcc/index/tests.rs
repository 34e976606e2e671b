//! The index against a naive model, at random.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::KeyRange;

/// What each key was at each revision; none is a tombstone.
#[derive(Default)]
struct Model(BTreeMap<Bytes, Vec<(Revision, Option<Item>)>>);

impl Model {
    fn at(&self, key: &Bytes, revision: Revision) -> Option<Item> {
        let mut items = self.0.get(key)?.iter().filter(|(main, _)| *main <= revision);
        items.next_back().and_then(|(_, item)| *item)
    }

    fn range(&self, span: &Span, revision: Revision) -> Vec<(Bytes, Item)> {
        let keys = self.0.keys().filter(|key| span.contains(key));
        keys.filter_map(|key| Some((key.clone(), self.at(key, revision)?)))
            .collect()
    }

    /// Every revision of which a read from one revision to another sees something, and the tombstones between.
    fn reachable(&self, from: Revision, to: Revision) -> Vec<Revision> {
        let mut found = Vec::new();
        for (key, items) in &self.0 {
            let base = self.at(key, from).map(|item| item.rev.main);
            let after = items
                .iter()
                .map(|(main, _)| *main)
                .filter(|main| *main > from && *main <= to);
            found.extend(base.into_iter().chain(after));
        }
        found.sort_unstable();
        found
    }
}

/// What the index says can be read from a revision to another.
fn reachable(index: &KeyIndex, from: Revision, to: Revision) -> Vec<Revision> {
    let mut found = Vec::new();
    let mut next = Some(Box::default());
    while let Some(key) = next {
        next = index.visit_some(&key, 100, |_, history| {
            found.extend(history.reachable(from, to).map(|item| item.rev.main));
        });
    }
    found.sort_unstable();
    found
}

#[test]
fn index_answers_as_the_model() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut index, mut model) = (KeyIndex::default(), Model::default());
    let mut compacted = 0;
    for main in 1..6_000 {
        let key = Bytes::from(format!("{:03}", random.u32(..900)));
        let live = model.at(&key, main);
        let dies = live.is_some() && random.u32(..3) == 0;
        let item = Item {
            rev: Rev { main, sub: 0 },
            create_revision: live.map_or(main, |item| item.create_revision),
            version: if dies {
                0
            } else {
                live.map_or(0, |item| item.version) + 1
            },
            ..Item::MISSING
        };
        index.push(&key, item);
        model
            .0
            .entry(key)
            .or_default()
            .push((main, (!dies).then_some(item)));
        if random.u32(..200) == 0 {
            compacted = random.i64(compacted..=main);
            let (mut from, mut dropped) = (Some(Box::default()), Vec::new());
            while let Some(key) = from {
                from = index.compact_some(&key, compacted, random.usize(1..400), &mut dropped);
            }
        }
        if random.u32(..20) == 0 {
            let bound = |random: &mut fastrand::Rng| Bytes::from(format!("{:03}", random.u32(..900)));
            let (from, to) = (bound(&mut random), bound(&mut random));
            let span = Span::of(&KeyRange::Span(from, to));
            let at = random.i64(compacted.max(1)..=main);
            let found: Vec<_> = index
                .range(&span, at)
                .map(|(key, item)| (Bytes::copy_from_slice(key), item))
                .collect();
            assert_eq!(
                found,
                model.range(&span, at),
                "{span:?} at {at} of {main}, compacted {compacted}"
            );
            assert_eq!(
                index.count_latest(&span),
                model.range(&span, main).len(),
                "{span:?}"
            );
            assert_eq!(reachable(&index, compacted, at), model.reachable(compacted, at));
        }
    }
}
