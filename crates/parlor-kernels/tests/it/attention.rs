//! Ragged attention against a dense f64 version: groups, windows, caches, shared parents, block borders.

use parlor_kernels::attention::{
    self, ForwardResults, Geometry, Gradients, KeySource, KeyValues, Segment, Span,
};

use parlor_kernels::matmul::KernelSet;
use parlor_kernels::{Arithmetic, BlockFormat, DType, Tensor, View};

use proptest::prelude::*;

use crate::{Numbers, close, differences, inner, wide};

/// Per row: its position, and the rows it may see with their positions.
struct Plan {
    rows: Vec<(usize, Vec<(usize, usize)>)>,
}

fn reference(g: &Geometry, plan: &Plan, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let (dim, kw) = (g.head_dim, g.kv_heads * g.head_dim);
    let mut out = Vec::new();
    for (row, (position, keys)) in plan.rows.iter().enumerate() {
        for head in 0..g.heads {
            let kv = head / (g.heads / g.kv_heads) * dim;
            let q = &q[(row * g.heads + head) * dim..][..dim];
            let seen: Vec<usize> = keys
                .iter()
                .filter(|(_, p)| p <= position && g.window.is_none_or(|w| position - p < w))
                .map(|(key, _)| *key)
                .collect();
            let scores: Vec<f64> = seen
                .iter()
                .map(|key| f64::from(g.scale) * (0..dim).map(|i| q[i] * k[key * kw + kv + i]).sum::<f64>())
                .collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            for i in 0..dim {
                let value = |(key, s): (&usize, &f64)| (s - max).exp() / sum * v[key * kw + kv + i];
                out.push(seen.iter().zip(&scores).map(value).sum());
            }
        }
    }
    out
}

/// `lengths` of sequences; `parents[i]` is the segment that precedes segment `i`.
fn plan(lengths: &[usize], parents: &[Option<usize>]) -> (Plan, Vec<Segment<'static>>) {
    let (mut rows, mut segments, mut start) = (Vec::new(), Vec::new(), 0);
    for (index, &len) in lengths.iter().enumerate() {
        let parent: Option<&Segment<'static>> = parents[index].map(|p| &segments[p]);
        let position = parent.map_or(0, |p| p.position + p.rows.len());
        let mut spans: Vec<Span<'static>> = parent.map_or(Vec::new(), |p| p.spans.clone());
        spans.push(Span { source: KeySource::Rows(start..start + len), position });
        let keys: Vec<(usize, usize)> = spans
            .iter()
            .flat_map(|span| match &span.source {
                KeySource::Rows(r) => r.clone().zip(span.position..).collect::<Vec<_>>(),
                KeySource::Cache { .. } => unreachable!(),
            })
            .collect();
        rows.extend((0..len).map(|i| (position + i, keys.clone())));
        segments.push(Segment { rows: start..start + len, position, spans });
        start += len;
    }
    (Plan { rows }, segments)
}

fn check(geometry: Geometry, lengths: &[usize], parents: &[Option<usize>]) {
    let (plan, segments) = plan(lengths, parents);
    let rows = plan.rows.len();
    let mut numbers = Numbers::new(rows as u64 + geometry.heads as u64);
    let (qw, kw) = (geometry.heads * geometry.head_dim, geometry.kv_heads * geometry.head_dim);
    let (q, k, v) = (numbers.vec(rows * qw), numbers.vec(rows * kw), numbers.vec(rows * kw));
    let dout = numbers.vec(rows * qw);
    let kv = KeyValues { keys: &k, values: &v };
    let (mut out, mut lse) = (vec![0.0; rows * qw], vec![0.0; rows * geometry.heads]);
    let (wq, wk, wv) = (wide(&q), wide(&k), wide(&v));
    let want = reference(&geometry, &plan, &wq, &wk, &wv);
    for set in KernelSet::all() {
        attention::forward_with(
            &set,
            (&geometry, Arithmetic::F32),
            (&q, kv, &segments),
            (&mut out, &mut lse),
        );
        close(set.name(), &out, &want);
    }

    // In bf16 an operand is off by 2^-9 of itself. A score is off by twice that times the sum of magnitudes of its
    // products, below `dim * scale` for numbers below 1, and a probability by as much of itself; a probability and a value are rounded
    // once more each. The weighted mean of values below 1 is then off by at most four times (twice for scores above and below)
    // the first, and twice 2^-9.
    let unit = 2f64.powi(-9);
    let off = 4.0 * unit * geometry.head_dim as f64 * f64::from(geometry.scale) + 2.0 * unit;
    let saved = ForwardResults { q: &q, kv, out: &out, lse: &lse };
    let mut plain = (vec![f32::NAN; rows * qw], vec![0.0; rows * kw], vec![0.0; rows * kw]);
    let gradients = Gradients { dq: &mut plain.0, dk: &mut plain.1, dv: &mut plain.2 };
    attention::backward((&geometry, Arithmetic::F32), saved, &segments, &dout, gradients);
    let sets = KernelSet::all();
    let f32_and_bf16 = sets.iter().flat_map(|set| [Arithmetic::F32, Arithmetic::Bf16].map(|a| (set, a)));
    for (set, arithmetic) in f32_and_bf16 {
        let (mut near, mut near_lse) = (vec![0.0; rows * qw], vec![0.0; rows * geometry.heads]);
        attention::forward_with(
            set,
            (&geometry, arithmetic),
            (&q, kv, &segments),
            (&mut near, &mut near_lse),
        );
        for (got, want) in near.iter().zip(&want) {
            assert!((f64::from(*got) - want).abs() <= off, "{}: {got}, want {want} within {off}", set.name());
        }
        let mut other = (vec![f32::NAN; rows * qw], vec![0.0; rows * kw], vec![0.0; rows * kw]);
        let gradients = Gradients { dq: &mut other.0, dk: &mut other.1, dv: &mut other.2 };
        attention::backward_with(set, (&geometry, arithmetic), (saved, &segments, &dout), gradients);
        for (name, got, want) in
            [("dq", &other.0, &plain.0), ("dk", &other.1, &plain.1), ("dv", &other.2, &plain.2)]
        {
            // Gradients are sums of such terms, off by the same share of the largest; those of queries and keys may cancel
            // from `dim * scale` to nothing.
            let terms = if name == "dv" { 1e-3 } else { geometry.head_dim as f32 * geometry.scale };
            let largest = want.iter().fold(terms, |largest, x| largest.max(x.abs()));
            for (got, want) in got.iter().zip(want) {
                let error = f64::from((got - want).abs() / largest);
                assert!(error <= off, "{}, {name}: {got}, want {want}, {error} of {off}", set.name());
            }
        }
    }

    let (mut dq, mut dk, mut dv) = (vec![f32::NAN; rows * qw], vec![0.0; rows * kw], vec![0.0; rows * kw]);
    let saved = ForwardResults { q: &q, kv, out: &out, lse: &lse };
    let gradients = Gradients { dq: &mut dq, dk: &mut dk, dv: &mut dv };
    attention::backward((&geometry, Arithmetic::F32), saved, &segments, &dout, gradients);
    if rows * qw <= 600 {
        let loss = |q: &[f64], k: &[f64], v: &[f64]| inner(&reference(&geometry, &plan, q, k, v), &dout);
        close("dq", &dq, &differences(&wq, |q| loss(q, &wk, &wv)));
        close("dk", &dk, &differences(&wk, |k| loss(&wq, k, &wv)));
        close("dv", &dv, &differences(&wv, |v| loss(&wq, &wk, v)));
    } else {
        // Differences of every element would take minutes: the derivative along random directions instead.
        for (name, at, gradient, which) in [("dq", &wq, &dq, 0), ("dk", &wk, &dk, 1), ("dv", &wv, &dv, 2)] {
            let direction = wide(&numbers.vec(at.len()));
            let along = |t: f64| {
                let moved: Vec<f64> = at.iter().zip(&direction).map(|(x, d)| x + t * d).collect();
                let out = match which {
                    0 => reference(&geometry, &plan, &moved, &wk, &wv),
                    1 => reference(&geometry, &plan, &wq, &moved, &wv),
                    _ => reference(&geometry, &plan, &wq, &wk, &moved),
                };
                inner(&out, &dout)
            };
            let want = (along(1e-4) - along(-1e-4)) / 2e-4;
            let got = direction.iter().zip(gradient).map(|(d, &g)| d * f64::from(g)).sum::<f64>();
            assert!((got - want).abs() < 1e-4 * want.abs().max(1.0), "{name}: {got}, want {want}");
        }
    }
}

fn geometry(heads: usize, kv_heads: usize, head_dim: usize, window: Option<usize>) -> Geometry {
    Geometry { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt(), window }
}

#[test]
fn segments_of_odd_lengths() {
    check(geometry(2, 2, 5, None), &[3, 1, 7], &[None; 3]);
    check(geometry(4, 2, 6, None), &[5, 2], &[None; 2]);
    check(geometry(3, 1, 4, Some(3)), &[9, 1, 4], &[None; 3]);
    check(geometry(1, 1, 1, Some(1)), &[4], &[None]);
}

#[test]
fn blocks_of_keys_join() {
    check(geometry(2, 1, 8, None), &[150, 64, 1, 65], &[None; 4]);
    check(geometry(2, 2, 8, Some(40)), &[200, 3], &[None; 2]);
}

#[test]
fn segments_share_a_prefix() {
    let parents = [None, Some(0), Some(0), None, Some(3), Some(4)];
    check(geometry(2, 1, 4, None), &[4, 3, 2, 3, 2, 5], &parents);
    check(geometry(4, 2, 4, Some(4)), &[6, 5, 3, 2, 1, 2], &parents);
    check(geometry(2, 2, 8, None), &[100, 70, 30, 3, 2, 2], &parents);
}

#[test]
fn cached_decode_equals_the_whole() {
    for window in [None, Some(5)] {
        let g = geometry(4, 2, 6, window);
        let (plan, whole) = plan(&[19], &[None]);
        let mut numbers = Numbers::new(4);
        let (q, k, v) = (numbers.vec(19 * 24), numbers.vec(19 * 12), numbers.vec(19 * 12));
        let want = reference(&g, &plan, &wide(&q), &wide(&k), &wide(&v));
        let (mut out, mut lse) = (vec![0.0; 19 * 24], vec![0.0; 19 * 4]);
        attention::forward(
            (&g, Arithmetic::F32),
            &q,
            KeyValues { keys: &k, values: &v },
            &whole,
            &mut out,
            &mut lse,
        );
        close("whole", &out, &want);
        // 10 cached, 6 at once, then one by one.
        for range in [10..16, 16..17, 17..18, 18..19] {
            let spans = vec![
                Span {
                    source: KeySource::Cache {
                        keys: View::F32(&k[..range.start * 12]),
                        values: View::F32(&v[..range.start * 12]),
                    },
                    position: 0,
                },
                Span { source: KeySource::Rows(0..range.len()), position: range.start },
            ];
            let segment = Segment { rows: 0..range.len(), position: range.start, spans };
            let own = range.start * 12..range.end * 12;
            let kv = KeyValues { keys: &k[own.clone()], values: &v[own] };
            let span = range.start * 24..range.end * 24;
            let (mut out, mut lse) = (vec![0.0; range.len() * 24], vec![0.0; range.len() * 4]);
            attention::forward((&g, Arithmetic::F32), &q[span.clone()], kv, &[segment], &mut out, &mut lse);
            close("cached", &out, &want[span]);
        }
    }
}

/// A cache in each of its dtypes, cut into blocks, beside the reference over the numbers that the cache holds.
#[test]
fn caches_of_every_dtype_are_read_block_by_block() {
    check_cached(geometry(6, 2, 16, None), 75, 16);
    // More heads than meet a key in one turn, more keys than at a time, wide sums and narrow ones.
    check_cached(geometry(20, 2, 80, Some(100)), 150, 130);
    check_cached(geometry(3, 3, 64, None), 65, 65);
}

fn check_cached(g: Geometry, tokens: usize, block: usize) {
    let (qw, kw) = (g.heads * g.head_dim, g.kv_heads * g.head_dim);
    let mut numbers = Numbers::new(9);
    for dtype in [DType::F32, DType::Bf16, DType::F16, DType::Block(BlockFormat::Q8_0)] {
        let (q, k, v) = (numbers.vec(qw), numbers.vec(tokens * kw), numbers.vec(tokens * kw));
        let blocks = |values: &[f32]| -> Vec<Tensor> {
            values
                .chunks(block * kw)
                .map(|values| {
                    let mut rows = Tensor::empty_rows(kw, dtype).unwrap();
                    let (first, rest) = values.split_at(kw.min(values.len()));
                    rows.append(first).unwrap();
                    rows.append(rest).unwrap();
                    rows
                })
                .collect()
        };
        let (keys, values) = (blocks(&k), blocks(&v));
        let held = |blocks: &[Tensor]| blocks.iter().flat_map(Tensor::to_f32_vec).collect::<Vec<f32>>();
        let (own_k, own_v) = (numbers.vec(kw), numbers.vec(kw));
        let (mut all_k, mut all_v) = (held(&keys), held(&values));
        all_k.extend(&own_k);
        all_v.extend(&own_v);
        let plan = Plan { rows: vec![(tokens, (0..=tokens).map(|i| (i, i)).collect())] };
        let want = reference(&g, &plan, &wide(&q), &wide(&all_k), &wide(&all_v));
        let mut spans: Vec<Span<'_>> = keys
            .iter()
            .zip(&values)
            .enumerate()
            .map(|(index, (keys, values))| Span {
                source: KeySource::Cache { keys: keys.view(), values: values.view() },
                position: index * block,
            })
            .collect();
        spans.push(Span { source: KeySource::Rows(0..1), position: tokens });
        let segment = Segment { rows: 0..1, position: tokens, spans };
        let (mut out, mut lse) = (vec![0.0; qw], vec![0.0; g.heads]);
        let kv = KeyValues { keys: &own_k, values: &own_v };
        attention::forward((&g, Arithmetic::F32), &q, kv, &[segment], &mut out, &mut lse);
        close(dtype.name(), &out, &want);
    }
}

#[test]
fn rows_of_a_cache_grow_and_shrink() {
    let mut rows = Tensor::empty_rows(32, DType::Block(BlockFormat::Q8_0)).unwrap();
    let values = Numbers::new(5).vec(96);
    rows.append(&values).unwrap();
    rows.truncate(2);
    assert_eq!(rows.shape(), [2, 32]);
    rows.append(&values[..32]).unwrap();
    assert_eq!(rows.to_f32_vec()[64..], rows.to_f32_vec()[..32]);
    assert!(rows.append(&values[..5]).is_err());
    assert!(Tensor::empty_rows(33, DType::Block(BlockFormat::Q8_0)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn random_geometries(
        kv_heads in 1..3usize, group in 1..8usize, head_dim in 1..70usize, window in proptest::option::of(2..50usize),
        lengths in proptest::collection::vec(3..40usize, 1..4), share: bool,
    ) {
        let parents: Vec<Option<usize>> =
            (0..lengths.len()).map(|i| (share && i > 0).then_some(0)).collect();
        check(geometry(kv_heads * group, kv_heads, head_dim, window), &lengths, &parents);
    }
}

#[test]
fn a_wide_head_and_many_blocks_of_keys() {
    check(geometry(2, 1, 256, None), &[300], &[None]);
    check(geometry(3, 1, 33, Some(100)), &[260, 30], &[None, Some(0)]);
}
