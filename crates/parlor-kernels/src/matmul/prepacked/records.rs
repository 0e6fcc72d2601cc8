//! Where a weight's records are: in memory of their own, or still to be made of a weight in a mapped file.
//!
//! Memory of its own must be cleared by the system before it is written, which for a whole model takes longer than a pass
//! over it. So a weight can wait: its first product packs a panel at a time into a near cache, with the same result, and the
//! second makes the records that stay. The first answer comes that much earlier.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::{Order, PANEL, RUN, packing};
use crate::memory::huge_pages::Pages;
use crate::memory::scratch::{self, CacheLine, WEIGHT_PANELS};
use crate::parallel::ParallelExt as _;
use crate::{Tensor, View};

/// How a weight is cut into panels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) order: Order,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Layout {
    /// That of `weight`, rows of `columns`; none where its format or its width cannot be.
    ///
    /// # Panics
    /// When `weight` is no whole number of rows.
    pub(super) fn of(weight: View<'_>, columns: usize) -> Option<Self> {
        let order = match weight {
            View::Bf16(_) => Order::Pairs,
            View::Block(blocks) => Order::of(blocks.format()),
            _ => return None,
        };
        if columns == 0 || order != Order::Pairs && !columns.is_multiple_of(order.columns()) {
            return None;
        }
        let rows = weight.len() / columns;
        assert_eq!(weight.len(), rows * columns, "whole rows");
        Some(Self { order, rows, columns })
    }

    /// Records of a panel.
    pub(super) fn records(self) -> usize {
        self.columns.div_ceil(self.order.columns())
    }

    /// Lines of a panel.
    pub(super) fn panel(self) -> usize {
        self.records() * self.order.lines()
    }

    /// Lines of all.
    pub(super) fn lines(self) -> usize {
        self.rows.div_ceil(PANEL) * self.panel()
    }

    /// Packs a panel of `weight` into `lines`.
    fn pack(self, weight: View<'_>, panel: usize, lines: &mut [CacheLine]) {
        let first = panel * PANEL;
        let own = weight.slice(first * self.columns..(first + PANEL).min(self.rows) * self.columns);
        packing::pack(self.order, own, self.columns, lines);
    }

    /// Packs all, and calls `done` with runs of elements that are packed, which may be let go of.
    pub(super) fn pack_all(self, weight: View<'_>, done: impl Fn(Range<usize>)) -> Pages {
        let per_panel = self.panel();
        let run = (RUN / (per_panel * size_of::<CacheLine>())).max(1);
        Pages::new(self.lines(), |lines| {
            for (index, lines) in lines.chunks_mut(run * per_panel).enumerate() {
                let panels = lines.chunks_mut(per_panel).enumerate();
                panels.par_for_each(|(panel, lines)| self.pack(weight, index * run + panel, lines));
                let first = index * run * PANEL;
                done(first * self.columns..(first + run * PANEL).min(self.rows) * self.columns);
            }
        })
    }
}

/// The records of a weight: `[panel][record][line]`.
#[derive(Debug)]
pub(super) struct Records {
    layout: Layout,
    made: OnceLock<Pages>,
    /// Whether they are made; who makes them holds `making`. The lock of `made` would do, but the standard library is compiled
    /// without the sanitizer of threads, which follows this one.
    ready: AtomicBool,
    making: Mutex<()>,
    /// What they are made of, when that can wait, and whether a product has been made of it.
    source: Option<(Tensor, AtomicBool)>,
}

impl Records {
    pub(super) fn new(layout: Layout, pages: Pages) -> Self {
        Self {
            layout,
            made: OnceLock::from(pages),
            ready: AtomicBool::new(true),
            making: Mutex::default(),
            source: None,
        }
    }

    /// Those of a tensor, made when they are needed.
    pub(super) fn of_later(layout: Layout, source: Tensor) -> Self {
        Self {
            layout,
            made: OnceLock::new(),
            ready: AtomicBool::new(false),
            making: Mutex::default(),
            source: Some((source, AtomicBool::new(false))),
        }
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// All of them, made now if they are not there.
    pub(super) fn all(&self) -> &[CacheLine] {
        if !self.ready.load(Ordering::Acquire) {
            let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            // Another thread may have made them meanwhile.
            if !self.ready.load(Ordering::Acquire) {
                if let Some((source, _)) = &self.source {
                    let pages = self.layout.pack_all(source.view(), |own| source.release_elements(own));
                    let _ = self.made.set(pages);
                }
                self.ready.store(true, Ordering::Release);
            }
        }
        self.made.get().map_or(&[], |pages| pages)
    }

    /// What they are still to be made of.
    pub(super) fn waiting(&self) -> Option<&Tensor> {
        if self.ready.load(Ordering::Acquire) {
            return None;
        }
        self.source.as_ref().map(|(source, _)| source)
    }

    /// To be called before a product, by no task of it: makes them unless this is the first.
    pub(super) fn before_product(&self) {
        if let Some((_, met)) = &self.source
            && met.swap(true, Ordering::Relaxed)
        {
            self.all();
        }
    }

    /// Calls `use_them` with the lines of `panels`, packed for this call where there are no records yet.
    pub(super) fn with_panels(&self, panels: Range<usize>, use_them: impl FnOnce(&[CacheLine])) {
        let per_panel = self.layout.panel();
        let Some(source) = self.waiting() else {
            return use_them(&self.all()[panels.start * per_panel..panels.end * per_panel]);
        };
        scratch::with(&WEIGHT_PANELS, panels.len() * per_panel, |lines: &mut [CacheLine]| {
            for (panel, lines) in panels.zip(lines.chunks_mut(per_panel)) {
                self.layout.pack(source.view(), panel, lines);
            }
            use_them(lines);
        });
    }
}
