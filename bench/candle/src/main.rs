//! How fast candle runs a model that Camelid is measured on: a GGUF file, or a Hugging Face folder with safetensors.
//!
//! Prefill is one forward pass over the prompt, decode one pass a token behind an empty cache, as `camelid bench` has them;
//! candle keeps keys and values in the type it computes in. Prints one JSON object with medians.
//!
//! ```text
//! camelid-bench-candle --model PATH [--threads N] [--prompt-tokens N] [--gen-tokens N] [--repetitions N] [--dtype TYPE]
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use candle_core::quantized::gguf_file;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama, LlamaConfig};
use candle_transformers::models::quantized_llama::ModelWeights;

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match Options::read().and_then(|options| bench(&options)) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    model: PathBuf,
    threads: usize,
    prompt_tokens: usize,
    gen_tokens: usize,
    repetitions: usize,
    /// What a folder's weights are computed in; those of a GGUF file are as they lie.
    dtype: DType,
}

impl Options {
    fn read() -> Result<Options, Error> {
        let mut model = None;
        let (mut threads, mut prompt_tokens, mut gen_tokens, mut repetitions) = (1, 512, 128, 1);
        let mut dtype = DType::F32;
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} takes a value"))?;
            let number = || value.parse::<usize>().map_err(|_| format!("{word} {value}: a number is wanted"));
            match word.as_str() {
                "--model" => model = Some(PathBuf::from(&value)),
                "--threads" => threads = number()?.max(1),
                "--prompt-tokens" => prompt_tokens = number()?,
                "--gen-tokens" => gen_tokens = number()?,
                "--repetitions" => repetitions = number()?.max(1),
                "--dtype" => {
                    dtype = match value.as_str() {
                        "f32" => DType::F32,
                        "bf16" => DType::BF16,
                        "f16" => DType::F16,
                        _ => return Err(format!("--dtype {value}: f32, bf16 or f16 is wanted").into()),
                    }
                }
                _ => {
                    let known = "--model, --threads, --prompt-tokens, --gen-tokens, --repetitions and --dtype";
                    return Err(format!("{word}: the options are {known}").into());
                }
            }
        }
        let model = model.ok_or("--model PATH is missing: a GGUF file, or a folder of safetensors")?;
        Ok(Options { model, threads, prompt_tokens, gen_tokens, repetitions, dtype })
    }
}

fn bench(options: &Options) -> Result<serde_json::Value, Error> {
    // SAFETY: no other thread runs yet. candle has no other way to say how many threads its pools are to have.
    unsafe {
        for variable in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
            std::env::set_var(variable, options.threads.to_string());
        }
    }
    let start = Instant::now();
    let mut model = Model::load(options).map_err(|error| format!("{}: {error}", options.model.display()))?;
    let load_s = start.elapsed().as_secs_f64();
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    // One round that is not counted warms caches and pages.
    for round in 0..=options.repetitions {
        let prefilled = model.timed(options.prompt_tokens, true)?;
        let decoded = model.timed(options.gen_tokens, false)?;
        if round > 0 {
            prefill.extend(prefilled);
            decode.extend(decoded);
        }
    }
    Ok(serde_json::json!({
        "model": options.model.display().to_string(), "threads": options.threads,
        "prompt_tokens": options.prompt_tokens, "gen_tokens": options.gen_tokens, "repetitions": options.repetitions,
        "prefill_tokens_per_s": median(prefill), "decode_tokens_per_s": median(decode), "load_s": load_s,
    }))
}

/// A model of either kind.
enum Model {
    Gguf { weights: ModelWeights, vocab_size: usize },
    Folder { llama: Llama, config: Config, dtype: DType, cache: Option<Cache> },
}

impl Model {
    fn load(options: &Options) -> Result<Model, Error> {
        if options.model.is_dir() {
            return Model::folder(&options.model, options.dtype);
        }
        let mut file = File::open(&options.model)?;
        let content = gguf_file::Content::read(&mut file)?;
        let embedding = content.tensor_infos.get("token_embd.weight").ok_or("there is no token_embd.weight")?;
        let vocab_size = embedding.shape.dims()[0];
        let weights = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
        Ok(Model::Gguf { weights, vocab_size })
    }

    fn folder(folder: &Path, dtype: DType) -> Result<Model, Error> {
        let config: LlamaConfig = serde_json::from_str(&std::fs::read_to_string(folder.join("config.json"))?)?;
        let config = config.into_config(false);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                files.push(path);
            }
        }
        // SAFETY: nothing writes to the files of a model that is being measured.
        let weights = unsafe { VarBuilder::from_mmaped_safetensors(&files, dtype, &Device::Cpu)? };
        let llama = Llama::load(weights, &config)?;
        Ok(Model::Folder { llama, config, dtype, cache: None })
    }

    /// Tokens a second of `count` tokens behind an empty cache, all at once or one by one; `None` of no tokens.
    fn timed(&mut self, count: usize, at_once: bool) -> Result<Option<f64>, Error> {
        if count == 0 {
            return Ok(None);
        }
        let vocab_size = self.empty()?;
        let tokens: Vec<u32> = (0..count).map(|i| ((i * 7919 + 11) % vocab_size) as u32).collect();
        let step = if at_once { count } else { 1 };
        let start = Instant::now();
        for (i, tokens) in tokens.chunks(step).enumerate() {
            let tokens = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
            self.forward(&tokens, i * step)?;
        }
        Ok(Some(count as f64 / start.elapsed().as_secs_f64()))
    }

    /// Empties the cache; the size of the vocabulary.
    fn empty(&mut self) -> Result<usize, Error> {
        match self {
            Model::Gguf { weights, vocab_size } => {
                weights.clear_kv_cache();
                Ok(*vocab_size)
            }
            Model::Folder { config, dtype, cache, .. } => {
                *cache = Some(Cache::new(true, *dtype, config, &Device::Cpu)?);
                Ok(config.vocab_size)
            }
        }
    }

    /// The logits of the last token; computing them is what is timed.
    fn forward(&mut self, tokens: &Tensor, position: usize) -> Result<Tensor, Error> {
        Ok(match self {
            Model::Gguf { weights, .. } => weights.forward(tokens, position)?,
            Model::Folder { llama, cache, .. } => {
                llama.forward(tokens, position, cache.as_mut().ok_or("the cache is made before a pass")?)?
            }
        })
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (n > 0).then(|| (values[(n - 1) / 2] + values[n / 2]) / 2.0)
}
