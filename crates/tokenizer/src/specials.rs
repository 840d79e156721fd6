//! Special and added tokens of a tokenizer that is there already: naming them, adding them, finding them.

use camelid_core::tokenizer::{TokenId, Tokenizer as _};

use crate::config::SpecialToken;
use crate::error::{LoadError, SpecialsError, guarded};
use crate::frame;
use crate::hf::HfTokenizer;

const ORIGIN: &str = "the tokenizer";

/// What a special token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialName {
    /// `bos_token`: beginning of sequence.
    Bos,
    /// `eos_token`: end of sequence.
    Eos,
    /// `unk_token`: stands for what the vocabulary cannot write.
    Unk,
    /// `pad_token`: padding.
    Pad,
}

impl HfTokenizer {
    /// The special token of this name.
    pub fn special_token(&self, name: SpecialName) -> Option<&SpecialToken> {
        match name {
            SpecialName::Bos => self.config.bos_token.as_ref(),
            SpecialName::Eos => self.config.eos_token.as_ref(),
            SpecialName::Unk => self.config.unk_token.as_ref(),
            SpecialName::Pad => self.config.pad_token.as_ref(),
        }
    }

    /// Gives a name to a token of the vocabulary, or takes the name away. What is put around a text stays as it is
    /// until [`update_post_processor`](Self::update_post_processor).
    ///
    /// # Errors
    /// If the vocabulary does not have the token: [`add_special_tokens`](Self::add_special_tokens) would add it.
    pub fn set_special_token(&mut self, name: SpecialName, token: Option<SpecialToken>) -> Result<(), SpecialsError> {
        let id = match &token {
            None => None,
            Some(token) => match self.token_to_id(&token.content) {
                None => return Err(SpecialsError::NotThere { token: token.content.clone() }),
                id => id,
            },
        };
        let (config, special) = (&mut self.config, &mut self.special);
        match name {
            SpecialName::Bos => (config.bos_token, special.bos) = (token, id),
            SpecialName::Unk => (config.unk_token, special.unk) = (token, id),
            SpecialName::Pad => (config.pad_token, special.pad) = (token, id),
            SpecialName::Eos => {
                let before = config.eos_token.take().and_then(|t| self.library.token_to_id(&t.content));
                special.eos.retain(|other| Some(*other) != before && Some(*other) != id);
                special.eos.splice(0..0, id);
                config.eos_token = token;
            }
        }
        Ok(())
    }

    /// Adds tokens, which are then found before all merging; those that the vocabulary lacks get the next ids. A model
    /// has to have rows for them. `special` makes all of them special. Tells how many were not there as they are now.
    ///
    /// # Errors
    /// [`SpecialsError::Library`] if the library refuses.
    pub fn add_tokens(&mut self, tokens: &[SpecialToken], special: bool) -> Result<usize, SpecialsError> {
        let added = tokens.iter().map(|token| token.added().special(token.special || special));
        let library = &mut self.library;
        let count = guarded(|| library.add_tokens(added)).map_err(SpecialsError::Library)?;
        self.refresh(ORIGIN)?;
        Ok(count)
    }

    /// Adds special tokens and gives them their names; `extra` ones have none. Tells how many were new.
    ///
    /// # Errors
    /// As [`add_tokens`](Self::add_tokens).
    pub fn add_special_tokens(
        &mut self,
        named: &[(SpecialName, SpecialToken)],
        extra: &[SpecialToken],
    ) -> Result<usize, SpecialsError> {
        let tokens: Vec<SpecialToken> = named.iter().map(|(_, token)| token).chain(extra).cloned().collect();
        let count = self.add_tokens(&tokens, true)?;
        for (name, token) in named {
            self.set_special_token(*name, Some(token.clone()))?;
        }
        if !extra.is_empty() {
            self.config.additional_special_tokens = extra.to_vec();
        }
        Ok(count)
    }

    /// Whether a sequence begins with the bos token.
    pub fn add_bos_token(&self) -> bool {
        self.config.add_bos_token.unwrap_or(!self.frame.0.is_empty())
    }

    /// Whether a sequence ends with the eos token.
    pub fn add_eos_token(&self) -> bool {
        self.config.add_eos_token.unwrap_or(!self.frame.1.is_empty())
    }

    /// Makes sequences begin with the bos token, or not.
    ///
    /// # Errors
    /// As [`update_post_processor`](Self::update_post_processor).
    pub fn set_add_bos_token(&mut self, add: bool) -> Result<(), SpecialsError> {
        let eos = self.add_eos_token();
        (self.config.add_bos_token, self.config.add_eos_token) = (Some(add), Some(eos));
        self.update_post_processor()
    }

    /// Makes sequences end with the eos token, or not.
    ///
    /// # Errors
    /// As [`update_post_processor`](Self::update_post_processor).
    pub fn set_add_eos_token(&mut self, add: bool) -> Result<(), SpecialsError> {
        let bos = self.add_bos_token();
        (self.config.add_bos_token, self.config.add_eos_token) = (Some(bos), Some(add));
        self.update_post_processor()
    }

    /// Puts the present bos and eos tokens around sequences, as far as there are any and they are to be added. Whatever
    /// else a `tokenizer.json` put there is gone.
    ///
    /// Whether to add them is what the configuration or the last setter said; without either, a tokenizer that put
    /// something in front goes on to do so (transformers 5.8.0 would stop).
    ///
    /// # Errors
    /// [`SpecialsError::Load`] if the library refuses the template.
    pub fn update_post_processor(&mut self) -> Result<(), SpecialsError> {
        let before = self.special.bos.filter(|_| self.add_bos_token());
        let after = self.special.eos.first().copied().filter(|_| self.add_eos_token());
        let frame = (Vec::from_iter(before), Vec::from_iter(after));
        frame::set(&mut self.library, &frame, ORIGIN)?;
        (self.config.add_bos_token, self.config.add_eos_token) = (Some(before.is_some()), Some(after.is_some()));
        self.frame = frame;
        Ok(())
    }

    /// Number of tokens that are put around a sequence, or around two.
    pub fn num_special_tokens_to_add(&self, pair: bool) -> usize {
        use tokenizers::PostProcessor as _;
        self.library.get_post_processor().map_or(0, |p| p.added_tokens(pair))
    }

    /// The ids with everything that is put around them: a sequence, or two.
    ///
    /// # Errors
    /// [`SpecialsError::Library`] if the post-processor fails.
    pub fn build_inputs_with_special_tokens(
        &self,
        ids: &[TokenId],
        second: Option<&[TokenId]>,
    ) -> Result<Vec<TokenId>, SpecialsError> {
        Ok(self.framed(ids, second)?.get_ids().to_vec())
    }

    /// 1 for every special token of a sequence, 0 for the others.
    ///
    /// With `already_has_special_tokens` the ids are a finished sequence, of which those in
    /// [`all_special_ids`](Self::all_special_ids) are special. Otherwise they are one text or two, and the answer is the
    /// mask of what [`build_inputs_with_special_tokens`](Self::build_inputs_with_special_tokens) makes of them
    /// (transformers 5.8.0 leaves this case out; before, and here, it is the documented one).
    ///
    /// # Errors
    /// [`SpecialsError::SecondSequence`] for a second text beside a finished sequence.
    pub fn get_special_tokens_mask(
        &self,
        ids: &[TokenId],
        second: Option<&[TokenId]>,
        already_has_special_tokens: bool,
    ) -> Result<Vec<u32>, SpecialsError> {
        if !already_has_special_tokens {
            return Ok(self.framed(ids, second)?.get_special_tokens_mask().to_vec());
        }
        if second.is_some() {
            return Err(SpecialsError::SecondSequence);
        }
        let special = self.all_special_ids();
        Ok(ids.iter().map(|id| u32::from(special.contains(id))).collect())
    }

    fn framed(&self, ids: &[TokenId], second: Option<&[TokenId]>) -> Result<tokenizers::Encoding, SpecialsError> {
        let second = second.map(frame::blank);
        guarded(|| self.library.post_process(frame::blank(ids), second, true)).map_err(SpecialsError::Library)
    }

    /// The tokens that have a name, then those that the configuration calls special beside them; each once.
    pub fn all_special_tokens(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for token in self.config.named().chain(&self.config.additional_special_tokens) {
            if !all.contains(&token.content.as_str()) {
                all.push(&token.content);
            }
        }
        all
    }

    /// The ids of [`all_special_tokens`](Self::all_special_tokens). What decoding leaves out is another list:
    /// [`SpecialTokens::all`](camelid_core::tokenizer::SpecialTokens::all), which has every added token that is special.
    pub fn all_special_ids(&self) -> Vec<TokenId> {
        self.all_special_tokens().into_iter().filter_map(|token| self.token_to_id(token)).collect()
    }

    /// The ids of tokens; the unknown token's for those that the vocabulary lacks, `None` without one.
    pub fn convert_tokens_to_ids<T: AsRef<str>>(&self, tokens: &[T]) -> Vec<Option<TokenId>> {
        tokens.iter().map(|token| self.token_to_id(token.as_ref()).or(self.special.unk)).collect()
    }

    /// The tokens of ids; `None` for ids outside the vocabulary. Special ones can be left out.
    pub fn convert_ids_to_tokens(&self, ids: &[TokenId], skip_special_tokens: bool) -> Vec<Option<String>> {
        let skipped = if skip_special_tokens { self.all_special_ids() } else { Vec::new() };
        ids.iter().filter(|id| !skipped.contains(id)).map(|id| self.id_to_token(*id)).collect()
    }

    /// The tokens of a text as the vocabulary writes them.
    ///
    /// # Errors
    /// As [`encode`](camelid_core::tokenizer::Tokenizer::encode).
    pub fn tokenize(&self, text: &str) -> Result<Vec<String>, camelid_core::tokenizer::TokenizerError> {
        let options = camelid_core::tokenizer::EncodeOptions { add_special_tokens: false, parse_special: true };
        Ok(self.encode(text, options)?.ids.into_iter().filter_map(|id| self.id_to_token(id)).collect())
    }

    /// The added tokens and their ids, in order of the ids.
    pub fn added_tokens(&self) -> Vec<(TokenId, SpecialToken)> {
        let added = self.library.get_added_vocabulary().get_added_tokens_decoder();
        let mut all: Vec<(TokenId, SpecialToken)> =
            added.iter().map(|(id, token)| (*id, SpecialToken::of_added(token))).collect();
        all.sort_by_key(|(id, _)| *id);
        all
    }
}

impl From<LoadError> for SpecialsError {
    fn from(error: LoadError) -> Self {
        SpecialsError::Load(Box::new(error))
    }
}
