//! The rows of a run, to be read as often as needed: held in memory when their files are small, else read
//! again, batch by batch, for each use.
//!
//! A mixture by weights is always held, because it draws rows by number from all data sets at once.

use std::borrow::Cow;
use std::iter;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

use parlor_text::{
    BatchLimits, DataConfig, DatasetConfig, OnBadRow, ReadOptions, RowKind, SourcedRow, bytes, data_files,
    each_text, eval_rows,
};
use serde::{Deserialize, Serialize};

use super::rows::{read_training_rows, scan_rows};
use crate::error::TrainError;

/// Files of fewer bytes in all are read once and held.
const HELD: u64 = 32 << 20;
/// Assumed ratio of text to file size for compressed formats.
const COMPRESSION: u64 = 8;
/// Text of a batch, in bytes, and batches that the reading thread keeps ready.
pub(crate) const BATCH: usize = 4 << 20;
const WAITING: usize = 2;

/// Side of the split by `data.val_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    Train,
    Eval,
}

/// Statistics of the rows, known once all of them were read. The token cache stores them under these names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RowStatistics {
    /// Rows of each data set, of both splits.
    sets: Vec<usize>,
    /// Rows of this split.
    pub(crate) rows: usize,
    /// Rows of the other split.
    other: usize,
    /// Bytes of text, of both splits.
    bytes: u64,
    /// Whether some row is a conversation.
    #[serde(rename = "converses")]
    pub(crate) has_conversations: bool,
    /// Warnings for the user.
    pub(crate) warnings: Vec<String>,
}

impl RowStatistics {
    fn count(&mut self, rows: &[SourcedRow]) {
        self.bytes += rows.iter().map(|row| bytes(&row.row) as u64).sum::<u64>();
        self.has_conversations |= rows.iter().any(|row| row.row.kind() != RowKind::Text);
    }

    fn of(rows: &[SourcedRow], other: usize, warnings: Vec<String>) -> Self {
        let mut statistics = Self { rows: rows.len(), other, warnings, ..Self::default() };
        statistics.count(rows);
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
    /// Whether the rows are streamed, their number unknown.
    endless: bool,
}

/// A sample of the rows' text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TextSample {
    /// About this share of all rows.
    Share(f64),
    /// This many bytes from the beginning.
    First(u64),
}

/// `data` with `path` as its only data set, without a split.
pub(crate) fn only(path: &Path, data: &DataConfig) -> DataConfig {
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
    /// The two splits of the rows that `data` names: training, evaluation. Statistics that are `known` from
    /// an earlier run are not computed again.
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
        if mixes(&sets) || !is_large(&sets) {
            let rows = read_training_rows(data)?;
            let mut statistics = RowStatistics::of(&rows.train.rows, rows.eval.len(), rows.train.warnings);
            statistics.count(&rows.eval);
            statistics.sets = rows.sets;
            return Ok(both(statistics, [Some(rows.train.rows), Some(rows.eval)]));
        }
        let mut statistics = RowStatistics::default();
        for set in &sets {
            let mut count = 0;
            let found =
                scan_rows(Path::new(&set.path), data, &read_options(set), limits(data), &mut |rows| {
                    count += rows.len();
                    statistics.count(&rows);
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

    /// The same for streamed data: only the first batch is read now, and the evaluation split is empty.
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
            statistics.count(&rows);
            ControlFlow::Break(())
        })?;
        train.statistics = statistics;
        Ok((train, kept))
    }

    /// The rows of one path.
    ///
    /// # Errors
    /// Those of [`read_training_rows`].
    pub(crate) fn open_path(
        path: &Path,
        data: &DataConfig,
        known: Option<RowStatistics>,
    ) -> Result<Self, TrainError> {
        Ok(Self::open(&only(path, data), known)?.0)
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

    /// Hands all rows to `take`, in order, a batch at a time, while another thread reads ahead.
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
        self.read_ahead(|batches| batches.into_iter().try_for_each(|rows| take(&rows)))?
    }

    /// Hands the texts of a sample of the rows to `take`; the same texts at each call.
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
                &mut rows
                    .iter()
                    .zip(sampled(share))
                    .filter(|(_, kept)| *kept)
                    .flat_map(|(row, _)| texts(row)),
            ));
        }
        self.read_ahead(|batches| {
            let rows = batches.into_iter().flatten().zip(sampled(share));
            let mut seen = 0;
            let rows = rows.take_while(|(row, _)| {
                let before = seen;
                seen += bytes(&row.row) as u64;
                before < most
            });
            take(&mut rows.filter(|(_, kept)| *kept).flat_map(|(row, _)| texts(&row)))
        })
    }

    /// A sample of at most about `most` bytes of text.
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

    /// Reads on another thread while `take` uses what was read.
    fn read_ahead<T>(&self, take: impl FnOnce(Receiver<Vec<SourcedRow>>) -> T) -> Result<T, TrainError> {
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(WAITING);
            let reader = std::thread::Builder::new().spawn_scoped(scope, move || {
                self.read(&mut |rows| match sender.send(rows) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                })
            });
            let reader =
                reader.map_err(|error| TrainError::data("cannot start a thread that reads", error))?;
            let taken = take(receiver);
            match reader.join() {
                Ok(read) => read.map(|_| taken),
                Err(_) => Err(TrainError::data("cannot read the data", "the thread that reads it failed")),
            }
        })
    }

    /// Hands all rows to `take`, in order, until it breaks. Returns warnings for the user.
    ///
    /// # Errors
    /// When the rows cannot be read, or their number has changed.
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
        // A stream uses rows before all were read, so its first bad row ends it at once.
        let collects_problems = !self.endless || self.data.on_bad_row == OnBadRow::Skip;
        let limits =
            BatchLimits { problems: if collects_problems { usize::MAX } else { 1 }, ..limits(&self.data) };
        for (index, set) in sets.iter().enumerate() {
            // The rows of a stream are not counted, and none of them are kept for evaluation.
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
                return Err(TrainError::data(set.path.clone(), why));
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

/// Whether the data sets are mixed by weights.
fn mixes(sets: &[DatasetConfig]) -> bool {
    sets.iter().any(|set| set.weight.is_some())
}

/// Whether the files are too large to hold their rows. Unreadable files are not: reading them reports why.
fn is_large(sets: &[DatasetConfig]) -> bool {
    let files = sets.iter().filter_map(|set| data_files(Path::new(&set.path)).ok()).flatten();
    let size = |file: &Path| {
        let bytes = std::fs::metadata(file).map_or(0, |about| about.len());
        let end = file.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
        let compressed = ["gz", "gzip", "zst", "zstd", "parquet", "arrow", "feather"].contains(&end.as_str());
        if compressed { bytes * COMPRESSION } else { bytes }
    };
    files.map(|file| size(&file)).sum::<u64>() > HELD
}

/// Which rows of a data set are kept for evaluation.
fn mask(set: &DatasetConfig, data: &DataConfig, rows: usize) -> Result<Vec<bool>, TrainError> {
    if data.val_size <= 0.0 {
        return Ok(vec![false; rows]);
    }
    eval_rows(rows, data.val_size, data.seed)
        .map_err(|error| TrainError::Nothing(format!("{}: {error}", set.path)))
}

/// For each row in order whether it belongs to the sample: a function of its number alone (the mixing function of
/// SplitMix64).
fn sampled(share: f64) -> impl Iterator<Item = bool> + Send {
    let mut state = 0u64;
    iter::repeat_with(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 * (-53f64).exp2() < share
    })
}
