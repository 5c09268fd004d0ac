//! The store against a model so simple that it is plainly right: a sorted list of paths.

use std::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use abi::{Errno, xenstore::MessageType};
use proptest::prelude::*;

use super::{Bench, texts};

/// Value, owner, and what everybody else may do.
type Entry = (String, u16, char);

#[derive(Debug, Clone)]
enum Operation {
    Read(String),
    Write(String, String),
    Mkdir(String),
    Remove(String),
    Directory(String),
    SetPermissions(String, char),
}

#[derive(Debug, Clone)]
struct Model(BTreeMap<String, Entry>);

impl Model {
    fn new() -> Model {
        let root = ("/".to_string(), (String::new(), 0, 'b'));
        Model(BTreeMap::from([root]))
    }

    /// The path, its parent, its grandparent and so on.
    fn upwards(path: &str) -> Vec<String> {
        let mut paths = vec![path.to_string()];
        let mut path = path;
        while let Some((parent, _)) = path.rsplit_once('/').filter(|_| path != "/") {
            path = if parent.is_empty() { "/" } else { parent };
            paths.push(path.to_string());
        }
        paths
    }

    fn check(&self, caller: u16, path: &str, letter: char) -> Result<(), Errno> {
        let nearest = Model::upwards(path).into_iter().find(|path| self.0.contains_key(path));
        let (_, owner, others) = &self.0[&nearest.clone().unwrap()];
        if caller != 0 && caller != *owner && *others != letter && *others != 'b' {
            return Err(Errno::EACCES);
        }
        if nearest.as_deref() == Some(path) { Ok(()) } else { Err(Errno::ENOENT) }
    }

    fn create(&mut self, caller: u16, path: &str) {
        let (_, owner, others) =
            Model::upwards(path).iter().find_map(|path| self.0.get(path)).cloned().unwrap();
        let owner = if caller == 0 { owner } else { caller };
        for path in Model::upwards(path) {
            self.0.entry(path).or_insert((String::new(), owner, others));
        }
    }

    fn below<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a String> {
        let prefix = if path == "/" { path.to_string() } else { format!("{path}/") };
        self.0.keys().filter(move |other| other.starts_with(&prefix) && **other != prefix)
    }

    fn perform(&mut self, caller: u16, operation: &Operation) -> Result<String, Errno> {
        match operation {
            Operation::Read(path) => {
                self.check(caller, path, 'r')?;
                Ok(self.0[path].0.clone())
            }
            Operation::Write(path, value) => {
                self.check(caller, path, 'w').or_else(absent_is_fine)?;
                self.create(caller, path);
                self.0.get_mut(path).unwrap().0 = value.clone();
                Ok("OK".into())
            }
            Operation::Mkdir(path) => {
                self.check(caller, path, 'w').or_else(absent_is_fine)?;
                self.create(caller, path);
                Ok("OK".into())
            }
            Operation::Remove(path) => {
                if path == "/" {
                    return Err(Errno::EINVAL);
                }
                let parent = Model::upwards(path).remove(1);
                match self.check(caller, path, 'w') {
                    Err(Errno::ENOENT) if self.0.contains_key(&parent) => return Ok("OK".into()),
                    other => other?,
                }
                let below: Vec<String> = self.below(path).cloned().collect();
                self.0.remove(path);
                self.0.retain(|path, _| !below.contains(path));
                Ok("OK".into())
            }
            Operation::Directory(path) => {
                self.check(caller, path, 'r')?;
                let depth = |path: &str| path.split('/').filter(|name| !name.is_empty()).count();
                let children = self.below(path).filter(|other| depth(other) == depth(path) + 1);
                let names = children.map(|path| path.rsplit_once('/').unwrap().1);
                Ok(names.collect::<Vec<_>>().join(" "))
            }
            Operation::SetPermissions(path, letter) => {
                self.check(caller, path, 'w')?;
                let entry = self.0.get_mut(path).unwrap();
                if caller != 0 && caller != entry.1 {
                    return Err(Errno::EACCES);
                }
                entry.2 = *letter;
                Ok("OK".into())
            }
        }
    }
}

fn absent_is_fine(error: Errno) -> Result<(), Errno> {
    if error == Errno::ENOENT { Ok(()) } else { Err(error) }
}

impl Bench {
    /// A store whose root everybody may use, as the model's.
    fn open() -> Bench {
        let mut bench = Bench::new(&[]);
        for domain in 1..4 {
            bench.store.introduce(abi::DomId(domain));
        }
        bench.set_permissions(0, "/", &["b0"]).unwrap();
        bench
    }

    fn perform(&mut self, domain: u16, id: u32, operation: &Operation) -> Result<String, Errno> {
        let kind = |kind, path: &String| (kind, vec![path.clone()]);
        let (kind, strings) = match operation {
            Operation::Read(path) => return self.read_in(domain, id, path),
            Operation::Write(path, value) => {
                return self.write_in(domain, id, path, value).map(|()| "OK".into());
            }
            Operation::Mkdir(path) => kind(MessageType::Mkdir, path),
            Operation::Remove(path) => kind(MessageType::Rm, path),
            Operation::Directory(path) => kind(MessageType::Directory, path),
            Operation::SetPermissions(path, letter) => {
                let owner = match self.strings(0, MessageType::GetPerms, 0, &[path]) {
                    Ok(entries) => texts(&entries)[0][1..].to_string(),
                    Err(_) => "0".into(),
                };
                (MessageType::SetPerms, vec![path.clone(), format!("{letter}{owner}")])
            }
        };
        let strings: Vec<&str> = strings.iter().map(String::as_str).collect();
        let answer = self.strings(domain, kind, id, &strings)?;
        Ok(texts(&answer).join(" "))
    }

    /// Everything, as the model would have it.
    fn contents(&mut self) -> BTreeMap<String, Entry> {
        let mut contents = BTreeMap::new();
        let mut paths = vec!["/".to_string()];
        while let Some(path) = paths.pop() {
            for name in self.directory(0, &path).unwrap() {
                paths.push(format!("{}/{name}", path.trim_end_matches('/')));
            }
            let entry = self.permissions(0, &path).unwrap().remove(0);
            let owner = entry[1..].parse().unwrap();
            let value = self.read(0, &path).unwrap();
            contents.insert(path, (value, owner, entry.chars().next().unwrap()));
        }
        contents
    }
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "b", "a-"], 0..4)
        .prop_map(|names| format!("/{}", names.join("/")))
}

fn data_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        path().prop_map(Operation::Read),
        (path(), "[xyz]{0,3}").prop_map(|(path, value)| Operation::Write(path, value)),
        path().prop_map(Operation::Mkdir),
        path().prop_map(Operation::Remove),
        path().prop_map(Operation::Directory),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        5 => data_operation(),
        1 => (path(), prop_oneof![Just('n'), Just('r'), Just('w'), Just('b')])
            .prop_map(|(path, letter)| Operation::SetPermissions(path, letter)),
    ]
}

/// What a client does next.
#[derive(Debug, Clone)]
enum Step {
    Direct(Operation),
    InTransaction(Operation),
    Start,
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => data_operation().prop_map(Step::Direct),
        4 => data_operation().prop_map(Step::InTransaction),
        1 => Just(Step::Start),
        1 => Just(Step::Commit),
    ]
}

/// A client's transaction with everything that it was told.
#[derive(Debug)]
struct Open {
    id: u32,
    history: Vec<(Operation, Result<String, Errno>)>,
    others_acted: bool,
}

proptest! {
    #[test]
    fn every_operation_does_what_the_model_does(
        steps in proptest::collection::vec((0u16..4, operation()), 0..80),
    ) {
        let (mut bench, mut model) = (Bench::open(), Model::new());
        for (domain, operation) in steps {
            let expected = model.perform(domain, &operation);
            prop_assert_eq!(bench.perform(domain, 0, &operation), expected, "{:?}", operation);
        }
        prop_assert_eq!(bench.contents(), model.0);
    }

    /// A committed transaction is as if it had happened all at once when it was committed: the
    /// model, which does just that, gives every answer that the client had been given. And only a
    /// change by somebody else makes a commit fail.
    #[test]
    fn transactions_are_serializable(
        steps in proptest::collection::vec((1u16..4, step()), 0..120),
    ) {
        let (mut bench, mut model) = (Bench::open(), Model::new());
        let mut open: BTreeMap<u16, Open> = BTreeMap::new();
        for (domain, step) in steps {
            match step {
                Step::Direct(operation) => {
                    let expected = model.perform(domain, &operation);
                    prop_assert_eq!(bench.perform(domain, 0, &operation), expected);
                }
                Step::InTransaction(operation) => {
                    if let Some(open) = open.get_mut(&domain) {
                        let answer = bench.perform(domain, open.id, &operation);
                        open.history.push((operation, answer));
                    }
                    continue;
                }
                Step::Start => {
                    let id = bench.start(domain).unwrap();
                    let fresh = Open { id, history: vec![], others_acted: false };
                    if let Some(old) = open.insert(domain, fresh) {
                        bench.end(domain, old.id, "F").unwrap();
                    }
                    continue;
                }
                Step::Commit => {
                    let Some(done) = open.remove(&domain) else { continue };
                    match bench.end(domain, done.id, "T") {
                        Ok(()) => {
                            for (operation, answer) in done.history {
                                prop_assert_eq!(
                                    model.perform(domain, &operation), answer, "{:?}", operation
                                );
                            }
                        }
                        Err(error) => {
                            prop_assert_eq!(error, Errno::EAGAIN);
                            prop_assert!(done.others_acted);
                        }
                    }
                }
            }
            open.values_mut().for_each(|open| open.others_acted = true);
            prop_assert_eq!(bench.contents(), model.0.clone());
        }
    }
}
