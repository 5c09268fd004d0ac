//! What each operation means, case by case.

use std::{format, string::String, vec, vec::Vec};

use abi::{DomId, Errno, xenstore::MessageType};

use super::{Bench, texts};
use crate::store::watch::Special;

fn event(path: &str, token: &str) -> (String, String) {
    (path.into(), token.into())
}

#[test]
fn writing_creates_parents_and_reading_gives_it_back() {
    let mut bench = Bench::new(&[3]);
    bench.write(3, "device/vbd/0/state", "1").unwrap();
    assert_eq!(bench.read(3, "/local/domain/3/device/vbd/0/state").unwrap(), "1");
    assert_eq!(bench.read(3, "device/vbd").unwrap(), "");
    assert_eq!(bench.directory(3, "device").unwrap(), ["vbd"]);
    assert_eq!(bench.directory(3, "device/vbd/0/state").unwrap(), Vec::<String>::new());
    assert_eq!(bench.read(3, "device/vif"), Err(Errno::ENOENT));
}

#[test]
fn making_a_directory_leaves_what_is_there() {
    let mut bench = Bench::new(&[3]);
    bench.write(3, "a", "value").unwrap();
    bench.watch_quietly(3, "a", "t");
    bench.mkdir(3, "a").unwrap();
    assert_eq!(bench.read(3, "a").unwrap(), "value");
    assert_eq!(bench.events(3), vec![]);
    bench.mkdir(3, "a/b/c").unwrap();
    assert_eq!(bench.events(3), [event("a/b/c", "t")]);
}

#[test]
fn removing_takes_everything_below() {
    let mut bench = Bench::new(&[3]);
    bench.write(3, "a/b/c", "1").unwrap();
    bench.remove(3, "a").unwrap();
    assert_eq!(bench.read(3, "a/b/c"), Err(Errno::ENOENT));
    assert_eq!(bench.remove(3, "a"), Ok(()), "what is absent may be removed");
    assert_eq!(bench.remove(3, "a/b/c"), Err(Errno::ENOENT), "unless the parent is absent too");
    assert_eq!(bench.remove(0, "/"), Err(Errno::EINVAL));
}

#[test]
fn guests_do_not_see_each_other() {
    let mut bench = Bench::new(&[3, 4]);
    bench.write(4, "secret", "s").unwrap();
    for path in ["/local/domain/4/secret", "/local/domain/4", "/local/domain/4/absent", "/"] {
        assert_eq!(bench.read(3, path), Err(Errno::EACCES), "{path}");
        assert_eq!(bench.write(3, path, "x"), Err(Errno::EACCES), "{path}");
        assert_eq!(bench.mkdir(3, path), Err(Errno::EACCES), "{path}");
        assert_eq!(bench.directory(3, path), Err(Errno::EACCES), "{path}");
        assert_eq!(bench.permissions(3, path), Err(Errno::EACCES), "{path}");
        assert_eq!(bench.set_permissions(3, path, &["b3"]), Err(Errno::EACCES), "{path}");
    }
    assert_eq!(bench.remove(3, "/local/domain/4/secret"), Err(Errno::EACCES));
    assert_eq!(bench.write(3, "/local/domain/9/x", ""), Err(Errno::EACCES));
    assert_eq!(bench.read(0, "/local/domain/4/secret").unwrap(), "s");
}

#[test]
fn a_frontend_reads_its_backend_directory_and_nobody_else_does() {
    let mut bench = Bench::new(&[3, 4]);
    let backend = "/local/domain/0/backend/vbd/3/0";
    bench.mkdir(0, backend).unwrap();
    bench.set_permissions(0, backend, &["n0", "r3"]).unwrap();
    bench.write(0, &format!("{backend}/sectors"), "8").unwrap();
    assert_eq!(bench.read(3, &format!("{backend}/sectors")).unwrap(), "8");
    assert_eq!(bench.read(3, &format!("{backend}/absent")), Err(Errno::ENOENT));
    assert_eq!(bench.write(3, &format!("{backend}/sectors"), "9"), Err(Errno::EACCES));
    assert_eq!(bench.read(4, &format!("{backend}/sectors")), Err(Errno::EACCES));
    assert_eq!(bench.read(3, "/local/domain/0/backend"), Err(Errno::EACCES));
}

#[test]
fn permissions_are_inherited_and_the_creator_owns() {
    let mut bench = Bench::new(&[3, 4]);
    bench.set_permissions(0, "/local/domain/3", &["n3", "b4"]).unwrap();
    bench.write(3, "mine", "").unwrap();
    assert_eq!(bench.permissions(3, "mine").unwrap(), ["n3", "b4"]);
    bench.write(4, "/local/domain/3/theirs/deep", "").unwrap();
    assert_eq!(bench.permissions(4, "/local/domain/3/theirs/deep").unwrap(), ["n4", "b4"]);
    assert_eq!(bench.read(3, "theirs"), Err(Errno::EACCES));
    bench.write(0, "/local/domain/3/from0", "").unwrap();
    assert_eq!(bench.permissions(0, "/local/domain/3/from0").unwrap(), ["n3", "b4"]);
}

#[test]
fn only_the_owner_sets_permissions_and_only_dom0_gives_nodes_away() {
    let mut bench = Bench::new(&[3, 4]);
    bench.write(3, "a", "1").unwrap();
    bench.set_permissions(3, "a", &["n3", "b4"]).unwrap();
    assert_eq!(bench.write(4, "/local/domain/3/a", "2"), Ok(()));
    assert_eq!(bench.set_permissions(4, "/local/domain/3/a", &["n4"]), Err(Errno::EACCES));
    assert_eq!(bench.set_permissions(3, "a", &["n4"]), Err(Errno::EPERM));
    assert_eq!(bench.set_permissions(0, "/local/domain/3/a", &["n4"]), Ok(()));
    assert_eq!(bench.read(3, "a"), Err(Errno::EACCES));
    assert_eq!(bench.set_permissions(0, "/nowhere", &["n0"]), Err(Errno::ENOENT));
}

#[test]
fn watches_cover_the_node_and_all_below() {
    let mut bench = Bench::new(&[3]);
    bench.watch_quietly(3, "device", "relative");
    bench.watch_quietly(3, "/local/domain/3/device/vbd", "absolute");
    bench.write(3, "device/vbd/0/state", "1").unwrap();
    assert_eq!(
        bench.events(3),
        [
            event("device/vbd/0/state", "relative"),
            event("/local/domain/3/device/vbd/0/state", "absolute"),
        ]
    );
    bench.write(3, "device/vif", "1").unwrap();
    bench.write(3, "devices", "1").unwrap();
    assert_eq!(bench.events(3), [event("device/vif", "relative")]);
    bench.set_permissions(3, "device/vif", &["r3"]).unwrap();
    assert_eq!(bench.events(3), [event("device/vif", "relative")]);
    assert_eq!(bench.read(3, "nothing"), Err(Errno::ENOENT));
    assert_eq!(bench.events(3), vec![], "reading is no change");
}

#[test]
fn removing_an_ancestor_fires_the_watch_with_its_own_path() {
    let mut bench = Bench::new(&[3]);
    bench.write(3, "device/vbd/0/state", "4").unwrap();
    bench.watch_quietly(3, "device/vbd/0/state", "t");
    bench.watch_quietly(3, "device/vbd/1/state", "never there");
    bench.remove(0, "/local/domain/3/device").unwrap();
    assert_eq!(bench.events(3), [event("device/vbd/0/state", "t")]);
}

#[test]
fn a_watch_does_not_tell_of_what_its_owner_may_not_read() {
    let mut bench = Bench::new(&[3, 4]);
    bench.watch_quietly(3, "/", "t");
    bench.watch_quietly(3, "/local/domain/4/secret/deep", "t");
    bench.write(4, "secret/deep", "s").unwrap();
    bench.remove(4, "secret").unwrap();
    assert_eq!(bench.events(3), vec![]);
    bench.write(4, "shared", "s").unwrap();
    bench.set_permissions(4, "shared", &["n4", "r3"]).unwrap();
    assert_eq!(bench.events(3), [event("/local/domain/4/shared", "t")]);
    bench.set_permissions(4, "shared", &["n4"]).unwrap();
    assert_eq!(bench.events(3), [event("/local/domain/4/shared", "t")], "it could read it before");
    bench.write(4, "shared", "again").unwrap();
    assert_eq!(bench.events(3), vec![]);
}

#[test]
fn watches_are_told_apart_by_path_and_token() {
    let mut bench = Bench::new(&[3]);
    bench.watch_quietly(3, "a", "1");
    bench.watch_quietly(3, "a", "2");
    assert_eq!(bench.watch(3, "a", "1"), Err(Errno::EEXIST));
    bench.write(3, "a", "").unwrap();
    let unwatch = |bench: &mut Bench, path, token| {
        bench.strings(3, MessageType::Unwatch, 0, &[path, token]).map(drop)
    };
    assert_eq!(unwatch(&mut bench, "a", "3"), Err(Errno::ENOENT));
    assert_eq!(unwatch(&mut bench, "a", "1"), Ok(()));
    assert_eq!(bench.events(3), [event("a", "2")], "what it had not read yet is forgotten too");
    bench.write(3, "a", "").unwrap();
    assert_eq!(bench.events(3), [event("a", "2")]);
}

#[test]
fn reset_forgets_watches_events_and_transactions() {
    let mut bench = Bench::new(&[3]);
    bench.watch(3, "a", "t").unwrap();
    let id = bench.start(3).unwrap();
    bench.raw(3, MessageType::ResetWatches, 0, &[0]).unwrap();
    bench.write(3, "a", "").unwrap();
    assert_eq!(bench.events(3), vec![]);
    assert_eq!(bench.end(3, id, "T"), Err(Errno::ENOENT));
}

#[test]
fn events_that_nobody_reads_are_merged() {
    let mut bench = Bench::new(&[3]);
    bench.watch_quietly(3, "a", "t");
    for _ in 0..3 {
        bench.write(3, "a/x", "").unwrap();
    }
    assert_eq!(bench.events(3), [event("a/x", "t")]);
}

#[test]
fn special_watches_are_for_dom0() {
    let mut bench = Bench::new(&[3]);
    bench.watch_quietly(0, "@introduceDomain", "i");
    bench.watch_quietly(0, "@releaseDomain", "r");
    assert_eq!(bench.watch(3, "@releaseDomain", "r"), Err(Errno::EACCES));
    assert_eq!(bench.watch(0, "@other", "r"), Err(Errno::EINVAL));
    bench.write(0, "/x", "").unwrap();
    assert_eq!(bench.events(0), vec![]);
    bench.store.introduce(DomId(4));
    assert_eq!(bench.events(0), [event("@introduceDomain", "i")]);
    bench.store.announce(Special::ReleaseDomain);
    assert_eq!(bench.events(0), [event("@releaseDomain", "r")]);
    bench.strings(0, MessageType::Release, 0, &["4"]).unwrap();
    assert_eq!(bench.events(0), [event("@releaseDomain", "r")]);
}

#[test]
fn release_leaves_nothing_for_the_next_domain_of_that_number() {
    let mut bench = Bench::new(&[3, 4]);
    bench.write(3, "mine/deep", "").unwrap();
    bench.write(4, "a", "").unwrap();
    bench.set_permissions(4, "a", &["n4", "r3"]).unwrap();
    bench.watch_quietly(0, "/local/domain/3/mine", "t");
    assert_eq!(bench.strings(3, MessageType::Release, 0, &["4"]), Err(Errno::EACCES));
    assert_eq!(bench.strings(0, MessageType::Release, 0, &["0"]), Err(Errno::EINVAL));
    assert_eq!(bench.strings(0, MessageType::Release, 0, &["9"]), Err(Errno::ENOENT));
    bench.strings(0, MessageType::Release, 0, &["3"]).unwrap();
    assert_eq!(bench.events(0), [event("/local/domain/3/mine", "t")]);
    assert_eq!(bench.directory(0, "/local/domain").unwrap(), ["4"]);
    assert_eq!(bench.permissions(0, "/local/domain/4/a").unwrap(), ["n4"]);
}

#[test]
fn domains_are_named_and_counted() {
    let mut bench = Bench::new(&[3]);
    let ask = |bench: &mut Bench, kind, domain| {
        bench.strings(3, kind, 0, &[domain]).map(|answer| texts(&answer).remove(0))
    };
    assert_eq!(ask(&mut bench, MessageType::GetDomainPath, "9").unwrap(), "/local/domain/9");
    assert_eq!(ask(&mut bench, MessageType::IsDomainIntroduced, "3").unwrap(), "T");
    assert_eq!(ask(&mut bench, MessageType::IsDomainIntroduced, "9").unwrap(), "F");
    assert_eq!(ask(&mut bench, MessageType::IsDomainIntroduced, "x"), Err(Errno::EINVAL));
    assert_eq!(ask(&mut bench, MessageType::Control, "help"), Err(Errno::EACCES));
    assert_eq!(bench.strings(0, MessageType::Control, 0, &["help"]).unwrap(), b"help\0");
    assert_eq!(bench.strings(0, MessageType::Introduce, 0, &["5", "1", "2"]), Err(Errno::ENOSYS));
}

#[test]
fn long_directories_come_in_parts() {
    let mut bench = Bench::new(&[]);
    let names: Vec<String> = (0..500).map(|n| format!("a-rather-long-name-{n:04}")).collect();
    for name in &names {
        bench.write(0, &format!("/long/{name}"), "").unwrap();
    }
    assert_eq!(bench.directory(0, "/long"), Err(Errno::E2BIG));
    let (mut list, mut versions, mut ended) = (vec![], vec![], false);
    while !ended {
        let offset = format!("{}", list.len());
        let part = bench.strings(0, MessageType::DirectoryPart, 0, &["/long", &offset]).unwrap();
        assert!(part.len() <= abi::xenstore::PAYLOAD_MAX);
        let end = part.iter().position(|&byte| byte == 0).unwrap();
        versions.push(part[..end].to_vec());
        ended = part.ends_with(&[0, 0]);
        let names = &part[end + 1..];
        list.extend_from_slice(if ended { &names[..names.len() - 1] } else { names });
    }
    assert_eq!(texts(&list), names);
    versions.dedup();
    assert!(versions.len() == 1, "the directory did not change meanwhile");
    bench.write(0, "/long/b", "").unwrap();
    let part = bench.strings(0, MessageType::DirectoryPart, 0, &["/long", "999999"]).unwrap();
    assert!(!part.starts_with(&versions[0]) && part.ends_with(&[0, 0]));
}

#[test]
fn a_transaction_is_seen_by_others_only_when_committed() {
    let mut bench = Bench::new(&[3]);
    bench.watch_quietly(0, "/local/domain/3", "t");
    let id = bench.start(3).unwrap();
    bench.write_in(3, id, "a", "1").unwrap();
    assert_eq!(bench.read_in(3, id, "a").unwrap(), "1");
    assert_eq!(bench.read(3, "a"), Err(Errno::ENOENT));
    assert_eq!(bench.events(0), vec![]);
    bench.end(3, id, "T").unwrap();
    assert_eq!(bench.read(3, "a").unwrap(), "1");
    assert_eq!(bench.events(0), [event("/local/domain/3/a", "t")]);
    assert_eq!(bench.end(3, id, "T"), Err(Errno::ENOENT));
}

#[test]
fn an_aborted_transaction_leaves_no_trace() {
    let mut bench = Bench::new(&[3]);
    bench.watch_quietly(3, "a", "t");
    let id = bench.start(3).unwrap();
    bench.write_in(3, id, "a", "1").unwrap();
    bench.end(3, id, "F").unwrap();
    assert_eq!(bench.read(3, "a"), Err(Errno::ENOENT));
    assert_eq!(bench.events(3), vec![]);
}

#[test]
fn a_transaction_conflicts_with_what_it_touched_and_with_nothing_else() {
    let mut bench = Bench::new(&[3, 4]);
    bench.write(3, "read", "1").unwrap();
    bench.write(3, "other", "1").unwrap();
    let attempt = |bench: &mut Bench, path: &str| {
        let id = bench.start(3).unwrap();
        bench.read_in(3, id, "read").unwrap();
        assert_eq!(bench.read_in(3, id, "absent"), Err(Errno::ENOENT));
        bench.write_in(3, id, "result", "2").unwrap();
        bench.write(0, path, "2").unwrap();
        let end = bench.end(3, id, "T");
        bench.remove(3, "result").unwrap();
        bench.remove(3, "absent").unwrap();
        end
    };
    assert_eq!(attempt(&mut bench, "/local/domain/3/other"), Ok(()));
    assert_eq!(attempt(&mut bench, "/local/domain/3/sibling"), Ok(()));
    assert_eq!(attempt(&mut bench, "/local/domain/4/x"), Ok(()));
    assert_eq!(attempt(&mut bench, "/local/domain/3/read"), Err(Errno::EAGAIN));
    assert_eq!(attempt(&mut bench, "/local/domain/3/absent"), Err(Errno::EAGAIN));
    assert_eq!(attempt(&mut bench, "/local/domain/3/result"), Err(Errno::EAGAIN));
}

#[test]
fn transactions_belong_to_their_client_and_do_not_nest() {
    let mut bench = Bench::new(&[3, 4]);
    let id = bench.start(3).unwrap();
    assert_eq!(bench.read_in(4, id, "/local/domain/4"), Err(Errno::ENOENT));
    assert_eq!(bench.end(4, id, "T"), Err(Errno::ENOENT));
    assert_eq!(bench.raw(3, MessageType::TransactionStart, id, &[0]), Err(Errno::EBUSY));
    assert_eq!(bench.end(3, id, "X"), Err(Errno::EINVAL));
    assert_eq!(bench.end(3, id, "T"), Ok(()));
}

#[test]
fn a_failed_write_in_a_transaction_changes_nothing_and_does_not_stop_it() {
    let mut bench = Bench::new(&[3, 4]);
    let id = bench.start(3).unwrap();
    assert_eq!(bench.write_in(3, id, "/local/domain/4/x", "1"), Err(Errno::EACCES));
    bench.write_in(3, id, "a", "1").unwrap();
    bench.end(3, id, "T").unwrap();
    assert_eq!(bench.read(3, "a").unwrap(), "1");
}

#[test]
fn lost_rights_are_noticed_at_the_commit() {
    let mut bench = Bench::new(&[3, 4]);
    bench.set_permissions(4, "/local/domain/4", &["n4", "b3"]).unwrap();
    let id = bench.start(3).unwrap();
    bench.write_in(3, id, "/local/domain/4/x", "1").unwrap();
    bench.set_permissions(4, "/local/domain/4", &["n4"]).unwrap();
    assert_eq!(bench.end(3, id, "T"), Err(Errno::EAGAIN));
    assert_eq!(bench.read(0, "/local/domain/4/x"), Err(Errno::ENOENT));
}
