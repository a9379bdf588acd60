//! Tests of resolving: what is accepted, what is refused, and with which words.

use super::*;
use crate::keys;

const MINIMAL: &str = "[input]\npath = \"data\"\n[output]\npath = \"out\"\n[model]\nname = \"lenet5\"\n";

fn resolve(text: &str, defines: &[&str]) -> Result<JobSpec, String> {
    let mut settings = Settings::new();
    settings.file("job.toml", text);
    for define in defines {
        settings.define(define);
    }
    JobSpec::resolve(settings).map_err(|problems| problems.to_string())
}

#[test]
fn later_layers_win_and_origins_are_kept() {
    let mut settings = Settings::new();
    settings.file("job.toml", &format!("epochs = 3\nnumerics = \"reproducible\"\n{MINIMAL}"));
    settings.define("epochs=5");
    settings.define("workers.memory=2g");
    settings.define("optimizer.lr=0.5");
    settings.flag("--queue", "yarn.queue", Value::Text("ml".into()));
    assert_eq!(settings.get("epochs").unwrap().origin, Origin::Define);
    assert_eq!(settings.get("input.path").unwrap().origin.to_string(), "job.toml:4");
    let spec = JobSpec::resolve(settings).unwrap();
    assert_eq!((spec.epochs, spec.yarn.queue.as_str()), (5, "ml"));
    assert_eq!(spec.workers.container.memory_bytes, 2 << 30);
    let unsaid = NumericsSpec { mode: NumericsMode::Reproducible, ..NumericsSpec::default() };
    assert_eq!(spec.numerics, unsaid);
    assert_eq!(spec.optimizer.params.0["lr"].value, Value::Float(0.5));
    assert_eq!(spec.lanes, 12);
    assert!(spec.validation.is_none());
}

#[test]
fn what_hangs_on_validations_needs_some() {
    let validated = format!("{MINIMAL}[validation]\nimages = \"t10k*\"\n");
    let selection = |defines: &[&str]| resolve(&validated, defines).map(|spec| spec.selection);
    let chosen = selection(&["early_stopping.patience=3", "early_stopping.monitor=top1"]).unwrap();
    assert_eq!((chosen.patience, chosen.monitor.maximize, chosen.keep_best), (Some(3), true, false));
    let perplexity = ["keep_best=true", "early_stopping.monitor=perplexity"];
    let chosen = selection(&[&perplexity[..], &["validation.metrics=[\"perplexity\"]"]].concat()).unwrap();
    assert!(!chosen.monitor.maximize);
    let text = selection(&perplexity).unwrap_err();
    assert!(text.contains("do not measure \"perplexity\", but loss, top1, top5; list it"), "{text}");
    let chosen = selection(&["keep_best=true", "early_stopping.mode=max"]).unwrap();
    assert!(chosen.keep_best && chosen.monitor.maximize && chosen.patience.is_none());
    let text = resolve(MINIMAL, &["keep_best=true", "early_stopping.patience=1"]).unwrap_err();
    for key in ["keep_best", "early_stopping.patience"] {
        assert!(text.contains(&format!("-D: {key}: needs validation data")), "{text}");
    }
    let text = selection(&["early_stopping.min_delta=0.1", "early_stopping.monitor=top5"]).unwrap_err();
    assert!(
        text.contains("early_stopping.min_delta: does nothing without early_stopping.patience"),
        "{text}"
    );
    assert!(text.contains("early_stopping.monitor: does nothing without"), "{text}");
}

#[test]
fn updates_have_limits() {
    let spec = resolve(MINIMAL, &["clip_norm=1", "clip_value=0.5", "ema_decay=0.999", "accumulate_steps=4"]);
    let expected = UpdatesSpec {
        accumulate_steps: 4,
        clip_value: Some(0.5),
        clip_norm: Some(1.0),
        ema_decay: Some(0.999),
    };
    assert_eq!(spec.unwrap().updates, expected);
    let text = resolve(MINIMAL, &["clip_norm=0", "clip_value=-1", "ema_decay=1", "accumulate_steps=2000000"]);
    let text = text.unwrap_err();
    for expected in [
        "-D: clip_norm: must be greater than 0",
        "-D: clip_value: expected a number of at least 0, found -1",
        "-D: ema_decay: must be less than 1",
        "-D: accumulate_steps: is 2000000; at most 1048576",
    ] {
        assert!(text.contains(expected), "missing: {expected}\nin:\n{text}");
    }
}

#[test]
fn groups_and_sequences_are_components_of_their_tables() {
    let text = format!(
        "{MINIMAL}[optimizer]\nlr = 0.1\n[[optimizer.groups]]\nmatch = \"a.*\"\n[[optimizer.groups]]\n\
         match = \"*\"\nfreeze = true\n[schedule]\nthen = [{{ name = \"cosine\", from_epoch = 2 }}]\n"
    );
    let spec = resolve(&text, &["optimizer.lr=0.2", "optimizer.groups[1].lr=3"]).unwrap();
    let names: Vec<&String> = spec.optimizer.params.0.keys().collect();
    let expected = ["groups[0].match", "groups[1].freeze", "groups[1].lr", "groups[1].match", "lr"];
    assert_eq!(names, expected);
    assert_eq!(spec.optimizer.params.0["lr"].value, Value::Float(0.2));
    assert_eq!(spec.schedule.params.0["then[0].name"].value, Value::Text("cosine".into()));
}

#[test]
fn reproducible_lanes_do_not_follow_from_the_workers() {
    let lanes = |mode: &str, workers: &str| {
        let defines = [format!("numerics={mode}"), format!("workers.max={workers}")];
        resolve(MINIMAL, &[&defines[0], &defines[1]]).unwrap().lanes
    };
    assert_eq!([lanes("fast", "1"), lanes("fast", "5")], [1, 10]);
    assert_eq!(
        ["1", "3", "12", "13", "24", "100"].map(|n| lanes("reproducible", n)),
        [12, 12, 12, 24, 24, 192]
    );
}

#[test]
fn keys_of_layers_that_there_are_not_are_mistakes() {
    let text = "[input]\npath = \"d\"\n[output]\npath = \"o\"\n[[model.layers]]\ntype = \"relu\"\n";
    for key in
        ["model.layers[1].type=relu2", "model.layers[7].x=1", "model.layers.0.x=1", "model.layers[-1].x=1"]
    {
        let told = resolve(text, &[key]).map(|spec| spec.model.layers.len());
        match key {
            "model.layers[1].type=relu2" => assert_eq!(told, Ok(2)),
            _ => assert!(told.unwrap_err().contains("no such layer"), "{key}"),
        }
    }
}

#[test]
fn metrics_are_read_with_their_parameters() {
    let metrics = "validation.metrics=[\"top5\", \"hr@10(group = 50)\"]";
    let spec = resolve(MINIMAL, &["validation.path=v", metrics]).unwrap();
    let found = spec.validation.unwrap().metrics;
    assert_eq!((found[0].name.as_str(), found[1].name.as_str()), ("top5", "hr@10"));
    assert_eq!(found[1].params.0["group"].value, Value::Int(50));
    assert_eq!(found[1].path, "validation.metrics[1]");
    let text = resolve(MINIMAL, &["validation.path=v", "validation.metrics=[\"top 5\"]"]).unwrap_err();
    assert!(
        text.contains("-D: validation.metrics[0]: expected a name, with its parameters in brackets"),
        "{text}"
    );
    let text = resolve(MINIMAL, &[metrics]).unwrap_err();
    assert!(text.contains("validation.metrics: says what to measure, but no validation data"), "{text}");
    let mut settings = Settings::new();
    assert_eq!(resolve_metrics(&settings, &found), Ok(found.clone()));
    settings.define("validation.metrics=f1");
    let other = resolve_metrics(&settings, &found).unwrap();
    assert_eq!(other.iter().map(|metric| metric.name.as_str()).collect::<Vec<_>>(), ["f1"]);
}

#[test]
fn columns_are_names_or_numbers() {
    let text = "[input]\npath = \"d\"\nformat = \"csv\"\ncsv.label = 2\ncsv.features = [0, 1]\n[output]\n\
                path = \"o\"\n[model]\nname = \"mlp\"\n";
    let InputFormat::Csv { label, features, .. } = resolve(text, &[]).unwrap().input.format else { panic!() };
    assert_eq!((label, features), (vec!["2".to_string()], vec!["0".to_string(), "1".to_string()]));
    let several = resolve(text, &["input.csv.label=[2, \"y\"]"]).unwrap().input.format;
    assert!(matches!(several, InputFormat::Csv { label, .. } if label == ["2", "y"]));
}

#[test]
fn inputs_of_trained_models_are_overridden_key_by_key() {
    let text = "[input]\npath = \"d\"\nformat = \"csv\"\nfiles = \"a*\"\nmean = 0.5\ncsv.header = true\n\
                csv.label = \"kind\"\ncsv.delimiter = \";\"\ncsv.features = [\"x\", \"y\"]\n[output]\npath = \"o\"\n\
                [model]\nname = \"mlp\"\n";
    let trained = resolve(text, &["input.cache=3m"]).unwrap().input;
    let with = |defines: &[&str]| {
        let mut settings = Settings::new();
        defines.iter().for_each(|define| settings.define(define));
        InputSpec::resolve(settings, &trained).map_err(|problems| problems.to_string())
    };
    assert_eq!(with(&[]).unwrap(), trained);
    let path = with(&["input.path=e", "input.prefetch=9"]).unwrap();
    assert_eq!(path, InputSpec { path: "e".into(), prefetch: 9, ..trained.clone() });
    let InputFormat::Csv { label, header, .. } = with(&["input.csv.label="]).unwrap().format else {
        panic!()
    };
    assert_eq!((label.len(), header), (0, true));
    let other = with(&["input.format=idx", "input.path=e"]).unwrap();
    assert!(matches!(other.format, InputFormat::Idx { .. }) && other.mean == [0.5]);
    assert!(with(&["input.raw.shape=[3]"]).unwrap_err().contains("does not apply"));
}

#[test]
fn every_mistake_is_named_in_one_go() {
    let text = "epcohs = 3\nbatch_size = \"many\"\nseed = 1.5\n[workers]\nmin = 4\nmax = 2\nmemory = \"512\"\n\
                [network]\nwire = \"f16\"\n[input]\nformat = \"csv\"\nimages = \"x\"\n";
    let text = resolve(text, &["yarn.queu=x", "nonsense"]).unwrap_err();
    for expected in [
        "job.toml:1: epcohs: unknown key; did you mean \"epochs\"?",
        "job.toml:2: batch_size: expected a whole number of at least 1, found \"many\"",
        "job.toml:3: seed: expected a whole number of at least 0, found 1.5",
        "job.toml:5: workers.min: is 4 but workers.max is 2",
        "job.toml:7: workers.memory: \"512\" has no unit",
        "job.toml:9: network.wire: expected one of \"f32\", \"bf16\", found \"f16\"",
        "job.toml:12: input.images: does not apply to input.format = \"csv\"",
        "-D: yarn.queu: unknown key; did you mean \"yarn.queue\"?",
        "-D: nonsense: expected -D key=value",
        "input.path: is required",
        "output.path: is required",
        "model: is required",
    ] {
        assert!(text.contains(expected), "missing: {expected}\nin:\n{text}");
    }
}

#[test]
fn syntax_errors_carry_their_line() {
    let text = resolve("epochs = 3\nname = \n[input\n", &[]).unwrap_err();
    assert!(text.contains("job.toml:2: syntax"), "{text}");
    assert!(text.contains("job.toml:3: syntax"), "{text}");
}

#[test]
fn layers_are_components_in_order_and_can_be_overridden() {
    let text = "[input]\npath = \"d\"\n[output]\npath = \"o\"\n[[model.layers]]\ntype = \"linear\"\nout = 10\n\
                [[model.layers]]\ntype = \"relu\"\n";
    let spec = resolve(text, &["model.layers[0].out=20"]).unwrap();
    assert_eq!(spec.model.model.name, "custom");
    assert_eq!(spec.model.layers.len(), 2);
    assert_eq!(spec.model.layers[0].params.0["out"].value, Value::Int(20));
    assert_eq!(spec.model.layers[1].name, "relu");
    let both = resolve(&format!("{text}[model]\nname = \"lenet5\"\n"), &[]).unwrap_err();
    assert!(both.contains("both a named model"), "{both}");
}

#[test]
fn validation_takes_over_the_format_of_the_input() {
    let spec = resolve(&format!("{MINIMAL}[validation]\nimages = \"t10k-images*\"\n"), &[]).unwrap();
    let validation = spec.validation.unwrap();
    assert_eq!(validation.input.path, "data");
    assert_eq!(
        validation.input.format,
        InputFormat::Idx { images: "t10k-images*".into(), labels: "train-labels*".into() }
    );
    let text = resolve(&format!("{MINIMAL}[validation]\nfiles = \"x\"\n"), &[]).unwrap_err();
    assert!(text.contains("validation.files: does not apply"), "{text}");
}

#[test]
fn a_trained_model_knows_its_data_unless_told_otherwise() {
    let trained = resolve(MINIMAL, &[]).unwrap().input;
    let with = |defines: &[&str]| {
        let mut settings = Settings::new();
        defines.iter().for_each(|define| settings.define(define));
        InputSpec::resolve(settings, &trained)
    };
    assert_eq!(with(&[]).unwrap(), trained);
    assert_eq!(
        with(&["input=elsewhere"]).unwrap(),
        InputSpec { path: "elsewhere".into(), ..trained.clone() }
    );
    let csv = with(&["input=x", "input.format=csv"]).unwrap();
    assert!(matches!(csv.format, InputFormat::Csv { .. }));
    assert!(with(&["input.format=csv"]).unwrap_err().to_string().contains("input.path: is required"));
}

#[test]
fn the_list_of_keys_is_sound_and_its_defaults_resolve() {
    for (i, key) in keys::KEYS.iter().enumerate() {
        assert!(keys::KEYS[..i].iter().all(|other| other.name != key.name), "{} is listed twice", key.name);
    }
    let mut settings = Settings::new();
    settings.file("defaults.toml", &keys::defaults_toml(""));
    settings.file("job.toml", MINIMAL);
    let spec = JobSpec::resolve(settings).unwrap();
    assert_eq!(spec, resolve(MINIMAL, &[]).unwrap(), "a copy of the defaults changes nothing");
}

#[test]
fn a_resolved_job_travels_unchanged() {
    let spec = resolve(MINIMAL, &["optimizer.momentum=0.9"]).unwrap();
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<JobSpec>(&text).unwrap(), spec);
}
