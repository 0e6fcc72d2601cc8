//! Memory that runs out: smaller passes, more of them, the same result. The limit is the shell's `ulimit -v`, in a process
//! of its own.

use std::process::Command;

use parlor_train::TrainEvent;

use crate::tiny::{self, Run};

const LIMITED: &str = "PARLOR_TEST_LIMITED_MEMORY";

/// One step over 256 examples of 512 tokens: about 250 MB of activations in one pass.
fn run(directory: &std::path::Path) -> (f64, Vec<String>, parlor_model::Decoder) {
    let mut run = Run::new(directory);
    run.train = (0..256)
        .map(|n| {
            let ids: Vec<u32> = (0..512).map(|i| ((n * 3 + i) % 29) as u32).collect();
            tiny::example(ids, vec![1.0; 512], n + 1)
        })
        .collect();
    run.eval = run.train.clone();
    run.hyper.per_device_train_batch_size = 256;
    run.hyper.per_device_eval_batch_size = 256;
    run.hyper.num_train_epochs = 1;
    let mut decoder = tiny::decoder();
    let (result, _, events) = run.go(&mut decoder);
    let warnings = events.into_iter().filter_map(|event| match event {
        TrainEvent::Warning(text) => Some(text),
        _ => None,
    });
    (result.unwrap().train_loss, warnings.collect(), decoder)
}

/// Does nothing unless it is started by the test below.
#[test]
fn limited_child() {
    if std::env::var_os(LIMITED).is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (loss, warnings, decoder) = run(directory.path());
    println!("LOSS {loss:.17e}");
    println!("WARNINGS {}", warnings.join(" | "));
    let sum: f64 = tiny::bits(&decoder).iter().map(|&bits| f64::from(f32::from_bits(bits).abs())).sum();
    println!("SUM {sum:.17e}");
}

fn child(limit_kib: Option<u64>) -> (f64, String, f64) {
    let limit = limit_kib.map(|kib| format!("ulimit -v {kib}; ")).unwrap_or_default();
    let script = format!("{limit}exec \"$0\" --exact memory::limited_child --nocapture");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(LIMITED, "1")
        // Fewer threads, fewer arenas and stacks: what is left of the address space is for the activations.
        .env("RAYON_NUM_THREADS", "2")
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let after = |name: &str| -> String {
        let line = text.lines().find_map(|line| line.split_once(name)).unwrap_or_else(|| panic!("{text}"));
        line.1.trim().to_owned()
    };
    (after("LOSS ").parse().unwrap(), after("WARNINGS"), after("SUM ").parse().unwrap())
}

#[test]
fn passes_are_halved_until_they_fit() {
    let (loss, warnings, sum) = child(None);
    assert_eq!(warnings, "");
    let (limited_loss, warnings, limited_sum) = child(Some(260_000));
    assert!(warnings.contains("memory ran out") && warnings.contains("examples in a pass"), "{warnings}");
    // The same sums in another order, and one update from them.
    assert!((loss - limited_loss).abs() < 1e-6 * loss, "{loss} {limited_loss}");
    assert!((sum - limited_sum).abs() < 1e-5 * sum, "{sum} {limited_sum}");
}
