//! From the bytes of tokens to text that is safe to show while it streams.
//!
//! [`Utf8Stream`] holds back half characters, [`StopMatcher`] what may become a stop string, [`TextStream`] joins the
//! two. Nothing here knows tokens or vocabularies: bytes come in. Start reading at [`TextStream`].

mod stop;
mod utf8;

pub use stop::{StopError, StopMatcher};
pub use utf8::Utf8Stream;

/// Text that is certain, and whether it is the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Whole characters, none of them part of a stop string. Often empty.
    pub text: String,
    /// A stop string has appeared: nothing comes after `text`.
    pub stopped: bool,
}

/// Turns the bytes of tokens, as they come, into text without half characters and without stop strings.
///
/// All pieces and [`TextStream::finish`] together give the text of all bytes up to the first stop string, however the
/// bytes were divided.
#[derive(Clone, Debug)]
pub struct TextStream {
    utf8: Utf8Stream,
    stop: StopMatcher,
}

impl TextStream {
    /// A stream that ends at the first of `stops`; at the end of the input, if there are none.
    ///
    /// # Errors
    /// [`StopError::Empty`].
    pub fn new(stops: Vec<String>) -> Result<TextStream, StopError> {
        Ok(TextStream { utf8: Utf8Stream::default(), stop: StopMatcher::new(stops)? })
    }

    /// Takes the next token's bytes and gives the text that is certain by now.
    pub fn push(&mut self, bytes: &[u8]) -> Piece {
        let text = self.utf8.push(bytes);
        self.stop.push(&text)
    }

    /// The input has ended: gives what was held back, if no stop string has appeared. A character that the input left
    /// incomplete becomes U+FFFD. Further calls give nothing.
    pub fn finish(&mut self) -> String {
        let tail = self.utf8.finish();
        let mut text = self.stop.push(&tail).text;
        text.push_str(&self.stop.finish());
        text
    }

    /// The stop string that has appeared.
    pub fn matched(&self) -> Option<&str> {
        self.stop.matched()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(stops: &[&str]) -> TextStream {
        TextStream::new(stops.iter().map(|s| s.to_string()).collect()).unwrap()
    }

    #[test]
    fn characters_and_stop_strings_are_joined_across_tokens() {
        let mut s = stream(&["né!"]);
        let tokens: [&[u8]; 5] = [b"A n", &[0xc3], &[0xa9], b"e n\xc3", b"\xa9!tail"];
        let pieces: Vec<Piece> = tokens.iter().map(|t| s.push(t)).collect();
        let texts: Vec<&str> = pieces.iter().map(|p| p.text.as_str()).collect();
        assert_eq!(texts, ["A ", "", "", "née ", ""]);
        assert_eq!(pieces.iter().map(|p| p.stopped).collect::<Vec<_>>(), [false, false, false, false, true]);
        assert_eq!(s.matched(), Some("né!"));
        assert_eq!(s.push(b"more"), Piece { text: String::new(), stopped: true });
        assert_eq!(s.finish(), "");
    }

    #[test]
    fn finishing_lets_go_of_what_was_held_back() {
        let mut s = stream(&["stop"]);
        assert_eq!(s.push(b"do not sto\xe2\x82").text, "do not ");
        assert_eq!(s.finish(), "sto\u{fffd}");
        assert_eq!(s.finish(), "");
        assert_eq!(s.matched(), None);
    }

    #[test]
    fn an_incomplete_character_at_the_end_may_complete_a_stop_string() {
        let mut s = stream(&["\u{fffd}"]);
        assert_eq!(s.push(b"x\xf0\x9f\x98").text, "x");
        assert_eq!(s.finish(), "");
        assert_eq!(s.matched(), Some("\u{fffd}"));
    }

    #[test]
    fn without_stop_strings_nothing_but_half_characters_is_held_back() {
        let mut s = stream(&[]);
        assert_eq!(s.push(b"abc \xf0\x9f\x98").text, "abc ");
        assert_eq!(s.push(&[0x80]), Piece { text: "\u{1f600}".into(), stopped: false });
    }
}
