//! Licence expressions as they stand in package manifests.

/// Licences under which a dependency may be, beside Camelid's own: all permissive, none asks more than its notice.
const ACCEPTED: [&str; 12] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether the expression can be satisfied with accepted licences alone; an error says why it cannot be read.
///
/// The grammar is that of SPDX: `OR` binds weaker than `AND`, and the `/` of old manifests means `OR`.
pub fn is_accepted(expression: &str) -> Result<bool, String> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let accepted = any(&mut words)?;
    match words.next() {
        None => Ok(accepted),
        Some(word) => Err(format!("`{word}` follows a whole expression")),
    }
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words) -> Result<bool, String> {
    let mut accepted = all(words)?;
    while words.next_if_eq(&"OR").is_some() {
        accepted |= all(words)?;
    }
    Ok(accepted)
}

fn all(words: &mut Words) -> Result<bool, String> {
    let mut accepted = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        accepted &= one(words)?;
    }
    Ok(accepted)
}

fn one(words: &mut Words) -> Result<bool, String> {
    match words.next() {
        Some("(") => {
            let accepted = any(words)?;
            words.next_if_eq(&")").map(|_| accepted).ok_or_else(|| "`)` is missing".into())
        }
        None | Some("OR" | "AND" | "WITH" | ")") => Err("a licence is missing".into()),
        Some(licence) => {
            let exception = match words.next_if_eq(&"WITH") {
                Some(_) => Some(words.next().ok_or("an exception is missing")?),
                None => None,
            };
            let whole = exception.map_or(licence.to_string(), |exception| format!("{licence} WITH {exception}"));
            Ok(ACCEPTED.contains(&whole.as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_accepted;

    #[test]
    fn expressions_are_read_as_spdx_says() {
        for expression in [
            "MIT",
            "MIT-0",
            "MIT OR Apache-2.0",
            "Apache-2.0/MIT",
            "Apache-2.0 / MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
            "GPL-3.0 AND MIT OR Zlib",
            "((ISC))",
        ] {
            assert_eq!(is_accepted(expression), Ok(true), "{expression}");
        }
        for expression in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR Zlib) AND LGPL-2.1",
            "MIT WITH some-exception",
            "mit",
            "MIT AND (GPL-2.0 OR X)",
        ] {
            assert_eq!(is_accepted(expression), Ok(false), "{expression}");
        }
        for expression in ["", "MIT OR", "(MIT", "MIT)", "MIT MIT", "AND MIT", "MIT WITH", "()"] {
            assert!(is_accepted(expression).is_err(), "{expression}");
        }
    }
}
