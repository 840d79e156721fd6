//! Every macro operation against its lowering, on random shapes, types and cache layouts.
//!
//! `kv_append` and `attention` have kernels, which must agree with the same graph in core operations: the first bit
//! for bit, the second within 1e-6 of the result's root mean square, because the lowering rounds scores and weights
//! to f32 on the way. The others are lowered by the host, and the lowered graph must agree with the plain formula.

mod common;

use camelid_core::graph::{Graph, GraphBuilder, NodeId, StepInput, Symbol, SymbolValues};
use camelid_core::ops::AttentionSpec;
use camelid_core::ops::softmax::MASKED;
use camelid_core::{DType, lower};
use proptest::prelude::*;

use common::*;

fn plain_float() -> impl Strategy<Value = DType> {
    prop_oneof![Just(DType::F32), Just(DType::F16), Just(DType::BF16)]
}

/// A type for the cache, and a number of elements in which a head is whole blocks of it.
fn cache_type() -> impl Strategy<Value = (DType, usize)> {
    prop_oneof![3 => plain_float().prop_map(|dtype| (dtype, 1)), 1 => Just((DType::Q8_0, 32))]
}

/// A ragged batch over a paged cache.
#[derive(Clone, Debug)]
struct Batch {
    spec: AttentionSpec,
    q_dtype: DType,
    kv_dtype: DType,
    /// For each sequence its tokens in the cache and its new ones.
    sequences: Vec<(usize, usize)>,
    /// The cache's blocks in the order they are given out.
    blocks: Vec<usize>,
    padding: usize,
    seed: u64,
}

const BLOCKS_PER_SEQUENCE: usize = 9;
const NUM_BLOCKS: usize = 30;

fn batch() -> impl Strategy<Value = Batch> {
    let heads = (1..4usize, 1..4usize, 1..40usize);
    let spec = (heads, 1..5usize, prop_oneof![Just(None), (1..8usize).prop_map(Some)]).prop_map(
        |((num_kv_heads, group, head_dim), block_size, window)| AttentionSpec {
            num_heads: num_kv_heads * group,
            num_kv_heads,
            head_dim,
            block_size,
            scale: (head_dim as f32).sqrt().recip(),
            window,
        },
    );
    let sequences = prop::collection::vec((0..6usize, 0..4usize), 0..4);
    let blocks = Just((0..NUM_BLOCKS).collect::<Vec<_>>()).prop_shuffle();
    (spec, plain_float(), cache_type(), sequences, blocks, 0..3usize, any::<u64>()).prop_map(
        |(spec, q_dtype, (kv_dtype, block), sequences, blocks, padding, seed)| Batch {
            spec: AttentionSpec { head_dim: spec.head_dim.div_ceil(block) * block, ..spec },
            q_dtype,
            kv_dtype,
            sequences,
            blocks,
            padding,
            seed,
        },
    )
}

impl Batch {
    fn symbols(&self) -> SymbolValues {
        let tokens = self.sequences.iter().map(|(_, new)| new).sum::<usize>() + self.padding;
        let context = self.sequences.iter().map(|(old, new)| old + new).max().unwrap_or(0);
        SymbolValues::new(tokens, self.sequences.len(), 0, context)
    }

    fn slots(&self) -> usize {
        NUM_BLOCKS * self.spec.block_size
    }

    /// The blocks of each sequence: those it needs; the rest of a row is unspecified.
    fn block_table(&self) -> Vec<i32> {
        let mut free = self.blocks.iter();
        let mut table = Vec::new();
        for (old, new) in &self.sequences {
            let needed = (old + new).div_ceil(self.spec.block_size);
            table.extend((0..needed).map(|_| *free.next().expect("at most 9 blocks for each of 3 sequences") as i32));
            table.extend((needed..BLOCKS_PER_SEQUENCE).map(|i| -(i as i32) * 1000));
        }
        table
    }

    /// The cache row of token `index` of sequence `s`.
    fn row(&self, table: &[i32], s: usize, index: usize) -> usize {
        let block = table[s * BLOCKS_PER_SEQUENCE + index / self.spec.block_size] as usize;
        block * self.spec.block_size + index % self.spec.block_size
    }

    /// `q`, `k`, `v` in; appended to the caches; attended.
    fn graph(&self) -> Graph {
        let AttentionSpec { num_heads, num_kv_heads, head_dim, .. } = self.spec;
        let mut g = GraphBuilder::new(up_to(self.symbols()));
        let q = g.input("q", tokens_by(self.q_dtype, num_heads * head_dim)).unwrap();
        let [k, v] = ["k", "v"].map(|n| g.input(n, tokens_by(self.q_dtype, num_kv_heads * head_dim)).unwrap());
        let cache = ty(self.kv_dtype, &[self.slots().into(), (num_kv_heads * head_dim).into()]);
        let [k_cache, v_cache] = ["k_cache", "v_cache"].map(|n| g.state(n, cache).unwrap());
        let slot = g.step_input(StepInput::Slot).unwrap();
        let k_cache = g.kv_append(k_cache, k, slot).unwrap();
        let v_cache = g.kv_append(v_cache, v, slot).unwrap();
        let table = g.step_input(StepInput::BlockTable { blocks: BLOCKS_PER_SEQUENCE }).unwrap();
        let y = g.attention(q, [k_cache, v_cache], table, self.spec).unwrap();
        g.output("y", y).unwrap();
        g.finish()
    }

    /// What a host writes: the batch, and for the lowering the rows and the mask of every token's context.
    fn contents(&self) -> Contents {
        let AttentionSpec { num_heads, num_kv_heads, head_dim, window, .. } = self.spec;
        let (tokens, context) = (self.symbols().get(Symbol::T), self.symbols().get(Symbol::L));
        let table = self.block_table();
        let (mut slot, mut q_start, mut seq_len) = (vec![-1; tokens], vec![0], Vec::new());
        let mut context_row = vec![-1; tokens * num_kv_heads * context]; // [T, G, L]
        let mut context_mask = vec![MASKED; tokens * context]; // [T, L]
        let mut t = 0;
        for (s, (old, new)) in self.sequences.iter().copied().enumerate() {
            for index in old..old + new {
                slot[t] = self.row(&table, s, index) as i32;
                for j in 0..=index {
                    if window.is_none_or(|w| j + w > index) {
                        context_mask[t * context + j] = 0.0;
                        for g in 0..num_kv_heads {
                            let row = self.row(&table, s, j) * num_kv_heads + g;
                            context_row[(t * num_kv_heads + g) * context + j] = row as i32;
                        }
                    }
                }
                t += 1;
            }
            q_start.push(t as i32);
            seq_len.push((old + new) as i32);
        }
        let (width, cache) = (num_kv_heads * head_dim, self.slots() * num_kv_heads * head_dim);
        let mask_name = StepInput::ContextMask { window }.name();
        let activation = |seed, n| stored(self.q_dtype, &noise(self.seed ^ seed, n));
        let cached = |seed| stored(self.kv_dtype, &noise(self.seed ^ seed, cache));
        Contents::from([
            ("q".into(), activation(1, tokens * num_heads * head_dim)),
            ("k".into(), activation(2, tokens * width)),
            ("v".into(), activation(3, tokens * width)),
            ("k_cache".into(), cached(4)),
            ("v_cache".into(), cached(5)),
            ("slot".into(), i32_bytes(&slot)),
            ("q_start".into(), i32_bytes(&q_start)),
            ("seq_len".into(), i32_bytes(&seq_len)),
            ("block_table".into(), i32_bytes(&table)),
            ("context_row".into(), i32_bytes(&context_row)),
            (mask_name, f32_bytes(&context_mask)),
        ])
    }
}

/// Largest difference over the root mean square of `expected`.
fn distance(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let rms = (expected.iter().map(|v| v * v).sum::<f64>() / expected.len().max(1) as f64).sqrt();
    let max = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    assert!(found.iter().all(|v| v.is_finite()), "{found:?}");
    if max == 0.0 { 0.0 } else { max / rms }
}

/// Two results that were rounded to `dtype` from numbers closer than 1e-6 may fall on two neighbours.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 8.0 * 2f64.powi(-11),
        DType::BF16 => 8.0 * 2f64.powi(-8),
        _ => 1e-6,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn kv_append_and_attention_agree_with_their_lowering(batch in batch()) {
        let (graph, contents, symbols) = (batch.graph(), batch.contents(), batch.symbols());
        let lowered = lower::lower_all(&graph).unwrap();
        prop_assert!(lowered.nodes().iter().all(|n| !n.op.is_macro()));
        let names = ["y", "k_cache", "v_cache"];
        let [y, k, v] = evaluate(&graph, &contents, &symbols, &names).try_into().unwrap();
        let [y_lowered, k_lowered, v_lowered] = evaluate(&lowered, &contents, &symbols, &names).try_into().unwrap();
        prop_assert_eq!(&k, &k_lowered, "keys in the cache");
        prop_assert_eq!(&v, &v_lowered, "values in the cache");
        let expected: Vec<f64> = floats(batch.q_dtype, &y_lowered).into_iter().map(f64::from).collect();
        let found = distance(&floats(batch.q_dtype, &y), &expected);
        prop_assert!(found <= tolerance(batch.q_dtype), "{found}");
    }

    #[test]
    fn swiglu_lowered_is_the_formula(t in 0..4usize, d in 1..40usize, seed: u64) {
        let symbols = SymbolValues::new(t, 0, 0, 0);
        let mut g = GraphBuilder::new(up_to(symbols));
        let [gate, up] = ["gate", "up"].map(|n| g.input(n, tokens_by(DType::F32, d)).unwrap());
        let y = g.swiglu(gate, up).unwrap();
        g.output("y", y).unwrap();
        let graph = lowered(&g.finish());
        let gate: Vec<f32> = noise(seed, t * d).iter().map(|v| 10.0 * v).collect();
        let up = noise(seed ^ 1, t * d);
        let contents = Contents::from([("gate".into(), f32_bytes(&gate)), ("up".into(), f32_bytes(&up))]);
        let y = floats(DType::F32, &evaluate(&graph, &contents, &symbols, &["y"])[0]);
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let expected: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| silu(f64::from(*g)) * f64::from(*u)).collect();
        let found = distance(&y, &expected);
        prop_assert!(found <= 1e-6, "{found}");
    }

    #[test]
    fn add_rms_norm_lowered_is_the_formula(t in 0..4usize, d in 1..40usize, seed: u64) {
        let symbols = SymbolValues::new(t, 0, 0, 0);
        let mut g = GraphBuilder::new(up_to(symbols));
        let [x, residual] = ["x", "residual"].map(|n| g.input(n, tokens_by(DType::F32, d)).unwrap());
        let weight = g.weight("weight", ty(DType::F32, &[d.into()])).unwrap();
        let (sum, y) = g.add_rms_norm(x, residual, weight, 1e-3).unwrap();
        g.output("sum", sum).unwrap();
        g.output("y", y).unwrap();
        let graph = lowered(&g.finish());
        let (x, residual, weight) = (noise(seed, t * d), noise(seed ^ 1, t * d), noise(seed ^ 2, d));
        let contents = Contents::from([
            ("x".into(), f32_bytes(&x)),
            ("residual".into(), f32_bytes(&residual)),
            ("weight".into(), f32_bytes(&weight)),
        ]);
        let results = evaluate(&graph, &contents, &symbols, &["sum", "y"]);
        let sums: Vec<f32> = x.iter().zip(&residual).map(|(a, b)| a + b).collect();
        prop_assert_eq!(floats(DType::F32, &results[0]), sums.clone());
        let mut expected = Vec::new();
        for row in sums.chunks_exact(d) {
            let mean = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / d as f64;
            let scale = (mean + f64::from(1e-3f32)).sqrt();
            expected.extend(row.iter().zip(&weight).map(|(v, w)| f64::from(*v) / scale * f64::from(*w)));
        }
        let found = distance(&floats(DType::F32, &results[1]), &expected);
        prop_assert!(found <= 1e-6, "{found}");
    }

    #[test]
    fn qkv_linear_lowered_is_the_formula(
        t in 0..4usize,
        (blocks, q_rows, kv_rows) in (1..3usize, 1..40usize, 1..20usize),
        block_weights: bool,
        biased: bool,
        seed: u64,
    ) {
        let (k, dtype) = (32 * blocks, if block_weights { DType::Q4_1 } else { DType::F16 });
        let rows = [("q", q_rows), ("k", kv_rows), ("v", kv_rows)];
        let symbols = SymbolValues::new(t, 0, 0, 0);
        let mut g = GraphBuilder::new(up_to(symbols));
        let x = g.input("x", tokens_by(DType::F32, k)).unwrap();
        let weights = rows.map(|(n, rows)| g.weight(format!("w{n}"), ty(dtype, &[rows.into(), k.into()])).unwrap());
        let biases = rows.map(|(n, rows)| g.weight(format!("b{n}"), ty(DType::F32, &[rows.into()])).unwrap());
        let results = g.qkv_linear(x, weights, biased.then_some(biases)).unwrap();
        for ((name, _), value) in rows.iter().zip(results) {
            g.output(*name, value).unwrap();
        }
        let graph = lowered(&g.finish());
        let x = noise(seed, t * k);
        let mut contents = Contents::from([("x".into(), f32_bytes(&x))]);
        for (i, (name, rows)) in rows.into_iter().enumerate() {
            contents.insert(format!("w{name}"), weight_bytes(dtype, seed ^ (i as u64 + 1), rows, k));
            contents.insert(format!("b{name}"), f32_bytes(&noise(seed ^ (i as u64 + 4), rows)));
        }
        let results = evaluate(&graph, &contents, &symbols, &rows.map(|(n, _)| n));
        for ((name, n), y) in rows.iter().zip(results) {
            let w = floats(dtype, &contents[&format!("w{name}")]);
            let b = floats(DType::F32, &contents[&format!("b{name}")]);
            let expected: Vec<f64> = (0..t * n)
                .map(|i| {
                    let products = (0..k).map(|j| f64::from(x[i / n * k + j]) * f64::from(w[i % n * k + j]));
                    products.sum::<f64>() + if biased { f64::from(b[i % n]) } else { 0.0 }
                })
                .collect();
            let found = distance(&floats(DType::F32, &y), &expected);
            prop_assert!(found <= 1e-6, "{name}: {found}");
        }
    }
}

/// The graph after the device's own answers, which must have been `Lower` for its one node.
fn lowered(graph: &Graph) -> Graph {
    let mut device = open(1);
    let error = device.compile(graph, &[]).unwrap_err();
    assert!(error.message.contains("it is to be lowered"), "{error}");
    assert!(error.message.starts_with(&graph.signature(NodeId(0))), "{error}");
    let lowered = lowered_for_device(graph);
    assert!(lowered.nodes().iter().all(|n| !n.op.is_macro()));
    lowered
}
