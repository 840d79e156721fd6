//! A writer for GGUF files, right ones and wrong ones.

use super::*;

/// A metadata value.
#[derive(Clone, Debug)]
pub enum Kv {
    U8(u8),
    U32(u32),
    I32(i32),
    U64(u64),
    F32(f32),
    Bool(bool),
    Str(Vec<u8>),
    Strs(Vec<Vec<u8>>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
    /// A type and the bytes after it.
    Raw(u32, Vec<u8>),
}

impl Kv {
    pub fn str(text: &str) -> Kv {
        Kv::Str(text.into())
    }

    pub fn strs(texts: &[&str]) -> Kv {
        Kv::Strs(texts.iter().map(|t| t.as_bytes().to_vec()).collect())
    }

    fn write(&self, out: &mut Vec<u8>) {
        fn array<T>(out: &mut Vec<u8>, id: u32, items: &[T], each: impl Fn(&mut Vec<u8>, &T)) {
            out.extend(9u32.to_le_bytes());
            out.extend(id.to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| each(out, item));
        }
        fn scalar(out: &mut Vec<u8>, id: u32, bytes: &[u8]) {
            out.extend(id.to_le_bytes());
            out.extend(bytes);
        }
        match self {
            Kv::U8(v) => scalar(out, 0, &v.to_le_bytes()),
            Kv::U32(v) => scalar(out, 4, &v.to_le_bytes()),
            Kv::I32(v) => scalar(out, 5, &v.to_le_bytes()),
            Kv::F32(v) => scalar(out, 6, &v.to_le_bytes()),
            Kv::Bool(v) => scalar(out, 7, &[u8::from(*v)]),
            Kv::U64(v) => scalar(out, 10, &v.to_le_bytes()),
            Kv::Str(v) => {
                out.extend(8u32.to_le_bytes());
                string(out, v);
            }
            Kv::Strs(v) => array(out, 8, v, |out, s| string(out, s)),
            Kv::F32s(v) => array(out, 6, v, |out, x| out.extend(x.to_le_bytes())),
            Kv::I32s(v) => array(out, 5, v, |out, x| out.extend(x.to_le_bytes())),
            Kv::Raw(id, bytes) => scalar(out, *id, bytes),
        }
    }
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

/// A tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    /// Innermost first, as in the file.
    pub dims: Vec<u64>,
    /// ggml's number of the type.
    pub ggml_type: u32,
    pub bytes: Vec<u8>,
    /// Another offset than the next free one.
    pub offset: Option<u64>,
}

/// A file to be written.
#[derive(Clone, Debug)]
pub struct Gguf {
    pub version: u32,
    pub kv: Vec<(String, Kv)>,
    pub tensors: Vec<Tensor>,
    pub alignment: usize,
    /// Other counts than there are.
    pub tensor_count: Option<u64>,
    pub kv_count: Option<u64>,
}

impl Gguf {
    pub fn empty() -> Gguf {
        Gguf { version: 3, kv: Vec::new(), tensors: Vec::new(), alignment: 32, tensor_count: None, kv_count: None }
    }

    /// Sets a metadata value, in the place of one of the same key.
    pub fn set(mut self, key: &str, value: Kv) -> Gguf {
        match self.kv.iter_mut().find(|(k, _)| k == key) {
            Some(entry) => entry.1 = value,
            None => self.kv.push((key.into(), value)),
        }
        self
    }

    pub fn remove(mut self, key: &str) -> Gguf {
        let before = self.kv.len();
        self.kv.retain(|(k, _)| k != key);
        assert_ne!(self.kv.len(), before, "{key} was not there");
        self
    }

    /// Adds a tensor of f32; `shape` is outermost first.
    pub fn tensor(mut self, name: &str, shape: &[usize], bytes: Vec<u8>) -> Gguf {
        let dims = shape.iter().rev().map(|d| *d as u64).collect();
        self.tensors.push(Tensor { name: name.into(), dims, ggml_type: 0, bytes, offset: None });
        self
    }

    pub fn tensor_mut(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.name == name).expect("a tensor of that name")
    }

    /// Applies a change to one tensor.
    pub fn with(mut self, name: &str, change: impl FnOnce(&mut Tensor)) -> Gguf {
        change(self.tensor_mut(name));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.kv_count.unwrap_or(self.kv.len() as u64).to_le_bytes());
        for (key, value) in &self.kv {
            string(&mut out, key.as_bytes());
            value.write(&mut out);
        }
        let mut next = 0;
        for tensor in &self.tensors {
            string(&mut out, tensor.name.as_bytes());
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(tensor.ggml_type.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(next).to_le_bytes());
            next += tensor.bytes.len().next_multiple_of(self.alignment) as u64;
        }
        if !self.tensors.is_empty() {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
        }
        let last = self.tensors.len().saturating_sub(1);
        for (i, tensor) in self.tensors.iter().enumerate() {
            out.extend(&tensor.bytes);
            if i != last {
                out.resize(out.len().next_multiple_of(self.alignment), 0);
            }
        }
        out
    }

    /// The error that opening the file gives.
    pub fn refusal(&self) -> String {
        refusal(&[("tiny.gguf", &self.bytes())], "tiny.gguf")
    }

    /// The checkpoint; the folder must be kept while it is used.
    pub fn open(&self) -> (tempfile::TempDir, Checkpoint) {
        let folder = folder(&[("tiny.gguf", &self.bytes())]);
        let checkpoint = Checkpoint::open(folder.path().join("tiny.gguf")).expect("a valid file");
        (folder, checkpoint)
    }
}

/// GGUF's name of a tensor of the tiny models.
pub fn name(hugging_face: &str) -> String {
    match hugging_face {
        "model.embed_tokens.weight" => return "token_embd.weight".into(),
        "model.norm.weight" => return "output_norm.weight".into(),
        _ => {}
    }
    let rest = hugging_face.strip_prefix("model.layers.").expect("a layer's tensor");
    let (layer, part) = rest.split_once('.').expect("a layer's number");
    let part = part
        .replace("input_layernorm", "attn_norm")
        .replace("post_attention_layernorm", "ffn_norm")
        .replace("self_attn.o_proj", "attn_output")
        .replace("self_attn.", "attn_")
        .replace("mlp.", "ffn_")
        .replace("_proj", "");
    format!("blk.{layer}.{part}")
}

/// Reorders the rows of each head as the converter does: `reshape(heads, 2, rows / 2).swapaxes(1, 2)`.
pub fn permute(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let row = bytes.len() / rows;
    let (per_head, half) = (rows / heads, rows / heads / 2);
    let mut out = Vec::new();
    for head in 0..heads {
        for i in 0..half {
            for j in 0..2 {
                out.extend(&bytes[(head * per_head + j * half + i) * row..][..row]);
            }
        }
    }
    out
}

/// The metadata of the tiny model.
pub fn tiny_metadata() -> Gguf {
    Gguf::empty()
        .set("general.architecture", Kv::str("llama"))
        .set("general.name", Kv::str("tiny"))
        .set("llama.block_count", Kv::U32(LAYERS as u32))
        .set("llama.context_length", Kv::U32(128))
        .set("llama.embedding_length", Kv::U32(HIDDEN as u32))
        .set("llama.feed_forward_length", Kv::U32(FFN as u32))
        .set("llama.attention.head_count", Kv::U32(HEADS as u32))
        .set("llama.attention.head_count_kv", Kv::U32(KV_HEADS as u32))
        .set("llama.attention.key_length", Kv::U32(HEAD_DIM as u32))
        .set("llama.attention.value_length", Kv::U32(HEAD_DIM as u32))
        .set("llama.attention.layer_norm_rms_epsilon", Kv::F32(1e-5))
        .set("llama.rope.dimension_count", Kv::U32(HEAD_DIM as u32))
        .set("llama.rope.freq_base", Kv::F32(10_000.0))
        .set("llama.vocab_size", Kv::U32(VOCAB as u32))
        .set("tokenizer.ggml.model", Kv::str("llama"))
        .set(
            "tokenizer.ggml.tokens",
            Kv::strs(&["<unk>", "<s>", "</s>", "<0x0A>", "▁", "a", "b", "ab", "▁ab", "é", "🦙"]),
        )
        .set("tokenizer.ggml.scores", Kv::F32s((0..VOCAB).map(|i| -(i as f32)).collect()))
        .set("tokenizer.ggml.token_type", Kv::I32s(vec![2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 1]))
        .set("tokenizer.ggml.bos_token_id", Kv::U32(1))
        .set("tokenizer.ggml.eos_token_id", Kv::U32(2))
        .set("tokenizer.ggml.unknown_token_id", Kv::U32(0))
        .set("tokenizer.ggml.add_bos_token", Kv::Bool(true))
        .set("tokenizer.chat_template", Kv::str("{{ messages }}"))
}

/// The tiny model, with the values that [`tiny_safetensors`] has.
pub fn tiny() -> Gguf {
    let mut file = tiny_metadata();
    for (hugging_face, shape) in tensors() {
        let mut bytes = f32_bytes(&hugging_face, &shape);
        if hugging_face.contains("q_proj") {
            bytes = permute(&bytes, shape[0], HEADS);
        } else if hugging_face.contains("k_proj") {
            bytes = permute(&bytes, shape[0], KV_HEADS);
        }
        file = file.tensor(&name(&hugging_face), &shape, bytes);
    }
    file
}
