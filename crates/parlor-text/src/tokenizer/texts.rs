//! Many short texts in one allocation, and a hash index over them. Allocating the 150,000 tokens of a
//! vocabulary one by one takes longer than computing a model's first token.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

/// A list of texts, stored end to end.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    all: String,
    /// End of each text in `all`, in bytes.
    ends: Vec<usize>,
}

impl Texts {
    /// Number of texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.all.get(start..end)
    }

    /// Bytes of the longest text; 0 when there is none.
    pub(super) fn longest(&self) -> usize {
        self.iter().map(str::len).max().unwrap_or(0)
    }

    /// All texts in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<'a> FromIterator<&'a str> for Texts {
    fn from_iter<T: IntoIterator<Item = &'a str>>(texts: T) -> Self {
        let mut own = Self::default();
        for text in texts {
            own.all.push_str(text);
            own.ends.push(own.all.len());
        }
        own
    }
}

/// A hash index from a text to its position in [`Texts`].
#[derive(Clone, Debug)]
pub(super) struct TextIndex {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// Which of several equal texts is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duplicates {
    First,
    Last,
}

impl TextIndex {
    pub(super) fn of(texts: &Texts, duplicates: Duplicates) -> Self {
        let hasher = DefaultHashBuilder::default();
        let mut table = HashTable::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let same = |other: &u32| texts.get(*other as usize) == Some(text);
            let hash = |other: &u32| hasher.hash_one(texts.get(*other as usize).unwrap_or_default());
            match table.entry(hasher.hash_one(text), same, hash) {
                hashbrown::hash_table::Entry::Vacant(vacant) => {
                    vacant.insert(index as u32);
                }
                hashbrown::hash_table::Entry::Occupied(mut occupied) if duplicates == Duplicates::Last => {
                    *occupied.get_mut() = index as u32;
                }
                hashbrown::hash_table::Entry::Occupied(_) => {}
            }
        }
        Self { table, hasher }
    }

    /// The position of `text` in `texts`, which must be those that the index was built of.
    pub(super) fn find(&self, texts: &Texts, text: &str) -> Option<u32> {
        let same = |index: &u32| texts.get(*index as usize) == Some(text);
        self.table.find(self.hasher.hash_one(text), same).copied()
    }
}
