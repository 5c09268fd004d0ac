//! Sessions with a machine that a shell script plays.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::{Failure, Script, Session};
use crate::build::{Image, Images};
use crate::options;
use crate::qemu::Machine;
use crate::setup::{Qemu, Version};

/// What the play is given to work with.
const PROPS: &str = r#"
prompt() { printf '\e]133;A\aaurochs> \e]133;B\a'; }
done_with() { printf '\e]133;D;%d\a' "$1"; prompt; }
listen() { read -r -d $'\r' line; printf '%s\r\n' "$line"; }
"#;

fn session(folder: &TempDir, play: &str, timeout: Duration) -> Session {
    let file = folder.path().join("file");
    fs::write(&file, "content").unwrap();
    let image =
        Image { name: "x".into(), elf: PathBuf::new(), flat: file.clone(), memory_size: 4096 };
    let images = Images { monitor: image.clone(), dom0: image, guests: vec![] };
    let qemu = Qemu {
        program: "/bin/bash".into(),
        arguments: vec!["-c".into(), format!("{PROPS}\n{play}")],
        version: Version(7, 2, 0),
    };
    let options = options::Machine { disks: vec![file], ..Default::default() };
    let machine = Machine::new(&qemu, &images, &options).unwrap();
    Session::start(machine, timeout, None).unwrap()
}

fn play(play: &str, script: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("script");
    fs::write(&path, script).unwrap();
    let mut session = session(&folder, play, Duration::from_secs(20));
    session.wait_until_ready().map_err(|failure| failure.to_string())?;
    Script::read(&path).unwrap().play(session).map_err(|error| format!("{error:#}"))
}

#[test]
fn all_commands_succeed() {
    let scene = "echo booting; prompt; listen; echo output; done_with 0; listen; exit 0";
    assert_eq!(play(scene, "xl list\n"), Ok(()));
    assert_eq!(play("prompt; listen; exit 0", "poweroff\n"), Ok(()));
}

#[test]
fn a_command_fails_and_the_others_are_still_typed() {
    let scene = "prompt; listen; echo 'no such domain'; done_with 3; listen; done_with 0; listen";
    let reason = play(scene, "xl destroy x\nxl list\n").unwrap_err();
    assert_eq!(reason, "line 1, `xl destroy x`: status 3: no such domain");
}

#[test]
fn a_line_that_the_shell_would_cut_short_is_not_typed() {
    let line = format!("echo {}", "x".repeat(1024));
    let reason = play("prompt; listen; done_with 0; listen; exit 0", &line).unwrap_err();
    assert!(reason.contains("a line of 1029 characters is not typed"), "{reason}");
}

#[test]
fn panics_end_the_script_with_their_message() {
    let scene = "prompt; listen; echo; echo 'PANIC: oops at a.rs:1'; echo 'backtrace'
        echo 'PANIC: monitor: dom0 crashed; its own message stands above'; exec sleep 60";
    let reason = play(scene, "xl list").unwrap_err();
    assert_eq!(reason, "line 1, `xl list`: dom0 panicked: oops at a.rs:1");
    let scene = "printf '\\nPANIC: monitor: early at b.rs:2\\n'; exit 0";
    assert_eq!(play(scene, "").unwrap_err(), "the monitor panicked: early at b.rs:2");
}

#[test]
fn qemu_dies() {
    let reason = play("echo 'no such device' >&2; exit 1", "").unwrap_err();
    let expected =
        "QEMU ended (exit status: 1) while waiting for dom0's first prompt: no such device";
    assert_eq!(reason, expected);
    let reason = play("prompt; listen; kill -9 $$", "xl list").unwrap_err();
    assert!(reason.contains("signal: 9") && reason.contains("`xl list`"), "{reason}");
}

#[test]
fn the_machine_powers_off_too_early() {
    let reason = play("prompt; listen; exit 0", "xl list\n").unwrap_err();
    assert!(reason.starts_with("line 1, `xl list`: QEMU ended (exit status: 0)"), "{reason}");
    let reason = play("prompt; listen; exit 0", "poweroff\nxl list\n").unwrap_err();
    assert_eq!(reason, "line 1 powers off, 1 more follow");
}

#[test]
fn a_hang_says_what_was_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = session(&folder, "prompt; listen; exec sleep 60", Duration::from_millis(500));
    session.wait_until_ready().unwrap();
    let failure = session.run("xl create x").unwrap_err();
    assert!(
        matches!(&failure, Failure::Hang { waiting, .. } if waiting == "the end of `xl create x`")
    );
    assert!(failure.to_string().starts_with("timeout after 0.5 s"), "{failure}");
}

#[test]
fn output_is_what_the_command_printed() {
    let folder = tempfile::tempdir().unwrap();
    let scene =
        "prompt; listen; printf 'one\\r\\n\\e[1mtwo\\e[0m\\r\\n'; done_with 4; exec sleep 60";
    let mut session = session(&folder, scene, Duration::from_secs(20));
    session.wait_until_ready().unwrap();
    let output = session.run("command").unwrap();
    assert_eq!((output.status, output.text.as_str()), (4, "one\ntwo\n"));
    assert_eq!(session.transcript(), "aurochs> command\none\ntwo\naurochs> ");
}

#[test]
fn text_is_waited_for_while_a_command_runs() {
    let folder = tempfile::tempdir().unwrap();
    let scene =
        "prompt; listen; echo login:; read -r -n 1 key; echo got $key; done_with 0; exec sleep 60";
    let mut session = session(&folder, scene, Duration::from_secs(20));
    session.wait_until_ready().unwrap();
    session.begin("xl console x").unwrap();
    session.wait_for_text("login:").unwrap();
    session.type_bytes(b"k", "a key").unwrap();
    assert!(session.finish("xl console x").unwrap().text.contains("got k"));
}
