//! The checklist names tests that are there.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails the test"
)]

use std::fs;
use std::path::Path;

fn sources(folder: &Path, onto: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, onto);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *onto += &fs::read_to_string(path).unwrap();
        }
    }
}

#[test]
fn every_test_that_the_checklist_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    sources(&root.join("src"), &mut code);
    sources(&root.join("tests"), &mut code);
    let list = fs::read_to_string(root.join("CHECKLIST.md")).unwrap();
    let rows = list.lines().filter(|line| line.starts_with("| "));
    let mut named = 0;
    for row in rows.skip(2) {
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for test in cell.split('`').skip(1).step_by(2) {
            assert!(
                code.contains(&format!("fn {test}()")),
                "there is no test {test}"
            );
            named += 1;
        }
    }
    assert!(named >= 30, "only {named} are named");
}
