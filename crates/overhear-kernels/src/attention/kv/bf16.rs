//! Keys and values in bf16, packed for [`attention_bf16`](crate::Kernels::attention_bf16).
//!
//! For register kernels both are B, in panels of 32 outputs (`crate::gemm::layout`): of the keys, outputs are keys
//! and K groups run along the head; of the values, outputs are the head's elements and K groups are pairs of keys.
//! For tile kernels both are A (`super::super::bf16_amx`), stored tile by tile, 16 rows of 16 K groups: a tile of
//! keys is 16 keys with K groups along the head; a tile of values is 16 of the head's elements with K groups of pairs
//! of keys, followed by the tile of the next keys.

use crate::arch::{Arch, TILE};
use crate::gemm::aligned::{AlignedBuffer, as_u16};
use crate::gemm::layout::{NR, group_offset};
use crate::gemm::pack_a::{PackedRows, assert_bf16};
use crate::gemm::tile_kernel::{TileKernel, TileTask};
use crate::kernels::Kernels;
use crate::parallel::{Disjoint, Pool};
use crate::simd::{Simd, Vectorized};

/// K groups of a tile.
pub(crate) const TILE_GROUPS: usize = TILE * TILE;

/// Packed keys and values of all heads.
#[derive(Clone, Debug, Default)]
pub struct PackedKv {
    n_head: usize,
    head_dim: usize,
    n_key: usize,
    /// Layout; `None` before anything is packed.
    layout: Option<Layout>,
    /// Keys, head by head.
    keys: AlignedBuffer,
    /// Values, head by head.
    values: AlignedBuffer,
}

/// Layout of packed keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Panels,
    Tiles,
}

impl Layout {
    fn of(arch: Arch) -> Self {
        if arch.has_tiles() {
            Layout::Tiles
        } else {
            Layout::Panels
        }
    }
}

impl PackedKv {
    /// Room for `n_key` keys and values of `n_head` heads of `head_dim` elements.
    ///
    /// # Panics
    /// If `head_dim` is odd.
    #[must_use]
    pub fn new(n_head: usize, head_dim: usize, n_key: usize) -> Self {
        assert!(head_dim.is_multiple_of(2), "a head of {head_dim} elements");
        let mut this = Self {
            n_head,
            head_dim,
            n_key,
            ..Self::default()
        };
        this.keys = AlignedBuffer::new(n_head * this.keys_groups());
        this.values = AlignedBuffer::new(n_head * this.values_groups());
        this
    }

    /// Bytes that attention of one query reads.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        4 * self.n_head * (self.padded() * self.head_dim / 2 + self.values_groups())
    }

    /// Writes the keys of `head`, as f32, to `to`: `[n_key, head_dim]`.
    ///
    /// # Panics
    /// If there is no such head, or `to` is not that long.
    pub fn copy_keys(&self, head: usize, to: &mut [f32]) {
        assert_eq!(to.len(), self.n_key * self.head_dim);
        let (keys, k_groups) = (self.keys(head), self.head_dim / 2);
        for (key, to) in to.chunks_exact_mut(self.head_dim).enumerate() {
            for (group, to) in to.chunks_exact_mut(2).enumerate() {
                let group = keys[match self.layout {
                    Some(Layout::Tiles) => {
                        let tile = key / TILE * self.key_steps() + group / TILE;
                        tile * TILE_GROUPS + key % TILE * TILE + group % TILE
                    }
                    _ => key / NR * NR * k_groups + group_offset(NR, k_groups, group, key % NR),
                }];
                to[0] = f32::from_bits(group << 16);
                to[1] = f32::from_bits(group & 0xffff_0000);
            }
        }
    }

    pub(crate) fn n_head(&self) -> usize {
        self.n_head
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    pub(crate) fn n_key(&self) -> usize {
        self.n_key
    }

    /// Number of keys with padding to whole panels.
    pub(crate) fn padded(&self) -> usize {
        self.n_key.next_multiple_of(NR)
    }

    /// Packed keys of a head.
    pub(crate) fn keys(&self, head: usize) -> &[u32] {
        &self.keys.as_slice()[head * self.keys_groups()..][..self.keys_groups()]
    }

    /// Packed values of a head.
    pub(crate) fn values(&self, head: usize) -> &[u32] {
        &self.values.as_slice()[head * self.values_groups()..][..self.values_groups()]
    }

    /// Tiles along the head.
    pub(crate) fn key_steps(&self) -> usize {
        (self.head_dim / 2).div_ceil(TILE)
    }

    /// Tiles along the keys.
    pub(crate) fn value_steps(&self) -> usize {
        self.padded() / NR
    }

    /// K groups of a head's keys in the tile layout, the larger one.
    fn keys_groups(&self) -> usize {
        self.padded() * self.key_steps() * TILE
    }

    /// K groups of a head's values.
    fn values_groups(&self) -> usize {
        self.head_dim.next_multiple_of(NR) * self.padded() / 2
    }

    /// Whether the contents are packed for `arch`.
    pub(crate) fn is_packed_for(&self, arch: Arch) -> bool {
        self.layout == Some(Layout::of(arch))
    }

    /// Packs keys and values; shapes have been checked.
    pub(crate) fn pack(&mut self, arch: Arch, pool: &Pool, k: PackedRows<'_>, v: PackedRows<'_>) {
        let layout = Layout::of(arch);
        self.layout = Some(layout);
        let (n_head, head_dim, n_key) = (self.n_head, self.head_dim, self.n_key);
        let (of_keys, of_values) = (self.keys_groups(), self.values_groups());
        let keys = Disjoint::new(self.keys.as_mut_slice());
        let values = Disjoint::new(self.values.as_mut_slice());
        // Keys outermost: rows are read in memory order.
        pool.run(n_key.div_ceil(NR), &|panel| {
            let first = panel * NR;
            let task = PackKeys {
                k,
                v,
                keys,
                values,
                n_head,
                head_dim,
                first,
                n: NR.min(n_key - first),
                of_keys,
                of_values,
            };
            match layout {
                Layout::Panels => arch.run_any(task),
                Layout::Tiles => arch.run_tiles(task),
            }
        });
    }
}

/// Task: packs a panel of keys and their values, of all heads.
struct PackKeys<'a> {
    k: PackedRows<'a>,
    v: PackedRows<'a>,
    keys: Disjoint<'a, u32>,
    values: Disjoint<'a, u32>,
    n_head: usize,
    head_dim: usize,
    /// First key; `n` is the number of keys.
    first: usize,
    n: usize,
    /// K groups from head to head, of keys and of values.
    of_keys: usize,
    of_values: usize,
}

impl Vectorized for PackKeys<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for head in 0..self.n_head {
            self.panel_of_keys(head);
            self.panel_of_values(head);
        }
    }
}

impl TileTask for PackKeys<'_> {
    #[inline(always)]
    fn run<K: TileKernel>(self, kernel: K) {
        for head in 0..self.n_head {
            self.tiles_of_keys(head);
            self.tiles_of_values(kernel, head);
        }
    }
}

impl PackKeys<'_> {
    #[inline(always)]
    fn panel_of_keys(&self, head: usize) {
        let k_groups = self.head_dim / 2;
        let at = head * self.of_keys + self.first * k_groups;
        // SAFETY: no other task has this panel.
        let to = unsafe { self.keys.take(at, NR * k_groups) };
        for key in 0..self.n {
            let to = &mut to[key..];
            for (to, from) in to.chunks_mut(NR).zip(self.key(head, key)) {
                to[0] = *from;
            }
        }
    }

    #[inline(always)]
    fn panel_of_values(&self, head: usize) {
        let of_panel = self.of_values / self.head_dim.next_multiple_of(NR);
        for element in (0..self.head_dim).step_by(NR) {
            let at = head * self.of_values + element * of_panel + self.first / 2 * NR;
            // SAFETY: no other task has these keys.
            let to = unsafe { self.values.take(at, NR / 2 * NR) };
            for (pair, to) in to.chunks_mut(NR).enumerate().take(self.n.div_ceil(2)) {
                self.pair_of_values(head, element, pair, to);
            }
        }
    }

    #[inline(always)]
    fn tiles_of_keys(&self, head: usize) {
        let n_steps = (self.head_dim / 2).div_ceil(TILE);
        let at = head * self.of_keys + self.first * n_steps * TILE;
        // SAFETY: no other task has these keys.
        let to = unsafe { self.keys.take(at, NR * n_steps * TILE) };
        for key in 0..self.n {
            let to = &mut to[key / TILE * n_steps * TILE_GROUPS + key % TILE * TILE..];
            let from = self.key(head, key).chunks(TILE);
            for (to, from) in to.chunks_mut(TILE_GROUPS).zip(from) {
                to[..from.len()].copy_from_slice(from);
            }
        }
    }

    #[inline(always)]
    fn tiles_of_values<K: TileKernel>(&self, kernel: K, head: usize) {
        let of_tile = self.of_values / self.head_dim.next_multiple_of(NR) * TILE;
        for element in (0..self.head_dim).step_by(TILE) {
            let mut pairs = [0; TILE_GROUPS]; // [16 pairs of keys, 16 elements]
            let rows = pairs.chunks_mut(TILE).enumerate();
            for (pair, to) in rows.take(self.n.div_ceil(2)) {
                self.pair_of_values(head, element, pair, to);
            }
            let tile = element / TILE * of_tile + self.first / NR * TILE_GROUPS;
            // SAFETY: no other task has this tile.
            let to = unsafe { self.values.take(head * self.of_values + tile, TILE_GROUPS) };
            // SAFETY: both are tiles.
            unsafe { kernel.transpose(pairs.as_ptr(), TILE, to.as_mut_ptr(), TILE) };
        }
    }

    /// Head `head` of the task's key `key`.
    #[inline(always)]
    fn key(&self, head: usize, key: usize) -> &[u32] {
        let k_groups = self.head_dim / 2;
        &self.k.groups[(self.first + key) * self.k.stride + head * k_groups..][..k_groups]
    }

    /// K groups of a pair of keys' values, of as many elements from `element` on as the head has and `to` has room
    /// for.
    #[inline(always)]
    fn pair_of_values(&self, head: usize, element: usize, pair: usize, to: &mut [u32]) {
        let n = to.len().min(self.head_dim - element);
        let row = |key: usize| {
            let row = &self.v.groups[(self.first + key) * self.v.stride..];
            &as_u16(row)[head * self.head_dim + element..][..n]
        };
        let (even, odd) = (row(2 * pair), row(self.n.min(2 * pair + 2) - 1));
        let has_odd = u32::from(2 * pair + 1 < self.n);
        for ((to, even), odd) in to.iter_mut().zip(even).zip(odd) {
            *to = u32::from(*even) | (u32::from(*odd) * has_odd) << 16;
        }
    }
}

impl Kernels {
    /// Packs keys and values for [`Kernels::attention_bf16`]. `k`, `v`: bf16 rows, in which head `h` is the
    /// `head_dim` elements from `h * head_dim` on. Allocates nothing.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn pack_kv(&self, pool: &Pool, to: &mut PackedKv, k: PackedRows<'_>, v: PackedRows<'_>) {
        for rows in [k, v] {
            assert_bf16(rows, to.n_key(), to.n_head() * to.head_dim());
        }
        to.pack(self.arch, pool, k, v);
    }
}
