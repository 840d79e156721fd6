//! Tokenizers with one fault, around an honest one.

use camelid_core::tokenizer::{EncodeOptions, Encoding, SpecialTokens, TokenId, Tokenizer, TokenizerError};

use crate::{Level, Mutant, fire};

const fn mutant(id: &'static str, about: &'static str) -> Mutant {
    Mutant { id, level: Level::Tokenizer, about, cases: &[] }
}

/// Every fault of a tokenizer; [`FaultyTokenizer`] knows them by name.
pub(crate) const MUTANTS: &[Mutant] = &[
    mutant("tokenizer_bos_missing", "no token is put in front"),
    mutant("tokenizer_bos_twice", "the token in front is put there twice"),
    mutant("tokenizer_bos_always", "the token in front is there when nobody asked for it"),
    mutant("tokenizer_drops_the_last", "the last token of a text is lost"),
    mutant("tokenizer_splits_a_token", "a token is two where it could be one"),
    mutant("tokenizer_lower_case", "texts are taken in lower case"),
    mutant("tokenizer_trims", "space at the end of a text is lost"),
    mutant("tokenizer_collapses_spaces", "two spaces are one"),
    mutant("tokenizer_unix_lines", "a carriage return before a new line is lost"),
    mutant("tokenizer_ends_at_nul", "a text ends at its first zero"),
    mutant("tokenizer_no_characters_above_ffff", "characters beyond 16 bits become others"),
    mutant("tokenizer_special_in_plain_text", "special tokens are recognised in plain text"),
    mutant("tokenizer_special_never", "special tokens are never recognised"),
    mutant("tokenizer_shows_special", "special tokens are not left out"),
    mutant("tokenizer_hides_special", "special tokens are always left out"),
    mutant("tokenizer_keeps_the_first_space", "the space in front of the first word is kept"),
    mutant("tokenizer_strips_all_space", "all space in front is stripped"),
    mutant("tokenizer_lossy", "bytes that are no text are replaced"),
    mutant("tokenizer_drops_half_characters", "bytes that are no text are left out"),
    mutant("tokenizer_bytes_as_names", "a byte is decoded as its name"),
    mutant("tokenizer_stream_without_space", "a token's own space is lost in a stream"),
    mutant("tokenizer_stream_lossy", "a token's bytes are made text one by one"),
    mutant("tokenizer_offsets_one_on", "offsets are a byte too far"),
    mutant("tokenizer_offsets_in_characters", "offsets count characters"),
    mutant("tokenizer_offsets_from_the_token", "every offset begins at the text's beginning"),
    mutant("tokenizer_unknown_ids_are_nothing", "an id outside the vocabulary is decoded to nothing"),
    mutant("tokenizer_names_one_on", "an id has the name of the next one"),
    mutant("tokenizer_one_token_less", "the vocabulary is said to be smaller by one"),
    mutant("tokenizer_names_without_special", "special tokens have no ids"),
    mutant("tokenizer_forgets_a_special", "one special token is not among them"),
];

/// Whether `id` is a fault of a tokenizer.
pub fn is_tokenizer(id: &str) -> bool {
    MUTANTS.iter().any(|m| m.id == id)
}

/// `inner` with the fault called `id`; as it is if there is none of this name.
pub fn tokenizer(id: &str, inner: Box<dyn Tokenizer>) -> Box<dyn Tokenizer> {
    let Some(fault) = MUTANTS.iter().find(|m| m.id == id).map(|m| m.id) else { return inner };
    let mut special = inner.special_tokens().clone();
    if fault == "tokenizer_forgets_a_special" {
        fire();
        special.all.pop();
    }
    Box::new(FaultyTokenizer { inner, fault, special })
}

struct FaultyTokenizer {
    inner: Box<dyn Tokenizer>,
    fault: &'static str,
    special: SpecialTokens,
}

impl FaultyTokenizer {
    fn text(&self, text: &str) -> String {
        match self.fault {
            "tokenizer_lower_case" => text.to_lowercase(),
            "tokenizer_trims" => text.trim_end_matches(' ').to_owned(),
            "tokenizer_collapses_spaces" => text.replace("  ", " "),
            "tokenizer_unix_lines" => text.replace("\r\n", "\n"),
            "tokenizer_ends_at_nul" => text.split('\0').next().unwrap_or_default().to_owned(),
            "tokenizer_no_characters_above_ffff" => {
                text.chars().map(|c| if c > '\u{ffff}' { '\u{fffd}' } else { c }).collect()
            }
            _ => text.to_owned(),
        }
    }

    fn bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        match self.fault {
            "tokenizer_lossy" => String::from_utf8_lossy(&bytes).into_owned().into_bytes(),
            "tokenizer_drops_half_characters" => bytes.utf8_chunks().flat_map(|c| c.valid().bytes()).collect(),
            "tokenizer_strips_all_space" => bytes.trim_ascii_start().to_vec(),
            _ => bytes,
        }
    }
}

fn noted<T: PartialEq>(honest: &T, faulty: T) -> T {
    if *honest != faulty {
        fire();
    }
    faulty
}

impl Tokenizer for FaultyTokenizer {
    fn encode(&self, text: &str, options: EncodeOptions) -> Result<Encoding, TokenizerError> {
        let honest = self.inner.encode(text, options)?;
        let mut asked = options;
        match self.fault {
            "tokenizer_bos_missing" => asked.add_special_tokens = false,
            "tokenizer_bos_always" => asked.add_special_tokens = true,
            "tokenizer_special_in_plain_text" => asked.parse_special = true,
            "tokenizer_special_never" => asked.parse_special = false,
            _ => {}
        }
        let mut faulty = self.inner.encode(&self.text(text), asked)?;
        let added = faulty.ids.first().is_some_and(|id| self.inner.special_tokens().bos == Some(*id));
        match self.fault {
            "tokenizer_bos_twice" if added && options.add_special_tokens => {
                faulty.ids.insert(0, faulty.ids[0]);
                faulty.offsets.insert(0, 0..0);
            }
            "tokenizer_drops_the_last" => {
                faulty.ids.pop();
                faulty.offsets.pop();
            }
            "tokenizer_splits_a_token" => self.split(&mut faulty),
            "tokenizer_offsets_one_on" => {
                faulty.offsets.iter_mut().filter(|r| r.end > 0).for_each(|r| *r = r.start + 1..r.end + 1);
            }
            "tokenizer_offsets_in_characters" => {
                let characters = |at: usize| text.get(..at).map_or(at, |t| t.chars().count());
                faulty.offsets.iter_mut().for_each(|r| *r = characters(r.start)..characters(r.end));
            }
            "tokenizer_offsets_from_the_token" => faulty.offsets.iter_mut().for_each(|r| *r = 0..r.end),
            _ => {}
        }
        Ok(noted(&honest, faulty))
    }

    fn decode(&self, ids: &[TokenId], skip_special_tokens: bool) -> Result<Vec<u8>, TokenizerError> {
        let honest = match self.inner.decode(ids, skip_special_tokens) {
            Err(error) if self.fault == "tokenizer_unknown_ids_are_nothing" => {
                fire();
                drop(error);
                return Ok(Vec::new());
            }
            answer => answer?,
        };
        let skip = match self.fault {
            "tokenizer_shows_special" => false,
            "tokenizer_hides_special" => true,
            _ => skip_special_tokens,
        };
        let faulty = match self.fault {
            "tokenizer_keeps_the_first_space" => {
                let all = &self.inner.special_tokens().all;
                let ids = ids.iter().filter(|id| !skip || !all.contains(id));
                ids.map(|id| self.inner.token_bytes(*id)).collect::<Result<Vec<_>, _>>()?.concat()
            }
            "tokenizer_bytes_as_names" => {
                let name = |id: &TokenId| self.inner.id_to_token(*id).filter(|name| name.starts_with("<0x"));
                match ids.iter().find_map(name) {
                    Some(name) => [honest.clone(), name.into_bytes()].concat(),
                    None => honest.clone(),
                }
            }
            _ => self.bytes(self.inner.decode(ids, skip)?),
        };
        Ok(noted(&honest, faulty))
    }

    fn token_bytes(&self, id: TokenId) -> Result<Vec<u8>, TokenizerError> {
        let honest = match self.inner.token_bytes(id) {
            Err(_) if self.fault == "tokenizer_unknown_ids_are_nothing" => {
                fire();
                return Ok(Vec::new());
            }
            answer => answer?,
        };
        let faulty = match self.fault {
            "tokenizer_stream_without_space" => honest.strip_prefix(b" ").unwrap_or(&honest).to_vec(),
            "tokenizer_stream_lossy" => String::from_utf8_lossy(&honest).into_owned().into_bytes(),
            _ => honest.clone(),
        };
        Ok(noted(&honest, faulty))
    }

    fn token_to_id(&self, token: &str) -> Option<TokenId> {
        let id = self.inner.token_to_id(token)?;
        if self.fault == "tokenizer_names_without_special" && self.special.all.contains(&id) {
            fire();
            return None;
        }
        Some(id)
    }

    fn id_to_token(&self, id: TokenId) -> Option<String> {
        if self.fault == "tokenizer_names_one_on" {
            fire();
            return self.inner.id_to_token(id + 1);
        }
        self.inner.id_to_token(id)
    }

    fn vocab_size(&self) -> usize {
        if self.fault == "tokenizer_one_token_less" {
            fire();
            return self.inner.vocab_size() - 1;
        }
        self.inner.vocab_size()
    }

    fn special_tokens(&self) -> &SpecialTokens {
        &self.special
    }
}

impl FaultyTokenizer {
    /// The first token whose text two others make becomes those two.
    fn split(&self, encoding: &mut Encoding) {
        for at in 0..encoding.ids.len() {
            let Some(name) = self.inner.id_to_token(encoding.ids[at]) else { continue };
            let halves = name
                .char_indices()
                .skip(1)
                .find_map(|(i, _)| Some([self.inner.token_to_id(&name[..i])?, self.inner.token_to_id(&name[i..])?]));
            if let Some([left, right]) = halves {
                encoding.ids.splice(at..=at, [left, right]);
                encoding.offsets.insert(at, encoding.offsets[at].clone());
                return;
            }
        }
    }
}
