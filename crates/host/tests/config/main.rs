//! Reading the configuration: layers, origins, and everything that is refused; [`backends`] is about which backends and
//! plugins it names.

mod backends;

use std::fs;
use std::path::{Path, PathBuf};

use camelid_host::config::{BackendConfig, CacheName, EarlyStop, KEYS, KvDtype, Origin, Repack, Trust};
use camelid_host::{Config, ConfigError, ConfigSources, Loaded, OnUnsupported, PluginSpec};
use proptest::prelude::*;
use tempfile::TempDir;

/// A working directory with this `camelid.toml`.
fn folder(file: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("camelid.toml"), file).unwrap();
    folder
}

fn sources(folder: &Path) -> ConfigSources {
    ConfigSources { cwd: folder.into(), ..ConfigSources::default() }
}

fn load(file: &str) -> Result<Loaded, ConfigError> {
    Config::load(&sources(folder(file).path()))
}

/// The message for this `camelid.toml`.
#[track_caller]
fn error(file: &str) -> String {
    load(file).expect_err(file).to_string()
}

fn variables(list: &[(&str, &str)]) -> ConfigSources {
    let env = list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    ConfigSources { cwd: PathBuf::from("/nonexistent"), env, ..ConfigSources::default() }
}

fn line(n: usize) -> Option<Origin> {
    Some(Origin::File { path: "./camelid.toml".into(), line: n })
}

#[test]
fn nothing_set_is_fine() {
    let empty = tempfile::tempdir().unwrap();
    let loaded = Config::load(&sources(empty.path())).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.settings().is_empty());
    assert_eq!(load("# only a comment\n[engine]\n[backends]\n").unwrap().config, Config::default());
    assert_eq!(load("\u{feff}backend = \"cpu\"").unwrap().config.backend.as_deref(), Some("cpu"));
}

#[test]
fn every_key_is_read_from_a_file() {
    let file = r#"
backend = "my-npu_2"
model = "/models/llama"
[backends.my-npu_2]
device = 3
threads = 0x10
profile = true
name = "x y"
"odd key" = -5
[engine]
context_size = 4_096
batch_size = 1
max_sequences = 16777216
cache = "paged"
block_size = 32
kv_dtype = "bf16"
on_unsupported = "error"
repack = "never"
[generate]
max_new_tokens = 0
temperature = 1
top_k = 40
top_p = 0.95
min_p = 0
repetition_penalty = 1.1
presence_penalty = -0.5
frequency_penalty = 2e0
seed = 18446744073709551615
stop = ["a", "\u00e9\n"]
max_length = 100
min_new_tokens = 2
min_length = 3
max_time = 1.5
typical_p = 0.9
epsilon_cutoff = 0.01
eta_cutoff = 0.02
top_h = 0.5
encoder_repetition_penalty = 1.2
no_repeat_ngram_size = 3
encoder_no_repeat_ngram_size = 4
bad_words_ids = [[1], [2, 3]]
sequence_bias = [[[1, 2], -1.5], [[3], 2]]
suppress_tokens = [5, 6]
begin_suppress_tokens = []
forced_bos_token_id = 7
forced_eos_token_id = [2]
exponential_decay_length_penalty = [5, 1.25]
remove_invalid_values = true
renormalize_logits = false
num_beams = 4
length_penalty = -1
early_stopping = true
num_return_sequences = 2
prompt_lookup_num_tokens = 8
max_matching_ngram_size = 3
draft_model = "/models/small"
draft_tokens = 6
[plugins]
trust = "path"
folders = ["/opt/camelid"]
[[plugin]]
name = "npu"
path = "/opt/libnpu.so"
sha256 = "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef"
[[plugin]]
name = "tpu"
path = '/opt/lib"tpu.so'
"#;
    let folder = folder(file);
    let loaded = Config::load(&sources(folder.path())).unwrap();
    let Config { backend, model, backends, plugins, plugin, engine, generate } = loaded.config.clone();
    assert_eq!((plugins.trust, plugins.folders), (Some(Trust::Path), Some(vec!["/opt/camelid".to_owned()])));
    let named = |name: &str, path: &str, sha256| PluginSpec { name: Some(name.into()), path: path.into(), sha256 };
    let hash = "0123456789abcdef".repeat(4).parse().ok();
    assert_eq!(plugin, [named("npu", "/opt/libnpu.so", hash), named("tpu", "/opt/lib\"tpu.so", None)]);
    assert_eq!((backend.as_deref(), model), (Some("my-npu_2"), Some(PathBuf::from("/models/llama"))));
    let options = [("name", "x y"), ("odd key", "-5"), ("profile", "true"), ("threads", "16")];
    let options = options.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect();
    assert_eq!(backends["my-npu_2"], BackendConfig { device: Some(3), options });
    assert_eq!((engine.context_size, engine.batch_size), (Some(4096), Some(1)));
    assert_eq!((engine.max_sequences, engine.block_size), (Some(1 << 24), Some(32)));
    assert_eq!((engine.cache, engine.kv_dtype), (Some(CacheName::Paged), Some(KvDtype::Bf16)));
    assert_eq!((engine.on_unsupported, engine.repack), (Some(OnUnsupported::Error), Some(Repack::Never)));
    assert_eq!((generate.max_new_tokens, generate.top_k), (Some(0), Some(40)));
    assert_eq!((generate.temperature, generate.top_p, generate.min_p), (Some(1.0), Some(0.95), Some(0.0)));
    assert_eq!(generate.repetition_penalty, Some(1.1));
    assert_eq!((generate.presence_penalty, generate.frequency_penalty), (Some(-0.5), Some(2.0)));
    assert_eq!((generate.seed, generate.stop), (Some(u64::MAX), Some(vec!["a".into(), "é\n".into()])));

    assert_eq!((generate.max_length, generate.min_new_tokens, generate.min_length), (Some(100), Some(2), Some(3)));
    assert_eq!((generate.max_time, generate.typical_p, generate.top_h), (Some(1.5), Some(0.9), Some(0.5)));
    assert_eq!((generate.epsilon_cutoff, generate.eta_cutoff), (Some(0.01), Some(0.02)));
    assert_eq!((generate.no_repeat_ngram_size, generate.encoder_no_repeat_ngram_size), (Some(3), Some(4)));
    assert_eq!(generate.encoder_repetition_penalty, Some(1.2));
    assert_eq!(generate.bad_words_ids, Some(vec![vec![1], vec![2, 3]]));
    assert_eq!(generate.sequence_bias, Some(vec![(vec![1, 2], -1.5), (vec![3], 2.0)]));
    assert_eq!((generate.suppress_tokens, generate.begin_suppress_tokens), (Some(vec![5, 6]), Some(vec![])));
    assert_eq!((generate.forced_bos_token_id, generate.forced_eos_token_id), (Some(7), Some(vec![2])));
    assert_eq!(generate.exponential_decay_length_penalty, Some((5, 1.25)));
    assert_eq!((generate.remove_invalid_values, generate.renormalize_logits), (Some(true), Some(false)));
    assert_eq!((generate.num_beams, generate.length_penalty), (Some(4), Some(-1.0)));
    assert_eq!((generate.early_stopping, generate.num_return_sequences), (Some(EarlyStop::True), Some(2)));
    assert_eq!((generate.prompt_lookup_num_tokens, generate.max_matching_ngram_size), (Some(8), Some(3)));
    assert_eq!((generate.draft_model, generate.draft_tokens), (Some(PathBuf::from("/models/small")), Some(6)));

    assert_eq!(loaded.settings().len(), KEYS.len() + 6);
    assert_eq!(loaded.origin("engine.context_size").cloned(), line(11));
    assert_eq!(loaded.origin("backends.my-npu_2.threads").cloned(), line(6));

    // What `config show` prints is a file that comes to the same.
    let shown: String =
        loaded.settings().iter().map(|s| format!("{} = {}  # {}\n", s.key, s.value, s.origin)).collect();
    assert_eq!(load(&shown).unwrap().config, loaded.config, "{shown}");
}

#[test]
fn each_layer_hides_the_one_below_key_by_key() {
    let folder = folder("[generate]\nseed = 1\ntop_k = 1\ntop_p = 0.1\nmin_p = 0.1\nstop = [\"a\", \"b\"]\n");
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(
        folder.path().join("sub/x.toml"),
        "model = \"m\"\n[generate]\nseed = 2\ntop_k = 2\ntop_p = 0.2\nstop = [\"c\"]",
    )
    .unwrap();
    let mut sources = sources(folder.path());
    sources.explicit_file = Some("sub/x.toml".into());
    sources.env = [("CAMELID_GENERATE_SEED", "3"), ("CAMELID_GENERATE_TOP_K", "3"), ("OTHER", "x"), ("camelid_x", "y")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    sources.overrides.generate.seed = Some(4);
    sources.overrides.engine.batch_size = Some(64);
    let loaded = Config::load(&sources).unwrap();
    let g = &loaded.config.generate;
    assert_eq!((g.seed, g.top_k, g.top_p, g.min_p), (Some(4), Some(3), Some(0.2), Some(0.1)));
    assert_eq!(g.stop, Some(vec!["c".to_owned()]), "a list is replaced as a whole");
    assert_eq!(loaded.config.model, Some(folder.path().join("sub/m")), "relative to the file's folder");
    let origins = ["generate.seed", "generate.top_k", "generate.top_p", "generate.min_p", "engine.batch_size"]
        .map(|key| loaded.origin(key).unwrap().to_string());
    let expected = ["--seed", "CAMELID_GENERATE_TOP_K", "sub/x.toml:5", "./camelid.toml:5", "the command line"];
    assert_eq!(origins, expected);
    assert_eq!(loaded.origin("generate.temperature"), None);
}

#[test]
fn the_config_variable_names_a_file_and_the_flag_wins() {
    let folder = folder("");
    for (name, seed) in [("a.toml", 1), ("b.toml", 2)] {
        fs::write(folder.path().join(name), format!("generate.seed = {seed}")).unwrap();
    }
    let mut sources = sources(folder.path());
    sources.env = vec![("CAMELID_CONFIG".into(), "a.toml".into())];
    assert_eq!(Config::load(&sources).unwrap().config.generate.seed, Some(1));
    sources.explicit_file = Some(folder.path().join("b.toml"));
    assert_eq!(Config::load(&sources).unwrap().config.generate.seed, Some(2));
    sources.explicit_file = None;
    sources.env[0].1.clear();
    assert!(Config::load(&sources).unwrap_err().to_string().contains("the name is empty"));
}

#[test]
fn unknown_keys_are_named_with_the_nearest_and_with_those_there_are() {
    let top = "(the top level has: backend, model, backends, engine, generate, plugin, plugins)";
    for (file, expected) in [
        (
            "\n\nbackendd = \"x\"",
            format!("./camelid.toml:3: there is no key `backendd`; did you mean `backend`? {top}"),
        ),
        ("[[plug]]\nname = \"x\"", format!("./camelid.toml:1: there is no key `plug` {top}")),
        ("[Engine]\n", format!("./camelid.toml:1: there is no key `Engine`; did you mean `engine`? {top}")),
        (
            "temperature = 1",
            format!("./camelid.toml:1: there is no key `temperature`; did you mean `generate.temperature`? {top}"),
        ),
        (
            "\"engine.cache\" = \"paged\"",
            format!("./camelid.toml:1: there is no key `\"engine.cache\"`; did you mean `engine.cache`? {top}"),
        ),
    ] {
        assert_eq!(error(file), expected);
    }
    assert!(error("[engine]\nengine.cache = 1").contains("`engine.engine`"));
    assert!(error("engine = { batch_sise = 1 }").contains("`engine.batch_sise`; did you mean `engine.batch_size`?"));
    assert!(error("[generate]\nbackend = \"cpu\"").contains("`generate.backend`; did you mean `backend`?"));
    assert!(
        error("[generate]\n\"a\\u001bb\" = 1").contains("`generate.\"a\\u001Bb\"`"),
        "control characters are escaped"
    );
    let long = error(&format!("{} = 1", "k".repeat(500_000)));
    assert!(long.len() < 300, "{}", long.len());
}

#[test]
fn the_first_of_several_errors_is_reported() {
    let message = error("[generate]\nzeta = 1\nalpha = 2\n[engine]\ncache = 3\n");
    assert!(message.starts_with("./camelid.toml:2: "), "{message}");
}

#[test]
fn values_of_the_wrong_type_or_out_of_range_are_named_with_the_rule() {
    let whole = "a whole number from 1 to 16777216";
    for (file, found, rule) in [
        ("backend = 1", "`backend` is 1", "be a string, the name of a backend"),
        ("backend = \"\"", "`backend` is the string \"\"", "be a string, the name of a backend"),
        ("[backend]\nuse = \"cpu\"", "`backend` is a table", "a backend's own settings go into [backends.NAME]"),
        ("model = \"\"", "`model` is the string \"\"", "be a string, the path of a checkpoint"),
        ("engine.context_size = 0", "`engine.context_size` is 0", whole),
        ("engine.context_size = -1", "is -1", whole),
        ("engine.context_size = 99999999999999999999999999999999999999999", "is 9999", whole),
        ("engine.context_size = 1.0", "is 1.0", whole),
        ("engine.context_size = true", "is true", whole),
        ("engine.context_size = 1979-05-27", "is the date 1979-05-27", whole),
        ("engine.context_size = [1, 2]", "is a list of 2", whole),
        ("engine.cache = \"page\"", "`engine.cache` is the string \"page\"", "be \"contiguous\" or \"paged\""),
        ("engine.kv_dtype = \"F16\"", "is the string \"F16\"", "be \"f32\" or \"f16\" or \"bf16\" or \"q8_0\""),
        ("generate.temperature = -0.1", "is -0.1", "be a finite number of at least 0"),
        ("generate.temperature = inf", "is inf", "be a finite number of at least 0"),
        ("generate.temperature = nan", "is nan", "be a finite number of at least 0"),
        ("generate.temperature = 1e999", "is 1e999", "be a finite number of at least 0"),
        ("generate.top_p = 0", "is 0", "above 0 and at most 1"),
        ("generate.repetition_penalty = 0.0", "is 0.0", "be a finite number above 0"),
        ("generate.presence_penalty = \"1\"", "is the string \"1\"", "be a finite number"),
        ("generate.seed = 18446744073709551616", "is 18446744073709551616", "at least 0 and below 2^64"),
        ("generate.stop = \"END\"", "is the string \"END\"", "be a list of strings"),
        ("generate.stop = [\"END\", \"\"]", "is a list of 2", "none of them empty"),
        ("generate.stop = [1]", "is a list of 1", "be a list of strings"),
        ("engine = 1", "`engine` is 1", "be a table: [engine]"),
        ("[[engine]]", "`engine` is a list of 1", "be a table: [engine]"),
        ("[backends]\ncpu = 1", "`backends.cpu` is 1", "be a table: [backends.cpu]"),
        ("[backends.CPU]", "`backends.CPU` is the table of no backend", "lower-case letters, digits, `-` and `_`"),
        ("[backends.cpu]\ndevice = -1", "`backends.cpu.device` is -1", "be a whole number from 0 to 4294967295"),
        ("[backends.cpu]\nlevel = 0.5", "`backends.cpu.level` is 0.5", "be a string, a whole number, true or false"),
        ("[backends.cpu]\nx = {a = 1}", "`backends.cpu.x` is a table", "be a string, a whole number, true or false"),
    ] {
        let message = error(file);
        let line = file.lines().count();
        let place = if file.starts_with("[backend]") || file.starts_with("[[") { 1 } else { line };
        assert!(message.starts_with(&format!("./camelid.toml:{place}: `")), "{message}");
        assert!(message.contains(&format!("{found}, but it must ")) || message.contains(found), "{message}");
        assert!(message.contains(rule), "{message}");
    }
    let long = error(&format!("engine.cache = \"{}\"", "x".repeat(500_000)));
    assert!(long.len() < 250, "{}", long.len());
}

#[test]
fn text_that_is_not_toml_is_an_error_with_its_line() {
    for (file, line) in [
        ("backend = \"cpu\"\nmodel = \"unclosed\n", 2),
        ("[engine]\ncache = paged\n", 2),
        ("backend = \"a\"\nbackend = \"b\"\n", 2),
        ("\n[engine\n", 2),
        ("engine.cache = \"paged\"\n[engine]\n", 2),
    ] {
        let message = error(file);
        assert!(message.starts_with(&format!("./camelid.toml:{line}: this is not TOML: ")), "{message}");
        assert!(!message.trim_end().contains('\n'), "{message}");
    }
}

#[test]
fn hostile_files_cost_an_error_and_no_stack() {
    for file in [
        format!("a = {}", "[".repeat(500_000)),
        format!("a = {}", "{a=".repeat(300_000)),
        format!("{} = 1", vec!["a"; 500_000].join(".")),
        format!("[{}]", vec!["a"; 500_000].join(".")),
        "[[a]]\n".repeat(150_000),
        (0..60_000).map(|i| format!("k{i} = 1\n")).collect(),
        format!("model = 1\n[backends.x]\n{}", (0..60_000).map(|i| format!("k{i} = 1\n")).collect::<String>()),
    ] {
        let message = error(&file);
        assert!(message.starts_with("./camelid.toml:1: "), "{}", &message[..message.len().min(200)]);
    }
}

#[test]
fn files_that_cannot_be_read_are_errors() {
    let missing = ConfigSources { explicit_file: Some("no.toml".into()), ..sources(folder("").path()) };
    assert!(
        Config::load(&missing).unwrap_err().to_string().starts_with("configuration file no.toml: cannot read it: ")
    );

    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("camelid.toml")).unwrap();
    let message = Config::load(&sources(directory.path())).unwrap_err().to_string();
    assert_eq!(message, "configuration file ./camelid.toml: it is a folder; name a TOML file");

    let binary = tempfile::tempdir().unwrap();
    fs::write(binary.path().join("camelid.toml"), b"backend = \"cpu\"\nmodel = \"\xff\"").unwrap();
    let message = Config::load(&sources(binary.path())).unwrap_err().to_string();
    assert!(message.contains("it is not UTF-8 text: byte 25, in line 2"), "{message}");

    let huge = folder(&"#".repeat((1 << 20) + 1));
    let message = Config::load(&sources(huge.path())).unwrap_err().to_string();
    assert!(message.contains("it has 1048577 bytes, more than the 1048576"), "{message}");
    load(&"#".repeat(1 << 20)).expect("the limit itself is allowed");
}

#[cfg(unix)]
#[test]
fn links_to_nothing_and_devices_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camelid.toml");
    std::os::unix::fs::symlink("nowhere.toml", &file).unwrap();
    assert!(Config::load(&sources(folder.path())).unwrap_err().to_string().contains("cannot read it"));
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
    assert!(Config::load(&sources(folder.path())).unwrap_err().to_string().contains("not a regular file"));
}

#[test]
fn every_key_but_the_backends_has_its_variable() {
    for key in KEYS {
        let value = match key.path {
            "engine.cache" => "paged",
            "engine.kv_dtype" => "f16",
            "engine.on_unsupported" => "error",
            "engine.repack" => "never",
            "plugins.trust" => "path",
            "generate.bad_words_ids" => "[[1], [2, 3]]",
            "generate.sequence_bias" => "[[[1, 2], -1.5]]",
            "generate.exponential_decay_length_penalty" => "[5, 1.25]",
            "generate.early_stopping" => "never",
            "generate.remove_invalid_values" | "generate.renormalize_logits" => "true",
            _ => "1",
        };
        let loaded = Config::load(&variables(&[(&key.variable(), value)])).unwrap();
        assert_eq!(loaded.settings().len(), 1, "{}", key.path);
        assert_eq!(loaded.settings()[0].key, key.path);
        assert_eq!(loaded.settings()[0].origin, Origin::Variable(key.variable()));
    }
    let stop =
        |text: &str| Config::load(&variables(&[("CAMELID_GENERATE_STOP", text)])).map(|l| l.config.generate.stop);
    assert_eq!(stop("a b").unwrap(), Some(vec!["a b".to_owned()]));
    assert_eq!(stop("[\"a\", '[/INST]']").unwrap(), Some(vec!["a".to_owned(), "[/INST]".to_owned()]));
    for bad in ["[/INST]", "[1]", "[\"\"]", ""] {
        assert!(stop(bad).unwrap_err().to_string().contains("be a list of strings"), "{bad}");
    }
    assert_eq!(
        Config::load(&variables(&[("CAMELID_MODEL", "a/b")])).unwrap().config.model,
        Some(PathBuf::from("a/b")),
        "relative to the working directory"
    );
}

#[test]
fn unknown_variables_are_errors_but_for_those_with_a_purpose() {
    let fails = |name: &str| Config::load(&variables(&[(name, "1")])).unwrap_err().to_string();
    assert!(fails("CAMELID_ENGINE_BATCHSIZE").contains("did you mean `CAMELID_ENGINE_BATCH_SIZE`?"));
    assert!(fails("CAMELID_SEED").contains("did you mean `CAMELID_GENERATE_SEED`?"));
    assert!(fails("CAMELID_CONFG").contains("did you mean `CAMELID_CONFIG`?"));
    assert!(fails("CAMELID_").starts_with("there is no variable CAMELID_ ("));
    assert!(fails("CAMELID_ENGINE").starts_with("there is no variable CAMELID_ENGINE"));
    assert!(fails("CAMELID_BACKENDS_CPU_THREADS").contains("write them to [backends.NAME]"));
    let empty = Config::load(&variables(&[("CAMELID_BACKEND", "")])).unwrap_err().to_string();
    assert!(
        empty.starts_with("CAMELID_BACKEND: `backend` is empty") && empty.contains("unset the variable"),
        "{empty}"
    );
    Config::load(&variables(&[("CAMELID_LOG", "debug"), ("CAMELID_CACHE", "x"), ("CAMEL", "x"), ("", "")])).unwrap();
}

/// Runs itself again as a process with a variable that is no text: a process cannot soundly change its own variables.
#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_an_error() {
    use std::os::unix::ffi::OsStrExt;
    if std::env::var_os("HOST_TEST_CHILD").is_some() {
        let message = camelid_host::config::environment().unwrap_err().to_string();
        assert!(message.starts_with("CAMELID_MODEL: the value is not UTF-8: \"a\\xFFb\""), "{message}");
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_variable_that_is_no_text_is_an_error"])
        .env("HOST_TEST_CHILD", "1")
        .env("CAMELID_MODEL", std::ffi::OsStr::from_bytes(b"a\xffb"))
        .env("OTHER", std::ffi::OsStr::from_bytes(b"\xff"))
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success() && output.contains("1 passed"), "{output}");
}

#[test]
fn flags_are_checked_like_everything_else() {
    let fails = |set: fn(&mut Config)| {
        let mut sources = variables(&[]);
        set(&mut sources.overrides);
        Config::load(&sources).unwrap_err().to_string()
    };
    let message = fails(|c| c.generate.top_p = Some(1.5));
    assert_eq!(message, "--top-p: `generate.top_p` is 1.5, but it must be a finite number above 0 and at most 1");
    assert!(
        fails(|c| c.generate.temperature = Some(f64::NAN)).starts_with("--temperature: `generate.temperature` is NaN")
    );
    assert!(fails(|c| c.engine.batch_size = Some(0)).starts_with("the command line: `engine.batch_size` is 0"));
    assert!(fails(|c| c.backend = Some("Not A Name".into())).starts_with("--backend: `backend` is \"Not A Name\""));
    assert!(fails(|c| c.model = Some(PathBuf::new())).starts_with("--model: `model` is \"\""));
    assert!(fails(|c| c.generate.stop = Some(vec![String::new()])).starts_with("--stop: "));
    assert!(fails(|c| drop(c.backends.insert("A".into(), BackendConfig::default()))).contains("name a backend"));
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_an_error(text in ".{0,200}", head in "(\\[engine\\]\n|\\[backends.x\\]\n|generate\\.)?") {
        let _ = load(&format!("{head}{text}"));
    }

    #[test]
    fn any_option_survives_being_shown(key in ".{1,80}", value in ".{0,80}") {
        prop_assume!(key != "device");
        let mut sources = variables(&[]);
        let options = [(key.clone(), value.clone())].into();
        sources.overrides.backends.insert("cpu".into(), BackendConfig { device: None, options });
        let loaded = Config::load(&sources).unwrap();
        let shown: String = loaded.settings().iter().map(|s| format!("{} = {}\n", s.key, s.value)).collect();
        prop_assert_eq!(load(&shown).unwrap().config, loaded.config, "{}", shown);
    }
}
