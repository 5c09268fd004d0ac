//! `xenstore-ls`, `xenstore-read` and `xenstore-write`.
//!
//! Values come from guests: control characters in them are shown, not sent to the terminal.

use alloc::{format, string::String, vec::Vec};

use abi::Errno;
use pv_guest_kernel::xenstore::Client;

use super::{command::Failure, session::Session};

/// Shows all names and values below a path.
pub async fn list(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let root = match arguments {
        [] => "/",
        [path] => path.as_str(),
        _ => return Err(Failure::Usage),
    };
    let mut waiting =
        children(&session.store, root, 0).await.map_err(|error| about(root, error))?;
    while let Some(Node { path, name, depth }) = waiting.pop() {
        // What is removed while we look is not there to be shown.
        let Ok(value) = session.store.read(&path).await else { continue };
        write!(session.terminal, "{}", line(&name, &value, depth));
        session.terminal.flush().await?;
        let below = children(&session.store, &path, depth.saturating_add(1)).await;
        waiting.extend(below.unwrap_or_default());
    }
    Ok(())
}

/// A node that is still to be shown.
struct Node {
    path: String,
    name: String,
    depth: usize,
}

/// A node's children, the first one last.
async fn children(store: &Client, parent: &str, depth: usize) -> Result<Vec<Node>, Errno> {
    let mut names = store.directory(parent).await?;
    names.sort_unstable_by(|a, b| b.cmp(a));
    let below = |name: String| {
        let path = format!("{}/{name}", parent.trim_end_matches('/'));
        Node { path, name, depth }
    };
    Ok(names.into_iter().map(below).collect())
}

fn line(name: &str, value: &str, depth: usize) -> String {
    format!("{:depth$}{} = \"{}\"\n", "", visible(name), visible(value))
}

/// The text with control characters, double quotes and backslashes escaped.
fn visible(text: &str) -> String {
    let mut visible = String::new();
    for char in text.chars() {
        if char.is_control() || matches!(char, '"' | '\\') {
            visible.extend(char.escape_default());
        } else {
            visible.push(char);
        }
    }
    visible
}

/// Shows values.
pub async fn read(session: &mut Session, paths: &[String]) -> Result<(), Failure> {
    if paths.is_empty() {
        return Err(Failure::Usage);
    }
    for path in paths {
        let value = session.store.read(path).await.map_err(|error| about(path, error))?;
        writeln!(session.terminal, "{}", visible(&value));
    }
    Ok(())
}

/// Sets values.
pub async fn write(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let pairs = arguments.chunks_exact(2);
    if arguments.is_empty() || !pairs.remainder().is_empty() {
        return Err(Failure::Usage);
    }
    for pair in pairs {
        let [path, value] = pair else { continue };
        session.store.write(path, value).await.map_err(|error| about(path, error))?;
    }
    Ok(())
}

fn about(path: &str, error: Errno) -> Failure {
    Failure::Failed(format!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_show_depth_and_hide_nothing() {
        assert_eq!(line("local", "", 0), "local = \"\"\n");
        assert_eq!(line("name", "it's", 3), "   name = \"it's\"\n");
        assert_eq!(line("x", "\x1b[2J\"", 1), " x = \"\\u{1b}[2J\\\"\"\n");
    }
}
