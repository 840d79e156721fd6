//! Whatever the bytes: the readers return, and what they accept can be used.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use camelid_weights::{Checkpoint, Strictness, WeightsError};
use common::gguf::{Kv, name, permute, tiny_metadata};
use common::*;
use proptest::collection::vec;
use proptest::prelude::*;
use safetensors::SafeTensors;

/// Opens a checkpoint and uses all of it. The error says what was wrong, in a message of reasonable length.
fn open_and_use(files: &[(&str, &[u8])], name: &str) -> Result<Vec<(String, Vec<u8>)>, WeightsError> {
    let folder = folder(files);
    let started = Instant::now();
    let result = Checkpoint::open(folder.path().join(name)).map(|checkpoint| {
        let _ = checkpoint.gguf_vocab().map_err(|e| check_message(&e));
        let _ = checkpoint.check_against(&[], Strictness::Strict).map_err(|e| check_message(&e));
        let summary = checkpoint.summary();
        assert_eq!(summary.bytes, checkpoint.tensors().iter().map(|t| t.bytes().len() as u64).sum::<u64>());
        if let Some(file) = checkpoint.gguf() {
            let shown: usize = file.metadata().iter().map(|(key, value)| key.len() + value.to_string().len()).sum();
            assert!(shown > 0);
        }
        for tensor in checkpoint.tensors() {
            assert_eq!(checkpoint.tensor(&tensor.name).map(|t| t.offset), Some(tensor.offset));
            let bytes = tensor.bytes();
            if tensor.elements() == 0 {
                assert!(bytes.is_empty());
                continue;
            }
            let row = *tensor.shape.last().unwrap_or(&1);
            let rows = tensor.shape.iter().rev().skip(1).product::<usize>();
            assert_eq!(tensor.dtype.row_bytes(row).map(|b| b * rows), Some(bytes.len()));
        }
        checkpoint.tensors().iter().map(|t| (t.source_name.clone(), t.bytes().to_vec())).collect()
    });
    assert!(started.elapsed() < Duration::from_secs(20), "took {:?}", started.elapsed());
    result.inspect_err(check_message)
}

fn check_message(error: &WeightsError) {
    let message = chain(error);
    assert!(message.len() < 20_000 && !message.is_empty(), "{} bytes of message", message.len());
}

/// A small GGUF file in which each kind of thing occurs.
fn small_gguf() -> Vec<u8> {
    let q = "model.layers.0.self_attn.q_proj.weight";
    let rows = HEADS * HEAD_DIM;
    let divisors: Vec<u8> = (0..HEAD_DIM / 2).flat_map(|_| 1f32.to_le_bytes()).collect();
    tiny_metadata()
        .set("llama.attention.head_count_kv", Kv::I32s(vec![KV_HEADS as i32; LAYERS]))
        .tensor("output_norm.weight", &[HIDDEN], f32_bytes("model.norm.weight", &[HIDDEN]))
        .tensor(&name(q), &[rows, 4], permute(&f32_bytes(q, &[rows, 4]), rows, HEADS))
        .tensor("rope_freqs.weight", &[HEAD_DIM / 2], divisors)
        .bytes()
}

fn small_safetensors() -> Vec<u8> {
    safetensors([
        ("norm.weight", &[HIDDEN][..]),
        ("model.layers.0.mlp.up_proj.weight", &[3, 5]),
        ("rotary_emb.inv_freq", &[2]),
    ])
}

/// A change to a file; places are fractions of its length.
#[derive(Clone, Debug)]
enum Change {
    Flip(f64, u8),
    Truncate(f64),
    Insert(f64, Vec<u8>),
    Remove(f64, usize),
    /// A length or count that is too large, or just not right.
    Number(f64, u64),
    /// Bytes from elsewhere in the file.
    Copy(f64, f64, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let number = prop_oneof![
        Just(u64::MAX),
        Just(1 << 63),
        Just(1 << 62),
        Just(u64::MAX - 7),
        Just(1 << 32),
        (0u64..40).prop_map(|bits| 1 << bits),
        0u64..5000
    ];
    prop_oneof![
        4 => (0.0..1.0, any::<u8>()).prop_map(|(at, mask)| Change::Flip(at, mask)),
        1 => (0.0..1.0).prop_map(Change::Truncate),
        2 => (0.0..1.0, vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        2 => (0.0..1.0, 1usize..20).prop_map(|(at, n)| Change::Remove(at, n)),
        4 => (0.0..1.0, number).prop_map(|(at, n)| Change::Number(at, n)),
        2 => (0.0..1.0, 0.0..1.0, 1usize..64).prop_map(|(from, to, n)| Change::Copy(from, to, n)),
    ]
}

/// Applies the changes to the first `part` bytes, where the header is, or to all.
fn changed(mut bytes: Vec<u8>, part: usize, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let len = bytes.len().min(part);
        let place = |fraction: f64| ((len as f64 * fraction) as usize).min(len);
        match change {
            Change::Flip(at, mask) => {
                if let Some(byte) = bytes.get_mut(place(*at)) {
                    *byte ^= mask;
                }
            }
            Change::Truncate(at) => bytes.truncate(place(*at)),
            Change::Insert(at, new) => drop(bytes.splice(place(*at)..place(*at), new.iter().copied())),
            Change::Remove(at, n) => {
                let at = place(*at);
                drop(bytes.drain(at..(at + n).min(bytes.len())));
            }
            Change::Number(at, n) => {
                for (byte, new) in bytes.iter_mut().skip(place(*at)).zip(n.to_le_bytes()) {
                    *byte = new;
                }
            }
            Change::Copy(from, to, n) => {
                let (from, to) = (place(*from), place(*to));
                let piece: Vec<u8> = bytes.iter().skip(from).take(*n).copied().collect();
                for (byte, new) in bytes.iter_mut().skip(to).zip(piece) {
                    *byte = new;
                }
            }
        }
    }
    bytes
}

/// What is accepted here must be accepted by the `safetensors` crate, with the same tensors; what that accepts and this
/// refuses must be for a reason that the crate does not know.
fn compare_with_the_crate(bytes: &[u8]) {
    let config = config().to_string();
    let ours = open_and_use(&[("config.json", config.as_bytes()), ("model.safetensors", bytes)], "");
    let theirs = SafeTensors::deserialize(bytes);
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            let mut expected: Vec<_> = theirs.tensors().into_iter().map(|(n, t)| (n, t.data().to_vec())).collect();
            expected.retain(|(n, _)| n != "rotary_emb.inv_freq" && !n.ends_with(".rotary_emb.inv_freq"));
            let mut found = ours;
            found.sort();
            expected.sort();
            assert!(found == expected, "tensors or their bytes differ");
        }
        (Err(WeightsError::UnsupportedTensorType { .. } | WeightsError::Duplicate { .. }), _) | (Err(_), Err(_)) => {}
        (Ok(_), Err(error)) => panic!("the crate refuses it: {error}"),
        (Err(error), Ok(_)) => panic!("the crate accepts it: {}", chain(&error)),
    }
}

fn open_gguf(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, WeightsError> {
    open_and_use(&[("m.gguf", bytes)], "m.gguf")
}

#[test]
fn the_unchanged_files_are_accepted() {
    assert_eq!(open_gguf(&small_gguf()).unwrap().len(), 2);
    compare_with_the_crate(&small_safetensors());
}

/// Every single byte of the headers, changed in several ways.
#[test]
fn every_byte_of_a_header_changed() {
    let gguf = small_gguf();
    let header = gguf.len() - HEADS * HEAD_DIM * 16 - HIDDEN * 4;
    let st = small_safetensors();
    for mask in [0x01, 0x80, 0xff] {
        for at in 0..header {
            let mut bytes = gguf.clone();
            bytes[at] ^= mask;
            let outcome = catch_unwind(AssertUnwindSafe(|| open_gguf(&bytes).is_ok()));
            assert!(outcome.is_ok(), "GGUF byte {at} ^ {mask:#x}");
        }
        for at in 0..st.len() - 80 {
            let mut bytes = st.clone();
            bytes[at] ^= mask;
            let outcome = catch_unwind(AssertUnwindSafe(|| compare_with_the_crate(&bytes)));
            assert!(outcome.is_ok(), "safetensors byte {at} ^ {mask:#x}");
        }
    }
}

/// A header with tensors whose places, shapes and types are made up, within a small file.
fn made_up_header() -> impl Strategy<Value = Vec<u8>> {
    let name =
        prop_oneof![Just("a"), Just("b"), Just("norm.weight"), Just("x.rotary_emb.inv_freq"), Just("__metadata__")];
    let dtype = prop_oneof![4 => Just("F32"), 2 => Just("BF16"), 1 => Just("I64"), 1 => Just("F4"), 1 => Just("?")];
    let offset = prop_oneof![8 => (0u64..5).prop_map(|n| 4 * n), 1 => Just(u64::MAX), 1 => Just(1 << 63)];
    let shape = vec(prop_oneof![8 => 0u64..3, 1 => Just(u64::MAX), 1 => Just(1u64 << 32)], 0..3);
    vec((name, dtype, shape, offset.clone(), offset), 0..4).prop_map(|tensors| {
        let entries: Vec<String> = tensors
            .iter()
            .map(|(name, dtype, shape, begin, end)| {
                format!(r#""{name}": {{"dtype": "{dtype}", "shape": {shape:?}, "data_offsets": [{begin}, {end}]}}"#)
            })
            .collect();
        let header = format!("{{{}}}", entries.join(", "));
        let end = tensors.iter().map(|t| t.4).filter(|e| *e < 100).max().unwrap_or(0);
        safetensors_raw(&header, &vec![0; end as usize])
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in vec(any::<u8>(), 0..2000)) {
        let _ = open_gguf(&bytes);
        compare_with_the_crate(&bytes);
        let _ = open_and_use(&[("config.json", &bytes), ("model.safetensors", &small_safetensors())], "");
        let _ = open_and_use(&[("config.json", b"{}"), ("model.safetensors.index.json", &bytes)], "");
    }

    #[test]
    fn arbitrary_bytes_after_the_magic_number(bytes in vec(any::<u8>(), 0..500), version in 2u32..4, counts in [0u64..9, 0u64..9]) {
        let head = [&b"GGUF"[..], &version.to_le_bytes(), &counts[0].to_le_bytes(), &counts[1].to_le_bytes()].concat();
        let _ = open_gguf(&[&head[..], &bytes].concat());
    }

    #[test]
    fn changed_gguf(changes in vec(change(), 1..5), header_only in any::<bool>()) {
        let part = if header_only { 2500 } else { usize::MAX };
        let _ = open_gguf(&changed(small_gguf(), part, &changes));
    }

    #[test]
    fn changed_safetensors(changes in vec(change(), 1..4), header_only in any::<bool>()) {
        let part = if header_only { 330 } else { usize::MAX };
        compare_with_the_crate(&changed(small_safetensors(), part, &changes));
    }

    #[test]
    fn made_up_safetensors(bytes in made_up_header()) {
        compare_with_the_crate(&bytes);
    }
}
