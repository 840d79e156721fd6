//! Flags for what `generate` of transformers can do beyond temperature and filters, under its names.

use std::path::PathBuf;

use camelid_host::config::{EarlyStop, GenerateConfig};

use clap::{Args, ValueEnum};

/// Beams, guesses, lengths and rules for tokens.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Generation as in transformers")]
pub struct DecodingFlags {
    /// Texts that beam search grows side by side; with a temperature, beam sampling [default: the model's, or 1]
    #[arg(long, value_name = "N")]
    pub num_beams: Option<usize>,
    /// A beam's score is divided by its length to this power [default: the model's, or 1]
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub length_penalty: Option<f64>,
    /// When a beam search ends: at as many finished texts as beams, when it looks settled, or when it is
    #[arg(long, value_name = "WHEN")]
    pub early_stopping: Option<Stopping>,
    /// Texts to return: the best beams, or so many samples
    #[arg(long, value_name = "N")]
    pub num_return_sequences: Option<usize>,
    /// Guess N tokens for a step from what came before after the same words; changes no token
    #[arg(long, value_name = "N")]
    pub prompt_lookup: Option<usize>,
    /// Most tokens that --prompt-lookup looks for
    #[arg(long, value_name = "N")]
    pub max_matching_ngram_size: Option<usize>,
    /// Smaller model of the same vocabulary that guesses tokens for a step; changes no token
    #[arg(long, value_name = "PATH")]
    pub draft_model: Option<PathBuf>,
    /// Tokens that the draft model guesses [default: 5]
    #[arg(long, value_name = "N")]
    pub draft_tokens: Option<usize>,
    /// Most tokens of prompt and text together, if --max-new-tokens is not given
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
    /// No end among so many tokens
    #[arg(long, value_name = "N")]
    pub min_new_tokens: Option<usize>,
    /// No end before prompt and text are so long
    #[arg(long, value_name = "N")]
    pub min_length: Option<usize>,
    /// Seconds after which the next token is the last
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub max_time: Option<f64>,
    /// Sample among the tokens nearest to the expected information, with this probability together
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub typical_p: Option<f64>,
    /// Sample among tokens at least this likely
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub epsilon_cutoff: Option<f64>,
    /// As --epsilon-cutoff, but less strict where much is possible
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub eta_cutoff: Option<f64>,
    /// Sample among the likeliest tokens with this share of the entropy
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub top_h: Option<f64>,
    /// Above 1, tokens of the prompt become likelier
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub encoder_repetition_penalty: Option<f64>,
    /// No sequence of N tokens comes twice
    #[arg(long, value_name = "N")]
    pub no_repeat_ngram_size: Option<usize>,
    /// No sequence of N tokens of the prompt comes again
    #[arg(long, value_name = "N")]
    pub encoder_no_repeat_ngram_size: Option<usize>,
    /// Sequences of token ids that must not come: `[[1, 2], [3]]`
    #[arg(long, value_name = "LISTS", value_parser = json::<Lists>)]
    pub bad_words_ids: Option<Lists>,
    /// What is added to the score of a sequence's last token: '[[[1, 2], -1.5]]'
    #[arg(long, value_name = "PAIRS", value_parser = json::<Biases>)]
    pub sequence_bias: Option<Biases>,
    /// Token ids that never come: 1,2,3
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub suppress_tokens: Option<Vec<u32>>,
    /// Token ids that do not come first
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub begin_suppress_tokens: Option<Vec<u32>>,
    /// The token after a prompt of one token
    #[arg(long, value_name = "ID")]
    pub forced_bos_token_id: Option<usize>,
    /// The tokens of which one comes last where the most new tokens are reached
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub forced_eos_token_id: Option<Vec<u32>>,
    /// After so many tokens the end's score grows by this factor with each: '[5, 1.2]'
    #[arg(long, value_name = "PAIR", value_parser = json::<(usize, f64)>)]
    pub exponential_decay_length_penalty: Option<(usize, f64)>,
    /// Replace logits that are no numbers in place of an error
    #[arg(long)]
    pub remove_invalid_values: bool,
    /// Beams add up log-probabilities that are normalized after all rules
    #[arg(long)]
    pub renormalize_logits: bool,
}

/// Named, so that clap does not take the lists for values of several flags.
type Lists = Vec<Vec<u32>>;
type Biases = Vec<(Vec<u32>, f64)>;

/// `early_stopping` of transformers.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Stopping {
    True,
    False,
    Never,
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
}

impl DecodingFlags {
    /// Adds the settings these flags make to `g`.
    pub fn add_to(&self, g: &mut GenerateConfig) {
        let flags = self.clone();
        g.num_beams = flags.num_beams;
        g.length_penalty = flags.length_penalty;
        g.early_stopping = flags.early_stopping.map(|s| match s {
            Stopping::True => EarlyStop::True,
            Stopping::False => EarlyStop::False,
            Stopping::Never => EarlyStop::Never,
        });
        g.num_return_sequences = flags.num_return_sequences;
        g.prompt_lookup_num_tokens = flags.prompt_lookup;
        g.max_matching_ngram_size = flags.max_matching_ngram_size;
        g.draft_model = flags.draft_model;
        g.draft_tokens = flags.draft_tokens;
        g.max_length = flags.max_length;
        g.min_new_tokens = flags.min_new_tokens;
        g.min_length = flags.min_length;
        g.max_time = flags.max_time;
        g.typical_p = flags.typical_p;
        g.epsilon_cutoff = flags.epsilon_cutoff;
        g.eta_cutoff = flags.eta_cutoff;
        g.top_h = flags.top_h;
        g.encoder_repetition_penalty = flags.encoder_repetition_penalty;
        g.no_repeat_ngram_size = flags.no_repeat_ngram_size;
        g.encoder_no_repeat_ngram_size = flags.encoder_no_repeat_ngram_size;
        g.bad_words_ids = flags.bad_words_ids;
        g.sequence_bias = flags.sequence_bias;
        g.suppress_tokens = flags.suppress_tokens;
        g.begin_suppress_tokens = flags.begin_suppress_tokens;
        g.forced_bos_token_id = flags.forced_bos_token_id;
        g.forced_eos_token_id = flags.forced_eos_token_id;
        g.exponential_decay_length_penalty = flags.exponential_decay_length_penalty;
        g.remove_invalid_values = flags.remove_invalid_values.then_some(true);
        g.renormalize_logits = flags.renormalize_logits.then_some(true);
    }
}
