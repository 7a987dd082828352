use super::*;

/// Texts of these files, each holding the word.
fn texts(word: &str, paths: &[&str]) -> Texts {
    let mut texts = Texts::default();
    for path in paths {
        texts.add((*path).to_owned(), format!("{word} {path}\n"));
    }
    texts
}

const PATHS: [&str; 4] =
    ["pipelines/a.yaml", "forebay.yaml", "pipelines/../../common/a.rhai", "/opt/b.rhai"];

/// The folder that they stood in.
const OF: &str = "/etc/forebay";

fn newest(data: &Path) -> Option<Copy> {
    copies(data, OF.as_ref()).unwrap().into_iter().next()
}

fn newest_files(data: &Path) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    newest(data).map(|copy| read_all(&copy.folder).unwrap())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_crash_between_the_steps_leaves_a_whole_copy() {
    let (old, new) = (texts("old", &PATHS), texts("new", &PATHS[1..]));
    let mut steps = 0;
    loop {
        let data = tempfile::tempdir().unwrap();
        keep(data.path(), OF.as_ref(), &texts("older", &PATHS)).unwrap();
        keep(data.path(), OF.as_ref(), &old).unwrap();
        fs::create_dir_all(data.path().join("last-good/pipelines")).unwrap();

        let mut left = steps;
        let ended = keep_in_steps(data.path(), &Accepted::now(OF.as_ref()), &new, &mut || {
            left = usize::checked_sub(left, 1).ok_or(ErrorKind::Interrupted)?;
            Ok(())
        });
        let found = newest_files(data.path());
        let is_old = found == Some(contents(&old));
        assert!(is_old || found == Some(contents(&new)), "after {steps} steps: {found:#?}");

        // What the crash left behind is in nobody's way.
        keep(data.path(), OF.as_ref(), &new).unwrap();
        assert_eq!(newest_files(data.path()), Some(contents(&new)), "after {steps} steps");
        assert_eq!(names(data.path()), ["accepted"], "after {steps} steps");
        assert!(!names(&place(data.path())).contains(&"new".to_owned()), "after {steps} steps");
        if ended.is_ok() {
            assert!(!is_old);
            break;
        }
        steps += 1;
    }
    assert!(steps > PATHS.len(), "{steps} steps are less than there are files");
}

#[test]
fn a_first_copy_that_is_cut_short_is_none() {
    let data = tempfile::tempdir().unwrap();
    let mut steps = 3;
    let cut =
        keep_in_steps(data.path(), &Accepted::now(OF.as_ref()), &texts("new", &PATHS), &mut || {
            steps = usize::checked_sub(steps, 1).ok_or(ErrorKind::Interrupted)?;
            Ok(())
        });
    assert!(cut.is_err());
    assert!(newest(data.path()).is_none());
}

#[test]
fn two_copies_are_kept_at_most() {
    let data = tempfile::tempdir().unwrap();
    for word in ["one", "two", "three", "four"] {
        keep(data.path(), OF.as_ref(), &texts(word, &PATHS)).unwrap();
    }
    assert_eq!(names(&place(data.path())), ["3", "4"]);
}

#[test]
fn what_is_kept_already_is_not_written_again() {
    let data = tempfile::tempdir().unwrap();
    keep(data.path(), OF.as_ref(), &texts("same", &PATHS)).unwrap();
    keep(data.path(), OF.as_ref(), &texts("same", &PATHS)).unwrap();
    assert_eq!(names(&place(data.path())), ["1"]);
    keep(data.path(), OF.as_ref(), &texts("same", &PATHS[..1])).unwrap();
    assert_eq!(names(&place(data.path())), ["1", "2"]);
}

#[test]
fn nobody_else_may_read_a_copy() {
    let data = tempfile::tempdir().unwrap();
    keep(data.path(), OF.as_ref(), &texts("a", &PATHS)).unwrap();
    let mode = fs::metadata(place(data.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn the_copy_of_another_folder_is_not_found() {
    let data = tempfile::tempdir().unwrap();
    keep(data.path(), OF.as_ref(), &texts("a", &PATHS)).unwrap();
    assert!(copies(data.path(), "/etc/other".as_ref()).unwrap().is_empty());
    // The same texts of the other folder are another copy.
    keep(data.path(), "/etc/other".as_ref(), &texts("a", &PATHS)).unwrap();
    assert_eq!(copies(data.path(), "/etc/other".as_ref()).unwrap().len(), 1);
    assert_eq!(copies(data.path(), OF.as_ref()).unwrap().len(), 1);
}

#[test]
fn a_copy_that_does_not_say_of_which_folder_it_is_ran_in_the_place_of_any() {
    let data = tempfile::tempdir().unwrap();
    keep(data.path(), OF.as_ref(), &texts("a", &PATHS)).unwrap();
    fs::remove_file(place(data.path()).join("1").join(ACCEPTED)).unwrap();
    assert!(copies(data.path(), OF.as_ref()).unwrap().is_empty());
}

#[test]
fn how_long_ago_is_said_in_words() {
    let when = |nanos_ago: i64| {
        let unix_nanos = Timestamp::now().unix_nanos() - nanos_ago;
        let accepted = Accepted { folder: OF.into(), unix_nanos };
        Copy { folder: PathBuf::new(), accepted }.when()
    };
    const HOUR: i64 = 3_600_000_000_000;
    assert!(when(0).starts_with("0 seconds ago (20"), "{}", when(0));
    assert!(when(HOUR).starts_with("1 hour ago (20"));
    assert!(when(49 * HOUR).starts_with("2 days ago (20"));
    assert!(when(-HOUR).ends_with("Z, which the clock has not reached yet"));
}

#[test]
fn what_did_not_change_is_not_written_again() {
    use std::os::unix::fs::MetadataExt;
    let data = tempfile::tempdir().unwrap();
    let inode = |copy: u64, path: &str| {
        fs::metadata(place(data.path()).join(copy.to_string()).join(FILES).join(path))
            .unwrap()
            .ino()
    };
    let mut of_two = texts("same", &PATHS[..1]);
    of_two.add("b.yaml".to_owned(), "one".to_owned());
    keep(data.path(), OF.as_ref(), &of_two).unwrap();
    let mut of_two = texts("same", &PATHS[..1]);
    of_two.add("b.yaml".to_owned(), "two".to_owned());
    keep(data.path(), OF.as_ref(), &of_two).unwrap();

    assert_eq!(newest_files(data.path()), Some(contents(&of_two)));
    assert_eq!(inode(1, PATHS[0]), inode(2, PATHS[0]));
    assert_ne!(inode(1, "b.yaml"), inode(2, "b.yaml"));
}
