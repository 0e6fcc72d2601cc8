//! Memory for prepacked weights: anonymous pages, huge ones where the system grants them on request. Huge pages need
//! fewer address translations when they are read, and fewer page faults when they are first written.

use std::sync::Arc;

use super::scratch::CacheLine;

/// Immutable cache lines, shared between clones.
#[derive(Clone, Debug)]
pub(crate) struct Pages(Arc<PageStorage>);

#[derive(Debug)]
enum PageStorage {
    Mapped(memmap2::MmapMut),
    Heap(Vec<CacheLine>),
}

/// Smaller allocations come from the heap.
const MIN_MAPPED_BYTES: usize = 1 << 20;

impl Pages {
    /// Allocates `lines` zeroed cache lines and lets `fill` write them.
    pub(crate) fn new(lines: usize, fill: impl FnOnce(&mut [CacheLine])) -> Self {
        let bytes = lines * size_of::<CacheLine>();
        let mut storage = match memmap2::MmapMut::map_anon(bytes.max(1)) {
            Ok(map) if bytes >= MIN_MAPPED_BYTES => {
                // Best effort: without huge pages the memory is only slower.
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage);
                PageStorage::Mapped(map)
            }
            _ => PageStorage::Heap(bytemuck::allocation::zeroed_vec(lines)),
        };
        match &mut storage {
            PageStorage::Mapped(map) => fill(&mut bytemuck::cast_slice_mut(map)[..lines]),
            PageStorage::Heap(own) => fill(own),
        }
        Self(Arc::new(storage))
    }
}

impl std::ops::Deref for Pages {
    type Target = [CacheLine];

    fn deref(&self) -> &[CacheLine] {
        match &*self.0 {
            PageStorage::Mapped(map) => bytemuck::cast_slice(map),
            PageStorage::Heap(own) => own,
        }
    }
}
