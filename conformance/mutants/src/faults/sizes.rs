//! Faults that only show at some sizes: a kernel for large shapes, a tail, an index that is too narrow, a grid that ends.
//!
//! What goes wrong is plain, a result one percent off or zero, since the question is whether a case goes there at all.

use camelid_core::ops::Op;

use super::attention::{context, groups, instead, plain, softmax, window};
use super::{Entry, after, before, mutant};
use crate::kernels::Call;
use crate::tensor::Tensor;

const LINEAR: &[&str] = &["op/linear/*"];
const ATTENTION: &[&str] = &["op/attention/*"];
const GATHER: &[&str] = &["op/gather_rows/*"];
const NORM: &[&str] = &["op/rms_norm/*"];
const SOFTMAX: &[&str] = &["op/softmax/*"];
const ROPE: &[&str] = &["op/rope/*"];
const BMM: &[&str] = &["op/bmm/*"];

/// One percent off.
fn off(results: &mut [Tensor]) {
    for result in results {
        result.map(|_, v| v * 1.01);
    }
}

/// Zero from element `from` on.
fn end(y: &mut Tensor, from: usize) {
    let size = y.dtype.block_bytes();
    let len = y.bytes.len();
    y.bytes[(from * size).min(len)..].fill(0);
}

/// A fault in one path of `$op`: everything that takes it is one percent off.
macro_rules! path {
    ($op:literal, |$call:ident| $taken:expr) => {
        |_, call, right| {
            let $call = &call;
            if call.op.name() != $op || !$taken {
                return right;
            }
            let mut results = right?;
            off(&mut results);
            Ok(results)
        }
    };
}

/// A fault in how much of `$op` is computed: elements from `$from` on are zero.
macro_rules! grid {
    ($op:literal, $from:expr) => {
        after!($op, |c, y| end(&mut y[0], $from))
    };
}

/// Tokens, K and N of a product.
fn shape(c: &Call) -> (usize, usize, usize) {
    (c.inputs[0].rows(), c.inputs[0].columns(), c.inputs[1].dims[0])
}

/// Blocks a row, if w is in blocks.
fn blocks(c: &Call) -> Option<usize> {
    let w = &c.inputs[1];
    w.dtype.is_block().then(|| w.columns() / w.dtype.block_elems())
}

/// Most new tokens of a sequence, longest context, sequences.
fn batch(c: &Call) -> (usize, usize, usize) {
    let (starts, lengths) = (c.inputs[3].ints(), c.inputs[4].ints());
    let most = starts.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
    (most as usize, lengths.iter().copied().max().unwrap_or(0) as usize, lengths.len())
}

pub(super) const FAULTS: &[Entry] = &[
    (
        mutant("linear_tile_64", "a tile of 64 x 64 x 64 and its rest", LINEAR),
        path!("linear", |c| {
            let (t, k, n) = shape(c);
            t >= 64 && k >= 64 && n >= 64
        }),
    ),
    (
        mutant("linear_whole_tiles", "sizes that are all multiples of 32", LINEAR),
        path!("linear", |c| {
            let (t, k, n) = shape(c);
            t % 32 == 0 && k % 32 == 0 && n % 32 == 0
        }),
    ),
    (
        mutant("linear_wide_tile", "128 tokens and more by 128 rows and more", LINEAR),
        path!("linear", |c| {
            let (t, _, n) = shape(c);
            t >= 128 && n >= 128
        }),
    ),
    (
        mutant("linear_split_k", "one token, a long sum and many rows", LINEAR),
        path!("linear", |c| {
            let (t, k, n) = shape(c);
            t == 1 && k >= 2048 && n >= 64
        }),
    ),
    (
        mutant("linear_few_tokens", "nine to sixteen tokens by 32 rows and more", LINEAR),
        path!("linear", |c| {
            let (t, _, n) = shape(c);
            (9..=16).contains(&t) && n >= 32
        }),
    ),
    (
        mutant("linear_vector_tail_4", "one token, four elements past a multiple of eight", LINEAR),
        path!("linear", |c| {
            let (t, k, _) = shape(c);
            t == 1 && k % 8 == 4
        }),
    ),
    (
        mutant("linear_vector_tail_3", "one token, three elements past a multiple of four", LINEAR),
        path!("linear", |c| {
            let (t, k, _) = shape(c);
            t == 1 && k % 4 == 3
        }),
    ),
    (
        mutant("linear_vector_rows_2", "one token, two rows past a multiple of four", LINEAR),
        path!("linear", |c| {
            let (t, _, n) = shape(c);
            t == 1 && n > 4 && n % 4 == 2
        }),
    ),
    (
        mutant("linear_n65535", "rows of w past 65535 give zero", LINEAR),
        after!("linear", |c, y| {
            let d = y[0].columns();
            y[0].map(|i, v| if i % d >= 65_535 { 0.0 } else { v })
        }),
    ),
    (mutant("linear_65535_groups", "results past 65535 groups of 16 are zero", LINEAR), grid!("linear", 65_535 * 16)),
    (
        mutant("linear_many_tokens", "tokens past 1024 give zeros", LINEAR),
        after!("linear", |c, y| {
            let d = y[0].columns();
            end(&mut y[0], 1024 * d)
        }),
    ),
    (
        mutant("quant_four_tokens", "blocks by four tokens", &["op/linear/q*"]),
        path!("linear", |c| blocks(c).is_some() && shape(c).0 == 4),
    ),
    (
        mutant("quant_eight_tokens", "blocks by eight tokens", &["op/linear/q*"]),
        path!("linear", |c| blocks(c).is_some() && shape(c).0 == 8),
    ),
    (
        mutant("quant_tile", "blocks by 64 tokens and more", &["op/linear/q*"]),
        path!("linear", |c| blocks(c).is_some() && shape(c).0 >= 64),
    ),
    (
        mutant("quant_four_blocks", "a multiple of four blocks a row", &["op/linear/q*"]),
        path!("linear", |c| blocks(c).is_some_and(|n| n % 4 == 0)),
    ),
    (
        mutant("quant_rows_64", "blocks, one token, a multiple of 64 rows", &["op/linear/q*"]),
        path!("linear", |c| blocks(c).is_some() && shape(c).0 == 1 && shape(c).2.is_multiple_of(64)),
    ),
    (
        mutant("quant_n65535", "rows of blocks past 65535 give zero", &["op/linear/q*"]),
        after!("linear", |c, y| if c.inputs[1].dtype.is_block() {
            let d = y[0].columns();
            y[0].map(|i, v| if i % d >= 65_535 { 0.0 } else { v })
        }),
    ),
    (
        mutant("gather_u16", "indices are cut to 16 bits", GATHER),
        before!("gather_rows", |c| {
            let rows = c.inputs[0].dims[0] as i32;
            c.inputs[1].map_ints(|i| if i > 65_535 && i < rows { i & 65_535 } else { i })
        }),
    ),
    (
        mutant("gather_u17", "indices are cut to 17 bits", GATHER),
        before!("gather_rows", |c| {
            let rows = c.inputs[0].dims[0] as i32;
            c.inputs[1].map_ints(|i| if i > 131_071 && i < rows { i & 131_071 } else { i })
        }),
    ),
    (
        mutant("gather_blocks_u16", "indices into blocks are cut to 16 bits", &["op/gather_rows/q*"]),
        before!("gather_rows", |c| if c.inputs[0].dtype.is_block() {
            let rows = c.inputs[0].dims[0] as i32;
            c.inputs[1].map_ints(|i| if i > 65_535 && i < rows { i & 65_535 } else { i })
        }),
    ),
    (
        mutant("gather_u24", "places in the table are multiplied in 24 bits", GATHER),
        before!("gather_rows", |c| {
            let d = c.inputs[0].columns() as i32;
            c.inputs[1]
                .map_ints(|i| if i > (1 << 24) / d { (i64::from(i) * i64::from(d) % (1 << 24)) as i32 / d } else { i })
        }),
    ),
    (
        mutant("gather_many", "rows past 1024 are zeros", GATHER),
        after!("gather_rows", |c, y| {
            let d = y[0].columns();
            end(&mut y[0], 1024 * d)
        }),
    ),
    (
        mutant("gather_wide", "elements of a row past 1024 are zeros", GATHER),
        after!("gather_rows", |c, y| {
            let d = y[0].columns();
            y[0].map(|i, v| if i % d >= 1024 { 0.0 } else { v })
        }),
    ),
    (
        mutant("kv_append_u16", "slots are cut to 16 bits", &["op/kv_append/*"]),
        before!("kv_append", |c| c.inputs[2].map_ints(|i| if i > 65_535 { i & 65_535 } else { i })),
    ),
    (
        mutant("kv_append_many", "tokens past 512 are not stored", &["op/kv_append/*"]),
        before!("kv_append", |c| {
            let mut ints = c.inputs[2].ints();
            ints.iter_mut().skip(512).for_each(|i| *i = -1);
            c.inputs[2].set_ints(&ints)
        }),
    ),
    (
        mutant("kv_append_wide", "elements of a row past 512 are not stored", &["op/kv_append/*"]),
        after!("kv_append", |c, y| {
            let (d, before) = (y[0].columns(), c.inputs[0].floats());
            y[0].map(|i, v| if i % d >= 512 { before[i] } else { v })
        }),
    ),
    (
        mutant("scatter_u16", "rows are cut to 16 bits", &["op/scatter_rows/*"]),
        before!("scatter_rows", |c| c.inputs[2].map_ints(|i| if i > 65_535 { i & 65_535 } else { i })),
    ),
    (mutant("attention_4096", "what lies more than 4096 tokens back is lost", ATTENTION), |_, c, r| {
        instead(c, r, |c| {
            let (seen, head) = (window(c), groups(c));
            plain(c, |i, j| seen(i, j) && j + 4096 > i, head, softmax)
        })
    }),
    (
        mutant("attention_split", "one token, a context of 2048 and more", ATTENTION),
        path!("attention", |c| batch(c).0 == 1 && batch(c).1 >= 2048),
    ),
    (mutant("attention_block_u8", "blocks of a sequence are counted in 8 bits", ATTENTION), |_, c, r| {
        instead(c, r, |c| {
            let (width, table) = (c.inputs[5].columns(), c.inputs[5].ints());
            let wrapped: Vec<i32> = (0..table.len()).map(|i| table[i / width * width + i % width % 256]).collect();
            c.inputs[5].set_ints(&wrapped);
            let (seen, head) = (window(c), groups(c));
            plain(c, seen, head, softmax)
        })
    }),
    (mutant("attention_rows_u16", "rows of the cache are counted in 16 bits", ATTENTION), |_, c, r| {
        if c.op.name() != "attention" || c.inputs[1].rows() <= 65_536 {
            return r;
        }
        instead(c, r, |c| {
            let kv = c.inputs[1].row_bytes();
            let rows = context(c);
            for row in rows.iter().flatten().filter(|row| **row > 65_535) {
                for cache in [1, 2] {
                    let from = row % 65_536 * kv;
                    let copy = c.inputs[cache].bytes[from..from + kv].to_vec();
                    c.inputs[cache].bytes[row * kv..(row + 1) * kv].copy_from_slice(&copy);
                }
            }
            let (seen, head) = (window(c), groups(c));
            plain(c, seen, head, softmax)
        })
    }),
    (
        mutant("attention_ratio_16", "more than eight query heads a key head", ATTENTION),
        path!("attention", |c| ratio(c) > 8),
    ),
    (
        mutant("attention_ratio_4_groups_4", "four query heads a key head, four key heads and more", ATTENTION),
        path!("attention", |c| ratio(c) >= 4 && c.inputs[1].columns() >= 4 * head_dim(c)),
    ),
    (
        mutant("attention_heads_32", "heads past the 32nd give zeros", ATTENTION),
        after!("attention", |c, y| {
            let (d, width) = (y[0].columns(), head_dim(c));
            y[0].map(|i, v| if i % d >= 32 * width { 0.0 } else { v })
        }),
    ),
    (
        mutant("attention_head_256", "heads of more than 192 elements", ATTENTION),
        path!("attention", |c| head_dim(c) > 192),
    ),
    (
        mutant("attention_masked_tile", "a first tile of 64 that the window hides whole gives NaN", ATTENTION),
        after!("attention", |c, y| {
            let Op::Attention(spec) = &c.op else { return Ok(y.clone()) };
            let (starts, lengths) = (c.inputs[3].ints(), c.inputs[4].ints());
            for s in 0..lengths.len() {
                for t in starts[s]..starts[s + 1] {
                    let i = lengths[s] - (starts[s + 1] - t);
                    if spec.window.is_some_and(|w| i - w as i32 >= 64) {
                        let len = y[0].row_bytes();
                        y[0].bytes[t as usize * len..(t as usize + 1) * len].fill(0xff);
                    }
                }
            }
        }),
    ),
    (
        mutant("attention_tile", "prompts of 64 tokens and more by heads of 32 and more", ATTENTION),
        path!("attention", |c| batch(c).0 >= 64 && head_dim(c) >= 32),
    ),
    (
        mutant("attention_head_64_long", "heads of 64 and more over a context of 256 and more", ATTENTION),
        path!("attention", |c| head_dim(c) >= 64 && batch(c).1 >= 256),
    ),
    (
        mutant("attention_16_sequences", "sequences past the 16th give zeros", ATTENTION),
        after!("attention", |c, y| {
            let (starts, d) = (c.inputs[3].ints(), y[0].columns());
            if let Some(from) = starts.get(16) {
                end(&mut y[0], *from as usize * d)
            }
        }),
    ),
    (
        mutant("attention_256_sequences", "sequences past the 256th give zeros", ATTENTION),
        after!("attention", |c, y| {
            let (starts, d) = (c.inputs[3].ints(), y[0].columns());
            if let Some(from) = starts.get(256) {
                end(&mut y[0], *from as usize * d)
            }
        }),
    ),
    (
        mutant("attention_wide_block", "blocks of more than 64 tokens", ATTENTION),
        path!("attention", |c| matches!(&c.op, Op::Attention(s) if s.block_size > 64)),
    ),
    (
        mutant("attention_chunk_deep", "several tokens behind a context of 1024 and more", ATTENTION),
        path!("attention", |c| batch(c).0 > 1 && batch(c).1 > 1024),
    ),
    (
        mutant("attention_chunk_wide", "16 tokens and more behind a context of 64 and more", ATTENTION),
        path!("attention", |c| batch(c).0 >= 16 && batch(c).1 >= batch(c).0 + 64),
    ),
    (
        mutant("rms_norm_4096", "of a row only 4096 elements are summed", NORM),
        before!("rms_norm", |c| {
            let d = c.inputs[0].columns();
            if d > 4096 {
                c.inputs[0].map(|i, v| if i % d >= 4096 { 0.0 } else { v })
            }
        }),
    ),
    (
        mutant("rms_norm_1024", "rows of a multiple of 1024", NORM),
        path!("rms_norm", |c| c.inputs[0].columns() % 1024 == 0),
    ),
    (
        mutant("rms_norm_65535", "rows past 65535 are zeros", NORM),
        after!("rms_norm", |c, y| {
            let d = y[0].columns();
            end(&mut y[0], 65_535 * d)
        }),
    ),
    (
        mutant("add_rms_norm_1024", "rows of 1024 and more", &["op/add_rms_norm/*"]),
        path!("add_rms_norm", |c| c.inputs[0].columns() >= 1024),
    ),
    (
        mutant("softmax_2048", "what is past 2048 is zero", SOFTMAX),
        after!("softmax", |c, y| {
            let d = y[0].columns();
            y[0].map(|i, v| if i % d >= 2048 { 0.0 } else { v })
        }),
    ),
    (
        mutant("softmax_65535", "what is past 65535 is not summed", SOFTMAX),
        path!("softmax", |c| c.inputs[0].columns() > 65_535),
    ),
    (
        mutant("softmax_rows_65535", "rows past 65535 are zeros", SOFTMAX),
        after!("softmax", |c, y| {
            let d = y[0].columns();
            end(&mut y[0], 65_535 * d)
        }),
    ),
    (
        mutant("rope_head_256", "heads of more than 192 elements", ROPE),
        path!("rope", |c| matches!(c.op, Op::Rope { head_dim } if head_dim > 192)),
    ),
    (
        mutant("rope_1024_tokens", "tokens past 1024 are zeros", ROPE),
        after!("rope", |c, y| {
            let d = y[0].columns();
            end(&mut y[0], 1024 * d)
        }),
    ),
    (
        mutant("rope_65535_heads", "heads of all tokens past 65535 are zeros", ROPE),
        after!("rope", |c, y| {
            if let Op::Rope { head_dim } = c.op {
                end(&mut y[0], 65_535 * head_dim)
            }
        }),
    ),
    (
        mutant("rope_64_heads", "heads past the 64th are zeros", ROPE),
        after!("rope", |c, y| {
            if let Op::Rope { head_dim } = c.op {
                let d = y[0].columns();
                y[0].map(|i, v| if i % d >= 64 * head_dim { 0.0 } else { v })
            }
        }),
    ),
    (mutant("add_65535", "elements past 65535 are zeros", &["op/add/*"]), grid!("add", 65_535)),
    (mutant("mul_65535", "elements past 65535 are zeros", &["op/mul/*"]), grid!("mul", 65_535)),
    (mutant("activation_65535", "elements past 65535 are zeros", &["op/activation/*"]), grid!("activation", 65_535)),
    (mutant("swiglu_65535", "elements past 65535 are zeros", &["op/swiglu/*"]), grid!("swiglu", 65_535)),
    (
        mutant("swiglu_groups", "elements past 65535 groups of 64 are zeros", &["op/swiglu/*"]),
        grid!("swiglu", 65_535 * 64),
    ),
    (mutant("cast_65535", "elements past 65535 are zeros", &["op/cast/*"]), grid!("cast", 65_535)),
    (
        mutant("bmm_batch_256", "matrices past the 256th are zeros", BMM),
        after!("bmm", |c, y| {
            let n = y[0].dims.len();
            let one = y[0].dims[n - 2] * y[0].dims[n - 1];
            end(&mut y[0], 256 * one)
        }),
    ),
    (
        mutant("bmm_batch_65535", "matrices past the 65535th are zeros", BMM),
        after!("bmm", |c, y| {
            let n = y[0].dims.len();
            let one = y[0].dims[n - 2] * y[0].dims[n - 1];
            end(&mut y[0], 65_535 * one)
        }),
    ),
    (
        mutant("bmm_tile", "32 x 32 x 32 and more", BMM),
        path!("bmm", |c| {
            let n = c.inputs[0].dims.len();
            let b = &c.inputs[1].dims;
            c.inputs[0].dims[n - 2] >= 32 && c.inputs[0].dims[n - 1] >= 32 && b[n - 1] >= 32 && b[n - 2] >= 32
        }),
    ),
    (mutant("bmm_k_1024", "sums of more than 1024", BMM), path!("bmm", |c| c.inputs[0].columns() > 1024)),
    (
        mutant("qkv_tile", "32 tokens and more by 32 rows and more", &["op/qkv_linear/*"]),
        path!("qkv_linear", |c| c.inputs[0].rows() >= 32 && c.inputs[1].dims[0] >= 32),
    ),
    (
        mutant("qkv_256", "rows of 256 and more", &["op/qkv_linear/*"]),
        path!("qkv_linear", |c| c.inputs[1].dims[0] >= 256),
    ),
];

fn head_dim(c: &Call) -> usize {
    if let Op::Attention(spec) = &c.op { spec.head_dim } else { 1 }
}

fn ratio(c: &Call) -> usize {
    if let Op::Attention(spec) = &c.op { spec.num_heads / spec.num_kv_heads } else { 1 }
}
