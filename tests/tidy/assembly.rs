//! Counts lines of assembly: those that stand on lines of their own inside `asm!`, `global_asm!`
//! or `naked_asm!`. An instruction within a line of Rust, as a system register's access is, is no
//! more than a function call and not counted.

use crate::source::{Source, code_of};

const BEGINNINGS: [&str; 3] = ["asm!(", "global_asm!(", "naked_asm!("];

/// Lines of assembly in `source`, without blank ones, comments and operands.
pub fn lines(source: &Source) -> usize {
    let mut count = 0;
    // How many parentheses of the macro are open; 0 outside of one.
    let mut depth = 0_usize;
    for line in source.lines() {
        let code = code_of(line);
        if depth > 0 {
            count += usize::from(is_instruction(line));
            depth = nesting(depth, &code);
        } else if let Some(arguments) = after_beginning(&code) {
            depth = nesting(1, arguments);
        }
    }
    count
}

fn after_beginning(code: &str) -> Option<&str> {
    let begin = BEGINNINGS.iter().find_map(|word| Some(code.find(word)? + word.len()))?;
    code.get(begin..)
}

/// Instructions stand in a literal each, or inside of one that spans lines; operands are Rust.
fn is_instruction(line: &str) -> bool {
    const OPERANDS: [&str; 5] = [" = ", "=>", "options(", "in(", "out("];
    let operand = OPERANDS.iter().any(|word| code_of(line).contains(word));
    let first = line.trim().chars().next();
    !operand && first.is_some_and(|c| c == '"' || c == '.' || c.is_ascii_alphanumeric())
}

fn nesting(depth: usize, code: &str) -> usize {
    code.chars().fold(depth, |depth, c| match c {
        '(' => depth + 1,
        ')' => depth.saturating_sub(1),
        _ => depth,
    })
}

#[test]
fn instructions_are_counted() {
    let text = r#"
fn f() {
    asm!("nop");
    {
        asm!(
            // Why.
            "msr x, {0}",
            "isb",
            in(reg) value,
            options(nostack),
        );
    }
    call("not assembly");
}
"#;
    assert_eq!(lines(&Source::new("x.rs", text)), 2);
}
