//! What one domain has and no other at the same time: its name, and its devices with all that
//! belongs to them. Whoever drops an [`Estate`] has given all of it back.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    device::{DeviceId, DeviceSpec},
    error::Error,
    ownership::{Owned, Owner, Registry, Thing},
};

/// A domain's.
#[derive(Debug)]
pub struct Estate {
    registry: Registry,
    owner: Owner,
    name: Owned,
    devices: BTreeMap<DeviceId, Device>,
}

#[derive(Debug)]
struct Device {
    spec: DeviceSpec,
    /// Somebody takes it away already.
    is_leaving: bool,
    _owned: Owned,
}

/// A name that a domain had and could have again.
#[derive(Debug)]
pub struct FormerName {
    name: String,
    owned: Owned,
}

impl Estate {
    /// That of somebody with this name.
    ///
    /// # Errors
    /// [`Error::NameTaken`]
    pub fn new(registry: &Registry, name: &str) -> Result<Estate, Error> {
        let (registry, owner) = (registry.clone(), Owner::new(name));
        let name = registry.take(&owner, [Thing::Name(name.to_string())])?;
        Ok(Estate { registry, owner, name, devices: BTreeMap::new() })
    }

    /// The name.
    pub fn name(&self) -> String {
        self.owner.name()
    }

    /// Gives it another name; until the one that it had is dropped, both are taken.
    ///
    /// # Errors
    /// [`Error::NameTaken`]
    pub fn rename(&mut self, name: &str) -> Result<FormerName, Error> {
        let owned = self.registry.take(&self.owner, [Thing::Name(name.to_string())])?;
        let former =
            FormerName { name: self.name(), owned: core::mem::replace(&mut self.name, owned) };
        self.owner.rename(name);
        Ok(former)
    }

    /// Gives back its former name.
    pub fn undo_rename(&mut self, former: FormerName) {
        self.owner.rename(&former.name);
        self.name = former.owned;
    }

    /// Adds a device, to which these sectors belong; says which it is, and with nothing left open.
    ///
    /// # Errors
    /// There is such a device already, or somebody has what belongs to it.
    pub fn add(
        &mut self,
        spec: DeviceSpec,
        sectors: Vec<Thing>,
    ) -> Result<(DeviceId, DeviceSpec), Error> {
        let class = spec.class();
        let number = spec.number().unwrap_or_else(|| self.free_number(class));
        let id = DeviceId { class, number };
        if let (DeviceSpec::Disk(disk), true) = (&spec, self.devices.contains_key(&id)) {
            return Err(Error::VdevTaken { name: self.name(), vdev: disk.vdev });
        }
        let spec = match spec {
            // From here on it keeps its address, whatever the domain is called.
            DeviceSpec::Vif(vif) => DeviceSpec::Vif(vif.settled(&self.name(), number)),
            other => other,
        };
        let address = match &spec {
            DeviceSpec::Vif(vif) => vif.mac.map(Thing::Address),
            DeviceSpec::Disk(_) | DeviceSpec::Generic(_) => None,
        };
        let owned = self.registry.take(&self.owner, sectors.into_iter().chain(address))?;
        let device = Device { spec: spec.clone(), is_leaving: false, _owned: owned };
        self.devices.insert(id, device);
        Ok((id, spec))
    }

    /// The first number that no device of the class has.
    fn free_number(&self, class: &'static str) -> u32 {
        let is_free = |&number: &u32| !self.devices.contains_key(&DeviceId { class, number });
        (0..).find(is_free).unwrap_or_default()
    }

    /// Its devices, sorted.
    pub fn devices(&self) -> impl Iterator<Item = (DeviceId, &DeviceSpec)> {
        self.devices.iter().map(|(&id, device)| (id, &device.spec))
    }

    /// One of them.
    pub fn device(&self, id: DeviceId) -> Option<&DeviceSpec> {
        self.devices.get(&id).map(|device| &device.spec)
    }

    /// Begins to take a device away; says whether the caller is to do it: there is one, and nobody
    /// does so already.
    pub fn begin_removal(&mut self, id: DeviceId) -> bool {
        let device = self.devices.get_mut(&id);
        device.is_some_and(|device| !core::mem::replace(&mut device.is_leaving, true))
    }

    /// It stays after all.
    pub fn cancel_removal(&mut self, id: DeviceId) {
        if let Some(device) = self.devices.get_mut(&id) {
            device.is_leaving = false;
        }
    }

    /// Forgets a device and gives back what belongs to it.
    pub fn remove(&mut self, id: DeviceId) {
        self.devices.remove(&id);
    }
}
