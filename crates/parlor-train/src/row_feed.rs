//! The rows of a run: held in memory where their files are small, else read anew, batch by batch, for each use of them.
//!
//! A mixture by weights is always held: it draws rows by their number from all data sets at once.

use std::borrow::Cow;
use std::iter;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

use parlor_text::{
    BatchLimits, DataConfig, DatasetConfig, OnBadRow, ReadOptions, RowKind, SourcedRow, bytes, data_files,
    each_text, kept_rows,
};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::materials::{data_error, scan_rows};
use crate::training_rows::read_training_rows;

/// Files of fewer bytes are read once and held.
const HELD: u64 = 32 << 20;
/// What a compressed file, or one that compresses inside, is taken to hold for each byte.
const COMPRESSION: u64 = 8;
/// Text of a batch, in bytes, and batches that wait while others are used.
pub(crate) const BATCH: usize = 4 << 20;
const WAITING: usize = 2;

/// Which side of `data.val_size` rows are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// Trained on.
    Train,
    /// Kept for evaluation.
    Eval,
}

/// What is known of rows once all of them were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RowStatistics {
    /// Rows of each data set, before any is kept for evaluation.
    sets: Vec<usize>,
    /// Rows of this split.
    pub(crate) rows: usize,
    /// Rows of the other split.
    other: usize,
    /// Bytes of text, of both parts.
    bytes: u64,
    /// Whether some row is a conversation.
    #[serde(rename = "converses")]
    pub(crate) has_conversations: bool,
    /// What the user should know.
    pub(crate) warnings: Vec<String>,
}

impl RowStatistics {
    fn see(&mut self, rows: &[SourcedRow]) {
        self.bytes += rows.iter().map(|row| bytes(&row.row) as u64).sum::<u64>();
        self.has_conversations |= rows.iter().any(|row| row.row.kind() != RowKind::Text);
    }

    fn of(rows: &[SourcedRow], other: usize, warnings: Vec<String>) -> Self {
        let mut statistics = Self { rows: rows.len(), other, warnings, ..Self::default() };
        statistics.see(rows);
        statistics
    }

    fn of_other(&self) -> Self {
        Self { rows: self.other, other: self.rows, warnings: Vec::new(), ..self.clone() }
    }
}

/// Rows that can be read as often as they are needed.
#[derive(Clone, Debug)]
pub(crate) struct RowReader {
    pub(crate) data: DataConfig,
    split: Split,
    pub(crate) statistics: RowStatistics,
    held: Option<Vec<SourcedRow>>,
    /// Whether nobody knows how many rows there are.
    endless: bool,
}

/// What of the rows a use of their text reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TextSample {
    /// About this share of all of them.
    Share(f64),
    /// So many bytes from the beginning.
    First(u64),
}

/// Settings under which `path` alone is read, whole.
pub(crate) fn alone(path: &Path, data: &DataConfig) -> DataConfig {
    let set = DatasetConfig {
        path: path.to_string_lossy().into_owned(),
        weight: None,
        kind: data.kind,
        columns: data.columns.clone(),
        tags: data.tags.clone(),
        max_samples: None,
    };
    DataConfig { datasets: vec![set], val_size: 0.0, ..data.clone() }
}

impl RowReader {
    /// The rows that `data` names, and those of them that it keeps for evaluation. What is `known` of them from an
    /// earlier run is not looked at again.
    ///
    /// # Errors
    /// Those of [`read_training_rows`].
    pub(crate) fn open(data: &DataConfig, known: Option<RowStatistics>) -> Result<(Self, Self), TrainError> {
        let reader =
            |split, statistics, held| Self { data: data.clone(), split, statistics, held, endless: false };
        let both = |statistics: RowStatistics, [train, kept]: [Option<Vec<SourcedRow>>; 2]| {
            let other = statistics.of_other();
            (reader(Split::Train, statistics, train), reader(Split::Eval, other, kept))
        };
        if let Some(known) = known {
            return Ok(both(known, [None, None]));
        }
        let sets = data.training_sets();
        if mixes(&sets) || !are_many(&sets) {
            let rows = read_training_rows(data)?;
            let mut statistics = RowStatistics::of(&rows.train.rows, rows.eval.len(), rows.train.warnings);
            statistics.see(&rows.eval);
            statistics.sets = rows.sets;
            return Ok(both(statistics, [Some(rows.train.rows), Some(rows.eval)]));
        }
        let mut statistics = RowStatistics::default();
        for set in &sets {
            let mut count = 0;
            let found =
                scan_rows(Path::new(&set.path), data, &read_options(set), limits(data), &mut |rows| {
                    count += rows.len();
                    statistics.see(&rows);
                    ControlFlow::Continue(())
                })?;
            statistics.warnings.extend(found.warnings);
            let kept = mask(set, data, count)?.iter().filter(|&&kept| kept).count();
            statistics.sets.push(count);
            statistics.rows += count - kept;
            statistics.other += kept;
        }
        Ok(both(statistics, [None, None]))
    }

    /// The rows that `data` names, of which only the first are looked at now, and none for evaluation.
    ///
    /// # Errors
    /// When the first rows cannot be read.
    pub(crate) fn stream(data: &DataConfig) -> Result<(Self, Self), TrainError> {
        let reader =
            |split, statistics| Self { data: data.clone(), split, statistics, held: None, endless: true };
        let (mut train, kept) =
            (reader(Split::Train, RowStatistics::default()), reader(Split::Eval, RowStatistics::default()));
        let mut statistics = RowStatistics::default();
        train.read(&mut |rows| {
            statistics.see(&rows);
            ControlFlow::Break(())
        })?;
        train.statistics = statistics;
        Ok((train, kept))
    }

    /// The rows of one path.
    ///
    /// # Errors
    /// Those of [`read_rows`](crate::materials::read_rows).
    pub(crate) fn open_path(
        path: &Path,
        data: &DataConfig,
        known: Option<RowStatistics>,
    ) -> Result<Self, TrainError> {
        Ok(Self::open(&alone(path, data), known)?.0)
    }

    /// All rows at once.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn all(&self) -> Result<Cow<'_, [SourcedRow]>, TrainError> {
        if let Some(rows) = &self.held {
            return Ok(Cow::Borrowed(rows));
        }
        let mut all = Vec::with_capacity(self.statistics.rows);
        self.read(&mut |rows| {
            all.extend(rows);
            ControlFlow::Continue(())
        })?;
        Ok(Cow::Owned(all))
    }

    /// Hands all rows to `take`, in order, a batch at a time; they are read on a thread of their own meanwhile.
    ///
    /// # Errors
    /// When they cannot be read, or what `take` says.
    pub(crate) fn each(
        &self,
        take: &mut dyn FnMut(&[SourcedRow]) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        if let Some(rows) = &self.held {
            return rows.chunks(self.data.batch_size.max(1)).try_for_each(take);
        }
        self.beside(|batches| batches.into_iter().try_for_each(|rows| take(&rows)))?
    }

    /// Gives every text of these rows to `take`: the same ones each time.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn texts<T>(
        &self,
        sample: TextSample,
        take: impl FnOnce(&mut (dyn Iterator<Item = String> + Send)) -> T,
    ) -> Result<T, TrainError> {
        let texts = |row: &SourcedRow| {
            let mut texts = Vec::new();
            each_text(&row.row, &mut |text| texts.push(text.to_owned()));
            texts
        };
        let (share, most) = match sample {
            TextSample::Share(share) => (share, u64::MAX),
            TextSample::First(most) => (1.0, most),
        };
        if let Some(rows) = &self.held {
            return Ok(take(
                &mut rows.iter().zip(chosen(share)).filter(|(_, kept)| *kept).flat_map(|(row, _)| texts(row)),
            ));
        }
        self.beside(|batches| {
            let rows = batches.into_iter().flatten().zip(chosen(share));
            let mut seen = 0;
            let rows = rows.take_while(|(row, _)| {
                let before = seen;
                seen += bytes(&row.row) as u64;
                before < most
            });
            take(&mut rows.filter(|(_, kept)| *kept).flat_map(|(row, _)| texts(&row)))
        })
    }

    /// Of the rows what holds about so many bytes of text.
    pub(crate) fn sample(&self, most: u64) -> TextSample {
        if self.endless {
            TextSample::First(most)
        } else {
            TextSample::Share(if self.statistics.bytes > most {
                most as f64 / self.statistics.bytes as f64
            } else {
                1.0
            })
        }
    }

    /// Reads on another thread, while `take` uses what was read.
    fn beside<T>(&self, take: impl FnOnce(Receiver<Vec<SourcedRow>>) -> T) -> Result<T, TrainError> {
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(WAITING);
            let reader = std::thread::Builder::new().spawn_scoped(scope, move || {
                self.read(&mut |rows| match sender.send(rows) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                })
            });
            let reader = reader.map_err(|error| data_error("cannot start a thread that reads", error))?;
            let taken = take(receiver);
            match reader.join() {
                Ok(read) => read.map(|_| taken),
                Err(_) => Err(data_error("cannot read the data", "the thread that reads it failed")),
            }
        })
    }

    /// Hands all rows to `take`, in order, until it breaks. Returns what the user should know of what was read.
    ///
    /// # Errors
    /// When they cannot be read, or are others than before.
    pub(crate) fn read(
        &self,
        take: &mut dyn FnMut(Vec<SourcedRow>) -> ControlFlow<()>,
    ) -> Result<Vec<String>, TrainError> {
        let sets = self.data.training_sets();
        if mixes(&sets) {
            let rows = read_training_rows(&self.data)?;
            let _ = take(if self.split == Split::Train { rows.train.rows } else { rows.eval });
            return Ok(rows.train.warnings);
        }
        let mut warnings = Vec::new();
        // Some rows of a stream are used before all were read, so the first that is bad ends it at once.
        let patient = !self.endless || self.data.on_bad_row == OnBadRow::Skip;
        let limits = BatchLimits { problems: if patient { usize::MAX } else { 1 }, ..limits(&self.data) };
        for (index, set) in sets.iter().enumerate() {
            // Nobody counted the rows of a stream, which keeps none for evaluation.
            let expected = self.statistics.sets.get(index).copied();
            let mask = expected.map(|expected| mask(set, &self.data, expected)).transpose()?;
            let (mut count, mut stopped) = (0, false);
            let scan =
                scan_rows(Path::new(&set.path), &self.data, &read_options(set), limits, &mut |mut rows| {
                    rows.retain(|_| {
                        count += 1;
                        mask.as_ref().is_none_or(|mask| {
                            mask.get(count - 1).is_some_and(|&kept| kept == (self.split == Split::Eval))
                        })
                    });
                    let flow = if rows.is_empty() { ControlFlow::Continue(()) } else { take(rows) };
                    stopped = flow.is_break();
                    flow
                })?;
            warnings.extend(scan.warnings);
            if stopped {
                return Ok(warnings);
            }
            if let Some(expected) = expected.filter(|&expected| expected != count) {
                let why = format!("it changed while it was read: {expected} rows before, {count} now");
                return Err(data_error(set.path.clone(), why));
            }
        }
        Ok(warnings)
    }
}

fn limits(data: &DataConfig) -> BatchLimits {
    BatchLimits { rows: data.batch_size.max(1), bytes: BATCH, problems: usize::MAX }
}

fn read_options(set: &DatasetConfig) -> ReadOptions {
    ReadOptions {
        kind: set.kind,
        columns: set.columns.clone(),
        tags: set.tags.clone(),
        max_samples: set.max_samples,
    }
}

fn mixes(sets: &[DatasetConfig]) -> bool {
    sets.iter().any(|set| set.weight.is_some())
}

/// Whether the files are too large to hold their rows. Those that cannot be read are not: reading them says why.
fn are_many(sets: &[DatasetConfig]) -> bool {
    let files = sets.iter().filter_map(|set| data_files(Path::new(&set.path)).ok()).flatten();
    let size = |file: &Path| {
        let bytes = std::fs::metadata(file).map_or(0, |about| about.len());
        let end = file.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
        let packed = ["gz", "gzip", "zst", "zstd", "parquet", "arrow", "feather"].contains(&end.as_str());
        if packed { bytes * COMPRESSION } else { bytes }
    };
    files.map(|file| size(&file)).sum::<u64>() > HELD
}

/// Which rows of a data set are kept for evaluation.
fn mask(set: &DatasetConfig, data: &DataConfig, rows: usize) -> Result<Vec<bool>, TrainError> {
    if data.val_size <= 0.0 {
        return Ok(vec![false; rows]);
    }
    kept_rows(rows, data.val_size, data.seed)
        .map_err(|error| TrainError::Nothing(format!("{}: {error}", set.path)))
}

/// For row after row whether it is one of the share: by its number alone (the mixing function of SplitMix64).
fn chosen(share: f64) -> impl Iterator<Item = bool> + Send {
    let mut state = 0u64;
    iter::repeat_with(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 * (-53f64).exp2() < share
    })
}
