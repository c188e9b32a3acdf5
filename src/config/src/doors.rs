//! Whether the doors are shut: nobody from outside comes in without saying who they are.

use crate::config::LoadedConfig;
use crate::error::{ConfigError, Diagnostic, Pos};
use crate::trefoil::{ForwardDoor, ListenerTls};
use crate::yaml;

impl LoadedConfig {
    /// Refuses listeners beyond loopback without authentication, unless `trefoil.insecure_allow_anonymous`.
    ///
    /// Users and tokens of `trefoil.auth` count for all listeners, so do the users and the verified client
    /// certificates of the web configuration file; client certificates of a listener count for it.
    ///
    /// Sockets of logs and spans know no users and tokens: each needs its key or client certificates, or
    /// `allow_anonymous`.
    pub fn check_doors(&self) -> Result<(), ConfigError> {
        let mut faults = self.open_listeners();
        faults.extend(self.open_log_sockets());
        if faults.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(faults)) }
    }

    fn open_listeners(&self) -> Vec<Diagnostic> {
        let trefoil = &self.config.trefoil;
        let web = self.web.as_ref().is_some_and(|w| w.authenticates());
        if trefoil.insecure_allow_anonymous || !trefoil.auth.is_empty() || web {
            return Vec::new();
        }
        let root = yaml::parse(&self.source).ok().map(|d| d.root);
        let mut faults = Vec::new();
        for (key, listener) in trefoil.listeners.iter() {
            let certificates = listener.tls.as_ref().is_some_and(|t| t.client_ca_file.is_some());
            let open = listener.addresses().find(|a| !a.is_loopback());
            let Some(address) = open.filter(|_| listener.enabled && !certificates) else { continue };
            let node = root.as_ref().and_then(|r| r.get("trefoil")).and_then(|n| n.get("listeners"));
            let pos = node.map_or(Pos::NOWHERE, |n| n.key_pos(key));
            let message = format!(
                "listener {key} at {address} can be reached from other machines, but there is no authentication: set \
                 trefoil.auth or a web configuration file with users, or trefoil.insecure_allow_anonymous: true"
            );
            faults.push(Diagnostic { file: self.path.clone(), pos, message });
        }
        faults
    }

    fn open_log_sockets(&self) -> Vec<Diagnostic> {
        let trefoil = &self.config.trefoil;
        if trefoil.insecure_allow_anonymous {
            return Vec::new();
        }
        let certificates = |tls: &Option<ListenerTls>| tls.as_ref().is_some_and(|t| t.client_ca_file.is_some());
        let mut doors = Vec::new();
        for (i, door) in trefoil.syslog.iter().enumerate() {
            doors.push(("syslog", i, &door.address, door.allow_anonymous || certificates(&door.tls)));
        }
        for (i, door) in trefoil.gelf.iter().enumerate() {
            doors.push(("gelf", i, &door.address, door.allow_anonymous || certificates(&door.tls)));
        }
        let forward: Vec<_> = trefoil.fluent_forward.iter().map(ForwardDoor::tcp_address).collect();
        for (i, door) in trefoil.fluent_forward.iter().enumerate() {
            let locked = door.shared_key.is_some() || certificates(&door.tls);
            doors.push(("fluent_forward", i, &forward[i], door.allow_anonymous || locked));
        }
        for (i, door) in trefoil.jaeger_udp.iter().enumerate() {
            doors.push(("jaeger_udp", i, &door.address, door.allow_anonymous));
        }
        let root = yaml::parse(&self.source).ok().map(|d| d.root);
        let mut faults = Vec::new();
        for (key, i, address, is_fine) in doors {
            let Some(address) = address.as_ref().filter(|a| !is_fine && !a.is_loopback()) else { continue };
            let node = root.as_ref().and_then(|r| r.get("trefoil")).and_then(|n| n.get(key)).and_then(|n| n.item(i));
            let pos = node.map_or(Pos::NOWHERE, |n| n.pos);
            let locks = match key {
                "fluent_forward" => "shared_key, tls.client_ca_file or ",
                "jaeger_udp" => "",
                _ => "tls.client_ca_file or ",
            };
            let message = format!(
                "{key} at {address} can be reached from other machines, but there is no authentication: set {locks}\
                 allow_anonymous: true"
            );
            faults.push(Diagnostic { file: self.path.clone(), pos, message });
        }
        faults
    }
}
