//! Which files of a repository make up the model.

use serde_json::Value;

use crate::HubError;
use crate::error::shown;
use crate::name::{RepoId, check_path};

const SINGLE: &str = "model.safetensors";
/// Names the shards of weights in several files.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// What describes a model and its tokenizer, beside every file whose name begins with `tokenizer` or `chat_template`.
const DESCRIPTIONS: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "params.json",
    "preprocessor_config.json",
    "quantize_config.json",
];

/// The files to get first, those that describe the model, and then its weights: as they are known from the list alone.
/// With an index among them, the shards are those that [`shards`] reads from it.
///
/// Of several kinds of weights one is taken: `model.safetensors`, else the shards of an index, else other safetensors
/// files, else the one GGUF file, else pickled files of Meta or PyTorch. As transformers does, a single file comes before
/// an index. Only files at the top count: folders hold the same weights in other forms.
pub(crate) fn select(repo: &RepoId, files: &[String]) -> Result<Vec<String>, HubError> {
    let top: Vec<&String> = files.iter().filter(|f| !f.contains('/')).collect();
    let having = |matches: &dyn Fn(&str) -> bool| -> Vec<String> {
        top.iter().filter(|f| matches(f)).map(|f| (*f).clone()).collect()
    };
    let mut chosen = having(&|f| {
        DESCRIPTIONS.contains(&f)
            || f.starts_with("tokenizer")
            || f.starts_with("chat_template")
            || f.ends_with(".tiktoken")
    });
    chosen
        .extend(files.iter().filter(|f| f.starts_with("additional_chat_templates/") && f.ends_with(".jinja")).cloned());

    let safetensors = having(&|f| f.ends_with(".safetensors"));
    let of_meta = |f: &str| f.starts_with("consolidated");
    let whole: Vec<String> =
        safetensors.iter().filter(|f| !of_meta(f) && !f.starts_with("adapter_")).cloned().collect();
    let gguf = having(&|f| f.ends_with(".gguf"));
    let pth = having(&|f| of_meta(f) && f.ends_with(".pth"));
    let bin = having(&|f| f.starts_with("pytorch_model") && (f.ends_with(".bin") || f.ends_with(".bin.index.json")));
    let weights = if safetensors.iter().any(|f| f == SINGLE) {
        vec![SINGLE.to_owned()]
    } else if top.iter().any(|f| *f == INDEX) {
        vec![INDEX.to_owned()]
    } else if !whole.is_empty() {
        whole
    } else if !safetensors.is_empty() {
        safetensors
    } else if gguf.len() > 1 {
        return Err(HubError::SeveralModels { repo: repo.to_string(), files: gguf });
    } else if !gguf.is_empty() {
        gguf
    } else if !pth.is_empty() {
        pth
    } else if !bin.is_empty() {
        bin
    } else {
        return Err(HubError::NoWeights { repo: repo.to_string() });
    };
    chosen.extend(weights);
    Ok(chosen)
}

/// The shards that an index names, each once. An error completes a sentence that begins with the index.
pub(crate) fn shards(index: &[u8]) -> Result<Vec<String>, String> {
    let json: Value = serde_json::from_slice(index).map_err(|e| format!("is not JSON: {e}"))?;
    let map = json["weight_map"].as_object().ok_or("has no `weight_map`")?;
    let mut names = Vec::new();
    for value in map.values() {
        let name = value.as_str().ok_or("names a shard that is no text")?;
        check_path(name).map_err(|reason| format!("names the shard `{}`, which {reason}", shown(name)))?;
        names.push(name.to_owned());
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select_from(files: &[&str]) -> Result<Vec<String>, HubError> {
        let files: Vec<String> = files.iter().map(|f| (*f).to_owned()).collect();
        select(&"a/b".parse().unwrap(), &files)
    }

    #[test]
    fn one_kind_of_weights_is_taken_with_all_that_describes_them() {
        let all = [
            ".gitattributes",
            "README.md",
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "tokenizer.model",
            "chat_template.jinja",
            "additional_chat_templates/rag.jinja",
            "model.safetensors",
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "pytorch_model.bin",
            "consolidated.00.pth",
            "original/consolidated.00.pth",
            "onnx/model.onnx",
            "x.Q8_0.gguf",
            "trainer_state.json",
        ];
        let chosen = select_from(&all).unwrap();
        assert_eq!(
            chosen,
            [
                "config.json",
                "generation_config.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "tokenizer.model",
                "chat_template.jinja",
                "additional_chat_templates/rag.jinja",
                "model.safetensors",
            ]
        );
        let without = |gone: &[&str]| {
            let files: Vec<&str> = all.iter().copied().filter(|f| !gone.contains(f)).collect();
            select_from(&files).unwrap().pop().unwrap()
        };
        assert_eq!(without(&["model.safetensors"]), INDEX);
        let safetensors = ["model.safetensors", INDEX, "model-00001-of-00002.safetensors"];
        assert_eq!(without(&safetensors), "x.Q8_0.gguf");
        assert_eq!(without(&[&safetensors[..], &["x.Q8_0.gguf"]].concat()), "consolidated.00.pth");
        let pickled = [&safetensors[..], &["x.Q8_0.gguf", "consolidated.00.pth"]].concat();
        assert_eq!(without(&pickled), "pytorch_model.bin");
    }

    #[test]
    fn what_is_not_one_model_is_an_error_that_says_what_to_name() {
        let error = select_from(&["a.gguf", "b.gguf", "config.json"]).unwrap_err().to_string();
        assert!(error.contains("a/b:a.gguf, a/b:b.gguf"), "{error}");
        let error = select_from(&["README.md", "sub/model.safetensors"]).unwrap_err().to_string();
        assert!(error.contains("no weights"), "{error}");
    }

    #[test]
    fn an_index_names_its_shards() {
        let index =
            br#"{"metadata": {}, "weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"}}"#;
        assert_eq!(shards(index).unwrap(), ["a.safetensors", "b.safetensors"]);
        for (index, why) in [
            (&b"{"[..], "JSON"),
            (b"{}", "weight_map"),
            (br#"{"weight_map": {"x": 1}}"#, "no text"),
            (br#"{"weight_map": {"x": "../../y"}}"#, "leaves its folder"),
        ] {
            assert!(shards(index).unwrap_err().contains(why));
        }
    }
}
