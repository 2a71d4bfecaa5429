//! Rust source as far as the house rules need it: code without comments and strings, and the paths it names.

/// The code with comments and the contents of strings and characters blanked, line by line as it was.
pub(crate) fn bare(whole: &str) -> String {
    let text: Vec<char> = whole.chars().collect();
    let (mut out, mut at) = (String::with_capacity(whole.len()), 0);
    let blank = |out: &mut String, part: &[char]| out.extend(part.iter().map(|&c| if c == '\n' { c } else { ' ' }));
    while at < text.len() {
        let rest = &text[at..];
        let len = match rest {
            ['/', '/', ..] => rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => comment(rest),
            ['r', '"' | '#', ..] if !follows_name(&text, at) => raw_string(rest).unwrap_or(0),
            ['"', ..] => string(rest),
            ['\'', '\\', ..] => 3 + rest[3..].iter().position(|&c| c == '\'').unwrap_or(0),
            ['\'', _, '\'', ..] => 3,
            _ => 0,
        };
        if len == 0 {
            out.push(rest[0]);
            at += 1;
        } else {
            blank(&mut out, &rest[..len.min(rest.len())]);
            at += len;
        }
    }
    out
}

fn follows_name(text: &[char], at: usize) -> bool {
    at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_')
}

fn comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_string(rest: &[char]) -> Option<usize> {
    let marks = rest[1..].iter().take_while(|&&c| c == '#').count();
    let open = 1 + marks;
    if rest.get(open) != Some(&'"') {
        return None;
    }
    let ends = |at: usize| rest[at] == '"' && rest[at + 1..].iter().take_while(|&&c| c == '#').count() >= marks;
    (open + 1..rest.len()).find(|&at| ends(at)).map(|at| at + 1 + marks)
}

/// A path inside the crate, from its root.
pub(crate) struct Item {
    pub(crate) line: usize,
    pub(crate) names: Vec<String>,
}

/// Every path of `code` that begins with `crate::` or `super::`, with groups in braces spread out, resolved to the crate's root.
pub(crate) fn paths(path: &str, code: &str) -> Vec<Item> {
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].trim_end();
            let part_of_a_path = before.ends_with("::") || before.ends_with('$') && start == "super::";
            if part_of_a_path || code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let mut all = Vec::new();
            spread(&code[at..], &mut Vec::new(), &mut all);
            let here = module_of(path, inline_modules(&code[..at]));
            found.extend(all.into_iter().map(|names| Item { line, names: resolve(&here, names) }));
        }
    }
    found
}

/// `a/b/c.rs` and `a/b/c/mod.rs` are the module a::b::c.
fn module_of(path: &str, inline: usize) -> Vec<String> {
    let mut names: Vec<String> = path.trim_end_matches(".rs").split('/').map(String::from).collect();
    if names.last().is_some_and(|last| last == "mod") {
        names.pop();
    }
    names.extend((0..inline).map(|_| String::from("inline")));
    names
}

/// How many `mod name {` are open at the end of this code.
fn inline_modules(before: &str) -> usize {
    let mut open = Vec::new();
    let mut since = 0;
    for (at, c) in before.char_indices() {
        match c {
            '{' => {
                let head: Vec<_> = before[since..at].split_whitespace().collect();
                open.push(head.len() >= 2 && head[head.len() - 2] == "mod");
                since = at + 1;
            }
            '}' => {
                open.pop();
                since = at + 1;
            }
            ';' => since = at + 1,
            _ => {}
        }
    }
    open.into_iter().filter(|module| *module).count()
}

fn resolve(here: &[String], names: Vec<String>) -> Vec<String> {
    let ups = names.iter().take_while(|name| *name == "super").count();
    if ups == 0 {
        return names.into_iter().skip(1).collect();
    }
    let mut whole = here[..here.len().saturating_sub(ups)].to_vec();
    whole.extend(names.into_iter().skip(ups));
    whole
}

/// Follows `a::b::{c, d::e}` and collects its ends; how many bytes were read.
fn spread(code: &str, so_far: &mut Vec<String>, all: &mut Vec<Vec<String>>) -> usize {
    let depth = so_far.len();
    let mut at = 0;
    loop {
        at += code[at..].len() - code[at..].trim_start().len();
        if code[at..].starts_with('{') {
            at += 1;
            loop {
                at += spread(&code[at..], so_far, all);
                at += code[at..].find([',', '}']).unwrap_or(code[at..].len());
                let more = code[at..].starts_with(',');
                at = (at + 1).min(code.len());
                if !more {
                    break;
                }
            }
            break;
        }
        let len = code[at..].find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(code[at..].len());
        if len == 0 {
            break;
        }
        so_far.push(code[at..at + len].to_string());
        at += len;
        if !code[at..].trim_start().starts_with("::") {
            all.push(so_far.clone());
            break;
        }
        at += code[at..].find("::").unwrap_or(0) + 2;
    }
    so_far.truncate(depth);
    at
}
