//! Whether the doors are shut: nobody from outside comes in without saying who they are.

use crate::config::LoadedConfig;
use crate::error::{ConfigError, Diagnostic, Pos};
use crate::yaml;

impl LoadedConfig {
    /// Refuses listeners beyond loopback without authentication, unless `trefoil.insecure_allow_anonymous`.
    ///
    /// Users and tokens of `trefoil.auth` count for all listeners, so do the users and the verified client
    /// certificates of the web configuration file; client certificates of a listener count for it.
    pub fn check_doors(&self) -> Result<(), ConfigError> {
        let trefoil = &self.config.trefoil;
        let web = self.web.as_ref().is_some_and(|w| w.authenticates());
        if trefoil.insecure_allow_anonymous || !trefoil.auth.is_empty() || web {
            return Ok(());
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
        if faults.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(faults)) }
    }
}
