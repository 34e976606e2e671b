//! Texts as small numbers. Text 0 is empty. Texts are never forgotten; the view starts over when there are
//! too many (see `view`).

use std::collections::HashMap;
use std::sync::Arc;

use capstan_points::scheduler::{Delta, Symbol};

pub(crate) struct Symbols {
    numbers: HashMap<Arc<str>, Symbol>,
    texts: Vec<Arc<str>>,
    /// Texts below this one were told.
    told: usize,
}

impl Default for Symbols {
    fn default() -> Self {
        let empty: Arc<str> = Arc::from("");
        Self {
            numbers: HashMap::from([(Arc::clone(&empty), 0)]),
            texts: vec![empty],
            told: 0,
        }
    }
}

impl Symbols {
    /// The text's number, new or old.
    pub(crate) fn intern(&mut self, text: &str) -> Symbol {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.texts.len() as Symbol;
        let text: Arc<str> = Arc::from(text);
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        number
    }

    pub(crate) fn text(&self, symbol: Symbol) -> &str {
        self.texts.get(symbol as usize).map_or("", |text| text)
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// The delta that tells the texts since the last one; none when there are none.
    pub(crate) fn news(&mut self) -> Option<Delta> {
        let delta = (self.told < self.texts.len()).then(|| self.since(self.told));
        self.told = self.texts.len();
        delta
    }

    /// The delta that tells all texts.
    pub(crate) fn all(&self) -> Delta {
        self.since(0)
    }

    fn since(&self, first: usize) -> Delta {
        let texts = self.texts[first..].iter().map(|text| text.to_string()).collect();
        Delta::Symbols {
            first: first as Symbol,
            texts,
        }
    }
}
