//! The configuration file of nats-server: for our own process, and for deployments.

use std::{fmt::Write, path::Path, time::Duration};

use super::NatsSpec;
use crate::permissions::{self, EVENTS_READER, EVENTS_READER_PASSWORD_VARIABLE, Permissions, Service, events_services};

/// Largest message that the server takes: batches and pages have byte budgets below it.
const MAX_PAYLOAD_BYTES: u32 = 8 << 20;

/// The accounts' names.
const SERVICES: &str = "ENTRENOUS";
const EVENTS_READERS: &str = "EVENTS_READERS";

/// When streams are written to the disk. It matters when the machine goes down; a killed server loses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncInterval {
    /// The server's own default: every two minutes.
    ServerDefault,
    /// So often.
    Every(Duration),
    /// Before each message is acknowledged.
    Always,
}

/// How a password stands in the configuration.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// Written out (letters and digits).
    Plain(String),
    /// Taken from an environment variable by the server.
    Variable(String),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("[secret]"),
            Self::Variable(name) => write!(f, "${name}"),
        }
    }
}

/// Somebody who may connect.
#[derive(Debug, Clone)]
pub struct NatsUser {
    /// Name.
    pub name: String,
    /// Password.
    pub password: Password,
    /// What they may do; none stands for everything.
    pub permissions: Option<Permissions>,
    /// Which subjects they see at all.
    pub account: Account,
}

/// A name space of subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// The services' own, with the streams.
    Services,
    /// That of outsiders who read events: it sees what reading takes, and nothing else.
    EventsReaders,
}

impl NatsUser {
    /// The user of a service, with its permissions.
    pub fn service(service: Service, password: Password) -> Self {
        Self {
            name: service.name().to_owned(),
            password,
            permissions: Some(service.permissions()),
            account: Account::Services,
        }
    }

    /// The user of outsiders who read events.
    pub fn events_reader(password: Password) -> Self {
        let permissions = Some(permissions::events_reader());
        Self { name: EVENTS_READER.to_owned(), password, permissions, account: Account::EventsReaders }
    }
}

/// The configuration of a server of our own.
pub(crate) fn server_config(spec: &NatsSpec, home: &Path, port: u16, name: &str) -> String {
    let mut text = String::from("# Written at each start.\n");
    let store = home.join("jetstream");
    push(&mut text, format_args!("server_name: {name}"));
    push(&mut text, format_args!("listen: \"127.0.0.1:{port}\""));
    push(&mut text, format_args!("max_payload: {MAX_PAYLOAD_BYTES}"));
    push_jetstream(&mut text, &quoted(&store.to_string_lossy()), spec.sync_interval);
    if !spec.users.is_empty() {
        push_accounts(&mut text, &spec.users);
    }
    text
}

/// The configuration of a server in a deployment: the passwords come from its environment, one variable per service
/// (`NATS_GATEWAY_PASSWORD`, …).
pub fn deployment_config() -> String {
    let mut text = String::from(
        "# nats-server for Entrenous: one user per service, and one for outsiders who read events, each with what it needs\n\
         # and no more.\n\
         # Generated from libs/local-servers (`make generate`): do not edit.\n\
         # Passwords come from the environment of nats-server. They must start with a letter: the server reads\n\
         # the value like a value of this file, and takes one that looks like a number for a number.\n\n",
    );
    push(&mut text, format_args!("listen: \"0.0.0.0:4222\""));
    push(&mut text, format_args!("# For health checks from inside the container only."));
    push(&mut text, format_args!("http: \"127.0.0.1:8222\""));
    push(&mut text, format_args!("max_payload: {MAX_PAYLOAD_BYTES}"));
    push_jetstream(&mut text, "\"/data/jetstream\"", SyncInterval::Every(Duration::from_secs(10)));
    let users: Vec<_> = Service::ALL
        .into_iter()
        .map(|service| NatsUser::service(service, Password::Variable(service.password_variable())))
        .chain([NatsUser::events_reader(Password::Variable(EVENTS_READER_PASSWORD_VARIABLE.to_owned()))])
        .collect();
    push_accounts(&mut text, &users);
    text
}

fn push_jetstream(text: &mut String, store: &str, sync_interval: SyncInterval) {
    push(text, format_args!("jetstream {{"));
    push(text, format_args!("  store_dir: {store}"));
    match sync_interval {
        SyncInterval::ServerDefault => {}
        SyncInterval::Every(interval) => push(text, format_args!("  sync_interval: \"{}ms\"", interval.as_millis())),
        SyncInterval::Always => push(text, format_args!("  sync_interval: always")),
    }
    push(text, format_args!("}}"));
}

fn push_accounts(text: &mut String, users: &[NatsUser]) {
    let of = |account: Account| users.iter().filter(move |user| user.account == account);
    let has_readers = of(Account::EventsReaders).next().is_some();
    push(text, format_args!("accounts {{\n  {SERVICES} {{\n    jetstream: enabled"));
    if has_readers {
        push(text, format_args!("    exports: ["));
        for service in events_services() {
            let kind = if service.is_stream { ", response_type: \"stream\"" } else { "" };
            let subject = quoted(&service.subject);
            push(text, format_args!("      {{ service: {subject}, accounts: [{EVENTS_READERS}]{kind} }}"));
        }
        push(text, format_args!("    ]"));
    }
    push_users(text, of(Account::Services));
    push(text, format_args!("  }}"));
    if has_readers {
        push(text, format_args!("  {EVENTS_READERS} {{\n    imports: ["));
        for service in events_services() {
            let (subject, local) = (quoted(&service.subject), quoted(&service.local));
            push(text, format_args!("      {{ service: {{ account: {SERVICES}, subject: {subject} }}, to: {local} }}"));
        }
        push(text, format_args!("    ]"));
        push_users(text, of(Account::EventsReaders));
        push(text, format_args!("  }}"));
    }
    push(text, format_args!("}}"));
}

fn push_users<'a>(text: &mut String, users: impl Iterator<Item = &'a NatsUser>) {
    push(text, format_args!("    users: ["));
    for user in users {
        push_user(text, user);
    }
    push(text, format_args!("    ]"));
}

fn push_user(text: &mut String, user: &NatsUser) {
    let password = match &user.password {
        Password::Plain(password) => quoted(password),
        Password::Variable(name) => format!("${name}"),
    };
    push(text, format_args!("      {{"));
    push(text, format_args!("        user: {}", quoted(&user.name)));
    push(text, format_args!("        password: {password}"));
    if let Some(permissions) = &user.permissions {
        push_permissions(text, permissions);
    }
    push(text, format_args!("      }}"));
}

fn push_permissions(text: &mut String, permissions: &Permissions) {
    push(text, format_args!("        permissions: {{"));
    push(text, format_args!("          publish: {{ allow: [{}] }}", list(&permissions.publish)));
    push(text, format_args!("          subscribe: {{ allow: [{}] }}", list(&permissions.subscribe)));
    if let Some(responses) = permissions.responses {
        let seconds = responses.within.as_secs();
        push(
            text,
            format_args!("          allow_responses: {{ max: {}, expires: \"{seconds}s\" }}", responses.count_max),
        );
    }
    push(text, format_args!("        }}"));
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ignored: std::fmt::Result = text.write_fmt(format_args!("{line}\n"));
}

fn list(subjects: &[String]) -> String {
    subjects.iter().map(|subject| quoted(subject)).collect::<Vec<_>>().join(", ")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_do_not_print() {
        let user = NatsUser::service(Service::Gateway, Password::Plain("hunter2".to_owned()));
        assert!(!format!("{user:?}").contains("hunter2"));
    }

    #[test]
    fn generated_deployment_file_is_up_to_date() {
        let path = Path::new("../../deploy/nats/nats.conf");
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, deployment_config()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), deployment_config(), "run make generate");
    }
}
