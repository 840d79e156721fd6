//! Faults in `rope`.

use camelid_core::ops::Op;

use super::{Entry, after, before, mutant};
use crate::kernels::Call;
use crate::tensor::Tensor;

const CASES: &[&str] = &["op/rope/*"];

/// Swaps the order of elements inside every head: `from[i]` goes to `to(i)`.
fn reorder(x: &mut Tensor, width: usize, half: usize, back: bool) {
    let floats = x.floats();
    let mut moved = floats.clone();
    for head in (0..floats.len()).step_by(width) {
        for i in 0..half {
            let (a, b) = ([2 * i, 2 * i + 1], [i, half + i]);
            for (pair, split) in a.into_iter().zip(b) {
                let (to, from) = if back { (pair, split) } else { (split, pair) };
                moved[head + to] = floats[head + from];
            }
        }
    }
    x.set(&moved);
}

fn width(call: &Call) -> (usize, usize) {
    let Op::Rope { head_dim } = call.op else { return (1, 0) };
    (head_dim, call.inputs[1].columns())
}

pub(super) const FAULTS: &[Entry] = &[
    (mutant("rope_interleaved", "pairs of neighbours are turned, as GPT-J does", CASES), |honest, mut call, right| {
        if call.op.name() != "rope" {
            return right;
        }
        let (width, half) = width(&call);
        reorder(&mut call.inputs[0], width, half, false);
        let mut results = honest.compute(&call)?;
        reorder(&mut results[0], width, half, true);
        Ok(results)
    }),
    (mutant("rope_sign", "turned the other way", CASES), before!("rope", |c| c.inputs[2].map(|_, x| -x))),
    (mutant("rope_swapped", "sines in place of cosines", CASES), before!("rope", |c| c.inputs.swap(1, 2))),
    (
        mutant("rope_stuck", "every token stands at the place of the first", CASES),
        before!("rope", |c| {
            for table in &mut c.inputs[1..] {
                let row = table.bytes[..table.row_bytes()].to_vec();
                table.bytes = row.repeat(table.rows());
            }
        }),
    ),
    (
        mutant("rope_next_row", "every token stands one place later", CASES),
        before!("rope", |c| {
            for table in &mut c.inputs[1..] {
                let len = table.row_bytes();
                table.bytes.rotate_left(len);
            }
        }),
    ),
    (
        mutant("rope_last_head", "the last head is not turned", CASES),
        after!("rope", |c, y| {
            let (width, _) = width(c);
            let (x, columns) = (c.inputs[0].floats(), c.inputs[0].columns());
            y[0].map(|i, v| if i % columns >= columns - width { x[i] } else { v });
        }),
    ),
    (
        mutant("rope_first_head_only", "only the first head is turned", CASES),
        after!("rope", |c, y| {
            let (width, _) = width(c);
            let (x, columns) = (c.inputs[0].floats(), c.inputs[0].columns());
            y[0].map(|i, v| if i % columns < width { v } else { x[i] });
        }),
    ),
    (
        mutant("rope_whole_head", "the part that is not turned is lost", CASES),
        after!("rope", |c, y| {
            let (width, half) = width(c);
            y[0].map(|i, v| if i % width >= 2 * half { 0.0 } else { v });
        }),
    ),
    (
        mutant("rope_last_pair", "the last pair of a head is not turned", CASES),
        after!("rope", |c, y| {
            let (width, half) = width(c);
            let x = c.inputs[0].floats();
            y[0].map(|i, v| if i % width == half - 1 || i % width == 2 * half - 1 { x[i] } else { v });
        }),
    ),
    (
        mutant("rope_narrow_heads", "heads wider than 64 are not turned past it", CASES),
        after!("rope", |c, y| {
            let (width, _) = width(c);
            let x = c.inputs[0].floats();
            y[0].map(|i, v| if i % width >= 64 { x[i] } else { v });
        }),
    ),
];
