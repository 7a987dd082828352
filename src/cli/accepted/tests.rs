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
    ["pipelines/a.yaml", "forebay.yaml", "pipelines/../../shared/a.rhai", "/opt/b.rhai"];

fn newest_files(data: &Path) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    newest(data).unwrap().map(|copy| read_all(&copy.folder).unwrap())
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
        keep(data.path(), &texts("older", &PATHS)).unwrap();
        keep(data.path(), &old).unwrap();
        fs::create_dir_all(data.path().join("last-good/pipelines")).unwrap();

        let mut left = steps;
        let ended = keep_in_steps(data.path(), &new, &mut || {
            left = usize::checked_sub(left, 1).ok_or(ErrorKind::Interrupted)?;
            Ok(())
        });
        let found = newest_files(data.path());
        let is_old = found == Some(contents(&old));
        assert!(is_old || found == Some(contents(&new)), "after {steps} steps: {found:#?}");

        // What the crash left behind is in nobody's way.
        keep(data.path(), &new).unwrap();
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
    let cut = keep_in_steps(data.path(), &texts("new", &PATHS), &mut || {
        steps = usize::checked_sub(steps, 1).ok_or(ErrorKind::Interrupted)?;
        Ok(())
    });
    assert!(cut.is_err());
    assert!(newest(data.path()).unwrap().is_none());
}

#[test]
fn two_copies_are_kept_at_most() {
    let data = tempfile::tempdir().unwrap();
    for word in ["one", "two", "three", "four"] {
        keep(data.path(), &texts(word, &PATHS)).unwrap();
    }
    assert_eq!(names(&place(data.path())), ["3", "4"]);
}

#[test]
fn what_is_kept_already_is_not_written_again() {
    let data = tempfile::tempdir().unwrap();
    keep(data.path(), &texts("same", &PATHS)).unwrap();
    keep(data.path(), &texts("same", &PATHS)).unwrap();
    assert_eq!(names(&place(data.path())), ["1"]);
    keep(data.path(), &texts("same", &PATHS[..1])).unwrap();
    assert_eq!(names(&place(data.path())), ["1", "2"]);
}

#[test]
fn nobody_else_may_read_a_copy() {
    let data = tempfile::tempdir().unwrap();
    keep(data.path(), &texts("a", &PATHS)).unwrap();
    let mode = fs::metadata(place(data.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
