//! Samplers with one fault: the parameters, the logits or the history are changed, then it is sampled honestly.

use camelid_core::tokenizer::TokenId;
use camelid_engine::sampling::{Sampled, Sampler, SamplingError, SamplingParams};

use crate::{Level, Mutant, fire};

/// As [`Sampler::sample`]: sampler, logits, history, length of the prompt in it.
pub type SampleFn = fn(&mut Sampler, &[f32], &[TokenId], usize) -> Result<Sampled, SamplingError>;

const fn mutant(id: &'static str, about: &'static str) -> Mutant {
    Mutant { id, level: Level::Generate, about, cases: &["generate/sampler/*", "generate/refusal/*"] }
}

/// The sampling of the fault called `id`; `None` if there is none of this name.
pub fn sampler(id: &str) -> Option<SampleFn> {
    FAULTS.iter().find(|(m, _)| m.id == id).map(|(_, sample)| *sample)
}

/// Every fault of a sampler.
pub(crate) fn mutants() -> impl Iterator<Item = Mutant> {
    FAULTS.iter().map(|(mutant, _)| *mutant)
}

/// What a sampler is asked with.
struct Asked {
    params: SamplingParams,
    logits: Vec<f32>,
    history: Vec<TokenId>,
    prompt_len: usize,
}

impl Asked {
    fn answer(&self) -> Result<Sampled, SamplingError> {
        Sampler::new(self.params.clone())?.sample(&self.logits, &self.history, self.prompt_len)
    }

    /// The tokens that the filters leave.
    fn kept(&self) -> Vec<TokenId> {
        let kept = Sampler::new(self.params.clone())
            .and_then(|mut s| s.distribution(&self.logits, &self.history, self.prompt_len));
        kept.map(|kept| kept.into_iter().map(|(token, _)| token).collect()).unwrap_or_default()
    }

    /// Forbids all tokens but these.
    fn keep_only(&mut self, kept: &[TokenId]) {
        for (id, logit) in self.logits.iter_mut().enumerate() {
            if !kept.contains(&(id as TokenId)) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    fn window(&self) -> Vec<TokenId> {
        let len = self.history.len();
        self.history[len - self.params.penalty_window.unwrap_or(len).min(len)..].to_vec()
    }
}

/// Fires if the answer is another one.
fn compared(
    honest: Result<Sampled, SamplingError>,
    faulty: Result<Sampled, SamplingError>,
) -> Result<Sampled, SamplingError> {
    if honest != faulty {
        fire();
    }
    faulty
}

macro_rules! fault {
    ($id:literal, $about:literal, |$asked:ident| $body:expr) => {
        (mutant($id, $about), |sampler, logits, history, prompt_len| {
            let honest = sampler.sample(logits, history, prompt_len);
            let (params, logits, history) = (sampler.params().clone(), logits.to_vec(), history.to_vec());
            let mut asked = Asked { params, logits, history, prompt_len };
            let $asked = &mut asked;
            $body;
            compared(honest, asked.answer())
        })
    };
}

/// A fault in what was chosen.
macro_rules! chosen {
    ($id:literal, $about:literal, |$sampled:ident, $logits:ident| $body:expr) => {
        (mutant($id, $about), |sampler, $logits, history, prompt_len| {
            let honest = sampler.sample($logits, history, prompt_len);
            let faulty = honest.clone().map(|mut answer| {
                let $sampled = &mut answer;
                $body;
                answer
            });
            compared(honest, faulty)
        })
    };
}

const FAULTS: &[(Mutant, SampleFn)] = &[
    fault!("sampler_top_k_one_more", "top-k keeps a token more", |a| a.params.top_k += usize::from(a.params.top_k > 0)),
    fault!("sampler_top_k_one_less", "top-k keeps a token less", |a| {
        a.params.top_k = if a.params.top_k > 1 { a.params.top_k - 1 } else { a.params.top_k }
    }),
    fault!("sampler_top_k_cuts_ties", "top-k keeps exactly k, whatever ties with the last", |a| {
        if (1..a.logits.len()).contains(&a.params.top_k) {
            let mut order: Vec<TokenId> = (0..a.logits.len() as TokenId).collect();
            order.sort_by(|x, y| a.logits[*y as usize].total_cmp(&a.logits[*x as usize]));
            let kept = order[..a.params.top_k].to_vec();
            a.keep_only(&kept);
        }
    }),
    fault!("sampler_top_p_ends_before", "top-p leaves out the token that reaches it", |a| {
        if a.params.top_p < 1.0 {
            let mut kept = a.kept();
            kept.sort_by(|x, y| a.logits[*y as usize].total_cmp(&a.logits[*x as usize]));
            if kept.len() > 1 {
                kept.pop();
            }
            a.keep_only(&kept);
            a.params.top_p = 1.0;
        }
    }),
    fault!("sampler_top_p_goes_on", "top-p goes on where it is reached exactly", |a| {
        if a.params.top_p < 1.0 {
            a.params.top_p += 1e-9;
        }
    }),
    fault!("sampler_top_p_ignored", "top-p has no effect", |a| a.params.top_p = 1.0),
    fault!("sampler_min_p_ignored", "min-p has no effect", |a| a.params.min_p = 0.0),
    fault!(
        "sampler_min_p_of_the_whole",
        "min-p is held against probabilities, not against the most likely one's",
        |a| {
            if a.params.min_p > 0.0 && a.params.temperature > 0.0 {
                let min_p = std::mem::take(&mut a.params.min_p);
                let all = Sampler::new(a.params.clone())
                    .and_then(|mut s| s.distribution(&a.logits, &a.history, a.prompt_len));
                let mut all = all.unwrap_or_default();
                all.sort_by(|x, y| y.1.total_cmp(&x.1));
                let kept: Vec<TokenId> =
                    all.iter().enumerate().filter(|(n, (_, p))| *n == 0 || *p >= min_p).map(|(_, (t, _))| *t).collect();
                a.keep_only(&kept);
            }
        }
    ),
    fault!("sampler_filters_before_temperature", "the filters see the distribution at temperature 1", |a| {
        if a.params.temperature > 0.0 {
            let temperature = std::mem::replace(&mut a.params.temperature, 1.0);
            let kept = a.kept();
            a.keep_only(&kept);
            (a.params.top_k, a.params.top_p, a.params.min_p) = (0, 1.0, 0.0);
            a.params.temperature = temperature;
        }
    }),
    fault!("sampler_top_p_before_top_k", "top-p adds up the tokens that top-k drops, too", |a| {
        if a.params.top_k > 0 && a.params.top_p < 1.0 && a.params.temperature > 0.0 {
            let top_k = std::mem::take(&mut a.params.top_k);
            let kept = a.kept();
            a.keep_only(&kept);
            (a.params.top_k, a.params.top_p) = (top_k, 1.0);
        }
    }),
    fault!("sampler_temperature_multiplies", "logits are multiplied by the temperature", |a| {
        if a.params.temperature > 0.0 {
            a.params.temperature = 1.0 / a.params.temperature;
        }
    }),
    fault!("sampler_temperature_ignored", "the temperature is 1", |a| {
        if a.params.temperature > 0.0 {
            a.params.temperature = 1.0;
        }
    }),
    fault!("sampler_greedy_never", "temperature 0 samples at temperature 1", |a| {
        if a.params.temperature == 0.0 {
            a.params.temperature = 1.0;
        }
    }),
    fault!("sampler_seed_ignored", "every seed draws the same", |a| a.params.seed = 0),
    fault!("sampler_seed_of_32_bits", "the upper half of the seed is lost", |a| a.params.seed &= 0xffff_ffff),
    fault!("sampler_index_ignored", "every token of a request gets the same number", |a| {
        let bias = a.params.presence_penalty != 0.0 || a.params.frequency_penalty != 0.0;
        if !bias {
            a.prompt_len = a.history.len();
        }
    }),
    fault!("sampler_prompt_is_not_repeated", "the repetition penalty leaves the prompt alone", |a| {
        let new = a.history.split_off(a.prompt_len.min(a.history.len()));
        a.history = vec![];
        a.prompt_len = 0;
        a.history.extend(new);
    }),
    fault!("sampler_repetition_divides", "negative scores are divided by the repetition penalty, too", |a| {
        let penalty = std::mem::replace(&mut a.params.repetition_penalty, 1.0);
        if a.params.logit_bias.is_empty() {
            let mut window = a.window();
            window.sort_unstable();
            window.dedup();
            for token in window {
                a.logits[token as usize] = (f64::from(a.logits[token as usize]) / penalty) as f32;
            }
        }
    }),
    fault!("sampler_repetition_each_time", "the repetition penalty counts every occurrence", |a| {
        let mut extra = a.window();
        extra.sort_unstable();
        let penalty = a.params.repetition_penalty;
        for pair in extra.windows(2).filter(|p| p[0] == p[1] && a.params.logit_bias.is_empty()) {
            let logit = &mut a.logits[pair[0] as usize];
            *logit =
                if *logit < 0.0 { (f64::from(*logit) * penalty) as f32 } else { (f64::from(*logit) / penalty) as f32 };
        }
    }),
    fault!("sampler_repetition_ignored", "the repetition penalty has no effect", |a| a.params.repetition_penalty = 1.0),
    fault!("sampler_window_one_more", "the penalties look at a token more", |a| {
        a.params.penalty_window = a.params.penalty_window.map(|w| w.saturating_add(1));
    }),
    fault!("sampler_window_one_less", "the penalties look at a token less", |a| {
        a.params.penalty_window = a.params.penalty_window.map(|w| w.saturating_sub(1));
    }),
    fault!("sampler_window_ignored", "the penalties look at everything", |a| a.params.penalty_window = None),
    fault!("sampler_presence_ignored", "the presence penalty has no effect", |a| a.params.presence_penalty = 0.0),
    fault!("sampler_presence_counts_the_prompt", "the presence penalty takes the prompt for generated", |a| {
        let mut prompt = a.history[..a.prompt_len.min(a.history.len())].to_vec();
        prompt.retain(|t| !a.history[a.prompt_len..].contains(t));
        prompt.sort_unstable();
        prompt.dedup();
        for token in prompt {
            a.logits[token as usize] -= a.params.presence_penalty as f32;
        }
    }),
    fault!("sampler_frequency_once", "the frequency penalty counts a token once", |a| {
        a.params.presence_penalty += std::mem::take(&mut a.params.frequency_penalty);
    }),
    fault!("sampler_bias_ignored", "the logit bias has no effect", |a| a.params.logit_bias.clear()),
    fault!("sampler_bias_cannot_forbid", "a bias of -inf is taken for -10", |a| {
        a.params.logit_bias.iter_mut().filter(|(_, b)| b.is_infinite()).for_each(|(_, b)| *b = -10.0);
    }),
    fault!("sampler_nan_is_zero", "a logit that is no number is taken for 0", |a| {
        a.logits.iter_mut().filter(|l| l.is_nan()).for_each(|l| *l = 0.0);
    }),
    fault!("sampler_nothing_left_is_anything", "if no token can come, one comes", |a| {
        if a.logits.iter().all(|l| *l == f32::NEG_INFINITY) {
            a.logits.fill(0.0);
        }
    }),
    fault!("sampler_history_unchecked", "tokens outside the vocabulary are overlooked", |a| {
        let size = a.logits.len() as TokenId;
        let before = a.history.len();
        a.history.retain(|t| *t < size);
        a.prompt_len -= (before - a.history.len()).min(a.prompt_len);
    }),
    chosen!("sampler_greedy_takes_the_last", "of equals the last one is taken", |sampled, logits| {
        let best = logits[sampled.token as usize];
        if sampled.logprob == 0.0 {
            sampled.token = logits.iter().rposition(|l| *l == best).unwrap_or(0) as TokenId;
        }
    }),
    chosen!("sampler_logprob_base_2", "log-probabilities are logarithms to base 2", |sampled, _logits| {
        sampled.logprob /= std::f64::consts::LN_2;
    }),
    chosen!("sampler_logprob_of_the_model", "log-probabilities are the model's own", |sampled, logits| {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
        sampled.logprob = f64::from(logits[sampled.token as usize] - max) - sum.ln();
    }),
    chosen!("sampler_probability", "probabilities in place of their logarithms", |sampled, _logits| {
        sampled.logprob = sampled.logprob.exp();
    }),
];
