//! `docs/security.md` names the test that keeps each flaw out. This looks for every one of them, so that the table
//! cannot go on praising a test that was renamed or taken out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn table() -> String {
    fs::read_to_string(root().join("docs/security.md")).expect("docs/security.md")
}

/// What stands between backquotes and looks like a file of ours, with or without a test.
fn named(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|words| ["src/", "tests/", "scripts/"].iter().any(|folder| words.starts_with(folder))).collect()
}

/// What is wrong with a name, if anything is.
fn doubt(name: &str) -> Option<String> {
    let (file, test) = name.split_once("::").map_or((name, None), |(file, test)| (file, Some(test)));
    let Ok(source) = fs::read_to_string(root().join(file)) else { return Some(format!("{name}: there is no {file}")) };
    let test = test?;
    if is_a_test(&source, test) { None } else { Some(format!("{name}: {file} has no test of that name")) }
}

/// Whether `#[test]` stands above a function of this name, with nothing but attributes and comments between them.
fn is_a_test(source: &str, name: &str) -> bool {
    let head = |line: &str| {
        let line = line.trim_start();
        line.strip_prefix("async ")
            .unwrap_or(line)
            .strip_prefix("fn ")
            .is_some_and(|rest| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with('(')))
    };
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let above = |at: usize| lines[..at].iter().rev().take_while(|line| line.starts_with(['#', '/']));
    let is_test = |line: &&str| **line == *"#[test]" || line.starts_with("#[tokio::test");
    (0..lines.len()).any(|at| head(lines[at]) && above(at).any(is_test))
}

#[test]
fn every_test_that_is_named_exists() {
    let text = table();
    let names = named(&text);
    assert!(names.len() > 150, "the table was not read: {}", names.len());
    let wrong: Vec<String> = names.into_iter().filter_map(doubt).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Rows are for flaws, each with a code of its own and with a test, or with the word that there is none.
#[test]
fn every_row_says_what_keeps_its_flaw_out() {
    let text = table();
    let flaws = text.split("## Flaws").nth(1).expect("the chapter");
    let mut seen = BTreeMap::new();
    for row in flaws.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |") && !line.contains("---"))
    {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 3, "{row}");
        assert!(!cells[1].is_empty(), "{row}");
        let kept =
            !named(cells[2]).is_empty() || ["**Open**", "**open**", "**No**"].iter().any(|w| cells[2].contains(w));
        assert!(kept, "neither a test nor a word: {row}");
        assert!(seen.insert(cells[0], row).is_none(), "twice: {}", cells[0]);
    }
    assert!(seen.len() > 90, "{}", seen.len());
}

#[test]
fn what_does_not_exist_is_found() {
    let own = "tests/security_table.rs";
    assert_eq!(named("`x` and `src/a.rs::b`, `tests/c`"), ["src/a.rs::b", "tests/c"]);
    assert_eq!(doubt(&format!("{own}::what_does_not_exist_is_found")), None);
    for wrong in
        [format!("{own}::nobody"), format!("{own}::doubt"), "src/nobody.rs::x".to_owned(), "tests/nobody".to_owned()]
    {
        assert!(doubt(&wrong).is_some(), "{wrong}");
    }
    assert!(
        is_a_test("#[test]\n/// Why.\n#[cfg(unix)]\nfn x() {", "x") && !is_a_test("#[test]\nfn y() {}\nfn x() {", "x")
    );
    assert_eq!(doubt(own), None, "{:?}", PathBuf::from(own));
}
