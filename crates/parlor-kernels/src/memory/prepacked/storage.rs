//! The interleaved blocks of a prepacked weight: in memory of their own, or still to be packed from a mapped file.
//!
//! The system clears fresh memory before it is written, which for a whole model takes longer than a pass over it. So a weight in a
//! file is packed lazily: its first product packs one panel at a time into scratch memory that stays in cache, with the same
//! result, and the second product packs the copy that stays. The first answer comes that much earlier.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::layout::{PANEL, PackedLayout};
use super::pack;
use super::source::{MappedSource, PackSource};
use crate::memory::huge_pages::Pages;
use crate::memory::scratch::{self, CacheLine, WEIGHT_PANELS};
use crate::parallel::ParallelExt as _;

/// Bytes of panels that are packed before the pages of their source are released.
const PACK_CHUNK_BYTES: usize = 8 << 20;

/// How a weight, `[rows, columns]`, is cut into panels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PanelGrid {
    pub(crate) layout: PackedLayout,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl PanelGrid {
    /// The grid of `weight` with rows of `columns`; `None` where rows are no whole interleaved blocks.
    ///
    /// # Panics
    /// When `weight` is no whole number of rows.
    pub(crate) fn of(weight: PackSource<'_>, columns: usize) -> Option<Self> {
        let layout = match weight {
            PackSource::Bf16(_) => PackedLayout::Bf16Pairs,
            PackSource::Blocks(blocks) => PackedLayout::of(blocks.format()),
        };
        if columns == 0 || layout != PackedLayout::Bf16Pairs && !columns.is_multiple_of(layout.columns()) {
            return None;
        }
        let rows = weight.len() / columns;
        assert_eq!(weight.len(), rows * columns, "whole rows");
        Some(Self { layout, rows, columns })
    }

    /// Interleaved blocks of a panel.
    pub(crate) fn blocks_per_panel(self) -> usize {
        self.columns.div_ceil(self.layout.columns())
    }

    /// Cache lines of a panel.
    pub(crate) fn panel_lines(self) -> usize {
        self.blocks_per_panel() * self.layout.lines()
    }

    /// Cache lines of the whole weight.
    pub(crate) fn lines(self) -> usize {
        self.rows.div_ceil(PANEL) * self.panel_lines()
    }

    /// Packs panel `panel` of `weight` into `lines`.
    fn pack(self, weight: PackSource<'_>, panel: usize, lines: &mut [CacheLine]) {
        let first = panel * PANEL;
        let own = weight.slice(first * self.columns..(first + PANEL).min(self.rows) * self.columns);
        pack::pack_panel(self.layout, own, self.columns, lines);
    }

    /// Packs all panels, and calls `release` with each run of elements that is no longer read.
    fn pack_all(self, weight: PackSource<'_>, release: impl Fn(Range<usize>)) -> Pages {
        let per_panel = self.panel_lines();
        let chunk = (PACK_CHUNK_BYTES / (per_panel * size_of::<CacheLine>())).max(1);
        Pages::new(self.lines(), |lines| {
            for (index, lines) in lines.chunks_mut(chunk * per_panel).enumerate() {
                let panels = lines.chunks_mut(per_panel).enumerate();
                panels.par_for_each(|(panel, lines)| self.pack(weight, index * chunk + panel, lines));
                let first = index * chunk * PANEL;
                release(first * self.columns..(first + chunk * PANEL).min(self.rows) * self.columns);
            }
        })
    }
}

/// The interleaved blocks of a weight: `[panel][block][line]`.
#[derive(Debug)]
pub(crate) struct PanelStorage {
    grid: PanelGrid,
    packed: OnceLock<Pages>,
    /// Whether `packed` is set. The lock inside `packed` would do, but the standard library is compiled without ThreadSanitizer,
    /// which can follow this flag and `packing`.
    ready: AtomicBool,
    /// Held by the thread that packs.
    packing: Mutex<()>,
    /// What a lazy weight is packed from, and whether it has had its first product.
    source: Option<(MappedSource, AtomicBool)>,
}

impl PanelStorage {
    /// Packs `weight` now; `None` as [`PanelGrid::of`].
    pub(crate) fn pack_now(weight: PackSource<'_>, columns: usize) -> Option<Self> {
        let grid = PanelGrid::of(weight, columns)?;
        Some(Self {
            grid,
            packed: OnceLock::from(grid.pack_all(weight, |_| ())),
            ready: AtomicBool::new(true),
            packing: Mutex::default(),
            source: None,
        })
    }

    /// Packs `source` when it is needed; `None` as [`PanelGrid::of`].
    pub(crate) fn pack_lazily(source: MappedSource, columns: usize) -> Option<Self> {
        let grid = PanelGrid::of(source.elements(), columns)?;
        Some(Self {
            grid,
            packed: OnceLock::new(),
            ready: AtomicBool::new(false),
            packing: Mutex::default(),
            source: Some((source, AtomicBool::new(false))),
        })
    }

    pub(crate) fn grid(&self) -> PanelGrid {
        self.grid
    }

    /// All lines, packed now if they are not yet.
    pub(crate) fn all(&self) -> &[CacheLine] {
        if !self.ready.load(Ordering::Acquire) {
            let _packing = self.packing.lock().unwrap_or_else(PoisonError::into_inner);
            // Another thread may have packed meanwhile.
            if !self.ready.load(Ordering::Acquire) {
                if let Some((source, _)) = &self.source {
                    let pages = self.grid.pack_all(source.elements(), |own| source.release(own));
                    let _ = self.packed.set(pages);
                }
                self.ready.store(true, Ordering::Release);
            }
        }
        self.packed.get().map_or(&[], |pages| pages)
    }

    /// The source of a lazy weight that is not packed yet.
    pub(crate) fn unpacked_source(&self) -> Option<PackSource<'_>> {
        if self.ready.load(Ordering::Acquire) {
            return None;
        }
        self.source.as_ref().map(|(source, _)| source.elements())
    }

    /// Called before each product, outside its tasks: packs a lazy weight unless this is its first product.
    pub(crate) fn before_product(&self) {
        if let Some((_, used)) = &self.source
            && used.swap(true, Ordering::Relaxed)
        {
            self.all();
        }
    }

    /// Calls `use_them` with the lines of `panels`, packed into scratch memory where the weight is not packed yet.
    pub(crate) fn with_panels(&self, panels: Range<usize>, use_them: impl FnOnce(&[CacheLine])) {
        let per_panel = self.grid.panel_lines();
        let Some(source) = self.unpacked_source() else {
            return use_them(&self.all()[panels.start * per_panel..panels.end * per_panel]);
        };
        scratch::with(&WEIGHT_PANELS, panels.len() * per_panel, |lines: &mut [CacheLine]| {
            for (panel, lines) in panels.zip(lines.chunks_mut(per_panel)) {
                self.grid.pack(source, panel, lines);
            }
            use_them(lines);
        });
    }
}
