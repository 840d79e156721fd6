//! From bytes to text: characters across tokens, stop strings across tokens.

use camelid_engine::text::TextStream;

use crate::case::{Case, Context, Evidence, Problem, Profile};
use crate::check;

/// Name, stop strings, bytes as they come, the text, the stop string that ends it.
type Stream = (&'static str, &'static [&'static str], &'static [u8], &'static str, Option<&'static str>);

/// Each is fed whole, byte by byte, and in pieces of two, three and five.
const STREAMS: &[Stream] = &[
    ("plain", &[], b"plain text", "plain text", None),
    ("empty", &["x"], b"", "", None),
    ("two_bytes", &[], "naïve é".as_bytes(), "naïve é", None),
    ("four_bytes", &[], "a😀b🎉".as_bytes(), "a😀b🎉", None),
    ("joined_emoji", &[], "👩‍👩‍👧‍👦".as_bytes(), "👩‍👩‍👧‍👦", None),
    ("combining", &["é"], "cafe\u{301}".as_bytes(), "cafe\u{301}", None),
    ("cut_off", &[], b"x\xf0\x9f\x98", "x\u{fffd}", None),
    ("stray", &[], b"a\x80b\xffc", "a\u{fffd}b\u{fffd}c", None),
    ("overlong", &[], b"\xc0\x80!", "\u{fffd}\u{fffd}!", None),
    ("surrogate", &[], b"\xed\xa0\x80!", "\u{fffd}\u{fffd}\u{fffd}!", None),
    ("broken_then_whole", &[], b"\xe2\x82\xc3\xa9", "\u{fffd}é", None),
    ("stop", &["</s>"], b"text</s>more", "text", Some("</s>")),
    ("stop_at_once", &["<"], b"<b>", "", Some("<")),
    ("stop_at_the_end", &["."], b"A sentence.", "A sentence", Some(".")),
    ("almost", &["</s>"], b"a </s b </ c <", "a </s b </ c <", None),
    ("again_and_again", &["aab"], b"aaaaab!", "aaa", Some("aab")),
    ("self_overlap", &["abab!"], b"ababab!", "ab", Some("abab!")),
    ("first_to_end", &["cd", "abcdef"], b"xabcdef", "xab", Some("cd")),
    ("longest_at_once", &["b", "ab", "xxb"], b"xab", "x", Some("ab")),
    ("newlines", &["\n\n"], b"one\ntwo\n\nthree", "one\ntwo", Some("\n\n")),
    ("unicode_stop", &["né"], "nènné!".as_bytes(), "nèn", Some("né")),
    ("shared_bytes", &["è", "€"], "é₭a€b".as_bytes(), "é₭a", Some("€")),
    ("emoji_stop", &["🎉"], "yes 🎊🎉 no".as_bytes(), "yes 🎊", Some("🎉")),
    ("chat_stop", &["<|im_end|>", "\nUser:"], b"Sure.\nUse: x\nUser: y", "Sure.\nUse: x", Some("\nUser:")),
    ("replaced_stop", &["\u{fffd}"], b"x\xf0\x9f\x98", "x", Some("\u{fffd}")),
    ("twelve_stops", &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", ":", ";"], b"ten; 10", "ten", Some(";")),
];

/// Its cases.
pub(super) fn cases() -> Vec<Case> {
    let make = |stream: &'static Stream| {
        let about = "the text up to the first stop string, however the bytes are divided";
        Case::new(format!("generate/text/{}", stream.0), Profile::Core, about, move |_: &Context<'_>| fed(stream))
    };
    let mut cases: Vec<Case> = STREAMS.iter().map(make).collect();
    let about = "an empty stop string is refused";
    cases.push(Case::new("generate/text/empty_stop", Profile::Core, about, |_: &Context<'_>| {
        check!(TextStream::new(vec!["a".into(), String::new()]).is_err(), "an empty stop string was taken");
        Ok(Evidence::default())
    }));
    cases
}

fn fed((_, stops, bytes, text, matched): &Stream) -> Result<Evidence, Problem> {
    for size in [bytes.len().max(1), 1, 2, 3, 5] {
        let stops = stops.iter().map(|s| (*s).to_owned()).collect();
        let mut stream = TextStream::new(stops).map_err(|e| Problem::fail(e.to_string()))?;
        let (mut found, mut stopped) = (String::new(), false);
        for piece in bytes.chunks(size) {
            let piece = stream.push(piece);
            found.push_str(&piece.text);
            check!(!stopped || piece.text.is_empty(), "pieces of {size}: {:?} came after the stop string", piece.text);
            stopped |= piece.stopped;
            // What is shown is never taken back.
            check!(text.starts_with(&found), "pieces of {size}: {found:?} was shown, of {text:?}");
        }
        found.push_str(&stream.finish());
        check!(found == *text, "pieces of {size}: the text is {found:?}, expected {text:?}");
        check!(stream.matched() == *matched, "pieces of {size}: ended by {:?}, expected {matched:?}", stream.matched());
    }
    Ok(Evidence::default())
}
