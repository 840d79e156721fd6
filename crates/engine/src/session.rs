//! [`Session`]: sequences that grow, on one device.
//!
//! A session owns the cache and its memory, the compiled plans and the step's buffers. [`Session::step`] takes any
//! number of new tokens for any of its sequences and returns the logits asked for; how that becomes runs of the
//! device is decided in `feed.rs`, and gives the same logits whatever the split.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use camelid_core::Cache;
use camelid_core::cache::SequenceId;
use camelid_core::llama::Head;
use camelid_core::tokenizer::TokenId;
use camelid_host::LoweredOp;

use crate::error::EngineError;
use crate::feed::Feed;
use crate::model::Model;
use crate::options::SessionOptions;
use crate::plans::{Plans, Shared, Taps, make_cache};
use crate::step::Content;

/// A flag that another thread may raise to stop a step between two runs of the device.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Asks to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Takes the request back.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// New tokens for a sequence.
#[derive(Clone, Copy, Debug)]
pub struct SequenceInput<'a> {
    /// The sequence.
    pub sequence: SequenceId,
    /// Its new tokens, at least one.
    pub tokens: &'a [TokenId],
    /// Position of each token for the rotary embedding; its index in the sequence if `None`. Where the rotary embedding
    /// depends on the length of the sequence, that is one more than the largest position of the step: see
    /// [`camelid_core::llama::rope`].
    pub positions: Option<&'a [u32]>,
    /// Which logits are wanted.
    pub outputs: Outputs<'a>,
}

/// Which of a sequence's new tokens should give logits.
#[derive(Clone, Copy, Debug)]
pub enum Outputs<'a> {
    /// None of them.
    None,
    /// The last.
    Last,
    /// All.
    All,
    /// These, as indices into the new tokens, in rising order.
    Rows(&'a [usize]),
}

impl Outputs<'_> {
    pub(crate) fn includes(&self, index: usize, len: usize) -> bool {
        match self {
            Outputs::None => false,
            Outputs::Last => index + 1 == len,
            Outputs::All => true,
            Outputs::Rows(rows) => rows.binary_search(&index).is_ok(),
        }
    }

    /// How many of `len` tokens give logits.
    fn count(&self, len: usize) -> usize {
        match self {
            Outputs::None => 0,
            Outputs::Last => 1,
            Outputs::All => len,
            Outputs::Rows(rows) => rows.len(),
        }
    }
}

/// Logits of a step: for each input, in order, a row for each token asked for.
#[derive(Clone, Debug, Default)]
pub struct Logits {
    vocab_size: usize,
    /// The rows of one input after the other.
    values: Vec<f32>,
    /// Where the values of each input end.
    ends: Vec<usize>,
}

impl Logits {
    /// The rows of input `i`, row-major `[rows, vocab_size]`.
    pub fn of_input(&self, i: usize) -> &[f32] {
        let begin = i.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.values[begin..self.ends[i]]
    }

    /// The last row of input `i`, `[vocab_size]`.
    ///
    /// # Panics
    /// If no logits were asked for.
    pub fn last_of_input(&self, i: usize) -> &[f32] {
        let rows = self.of_input(i);
        &rows[rows.len() - self.vocab_size..]
    }
}

/// Sequences on a device. See the module's documentation.
pub struct Session {
    /// What has been compiled so far, the plans of [`Session::step`] first.
    pub(crate) plans: Vec<(Taps, Plans)>,
    pub(crate) shared: Shared,
    pub(crate) cache: Box<dyn Cache>,
    pub(crate) model: Arc<Model>,
    pub(crate) options: SessionOptions,
    pub(crate) context_size: usize,
    pub(crate) cancel: CancelToken,
    /// Contents of an input on their way to the device.
    pub(crate) staging: Vec<u8>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("backend", &self.model.device().backend())
            .field("context_size", &self.context_size)
            .field("layout", &self.cache.layout())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session on `model` with no sequences yet.
    ///
    /// # Errors
    /// [`EngineError::Option`] for options out of range, [`EngineError::NoLanguageHead`] for a model that has no logits
    /// of tokens, and what the device says when it cannot compute the graph or has not the memory.
    pub fn new(model: Arc<Model>, options: &SessionOptions) -> Result<Session, EngineError> {
        options.check()?;
        let cache = make_cache(options, &model)?;
        Session::with_cache(model, options, cache)
    }

    /// A session over a cache of the caller's own, which has the room that `options` ask for: as [`make_cache`] makes
    /// one, possibly behind something that watches it.
    ///
    /// [`make_cache`]: crate::make_cache
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with_cache(
        model: Arc<Model>,
        options: &SessionOptions,
        cache: Box<dyn Cache>,
    ) -> Result<Session, EngineError> {
        model.require_language_head()?;
        Session::with_taps(model, options, cache, Taps::default())
    }

    /// A session for [`crate::forward`], which also runs classifiers and models without a head.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn for_forward(model: Arc<Model>, options: &SessionOptions) -> Result<Session, EngineError> {
        options.check()?;
        let cache = make_cache(options, &model)?;
        Session::for_forward_with_cache(model, options, cache)
    }

    /// [`Session::for_forward`] over a cache of the caller's own.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn for_forward_with_cache(
        model: Arc<Model>,
        options: &SessionOptions,
        cache: Box<dyn Cache>,
    ) -> Result<Session, EngineError> {
        // A model without a head has nothing that an ordinary step could give.
        let headless = model.head() == Head::None;
        Session::with_taps(model, options, cache, Taps { headless, last_hidden_state: headless, ..Taps::default() })
    }

    fn with_taps(
        model: Arc<Model>,
        options: &SessionOptions,
        cache: Box<dyn Cache>,
        taps: Taps,
    ) -> Result<Session, EngineError> {
        options.check()?;
        let config = model.config();
        let context_size = options.context_size.unwrap_or(config.max_position_embeddings);
        if config.position_limit().is_some_and(|limit| context_size > limit) {
            tracing::warn!(
                "context_size {context_size} is more than the {} positions the model was made for",
                config.max_position_embeddings
            );
        }
        let mut shared = Shared::default();
        let plans = vec![(taps, Plans::new(&model, options, &*cache, context_size, taps, &mut shared)?)];
        let cancel = CancelToken::default();
        Ok(Session { plans, shared, cache, model, options: *options, context_size, cancel, staging: Vec::new() })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The longest a sequence can get, in tokens.
    pub fn context_size(&self) -> usize {
        self.context_size
    }

    /// The operations that are computed from core operations because the backend does not have them.
    pub fn lowered(&self) -> &[LoweredOp] {
        &self.plans[0].1.lowered
    }

    /// Most sequences at a time.
    pub fn max_sequences(&self) -> usize {
        self.cache.layout().max_sequences
    }

    /// The flag that stops a step between two runs of the device.
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// A new, empty sequence.
    pub fn create(&mut self) -> Result<SequenceId, EngineError> {
        Ok(self.cache.create()?)
    }

    /// Tokens in a sequence.
    pub fn len(&self, sequence: SequenceId) -> Result<usize, EngineError> {
        Ok(self.cache.len(sequence)?)
    }

    /// How many more tokens a sequence could take now.
    pub fn room(&self, sequence: SequenceId) -> Result<usize, EngineError> {
        Ok(self.cache.room(sequence)?)
    }

    /// Forgets a sequence's tokens from index `len` on.
    pub fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<(), EngineError> {
        Ok(self.cache.truncate(sequence, len)?)
    }

    /// A second sequence with the same tokens.
    pub fn fork(&mut self, sequence: SequenceId) -> Result<SequenceId, EngineError> {
        let (fork, copies) = self.cache.fork(sequence)?;
        if let Err(error) = self.copy_rows(&copies) {
            self.cache.release(fork)?;
            return Err(error);
        }
        Ok(fork)
    }

    /// Forgets a sequence.
    pub fn release(&mut self, sequence: SequenceId) -> Result<(), EngineError> {
        Ok(self.cache.release(sequence)?)
    }

    /// Forgets all sequences.
    pub fn reset(&mut self) {
        self.cache.reset();
    }

    /// Appends tokens to sequences and returns the logits asked for.
    ///
    /// Either everything is done or nothing: after an error every sequence is as long as before. Only where the device
    /// fails to copy the rows that a fork shared is the sequence released: it would hold rows that were never written.
    ///
    /// # Errors
    /// [`EngineError::EmptyInput`], [`EngineError::TokenOutOfRange`], [`EngineError::PositionOutOfRange`],
    /// [`EngineError::DuplicateSequence`], [`EngineError::Cache`] for a full cache, [`EngineError::Cancelled`], and
    /// what the device says.
    pub fn step(&mut self, inputs: &[SequenceInput<'_>]) -> Result<Logits, EngineError> {
        self.model.require_language_head()?;
        if inputs.is_empty() {
            return Err(EngineError::EmptyInput);
        }
        let feeds: Vec<Feed<'_>> = inputs
            .iter()
            .map(|i| Feed {
                sequence: i.sequence,
                content: Content::Tokens(i.tokens),
                positions: i.positions,
                outputs: i.outputs,
                mask: None,
            })
            .collect();
        let vocab_size = self.model.config().vocab_size;
        let mut values = Vec::new();
        self.feed_for_logits(&feeds, &mut values)?;
        let mut end = 0;
        let ends = inputs.iter().map(|i| {
            end += i.outputs.count(i.tokens.len()) * vocab_size;
            end
        });
        Ok(Logits { vocab_size, ends: ends.collect(), values })
    }
}
