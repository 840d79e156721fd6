//! Every format: rows find their way back, and every kernel gives what the numbers say.

use camelid_core::{DType, quant};
use proptest::prelude::*;

use crate::activations::{Input, prepare, tiles};
use crate::isa::{IsaName, LANES};
use crate::kernel::{Kernel, Kernels, Task, on};

/// `n` bytes that look random, the same for the same seed.
fn noise(seed: u64, n: usize) -> Vec<u8> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

fn floats(seed: u64, n: usize) -> Vec<f32> {
    noise(seed, 2 * n).as_chunks().0.iter().map(|b| f32::from(i16::from_le_bytes(*b)) / 8192.0).collect()
}

/// `rows` rows of `k` weights of this type: quantized noise, so that scales are ordinary numbers.
fn weights(dtype: DType, seed: u64, rows: usize, k: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for r in 0..rows {
        let row = floats(seed + r as u64, k);
        match dtype {
            DType::F32 => bytes.extend(row.iter().flat_map(|v| v.to_le_bytes())),
            DType::F16 => bytes.extend(row.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes())),
            DType::BF16 => bytes.extend(row.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes())),
            _ => {
                let mut out = vec![0; dtype.row_bytes(k).unwrap()];
                quant::quantize(dtype, &row, &mut out).unwrap();
                bytes.extend(out);
            }
        }
    }
    bytes
}

fn whole_rows(dtype: DType) -> usize {
    if dtype.is_block() { dtype.block_elems() } else { 1 }
}

struct Prepare<'a> {
    input: Input,
    x: &'a [f32],
    k: usize,
    tokens: usize,
    to: &'a mut [u8],
}

impl Task for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: crate::isa::Isa>(self) {
        let Prepare { input, x, k, tokens, to } = self;
        // SAFETY: rows of `k`, and room for `tokens` of them.
        unsafe { prepare::<I>(input, x.as_ptr(), k, 0..tokens, tokens, to.as_mut_ptr()) };
    }
}

/// Every choice of kernels that this processor has.
fn choices() -> impl Iterator<Item = Kernels> {
    let here = IsaName::ALL.into_iter().filter(|isa| isa.is_here());
    here.flat_map(|isa| [false, true].map(|f16_as_bf16| Kernels { isa, f16_as_bf16 }))
}

const PORTABLE: Kernels = Kernels { isa: IsaName::Portable, f16_as_bf16: false };

/// `x [tokens, k]` times sixteen rows: `[tokens][16]`.
fn product(dtype: DType, kernels: Kernels, rows: &[u8], x: &[f32], k: usize) -> Vec<f32> {
    let (isa, kernel) = (kernels.isa, kernels.of(dtype).unwrap());
    let mut panel = vec![0; kernel.panel_len(k).unwrap()];
    kernel.pack(rows, k, &mut panel);
    let tokens = x.len() / k;
    let row = kernel.input.row_bytes(k).unwrap();
    let mut prepared = vec![0; row * tokens];
    let mut y = vec![f32::NAN; tokens * LANES];
    // SAFETY: `isa` is here; all memory has the sizes the kernel says.
    unsafe {
        on(isa, Prepare { input: kernel.input, x, k, tokens, to: &mut prepared });
        for (first, count) in tiles(tokens, kernel.tile) {
            let tile = kernel.tiles[count.ilog2() as usize];
            let (x, y) = (prepared.as_ptr().add(first * row), y[first * LANES..].as_mut_ptr());
            tile(panel.as_ptr(), kernel.steps(k), x, y);
        }
    }
    y
}

/// The same in f64 from the numbers that the weights stand for, with the size of the sum's terms.
fn exact(dtype: DType, rows: &[u8], x: &[f32], k: usize) -> Vec<(f64, f64)> {
    let bytes = dtype.row_bytes(k).unwrap();
    let mut y = Vec::new();
    for x in x.chunks(k) {
        for r in 0..LANES {
            let mut w = vec![0.0; k];
            if r * bytes < rows.len() {
                quant::dequantize(dtype, &rows[r * bytes..(r + 1) * bytes], &mut w).unwrap();
            }
            let terms = || w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
            y.push((terms().sum(), terms().map(|t| t * t).sum::<f64>().sqrt()));
        }
    }
    y
}

#[test]
fn kernels_give_what_the_numbers_say_on_every_set_of_instructions() {
    for kernels in choices() {
        for dtype in Kernel::TYPES {
            for steps in [1, 2, 3, 7] {
                let k = whole_rows(dtype) * steps;
                for tokens in [1, 2, 3, 5, 16, 33] {
                    let rows = weights(dtype, steps as u64, if steps == 3 { 13 } else { LANES }, k);
                    let x = floats(tokens as u64 + 99, tokens * k);
                    let y = product(dtype, kernels, &rows, &x, k);
                    // Of the size of one sum's terms: what f32, bf16 and 8 bits lose of each.
                    let limit = match kernels.of(dtype).unwrap().input {
                        Input::F32 => 1e-6,
                        Input::Bf16 => 8e-3,
                        Input::Q8 => 2.5e-2,
                    };
                    for (i, (y, (expected, size))) in y.iter().zip(exact(dtype, &rows, &x, k)).enumerate() {
                        let error = (f64::from(*y) - expected).abs();
                        assert!(
                            error <= limit * size + 1e-6 * (expected.abs() + 1.0),
                            "{kernels:?} {dtype} k {k} tokens {tokens} at {i}: {y}, not {expected}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn all_sets_of_instructions_agree() {
    for kernels in choices() {
        for dtype in Kernel::TYPES {
            let k = whole_rows(dtype) * 5;
            let (rows, x) = (weights(dtype, 5, LANES, k), floats(6, 7 * k));
            let (a, b) = (product(dtype, kernels, &rows, &x, k), product(dtype, PORTABLE, &rows, &x, k));
            let rounded = kernels.of(dtype).unwrap().input != PORTABLE.of(dtype).unwrap().input;
            let sizes = exact(dtype, &rows, &x, k);
            for ((a, b), (sum, size)) in a.iter().zip(b).zip(sizes) {
                let limit = if rounded { 8e-3 } else { 1e-6 };
                let limit = limit * size + 1e-6 * (sum.abs() + 1.0);
                assert!(f64::from((a - b).abs()) <= limit, "{kernels:?} {dtype}: {a} {b}");
            }
        }
    }
}

proptest! {
    #[test]
    fn every_byte_of_a_row_finds_its_way_back(seed: u64, steps in 1usize..5, rows in 1usize..=16) {
        for (kernels, dtype) in choices().flat_map(|kernels| Kernel::TYPES.map(|dtype| (kernels, dtype))) {
            let kernel = kernels.of(dtype).unwrap();
            let k = whole_rows(dtype) * steps;
            let len = dtype.row_bytes(k).unwrap();
            prop_assert_eq!(kernel.file_row_bytes(k), len);
            let bytes = noise(seed, rows * len);
            let mut panel = vec![0; kernel.panel_len(k).unwrap()];
            kernel.pack(&bytes, k, &mut panel);
            for r in 0..rows {
                let mut row = vec![0; len];
                kernel.unpack(&panel, r, &mut row);
                prop_assert_eq!(&row, &bytes[r * len..(r + 1) * len], "{:?} {} row {}", kernels, dtype, r);
            }
        }
    }
}

#[test]
fn a_neighbour_changes_no_bit() {
    for kernels in choices() {
        for dtype in Kernel::TYPES {
            let k = whole_rows(dtype) * 3;
            let (rows, x) = (weights(dtype, 5, LANES, k), floats(6, 23 * k));
            let together = product(dtype, kernels, &rows, &x, k);
            for t in 0..23 {
                let alone = product(dtype, kernels, &rows, &x[t * k..(t + 1) * k], k);
                assert_eq!(together[t * LANES..(t + 1) * LANES], alone, "{kernels:?} {dtype} token {t}");
            }
        }
    }
}
