//! "Did you mean": the nearest of the names there are.

/// The candidate that `wanted` most likely misspells, if one is near enough to be worth saying.
pub(crate) fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names are short; a text of another order of length is none of them, and comparing costs the product of both.
    if wanted.len() > 128 {
        return None;
    }
    let wanted = wanted.to_lowercase();
    let allowed = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&wanted, &c.to_lowercase()), c))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, c)| c)
}

/// `; did you mean ...?`, or nothing.
pub(crate) fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["context_size", "batch_size", "cache"];
        assert_eq!(nearest("contxt_size", names), Some("context_size"));
        assert_eq!(nearest("Cache", names), Some("cache"));
        assert_eq!(nearest("plugin", names), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), names), None);
    }
}
