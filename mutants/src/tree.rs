//! The copy of the tree, with every mutant planted behind its number.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::Mutant;

/// What the copy needs, from the root.
const PARTS: [&str; 8] =
    ["Cargo.toml", "Cargo.lock", "rustfmt.toml", "src", "tests", "benches", "examples", "loom-tests"];

/// Appended to the door of the copy.
const SWITCH: &str = r#"
/// Whether the mutant of this number is switched on, in this process and in all that it starts. Only in the copy that the mutant runner makes.
#[allow(dead_code)]
pub(crate) fn mutant(number: usize) -> bool {
    static ON: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *ON.get_or_init(|| std::env::var("MUTANT_ON").ok().and_then(|n| n.parse().ok()).unwrap_or(0)) == number
}
"#;

/// Copies the tree and plants the mutants; numbers count from 1. Files that come out as they were are not touched, so that cargo
/// builds no more than it has to.
pub fn plant(root: &Path, copy: &Path, mutants: &[&Mutant]) -> Result<(), String> {
    let mut changed = BTreeMap::new();
    let mut sites: BTreeMap<(&str, &str), Vec<(usize, &str)>> = BTreeMap::new();
    for (number, mutant) in (1..).zip(mutants) {
        sites.entry((mutant.file, mutant.find)).or_default().push((number, mutant.replace));
    }
    for ((file, find), replacements) in sites {
        let original = fs::read_to_string(root.join(file)).map_err(|e| format!("{file}: {e}"))?;
        if original.matches(find).count() != 1 {
            return Err(format!(
                "{file}: {} places, not one, read {find:?}: the source has moved on, its mutant has not",
                original.matches(find).count()
            ));
        }
        let text = changed.entry(file).or_insert(original);
        if text.matches(find).count() != 1 {
            return Err(format!("{file}: two mutants overlap at {find:?}"));
        }
        let mut planted = String::from("{ ");
        for (number, replace) in replacements {
            planted += &format!("if crate::sync::mutant({number}) {{ {replace} }} else ");
        }
        planted += &format!("{{ {find} }} }}");
        *text = text.replacen(find, &planted, 1);
    }
    let door = "src/sync/mod.rs";
    let text = match changed.remove(door) {
        Some(text) => text,
        None => fs::read_to_string(root.join(door)).map_err(|e| format!("{door}: {e}"))?,
    };
    changed.insert(door, text + SWITCH);
    // What is broken on purpose need not be tidy.
    let roof = "src/lib.rs";
    let text = fs::read_to_string(root.join(roof)).map_err(|e| format!("{roof}: {e}"))?;
    changed.insert(roof, format!("#![allow(warnings)]\n{text}"));
    fs::create_dir_all(copy).map_err(|e| format!("{}: {e}", copy.display()))?;
    for part in PARTS {
        mirror(root, copy, Path::new(part), &changed)?;
    }
    Ok(())
}

fn mirror(root: &Path, copy: &Path, part: &Path, changed: &BTreeMap<&str, String>) -> Result<(), String> {
    let from = root.join(part);
    let fail = |e: std::io::Error| format!("{}: {e}", part.display());
    if from.is_dir() {
        fs::create_dir_all(copy.join(part)).map_err(fail)?;
        // What the tree no longer has, cargo is not to find in the copy either.
        for entry in fs::read_dir(copy.join(part)).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let (name, path) = (entry.file_name(), entry.path());
            if name != "target" && !from.join(&name).exists() {
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.map_err(fail)?;
            }
        }
        for entry in fs::read_dir(&from).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            if name != "target" {
                mirror(root, copy, &part.join(name), changed)?;
            }
        }
    } else if from.is_file() {
        let bytes = match part.to_str().and_then(|path| changed.get(path)) {
            Some(text) => text.clone().into_bytes(),
            None => fs::read(&from).map_err(fail)?,
        };
        if fs::read(copy.join(part)).ok().as_deref() != Some(&bytes) {
            fs::write(copy.join(part), bytes).map_err(fail)?;
        }
    }
    Ok(())
}
