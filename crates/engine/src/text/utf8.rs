//! [`Utf8Stream`]: bytes in, whole characters out.

/// Turns bytes, as they come, into text.
///
/// A token may end inside a character: those bytes, three at most, wait for the rest. Bytes that can belong to no
/// character become U+FFFD, one for each maximal subpart (Unicode 16, section 3.9), so that all pieces together are
/// what [`String::from_utf8_lossy`] makes of all bytes.
#[derive(Clone, Debug, Default)]
pub struct Utf8Stream {
    /// The beginning of a character, valid so far.
    tail: Vec<u8>,
}

impl Utf8Stream {
    /// Takes the next bytes and gives the characters that are complete.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.tail);
        all.extend_from_slice(bytes);
        let mut text = String::with_capacity(all.len());
        let mut chunks = all.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            if chunks.peek().is_none() && may_go_on(invalid) {
                self.tail = invalid.to_vec();
            } else if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }

    /// The input has ended: a character that lacks its end becomes U+FFFD. The stream can be used again.
    pub fn finish(&mut self) -> String {
        let tail = std::mem::take(&mut self.tail);
        if tail.is_empty() { String::new() } else { char::REPLACEMENT_CHARACTER.to_string() }
    }
}

/// Whether the bytes are the beginning of a character that lacks its end.
fn may_go_on(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_character_comes_when_it_is_complete() {
        let mut s = Utf8Stream::default();
        let bytes = "aß€😀".as_bytes();
        let pieces: Vec<String> = bytes.iter().map(|b| s.push(&[*b])).collect();
        assert_eq!(pieces, ["a", "", "ß", "", "", "€", "", "", "", "😀"]);
        assert_eq!(s.finish(), "");
    }

    #[test]
    fn invalid_bytes_become_one_replacement_for_each_maximal_subpart() {
        // The table of Unicode 16, section 3.9: a cut-off character is one, bytes that begin none are one each.
        let mut s = Utf8Stream::default();
        let text = s.push(b"\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64");
        assert_eq!(text, "a\u{fffd}\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}d");
        assert_eq!(s.push(b"x\xff"), "x\u{fffd}", "what begins no character waits for nothing");
        assert_eq!(s.push(b"\xc3"), "");
        assert_eq!(s.push(b"x"), "\u{fffd}x", "what came does not go on with what was held back");
        assert_eq!(s.push(b"\xf0\x90\x80"), "");
        assert_eq!((s.finish().as_str(), s.finish().as_str()), ("\u{fffd}", ""));
    }

    fn bytes_with_characters() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..4),
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            // Beginnings of characters, surrogates and overlong forms among them.
            prop::sample::select(&[0xc3u8, 0xe2, 0xed, 0xe0, 0xf0, 0xf4, 0xff][..]).prop_map(|b| vec![b]),
            prop::collection::vec(0x80u8..0xc0, 0..4),
        ];
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn any_division_gives_the_lossy_text_of_the_whole(
            bytes in bytes_with_characters(),
            cuts in prop::collection::vec(0usize..8, 1..20),
        ) {
            let mut s = Utf8Stream::default();
            let mut text = String::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle().take(200) {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                text += &s.push(now);
                prop_assert!(s.tail.len() <= 3);
                rest = later;
            }
            text += &s.push(rest);
            text += &s.finish();
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
