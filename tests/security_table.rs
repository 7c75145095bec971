//! `docs/security.md` names the test that keeps each flaw out, `docs/requirements.md` those that show each requirement.
//! This looks for every one of them, so that no table goes on praising a test that was renamed or taken out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The rows of a text's tables by what stands first in them. Each has three cells; the last names what shows it, or says
/// that nothing does.
fn rows(text: &str) -> BTreeMap<&str, &str> {
    let mut rows = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |") && !line.contains("---")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [code, what, shown] = cells[..] else { panic!("not three cells: {row}") };
        assert!(!what.is_empty(), "{row}");
        let open = ["**Open**", "**open**", "**No**"].iter().any(|word| shown.contains(word));
        assert!(!named(shown).is_empty() || open, "neither a test nor a word: {row}");
        assert!(rows.insert(code, row).is_none(), "twice: {code}");
    }
    rows
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
    for (file, least) in [("docs/security.md", 150), ("docs/requirements.md", 80)] {
        let text = read(file);
        let names = named(&text);
        assert!(names.len() > least, "{file} was not read: {}", names.len());
        let wrong: Vec<String> = names.into_iter().filter_map(doubt).collect();
        assert!(wrong.is_empty(), "{file}:\n{}\n", wrong.join("\n"));
    }
}

/// Rows are for flaws, each with a code of its own and with a test, or with the word that there is none.
#[test]
fn every_row_says_what_keeps_its_flaw_out() {
    let text = read("docs/security.md");
    let flaws = rows(text.split("## Flaws").nth(1).expect("the chapter"));
    assert!(flaws.len() > 90, "{}", flaws.len());
}

#[test]
fn every_requirement_has_its_row() {
    let text = read("docs/requirements.md");
    let found = rows(&text);
    let all: Vec<String> = (1..=35).map(|number| format!("R{number}")).collect();
    let missing: Vec<&String> = all.iter().filter(|code| !found.contains_key(code.as_str())).collect();
    assert!(missing.is_empty() && found.len() == all.len(), "{missing:?} are missing of {:?}", found.keys());
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
    assert_eq!(rows("| R1 | x | **open**: all |\n| R2 | y | `src/a.rs::b` |\n").len(), 2);
    for wrong in
        ["| R1 | x | nothing |", "| R1 |  | **open** |", "| R1 | **open** |", "| a | b | **No** |\n| a | b | **No** |"]
    {
        assert!(std::panic::catch_unwind(|| rows(wrong).len()).is_err(), "{wrong}");
    }
}
