//! A folder at rest is left alone, and nothing that happens to it is missed.

use std::os::unix::fs::symlink;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// A clock by which everything that was written just now is long ago.
fn in_an_hour() -> SystemTime {
    SystemTime::now() + 60 * MINUTE
}

fn folder() -> (TempDir, Watched) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), "one").unwrap();
    let mut watched = Watched::default();
    watched.folder(folder.path());
    (folder, watched)
}

/// A watch that polls and has seen the folder once.
async fn polling(watched: &Watched, clock: fn() -> SystemTime) -> Watch {
    let mut watch = Watch { clock, ..Watch::new(false) };
    watch.set(watched);
    watch.changed().await;
    watch
}

#[tokio::test(start_paused = true)]
async fn a_folder_at_rest_is_not_read_again() {
    let (folder, folders) = folder();
    let mut watch = polling(&folders, in_an_hour).await;
    assert!(timeout(MINUTE, watch.changed()).await.is_err(), "nothing changed");
    // As long as before, in the same file.
    std::fs::write(folder.path().join("a.yaml"), "two").unwrap();
    timeout(MINUTE, watch.changed()).await.unwrap();
    assert!(timeout(MINUTE, watch.changed()).await.is_err(), "nothing changed since");
}

#[tokio::test(start_paused = true)]
async fn what_changed_just_now_is_read_again() {
    let (_folder, folders) = folder();
    let mut watch = polling(&folders, SystemTime::now).await;
    timeout(MINUTE, watch.changed()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_file_from_the_future_is_read_at_each_poll() {
    let (_folder, folders) = folder();
    // A router without a battery has just started.
    let mut watch = polling(&folders, || SystemTime::UNIX_EPOCH).await;
    for _ in 0..3 {
        timeout(MINUTE, watch.changed()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn now_and_then_a_folder_at_rest_is_read_all_the_same() {
    let (_folder, folders) = folder();
    let mut watch = polling(&folders, in_an_hour).await;
    timeout(LONGEST_UNREAD + MINUTE, watch.changed()).await.unwrap();
}

#[test]
fn every_kind_of_change_shows() {
    let (folder, mut folders) = folder();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("real")).unwrap();
    std::fs::write(path("real/x.yaml"), "one").unwrap();
    std::fs::create_dir(path("next")).unwrap();
    std::fs::write(path("next/x.yaml"), "one").unwrap();
    symlink("real", path("current")).unwrap();
    folders.folder(&path("current"));
    let mut before = Stamp::of(&folders, in_an_hour());
    let mut changes = |what: &str, change: &dyn Fn() -> std::io::Result<()>| {
        assert_eq!(Stamp::of(&folders, in_an_hour()), before, "before {what}");
        change().unwrap();
        let after = Stamp::of(&folders, in_an_hour());
        assert_ne!(after, before, "{what}");
        before = after;
    };
    changes("another length", &|| std::fs::write(path("a.yaml"), "longer"));
    changes("a new file", &|| std::fs::write(path("b.yaml"), ""));
    changes("a new name", &|| std::fs::rename(path("b.yaml"), path("c.yaml")));
    changes("a file less", &|| std::fs::remove_file(path("c.yaml")));
    changes("another file of the same name", &|| {
        std::fs::write(path("..new"), "longer")?;
        std::fs::rename(path("..new"), path("a.yaml"))
    });
    changes("other permissions", &|| {
        let mut permissions = std::fs::metadata(path("a.yaml"))?.permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(path("a.yaml"), permissions)
    });
    changes("a link that leads elsewhere", &|| {
        symlink("next", path("..current"))?;
        std::fs::rename(path("..current"), path("current"))
    });
    changes("a file behind a link", &|| std::fs::write(path("next/x.yaml"), "other"));
    changes("a folder that is gone", &|| std::fs::remove_dir_all(path("next")));
}

/// A watch that is told what happens, and has looked before.
async fn listening(watched: &Watched) -> (Watch, mpsc::Sender<Told>) {
    let mut watch = Watch { clock: in_an_hour, poll: 100 * LONGEST_WRITE, ..Watch::new(false) };
    watch.set(watched);
    watch.ask();
    watch.changed().await;
    let teller = watch._teller.clone();
    (watch, teller)
}

fn closed(path: &Path) -> Told {
    Told::Whole { path: path.to_owned(), is_plain: true }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_left_alone_until_it_is_closed() {
    let (folder, watched) = folder();
    let (mut watch, teller) = listening(&watched).await;
    let path = folder.path().join("a.yaml");
    teller.send(Told::Writing(path.clone())).await.unwrap();
    assert!(timeout(MINUTE, watch.changed()).await.is_err(), "it is being written");
    // What else is saved meanwhile waits too.
    teller.send(closed(&folder.path().join("b.yaml"))).await.unwrap();
    assert!(timeout(MINUTE, watch.changed()).await.is_err(), "it is still being written");
    teller.send(closed(&path)).await.unwrap();
    timeout(MINUTE, watch.changed()).await.unwrap();
    assert!(timeout(MINUTE, watch.changed()).await.is_err(), "nothing changed since");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_nobody_closes_is_read_in_the_end() {
    let (folder, watched) = folder();
    let (mut watch, teller) = listening(&watched).await;
    // As `truncate(2)` does it.
    teller.send(Told::Writing(folder.path().join("a.yaml"))).await.unwrap();
    timeout(LONGEST_WRITE + MINUTE, watch.changed()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_the_system_lost_count_of_must_be_at_rest() {
    let (folder, watched) = folder();
    let (mut watch, teller) = listening(&watched).await;
    teller.send(Told::Writing(folder.path().join("a.yaml"))).await.unwrap();
    teller.send(Told::Much).await.unwrap();
    let asked = Instant::now();
    timeout(MINUTE, watch.changed()).await.unwrap();
    assert!(asked.elapsed() >= AT_REST, "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn files_that_nobody_reads_are_no_change() {
    let (folder, watched) = folder();
    let (mut watch, teller) = listening(&watched).await;
    let log = folder.path().join("errors.jsonl");
    teller.send(Told::Writing(log.clone())).await.unwrap();
    teller.send(closed(&log)).await.unwrap();
    std::fs::write(&log, "a line").unwrap();
    assert!(timeout(MINUTE, watch.changed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn several_files_are_given_more_time() {
    let (folder, watched) = folder();
    let (mut watch, teller) = listening(&watched).await;
    let delay_of = async |watch: &mut Watch, names: &[&str]| {
        for name in names {
            teller.send(closed(&folder.path().join(name))).await.unwrap();
        }
        let told = Instant::now();
        watch.changed().await;
        told.elapsed()
    };
    let (one, two) = (QUIET, QUIET_AFTER_SEVERAL);
    assert!((one..two).contains(&delay_of(&mut watch, &["a.yaml", "4913"]).await));
    assert!(delay_of(&mut watch, &["a.yaml", "b.yaml"]).await >= two);
}

#[tokio::test(start_paused = true)]
async fn what_changes_while_it_is_read_is_read_again() {
    let (folder, watched) = folder();
    let (mut watch, teller) = listening(&watched).await;
    assert!(watch.is_undisturbed().await);
    let path = folder.path().join("a.yaml");
    teller.send(Told::Writing(path.clone())).await.unwrap();
    assert!(!watch.is_undisturbed().await, "told by the system");
    teller.send(closed(&path)).await.unwrap();
    timeout(MINUTE, watch.changed()).await.unwrap();
    assert!(watch.is_undisturbed().await);
    std::fs::write(path, "longer").unwrap();
    assert!(!watch.is_undisturbed().await, "seen by the stamp");
    let asked = Instant::now();
    timeout(MINUTE, watch.changed()).await.unwrap();
    assert!(asked.elapsed() >= AT_REST, "nobody told whether it is whole");
}
