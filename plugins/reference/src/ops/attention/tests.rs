//! Attention against the plain formula, on a batch with everything in it: several sequences, one without new tokens,
//! shuffled blocks, padding, key/value heads shared by groups of another size.

use camelid_core::DType;
use camelid_core::ops::{AttentionSpec, Op};

use super::super::{OpError, compute};
use crate::tensor::Tensor;
use crate::tensor::testing::{Owned, indices, noise};

/// The operands of one step.
struct Case {
    spec: AttentionSpec,
    q: Owned,
    k: Owned,
    v: Owned,
    q_start: Vec<i32>,
    seq_len: Vec<i32>,
    block_table: Vec<i32>,
}

const SPEC: AttentionSpec =
    AttentionSpec { num_heads: 6, num_kv_heads: 2, head_dim: 5, block_size: 2, scale: 0.4, window: None };

/// Eight tokens of which the last two are padding. Sequence 0: 3 new tokens after 4; 1: none; 2: its first 3.
fn case(dtype: DType, window: Option<usize>) -> Case {
    Case {
        spec: AttentionSpec { window, ..SPEC },
        q: Owned::floats(DType::F32, &[8, 30], &noise(1, 8 * 30)),
        k: Owned::floats(dtype, &[14, 10], &noise(2, 14 * 10)),
        v: Owned::floats(dtype, &[14, 10], &noise(3, 14 * 10)),
        q_start: vec![0, 3, 3, 6],
        seq_len: vec![7, 2, 3],
        // Entries past the length are unspecified.
        block_table: vec![6, 1, 3, 0, 5, i32::MAX, -7, 99, 2, 4, -1, 77],
    }
}

impl Case {
    fn run(&self) -> Result<Vec<f32>, OpError> {
        let (s, blocks) = (self.seq_len.len(), self.block_table.len().checked_div(self.seq_len.len()).unwrap_or(4));
        let q_start = indices(&[self.q_start.len()], &self.q_start);
        let seq_len = indices(&[s], &self.seq_len);
        let table = indices(&[s, blocks], &self.block_table);
        let operands = [self.q.view(), self.k.view(), self.v.view(), q_start.view(), seq_len.view(), table.view()];
        let y = compute(&Op::Attention(self.spec), &operands, self.q.dtype, &self.q.dims)?;
        Ok(Tensor { dtype: self.q.dtype, dims: self.q.dims.clone(), bytes: y.bytes() }.vector().to_vec())
    }

    /// The formula, word for word: for token t and head h, over the indices it sees.
    fn expected(&self) -> Vec<f64> {
        let AttentionSpec { num_heads, num_kv_heads, head_dim, block_size, scale, window } = self.spec;
        let (q, k, v) = (self.q.view().matrix(), self.k.view().matrix(), self.v.view().matrix());
        let blocks = self.block_table.len() / self.seq_len.len();
        let mut y = vec![0.0; q.len()];
        for s in 0..self.seq_len.len() {
            for t in self.q_start[s]..self.q_start[s + 1] {
                let i = self.seq_len[s] - (self.q_start[s + 1] - t);
                let sees = |j: &i32| window.is_none_or(|w| *j > i - w as i32);
                let row = |j: i32| {
                    let block = self.block_table[s * blocks + j as usize / block_size];
                    block as usize * block_size + j as usize % block_size
                };
                for h in 0..num_heads {
                    let g = h / (num_heads / num_kv_heads);
                    let exps: Vec<(usize, f64)> = (0..=i)
                        .filter(sees)
                        .map(|j| {
                            let products = (0..head_dim).map(|d| {
                                f64::from(q[[t as usize, h * head_dim + d]]) * f64::from(k[[row(j), g * head_dim + d]])
                            });
                            (row(j), (f64::from(scale) * products.sum::<f64>()).exp())
                        })
                        .collect();
                    let sum: f64 = exps.iter().map(|(_, e)| e).sum();
                    for d in 0..head_dim {
                        let mixed: f64 = exps.iter().map(|(r, e)| e / sum * f64::from(v[[*r, g * head_dim + d]])).sum();
                        y[(t as usize * num_heads + h) * head_dim + d] = mixed;
                    }
                }
            }
        }
        y
    }

    fn check(&self) {
        let (y, expected) = (self.run().unwrap(), self.expected());
        assert_eq!(y.len(), expected.len());
        for (i, (y, e)) in y.iter().zip(expected).enumerate() {
            assert!((f64::from(*y) - e).abs() < 1e-7, "element {i}: {y} is not {e}");
        }
    }
}

#[test]
fn every_head_of_every_token_follows_the_formula() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for window in [None, Some(1), Some(2), Some(4), Some(100)] {
            case(dtype, window).check();
        }
    }
}

#[test]
fn keys_and_values_in_q8_0_are_the_numbers_of_their_blocks() {
    for (head_dim, window) in [(32, None), (96, Some(3))] {
        let mut c = case(DType::F32, window);
        c.spec.head_dim = head_dim;
        c.q = Owned::floats(DType::F32, &[8, 6 * head_dim], &noise(1, 8 * 6 * head_dim));
        c.k = Owned::floats(DType::Q8_0, &[14, 2 * head_dim], &noise(2, 14 * 2 * head_dim));
        c.v = Owned::floats(DType::Q8_0, &[14, 2 * head_dim], &noise(3, 14 * 2 * head_dim));
        c.check();
    }
}

#[test]
fn padding_tokens_give_zeros() {
    let y = case(DType::F32, None).run().unwrap();
    assert!(y[..6 * 30].iter().all(|v| *v != 0.0));
    assert!(y[6 * 30..].iter().all(|v| *v == 0.0));
}

#[test]
fn blocks_may_be_single_rows_or_the_whole_sequence() {
    let mut single = case(DType::F32, None);
    single.spec.block_size = 1;
    (single.q_start, single.seq_len) = (vec![0, 2], vec![4]);
    single.block_table = vec![13, 0, 7, 2];
    single.check();
    let mut whole = case(DType::F32, Some(3));
    whole.spec.block_size = 7;
    (whole.q_start, whole.seq_len, whole.block_table) = (vec![0, 5, 8], vec![6, 7], vec![1, 0]);
    whole.check();
}

#[test]
fn all_kinds_of_head_groups_work() {
    for (num_heads, num_kv_heads) in [(1, 1), (6, 6), (6, 1), (6, 3)] {
        let mut c = case(DType::F32, None);
        (c.spec.num_heads, c.spec.num_kv_heads) = (num_heads, num_kv_heads);
        c.q = Owned::floats(DType::F32, &[8, num_heads * 5], &noise(4, 8 * num_heads * 5));
        c.k = Owned::floats(DType::F32, &[14, num_kv_heads * 5], &noise(5, 14 * num_kv_heads * 5));
        c.v = Owned::floats(DType::F32, &[14, num_kv_heads * 5], &noise(6, 14 * num_kv_heads * 5));
        c.check();
    }
}

#[test]
fn a_batch_is_its_tokens_one_by_one_bit_for_bit() {
    let all = case(DType::F16, Some(4));
    let y = all.run().unwrap();
    for t in 0..3 {
        let mut one = case(DType::F16, Some(4));
        one.q = Owned::floats(DType::F32, &[1, 30], &all.q.view().vector().to_vec()[t * 30..(t + 1) * 30]);
        (one.q_start, one.seq_len) = (vec![0, 1], vec![5 + t as i32]);
        one.block_table.truncate(4);
        assert_eq!(one.run().unwrap(), y[t * 30..(t + 1) * 30], "token {t} of sequence 0");
    }
}

#[test]
fn not_a_number_in_one_sequence_stays_there() {
    let mut c = case(DType::F32, None);
    let mut values = noise(3, 14 * 10);
    values[5 * 2 * 10..6 * 2 * 10].fill(f32::NAN); // block 5, which is sequence 1's by the table, but not reached
    values[4 * 2 * 10..5 * 2 * 10].fill(f32::NAN); // block 4: index 2 of sequence 2
    c.v = Owned::floats(DType::F32, &[14, 10], &values);
    let y = c.run().unwrap();
    assert!(y[..5 * 30].iter().all(|v| v.is_finite()), "sequence 0 and the first tokens of sequence 2");
    assert!(y[5 * 30..6 * 30].iter().all(|v| v.is_nan()), "the token that sees index 2");
}

#[test]
fn there_may_be_no_tokens_and_no_sequences() {
    let mut c = case(DType::F32, None);
    c.q = Owned::floats(DType::F32, &[0, 30], &[]);
    c.q_start = vec![0; 4];
    assert_eq!(c.run(), Ok(vec![]));
    let mut c = case(DType::F32, None);
    (c.q_start, c.seq_len, c.block_table) = (vec![0], vec![], vec![]);
    assert_eq!(c.run(), Ok(vec![0.0; 8 * 30]));
}

#[test]
fn wrong_contents_are_named() {
    let error = |change: fn(&mut Case)| {
        let mut c = case(DType::F32, None);
        change(&mut c);
        c.run().unwrap_err().to_string()
    };
    let expect = |found: String, start: &str| assert!(found.starts_with(start), "{found}");
    expect(error(|c| c.q_start[0] = 1), "operand `q_start`: element 0 is 1, but it must be 0");
    expect(error(|c| c.q_start[2] = 2), "operand `q_start`: element 2 is 2, but it must be in 3..=8");
    expect(error(|c| c.q_start[3] = 9), "operand `q_start`: element 3 is 9, but it must be in 3..=8");
    expect(error(|c| c.q_start[1] = -1), "operand `q_start`: element 1 is -1, but it must be in 0..=8");
    expect(error(|c| c.q_start.truncate(3)), "operand `q_start` has 3 elements, but it must have 4");
    expect(error(|c| c.seq_len[0] = 2), "operand `seq_len`: element 0 is 2, but it must be in 3..=8");
    expect(error(|c| c.seq_len[0] = 9), "operand `seq_len`: element 0 is 9, but it must be in 3..=8");
    expect(error(|c| c.seq_len[1] = -1), "operand `seq_len`: element 1 is -1, but it must be in 0..=8");
    expect(error(|c| c.block_table[3] = 7), "operand `block_table`: element 3 is 7, but it must be in 0..7");
    expect(error(|c| c.block_table[9] = -1), "operand `block_table`: element 9 is -1, but it must be in 0..7");
    // With a window, blocks before it are not looked at.
    let mut c = case(DType::F32, Some(1));
    c.block_table[0] = -1;
    c.run().unwrap();
}
