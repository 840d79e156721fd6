//! The vocabularies of LLaMA 2 and 3 against the ids that llama.cpp publishes beside them, and the example of the Llama
//! documentation.

use std::path::PathBuf;

use camelid_core::tokenizer::{EncodeOptions, TokenId, Tokenizer};
use camelid_tokenizer::HfTokenizer;
use camelid_weights::GgufFile;

use crate::case::{Case, Context, Evidence, Problem, Profile};
use crate::check;

/// Our name, llama.cpp's, and how many texts it has ids for.
const VOCABULARIES: [(&str, &str); 2] = [("llama2", "spm"), ("llama3", "bpe")];
const VECTORS: usize = 47;

const PLAIN: EncodeOptions = EncodeOptions { add_special_tokens: false, parse_special: false };

/// Text, ids with the frame.
const LLAMA2: [(&str, &str, &[TokenId]); 3] = [
    ("documentation", "Hello this is a test", &[1, 15043, 445, 338, 263, 1243]),
    ("nothing", "", &[1]),
    ("special", "</s>", &[1, 2]),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, file) in VOCABULARIES {
        for n in 0..VECTORS {
            let id = format!("real/tokenizer/{name}/{n}");
            let about = "a text of llama.cpp's and its ids";
            cases.push(Case::new(id, Profile::Real, about, move |cx: &Context<'_>| vector(cx, file, n)));
        }
    }
    for (name, text, ids) in LLAMA2 {
        let id = format!("real/tokenizer/llama2/{name}");
        let about = "a prompt with what the vocabulary adds";
        cases.push(Case::new(id, Profile::Real, about, move |cx: &Context<'_>| {
            let tokenizer = load(cx, "spm")?;
            let found = tokenizer.encode(text, EncodeOptions::default()).map_err(|e| Problem::fail(e.to_string()))?;
            check!(found.ids == ids, "{text:?} becomes {:?}, expected {ids:?}", found.ids);
            Ok(Evidence::default())
        }));
    }
    cases
}

fn fetch(name: &str) -> Result<PathBuf, Problem> {
    camelid_fetch::llama_cpp_vocab(name).map_err(|e| Problem::Blocked(e.to_string()))
}

fn load(cx: &Context<'_>, file: &str) -> Result<Box<dyn Tokenizer>, Problem> {
    let path = fetch(&format!("ggml-vocab-llama-{file}.gguf"))?;
    let vocab = GgufFile::open(&path).and_then(|f| f.vocab()).map_err(|e| Problem::Blocked(e.to_string()))?;
    let vocab = vocab.ok_or_else(|| Problem::Blocked(format!("{}: it has no vocabulary", path.display())))?;
    let tokenizer = HfTokenizer::from_gguf(vocab).map_err(|e| Problem::fail(e.to_string()))?;
    Ok(cx.subject.tokenizer(Box::new(tokenizer)))
}

fn vector(cx: &Context<'_>, file: &str, n: usize) -> Result<Evidence, Problem> {
    let read = |kind: &str| {
        let path = fetch(&format!("ggml-vocab-llama-{file}.gguf.{kind}"))?;
        std::fs::read_to_string(&path).map_err(|e| Problem::Blocked(format!("{}: {e}", path.display())))
    };
    let (texts, ids) = (read("inp")?, read("out")?);
    let (texts, ids): (Vec<&str>, Vec<&str>) =
        (texts.split("\n__ggml_vocab_test__\n").collect(), ids.split('\n').collect());
    let (Some(text), Some(ids)) = (texts.get(n), ids.get(n)) else {
        return Err(Problem::Blocked(format!("there are {} texts, and no text {n}", texts.len())));
    };
    let ids = ids.split_whitespace().map(str::parse).collect::<Result<Vec<TokenId>, _>>();
    let ids = ids.map_err(|e| Problem::Blocked(format!("ids of text {n}: {e}")))?;
    let tokenizer = load(cx, file)?;
    let found = tokenizer.encode(text, PLAIN).map_err(|e| Problem::fail(e.to_string()))?.ids;
    check!(found == ids, "{text:?} becomes {found:?}, expected {ids:?}");
    let back = tokenizer.decode(&ids, false).map_err(|e| Problem::fail(e.to_string()))?;
    check!(back == text.as_bytes(), "{text:?} comes back as {:?}", String::from_utf8_lossy(&back));
    Ok(Evidence::default())
}
