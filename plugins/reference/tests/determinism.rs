//! The same bits, however the work is divided: over threads, over steps, over batches; and again.
//!
//! One layer with every operation in it: enough that a sum in another order would show.

mod common;

use camelid_core::DType;
use camelid_core::graph::{Dim, Graph, GraphBuilder, StepInput, Symbol, SymbolRange, SymbolValues};
use camelid_core::lower;
use camelid_core::ops::{Activation, AttentionSpec};

use common::*;

const VOCAB: usize = 53;
const HIDDEN: usize = 64;
const FFN: usize = 96;
const SPEC: AttentionSpec =
    AttentionSpec { num_heads: 6, num_kv_heads: 2, head_dim: 12, block_size: 4, scale: 0.29, window: Some(9) };
const BLOCKS: usize = 4;
const NUM_BLOCKS: usize = 9;

/// Tokens in, a row for every token out.
fn layer() -> Graph {
    let range = SymbolRange { min: SymbolValues::new(0, 0, 0, 0), max: SymbolValues::new(12, 2, 12, 16) };
    let mut g = GraphBuilder::new(range);
    let (heads, kv) = (SPEC.num_heads * SPEC.head_dim, SPEC.num_kv_heads * SPEC.head_dim);
    let embed = g.weight("embed", matrix(DType::Q8_0, VOCAB, HIDDEN)).unwrap();
    let norm = g.weight("norm", ty(DType::F32, &[HIDDEN.into()])).unwrap();
    let wq = g.weight("wq", matrix(DType::Q4_1, heads, HIDDEN)).unwrap();
    let wk = g.weight("wk", matrix(DType::F16, kv, HIDDEN)).unwrap();
    let wv = g.weight("wv", matrix(DType::BF16, kv, HIDDEN)).unwrap();
    let wo = g.weight("wo", matrix(DType::F32, HIDDEN, heads)).unwrap();
    let wg = g.weight("wg", matrix(DType::Q5_0, FFN, HIDDEN)).unwrap();
    let wu = g.weight("wu", matrix(DType::Q4_0, FFN, HIDDEN)).unwrap();
    let wd = g.weight("wd", matrix(DType::Q8_0, HIDDEN, FFN)).unwrap();
    let bias = g.weight("bias", ty(DType::F16, &[HIDDEN.into()])).unwrap();
    let [cos, sin] = ["cos", "sin"].map(|n| g.weight(n, matrix(DType::F32, 16, 4)).unwrap());
    let cache = matrix(DType::F16, NUM_BLOCKS * SPEC.block_size, kv);
    let [k_cache, v_cache] = ["k_cache", "v_cache"].map(|n| g.state(n, cache).unwrap());

    let tokens = g.step_input(StepInput::Tokens).unwrap();
    let positions = g.step_input(StepInput::Positions).unwrap();
    let slot = g.step_input(StepInput::Slot).unwrap();
    let table = g.step_input(StepInput::BlockTable { blocks: BLOCKS }).unwrap();
    let x = g.gather_rows(embed, tokens).unwrap();
    let normed = g.rms_norm(x, norm, 1e-5).unwrap();
    let [q, k, v] = g.qkv_linear(normed, [wq, wk, wv], None).unwrap();
    let (cos, sin) = (g.gather_rows(cos, positions).unwrap(), g.gather_rows(sin, positions).unwrap());
    let q = g.rope(q, cos, sin, SPEC.head_dim).unwrap();
    let k = g.rope(k, cos, sin, SPEC.head_dim).unwrap();
    let k_cache = g.kv_append(k_cache, k, slot).unwrap();
    let v_cache = g.kv_append(v_cache, v, slot).unwrap();
    let attended = g.attention(q, [k_cache, v_cache], table, SPEC).unwrap();
    let attended = g.linear(attended, wo, Some(bias)).unwrap();
    let (x, normed) = g.add_rms_norm(x, attended, norm, 1e-5).unwrap();
    let (gate, up) = (g.linear(normed, wg, None).unwrap(), g.linear(normed, wu, None).unwrap());
    let mixed = g.swiglu(gate, up).unwrap();
    let update = g.linear(mixed, wd, None).unwrap();
    let x = g.add(x, update).unwrap();
    // The rest of the operations, for the sake of the test: bf16, products of matrices, another activation.
    let half = g.cast(x, DType::BF16).unwrap();
    let half = g.activation(half, Activation::GeluTanh).unwrap();
    let rows = g.reshape(half, &[Symbol::T.into(), 4.into(), (HIDDEN / 4).into()]).unwrap();
    let scores = g.bmm(rows, rows, true).unwrap();
    let weights = g.softmax(scores, None, 0.5).unwrap();
    let mixed = g.bmm(weights, rows, false).unwrap();
    let flat = g.reshape(mixed, &[Symbol::T.into(), HIDDEN.into()]).unwrap();
    let full = g.cast(flat, DType::F32).unwrap();
    let y = g.add(full, x).unwrap();
    let y = g.linear(y, embed, None).unwrap();
    g.output("y", y).unwrap();
    lowered_for_device(&g.finish())
}

fn matrix(dtype: DType, rows: usize, columns: usize) -> camelid_core::graph::TensorType {
    ty(dtype, &[Dim::from(rows), columns.into()])
}

fn weights(graph: &Graph) -> Contents {
    let mut contents = Contents::new();
    for (i, (_, value)) in graph.bound_values().enumerate() {
        if value.kind == camelid_core::graph::ValueKind::Weight {
            let dims = value.ty.shape.resolve(&graph.range().max);
            let (rows, columns) = if dims.len() == 2 { (dims[0], dims[1]) } else { (1, dims[0]) };
            contents.insert(value.name.clone(), weight_bytes(value.ty.dtype, i as u64, rows, columns));
        }
    }
    contents
}

/// A part of a sequence: `count` of its tokens after `start`.
#[derive(Clone, Copy)]
struct Part {
    sequence: usize,
    start: usize,
    count: usize,
}

const TABLES: [[i32; BLOCKS]; 2] = [[7, 2, 5, 0], [3, 8, 1, 6]];

fn token(sequence: usize, index: usize) -> i32 {
    ((sequence * 31 + index * 17) % VOCAB) as i32
}

/// One step over `parts`, with `padding` tokens behind: the bytes of each token's row of y.
fn step(rig: &mut Rig, parts: &[Part], padding: usize) -> Vec<Vec<u8>> {
    let (mut tokens, mut positions, mut slot, mut table) = (vec![], vec![], vec![], vec![]);
    let (mut q_start, mut seq_len) = (vec![0], vec![]);
    for part in parts {
        for index in part.start..part.start + part.count {
            tokens.push(token(part.sequence, index));
            positions.push(index as i32);
            let block = TABLES[part.sequence][index / SPEC.block_size];
            slot.push(block * SPEC.block_size as i32 + (index % SPEC.block_size) as i32);
        }
        q_start.push(tokens.len() as i32);
        seq_len.push((part.start + part.count) as i32);
        table.extend(TABLES[part.sequence]);
    }
    let real = tokens.len();
    tokens.extend(vec![0; padding]);
    positions.extend(vec![0; padding]);
    slot.extend(vec![-1; padding]);
    let inputs = [
        ("tokens", &tokens),
        ("positions", &positions),
        ("slot", &slot),
        ("block_table", &table),
        ("q_start", &q_start),
        ("seq_len", &seq_len),
    ];
    rig.write(&inputs.map(|(n, v)| (n.to_owned(), i32_bytes(v))).into());
    let symbols = SymbolValues::new(tokens.len(), parts.len(), 0, 0);
    rig.run(&symbols).unwrap();
    let y = rig.read("y", &symbols);
    assert!(floats(DType::F32, &y).iter().all(|v| v.is_finite()));
    y.chunks_exact(4 * VOCAB).take(real).map(<[u8]>::to_vec).collect()
}

/// Both sequences, 12 tokens of the first and 9 of the second, each in parts of its own: one result for each token.
fn in_parts(rig: &mut Rig, sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut rows = Vec::new();
    for (sequence, len) in [(0, 12), (1, 9)] {
        let mut start = 0;
        for count in sizes.iter().copied().cycle() {
            let count = count.min(len - start);
            if count == 0 {
                break;
            }
            rows.extend(step(rig, &[Part { sequence, start, count }], 0));
            start += count;
        }
    }
    rows
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let graph = layer();
    let contents = weights(&graph);
    let results: Vec<_> = [1, 2, 3, 8].map(|threads| in_parts(&mut Rig::new(&graph, &contents, threads), &[12])).into();
    assert!(results.iter().all(|r| *r == results[0]));
    assert_ne!(results[0][0], results[0][1], "tokens differ, so the rows do");
}

#[test]
fn running_again_gives_the_same_bits() {
    let graph = layer();
    let mut rig = Rig::new(&graph, &weights(&graph), 2);
    let first = in_parts(&mut rig, &[12]);
    assert_eq!(in_parts(&mut rig, &[12]), first);
}

#[test]
fn prefill_chunks_and_single_tokens_give_the_same_bits() {
    let graph = layer();
    let contents = weights(&graph);
    let whole = in_parts(&mut Rig::new(&graph, &contents, 2), &[12]);
    for sizes in [&[1][..], &[3, 1, 5], &[7]] {
        assert_eq!(in_parts(&mut Rig::new(&graph, &contents, 2), sizes), whole, "in parts of {sizes:?}");
    }
}

#[test]
fn a_batch_gives_the_bits_of_its_sequences() {
    let graph = layer();
    let contents = weights(&graph);
    let alone = in_parts(&mut Rig::new(&graph, &contents, 2), &[12]);
    let mut rig = Rig::new(&graph, &contents, 2);
    let part = |sequence, start, count| Part { sequence, start, count };
    let mut rows = [Vec::new(), Vec::new()];
    // Prefill of one beside decoding of the other, in either order, with padding, with nothing to do for one.
    for (parts, padding) in [
        ([part(0, 0, 5), part(1, 0, 6)], 1),
        ([part(1, 6, 1), part(0, 5, 4)], 0),
        ([part(0, 9, 2), part(1, 7, 0)], 3),
        ([part(0, 11, 1), part(1, 7, 2)], 0),
    ] {
        let mut results = step(&mut rig, &parts, padding).into_iter();
        for p in parts {
            rows[p.sequence].extend(results.by_ref().take(p.count));
        }
    }
    assert_eq!(rows.concat(), alone);
}

#[test]
fn lowering_kv_append_changes_no_bit() {
    let graph = layer();
    let lowered = lower::lower(&graph, |n| graph.node(n).op.name() == "kv_append").unwrap();
    let contents = weights(&graph);
    let expected = in_parts(&mut Rig::new(&graph, &contents, 1), &[5]);
    assert_eq!(in_parts(&mut Rig::new(&lowered, &contents, 3), &[5]), expected);
}
