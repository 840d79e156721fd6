//! The tokenizer itself: encoding and decoding over the parts of the `tokenizers` library.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use camelid_core::tokenizer::{EncodeOptions, Encoding, SpecialTokens, TokenId, Tokenizer, TokenizerError};
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::{
    AddedToken, AddedVocabulary, Encoding as LibraryEncoding, Model, ModelWrapper, OffsetType, PreTokenizer as _,
    Token, Tokenizer as Library,
};

use crate::config::TokenizerConfig;
use crate::decoder::{ByteDecoder, Piece, Position};
use crate::error::{LoadError, guarded};
use crate::frame::{self, Frame};
use crate::sentencepiece::SentencePieceBpe;
use crate::template::{ChatTemplate, RenderOptions, TemplateError};

/// A tokenizer as Hugging Face's `tokenizers` library describes one: normalizer, pre-tokenizer, model, decoder, and
/// tokens that are found before all of them.
///
/// [`from_folder`](Self::from_folder), [`from_tokenizer_json`](Self::from_tokenizer_json),
/// [`from_tokenizer_model`](Self::from_tokenizer_model), [`from_gguf`](Self::from_gguf) and
/// [`builder`](Self::builder) make one; the [`Tokenizer`] trait is how it is used, and
/// [`encode_batch`](Self::encode_batch) for pairs, padding and truncation. Ids agree with `tokenizers` for a
/// `tokenizer.json` and with llama.cpp for a GGUF vocabulary. As both do, a byte-level vocabulary without a token for
/// some byte leaves that byte out (and warns).
pub struct HfTokenizer {
    pub(crate) library: Library,
    /// Takes the place of the library's model for SentencePiece vocabularies of GGUF files.
    pub(crate) sentencepiece: Option<SentencePieceBpe>,
    /// The added tokens without the special ones.
    plain_vocabulary: AddedVocabulary,
    /// Ids put before and behind a sequence.
    pub(crate) frame: Frame,
    decoder: ByteDecoder,
    pub(crate) special: SpecialTokens,
    pub(crate) config: TokenizerConfig,
    added_verbatim: bool,
    vocab_size: usize,
    /// The `tokenizer.model` it was read from.
    pub(crate) vocab_file: Option<PathBuf>,
}

/// What the loaders hand over.
pub(crate) struct Parts<'a> {
    pub library: Library,
    pub sentencepiece: Option<SentencePieceBpe>,
    /// Takes the place of the library's post-processor.
    pub frame: Option<Frame>,
    /// All but `all`, which is filled in: the added tokens that are special.
    pub special: SpecialTokens,
    pub config: TokenizerConfig,
    /// Added tokens are written as in text even if the others are byte-level.
    pub added_verbatim: bool,
    pub origin: &'a str,
}

impl HfTokenizer {
    pub(crate) fn assemble(parts: Parts<'_>) -> Result<Self, LoadError> {
        let Parts { mut library, sentencepiece, frame, special, config, added_verbatim, origin } = parts;
        if let Some(frame) = frame {
            frame::set(&mut library, &frame, origin)?;
        }
        let mut tokenizer = HfTokenizer {
            frame: frame::of(&library, origin)?,
            decoder: ByteDecoder::new(library.get_decoder()),
            vocab_size: 0,
            library,
            sentencepiece,
            plain_vocabulary: AddedVocabulary::new(),
            special,
            config,
            added_verbatim,
            vocab_file: None,
        };
        tokenizer.refresh(origin)?;
        Ok(tokenizer)
    }

    /// Follows the library's added tokens: which are found in plain text, which are special, how many ids there are.
    pub(crate) fn refresh(&mut self, origin: &str) -> Result<(), LoadError> {
        let added = self.library.get_added_vocabulary().get_added_tokens_decoder();
        let mut plain: Vec<(TokenId, AddedToken)> =
            added.iter().filter(|(_, token)| !token.special).map(|(id, token)| (*id, token.clone())).collect();
        plain.sort_unstable_by_key(|(id, _)| *id);
        self.special.all = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        self.special.all.sort_unstable();

        let (mut vocabulary, library) = (AddedVocabulary::new(), &self.library);
        let tokens = plain.into_iter().map(|(_, token)| token);
        guarded(|| vocabulary.add_tokens(tokens, &AllTokens(library), library.get_normalizer()))
            .map_err(|e| LoadError::library(origin, e))?;
        self.plain_vocabulary = vocabulary;
        let highest = self.library.get_vocab(true).into_values().max();
        self.vocab_size = highest.map_or(0, |id| id as usize + 1);
        Ok(())
    }

    /// What `tokenizer_config.json` or the GGUF metadata say beside the vocabulary.
    pub fn config(&self) -> &TokenizerConfig {
        &self.config
    }

    /// The ids put before and behind a sequence if special tokens are added.
    pub fn frame(&self) -> (&[TokenId], &[TokenId]) {
        (&self.frame.0, &self.frame.1)
    }

    /// The source of a chat template: the one called `name` or, without a name, `tool_use` if there are tools, and
    /// `default` otherwise. `None` if the model has no template at all.
    ///
    /// # Errors
    /// [`TemplateError::NoSuchTemplate`] if there are templates, but not this one.
    pub fn chat_template_source(&self, name: Option<&str>, with_tools: bool) -> Result<Option<&str>, TemplateError> {
        let templates = &self.config.chat_templates;
        let find = |name: &str| templates.iter().find(|t| t.name == name).map(|t| t.template.as_str());
        let found = match name {
            Some(name) => find(name),
            None => with_tools.then(|| find("tool_use")).flatten().or_else(|| find("default")),
        };
        if found.is_none() && (name.is_some() || !templates.is_empty()) {
            return Err(TemplateError::NoSuchTemplate {
                name: name.unwrap_or("default").to_owned(),
                known: templates.iter().map(|t| t.name.clone()).collect(),
            });
        }
        Ok(found)
    }

    /// The chat template that [`chat_template_source`](Self::chat_template_source) chooses, ready to render.
    pub fn chat_template(&self, name: Option<&str>, with_tools: bool) -> Result<Option<ChatTemplate>, TemplateError> {
        self.chat_template_source(name, with_tools)?.map(ChatTemplate::new).transpose()
    }

    /// Render options that name the model's special tokens as templates expect them (`bos_token`, ...).
    pub fn render_options(&self) -> RenderOptions {
        let text = |id: Option<TokenId>| id.and_then(|id| self.id_to_token(id));
        let mut options = RenderOptions {
            bos_token: text(self.special.bos),
            eos_token: text(self.special.eos.first().copied()),
            ..RenderOptions::default()
        };
        for (key, id) in [("unk_token", self.special.unk), ("pad_token", self.special.pad)] {
            if let Some(token) = text(id) {
                options.extra.insert(key.to_owned(), token.into());
            }
        }
        options
    }

    /// The tokens of `text`, unframed, as the library describes them.
    pub(crate) fn encode_text(
        &self,
        text: &str,
        parse_special: bool,
        offsets: OffsetType,
    ) -> Result<LibraryEncoding, TokenizerError> {
        if text.is_empty() {
            return Ok(LibraryEncoding::default());
        }
        let added = if parse_special { self.library.get_added_vocabulary() } else { &self.plain_vocabulary };
        let encoding = guarded(|| {
            let mut pieces = added.extract_and_normalize(self.library.get_normalizer(), text);
            if let Some(pre_tokenizer) = self.library.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut pieces)?;
            }
            pieces.tokenize(|piece| self.tokenize_piece(piece.get(), parse_special))?;
            pieces.into_encoding(None, 0, offsets)
        });
        encoding.map_err(TokenizerError::Encode)
    }

    /// The tokens of a piece of normalized text in which no added token is left to find.
    fn tokenize_piece(&self, piece: &str, parse_special: bool) -> tokenizers::Result<Vec<Token>> {
        let tokens = self.model_tokens(piece)?;
        if parse_special || !tokens.iter().any(|token| self.spells_special(token, piece)) {
            return Ok(tokens);
        }
        // The model itself spelled a special token, which plain text must not become: write it character by character.
        let mut plain = Vec::with_capacity(tokens.len());
        for token in tokens {
            if !self.spells_special(&token, piece) {
                plain.push(token);
                continue;
            }
            let (start, end) = token.offsets;
            for (at, c) in piece[start..end].char_indices() {
                let from = start + at;
                let mut characters = self.model_tokens(&piece[from..from + c.len_utf8()])?;
                characters.iter_mut().for_each(|t| t.offsets = (from + t.offsets.0, from + t.offsets.1));
                plain.extend(characters.into_iter().filter(|t| !self.spells_special(t, piece)));
            }
        }
        Ok(plain)
    }

    /// Whether a token of the model is a special one. The unknown token is not, where it stands for something else than
    /// its own name.
    fn spells_special(&self, token: &Token, piece: &str) -> bool {
        let is_name = || self.id_to_token(token.id).as_deref() == piece.get(token.offsets.0..token.offsets.1);
        self.is_special(token.id) && (self.special.unk != Some(token.id) || is_name())
    }

    fn model_tokens(&self, piece: &str) -> tokenizers::Result<Vec<Token>> {
        if let Some(sentencepiece) = &self.sentencepiece {
            return sentencepiece.tokenize(piece).map_err(Into::into);
        }
        let model = self.library.get_model();
        let tokens = model.tokenize(piece)?;
        if matches!(model, ModelWrapper::BPE(_)) {
            let covered: usize = tokens.iter().map(|t| t.offsets.1 - t.offsets.0).sum();
            if covered < piece.len() {
                tracing::warn!(
                    "the vocabulary has no token for {} bytes of {piece:?}: left out",
                    piece.len() - covered
                );
            }
        }
        Ok(tokens)
    }

    fn is_special(&self, id: TokenId) -> bool {
        self.special.all.binary_search(&id).is_ok()
    }

    /// The token as decoding starts from it.
    fn piece(&self, id: TokenId) -> Result<Piece, TokenizerError> {
        let unknown = TokenizerError::UnknownId { id, vocab_size: self.vocab_size };
        let token = self.library.id_to_token(id).ok_or(unknown)?;
        let added = self.library.get_added_vocabulary().get_added_tokens_decoder();
        Ok(Piece { bytes: token.into_bytes(), verbatim: self.added_verbatim && added.contains_key(&id) })
    }

    fn decode_pieces(&self, pieces: Vec<Piece>, position: Position) -> Result<Vec<u8>, TokenizerError> {
        guarded(|| self.decoder.decode(pieces, position)).map_err(TokenizerError::Encode)
    }
}

impl Tokenizer for HfTokenizer {
    fn encode(&self, text: &str, options: EncodeOptions) -> Result<Encoding, TokenizerError> {
        let encoding = self.encode_text(text, options.parse_special, OffsetType::Byte)?;
        let mut encoding = Encoding {
            ids: encoding.get_ids().to_vec(),
            offsets: encoding.get_offsets().iter().map(|&(start, end)| start..end).collect(),
        };
        if options.add_special_tokens {
            let (before, after) = &self.frame;
            encoding.ids.splice(0..0, before.iter().copied());
            encoding.offsets.splice(0..0, before.iter().map(|_| 0..0));
            encoding.ids.extend(after);
            encoding.offsets.extend(after.iter().map(|_| 0..0));
        }
        Ok(encoding)
    }

    fn decode(&self, ids: &[TokenId], skip_special_tokens: bool) -> Result<Vec<u8>, TokenizerError> {
        let mut pieces = Vec::with_capacity(ids.len());
        for &id in ids {
            let piece = self.piece(id)?;
            if !(skip_special_tokens && self.is_special(id)) {
                pieces.push(piece);
            }
        }
        let bytes = self.decode_pieces(pieces, Position::Whole)?;
        let is_bpe = matches!(self.library.get_model(), ModelWrapper::BPE(_));
        if self.config.clean_up_tokenization_spaces && (!is_bpe || self.config.clean_up_bpe_too) {
            return Ok(clean_up_spaces(&bytes));
        }
        Ok(bytes)
    }

    fn token_bytes(&self, id: TokenId) -> Result<Vec<u8>, TokenizerError> {
        self.decode_pieces(vec![self.piece(id)?], Position::Inside)
    }

    fn token_to_id(&self, token: &str) -> Option<TokenId> {
        self.library.token_to_id(token)
    }

    fn id_to_token(&self, id: TokenId) -> Option<String> {
        let added = self.library.get_added_vocabulary().get_added_tokens_decoder();
        // The library would give an added token as its normalizer writes it.
        added.get(&id).map(|token| token.content.clone()).or_else(|| self.library.get_model().id_to_token(id))
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn special_tokens(&self) -> &SpecialTokens {
        &self.special
    }
}

impl fmt::Debug for HfTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HfTokenizer")
            .field("vocab_size", &self.vocab_size)
            .field("frame", &self.frame)
            .field("special", &self.special)
            .finish_non_exhaustive()
    }
}

/// The spaces that word-piece tokenizers leave before punctuation and contractions
/// (`clean_up_tokenization` of transformers).
fn clean_up_spaces(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut text = chunk.valid().to_owned();
        for word in [".", "?", "!", ","] {
            text = text.replace(&format!(" {word}"), word);
        }
        text = text.replace(" ' ", "'");
        for word in ["n't", "'m", "'s", "'ve", "'re"] {
            text = text.replace(&format!(" {word}"), word);
        }
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    out
}

/// A library tokenizer's tokens, added ones included, as a model: so that a second set of added tokens gets the ids of
/// the first. Nothing is tokenized with it.
struct AllTokens<'a>(&'a Library);

impl Model for AllTokens<'_> {
    type Trainer = BpeTrainer;

    fn tokenize(&self, _: &str) -> tokenizers::Result<Vec<Token>> {
        Err("this only looks up ids".into())
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.0.id_to_token(id)
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.0.get_vocab(true)
    }

    fn get_vocab_size(&self) -> usize {
        self.0.get_vocab_size(true)
    }

    fn save(&self, _: &Path, _: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("this only looks up ids".into())
    }

    fn get_trainer(&self) -> BpeTrainer {
        BpeTrainer::default()
    }
}
