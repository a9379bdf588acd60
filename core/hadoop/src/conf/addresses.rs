//! Where ResourceManagers and NameNodes are, with high availability or without.

use super::defaults::NAMENODE_PORT;
use super::values::split_address;
use super::{ConfError, Configuration};

/// A port of the ResourceManager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RmService {
    /// For clients: submission, reports, kill.
    Client,
    /// For ApplicationMasters.
    Scheduler,
    /// For NodeManagers.
    ResourceTracker,
    /// For administrators; the only RPC port that a standby serves.
    Admin,
    /// Web services over HTTP.
    Web,
    /// Web services over HTTPS.
    WebHttps,
}

impl RmService {
    fn key_and_port(self) -> (&'static str, u16) {
        match self {
            RmService::Client => ("yarn.resourcemanager.address", 8032),
            RmService::Scheduler => ("yarn.resourcemanager.scheduler.address", 8030),
            RmService::ResourceTracker => ("yarn.resourcemanager.resource-tracker.address", 8031),
            RmService::Admin => ("yarn.resourcemanager.admin.address", 8033),
            RmService::Web => ("yarn.resourcemanager.webapp.address", 8088),
            RmService::WebHttps => ("yarn.resourcemanager.webapp.https.address", 8090),
        }
    }
}

/// One ResourceManager's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RmAddress {
    /// Its id; none without high availability.
    pub id: Option<String>,
    /// `host:port`.
    pub address: String,
}

impl Configuration {
    /// The addresses of one port of all ResourceManagers, in the order of `yarn.resourcemanager.ha.rm-ids`.
    ///
    /// # Errors
    /// Names the key that is missing or is no address.
    pub fn rm_addresses(&self, service: RmService) -> Result<Vec<RmAddress>, ConfError> {
        let (key, port) = service.key_and_port();
        if !self.get_bool("yarn.resourcemanager.ha.enabled", false)? {
            let address = self.get_address(key, port)?;
            let address = address.ok_or_else(|| ConfError::Missing(format!("{key} is empty")))?;
            return Ok(vec![RmAddress { id: None, address }]);
        }
        let ids = self.get_list("yarn.resourcemanager.ha.rm-ids")?;
        if ids.is_empty() {
            return Err(ConfError::Missing(format!(
                "yarn.resourcemanager.ha.enabled is true, but yarn.resourcemanager.ha.rm-ids is not set in {}",
                self.where_looked()
            )));
        }
        ids.into_iter().map(|id| self.rm_address(key, port, id)).collect()
    }

    fn rm_address(&self, key: &str, port: u16, id: String) -> Result<RmAddress, ConfError> {
        if let Some(address) = self.get_address(&format!("{key}.{id}"), port)? {
            return Ok(RmAddress { id: Some(id), address });
        }
        let host_key = format!("yarn.resourcemanager.hostname.{id}");
        let Some(host) = self.get(&host_key)?.filter(|host| !host.is_empty()) else {
            return Err(ConfError::Missing(format!(
                "neither {key}.{id} nor {host_key} is set in {}",
                self.where_looked()
            )));
        };
        let (host, _) = split_address(&host, port).map_err(|m| self.wrong(&host_key, &host, m))?;
        Ok(RmAddress { id: Some(id), address: format!("{host}:{port}") })
    }

    /// The roots of all ResourceManagers' web services, such as `http://rm1:8088`, by `yarn.http.policy`.
    ///
    /// # Errors
    /// As [`Configuration::rm_addresses`].
    pub fn rm_web_urls(&self) -> Result<Vec<String>, ConfError> {
        let (service, scheme) = match self.https_only("yarn.http.policy")? {
            true => (RmService::WebHttps, "https"),
            false => (RmService::Web, "http"),
        };
        let addresses = self.rm_addresses(service)?;
        Ok(addresses.into_iter().map(|rm| format!("{scheme}://{}", rm.address)).collect())
    }

    fn https_only(&self, key: &str) -> Result<bool, ConfError> {
        Ok(self.get(key)?.is_some_and(|policy| policy.eq_ignore_ascii_case("HTTPS_ONLY")))
    }

    /// Whether the cluster wants more than a bare name (`hadoop.security.authentication`).
    ///
    /// # Errors
    /// Variables that go in circles.
    pub fn is_secure(&self) -> Result<bool, ConfError> {
        let method = self.get("hadoop.security.authentication")?;
        Ok(method.is_some_and(|method| !method.is_empty() && !method.eq_ignore_ascii_case("simple")))
    }

    /// Whether `authority` is the name of a nameservice and not of a host.
    ///
    /// # Errors
    /// Variables that go in circles.
    pub fn is_nameservice(&self, authority: &str) -> Result<bool, ConfError> {
        Ok(self.property(&format!("dfs.ha.namenodes.{authority}")).is_some()
            || self.get_list("dfs.nameservices")?.iter().any(|name| name == authority))
    }

    /// The RPC addresses of the NameNodes behind the authority of an `hdfs` URI: of a nameservice in the order
    /// of `dfs.ha.namenodes.<name>`, else the host itself.
    ///
    /// # Errors
    /// Names the key that is missing or is no address.
    pub fn namenodes(&self, authority: &str) -> Result<Vec<String>, ConfError> {
        if !self.is_nameservice(authority)? {
            let (host, port) = split_address(authority, NAMENODE_PORT).map_err(ConfError::Missing)?;
            return Ok(vec![format!("{host}:{port}")]);
        }
        let ids = self.get_list(&format!("dfs.ha.namenodes.{authority}"))?;
        let rpc = "dfs.namenode.rpc-address";
        // A federated nameservice without high availability has one address, under its own name.
        let keys: Vec<String> = match ids.as_slice() {
            [] => vec![format!("{rpc}.{authority}")],
            ids => ids.iter().map(|id| format!("{rpc}.{authority}.{id}")).collect(),
        };
        keys.iter()
            .map(|key| {
                self.get_address(key, NAMENODE_PORT)?.ok_or_else(|| {
                    let files = self.where_looked();
                    ConfError::Missing(format!(
                        "the nameservice {authority} needs {key}, which is not set in {files}"
                    ))
                })
            })
            .collect()
    }
}
