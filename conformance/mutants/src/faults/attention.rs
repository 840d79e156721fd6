//! Faults in `attention`.

use camelid_core::DType;
use camelid_core::ops::{AttentionSpec, Op};

use super::{Entry, Outcome, after, before, mutant};
use crate::kernels::{Call, Honest};
use crate::tensor::Tensor;

const CASES: &[&str] = &["op/attention/*"];
const CASES_Q8: &[&str] = &["op/attention/*q8_0/*"];

/// Changes every row of a q8_0 cache.
fn in_q8(cache: &mut Tensor, change: impl Fn(&mut [u8])) {
    if cache.dtype == DType::Q8_0 {
        let len = cache.row_bytes();
        cache.bytes.chunks_mut(len).for_each(change);
    }
}

pub(super) fn spec(call: &mut Call) -> &mut AttentionSpec {
    let Op::Attention(spec) = &mut call.op else { unreachable!("asked only of attention") };
    spec
}

/// Every cache row of a sequence's context, in order.
pub(super) fn context(call: &mut Call) -> Vec<Vec<usize>> {
    let block = spec(call).block_size;
    let (lengths, table, width) = (call.inputs[4].ints(), call.inputs[5].ints(), call.inputs[5].columns());
    let rows = |(s, length): (usize, &i32)| {
        (0..*length as usize).map(|j| table[s * width + j / block] as usize * block + j % block).collect()
    };
    lengths.iter().enumerate().map(rows).collect()
}

/// The sequence and index of every token; `None` for padding.
fn places(call: &Call) -> Vec<Option<(usize, usize)>> {
    let (starts, lengths) = (call.inputs[3].ints(), call.inputs[4].ints());
    let place = |t: usize| {
        let s = (0..lengths.len()).find(|s| starts[*s] as usize <= t && t < starts[s + 1] as usize)?;
        Some((s, lengths[s] as usize - (starts[s + 1] as usize - t)))
    };
    (0..call.inputs[0].rows()).map(place).collect()
}

/// Computes attention plainly; `seen(i, j)` says whether index `i` sees `j`, `head` which key head a query head reads,
/// `weigh` makes weights of scores.
pub(super) fn plain(
    call: &mut Call,
    seen: impl Fn(usize, usize) -> bool,
    head: impl Fn(usize) -> usize,
    weigh: impl Fn(&mut [f32]),
) -> Vec<f32> {
    let AttentionSpec { num_heads, num_kv_heads, head_dim, scale, .. } = *spec(call);
    let (rows, places) = (context(call), places(call));
    let (q, k, v) = (call.inputs[0].floats(), call.inputs[1].floats(), call.inputs[2].floats());
    let kv = num_kv_heads * head_dim;
    let mut y = vec![0.0; q.len()];
    for (t, place) in places.iter().enumerate() {
        let Some((s, i)) = place else { continue };
        let visible: Vec<usize> = (0..rows[*s].len()).filter(|j| seen(*i, *j)).map(|j| rows[*s][j]).collect();
        for h in 0..num_heads {
            let query = &q[(t * num_heads + h) * head_dim..][..head_dim];
            let at = head(h) * head_dim;
            let dot = |row: &usize| query.iter().zip(&k[row * kv + at..]).map(|(a, b)| a * b).sum::<f32>() * scale;
            let mut weights: Vec<f32> = visible.iter().map(dot).collect();
            weigh(&mut weights);
            for (row, weight) in visible.iter().zip(&weights) {
                for d in 0..head_dim {
                    y[(t * num_heads + h) * head_dim + d] += weight * v[row * kv + at + d];
                }
            }
        }
    }
    y
}

pub(super) fn softmax(scores: &mut [f32]) {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|s| *s = (*s - top).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|s| *s /= sum);
}

pub(super) fn window(call: &mut Call) -> impl Fn(usize, usize) -> bool + use<> {
    let window = spec(call).window;
    move |i, j| j <= i && window.is_none_or(|w| j + w > i)
}

pub(super) fn groups(call: &mut Call) -> impl Fn(usize) -> usize + use<> {
    let AttentionSpec { num_heads, num_kv_heads, .. } = *spec(call);
    move |h| h / (num_heads / num_kv_heads)
}

/// An attention computed here in place of the honest one.
pub(super) fn instead(call: Call, right: Outcome, compute: fn(&mut Call) -> Vec<f32>) -> Outcome {
    let mut call = call;
    if call.op.name() != "attention" {
        return right;
    }
    let mut results = right?;
    let y = compute(&mut call);
    results[0].set(&y);
    Ok(results)
}

fn change_spec(honest: &mut Honest, mut call: Call, right: Outcome, change: fn(&mut AttentionSpec)) -> Outcome {
    if call.op.name() != "attention" {
        return right;
    }
    change(spec(&mut call));
    honest.compute(&call)
}

/// Attention that is right, in other ways than the reference's; for honest variants.
pub(crate) mod in_other_ways {
    use super::{Call, Outcome, context, groups, instead, places, plain, softmax, spec, window};

    /// As it is written, in f32.
    pub(crate) fn plain_attention(call: Call, right: Outcome) -> Outcome {
        instead(call, right, |c| {
            let (seen, head) = (window(c), groups(c));
            plain(c, seen, head, softmax)
        })
    }

    /// Tile after tile, as flash attention does: sum and weighted values are rescaled when the largest score grows.
    pub(crate) fn online_attention(call: Call, right: Outcome) -> Outcome {
        instead(call, right, |c| {
            const TILE: usize = 16;
            let (heads, width, scale) = (spec(c).num_heads, spec(c).head_dim, spec(c).scale);
            let (seen, head) = (window(c), groups(c));
            let (rows, places) = (context(c), places(c));
            let (q, k, v) = (c.inputs[0].floats(), c.inputs[1].floats(), c.inputs[2].floats());
            let kv = spec(c).num_kv_heads * width;
            let mut y = vec![0.0; q.len()];
            for (t, place) in places.iter().enumerate() {
                let Some((s, i)) = place else { continue };
                let visible: Vec<usize> = (0..rows[*s].len()).filter(|j| seen(*i, *j)).map(|j| rows[*s][j]).collect();
                for h in 0..heads {
                    let from = (t * heads + h) * width;
                    let (query, at) = (&q[from..from + width], head(h) * width);
                    let (mut top, mut sum, mut acc) = (f32::NEG_INFINITY, 0.0f32, vec![0.0f32; width]);
                    for tile in visible.chunks(TILE) {
                        let dot = |row: &usize| {
                            scale * query.iter().zip(&k[row * kv + at..]).map(|(a, b)| a * b).sum::<f32>()
                        };
                        let scores: Vec<f32> = tile.iter().map(dot).collect();
                        let larger = scores.iter().copied().fold(top, f32::max);
                        let shrink = (top - larger).exp();
                        sum *= shrink;
                        acc.iter_mut().for_each(|a| *a *= shrink);
                        for (row, score) in tile.iter().zip(scores) {
                            let weight = (score - larger).exp();
                            sum += weight;
                            acc.iter_mut().zip(&v[row * kv + at..]).for_each(|(a, v)| *a += weight * v);
                        }
                        top = larger;
                    }
                    for (y, a) in y[from..from + width].iter_mut().zip(acc) {
                        *y = a / sum;
                    }
                }
            }
            y
        })
    }
}

pub(super) const FAULTS: &[Entry] = &[
    (
        mutant("attention_q8_first_scale", "all blocks of a cached row have the scale of the first", CASES_Q8),
        before!("attention", |c| c.inputs[1..3].iter_mut().for_each(|cache| in_q8(cache, |row| {
            let first = [row[0], row[1]];
            row.chunks_mut(34).for_each(|b| b[..2].copy_from_slice(&first))
        }))),
    ),
    (
        mutant("attention_q8_unsigned", "the sign of cached codes is lost", CASES_Q8),
        before!("attention", |c| c.inputs[1..3].iter_mut().for_each(|cache| in_q8(cache, |row| {
            row.chunks_mut(34).for_each(|b| b[2..].iter_mut().for_each(|x| *x &= 0x7f))
        }))),
    ),
    (
        mutant("attention_q8_half_block", "of every cached block the second half is read as the first", CASES_Q8),
        before!("attention", |c| c.inputs[1..3]
            .iter_mut()
            .for_each(|cache| in_q8(cache, |row| { row.chunks_mut(34).for_each(|b| b.copy_within(2..18, 18)) }))),
    ),
    (mutant("attention_tiled_heads", "query head h reads key head h mod G", CASES), |_, c, r| {
        instead(c, r, |c| {
            let g = spec(c).num_kv_heads;
            let seen = window(c);
            plain(c, seen, |h| h % g, softmax)
        })
    }),
    (mutant("attention_last_group", "the last query head reads the first key head", CASES), |_, c, r| {
        instead(c, r, |c| {
            let (seen, head, last) = (window(c), groups(c), spec(c).num_heads - 1);
            plain(c, seen, |h| if h == last { 0 } else { head(h) }, softmax)
        })
    }),
    (mutant("attention_sees_next", "a token sees the one after it", CASES), |_, c, r| {
        instead(c, r, |c| {
            let head = groups(c);
            plain(c, |i, j| j <= i + 1, head, softmax)
        })
    }),
    (mutant("attention_not_itself", "a token does not see itself", CASES), |_, c, r| {
        instead(c, r, |c| {
            let head = groups(c);
            plain(c, |i, j| j < i.max(1), head, softmax)
        })
    }),
    (mutant("attention_not_causal", "a token sees the whole sequence", CASES), |_, c, r| {
        instead(c, r, |c| {
            let head = groups(c);
            plain(c, |_, _| true, head, softmax)
        })
    }),
    (mutant("attention_first_column", "the first token is lost", CASES), |_, c, r| {
        instead(c, r, |c| {
            let (seen, head) = (window(c), groups(c));
            plain(c, |i, j| seen(i, j) && (j > 0 || i == 0), head, softmax)
        })
    }),
    (mutant("attention_512", "what lies more than 512 tokens back is lost", CASES), |_, c, r| {
        instead(c, r, |c| {
            let (seen, head) = (window(c), groups(c));
            plain(c, |i, j| seen(i, j) && j + 512 > i, head, softmax)
        })
    }),
    (mutant("attention_1024", "what lies more than 1024 tokens back is lost", CASES), |_, c, r| {
        instead(c, r, |c| {
            let (seen, head) = (window(c), groups(c));
            plain(c, |i, j| seen(i, j) && j + 1024 > i, head, softmax)
        })
    }),
    (mutant("attention_no_shift", "the largest score is not taken away, so exp overflows", CASES), |_, c, r| {
        instead(c, r, |c| {
            let (seen, head) = (window(c), groups(c));
            plain(c, seen, head, |s| {
                s.iter_mut().for_each(|x| *x = x.exp());
                let sum: f32 = s.iter().sum();
                s.iter_mut().for_each(|x| *x /= sum);
            })
        })
    }),
    (mutant("attention_mean", "all positions weigh the same", CASES), |_, c, r| {
        instead(c, r, |c| {
            let (seen, head) = (window(c), groups(c));
            plain(c, seen, head, |s| s.fill(1.0 / s.len() as f32))
        })
    }),
    (
        mutant("attention_sum_off", "weights sum to 1.001", CASES),
        after!("attention", |c, y| y[0].map(|_, v| v * 1.001)),
    ),
    (mutant("attention_no_scale", "scores are not scaled", CASES), |h, c, r| change_spec(h, c, r, |s| s.scale = 1.0)),
    (mutant("attention_own_scale", "the scale is always 1/sqrt(head_dim)", CASES), |h, c, r| {
        change_spec(h, c, r, |s| s.scale = 1.0 / (s.head_dim as f32).sqrt())
    }),
    (mutant("attention_no_window", "the window is ignored", CASES), |h, c, r| {
        change_spec(h, c, r, |s| s.window = None)
    }),
    (mutant("attention_window_plus_one", "a token sees one more", CASES), |h, c, r| {
        change_spec(h, c, r, |s| s.window = s.window.map(|w| w + 1))
    }),
    (mutant("attention_window_minus_one", "a token sees one less", CASES), |h, c, r| {
        change_spec(h, c, r, |s| s.window = s.window.map(|w| (w - 1).max(1)))
    }),
    (
        mutant("attention_first_table", "every sequence uses the blocks of the first", CASES),
        before!("attention", |c| {
            let (width, table) = (c.inputs[5].columns(), c.inputs[5].ints());
            let lengths = c.inputs[4].ints();
            let block = spec(c).block_size as i32;
            let changed: Vec<i32> = (0..table.len())
                .map(|i| if (i % width) as i32 * block < lengths[0] { table[i % width] } else { table[i] })
                .collect();
            c.inputs[5].set_ints(&changed);
        }),
    ),
    (mutant("attention_contiguous", "blocks are taken to follow each other", CASES), |_, c, r| {
        instead(c, r, |c| {
            let (width, table) = (c.inputs[5].columns(), c.inputs[5].ints());
            let (block, slots) = (spec(c).block_size as i32, c.inputs[1].rows() as i32);
            let follow: Vec<i32> = (0..table.len())
                .map(|i| (table[i / width * width] + (i % width) as i32).clamp(0, slots / block - 1))
                .collect();
            c.inputs[5].set_ints(&follow);
            let (seen, head) = (window(c), groups(c));
            plain(c, seen, head, softmax)
        })
    }),
    (mutant("attention_first_row_of_block", "the first token of a later block is that before it", CASES), |_, c, r| {
        instead(c, r, |c| {
            let block = spec(c).block_size;
            let rows = context(c);
            let kv = c.inputs[1].row_bytes();
            for rows in &rows {
                for j in (block..rows.len()).step_by(block) {
                    for cache in [1, 2] {
                        let copy = c.inputs[cache].bytes[rows[j - 1] * kv..(rows[j - 1] + 1) * kv].to_vec();
                        c.inputs[cache].bytes[rows[j] * kv..(rows[j] + 1) * kv].copy_from_slice(&copy);
                    }
                }
            }
            let (seen, head) = (window(c), groups(c));
            plain(c, seen, head, softmax)
        })
    }),
    (mutant("attention_chunk_at_zero", "a chunk behind a context is taken for a beginning", CASES), |_, c, r| {
        instead(c, r, |c| {
            let head = groups(c);
            let starts = c.inputs[3].ints();
            let lengths = c.inputs[4].ints();
            let news: Vec<i32> = starts.windows(2).map(|w| w[1] - w[0]).collect();
            let shorter: Vec<i32> =
                news.iter().zip(&lengths).map(|(n, l)| if *n > 1 { (*n).min(*l) } else { *l }).collect();
            c.inputs[4].set_ints(&shorter);
            let seen = window(c);
            plain(c, seen, head, softmax)
        })
    }),
    (
        mutant("attention_padding", "padding tokens give what the first token gives", CASES),
        after!("attention", |c, y| {
            let (used, len) = (c.inputs[3].ints().last().copied().unwrap_or(0) as usize, y[0].row_bytes());
            let first = y[0].bytes[..len].to_vec();
            for row in used..y[0].rows() {
                y[0].bytes[row * len..(row + 1) * len].copy_from_slice(&first);
            }
        }),
    ),
    (
        mutant("attention_padding_untouched", "padding tokens are not written", CASES),
        after!("attention", |c, y| {
            let (used, len) = (c.inputs[3].ints().last().copied().unwrap_or(0) as usize, y[0].row_bytes());
            y[0].bytes[used * len..].fill(0x7f);
        }),
    ),
    (
        mutant("attention_wide_heads", "heads are cut at 64", CASES),
        after!("attention", |c, y| {
            let Op::Attention(spec) = &c.op else { return Ok(y.clone()) };
            let width = spec.head_dim;
            y[0].map(|i, v| if i % width >= 64 { 0.0 } else { v });
        }),
    ),
    (
        mutant("attention_v_is_k", "values are taken from the keys", CASES),
        before!("attention", |c| c.inputs[2] = c.inputs[1].clone()),
    ),
    (
        mutant("attention_many_sequences", "sequences past the fourth give zeros", CASES),
        after!("attention", |c, y| {
            let starts = c.inputs[3].ints();
            for row in starts.get(4).map_or(y[0].rows(), |s| *s as usize)..y[0].rows() {
                y[0].clear_row(row);
            }
        }),
    ),
];
