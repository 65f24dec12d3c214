//! Which services run, and with what settings.

use entrenous_local_servers::permissions::Service;

use super::{data::DataFolder, instance::Instance};
use crate::serve::Pairs;

/// Connections that PostgreSQL gives to the services together.
pub(crate) const DATABASE_CONNECTIONS: u16 = 180;

/// Connections of one service at most: the service's own default.
const CONNECTIONS_PER_SERVICE: u16 = 16;

/// Services with a database.
const DATABASE_SERVICES: u16 = 4;

/// Whether each service has a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    OneProcess,
    Split,
}

/// What to run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) public_port: u16,
    pub(crate) gateways: u16,
    pub(crate) replicas: u16,
    pub(crate) log_filter: String,
    pub(crate) database_url: String,
    pub(crate) nats_url: String,
}

impl Plan {
    /// Every instance with its settings.
    pub(crate) fn instances(&self, data: &mut DataFolder) -> anyhow::Result<Vec<Instance>> {
        let mut instances = Vec::new();
        for service in Service::ALL {
            let count = if service == Service::Gateway { self.gateways } else { self.replicas };
            for index in 0..count {
                instances.push(self.instance(data, service, index)?);
            }
        }
        Ok(instances)
    }

    fn instance(&self, data: &mut DataFolder, service: Service, index: u16) -> anyhow::Result<Instance> {
        let name = format!("{}-{}", service.name(), index + 1);
        let admin_port = data.port(&name)?;
        let public_port = (service == Service::Gateway).then(|| self.public_port + index);
        let mut pairs = self.common(service, admin_port, data)?;
        match service {
            Service::Gateway => pairs.extend(gateway_settings(self.public_port + index)),
            Service::Identity => {
                pairs.push(pair("IDENTITY_KEY_ENCRYPTION_KEY", data.secrets().key("IDENTITY_KEY_ENCRYPTION_KEY")?));
            }
            Service::MessageStore => {
                pairs.push(pair("ENTRY_DIGEST_KEY", data.secrets().key("ENTRY_DIGEST_KEY")?));
            }
            Service::DeliveryTracker | Service::Presence => {}
        }
        let first_pairs = match service {
            // Everything starts together: there is nobody to listen to first.
            Service::Presence => vec![pair("PRESENCE_WARM_UP_MS", 0)],
            _ => Vec::new(),
        };
        Ok(Instance { service, name, admin_port, public_port, pairs, first_pairs, started_by: data.path().to_owned() })
    }

    fn common(&self, service: Service, admin_port: u16, data: &mut DataFolder) -> anyhow::Result<Pairs> {
        let mut pairs = vec![
            pair("NATS_URL", &self.nats_url),
            pair("NATS_USER", service.name()),
            pair("NATS_PASSWORD", data.secrets().nats_password(service)?),
            pair("ADMIN_ADDR", format!("127.0.0.1:{admin_port}")),
            pair("LOG_FORMAT", "text"),
            pair("LOG_FILTER", &self.log_filter),
        ];
        if service != Service::Gateway {
            let connections =
                (DATABASE_CONNECTIONS / (DATABASE_SERVICES * self.replicas)).clamp(1, CONNECTIONS_PER_SERVICE);
            pairs.push(pair("DATABASE_URL", format!("{}?sslmode=disable", self.database_url)));
            pairs.push(pair("DATABASE_CONNECTIONS_MAX", connections));
        }
        Ok(pairs)
    }
}

/// There is no load balancer to wait for, and few connections to spread.
fn gateway_settings(port: u16) -> Pairs {
    vec![pair("GATEWAY_ADDR", format!("127.0.0.1:{port}")), pair("DRAIN_WAIT_MS", 0), pair("DRAIN_SPREAD_MS", 500)]
}

fn pair(name: &str, value: impl std::fmt::Display) -> (String, String) {
    (name.to_owned(), value.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn plan(gateways: u16, replicas: u16) -> Plan {
        Plan {
            public_port: 8080,
            gateways,
            replicas,
            log_filter: "warn".to_owned(),
            database_url: "postgres://entrenous:p@127.0.0.1:20000/entrenous".to_owned(),
            nats_url: "nats://127.0.0.1:20001".to_owned(),
        }
    }

    fn value<'a>(instance: &'a Instance, name: &str) -> Option<&'a str> {
        instance.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    #[tokio::test]
    async fn everything_has_a_name_and_ports_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut data = DataFolder::open(folder.path()).await.unwrap();
        let instances = plan(2, 2).instances(&mut data).unwrap();
        assert_eq!(instances.len(), 10);
        let names: BTreeSet<_> = instances.iter().map(|instance| instance.name.as_str()).collect();
        assert!(names.contains("gateway-2") && names.contains("message-store-1") && names.contains("presence-2"));
        let ports: BTreeSet<_> = instances.iter().map(|instance| instance.admin_port).collect();
        assert_eq!(ports.len(), 10);
        let gateway = instances.iter().find(|instance| instance.name == "gateway-2").unwrap();
        assert_eq!(gateway.public_port, Some(8081));
        assert_eq!(value(gateway, "GATEWAY_ADDR"), Some("127.0.0.1:8081"));
        assert_eq!(value(gateway, "DATABASE_URL"), None, "the gateway has no database");
    }

    #[tokio::test]
    async fn replicas_share_keys_and_connections() {
        let folder = tempfile::tempdir().unwrap();
        let mut data = DataFolder::open(folder.path()).await.unwrap();
        let instances = plan(1, 4).instances(&mut data).unwrap();
        let keys: BTreeSet<_> = instances.iter().filter_map(|instance| value(instance, "ENTRY_DIGEST_KEY")).collect();
        assert_eq!(keys.len(), 1);
        let connections: u16 = instances
            .iter()
            .filter_map(|instance| value(instance, "DATABASE_CONNECTIONS_MAX")?.parse::<u16>().ok())
            .sum();
        assert!(connections <= DATABASE_CONNECTIONS, "{connections}");
    }
}
