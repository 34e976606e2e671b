/// A set of small numbers (nodes), one bit each, in the layout of the WIT type `node-set`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// The set of all numbers below `count`.
    pub fn all_below(count: usize) -> Self {
        let mut words = vec![u64::MAX; count / 64];
        if !count.is_multiple_of(64) {
            words.push((1u64 << (count % 64)) - 1);
        }
        Self { words }
    }

    /// A set from its words: bit `n % 64` of word `n / 64` is `n`.
    pub fn from_words(words: Vec<u64>) -> Self {
        Self { words }
    }

    /// The words; trailing zero words may be absent.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Whether `n` is in the set.
    pub fn contains(&self, n: u32) -> bool {
        self.words
            .get(n as usize / 64)
            .is_some_and(|w| w >> (n % 64) & 1 == 1)
    }

    /// Adds `n`.
    pub fn insert(&mut self, n: u32) {
        let word = n as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (n % 64);
    }

    /// Removes `n`.
    pub fn remove(&mut self, n: u32) {
        if let Some(word) = self.words.get_mut(n as usize / 64) {
            *word &= !(1 << (n % 64));
        }
    }

    /// Removes every member of `other`.
    pub fn subtract(&mut self, other: &Bits) {
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine &= !theirs;
        }
    }

    /// Adds every member of `other`.
    pub fn unite(&mut self, other: &Bits) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine |= theirs;
        }
    }

    /// Keeps only the members of `other`.
    pub fn intersect(&mut self, other: &Bits) {
        self.words.truncate(other.words.len());
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine &= theirs;
        }
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Whether the set has no member.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&w| w == 0)
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(i, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                if rest == 0 {
                    return None;
                }
                let bit = rest.trailing_zeros();
                rest &= rest - 1;
                Some(i as u32 * 64 + bit)
            })
        })
    }
}

impl FromIterator<u32> for Bits {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut bits = Self::default();
        for n in numbers {
            bits.insert(n);
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_back_in_order_across_word_borders() {
        let bits: Bits = [64, 0, 63, 200].into_iter().collect();
        assert_eq!(bits.iter().collect::<Vec<_>>(), [0, 63, 64, 200]);
        assert_eq!(bits.count(), 4);
    }

    #[test]
    fn all_below_has_exactly_that_many() {
        for count in [0, 1, 63, 64, 65, 5000] {
            assert_eq!(Bits::all_below(count).count(), count);
        }
    }

    #[test]
    fn sets_of_different_lengths_combine() {
        let mut long = Bits::all_below(130);
        long.subtract(&Bits::all_below(64));
        assert_eq!(long.iter().next(), Some(64));
        long.intersect(&Bits::all_below(66));
        assert_eq!(long.iter().collect::<Vec<_>>(), [64, 65]);
        let mut short = Bits::all_below(1);
        short.unite(&long);
        assert_eq!(short.iter().collect::<Vec<_>>(), [0, 64, 65]);
    }
}
