//! The texts behind symbols.
//!
//! Symbols come consecutively, so their texts lie in one string with an array of ends. Looking a text up
//! the other way happens for the few texts that a plugin's configuration names: each is searched for
//! once, then compared with every new symbol, so no index of all texts is kept.

use super::Symbol;
use crate::Fault;
use std::cell::RefCell;

/// How many texts a plugin may look up by name; more are found, but by a slow search.
const WANTED_MAX: usize = 256;

/// Texts by symbol, and symbols of texts that were asked for.
#[derive(Debug)]
pub struct Symbols {
    texts: String,
    /// Where each symbol's text ends; it starts where the one before ends.
    ends: Vec<u32>,
    wanted: RefCell<Vec<(Box<str>, Option<Symbol>)>>,
}

impl Default for Symbols {
    fn default() -> Self {
        Self {
            texts: String::new(),
            ends: vec![0],
            wanted: RefCell::default(),
        }
    }
}

impl Symbols {
    /// Adds the texts of `first` and the symbols after it.
    pub(super) fn extend(&mut self, first: Symbol, texts: &[String]) -> Result<(), Fault> {
        for (symbol, text) in (first..).zip(texts) {
            match self.ends.len().cmp(&(symbol as usize)) {
                std::cmp::Ordering::Equal => self.push(symbol, text)?,
                std::cmp::Ordering::Greater if self.text(symbol) == text => {}
                _ => {
                    let known = self.ends.len();
                    return Err(Fault::retry(format!(
                        "symbol {symbol} {text:?} does not follow the {known} known"
                    )));
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, symbol: Symbol, text: &str) -> Result<(), Fault> {
        self.texts.push_str(text);
        let end = u32::try_from(self.texts.len()).map_err(|_| Fault::permanent("symbols exceed 4 GiB"))?;
        self.ends.push(end);
        if let Some(wanted) = self
            .wanted
            .get_mut()
            .iter_mut()
            .find(|w| w.1.is_none() && *w.0 == *text)
        {
            wanted.1 = Some(symbol);
        }
        Ok(())
    }

    /// The text of a symbol; empty for one that was never told.
    pub fn text(&self, symbol: Symbol) -> &str {
        let at = symbol as usize;
        let Some(&end) = self.ends.get(at) else { return "" };
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.texts[start as usize..end as usize]
    }

    /// The symbol of a text, where the cluster knows it.
    pub fn find(&self, text: &str) -> Option<Symbol> {
        let mut wanted = self.wanted.borrow_mut();
        if let Some(known) = wanted.iter().find(|w| *w.0 == *text) {
            return known.1;
        }
        let found = (0..self.ends.len() as Symbol).find(|&symbol| self.text(symbol) == text);
        if wanted.len() < WANTED_MAX {
            wanted.push((text.into(), found));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_asked_for_early_is_found_when_it_comes() {
        let mut symbols = Symbols::default();
        assert_eq!(symbols.find("disk"), None);
        symbols.extend(1, &["cpu".into(), "disk".into()]).unwrap();
        assert_eq!(symbols.find("disk"), Some(2));
        assert_eq!(
            (symbols.text(0), symbols.text(1), symbols.text(2)),
            ("", "cpu", "disk")
        );
        assert_eq!(symbols.find(""), Some(0));
    }

    #[test]
    fn a_gap_is_a_fault_and_a_repeat_is_not() {
        let mut symbols = Symbols::default();
        symbols.extend(0, &["".into(), "cpu".into()]).unwrap();
        symbols.extend(1, &["cpu".into()]).unwrap();
        assert!(symbols.extend(3, &["x".into()]).is_err());
        assert!(symbols.extend(1, &["other".into()]).is_err());
    }
}
