//! [`StopMatcher`]: text in, text up to the first stop string out.

use thiserror::Error;

use super::Piece;

/// Why stop strings cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopError {
    /// An empty stop string would end every text before it begins.
    #[error("stop string {index} is empty; leave it out or give it some text")]
    Empty {
        /// Its index in the list.
        index: usize,
    },
}

/// Watches streaming text for stop strings.
///
/// The text ends at the first character that completes a stop string. If it completes several, the longest counts, so
/// that no part of any of them is left in the text. (Waiting for a longer one that merely might follow would mean
/// generating on after a stop string is there, so the first to be complete wins, not the first to begin.) What comes
/// out is the same however the text is divided into pieces.
///
/// Held back is only the longest end of the text that a stop string begins with.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    patterns: Vec<Pattern>,
    /// Text that has come and may be part of a stop string.
    held: String,
    matched: Option<usize>,
}

impl StopMatcher {
    /// A matcher for any of `stops`.
    ///
    /// # Errors
    /// [`StopError::Empty`].
    pub fn new(stops: Vec<String>) -> Result<StopMatcher, StopError> {
        if let Some(index) = stops.iter().position(String::is_empty) {
            return Err(StopError::Empty { index });
        }
        let patterns = stops.into_iter().map(Pattern::new).collect();
        Ok(StopMatcher { patterns, held: String::new(), matched: None })
    }

    /// Takes the next text and gives what is certain by now. After a stop string it gives nothing more.
    pub fn push(&mut self, text: &str) -> Piece {
        if self.matched.is_some() {
            return Piece { text: String::new(), stopped: true };
        }
        let seen = self.held.len();
        let mut all = std::mem::take(&mut self.held);
        all.push_str(text);
        for (i, byte) in text.bytes().enumerate() {
            if let Some(index) = self.advance(byte) {
                all.truncate(seen + i + 1 - self.patterns[index].text.len());
                self.matched = Some(index);
                return Piece { text: all, stopped: true };
            }
        }
        // A pattern begins with a whole character, so this is a boundary between two.
        let held = self.patterns.iter().map(|p| p.matching).max().unwrap_or(0);
        self.held = all.split_off(all.len() - held);
        Piece { text: all, stopped: false }
    }

    /// The text has ended: gives what was held back.
    pub fn finish(&mut self) -> String {
        self.patterns.iter_mut().for_each(|p| p.matching = 0);
        std::mem::take(&mut self.held)
    }

    /// The stop string that has appeared.
    pub fn matched(&self) -> Option<&str> {
        self.matched.map(|index| self.patterns[index].text.as_str())
    }

    /// Takes a byte; the longest pattern that it completes.
    fn advance(&mut self, byte: u8) -> Option<usize> {
        self.patterns.iter_mut().for_each(|p| p.advance(byte));
        let complete = self.patterns.iter().enumerate().filter(|(_, p)| p.matching == p.text.len());
        complete.max_by_key(|(_, p)| p.matching).map(|(index, _)| index)
    }
}

/// A stop string on its way to being found, after Knuth, Morris and Pratt (SIAM Journal on Computing 6, 1977).
#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    /// For each length of a match so far, the next shorter one that the same bytes allow: the longest proper beginning
    /// of `text[..n + 1]` that is also its end.
    shorter: Vec<usize>,
    /// How much of the pattern the text ends with; never the whole between two pushes.
    matching: usize,
}

impl Pattern {
    fn new(text: String) -> Pattern {
        let bytes = text.as_bytes();
        let mut shorter = vec![0; bytes.len()];
        for i in 1..bytes.len() {
            shorter[i] = extend(bytes, &shorter, shorter[i - 1], bytes[i]);
        }
        Pattern { text, shorter, matching: 0 }
    }

    fn advance(&mut self, byte: u8) {
        self.matching = extend(self.text.as_bytes(), &self.shorter, self.matching, byte);
    }
}

/// The length of the match after `byte`, where it was `matching` (not the whole pattern) before.
fn extend(pattern: &[u8], shorter: &[usize], mut matching: usize, byte: u8) -> usize {
    while pattern[matching] != byte {
        if matching == 0 {
            return 0;
        }
        matching = shorter[matching - 1];
    }
    matching + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matcher(stops: &[&str]) -> StopMatcher {
        StopMatcher::new(stops.iter().map(|s| s.to_string()).collect()).unwrap()
    }

    /// The pieces' texts, then what finishing gives.
    fn stream(stops: &[&str], pieces: &[&str]) -> Vec<String> {
        let mut m = matcher(stops);
        let mut texts: Vec<String> = pieces.iter().map(|p| m.push(p).text).collect();
        texts.push(m.finish());
        texts
    }

    #[test]
    fn a_stop_string_across_pieces_never_shows() {
        assert_eq!(stream(&["</s>"], &["a <", "/", "s", "> b"]), ["a ", "", "", "", ""]);
        assert_eq!(stream(&["</s>"], &["a <", "/", "b>"]), ["a ", "", "</b>", ""]);
        assert_eq!(stream(&["</s>"], &["a </s"]), ["a ", "</s"], "it was none after all");
        assert_eq!(stream(&["x"], &["axb", "c"]), ["a", "", ""]);
    }

    #[test]
    fn overlapping_beginnings_are_found() {
        assert_eq!(stream(&["aab"], &["a", "a", "a", "b"]), ["", "", "a", "", ""]);
        assert_eq!(stream(&["abab!"], &["ababab", "!"]), ["ab", "", ""]);
        assert_eq!(stream(&["aaaa"], &["aaab", "aaa"]), ["aaab", "", "aaa"]);
    }

    #[test]
    fn the_first_to_be_complete_wins_and_of_those_the_longest() {
        let stopped_by = |stops: &[&str], text: &str| {
            let mut m = matcher(stops);
            let piece = m.push(text);
            assert!(piece.stopped);
            (piece.text, m.matched().unwrap().to_string())
        };
        assert_eq!(stopped_by(&["cd", "abcdef"], "xabcdef"), ("xab".into(), "cd".into()));
        assert_eq!(stopped_by(&["b", "ab", "xxb"], "xab"), ("x".into(), "ab".into()));
        assert_eq!(stopped_by(&["abc", "ab"], "abc"), ("".into(), "ab".into()));
    }

    #[test]
    fn characters_that_share_bytes_are_told_apart() {
        // é is c3 a9, è is c3 a8, € and ₭ share two of three bytes.
        assert_eq!(stream(&["è", "€"], &["é", "₭", "a€b"]), ["é", "₭", "a", ""]);
        assert_eq!(stream(&["né"], &["nènn", "é"]), ["nèn", "", ""]);
    }

    #[test]
    fn after_the_stop_nothing_comes() {
        let mut m = matcher(&["."]);
        assert_eq!(m.push("a.b."), Piece { text: "a".into(), stopped: true });
        assert_eq!(m.push("c"), Piece { text: String::new(), stopped: true });
        assert_eq!(m.finish(), "");
    }

    #[test]
    fn an_empty_stop_string_is_an_error() {
        let error = StopMatcher::new(vec!["a".into(), String::new()]).unwrap_err();
        assert_eq!(error, StopError::Empty { index: 1 });
        assert!(error.to_string().starts_with("stop string 1 is empty"));
    }

    /// The definition: try every end of the text from the front, and at each the longest stop string first.
    fn by_definition<'a>(stops: &'a [String], text: &'a str) -> (&'a str, Option<usize>) {
        for end in 0..=text.len() {
            let here = stops.iter().filter(|s| text.as_bytes()[..end].ends_with(s.as_bytes()));
            if let Some(len) = here.map(String::len).max() {
                return (&text[..end - len], Some(len));
            }
        }
        (text, None)
    }

    fn word(max: usize) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(&['a', 'b', 'é', 'è', '😀'][..]), 1..=max)
            .prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_division_gives_what_a_search_of_the_whole_gives(
            stops in prop::collection::vec(word(4), 0..5),
            pieces in prop::collection::vec(word(5), 0..8),
        ) {
            let whole = pieces.concat();
            let (expected, len) = by_definition(&stops, &whole);
            let mut m = StopMatcher::new(stops.clone()).unwrap();
            let mut text = String::new();
            let mut so_far = String::new();
            for piece in &pieces {
                let out = m.push(piece);
                so_far += piece;
                text += &out.text;
                // Not before the stop string is complete, and no later.
                prop_assert_eq!(out.stopped, by_definition(&stops, &so_far).1.is_some());
                if !out.stopped {
                    // What is held back is the beginning of a stop string, and nothing more than that.
                    prop_assert_eq!(&so_far, &format!("{text}{}", m.held));
                    prop_assert!(m.held.is_empty() || stops.iter().any(|s| s.starts_with(&m.held)));
                }
            }
            text += &m.finish();
            prop_assert_eq!(text, expected);
            prop_assert_eq!(m.matched().map(str::len), len);
        }
    }
}
