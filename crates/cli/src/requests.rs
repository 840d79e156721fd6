//! From settings and what the model brings to a request of the engine.

use std::sync::Arc;

use camelid_core::cache::SequenceId;
use camelid_core::tokenizer::TokenId;
use camelid_engine::generation_config::GenerationConfig;
use camelid_engine::sampling::SamplingParams;
use camelid_engine::{DraftModel, EarlyStopping, Model, Request, Session, Strategy};
use camelid_host::config::EarlyStop;

use crate::Error;
use crate::setup::Setup;

/// Tokens to generate when nothing says how many.
const DEFAULT_MAX_NEW_TOKENS: usize = 256;
/// Tokens a draft guesses when nothing says how many.
const DEFAULT_DRAFT_TOKENS: usize = 5;

impl Setup {
    /// What is configured over what the model brings.
    fn generation_config(&self, model: &Model) -> GenerationConfig {
        let g = &self.config.generate;
        let mut config = model.generation_config().clone();
        // Who asks for a temperature asks for sampling, with what transformers then adds.
        config.do_sample = g.temperature.map(|t| t > 0.0).or(config.do_sample);
        macro_rules! options {
            ($($field:ident),*) => { $(config.$field = g.$field.or(config.$field);)* };
        }
        macro_rules! lists {
            ($($field:ident),*) => { $(if let Some(list) = &g.$field { config.$field.clone_from(list); })* };
        }
        options!(temperature, top_k, top_p, min_p, top_h, typical_p, epsilon_cutoff, eta_cutoff, repetition_penalty);
        options!(renormalize_logits, encoder_repetition_penalty, no_repeat_ngram_size, encoder_no_repeat_ngram_size);
        options!(remove_invalid_values, exponential_decay_length_penalty, min_new_tokens, min_length, max_time);
        options!(num_beams, length_penalty, num_return_sequences, prompt_lookup_num_tokens, max_matching_ngram_size);
        lists!(bad_words_ids, suppress_tokens, begin_suppress_tokens, forced_eos_token_id);
        if let Some(pairs) = &g.sequence_bias {
            config.sequence_bias = pairs.iter().map(|(tokens, bias)| (tokens.clone(), *bias as f32)).collect();
        }
        if let Some(id) = g.forced_bos_token_id {
            config.forced_bos_token_id = TokenId::try_from(id).ok();
        }
        if let Some(stop) = &g.stop {
            config.stop_strings.clone_from(stop);
        }
        config.early_stopping = g.early_stopping.map(stopping).or(config.early_stopping);
        if g.max_new_tokens.or(g.max_length).is_some() {
            // A length that is configured goes before either of the model's.
            (config.max_new_tokens, config.max_length) = (g.max_new_tokens, g.max_length);
        }
        config
    }

    /// How tokens are chosen.
    fn sampling(&self, config: &GenerationConfig) -> SamplingParams {
        let g = &self.config.generate;
        let mut params = config.sampling_params();
        params.presence_penalty = g.presence_penalty.unwrap_or(params.presence_penalty);
        params.frequency_penalty = g.frequency_penalty.unwrap_or(params.frequency_penalty);
        params.seed = g.seed.unwrap_or_else(random_seed);
        params
    }

    /// A request to go on with a sequence that holds all but the last `new_tokens` of `history`. Its sequence is set
    /// when there is one.
    ///
    /// # Errors
    /// For a way of generating that is not supported, and for two that do not go together.
    pub fn request(&self, model: &Model, history: Vec<TokenId>, new_tokens: usize) -> Result<Request, Error> {
        let config = self.generation_config(model);
        let mut strategy = config.strategy()?;
        let g = &self.config.generate;
        if g.draft_model.is_some() {
            if let Strategy::Beams(beams) = strategy {
                return Err(
                    format!("a draft model cannot guess for {} beams; set num_beams to 1", beams.num_beams).into()
                );
            }
            if g.prompt_lookup_num_tokens.is_some() {
                return Err("guesses come from a draft model or from the prompt; leave one of them out".into());
            }
            strategy = Strategy::Draft { num_tokens: g.draft_tokens.unwrap_or(DEFAULT_DRAFT_TOKENS) };
        }
        let max_new_tokens = config.most_new_tokens(history.len()).unwrap_or(DEFAULT_MAX_NEW_TOKENS);
        Ok(Request {
            new_tokens,
            sampling: self.sampling(&config),
            eos: model.eos_token_ids(),
            strategy,
            num_return_sequences: config.num_return_sequences.unwrap_or(1),
            max_time: config.time_limit(),
            stop: config.stop_strings,
            ..Request::new(SequenceId(u64::MAX), history, max_new_tokens)
        })
    }

    /// The draft model that is configured, on the same device. `needed` is how many tokens a text will have.
    pub fn draft(&self, model: &Arc<Model>, needed: Option<usize>) -> Result<Option<DraftModel>, Error> {
        let Some(path) = &self.config.generate.draft_model else { return Ok(None) };
        let draft = self.model_at(Some(path))?;
        let session = Session::new(draft.clone(), &self.session_options(&draft, needed))?;
        Ok(Some(DraftModel::new(session, model)?))
    }
}

fn stopping(name: EarlyStop) -> EarlyStopping {
    match name {
        EarlyStop::True => EarlyStopping::Yes,
        EarlyStop::False => EarlyStopping::No,
        EarlyStop::Never => EarlyStopping::Never,
    }
}

/// A seed that differs from run to run; it is reported, so that a run can be repeated.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // Kept below 2^53 so that every JSON reader gets it whole.
    RandomState::new().hash_one(std::process::id()) >> 11
}
