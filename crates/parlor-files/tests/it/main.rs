//! What is left after a write that succeeds, and after one that fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use parlor_files::atomic_dir::{self, Update};
use parlor_files::{WriteError, atomic_file};

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_replaced_through_its_link_and_keeps_its_permissions() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("file"), dir.path().join("link"));
    fs::write(&file, "old").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        atomic_file::write(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["file", "link"]);
    }
}

#[test]
fn a_directory_is_replaced_whole_or_stays() {
    let dir = tempfile::tempdir().unwrap();
    let fill = |name: &'static str| move |to: &Path| Ok(fs::write(to.join(name), name)?);
    atomic_dir::replace(dir.path(), "best", &mut fill("one")).unwrap();
    atomic_dir::replace(dir.path(), "best", &mut fill("two")).unwrap();
    assert_eq!(names(&dir.path().join("best")), ["two"]);
    let error = atomic_dir::replace(dir.path(), "best", &mut |to| {
        fs::write(to.join("half"), "half")?;
        Err("the writer gave up".into())
    });
    assert!(error.unwrap_err().to_string().contains("the writer gave up"));
    assert_eq!(names(&dir.path().join("best")), ["two"]);
    assert_eq!(names(dir.path()), ["best"]);
}

#[test]
fn an_update_keeps_other_files_and_removes_stale_ones() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("model");
    let is_stale = |name: &str| name.ends_with(".weights");
    let update = Update { directory: &target, last: "config", is_stale: &is_stale };
    let fill = |names: &'static [&'static str]| {
        move |to: &Path| {
            names.iter().try_for_each(|name| {
                fs::write(to.join(name), name).map_err(|error| WriteError::new(to, error))
            })
        }
    };
    atomic_dir::update(&update, &fill(&["config", "a.weights", "b.weights"])).unwrap();
    fs::write(target.join("notes"), "mine").unwrap();
    atomic_dir::update(&update, &fill(&["config", "a.weights"])).unwrap();
    assert_eq!(names(&target), ["a.weights", "config", "notes"]);
    let failed = |to: &Path| -> Result<(), WriteError> {
        fs::write(to.join("config"), "half").unwrap();
        Err(WriteError::new(to, std::io::Error::from(std::io::ErrorKind::StorageFull)))
    };
    assert!(matches!(atomic_dir::update(&update, &failed), Err(WriteError::Full { .. })));
    assert_eq!(fs::read(target.join("config")).unwrap(), b"config");
    assert_eq!(names(&target), ["a.weights", "config", "notes"]);
}
