//! Ranks that train together, here threads of one process: two equal one with twice the accumulation, their
//! state is divided, and a run resumes with another number of ranks.

use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};

use parlor_model::Decoder;
use parlor_train::checkpoint::{Checkpoint, open_checkpoint};
use parlor_train::config::OptimizerName;
use parlor_train::distributed::{
    Alone, Collective, DistributedError, Launch, Launcher, Shards, setup_distributed_training,
};
use parlor_train::{Finished, OtherStates};

use crate::tiny::{self, LoopTest, Rows, bits};

/// Ranks as threads.
#[derive(Debug)]
pub(crate) struct Threads {
    rank: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    barrier: Barrier,
    parts: Mutex<Vec<Vec<u8>>>,
}

impl Threads {
    pub(crate) fn world(size: usize) -> Vec<Self> {
        let parts = Mutex::new(vec![Vec::new(); size]);
        let shared = Arc::new(Shared { barrier: Barrier::new(size), parts });
        (0..size).map(|rank| Self { rank, shared: Arc::clone(&shared) }).collect()
    }

    /// Everyone's bytes.
    fn exchange(&self, own: &[u8]) -> Vec<Vec<u8>> {
        self.shared.parts.lock().unwrap()[self.rank] = own.to_vec();
        self.shared.barrier.wait();
        let all = self.shared.parts.lock().unwrap().clone();
        self.shared.barrier.wait();
        all
    }
}

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.shared.parts.lock().unwrap().len()
    }

    fn sum_f32(&self, values: &mut [f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        values.fill(0.0);
        for part in self.exchange(&bytes) {
            assert_eq!(part.len(), bytes.len(), "ranks sum different things");
            for (value, bytes) in values.iter_mut().zip(part.chunks_exact(4)) {
                *value += f32::from_le_bytes(bytes.try_into().unwrap());
            }
        }
    }

    fn sum_f64(&self, values: &mut [f64]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        values.fill(0.0);
        for part in self.exchange(&bytes) {
            assert_eq!(part.len(), bytes.len(), "ranks sum different things");
            for (value, bytes) in values.iter_mut().zip(part.chunks_exact(8)) {
                *value += f64::from_le_bytes(bytes.try_into().unwrap());
            }
        }
    }

    fn broadcast(&self, root: usize, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.exchange(bytes)[root]);
    }

    fn abort(&self, _: i32) {
        panic!("a rank gives up");
    }
}

/// One examples set, batches of two; `accumulation` times `ranks` of them are a step.
fn run(directory: &Path, collective: Arc<dyn Collective>, accumulation: usize) -> LoopTest<'_> {
    let mut run = LoopTest::new(directory);
    run.eval = tiny::examples(3);
    run.hyper.per_device_train_batch_size = 2;
    run.hyper.gradient_accumulation_steps = accumulation;
    run.hyper.eval_steps = 3;
    run.hyper.save_steps = 3;
    run.hyper.save_total_limit = None;
    run.collective = collective;
    run
}

type Ended = (Finished, Rows, Decoder);

fn ranks(directory: &Path, size: usize, accumulation: usize, resume: Option<&Checkpoint>) -> Vec<Ended> {
    std::thread::scope(|scope| {
        let world = Threads::world(size).into_iter();
        let threads: Vec<_> = world
            .map(|collective| {
                scope.spawn(move || {
                    let mut decoder = match resume {
                        Some(checkpoint) => tiny::load_model(&checkpoint.path),
                        None => tiny::decoder(),
                    };
                    let mut run = run(directory, Arc::new(collective), accumulation);
                    run.resume = resume.cloned();
                    let (finished, rows, _) = run.go(&mut decoder);
                    (finished.unwrap(), rows, decoder)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Equal to the rounding of sums: losses and norms are near 1, of f32 sums of a few thousand products.
fn close(a: &Rows, b: &Rows) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        for key in ["loss", "grad_norm", "learning_rate", "eval_loss", "tokens", "step"] {
            match (a.get(key).and_then(|v| v.as_f64()), b.get(key).and_then(|v| v.as_f64())) {
                (Some(a), Some(b)) => assert!((a - b).abs() <= 2e-5 * a.abs(), "{key}: {a} and {b}"),
                (a, b) => assert_eq!(a, b, "{key}"),
            }
        }
    }
}

#[test]
fn two_ranks_are_one_with_twice_the_accumulation() {
    let (one, two, three) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut decoder = tiny::decoder();
    let (finished, rows, _) = run(one.path(), Arc::new(Alone), 6).go(&mut decoder);
    let finished = finished.unwrap();
    for (directory, size) in [(&two, 2), (&three, 3)] {
        let ended = ranks(directory.path(), size, 6 / size, None);
        for (other, _, copy) in &ended {
            assert_eq!((other.steps, other.totals.tokens), (finished.steps, finished.totals.tokens));
            assert!(bits(copy) == bits(&ended[0].2), "ranks end with different weights");
            assert_eq!(other.best, ended[0].0.best);
        }
        close(&ended[0].1, &rows);
    }
}

#[test]
fn the_ranks_divide_the_optimizers_state_and_a_checkpoint_holds_all_of_it() {
    for optimizer in [OptimizerName::AdamwTorch, OptimizerName::Muon, OptimizerName::Adamw8bit] {
        let directory = tempfile::tempdir().unwrap();
        let (mut whole, mut run) = (tiny::decoder(), run(directory.path(), Arc::new(Alone), 2));
        run.training.optimizer = optimizer;
        let alone = parlor_train::Optimizer::new(&run.training, &run.hyper, &whole).unwrap();
        let path = directory.path().join("state.safetensors");
        alone.save(&path, &whole, &OtherStates::default()).unwrap();
        let names = |path: &Path| {
            let bytes = std::fs::read(path).unwrap();
            let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let mut names: Vec<String> = tensors.names().iter().map(|name| name.to_string()).collect();
            names.sort();
            names
        };
        let expected = names(&path);
        run.go(&mut whole).0.unwrap();
        assert_eq!(names(&directory.path().join("checkpoint-3/optimizer.safetensors")), expected);
        let two = tempfile::tempdir().unwrap();
        ranks_with(two.path(), optimizer);
        assert_eq!(names(&two.path().join("checkpoint-3/optimizer.safetensors")), expected);
    }
}

fn ranks_with(directory: &Path, optimizer: OptimizerName) {
    std::thread::scope(|scope| {
        for collective in Threads::world(2) {
            scope.spawn(move || {
                let mut run = run(directory, Arc::new(collective), 1);
                run.training.optimizer = optimizer;
                run.go(&mut tiny::decoder()).0.unwrap();
            });
        }
    });
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let whole = tempfile::tempdir().unwrap();
    let mut decoder = tiny::decoder();
    let (finished, rows, _) = run(whole.path(), Arc::new(Alone), 2).go(&mut decoder);
    finished.unwrap();
    let two = tempfile::tempdir().unwrap();
    ranks(two.path(), 2, 1, None);
    // From two ranks to one, and from one to two.
    for (from, size, accumulation) in [(&two, 1, 2), (&whole, 2, 1)] {
        let checkpoint = open_checkpoint(&from.path().join("checkpoint-3")).unwrap();
        let rest = tempfile::tempdir().unwrap();
        let ended = ranks(rest.path(), size, accumulation, Some(&checkpoint));
        let after: Rows = rows.iter().filter(|row| row["step"].as_u64() > Some(3)).cloned().collect();
        close(&ended[0].1, &after);
    }
}

#[test]
fn ranks_without_an_example_of_their_own_take_part() {
    // One example in the whole run, four ranks.
    let (one, four) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut alone = run(one.path(), Arc::new(Alone), 4);
    alone.train.truncate(1);
    let (finished, rows, _) = alone.go(&mut tiny::decoder());
    finished.unwrap();
    let ended: Vec<Rows> = std::thread::scope(|scope| {
        let threads: Vec<_> = Threads::world(4)
            .into_iter()
            .map(|collective| {
                let directory = four.path();
                scope.spawn(move || {
                    let mut run = run(directory, Arc::new(collective), 1);
                    run.train.truncate(1);
                    let (finished, rows, _) = run.go(&mut tiny::decoder());
                    finished.unwrap();
                    rows
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    close(&ended[0], &rows);
}

fn launch(variables: &[(&str, &str)]) -> Option<Launch> {
    Launch::from_variables(|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn launchers_name_the_rank() {
    let check = |variables: &[(&str, &str)], expected: Option<(Launcher, usize, usize, usize)>| {
        let found = launch(variables);
        let place =
            found.map(|launch| (launch.launcher, launch.rank, launch.world_size, launch.local_world_size));
        assert_eq!(place, expected, "{variables:?}");
    };
    check(&[], None);
    check(&[("RANK", "1")], None);
    check(&[("RANK", "2"), ("WORLD_SIZE", "2")], None);
    check(&[("RANK", "x"), ("WORLD_SIZE", "2")], None);
    check(
        &[("RANK", "1"), ("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "2")],
        Some((Launcher::Torchrun, 1, 4, 2)),
    );
    check(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")], Some((Launcher::Mpich, 0, 2, 1)));
    check(
        &[("OMPI_COMM_WORLD_RANK", "3"), ("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_LOCAL_SIZE", "4")],
        Some((Launcher::OpenMpi, 3, 4, 4)),
    );
    check(
        &[("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_STEP_TASKS_PER_NODE", "2(x4)")],
        Some((Launcher::Slurm, 1, 8, 2)),
    );
    let found =
        launch(&[("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "10.0.0.1"), ("MASTER_PORT", "29500")]);
    assert_eq!(found.unwrap().master.as_deref(), Some("10.0.0.1:29500"));
}

#[test]
fn several_ranks_without_an_engine_are_refused() {
    assert_eq!(setup_distributed_training(None).unwrap().world_size(), 1);
    let one = launch(&[("RANK", "0"), ("WORLD_SIZE", "1")]);
    assert_eq!(setup_distributed_training(one.as_ref()).unwrap().world_size(), 1);
    let error = DistributedError::NoEngine { launcher: Launcher::Torchrun, rank: 1, world_size: 2 };
    insta::assert_snapshot!(error.to_string());
    let error = DistributedError::Unconnected { launcher: Launcher::Torchrun, launched: 2, connected: 1 };
    insta::assert_snapshot!(error.to_string());
    if cfg!(not(feature = "mpi")) {
        let two = launch(&[("RANK", "1"), ("WORLD_SIZE", "2")]);
        assert!(setup_distributed_training(two.as_ref()).is_err());
    }
}

#[test]
fn shares_are_even() {
    let decoder = tiny::decoder();
    let sizes: Vec<usize> = decoder.parameters().iter().map(|parameter| parameter.spec.len()).collect();
    let largest = *sizes.iter().max().unwrap();
    for ranks in [1, 2, 3, 5] {
        let shards: Vec<Shards> = (0..ranks).map(|rank| Shards::new(&decoder, rank, ranks)).collect();
        let mut total = 0;
        for (rank, shard) in shards.iter().enumerate() {
            let own: usize = (0..sizes.len()).filter(|&id| shard.is_own(id)).map(|id| sizes[id]).sum();
            assert!(
                own <= sizes.iter().sum::<usize>() / ranks + largest,
                "rank {rank} of {ranks} keeps {own}"
            );
            assert!((0..sizes.len()).all(|id| shard.owner(id) == shards[0].owner(id)));
            total += own;
        }
        assert_eq!(total, sizes.iter().sum::<usize>());
    }
}
