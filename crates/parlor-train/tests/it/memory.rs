//! Memory that runs out: smaller passes, more of them, the same result. The limit is what `FreeMemory`
//! reports, or the shell's `ulimit -v` in a process of its own.

use std::cell::Cell;
use std::process::Command;

use parlor_kernels::Arithmetic;
use parlor_model::memory::FreeMemory;
use parlor_model::{Checkpointing, PassKind, PassSize, activation_bytes, logits_bytes};
use parlor_train::checkpoint::{list_checkpoints, open_checkpoint};
use parlor_train::objectives::CrossEntropy;
use parlor_train::{Loss, LossKind, MicroBatch, Objective, Outcome, Sequence, TrainEvent};

use crate::tiny::{self, LoopTest};

const LIMITED: &str = "PARLOR_TEST_LIMITED_MEMORY";

/// One step over 256 examples of 512 tokens: about 250 MB of activations in one pass.
fn run(directory: &std::path::Path) -> (f64, Vec<String>, parlor_model::Decoder) {
    let mut run = LoopTest::new(directory);
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
    (result.unwrap().train_loss, warnings(events), decoder)
}

fn warnings(events: Vec<TrainEvent>) -> Vec<String> {
    let warnings = events.into_iter().filter_map(|event| match event {
        TrainEvent::Warning(text) => Some(text),
        _ => None,
    });
    warnings.collect()
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
    assert!(warnings.contains("memory ran out") && warnings.contains("the same result"), "{warnings}");
    // The same sums in another order, and one update from them.
    assert!((loss - limited_loss).abs() < 1e-6 * loss, "{loss} {limited_loss}");
    assert!((sum - limited_sum).abs() < 1e-5 * sum, "{sum} {limited_sum}");
}

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Reports enough free memory for a pass of `tokens`, and no more.
fn room_for(tokens: usize, checkpointing: Checkpointing) -> FreeMemory {
    let size = PassSize { tokens, rows: tokens };
    // A pass also needs 32 MiB in reserve, and the logits of this small vocabulary.
    let logits = logits_bytes(&tiny::config(), tokens);
    let kind = PassKind { arithmetic: Arithmetic::F32, backward: Some(checkpointing), keeps_inputs: false };
    let activations = activation_bytes(&tiny::config(), kind, size, None);
    LEFT.set(activations + logits + (32 << 20));
    FreeMemory(|| Some(LEFT.get()))
}

/// Loss, rows and warnings of two epochs over 20 examples in passes of `batch_size`.
fn told(batch_size: usize, free_memory: FreeMemory) -> (f64, tiny::Rows, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let mut run = LoopTest::new(directory.path());
    run.hyper.per_device_train_batch_size = batch_size;
    run.free_memory = free_memory;
    let (result, rows, events) = run.go(&mut tiny::decoder());
    (result.unwrap().train_loss, rows, warnings(events))
}

#[test]
fn a_pass_that_would_not_fit_is_halved_before_it_begins() {
    // Examples have 3 to 11 tokens: 20 in a pass are about 140.
    let (loss, rows, warnings) = told(20, FreeMemory::default());
    assert_eq!(warnings, Vec::<String>::new());
    let (limited_loss, limited_rows, warnings) = told(20, room_for(80, Checkpointing::None));
    insta::assert_snapshot!(warnings.join("\n"));
    assert!((loss - limited_loss).abs() < 1e-6 * loss, "{loss} {limited_loss}");
    assert_eq!(rows.len(), limited_rows.len());
    for (a, b) in rows.iter().zip(&limited_rows) {
        for key in ["loss", "grad_norm"] {
            let (a, b) = (a[key].as_f64().unwrap(), b[key].as_f64().unwrap());
            // As one by eight and eight by one.
            assert!((a - b).abs() < 1e-5 * a.abs(), "{key}: {a} and {b}");
        }
        assert_eq!(a["tokens"], b["tokens"]);
    }
}

#[test]
fn activations_are_computed_again_when_one_example_does_not_fit() {
    // One of 11 tokens has no room, unless a block at a time is kept.
    let (loss, _, _) = told(2, FreeMemory::default());
    let (limited_loss, _, warnings) = told(2, room_for(10, Checkpointing::None));
    insta::assert_snapshot!(warnings.join("\n"));
    assert!((loss - limited_loss).abs() < 1e-6 * loss, "{loss} {limited_loss}");
}

/// Whose passes may not be divided without changing it.
struct Whole;

impl Objective for Whole {
    type Example = Sequence;
    type Side = ();
    const KIND: LossKind = LossKind::PerToken;

    fn collate(&self, examples: &[&Sequence], step: &[&Sequence]) -> MicroBatch<()> {
        CrossEntropy.collate(examples, step)
    }

    fn loss(&self, micro: &MicroBatch<()>, logp: &[f32]) -> Loss {
        CrossEntropy.loss(micro, logp)
    }

    fn is_divisible(&self) -> bool {
        false
    }

    fn source(&self, example: &Sequence) -> String {
        CrossEntropy.source(example)
    }

    fn fingerprint(&self, example: &Sequence, add: &mut dyn FnMut(&[u8])) {
        CrossEntropy.fingerprint(example, add);
    }
}

#[test]
fn what_cannot_be_divided_is_computed_again_first() {
    let said = |tokens| {
        let directory = tempfile::tempdir().unwrap();
        let mut run = LoopTest::new(directory.path());
        run.hyper.per_device_train_batch_size = 20;
        run.free_memory = room_for(tokens, Checkpointing::None);
        let (result, _, events) = run.go_with(&Whole, &mut tiny::decoder());
        result.unwrap();
        warnings(events).join("\n")
    };
    // Of 137 tokens; a block at a time takes about two thirds of both.
    insta::assert_snapshot!(said(120));
    insta::assert_snapshot!(said(60));
}

#[test]
fn a_run_that_no_change_makes_fit_is_kept() {
    // The sixth example is longer than those before it.
    let run = |directory| {
        let mut run = LoopTest::new(directory);
        run.hyper.per_device_train_batch_size = 1;
        let sixth = parlor_text::epoch_order(run.train.len(), run.training.seed, 0)[5];
        run.train[sixth] = tiny::example((0..25).collect(), vec![1.0; 25], sixth + 1);
        run
    };
    let directory = tempfile::tempdir().unwrap();
    let mut expected = tiny::decoder();
    run(directory.path()).go(&mut expected).0.unwrap();

    let directory = tempfile::tempdir().unwrap();
    let mut limited = run(directory.path());
    limited.free_memory = room_for(11, Checkpointing::Every(std::num::NonZeroUsize::MIN));
    let (result, rows, _) = limited.go(&mut tiny::decoder());
    let error = result.unwrap_err();
    assert!(!error.before_start());
    assert_eq!(rows.len(), 5);
    let [(5, path)] = &list_checkpoints(directory.path())[..] else { panic!("one checkpoint is expected") };
    insta::assert_snapshot!(error.to_string());

    // With more memory the resumed run ends the same.
    let mut again = run(directory.path());
    again.resume = Some(open_checkpoint(path).unwrap());
    let mut decoder = tiny::load_model(path);
    assert_eq!(again.go(&mut decoder).0.unwrap().outcome, Outcome::Completed);
    assert_eq!(tiny::bits(&decoder), tiny::bits(&expected));
}
