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
    let report: Value = serde_json::from_str(&run(&["--only", "train,lora"]).stdout).unwrap();
    assert_eq!(names(&report), ["training step, LoRA r=16", "training step, all weights"]);
}

#[test]
fn what_is_not_known_is_refused_with_what_is() {
    let directory = tempfile::tempdir().unwrap();
    parlor(directory.path(), &["bench", "--shape", "huge"]).refused(&["--shape", "qwen2.5-0.5b"]);
    parlor(directory.path(), &["bench", "--dtype", "q9"]).refused(&["--dtype", "q8_0"]);
}
