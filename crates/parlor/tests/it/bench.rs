//! `parlor bench` on a small shape: what scripts read of it, and what it refuses.

use serde_json::Value;

use crate::program::parlor;

#[test]
fn the_report_has_the_machine_its_limits_and_a_line_for_each_work() {
    let directory = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let arguments = [&["bench", "--shape", "small", "--json"], more].concat();
        parlor(directory.path(), &arguments).ok()
    };
    let report: Value =
        serde_json::from_str(&run(&["--dtype", "q8_0", "--only", "prefill,decode"]).stdout).unwrap();
    let names = |report: &Value| -> Vec<String> {
        let results = report["results"].as_array().unwrap();
        results.iter().map(|result| result["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&report), ["prefill, 512 tokens", "decode, 1 sequence", "decode, 8 sequences"]);
    assert!(report["machine"]["threads"].as_u64().unwrap() > 0);
    assert!(report["limits"]["read_gb_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(report["dtype"], "q8_0");
    for result in report["results"].as_array().unwrap() {
        let number = |key: &str| result[key].as_f64().unwrap();
        assert_eq!(result["unit"], "tokens/s");
        assert!(number("value") > 0.0 && number("limit") > 0.0);
        assert!((number("percent_of_limit") - 100.0 * number("value") / number("limit")).abs() < 1e-6);
    }
    let training: Value = serde_json::from_str(&run(&["--only", "train,lora"]).stdout).unwrap();
    assert_eq!(names(&training), ["training step, LoRA r=16", "training step, all weights"]);
    // Steps that ran before find all their memory there. A single page that another part of the program asks for meanwhile is no
    // page of a step: these are means over many steps.
    if cfg!(target_os = "linux") {
        for result in [&report, &training].iter().flat_map(|report| report["results"].as_array().unwrap()) {
            let faults = result["page_faults"].as_f64().unwrap();
            assert!(faults < 1.0, "{}: {faults} page faults a step", result["name"]);
        }
    }
}

#[test]
fn a_model_on_disk_is_loaded_and_answers() {
    let directory = tempfile::tempdir().unwrap();
    let model = format!("{}/../../fixtures/gguf/qwen2_chat.gguf", env!("CARGO_MANIFEST_DIR"));
    let arguments = ["bench", "-m", &model, "--json", "--only", "load"];
    let report = parlor(directory.path(), &arguments).ok().json();
    let results = report["results"].as_array().unwrap();
    let names: Vec<&str> = results.iter().map(|result| result["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["load", "load and first token"]);
    let seconds: Vec<f64> = results.iter().map(|result| result["value"].as_f64().unwrap()).collect();
    assert!(0.0 < seconds[0] && seconds[0] < seconds[1], "{seconds:?}");
}

#[test]
fn what_is_not_known_is_refused_with_what_is() {
    let directory = tempfile::tempdir().unwrap();
    parlor(directory.path(), &["bench", "--shape", "huge"]).refused(&["--shape", "qwen2.5-0.5b"]);
    parlor(directory.path(), &["bench", "--dtype", "q9"]).refused(&["--dtype", "q8_0"]);
}

/// A stand-in for PyTorch's Python: it reads its input and says a speed.
fn stand_in(directory: &std::path::Path, says: &str) -> String {
    let path = directory.join("python-stand-in");
    std::fs::write(&path, format!("#!/bin/sh\ncat > /dev/null\n{says}\n")).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[cfg(unix)]
#[test]
fn another_program_does_the_same_in_turn() {
    let directory = tempfile::tempdir().unwrap();
    let peer = stand_in(directory.path(), r#"echo "{\"tokens_per_second\": 0.5}""#);
    let arguments = |peer: &str| {
        let all = [
            "bench",
            "--shape",
            "small",
            "--only",
            "prefill",
            "--against",
            "torch",
            "--rounds",
            "2",
            "--json",
        ];
        [&all[..], &["--peer", peer]].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |arguments: Vec<String>| {
        parlor(directory.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let report: Value = serde_json::from_str(&run(arguments(&peer)).ok().stdout).unwrap();
    let against = &report["against"];
    assert_eq!(against["peer"], "torch");
    let compared = &against["results"][0];
    assert_eq!(compared["name"], "prefill, 512 tokens");
    assert_eq!(
        (compared["own"].as_array().unwrap().len(), compared["peer"].as_array().unwrap().len()),
        (2, 2)
    );
    assert_eq!(compared["peer_median"], 0.5);
    let ratio = compared["own_median"].as_f64().unwrap() / 0.5;
    assert!((compared["ratio"].as_f64().unwrap() - ratio).abs() < 1e-9);
    // One that fails is named, with what it said.
    let broken = stand_in(directory.path(), "echo no module named torch >&2; exit 3");
    let ended = run(arguments(&broken));
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("python-stand-in") && ended.stderr.contains("no module named torch"));
}

#[test]
fn another_program_must_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let against = ["bench", "--shape", "small", "--against", "llama.cpp"];
    parlor(directory.path(), &against).refused(&["GGUF", "-m model.gguf"]);
}
