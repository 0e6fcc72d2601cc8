//! Several processes that train together, over MPI where the program is built with it.

use crate::program::{command, ended, parlor};
use crate::tiny::workplace;

#[test]
fn ranks_that_cannot_reach_each_other_are_refused() {
    let directory = workplace();
    let mut command = command(directory.path(), &["train"]);
    command.envs([("RANK", "1"), ("WORLD_SIZE", "4"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")]);
    let words: &[&str] = if cfg!(feature = "mpi") {
        &["RANK and WORLD_SIZE started 4 ranks, but MPI connects 1", "mpirun"]
    } else {
        &["rank 1 of 4 (the variables RANK and WORLD_SIZE)", "--features mpi"]
    };
    ended(&mut command).refused(words);
    assert!(!directory.path().join("out").exists());
    // One is no rank among several.
    let mut alone = crate::program::command(directory.path(), &["train", "--max-steps", "1"]);
    ended(alone.envs([("RANK", "0"), ("WORLD_SIZE", "1")])).ok();
    parlor(directory.path(), &["info", "-m", "out"]).ok();
}

#[cfg(feature = "mpi")]
mod over_mpi {
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use serde_json::Value;

    use crate::program::{Ended, ended, parlor};
    use crate::tiny::workplace;
    use crate::train::metrics;

    /// The step of the config's run, divided among two.
    const HALF: &str = "training.from_scratch.gradient_accumulation_steps=1";

    fn mpirun(directory: &Path, args: &[&str]) -> Command {
        let mut command = Command::new("mpirun");
        command.args(["-n", "2", env!("CARGO_BIN_EXE_parlor")]).args(args).current_dir(directory);
        command.env("RAYON_NUM_THREADS", "1").stdin(Stdio::null());
        command
    }

    fn weights(directory: &Path) -> Vec<f32> {
        let bytes = std::fs::read(directory.join("out/model.safetensors")).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// Equal to the rounding of sums, step by step and in the end: AdamW turns a difference of 1e-7 in a gradient near
    /// zero into one of up to a learning rate in a weight, so weights are compared by their mean difference.
    fn same(one: &Path, two: &Path) {
        let (a, b) = (metrics(&one.join("out")), metrics(&two.join("out")));
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(&b) {
            assert_eq!((&a["step"], a.get("tokens")), (&b["step"], b.get("tokens")));
            for key in ["loss", "grad_norm", "eval_loss"] {
                match (a.get(key).and_then(Value::as_f64), b.get(key).and_then(Value::as_f64)) {
                    (Some(a), Some(b)) => assert!((a - b).abs() <= 1e-3 * a.abs(), "{key}: {a} and {b}"),
                    (a, b) => assert_eq!(a, b, "{key}"),
                }
            }
        }
        let (a, b) = (weights(one), weights(two));
        assert_eq!(a.len(), b.len());
        let mean =
            |values: &mut dyn Iterator<Item = f32>| values.map(f64::from).sum::<f64>() / a.len() as f64;
        let difference = mean(&mut a.iter().zip(&b).map(|(a, b)| (a - b).abs()));
        let size = mean(&mut a.iter().map(|a| a.abs()));
        assert!(difference < 1e-3 * size, "{difference:e} of {size:e}");
    }

    #[test]
    fn two_ranks_are_one_with_twice_the_accumulation() {
        let (one, two) = (workplace(), workplace());
        parlor(one.path(), &["train", "--max-steps", "20"]).ok();
        let ended =
            ended(&mut mpirun(two.path(), &["train", "--max-steps", "20", "--set", HALF, "--json"])).ok();
        // Rank 0 alone tells.
        let summary: Value = ended.json();
        assert_eq!(summary["steps"], 20);
        assert_eq!(ended.stderr.matches("step 20/20").count(), 1, "{}", ended.stderr);
        same(one.path(), two.path());
        assert!(two.path().join("out/checkpoint-20/optimizer.safetensors").is_file());
    }

    #[test]
    fn a_rank_that_dies_ends_the_job_and_one_rank_goes_on_from_the_last_checkpoint() {
        let (one, two) = (workplace(), workplace());
        parlor(one.path(), &["train", "--max-steps", "40"]).ok();
        let args = ["train", "--max-steps", "40", "--set", HALF];
        let mut job = mpirun(two.path(), &args);
        let mut job = job.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let saved = two.path().join("out/checkpoint-10/parlor_state.json");
        while !saved.is_file() && job.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let ranks = children(job.id());
        if let Some(rank) = ranks.last() {
            let _ = Command::new("kill").args(["-9", &rank.to_string()]).stderr(Stdio::null()).status();
        }
        let output = job.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            assert!(said.len() > 100, "the job says nothing of why it ended: {said}");
            assert!(!two.path().join("out/model.safetensors").exists());
        }
        // `mpirun` may end a moment before the ranks that it has ended.
        let since = Instant::now();
        for rank in ranks {
            while runs(rank) {
                assert!(since.elapsed() < Duration::from_secs(10), "rank {rank} goes on alone");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        parlor(two.path(), &["train", "--max-steps", "40", "--resume"]).ok();
        same(one.path(), two.path());
    }

    /// Whether a process is there and has not ended: one that nobody has asked for its end yet is still listed.
    fn runs(id: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, after)| !after.starts_with(['Z', 'X']))
    }

    /// Ranks below `mpirun`, by name and their ancestors.
    fn children(job: u32) -> Vec<u32> {
        let all: Vec<(u32, u32, String)> = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| {
                let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
                let (before, after) = stat.rsplit_once(") ")?;
                let (id, name) = before.split_once(" (")?;
                let parent = after.split(' ').nth(1)?;
                Some((id.parse().ok()?, parent.parse().ok()?, name.to_owned()))
            })
            .collect();
        let below = |mut id: u32| {
            while let Some((_, parent, _)) = all.iter().find(|(known, ..)| *known == id) {
                if *parent == job {
                    return true;
                }
                id = *parent;
            }
            false
        };
        all.iter().filter(|(id, _, name)| name == "parlor" && below(*id)).map(|(id, ..)| *id).collect()
    }

    #[test]
    fn what_all_ranks_refuse_is_said_once() {
        let directory = workplace();
        let Ended { code, stdout, stderr } =
            ended(&mut mpirun(directory.path(), &["train", "--set", "training.optimizer=adamm"]));
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert_eq!(stderr.matches("did you mean").count(), 1, "{stderr}");
    }
}
