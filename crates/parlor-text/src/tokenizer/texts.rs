//! Many short texts in one piece of memory, and a way to find one: a vocabulary of 150,000 tokens as strings of their own takes
//! longer to make than a model's first answer takes to compute.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Texts, in order.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    all: String,
    /// Where each ends.
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

    /// Text `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.all.get(start..end)
    }

    /// Bytes of the longest; 0 when there is none.
    pub(crate) fn longest(&self) -> usize {
        self.iter().map(str::len).max().unwrap_or(0)
    }

    /// All of them.
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

/// Where each of some texts is among them.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// Which of two equal texts is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    First,
    Last,
}

impl Places {
    pub(crate) fn of(texts: &Texts, found: Found) -> Self {
        let hasher = DefaultHashBuilder::default();
        let mut table = HashTable::with_capacity(texts.len());
        for (place, text) in texts.iter().enumerate() {
            let same = |other: &u32| texts.get(*other as usize) == Some(text);
            let hash = |other: &u32| hasher.hash_one(texts.get(*other as usize).unwrap_or_default());
            match table.entry(hasher.hash_one(text), same, hash) {
                hashbrown::hash_table::Entry::Vacant(vacant) => {
                    vacant.insert(place as u32);
                }
                hashbrown::hash_table::Entry::Occupied(mut occupied) if found == Found::Last => {
                    *occupied.get_mut() = place as u32;
                }
                hashbrown::hash_table::Entry::Occupied(_) => {}
            }
        }
        Self { table, hasher }
    }

    /// The place of `text` among `texts`, those of which these are the places.
    pub(crate) fn find(&self, texts: &Texts, text: &str) -> Option<u32> {
        let same = |place: &u32| texts.get(*place as usize) == Some(text);
        self.table.find(self.hasher.hash_one(text), same).copied()
    }
}
