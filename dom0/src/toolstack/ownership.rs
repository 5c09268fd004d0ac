//! Things that only one domain may have at a time, and who has them.
//!
//! A command that wants such a thing takes it at once, in one step that nothing can come between,
//! and waits for disks, the store and backends only after that. So two commands at the same time
//! cannot both find it free; and what a command took is given back when it fails, because
//! [`Owned`] is dropped then.

use alloc::{
    collections::BTreeMap,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};
use core::cell::RefCell;

use abi::net::MacAddress;

use super::disk::Access;
use crate::block::disks::Place;

/// What only one can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// A domain's name.
    Name(String),
    /// Sectors of a disk: of those that anybody writes, nobody else has any.
    Sectors(Place, Access),
    /// The hardware address of a network interface.
    Address(MacAddress),
}

impl Thing {
    /// Whether not both can be had at the same time.
    fn excludes(&self, other: &Thing) -> bool {
        match (self, other) {
            (Thing::Name(one), Thing::Name(two)) => one == two,
            (Thing::Sectors(one, mine), Thing::Sectors(two, theirs)) => {
                let written = *mine == Access::ReadWrite || *theirs == Access::ReadWrite;
                written && one.overlaps(two)
            }
            (Thing::Address(one), Thing::Address(two)) => one == two,
            _ => false,
        }
    }
}

/// Somebody else has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What was wanted.
    pub thing: Thing,
    /// The name of the one who has it.
    pub user: String,
}

/// Somebody who can have things, by name. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Owner(Rc<RefCell<String>>);

impl Owner {
    /// Somebody with this name.
    pub fn new(name: &str) -> Owner {
        Owner(Rc::new(RefCell::new(name.to_string())))
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.0.borrow().clone()
    }

    /// Gives it another name.
    pub fn rename(&self, name: &str) {
        *self.0.borrow_mut() = name.to_string();
    }
}

/// Who has what. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Registry(Rc<RefCell<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    last: u64,
    by_number: BTreeMap<u64, (Owner, Thing)>,
}

impl Registry {
    /// Takes all of these things, or none.
    ///
    /// # Errors
    /// Somebody has one of them, maybe the owner itself.
    pub fn take(
        &self,
        owner: &Owner,
        things: impl IntoIterator<Item = Thing>,
    ) -> Result<Owned, Taken> {
        let mut owned = Owned { registry: self.clone(), numbers: Vec::new() };
        for thing in things {
            let number = self.0.borrow_mut().add(owner, thing)?;
            owned.numbers.push(number);
        }
        Ok(owned)
    }
}

impl Entries {
    fn add(&mut self, owner: &Owner, thing: Thing) -> Result<u64, Taken> {
        let mut all = self.by_number.values();
        if let Some((user, _)) = all.find(|(_, other)| other.excludes(&thing)) {
            return Err(Taken { thing, user: user.name() });
        }
        self.last += 1;
        self.by_number.insert(self.last, (owner.clone(), thing));
        Ok(self.last)
    }
}

/// Things that somebody has until this is dropped.
#[derive(Debug)]
pub struct Owned {
    registry: Registry,
    numbers: Vec<u64>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        let mut entries = self.registry.0.borrow_mut();
        for number in &self.numbers {
            entries.by_number.remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sectors(disk: u8, start: u64, end: u64, access: Access) -> Thing {
        let disk = format!("disk{disk}");
        Thing::Sectors(Place { disk, sectors: start..end, read_only: false }, access)
    }

    #[test]
    fn a_failure_leaves_nothing_taken() {
        let registry = Registry::default();
        let (one, two) = (Owner::new("one"), Owner::new("two"));
        let disk = sectors(0, 0, 8, Access::ReadWrite);
        let owned = registry.take(&one, [Thing::Name("one".into()), disk.clone()]).unwrap();
        let wanted = [Thing::Name("two".into()), disk.clone()];
        one.rename("first");
        let taken = registry.take(&two, wanted.clone()).unwrap_err();
        assert_eq!(taken, Taken { thing: disk, user: "first".into() });
        assert!(registry.take(&one, [Thing::Name("two".into())]).is_ok());
        drop(owned);
        assert!(registry.take(&two, wanted).is_ok());
        assert!(registry.0.borrow().by_number.is_empty());
    }

    fn thing() -> impl Strategy<Value = Thing> {
        let access = prop_oneof![Just(Access::ReadOnly), Just(Access::ReadWrite)];
        prop_oneof![
            "[ab]".prop_map(Thing::Name),
            (0..2_u8).prop_map(|last| Thing::Address(MacAddress([2, 0, 0, 0, 0, last]))),
            (0..2_u8, 0..6_u64, 1..4_u64, access).prop_map(|(disk, start, count, access)| sectors(
                disk,
                start,
                start + count,
                access
            )),
        ]
    }

    proptest! {
        /// The model: for each thing that is had, what it means sector by sector.
        #[test]
        fn nobody_has_what_another_has(
            steps in prop::collection::vec((prop::collection::vec(thing(), 1..3), 0..8_usize), 1..40),
        ) {
            let registry = Registry::default();
            let mut held: Vec<(Vec<Thing>, Owned)> = Vec::new();
            for (things, dropped) in steps {
                let mut all: Vec<&Thing> = held.iter().flat_map(|(things, _)| things).collect();
                let before = all.len();
                let mut fits = true;
                for thing in &things {
                    fits &= all.iter().all(|other| !clash(thing, other));
                    all.push(thing);
                }
                let taken = registry.take(&Owner::new("somebody"), things.clone());
                prop_assert_eq!(taken.is_ok(), fits);
                let expected = if fits { before + things.len() } else { before };
                prop_assert_eq!(registry.0.borrow().by_number.len(), expected);
                if let Ok(owned) = taken {
                    held.push((things, owned));
                }
                if dropped < held.len() {
                    held.remove(dropped);
                }
            }
        }
    }

    fn clash(one: &Thing, two: &Thing) -> bool {
        match (one, two) {
            (Thing::Sectors(one, mine), Thing::Sectors(two, theirs)) => {
                let common = one.sectors.clone().any(|sector| two.sectors.contains(&sector));
                let both_read = [*mine, *theirs] == [Access::ReadOnly; 2];
                one.disk == two.disk && common && !both_read
            }
            _ => one == two,
        }
    }
}
