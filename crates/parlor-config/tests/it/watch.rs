//! Following changes of the files. Everything is waited for, with a deadline that only a failure reaches.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use parlor_config::{ConfigError, ConfigManager, WatchGuard};

use crate::sample::{Case, Sample};

const DEADLINE: Duration = Duration::from_secs(20);

struct Watching {
    manager: ConfigManager<Sample>,
    reports: Receiver<Result<(), ConfigError>>,
    guard: WatchGuard,
}

fn watch(case: &Case) -> Watching {
    let manager = case.load();
    let (sender, reports) = channel();
    let guard = manager.watch(move |result| drop(sender.send(result))).unwrap();
    Watching { manager, reports, guard }
}

impl Watching {
    #[track_caller]
    fn until_seed(&self, seed: u64) {
        let end = Instant::now() + DEADLINE;
        while self.manager.get().training.seed != seed {
            assert!(Instant::now() < end, "the seed is {}", self.manager.get().training.seed);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn until_refused(&self) -> ConfigError {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if let Err(error) = self.reports.recv_timeout(left).expect("a report") {
                return error;
            }
        }
    }
}

fn seed(number: u64) -> String {
    format!("training: {{seed: {number}}}\n")
}

#[test]
fn a_good_change_arrives_and_a_bad_one_is_reported() {
    let case = Case::with(seed(1));
    let watching = watch(&case);
    let changes = watching.manager.subscribe();
    std::fs::write(case.path("config.yaml"), seed(2)).unwrap();
    watching.until_seed(2);
    assert_eq!(changes.recv_timeout(DEADLINE).unwrap().training.seed, 2);
    std::fs::write(case.path("config.yaml"), "training: {seed: bad}\n").unwrap();
    assert!(watching.until_refused().to_string().contains("whole number"));
    assert_eq!(watching.manager.get().training.seed, 2);
    std::fs::write(case.path("config.yaml"), seed(3)).unwrap();
    watching.until_seed(3);
    assert!(watching.manager.metrics().rejected_reloads >= 1);
}

#[test]
fn a_save_by_renaming_is_seen() {
    let case = Case::with(seed(1));
    let watching = watch(&case);
    for number in 2..4 {
        let case = std::fs::write(case.path("new"), seed(number)).map(|()| &case).unwrap();
        std::fs::rename(case.path("new"), case.path("config.yaml")).unwrap();
        watching.until_seed(number);
    }
}

#[test]
fn a_file_that_goes_and_comes_back() {
    let case = Case::with(seed(1));
    let watching = watch(&case);
    std::fs::remove_file(case.path("config.yaml")).unwrap();
    assert!(watching.until_refused().to_string().contains("no such file"));
    std::fs::write(case.path("config.yaml"), seed(2)).unwrap();
    watching.until_seed(2);
}

#[test]
fn a_base_that_is_named_later_is_followed() {
    let case = Case::with(seed(1));
    std::fs::create_dir(case.path("sub")).unwrap();
    let watching = watch(&case);
    std::fs::write(case.path("config.yaml"), "extends: sub/base.yaml\n").unwrap();
    assert!(watching.until_refused().to_string().contains("no such file"));
    std::fs::write(case.path("sub/base.yaml"), seed(5)).unwrap();
    watching.until_seed(5);
    std::fs::write(case.path("sub/base.yaml"), seed(6)).unwrap();
    watching.until_seed(6);
}

#[test]
fn the_dotenv_file_is_followed() {
    let case = Case::with("").dotenv("PARLOR__TRAINING__SEED=1\n");
    let watching = watch(&case);
    std::fs::write(case.path(".env"), "PARLOR__TRAINING__SEED=2\n").unwrap();
    watching.until_seed(2);
}

#[cfg(unix)]
#[test]
fn the_target_of_a_link_is_followed() {
    let mut case = Case::new();
    std::fs::create_dir(case.path("real")).unwrap();
    std::fs::write(case.path("real/c.yaml"), seed(1)).unwrap();
    std::os::unix::fs::symlink(case.path("real/c.yaml"), case.path("link.yaml")).unwrap();
    case.sources.files.push(case.path("link.yaml"));
    let watching = watch(&case);
    std::fs::write(case.path("real/c.yaml"), seed(2)).unwrap();
    watching.until_seed(2);
}

#[test]
fn a_busy_neighbour_does_not_delay_a_change_for_ever() {
    let case = Case::with(seed(1));
    let watching = watch(&case);
    std::thread::scope(|scope| {
        let (stop, stopped) = channel::<()>();
        let log = case.path("metrics.jsonl");
        scope.spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(20))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                std::fs::write(&log, "x").unwrap();
            }
        });
        std::fs::write(case.path("config.yaml"), seed(2)).unwrap();
        watching.until_seed(2);
        drop(stop);
    });
}

#[test]
fn dropping_the_guard_ends_it() {
    let case = Case::with(seed(1));
    let Watching { manager, reports, guard } = watch(&case);
    drop(guard);
    // The thread ends, and with it the closure that holds the other end of the channel.
    let end = Instant::now() + DEADLINE;
    while reports.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
        assert!(Instant::now() < end, "the watching goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::write(case.path("config.yaml"), seed(2)).unwrap();
    assert_eq!(manager.get().training.seed, 1);
}
