//! `camelid classify`: texts in, labels and scores out.

use std::io::BufRead;

use camelid_core::tokenizer::{EncodeOptions, TokenId, Tokenizer};
use camelid_engine::Session;
use camelid_engine::forward::{Activation, classify};
use clap::Args;
use serde_json::json;

use crate::Error;
use crate::options::RunFlags;
use crate::setup::Setup;

/// Classify texts with a LlamaForSequenceClassification checkpoint
#[derive(Args, Debug)]
pub struct Classify {
    /// Texts; each line of standard input is one if none is given
    texts: Vec<String>,
    #[command(flatten)]
    run: RunFlags,
    /// Print a JSON array with an object for each text
    #[arg(long)]
    json: bool,
}

/// Most texts computed together.
const TEXTS_TOGETHER: usize = 16;

impl Classify {
    pub fn run(self) -> Result<(), Error> {
        let setup = Setup::new(&self.run, self.run.overrides())?;
        let model = setup.model()?;
        let num_labels = model.num_labels()?;
        let tokenizer = model.tokenizer()?;
        let texts = if self.texts.is_empty() { lines()? } else { self.texts };
        let encode = |text: &String| Ok(tokenizer.encode(text, EncodeOptions::default())?.ids);
        let tokens: Vec<Vec<TokenId>> = texts.iter().map(encode).collect::<Result<_, Error>>()?;
        let Some(longest) = tokens.iter().map(Vec::len).max() else {
            return Err("there is nothing to classify: give a text, or lines on standard input".into());
        };
        let mut options = setup.session_options(&model, Some(longest));
        options.max_sequences = tokens.len().min(TEXTS_TOGETHER);
        let mut session = Session::for_forward(model.clone(), &options)?;
        let logits = classify(&mut session, &tokens)?;

        let config = model.config();
        let activation = Activation::of(config.problem_type, num_labels);
        let label = |id: usize| config.id2label.get(&id).cloned().unwrap_or_else(|| format!("LABEL_{id}"));
        let mut objects = Vec::new();
        for (text, logits) in texts.iter().zip(&logits) {
            let mut scores: Vec<(usize, f64)> = activation.apply(logits).into_iter().enumerate().collect();
            scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            if !self.json {
                let shown: Vec<String> =
                    scores.iter().map(|(id, score)| format!("{} {score:.4}", label(*id))).collect();
                outln!("{}\t{text}", shown.join(", "));
                continue;
            }
            let list: Vec<_> =
                scores.iter().map(|(id, score)| json!({ "id": id, "label": label(*id), "score": score })).collect();
            objects.push(json!({
                "text": text,
                "label": label(scores[0].0),
                "score": scores[0].1,
                "scores": list,
                "logits": logits,
                "activation": activation.name(),
            }));
        }
        if self.json {
            outln!("{}", serde_json::to_string_pretty(&objects)?);
        }
        Ok(())
    }
}

fn lines() -> Result<Vec<String>, Error> {
    let lines: Result<Vec<String>, _> = std::io::stdin().lock().lines().collect();
    lines.map_err(|e| format!("standard input cannot be read as text: {e}").into())
}
