//! The house as built against the house as drawn: reads `src/` and fails when an import, an `unsafe` or a file breaks the table of
//! floors.
//!
//! | rule | where it holds |
//! |---|---|
//! | imports point down; floor-4 siblings do not import each other | every `crate::…` and `super::…` path |
//! | `unsafe` | only in `sys/` and `shm/`; folders of floors above 2, and 1, forbid it at the head of their `mod.rs` |
//! | `cfg(commons_loom)` | only in `sync/mod.rs` |
//! | nothing waits for a one-time initialiser, which a fork would copy half done | every file but `sync/model.rs` |
//! | raw atomics | only in `sys/` and `sync/` |
//! | at most 400 lines; a `mod.rs` opens with an essay of 10; no printing but in `bin/` | every file |
//!
//! The rules are functions of a path and a text; the tests at the end feed them bad ones and expect to see red.

#[path = "house/text.rs"]
mod text;

use std::path::Path;

use text::{Item, bare, paths};

/// The floor of a folder or file of the crate's root, by its first name.
fn floor(room: &str) -> Option<u8> {
    Some(match room {
        "sys" => 0,
        "sync" => 1,
        "shm" => 2,
        "robust" => 3,
        "atomic" | "lock" | "table" | "channel" | "timer" => 4,
        "process" | "task" => 5,
        "server" => 6,
        "protocol" => 7,
        "lib" | "bin" | "command" => 8,
        _ => return None,
    })
}

/// What the front door offers to every floor: the error type.
const EVERYWHERE: [&str; 3] = ["Error", "Result", "error"];

/// The first name of a path below `src/`: its room.
fn room(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// What re-exported names of the front door stand for.
fn room_of_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "Atomic" | "AtomicLong" | "Counter" => "atomic",
        "Lock" | "RwLock" | "Semaphore" | "Barrier" | "LockGuard" | "ReadGuard" | "WriteGuard" => "lock",
        "recover" => "robust",
        "Region" => "shm",
        "Table" | "Schema" | "Column" | "RowMut" => "table",
        "Channel" | "Lease" | "Notifier" | "PushSession" | "PopSession" => "channel",
        "Timer" | "TimerId" => "timer",
        "TaskId" => "task",
        _ => return None,
    })
}

fn imports_point_down(path: &str, code: &str) -> Vec<String> {
    let from = room(path);
    if from == "error" {
        return Vec::new(); // of the front door, and imports nothing of the house
    }
    let Some(mine) = floor(from) else { return vec![format!("{path}: {from} stands on no floor")] };
    let mut wrong = Vec::new();
    for Item { line, names } in paths(path, code) {
        let Some(target) = names.first().map(String::as_str) else { continue };
        if target == from || EVERYWHERE.contains(&target) || floor(from) == Some(8) {
            continue;
        }
        let target = room_of_name(target).unwrap_or(target);
        match floor(target) {
            None => wrong.push(format!("{path}:{line}: crate::{target} stands on no floor")),
            Some(theirs) if theirs > mine => {
                wrong.push(format!("{path}:{line}: floor {mine} ({from}) imports floor {theirs} ({target})"));
            }
            Some(4) if mine == 4 && target != from => {
                wrong.push(format!("{path}:{line}: {from} imports its sibling {target}"));
            }
            Some(_) => {}
        }
    }
    wrong
}

fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let name = |c: char| c.is_alphanumeric() || c == '_';
    code.lines().zip(1..).flat_map(move |(line, n)| line.split(move |c| !name(c)).map(move |word| (n, word)))
}

fn unsafe_stays_below(path: &str, code: &str) -> Vec<String> {
    if ["sys", "shm"].contains(&room(path)) {
        return Vec::new();
    }
    let found = words(code).filter(|(_, word)| *word == "unsafe");
    found.map(|(line, _)| format!("{path}:{line}: unsafe outside sys/ and shm/")).collect()
}

fn upper_folders_forbid_unsafe(path: &str, code: &str) -> Vec<String> {
    let upper = path.ends_with("/mod.rs") && floor(room(path)).is_some_and(|floor| floor > 2);
    let squeezed: String = code.split_whitespace().collect();
    if upper && path.matches('/').count() == 1 && !squeezed.starts_with("#![forbid(unsafe_code)]") {
        return vec![format!("{path}: does not begin with #![forbid(unsafe_code)]")];
    }
    Vec::new()
}

fn one_door(path: &str, code: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (line, number) in code.lines().zip(1..) {
        if line.contains("commons_loom") && path != "sync/mod.rs" {
            wrong.push(format!("{path}:{number}: the model is switched on outside sync/mod.rs"));
        }
        let squeezed: String = line.split_whitespace().collect();
        let raw = ["std::sync::atomic", "core::sync::atomic", "loom::"].iter().any(|raw| squeezed.contains(raw));
        if raw && !["sys", "sync"].contains(&room(path)) {
            wrong.push(format!("{path}:{number}: atomics that do not come through the door"));
        }
        let waits = ["get_or_init", "call_once", "LazyLock"].iter().any(|wait| squeezed.contains(wait));
        if waits && !path.starts_with("sync/model") {
            wrong.push(format!(
                "{path}:{number}: waits for an initialiser, for ever in a child forked in the middle of it"
            ));
        }
        let prints = ["println!", "eprintln!", "print!", "eprint!", "dbg!"];
        if prints.iter().any(|print| squeezed.contains(print)) && room(path) != "bin" {
            wrong.push(format!("{path}:{number}: prints"));
        }
    }
    wrong
}

/// Takes the file as it is: comments are its essay.
fn small_and_explained(path: &str, whole: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = whole.lines().count();
    if lines > 400 {
        wrong.push(format!("{path}: {lines} lines, at most 400 are allowed"));
    }
    let essay = whole.lines().take_while(|line| line.starts_with("//!")).count();
    if path.ends_with("mod.rs") && path.matches('/').count() == 1 && essay < 10 {
        wrong.push(format!("{path}: opens with {essay} lines of essay, at least 10 are wanted"));
    }
    wrong
}

fn check(path: &str, whole: &str) -> Vec<String> {
    let code = bare(whole);
    let mut wrong = imports_point_down(path, &code);
    wrong.extend(unsafe_stays_below(path, &code));
    wrong.extend(upper_folders_forbid_unsafe(path, &code));
    wrong.extend(one_door(path, &code));
    wrong.extend(small_and_explained(path, whole));
    wrong
}

fn visit(folder: &Path, see: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, see);
        } else if path.extension().is_some_and(|end| end == "rs") {
            see(&path);
        }
    }
}

#[test]
fn the_house_is_as_drawn() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut wrong) = (0, Vec::new());
    visit(&src, &mut |path| {
        files += 1;
        let text = std::fs::read_to_string(path).unwrap();
        wrong.extend(check(path.strip_prefix(&src).unwrap().to_str().unwrap(), &text));
    });
    assert!(files > 25, "only {files} files were read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[track_caller]
fn red(path: &str, text: &str, why: &str) {
    let wrong = check(path, text);
    assert!(wrong.iter().any(|line| line.contains(why)), "{path} passed, or for another reason: {wrong:?}\n{text}");
}

#[track_caller]
fn green(path: &str, text: &str) {
    assert_eq!(check(path, text), [""; 0], "{text}");
}

#[test]
fn it_sees_arrows_that_point_up() {
    red("shm/region.rs", "use crate::robust::recover;", "floor 2 (shm) imports floor 3");
    red("sys/clock.rs", "use crate::{Error, sync::{fence, clock}};", "floor 0 (sys) imports floor 1");
    red("robust/word.rs", "fn f() { let lock = crate::Lock::new(); }", "floor 3 (robust) imports floor 4");
    red("atomic/deep/er.rs", "use super::super::super::server::Board;", "floor 4 (atomic) imports floor 6");
    red("shm/mod.rs", "mod a { use super::super::robust::me; }", "floor 2 (shm) imports floor 3");
    red("atomic/cell.rs", "use crate::lock::Lock;", "sibling lock");
    red("atomic/cell.rs", "use crate::{shm::Region, Semaphore as S};", "sibling lock");
    red("lock/mutex.rs", "use crate::attic::Box;", "attic stands on no floor");
    red("attic/mod.rs", "", "attic stands on no floor");
    red("timer/ops.rs", "use crate::Channel;", "sibling channel");
    green("lock/mutex.rs", "use crate::robust::{me, rest};\nuse super::barrier::Barrier;\nuse crate::{Error, Result};");
    green("sync/real.rs", "// use crate::robust::me;\nconst TEXT: &str = \"crate::server\";\nuse crate::sys::clock;");
}

#[test]
fn it_sees_unsafe_where_there_is_none() {
    red("lock/mutex.rs", "fn f() { unsafe { g() } }", "unsafe outside");
    red("robust/word.rs", "unsafe impl Send for X {}", "unsafe outside");
    red("robust/mod.rs", "//! Essay.\nmod word;", "forbid(unsafe_code)");
    green(
        "lock/mutex.rs",
        "// unsafe\n/* unsafe /* unsafe */ */ const A: &str = \"unsafe \\\" unsafe\"; const B: &str = r#\"unsafe\"#;",
    );
    green("shm/place.rs", "fn f<'a>(x: &'a u8) -> char { unsafe { g(x) }; '\"' }");
}

#[test]
fn it_sees_other_doors() {
    red("shm/region.rs", "#[cfg(not(commons_loom))] fn f() {}", "outside sync/mod.rs");
    red("robust/lock.rs", "use std::sync::atomic::AtomicU64;", "through the door");
    red("robust/lock.rs", "use core :: sync :: atomic :: fence;", "through the door");
    red("shm/atlas.rs", "fn f() { ROOT.get_or_init(make); }", "waits for an initialiser");
    red("server/mod.rs", "fn f() { println!(\"x\"); }", "prints");
    red("robust/lock.rs", &"\n".repeat(401), "at most 400");
    red("lock/mod.rs", "//! Short.\n#![forbid(unsafe_code)]", "lines of essay");
    green("sys/fork.rs", "use std::sync::atomic::AtomicBool;");
    green("bin/commons.rs", "fn main() { println!(\"x\"); }");
}
