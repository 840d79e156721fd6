//! Words of Rust source outside comments and literals: enough of a lexer to find a keyword, and no more.

/// The lines (from 1) on which the identifier or keyword `word` stands in code.
pub fn lines_with_word(text: &str, word: &str) -> Vec<usize> {
    let mut lexer = Lexer { rest: text, line: 1 };
    let mut lines = Vec::new();
    while let Some((found, line)) = lexer.next_word() {
        if found == word {
            lines.push(line);
        }
    }
    lines
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lexer<'a> {
    /// The next identifier or keyword and its line. Prefixes of literals (`b"..."`) and raw identifiers are skipped.
    fn next_word(&mut self) -> Option<(&'a str, usize)> {
        loop {
            let first = self.rest.chars().next()?;
            if self.rest.starts_with("//") {
                self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
            } else if self.rest.starts_with("/*") {
                self.skip(block_comment_len(self.rest));
            } else if first == '"' {
                self.skip(quoted_len(self.rest, '"'));
            } else if first == '\'' {
                self.skip(char_or_lifetime_len(self.rest));
            } else if is_word(first) {
                let word = &self.rest[..self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len())];
                let behind = &self.rest[word.len()..];
                match raw_len(word, behind) {
                    Some(len) => self.skip(word.len() + len),
                    None => {
                        let line = self.line;
                        self.skip(word.len());
                        return Some((word, line));
                    }
                }
            } else {
                self.skip(first.len_utf8());
            }
        }
    }

    fn skip(&mut self, len: usize) {
        let (skipped, rest) = self.rest.split_at(len);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Block comments nest in Rust.
fn block_comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// A literal that begins with its quote and ends with the next one that no backslash escapes.
fn quoted_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// `'a'` and `'\n'` are characters; `'a` in `&'a str` is a lifetime, of which only the quote is skipped here.
fn char_or_lifetime_len(text: &str) -> usize {
    let mut behind = text.chars().skip(1);
    match (behind.next(), behind.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted_len(text, '\''),
        _ => 1,
    }
}

/// The length of what stands behind the prefix `word` of a raw string or raw identifier; None if it is no such prefix.
fn raw_len(word: &str, behind: &str) -> Option<usize> {
    let is_raw = matches!(word, "r" | "br" | "cr");
    let hashes = behind.bytes().take_while(|byte| *byte == b'#').count();
    if !is_raw {
        return None;
    }
    let body = &behind[hashes..];
    if !body.starts_with('"') {
        // `r#unsafe` is an identifier of that name, not the keyword.
        let name = body.find(|c| !is_word(c)).unwrap_or(body.len());
        return (hashes == 1 && name > 0).then_some(1 + name);
    }
    let end = format!("\"{}", "#".repeat(hashes));
    Some(body[1..].find(&end).map_or(behind.len(), |at| hashes + 1 + at + end.len()))
}

#[cfg(test)]
mod tests {
    use super::lines_with_word;

    #[test]
    fn code_is_found() {
        assert_eq!(lines_with_word("unsafe impl Send for X {}\n\nlet x = unsafe{f()};", "unsafe"), [1, 3]);
        assert_eq!(lines_with_word("#[unsafe(no_mangle)]\nfn f<'a>(x: &'a str) { unsafe {} }", "unsafe"), [1, 2]);
        assert_eq!(lines_with_word("let c = ['\"', '\\'', '\\\\']; unsafe {}", "unsafe"), [1]);
        assert_eq!(lines_with_word("let s = \"multi\nline\"; /* and\n*/ unsafe {}", "unsafe"), [3]);
        assert_eq!(lines_with_word("let s = br#\"a\"b\"#; unsafe {}", "unsafe"), [1]);
        assert_eq!(lines_with_word("let s = \"\\\\\"; unsafe {}", "unsafe"), [1]);
    }

    #[test]
    fn comments_literals_and_longer_words_are_not_code() {
        for text in [
            "// unsafe",
            "/// unsafe",
            "/* /* */ unsafe */",
            "/* unsafe",
            "\"unsafe \\\" unsafe\"",
            "r#\"\" unsafe\"#",
            "b\"unsafe\" c\"unsafe\"",
            "r\"\\\" ; let x = r#\"unsafe\"#",
            "#![forbid(unsafe_code)]",
            "r#unsafe",
            "not_unsafe",
            "\"unsafe",
        ] {
            assert_eq!(lines_with_word(text, "unsafe"), [0; 0], "{text}");
        }
    }
}
