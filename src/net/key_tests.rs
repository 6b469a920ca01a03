use super::*;
use std::os::unix::fs::PermissionsExt;

fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cluster.key");
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode set");
    (dir, path)
}

#[test]
fn a_written_key_is_read_back_and_never_written_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cluster.key");
    let key = ClusterKey::generate().expect("random bytes");
    key.write_new(&path).expect("written");
    let mode = std::fs::metadata(&path).expect("there").mode() & 0o7777;
    assert_eq!(mode, 0o600);
    assert!(ClusterKey::load(&path).expect("loads") == key);

    let other = ClusterKey::generate().expect("random bytes");
    assert!(other != key, "two keys differ");
    let refused = other.write_new(&path).expect_err("exists");
    assert!(matches!(refused, KeyError::Exists { .. }), "{refused}");
    assert!(ClusterKey::load(&path).expect("loads") == key);
}

#[test]
fn what_is_wrong_with_a_file_is_said_precisely() {
    let good = "ab".repeat(32);
    let cases = [
        (format!("quorate-key-2\n{good}\n"), "line 1"),
        (String::new(), "line 1"),
        ("quorate-key-1\n".to_owned(), "line 2 has 0 characters"),
        (
            format!("quorate-key-1\n{good}ab\n"),
            "line 2 has 66 characters",
        ),
        (
            format!("quorate-key-1\n{}g\n", &good[..63]),
            "line 2, column 64",
        ),
        (format!("quorate-key-1\n{good}\n\nmore\n"), "line 4 follows"),
    ];
    for (text, expected) in cases {
        let (_dir, path) = file(&text, 0o600);
        let said = ClusterKey::load(&path).expect_err("refused").to_string();
        assert!(said.contains(expected), "{text:?}: {said}");
        assert!(said.contains("cluster.key"), "{said}");
    }
    let (_dir, path) = file(&format!("quorate-key-1\r\n{good}"), 0o400);
    ClusterKey::load(&path).expect("line ends of another system and less than 0600 are fine");
}

#[test]
fn a_file_others_can_use_is_refused_with_its_mode() {
    for mode in [0o640, 0o604, 0o700, 0o620] {
        let (_dir, path) = file(&format!("quorate-key-1\n{}\n", "00".repeat(32)), mode);
        let said = ClusterKey::load(&path).expect_err("refused").to_string();
        assert!(said.contains(&format!("{mode:04o}")), "{said}");
    }
}

#[test]
fn a_missing_file_and_a_directory_are_told_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = ClusterKey::load(&dir.path().join("none")).expect_err("missing");
    assert!(matches!(missing, KeyError::Missing { .. }), "{missing}");
    let directory = ClusterKey::load(dir.path()).expect_err("directory");
    assert!(
        matches!(directory, KeyError::NotAFile { .. }),
        "{directory}"
    );
}

#[test]
fn a_key_is_never_printed() {
    let key = ClusterKey::from_bytes([0xab; 32]);
    assert_eq!(format!("{key:?}"), "ClusterKey(secret)");
}
