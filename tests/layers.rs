//! Arrows between the layers point one way. This reads every file under `src`, finds each path into
//! another top-level module, however it is written, and fails on those that the table does not have.
//!
//! It sees tokens, not types: a value of a forbidden layer that arrives through an allowed one is not
//! found, a path to its name is. That is why no layer may re-export another one's names.

use std::path::Path;
use std::{fs, io};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Layer, and what it may use.
const LAYERS: [(&str, &[&str]); 15] = [
    ("domain", &[]),
    ("store", &["domain", "files"]),
    ("ca", &["domain", "files", "random"]),
    ("notify", &["domain", "store", "outgoing"]),
    ("service", &["domain", "store", "ca", "notify", "clock", "config", "outgoing", "random"]),
    ("wire", &["domain"]),
    // The wire types carry domain types; the store and the CA stay behind the service.
    ("http", &["domain", "service", "wire", "clock", "config", "random"]),
    ("client", &["domain", "wire", "clock", "config", "files", "random"]),
    ("host", &["domain", "client", "clock", "files"]),
    (
        "cli",
        &[
            "domain", "store", "ca", "notify", "service", "wire", "http", "client", "host", "clock", "config", "files",
            "random",
        ],
    ),
    // Where the outside comes in; the rest is given it as arguments.
    ("clock", &["domain"]),
    ("config", &["domain", "files"]),
    ("files", &[]),
    ("outgoing", &[]),
    ("random", &["domain"]),
];

#[test]
fn arrows_point_one_way() {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut files).expect("src can be read");
    assert!(files.iter().any(|(name, _)| name == "lib.rs"), "src was not read");
    let wrong: Vec<String> = files.iter().flat_map(|(name, source)| check(name, source)).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Files below `folder`, by their path from `src`.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            files.push((name, fs::read_to_string(entry.path())?));
        }
    }
    Ok(())
}

/// What is wrong with one file, a line for each.
fn check(name: &str, source: &str) -> Vec<String> {
    let mut module: Vec<String> = name.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    let layer = match name {
        // The composition root: it has the rights of the layer that it starts.
        "main.rs" => "cli".to_owned(),
        _ => module[0].clone(),
    };
    if matches!(name, "lib.rs" | "main.rs") || module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    let rights: &[&str] = match LAYERS.iter().find(|(row, _)| *row == layer) {
        Some((_, rights)) => rights,
        None if name == "lib.rs" => &[],
        None => return vec![format!("src/{name}: no layer is called {layer}; give it a row in tests/layers.rs")],
    };
    let mut walk = Walk { module, found: Vec::new() };
    walk.tokens(&trees(source.parse().expect("Rust")));
    let complaints = walk.found.into_iter().filter_map(|(line, found)| {
        let what = complaint(&layer, rights, &found)?;
        Some(format!("src/{name}:{line}: {what}"))
    });
    complaints.collect()
}

fn complaint(layer: &str, rights: &[&str], found: &Found) -> Option<String> {
    match found {
        Found::Evasion(what) => Some(format!("{what} hides from this test where code belongs")),
        Found::Path { target, public } => match target.first().map(String::as_str) {
            Some(other) if other == layer => None,
            None | Some("*") => Some("the crate root under another name hides which layer is used".to_owned()),
            Some(other) if !LAYERS.iter().any(|(row, _)| *row == other) => {
                Some(format!("{} is in no layer", target.join("::")))
            }
            Some(other) if *public => Some(format!("{layer} re-exports {other}, which would lend others its rights")),
            Some(other) if rights.contains(&other) => None,
            Some(other) => Some(format!("{layer} may not use {other} ({})", target.join("::"))),
        },
    }
}

enum Found {
    /// A path from the crate root, and whether it is re-exported.
    Path { target: Vec<String>, public: bool },
    /// Something that makes paths mean what they do not say.
    Evasion(&'static str),
}

/// One pass over a file's tokens, comments and strings left out by the lexer.
struct Walk {
    /// Where the tokens stand: the file's module, and the inline ones around.
    module: Vec<String>,
    /// With the line of each.
    found: Vec<(usize, Found)>,
}

impl Walk {
    fn tokens(&mut self, tokens: &[TokenTree]) {
        let mut at = 0;
        let mut public = false;
        while let Some(token) = tokens.get(at) {
            let rest = &tokens[at..];
            let was_public = std::mem::take(&mut public);
            at += match token {
                TokenTree::Ident(_) => match word(token).as_str() {
                    // `pub(in crate::x)` uses nothing.
                    "pub" => {
                        public = true;
                        if group(rest.get(1), Delimiter::Parenthesis).is_some() { 2 } else { 1 }
                    }
                    // `impl Trait + use<'_>` imports nothing.
                    "use" if rest.get(1).is_some_and(|next| punct(next, '<')) => 1,
                    "use" => {
                        let end = rest.iter().position(|token| punct(token, ';')).unwrap_or(rest.len());
                        self.imports(&[], &rest[1..end], was_public);
                        end
                    }
                    "mod" => self.inline_module(rest),
                    "extern" if rest.get(1).is_some_and(|next| word(next) == "crate") => {
                        self.evasion(token, "extern crate");
                        2
                    }
                    "include" if rest.get(1).is_some_and(|next| punct(next, '!')) => {
                        self.evasion(token, "include!");
                        2
                    }
                    _ => self.inline_path(rest),
                },
                TokenTree::Punct(_) if punct(token, '#') => self.attribute(rest),
                TokenTree::Punct(_)
                    if path_separator(rest) && rest.get(2).is_some_and(|next| word(next) != "ssh_jit") =>
                {
                    // What follows `::` is not the head of a path.
                    if matches!(rest.get(2), Some(TokenTree::Ident(_))) { 3 } else { 2 }
                }
                TokenTree::Group(group) => {
                    self.tokens(&trees(group.stream()));
                    1
                }
                _ => 1,
            };
        }
    }

    /// `mod tests { ... }`: `super` means something else inside.
    fn inline_module(&mut self, rest: &[TokenTree]) -> usize {
        let Some(body) = group(rest.get(2), Delimiter::Brace) else { return 1 };
        self.module.push(word(&rest[1]));
        self.tokens(&body);
        self.module.pop();
        3
    }

    /// `#[path = ".."]` moves a module; `#[serde(with = "crate::x::y")]` is a path in a string.
    fn attribute(&mut self, rest: &[TokenTree]) -> usize {
        let inner = usize::from(rest.get(1).is_some_and(|next| punct(next, '!')));
        let Some(body) = group(rest.get(1 + inner), Delimiter::Bracket) else { return 1 };
        // `template(path = "...")` names a page; it brings no code from anywhere.
        if body.first().is_none_or(|first| !["doc", "template"].contains(&word(first).as_str())) {
            self.attribute_values(&body);
            self.tokens(&body);
        }
        2 + inner
    }

    fn attribute_values(&mut self, tokens: &[TokenTree]) {
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Ident(_)
                    if word(token) == "path" && tokens.get(at + 1).is_some_and(|next| punct(next, '=')) =>
                {
                    self.evasion(token, "#[path]");
                }
                TokenTree::Ident(_) if ["macro_use", "macro_export"].contains(&word(token).as_str()) => {
                    self.evasion(token, "a macro without a path");
                }
                TokenTree::Group(group) => self.attribute_values(&trees(group.stream())),
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    let value: Result<TokenStream, _> = text.trim_start_matches('r').trim_matches(['#', '"']).parse();
                    if let (true, Ok(value)) = (text.contains("::"), value) {
                        self.tokens(&trees(value));
                    }
                }
                _ => {}
            }
        }
    }

    /// A path in code: `crate::a::b`, `super::super::a`, `ssh_jit::a`, and in the root `a::b`.
    fn inline_path(&mut self, rest: &[TokenTree]) -> usize {
        let mut path = vec![word(&rest[0])];
        let mut end = 1;
        while path_separator(&rest[end..]) {
            let Some(next @ TokenTree::Ident(_)) = rest.get(end + 2) else { break };
            path.push(word(next));
            end += 3;
        }
        // `self.field`, and a local variable of any name.
        if path.len() > 1 || path_separator(&rest[end..]) || path[0] == "crate" {
            self.path(&rest[0], &path, false);
        }
        end
    }

    /// The tree of a `use`, each leaf with its whole path.
    fn imports(&mut self, prefix: &[String], tree: &[TokenTree], public: bool) {
        for branch in tree.split(|token| punct(token, ',')) {
            let mut path = prefix.to_vec();
            let mut leaf = true;
            for token in branch {
                match token {
                    TokenTree::Ident(_) if word(token) == "as" => break,
                    TokenTree::Ident(_) if word(token) == "self" && !path.is_empty() => {}
                    TokenTree::Ident(_) => path.push(word(token)),
                    TokenTree::Punct(_) if punct(token, '*') => path.push("*".to_owned()),
                    TokenTree::Group(group) => {
                        self.imports(&path, &trees(group.stream()), public);
                        leaf = false;
                    }
                    _ => {}
                }
            }
            if let (true, Some(first)) = (leaf, branch.first()) {
                self.path(first, &path, public);
            }
        }
    }

    /// Notes where a path leads, from the crate root; those into other crates or local items lead nowhere.
    fn path(&mut self, token: &TokenTree, path: &[String], public: bool) {
        let (mut target, mut rest) = match path {
            [head, rest @ ..] if head == "crate" || head == "ssh_jit" => (Vec::new(), rest),
            [head, rest @ ..] if head == "self" => (self.module.clone(), rest),
            [head, ..] if head == "super" => (self.module.clone(), path),
            [head, ..] if self.module.is_empty() && LAYERS.iter().any(|(layer, _)| layer == head) => (Vec::new(), path),
            _ => return,
        };
        while let [head, behind @ ..] = rest
            && head == "super"
        {
            target.pop();
            rest = behind;
        }
        target.extend_from_slice(rest);
        self.found.push((token.span().start().line, Found::Path { target, public }));
    }

    fn evasion(&mut self, token: &TokenTree, what: &'static str) {
        self.found.push((token.span().start().line, Found::Evasion(what)));
    }
}

fn trees(stream: TokenStream) -> Vec<TokenTree> {
    stream.into_iter().collect()
}

/// The word that an identifier is; nothing for other tokens.
fn word(token: &TokenTree) -> String {
    match token {
        TokenTree::Ident(ident) => ident.to_string().trim_start_matches("r#").to_owned(),
        _ => String::new(),
    }
}

fn punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn path_separator(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [first, second, ..] if punct(first, ':') && punct(second, ':'))
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<Vec<TokenTree>> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(trees(group.stream())),
        _ => None,
    }
}

/// What the test says of one line in one file.
#[track_caller]
fn said(name: &str, source: &str) -> String {
    check(name, source).join("\n")
}

#[test]
fn every_way_to_write_a_forbidden_arrow_is_caught() {
    let ways = [
        "use crate::store::Tx;",
        "use crate::store;",
        "use crate::store as s;",
        "use crate::store::*;",
        "use crate::{domain::key, store::Tx};",
        "use crate::{domain::{self, key}, store::{self}};",
        "use {std::fmt, crate::store};",
        "use super::super::store::Tx;",
        "use super::super::{store};",
        "use ssh_jit::store::Tx;",
        "use ::ssh_jit::store::Tx;",
        "fn f() { crate::store::open() }",
        "fn f(x: crate::store::Tx) {}",
        "fn f() -> Option<crate::store::Tx> { None }",
        "fn f() { super::super::store::open() }",
        "fn f() { self::super::super::store::open() }",
        "fn f() { ::ssh_jit::store::open() }",
        "impl crate::store::Source for X {}",
        "mod inner { fn f() { super::super::super::store::open() } }",
        "mod inner { use super::super::super::store::Tx; }",
        "fn f() { println!(\"{}\", crate::store::NAME) }",
        "macro_rules! m { () => { $crate::store::open() } }",
        "#[serde(with = \"crate::store::json\")] struct S;",
        "#[serde(with = r\"crate::store::json\")] struct S;",
        "#[derive(crate::store::Row)] struct S;",
        "fn f() -> impl Sized + use<'_> { crate::store::open() }",
        "pub(crate) fn f() { crate::store::open() }",
        "pub(in crate::http) fn f() { crate::store::open() }",
        "#[cfg(test)] mod tests { use crate::store::Tx; }",
        "use crate::r#store::Tx;",
    ];
    for way in ways {
        let said = said("http/access.rs", way);
        assert!(said.starts_with("src/http/access.rs:1: http may not use store"), "{way}: {said:?}");
    }
}

#[test]
fn the_crate_root_has_no_other_name() {
    let ways = [
        "use crate as root;",
        "use crate::*;",
        "use super::super as root;",
        "use super::super::*;",
        "use crate::{self as root};",
        "use ssh_jit as root;",
        "macro_rules! m { ($layer:ident) => { crate::$layer::open() } }",
    ];
    for way in ways {
        let said = said("http/access.rs", way);
        assert!(said.contains("the crate root under another name"), "{way}: {said:?}");
    }
    assert!(said("http/mod.rs", "use super::*;").contains("the crate root under another name"));
}

#[test]
fn nobody_lends_the_rights_it_has() {
    for way in [
        "pub use crate::store::Tx;",
        "pub(crate) use crate::store::Tx;",
        "pub(super) use crate::{domain::key as k, store};",
        "pub use super::store::Tx;",
    ] {
        let said = said("service/mod.rs", way);
        assert!(said.contains("service re-exports store"), "{way}: {said:?}");
    }
    for way in ["pub use store::Tx;", "pub use crate::store::Tx;", "pub use self::store::Tx;"] {
        assert!(said("lib.rs", way).contains("re-exports store"), "{way}");
    }
    assert_eq!(said("service/mod.rs", "pub use access::request; pub use self::access::claim;"), "");
}

#[test]
fn the_root_is_the_map_and_no_place_for_code() {
    assert_eq!(said("lib.rs", "pub mod domain; pub mod store;"), "");
    assert!(said("lib.rs", "fn f() { store::open() }").contains("lib may not use store"));
    assert!(said("http/mod.rs", "fn f() { crate::open() }").contains("open is in no layer"));
    assert_eq!(said("main.rs", "fn main() { ssh_jit::cli::run(ssh_jit::config::read()) }"), "");
}

#[test]
fn a_new_layer_needs_a_row() {
    for name in ["util/mod.rs", "util.rs", "bin/other.rs"] {
        assert!(said(name, "").contains("give it a row"), "{name}");
    }
}

#[test]
fn code_that_stands_elsewhere_than_it_seems_is_caught() {
    for way in [
        "#[path = \"../store/mod.rs\"] mod store;",
        "#[cfg_attr(unix, path = \"../store/mod.rs\")] mod store;",
        "include!(\"../store/mod.rs\");",
        "extern crate self as root;",
        "#[macro_export] macro_rules! m { () => {} }",
        "#[macro_use] mod m;",
    ] {
        assert!(said("http/mod.rs", way).contains("hides from this test"), "{way}");
    }
}

#[test]
fn every_row_is_held() {
    for (layer, rights) in LAYERS {
        for (other, _) in LAYERS {
            let said = said(&format!("{layer}/file.rs"), &format!("use crate::{other}::x;"));
            assert_eq!(said.is_empty(), other == layer || rights.contains(&other), "{layer} -> {other}: {said}");
        }
    }
}

#[test]
fn what_only_looks_like_an_arrow_is_let_through() {
    let innocent = "
        //! Never crate::store::Tx.
        /// See [`crate::store`].
        use std::{fs, io::{self, Write as _}};
        use super::pages;
        use crate::domain::{key::PublicKey, names};
        pub(crate) fn f(&self) { let store = self.store; let text = \"crate::store::Tx\"; other::store::f(store) }
        pub(in crate::http) struct S { store: u8 }
        mod tests { use super::*; use super::super::pages; }
    ";
    assert_eq!(said("http/access.rs", innocent), "");
    assert_eq!(said("http/mod.rs", "mod tests { use super::*; }"), "");
}
