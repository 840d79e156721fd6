//! Which mutants and variants there are.

use std::sync::OnceLock;

use crate::faults;
use crate::honest::HONEST;
use crate::{Mutant, Variant, boundary, cache, device, keyed, sampler, tokenizer};

pub(crate) const TRIVIAL: &[Variant] = &[
    Variant {
        id: "runs_nothing",
        about: "every run succeeds and writes nothing",
        classes: &[],
        passes: &[
            ("tokenizer/*", 498),
            ("cache/books/*", 42),
            ("generate/{processors,sampler,text,logprobs,refusal}/*", 337),
            // These end before a token is chosen.
            ("generate/*/{prompt_too_long,cancelled_before,refused_requests}", 9),
            // No results are looked at.
            ("stress/memory/*", 6),
            ("abi/device/name", 1),
            ("abi/plan/verdicts", 1),
            ("abi/memory/*", 13),
            // Nothing is to be written.
            ("op/{kv_append,scatter_rows}/f32/all_none", 2),
            ("op/kv_append/f32_q8_0/all_none", 1),
        ],
    },
    Variant {
        id: "takes_what_it_refuses",
        about: "supports nothing, and computes it all the same",
        classes: &[],
        passes: &[
            ("tokenizer/*", 498),
            ("cache/books/*", 42),
            ("generate/{processors,sampler,text,logprobs,refusal}/*", 337),
            ("generate/*/refused_requests", 3),
            ("abi/device/name", 1),
            // Nothing is computed.
            ("abi/memory/*", 13),
            ("stress/memory/{buffers,weights}", 2),
        ],
    },
    Variant {
        id: "zeros",
        about: "every result is zeros",
        classes: &[],
        passes: &[
            ("tokenizer/*", 498),
            ("cache/books/*", 42),
            ("generate/{processors,sampler,text,logprobs,refusal}/*", 337),
            // These end before a token is chosen.
            ("generate/*/{prompt_too_long,cancelled_before,refused_requests}", 9),
            ("abi/device/name", 1),
            ("abi/plan/verdicts", 1),
            // No results are looked at.
            ("abi/memory/*", 13),
            ("stress/memory/*", 7),
            // States are what they should be.
            ("op/{kv_append,scatter_rows}/*", 103),
            ("stress/one_device/op/{kv_append,scatter_rows}", 2),
            // Zeros are right.
            ("op/gather_rows/f32/all_none", 1),
            ("op/{linear,rope}/f32/x_zeros", 2),
            ("op/rms_norm/f32/{x_zeros,w_zero}", 2),
            ("op/activation/f32/{relu,relu2}_negative", 2),
            // Two ways to the same wrong tokens.
            ("generate/*/{seeds,batch,as_step_by_step}", 9),
        ],
    },
    Variant {
        id: "echo",
        about: "every result is that of the run before",
        classes: &[],
        passes: &[
            ("tokenizer/*", 498),
            ("cache/books/*", 42),
            ("generate/{processors,sampler,text,logprobs,refusal}/*", 337),
            // These end before a token is chosen.
            ("generate/*/{prompt_too_long,cancelled_before,refused_requests}", 9),
            ("abi/device/name", 1),
            ("abi/plan/verdicts", 1),
            // No results are looked at.
            ("abi/memory/*", 13),
            ("stress/memory/*", 7),
            // States are what they should be.
            ("op/{kv_append,scatter_rows}/*", 103),
            ("stress/one_device/op/{kv_append,scatter_rows}", 2),
            // A first run gives zeros, and zeros are right.
            ("op/gather_rows/f32/all_none", 1),
            ("op/{linear,rope}/f32/x_zeros", 2),
            ("op/rms_norm/f32/{x_zeros,w_zero}", 2),
            ("op/activation/f32/{relu,relu2}_negative", 2),
            // Two ways to the same wrong tokens.
            ("generate/bias_1/seeds", 1),
        ],
    },
    Variant {
        id: "random",
        about: "every result is random numbers",
        classes: &[],
        passes: &[
            ("tokenizer/*", 498),
            ("cache/books/*", 42),
            ("generate/{processors,sampler,text,logprobs,refusal}/*", 337),
            // These end before a token is chosen.
            ("generate/*/{prompt_too_long,cancelled_before,refused_requests}", 9),
            ("abi/device/name", 1),
            ("abi/plan/verdicts", 1),
            // No results are looked at.
            ("abi/memory/*", 13),
            ("stress/memory/*", 7),
            // States are what they should be.
            ("op/{kv_append,scatter_rows}/*", 103),
            ("stress/one_device/op/{kv_append,scatter_rows}", 2),
        ],
    },
    Variant {
        id: "refuses_everything",
        about: "supports nothing, and compiles nothing",
        classes: &[],
        passes: &[
            ("tokenizer/*", 498),
            ("cache/books/*", 42),
            ("generate/{processors,sampler,text,logprobs,refusal}/*", 337),
            ("generate/*/refused_requests", 3),
            ("abi/device/name", 1),
            // Nothing is computed.
            ("abi/memory/*", 13),
            ("stress/memory/{buffers,weights}", 2),
        ],
    },
];

/// Every mutant.
pub fn mutants() -> &'static [Mutant] {
    static ALL: OnceLock<Vec<Mutant>> = OnceLock::new();
    ALL.get_or_init(|| {
        let tables = [device::MUTANTS, boundary::MUTANTS, keyed::MUTANTS, cache::MUTANTS, tokenizer::MUTANTS];
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
