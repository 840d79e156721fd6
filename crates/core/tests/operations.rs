//! What every operation gives, and what it refuses: the message names the operation, the operand at fault and the rule.

use camelid_core::DType;
use camelid_core::graph::{Dim, GraphBuilder, Shape, Symbol, SymbolRange, SymbolValues, TensorType, ValueId};
use camelid_core::ops::{Activation, AttentionSpec, Op};

const T: Dim = Dim::Sym(Symbol::T);
const S: Dim = Dim::Sym(Symbol::S);
const P: Dim = Dim::Sym(Symbol::P);
const L: Dim = Dim::Sym(Symbol::L);

type Operand<'a> = (DType, &'a [Dim]);

const fn n(size: usize) -> Dim {
    Dim::Fixed(size)
}

/// The results' types, or the message, of `op` on inputs of these types.
fn push(op: Op, operands: &[Operand<'_>]) -> Result<Vec<String>, String> {
    let range = SymbolRange { min: SymbolValues::new(1, 1, 0, 1), max: SymbolValues::new(8, 2, 8, 64) };
    let mut g = GraphBuilder::new(range);
    let inputs: Vec<ValueId> = operands
        .iter()
        .enumerate()
        .map(|(i, (dtype, dims))| g.input(format!("in{i}"), TensorType::new(*dtype, dims).unwrap()).unwrap())
        .collect();
    g.set_scope("here");
    let name = op.name();
    match g.push(op, &inputs) {
        Ok(results) => Ok(results.into_iter().map(|v| g.ty(v).to_string()).collect()),
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with(&format!("{name} at here: ")), "{message}");
            Err(message)
        }
    }
}

#[track_caller]
fn gives(op: Op, operands: &[Operand<'_>], results: &[&str]) {
    assert_eq!(push(op, operands).unwrap(), results);
}

#[track_caller]
fn refuses(op: Op, operands: &[Operand<'_>], part: &str) {
    let message = push(op, operands).unwrap_err();
    assert!(message.contains(part), "{message:?} should contain {part:?}");
}

#[test]
fn gather_rows() {
    gives(Op::GatherRows, &[(DType::Q4_K, &[n(9), n(512)]), (DType::I32, &[T])], &["f32 [T, 512]"]);
    gives(Op::GatherRows, &[(DType::BF16, &[n(9), n(8)]), (DType::I32, &[T, n(2), L])], &["bf16 [T, 2, L, 8]"]);
    refuses(Op::GatherRows, &[(DType::F32, &[n(9)]), (DType::I32, &[T])], "operand `table` is f32 [9]");
    refuses(Op::GatherRows, &[(DType::I32, &[n(9), n(2)]), (DType::I32, &[T])], "operand `table`");
    refuses(
        Op::GatherRows,
        &[(DType::F32, &[n(9), n(2)]), (DType::F32, &[T])],
        "operand `index` is f32 [T], but it must be i32",
    );
    refuses(Op::GatherRows, &[(DType::F32, &[n(9), n(2)])], "takes 2 operands (table, index), but got 1");
}

#[test]
fn linear() {
    gives(
        Op::Linear,
        &[(DType::F32, &[T, n(64)]), (DType::Q8_0, &[n(7), n(64)]), (DType::F32, &[n(7)])],
        &["f32 [T, 7]"],
    );
    refuses(
        Op::Linear,
        &[(DType::F32, &[T, n(64)]), (DType::F32, &[n(7), n(65)])],
        "operand `w` is f32 [7, 65], but it must have rows of 64",
    );
    refuses(
        Op::Linear,
        &[(DType::F32, &[T, n(64)]), (DType::F32, &[n(7), n(64)]), (DType::F32, &[n(8)])],
        "operand `b` is f32 [8], but it must be [7]",
    );
    refuses(Op::Linear, &[(DType::Q8_0, &[n(3), n(64)]), (DType::F32, &[n(7), n(64)])], "operand `x` is q8_0 [3, 64]");
    refuses(
        Op::Linear,
        &[(DType::F32, &[T, L]), (DType::F32, &[n(7), n(64)])],
        "operand `x` is f32 [T, L], but it must have rows of a fixed length",
    );
    refuses(Op::Linear, &[(DType::F32, &[T, n(64)]), (DType::I32, &[n(7), n(64)])], "operand `w` is i32");
}

#[test]
fn bmm() {
    let a: Operand<'_> = (DType::F32, &[T, n(2), n(3), n(8)]);
    gives(Op::Bmm { transpose_b: true }, &[a, (DType::F32, &[T, n(2), L, n(8)])], &["f32 [T, 2, 3, L]"]);
    gives(Op::Bmm { transpose_b: false }, &[a, (DType::F32, &[T, n(2), n(8), L])], &["f32 [T, 2, 3, L]"]);
    refuses(Op::Bmm { transpose_b: false }, &[a, (DType::F32, &[T, n(2), L, n(8)])], "operand `b`");
    refuses(Op::Bmm { transpose_b: true }, &[a, (DType::F32, &[T, n(3), L, n(8)])], "the leading dimensions of a");
    refuses(Op::Bmm { transpose_b: true }, &[a, (DType::F16, &[T, n(2), L, n(8)])], "operand `b` is f16");
    refuses(Op::Bmm { transpose_b: true }, &[(DType::F32, &[T, n(8)]), (DType::F32, &[L, n(8)])], "operand `a`");
}

#[test]
fn norms() {
    gives(Op::RmsNorm { eps: 1e-5 }, &[(DType::F32, &[T, n(8)]), (DType::BF16, &[n(8)])], &["f32 [T, 8]"]);
    refuses(
        Op::RmsNorm { eps: 1e-5 },
        &[(DType::F32, &[T, n(8)]), (DType::F32, &[n(9)])],
        "operand `weight` is f32 [9], but it must be [8]",
    );
    for eps in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        refuses(Op::RmsNorm { eps }, &[(DType::F32, &[T, n(8)]), (DType::F32, &[n(8)])], "attribute `eps`");
    }
    let x: Operand<'_> = (DType::F32, &[T, n(8)]);
    gives(Op::AddRmsNorm { eps: 1e-5 }, &[x, x, (DType::F32, &[n(8)])], &["f32 [T, 8]", "f32 [T, 8]"]);
    refuses(Op::AddRmsNorm { eps: 1e-5 }, &[x, (DType::F32, &[T, n(9)]), (DType::F32, &[n(8)])], "operand `residual`");
}

#[test]
fn rope() {
    let cos: Operand<'_> = (DType::F32, &[T, n(4)]);
    gives(Op::Rope { head_dim: 8 }, &[(DType::F32, &[T, n(24)]), cos, cos], &["f32 [T, 24]"]);
    gives(Op::Rope { head_dim: 12 }, &[(DType::F32, &[T, n(24)]), cos, cos], &["f32 [T, 24]"]);
    refuses(
        Op::Rope { head_dim: 7 },
        &[(DType::F32, &[T, n(24)]), cos, cos],
        "operand `x` is f32 [T, 24], but it must be [T, H * 7]",
    );
    refuses(Op::Rope { head_dim: 6 }, &[(DType::F32, &[T, n(24)]), cos, cos], "operand `cos`");
    refuses(Op::Rope { head_dim: 0 }, &[(DType::F32, &[T, n(24)]), cos, cos], "operand `x`");
    refuses(
        Op::Rope { head_dim: 8 },
        &[(DType::F32, &[T, n(24)]), cos, (DType::F32, &[T, n(3)])],
        "operand `sin` is f32 [T, 3], but it must be f32 [T, 4]",
    );
    refuses(
        Op::Rope { head_dim: 8 },
        &[(DType::F32, &[T, n(24)]), (DType::F32, &[S, n(4)]), cos],
        "a row for each row of x",
    );
}

#[test]
fn elementwise() {
    for op in [Op::Add, Op::Mul, Op::Swiglu] {
        gives(op.clone(), &[(DType::F16, &[T, n(8)]), (DType::F16, &[T, n(8)])], &["f16 [T, 8]"]);
        refuses(op.clone(), &[(DType::F32, &[T, n(8)]), (DType::F32, &[n(8)])], "be f32 [T, 8]");
        refuses(op, &[(DType::I32, &[T]), (DType::I32, &[T])], "be f32, f16 or bf16");
    }
    gives(Op::Activation(Activation::Silu), &[(DType::F32, &[T, n(8)])], &["f32 [T, 8]"]);
    refuses(Op::Activation(Activation::Silu), &[(DType::I32, &[T])], "operand `x`");
    gives(Op::Cast { to: DType::BF16 }, &[(DType::Q4_0, &[n(2), n(32)])], &["bf16 [2, 32]"]);
    refuses(Op::Cast { to: DType::Q4_0 }, &[(DType::F32, &[n(2), n(32)])], "attribute `to` is q4_0");
    gives(Op::Cast { to: DType::Q8_0 }, &[(DType::BF16, &[T, n(64)])], &["q8_0 [T, 64]"]);
    for dims in [&[T, n(48)][..], &[n(32), T], &[]] {
        refuses(Op::Cast { to: DType::Q8_0 }, &[(DType::F32, dims)], "rows of a multiple of 32, as q8_0 has blocks");
    }
    refuses(Op::Cast { to: DType::Q8_0 }, &[(DType::Q4_0, &[n(2), n(32)])], "operand `x` is q4_0 [2, 32]");
    gives(Op::Copy, &[(DType::I32, &[T])], &["i32 [T]"]);
}

#[test]
fn softmax() {
    let x: Operand<'_> = (DType::F32, &[T, n(2), n(3), L]);
    gives(Op::Softmax { scale: 0.5 }, &[x, (DType::F32, &[T, L])], &["f32 [T, 2, 3, L]"]);
    gives(Op::Softmax { scale: 0.5 }, &[(DType::F32, &[n(7)])], &["f32 [7]"]);
    refuses(
        Op::Softmax { scale: 0.5 },
        &[x, (DType::F32, &[L, T])],
        "operand `mask` is f32 [L, T], but it must be f32 [T, L]",
    );
    refuses(Op::Softmax { scale: 0.5 }, &[x, (DType::F16, &[T, L])], "operand `mask`");
    refuses(Op::Softmax { scale: f32::NAN }, &[x], "attribute `scale`");
}

#[test]
fn rows_written_in_place() {
    let table: Operand<'_> = (DType::F32, &[n(9), n(4)]);
    gives(Op::ScatterRows, &[table, (DType::F32, &[T, n(4)]), (DType::I32, &[T])], &["f32 [9, 4]"]);
    refuses(
        Op::ScatterRows,
        &[table, (DType::F16, &[T, n(4)]), (DType::I32, &[T])],
        "operand `rows` is f16 [T, 4], but it must be f32 [T, 4]",
    );
    refuses(Op::ScatterRows, &[table, (DType::F32, &[S, n(4)]), (DType::I32, &[T])], "operand `rows`");
    gives(Op::KvAppend, &[(DType::F16, &[n(9), n(4)]), (DType::F32, &[T, n(4)]), (DType::I32, &[T])], &["f16 [9, 4]"]);
    let blocks: Operand<'_> = (DType::Q8_0, &[n(9), n(32)]);
    gives(Op::KvAppend, &[blocks, (DType::F16, &[T, n(32)]), (DType::I32, &[T])], &["q8_0 [9, 32]"]);
    gives(Op::ScatterRows, &[blocks, (DType::Q8_0, &[T, n(32)]), (DType::I32, &[T])], &["q8_0 [9, 32]"]);
    refuses(
        Op::ScatterRows,
        &[blocks, (DType::F32, &[T, n(32)]), (DType::I32, &[T])],
        "operand `rows` is f32 [T, 32], but it must be q8_0 [T, 32]",
    );
    refuses(
        Op::KvAppend,
        &[blocks, (DType::Q8_0, &[T, n(32)]), (DType::I32, &[T])],
        "operand `rows` is q8_0 [T, 32], but it must be f32, f16 or bf16",
    );
    refuses(
        Op::KvAppend,
        &[(DType::Q4_0, &[n(9), n(32)]), (DType::F32, &[T, n(32)]), (DType::I32, &[T])],
        "operand `cache` is q4_0 [9, 32], but it must be f32, f16, bf16 or q8_0",
    );
    refuses(
        Op::KvAppend,
        &[table, (DType::F32, &[T, n(4)]), (DType::I32, &[T, n(1)])],
        "operand `slot` is i32 [T, 1], but it must be i32 of rank 1",
    );
}

#[test]
fn reshape() {
    let to = |dims: &[Dim]| Op::Reshape { shape: Shape::new(dims).unwrap() };
    gives(to(&[T, n(2), n(4)]), &[(DType::F32, &[T, n(8)])], &["f32 [T, 2, 4]"]);
    gives(to(&[n(4), n(64)]), &[(DType::Q8_0, &[n(2), n(2), n(64)])], &["q8_0 [4, 64]"]);
    refuses(to(&[T, n(9)]), &[(DType::F32, &[T, n(8)])], "have as many elements as [T, 9]");
    refuses(to(&[S, n(8)]), &[(DType::F32, &[T, n(8)])], "have as many elements");
    gives(to(&[n(2), n(128)]), &[(DType::Q8_0, &[n(4), n(64)])], &["q8_0 [2, 128]"]);
    refuses(to(&[n(16), n(16)]), &[(DType::Q8_0, &[n(4), n(64)])], "have new rows of a multiple of 32");
    refuses(to(&[n(64), T]), &[(DType::Q8_0, &[T, n(64)])], "have new rows of a multiple of 32");
    refuses(to(&[n(usize::MAX), n(2)]), &[(DType::F32, &[n(usize::MAX), n(2)])], "have as many elements");
}

const SPEC: AttentionSpec =
    AttentionSpec { num_heads: 6, num_kv_heads: 2, head_dim: 4, block_size: 4, scale: 0.5, window: None };

#[test]
fn attention() {
    let good: [Operand<'_>; 6] = [
        (DType::F32, &[T, n(24)]),
        (DType::F16, &[n(16), n(8)]),
        (DType::F16, &[n(16), n(8)]),
        (DType::I32, &[P]),
        (DType::I32, &[S]),
        (DType::I32, &[S, n(4)]),
    ];
    gives(Op::Attention(SPEC), &good, &["f32 [T, 24]"]);
    refuses(
        Op::Attention(SPEC),
        &with(&good, 0, (DType::F32, &[T, n(20)])),
        "operand `q` is f32 [T, 20], but it must be [T, 24]",
    );
    refuses(Op::Attention(SPEC), &with(&good, 1, (DType::F16, &[n(16), n(24)])), "operand `k_cache`");
    refuses(
        Op::Attention(SPEC),
        &with(&good, 2, (DType::F32, &[n(16), n(8)])),
        "operand `v_cache` is f32 [16, 8], but it must be f16 [16, 8]",
    );
    refuses(Op::Attention(SPEC), &with(&good, 5, (DType::I32, &[T, n(4)])), "a row for each sequence");
    refuses(Op::Attention(AttentionSpec { block_size: 3, ..SPEC }), &good, "a whole number of blocks of 3 rows");
    refuses(Op::Attention(AttentionSpec { num_kv_heads: 4, ..SPEC }), &good, "divide num_heads = 6");
    refuses(Op::Attention(AttentionSpec { num_kv_heads: 0, ..SPEC }), &good, "num_kv_heads");
    refuses(Op::Attention(AttentionSpec { window: Some(0), ..SPEC }), &good, "a token sees itself");
    refuses(Op::Attention(AttentionSpec { scale: f32::INFINITY, ..SPEC }), &good, "attribute `scale`");
    refuses(Op::Attention(SPEC), &good[..5], "takes 6 operands");
    let (q, wide, other): (Operand<'_>, Operand<'_>, Operand<'_>) =
        ((DType::F32, &[T, n(192)]), (DType::Q8_0, &[n(16), n(64)]), (DType::F32, &[n(16), n(64)]));
    let blocks = with(&with(&with(&good, 0, q), 1, wide), 2, wide);
    gives(Op::Attention(AttentionSpec { head_dim: 32, ..SPEC }), &blocks, &["f32 [T, 192]"]);
    refuses(
        Op::Attention(AttentionSpec { num_heads: 12, num_kv_heads: 4, head_dim: 16, ..SPEC }),
        &blocks,
        "operand `k_cache` is q8_0 [16, 64], but it must be f16, bf16 or f32, because heads of 16 elements are no whole blocks",
    );
    let other = with(&blocks, 2, other);
    refuses(Op::Attention(AttentionSpec { head_dim: 32, ..SPEC }), &other, "be q8_0 [16, 64] as k_cache is");
}

#[test]
fn qkv_linear() {
    let x: Operand<'_> = (DType::F32, &[T, n(8)]);
    let (q, kv): (Operand<'_>, Operand<'_>) = ((DType::F32, &[n(12), n(8)]), (DType::BF16, &[n(4), n(8)]));
    gives(Op::QkvLinear, &[x, q, kv, kv], &["f32 [T, 12]", "f32 [T, 4]", "f32 [T, 4]"]);
    refuses(Op::QkvLinear, &[x, q, (DType::F32, &[n(4), n(9)]), kv], "operand `wk` is f32 [4, 9]");
    refuses(Op::QkvLinear, &[x, q, kv, kv, (DType::F32, &[n(12)])], "takes 4 or 7 operands");
    let biased = [x, q, kv, kv, (DType::F32, &[n(12)]), (DType::F32, &[n(4)]), (DType::F32, &[n(5)])];
    refuses(Op::QkvLinear, &biased, "operand `bv` is f32 [5]");
}

/// `operands` with another one at index `i`.
fn with<'a>(operands: &[Operand<'a>], i: usize, operand: Operand<'a>) -> Vec<Operand<'a>> {
    let mut operands = operands.to_vec();
    operands[i] = operand;
    operands
}
