//! The index against a naive model, at random.

use std::collections::BTreeMap;

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
            lease: 0,
        };
        index.push(&key, item);
        model
            .0
            .entry(key)
            .or_default()
            .push((main, (!dies).then_some(item)));
        if random.u32(..200) == 0 {
            compacted = random.i64(compacted..=main);
            index.compact(compacted);
        }
        if random.u32(..20) == 0 {
            let bound = |random: &mut fastrand::Rng| Bytes::from(format!("{:03}", random.u32(..900)));
            let (from, to) = (bound(&mut random), bound(&mut random));
            let span = Span::of(&KeyRange::Span(from, to));
            let at = random.i64(compacted.max(1)..=main);
            let found: Vec<_> = index
                .range(&span, at)
                .map(|(key, item)| (key.clone(), item))
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
        }
    }
}
