//! Memory for packed weights: anonymous pages, huge ones where the system gives them on request, which are read faster
//! than small ones (fewer translations) and touched faster (fewer faults).

use std::sync::Arc;

use crate::memory::scratch::Line;

/// Lines of zeros until they are written, then shared.
#[derive(Clone, Debug)]
pub(crate) struct Pages(Arc<Memory>);

#[derive(Debug)]
enum Memory {
    Mapped(memmap2::MmapMut),
    Heap(Vec<Line>),
}

/// Fewest bytes for pages of their own.
const LARGE: usize = 1 << 20;

impl Pages {
    /// `lines` lines, filled by `fill`.
    pub(crate) fn new(lines: usize, fill: impl FnOnce(&mut [Line])) -> Self {
        let bytes = lines * size_of::<Line>();
        let mut memory = match memmap2::MmapMut::map_anon(bytes.max(1)) {
            Ok(map) if bytes >= LARGE => {
                // Advice that is not taken costs speed only.
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage);
                Memory::Mapped(map)
            }
            _ => Memory::Heap(bytemuck::allocation::zeroed_vec(lines)),
        };
        match &mut memory {
            Memory::Mapped(map) => fill(&mut bytemuck::cast_slice_mut(map)[..lines]),
            Memory::Heap(own) => fill(own),
        }
        Self(Arc::new(memory))
    }
}

impl std::ops::Deref for Pages {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        match &*self.0 {
            Memory::Mapped(map) => bytemuck::cast_slice(map),
            Memory::Heap(own) => own,
        }
    }
}
