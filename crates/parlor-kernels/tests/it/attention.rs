//! Ragged attention against a dense f64 version: groups, windows, caches, shared parents, block borders.

use parlor_kernels::attention::{self, Geometry, Gradients, KeyValues, Saved, Segment, Source, Span};

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
        spans.push(Span { source: Source::Rows(start..start + len), position });
        let keys: Vec<(usize, usize)> = spans
            .iter()
            .flat_map(|span| match &span.source {
                Source::Rows(r) => r.clone().zip(span.position..).collect::<Vec<_>>(),
                Source::Cache { .. } => unreachable!(),
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
    attention::forward(&geometry, &q, kv, &segments, &mut out, &mut lse);
    let (wq, wk, wv) = (wide(&q), wide(&k), wide(&v));
    close("out", &out, &reference(&geometry, &plan, &wq, &wk, &wv));

    let (mut dq, mut dk, mut dv) = (vec![f32::NAN; rows * qw], vec![0.0; rows * kw], vec![0.0; rows * kw]);
    let saved = Saved { q: &q, kv, out: &out, lse: &lse };
    let gradients = Gradients { dq: &mut dq, dk: &mut dk, dv: &mut dv };
    attention::backward(&geometry, saved, &segments, &dout, gradients);
    if rows <= 24 {
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
fn blocks_join_without_a_seam() {
    check(geometry(2, 1, 8, None), &[150, 64, 1, 65], &[None; 4]);
    check(geometry(2, 2, 8, Some(40)), &[200, 3], &[None; 2]);
}

#[test]
fn answers_share_their_prompt() {
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
        attention::forward(&g, &q, KeyValues { keys: &k, values: &v }, &whole, &mut out, &mut lse);
        close("whole", &out, &want);
        // 10 cached, 6 at once, then one by one.
        for range in [10..16, 16..17, 17..18, 18..19] {
            let spans = vec![
                Span {
                    source: Source::Cache { keys: &k[..range.start * 12], values: &v[..range.start * 12] },
                    position: 0,
                },
                Span { source: Source::Rows(0..range.len()), position: range.start },
            ];
            let segment = Segment { rows: 0..range.len(), position: range.start, spans };
            let own = range.start * 12..range.end * 12;
            let kv = KeyValues { keys: &k[own.clone()], values: &v[own] };
            let span = range.start * 24..range.end * 24;
            let (mut out, mut lse) = (vec![0.0; range.len() * 24], vec![0.0; range.len() * 4]);
            attention::forward(&g, &q[span.clone()], kv, &[segment], &mut out, &mut lse);
            close("cached", &out, &want[span]);
        }
    }
}
