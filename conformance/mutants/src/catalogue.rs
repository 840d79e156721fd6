//! Which mutants and variants there are.

use std::sync::OnceLock;

use camelid_core::ops::Op;

use crate::faults::{self, Fault};
use crate::tensor::Tensor;
use crate::{Mutant, Variant, boundary, cache, device, sampler, tokenizer};

const HONEST: &[Variant] = &[
    Variant { id: "as_the_reference", about: "the reference's kernels, one at a time", passes: &[] },
    Variant { id: "core_operations", about: "no macro operations: all of them lowered", passes: &[] },
    Variant { id: "reversed_sums", about: "products summed from the end, in f32", passes: &[] },
    Variant { id: "blocked_sums", about: "products summed in blocks of 32, in f32", passes: &[] },
    Variant { id: "fused_multiply_add", about: "products summed with one rounding a step, in f32", passes: &[] },
    Variant { id: "f64_sums", about: "products summed in f64", passes: &[] },
];

pub(crate) const TRIVIAL: &[Variant] = &[
    Variant {
        id: "runs_nothing",
        about: "every run succeeds and writes nothing",
        passes: &[
            ("tokenizer/*", 332),
            ("cache/books/*", 42),
            ("generate/{sampler,text,logprobs,refusal}/*", 142),
            // These end before a token is chosen.
            ("generate/*/{prompt_too_long,cancelled_before,refused_requests}", 9),
            // No results are looked at.
            ("stress/memory/*", 6),
            ("abi/device/name", 1),
            ("abi/plan/verdicts", 1),
            ("abi/memory/*", 11),
            // Nothing is to be written.
            ("op/{kv_append,scatter_rows}/f32/all_none", 2),
        ],
    },
    Variant {
        id: "takes_what_it_refuses",
        about: "supports nothing, and computes it all the same",
        passes: &[
            ("tokenizer/*", 332),
            ("cache/books/*", 42),
            ("generate/{sampler,text,logprobs,refusal}/*", 142),
            ("generate/*/refused_requests", 3),
            ("abi/device/name", 1),
            // Nothing is computed.
            ("abi/memory/*", 11),
            ("stress/memory/{buffers,weights}", 2),
        ],
    },
];

/// Every mutant.
pub fn mutants() -> &'static [Mutant] {
    static ALL: OnceLock<Vec<Mutant>> = OnceLock::new();
    ALL.get_or_init(|| {
        let tables = [device::MUTANTS, boundary::MUTANTS, cache::MUTANTS, tokenizer::MUTANTS];
        let mutants = faults::all().map(|(mutant, _)| *mutant);
        mutants.chain(tables.into_iter().flatten().copied()).chain(sampler::mutants()).collect()
    })
}

/// Every honest variant.
pub fn honest() -> &'static [Variant] {
    HONEST
}

/// Every trivial backend.
pub fn trivial() -> &'static [Variant] {
    TRIVIAL
}

/// The name as it stands in the catalogue.
pub(crate) fn find(id: &str) -> Option<&'static str> {
    let mutants = mutants().iter().map(|m| m.id);
    mutants.chain(HONEST.iter().chain(TRIVIAL).map(|v| v.id)).find(|known| *known == id)
}

/// Another honest way to sum, put in the place of a fault.
pub(crate) fn honest_fault(id: &str) -> Option<Fault> {
    Some(match id {
        "reversed_sums" => |_, call, right| {
            sums(&call.op, &call.inputs, right, |a, b| a.iter().zip(b).rev().fold(0.0, |s, (a, b)| s + a * b))
        },
        "blocked_sums" => |_, call, right| {
            sums(&call.op, &call.inputs, right, |a, b| {
                a.chunks(32).zip(b.chunks(32)).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>()).sum()
            })
        },
        "fused_multiply_add" => |_, call, right| {
            sums(&call.op, &call.inputs, right, |a, b| a.iter().zip(b).fold(0.0, |s: f32, (a, b)| a.mul_add(*b, s)))
        },
        "f64_sums" => |_, call, right| {
            sums(&call.op, &call.inputs, right, |a, b| {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
            })
        },
        _ => return None,
    })
}

/// `linear` with sums of its own; everything else as it was.
fn sums(op: &Op, inputs: &[Tensor], right: faults::Outcome, dot: fn(&[f32], &[f32]) -> f32) -> faults::Outcome {
    let mut results = right?;
    if *op == Op::Linear {
        let (x, w, k) = (inputs[0].floats(), inputs[1].floats(), inputs[0].columns());
        let bias = inputs.get(2).map(Tensor::floats);
        let mut y = Vec::with_capacity(results[0].rows() * results[0].columns());
        for row in x.chunks(k) {
            for (n, weights) in w.chunks(k).enumerate() {
                y.push(dot(row, weights) + bias.as_ref().map_or(0.0, |b| b[n]));
            }
        }
        results[0].set(&y);
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_known() {
        let mut seen = HashSet::new();
        for mutant in mutants() {
            assert!(seen.insert(mutant.id), "{} is there twice", mutant.id);
            assert!(
                mutant.id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{}",
                mutant.id
            );
            assert!(crate::backend(mutant.id).is_some(), "{}", mutant.id);
        }
        for variant in HONEST.iter().chain(TRIVIAL) {
            assert!(crate::backend(variant.id).is_some(), "{}", variant.id);
        }
        assert!(crate::backend("no_such_mutant").is_none());
    }
}
