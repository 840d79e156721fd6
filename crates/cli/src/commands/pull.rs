//! `camelid pull`: a model from the Hugging Face Hub into the cache.

use std::io::IsTerminal;
use std::time::Duration;

use camelid_hub::{Event, Hub, Origin, Pulled, PulledFile, Settings, Source};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::Error;

/// Get a model from the Hugging Face Hub
///
/// The model's configuration, tokenizer and weights go to the cache that Python programs use too, each file compared with
/// its digest; what is there already is not downloaded again, and a download that was interrupted goes on where it
/// stopped. Prints the path, which --model takes; --model ORG/NAME works as well.
///
/// HF_ENDPOINT is the address of another hub, HF_TOKEN the token for private models, HF_HOME or HF_HUB_CACHE the folder.
#[derive(Args, Debug)]
pub struct Pull {
    /// Model, or one file of it, such as ORG/NAME or ORG/NAME:model.Q4_K_M.gguf
    #[arg(value_name = "ORG/NAME[:FILE]")]
    source: String,
    /// Branch, tag or commit [default: main]
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Open no connection: succeed only if the model is in the cache
    #[arg(long)]
    offline: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Pull {
    pub fn run(self) -> Result<(), Error> {
        let mut source: Source = self.source.parse()?;
        if let Some(revision) = &self.revision {
            if source.revision.is_some() {
                return Err(format!("{}: names a revision, and so does --revision", self.source).into());
            }
            source = source.at(revision)?;
        }
        let mut settings = Settings::from_env()?;
        settings.offline |= self.offline;
        let mut progress = Progress::new();
        let pulled = Hub::new(settings)?.pull(&source, &mut |event| progress.hear(&event));
        progress.finish();
        let pulled = pulled?;
        if self.json {
            outln!("{}", serde_json::to_string_pretty(&describe(&source, &pulled))?);
        } else {
            outln!("{}", pulled.path.display());
        }
        Ok(())
    }
}

fn describe(source: &Source, pulled: &Pulled) -> Value {
    let file = |f: &PulledFile| {
        let (downloaded, resumed, checked) = match f.origin {
            Origin::Downloaded { resumed, checked } => (true, resumed, Some(checked.name())),
            _ => (false, 0, None),
        };
        json!({"name": f.name, "path": f.path.display().to_string(), "bytes": f.size, "downloaded": downloaded,
               "resumed_bytes": resumed, "checked": checked})
    };
    json!({
        "model": source.repo.as_str(),
        "revision": source.revision(),
        "commit": pulled.commit,
        "path": pulled.path.display().to_string(),
        "files": pulled.files.iter().map(file).collect::<Vec<_>>(),
    })
}

/// A bar for the file that is coming, a line for each that is there. On stderr, if somebody is looking; pauses and waits
/// are told in any case.
struct Progress {
    bar: ProgressBar,
    looking: bool,
    file: String,
}

impl Progress {
    fn new() -> Progress {
        let looking = std::io::stderr().is_terminal();
        let bar = if looking { ProgressBar::no_length() } else { ProgressBar::hidden() };
        Progress { bar, looking, file: String::new() }
    }

    fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::File { name, size, have } => {
                (*name).clone_into(&mut self.file);
                let template = match size {
                    Some(_) => "{msg} {bar:25} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                    None => "{msg} {spinner} {bytes} {bytes_per_sec}",
                };
                let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
                self.bar.set_style(style);
                self.bar.set_message((*name).to_owned());
                if let Some(size) = size {
                    self.bar.set_length(*size);
                }
                // So that the speed is that of what comes now.
                self.bar.reset_elapsed();
                self.bar.reset_eta();
                self.bar.set_position(*have);
                self.bar.enable_steady_tick(Duration::from_millis(200));
            }
            Event::Bytes { have } => self.bar.set_position(*have),
            Event::Retrying { reason, wait } => {
                self.say(&format!("{}trying again in {:.1} s, because {reason}", self.what(), wait.as_secs_f64()));
            }
            Event::Waiting { name } => self.say(&format!("{name}: another process is downloading it; waiting")),
            Event::Done(file) => {
                if self.looking {
                    let how = match file.origin {
                        Origin::Downloaded { checked, .. } => format!("{} checked", checked.name()),
                        _ => "in the cache".into(),
                    };
                    self.say(&format!("{} ({} bytes, {how})", file.name, file.size));
                }
                self.file.clear();
            }
            _ => {}
        }
    }

    fn what(&self) -> String {
        if self.file.is_empty() { String::new() } else { format!("{}: ", self.file) }
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
