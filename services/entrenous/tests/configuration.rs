//! docs/configuration.md says what the settings structs say. `UPDATE_GENERATED=1` writes it anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{fmt::Write, fs};

use entrenous_config::{Setting, settings};

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from the settings structs (`make generate`): do not edit. -->

Each service is configured by its environment, or by flags of the same names: `DATABASE_URL` is `--database-url`; a flag
counts more. Any variable may be given as `<NAME>_FILE` instead, naming a file that holds the value: for secrets. A wrong
value stops the start with exit status 64 and a sentence that names it. `--help` of each program lists the same.

A variable without a default is optional unless it says *required*. Numbers are whole; `_MS`, `_SECONDS`, `_BYTES` and
`_KIB` say the unit.
";

struct Service {
    name: &'static str,
    settings: Vec<Setting>,
}

fn services() -> Vec<Service> {
    vec![
        Service { name: "gateway", settings: settings::<entrenous_gateway::Config>() },
        Service { name: "identity", settings: settings::<entrenous_identity::Config>() },
        Service { name: "message-store", settings: settings::<entrenous_message_store::Config>() },
        Service { name: "delivery-tracker", settings: settings::<entrenous_delivery_tracker::Config>() },
        Service { name: "presence", settings: settings::<entrenous_presence::Config>() },
    ]
}

/// The services that have exactly this setting.
fn users_of(setting: &Setting, services: &[Service]) -> Vec<&'static str> {
    services.iter().filter(|service| service.settings.contains(setting)).map(|service| service.name).collect()
}

fn document(services: &[Service]) -> String {
    let mut text = String::from(INTRODUCTION);
    shared_section(&mut text, services);
    for service in services {
        let own = service.settings.iter().filter(|setting| users_of(setting, services).len() == 1);
        let rows: Vec<_> = own.map(row).collect();
        writeln!(text, "\n## {}\n", service.name).unwrap();
        if rows.is_empty() {
            writeln!(text, "Only what is shared.").unwrap();
        } else {
            writeln!(text, "| variable | default | meaning |\n|---|---|---|\n{}", rows.join("\n")).unwrap();
        }
    }
    text
}

fn shared_section(text: &mut String, services: &[Service]) {
    writeln!(text, "\n## Shared\n\n| variable | default | meaning | services |\n|---|---|---|---|").unwrap();
    let mut listed: Vec<&Setting> = Vec::new();
    for setting in services.iter().flat_map(|service| &service.settings) {
        let users = users_of(setting, services);
        if users.len() > 1 && !listed.contains(&setting) {
            let users = if users.len() == services.len() { "all".to_owned() } else { users.join(", ") };
            writeln!(text, "{} {users} |", row(setting)).unwrap();
            listed.push(setting);
        }
    }
}

fn row(setting: &Setting) -> String {
    let default = match &setting.default {
        Some(default) => format!("`{default}`"),
        None if setting.is_required => "*required*".to_owned(),
        None => String::new(),
    };
    let meaning = setting.help.replace('|', "\\|").replace('\n', " ");
    format!("| `{}` | {default} | {} |", setting.name, meaning.trim_end_matches('.'))
}

#[test]
fn generated_configuration_is_up_to_date() {
    let path = "../../docs/configuration.md";
    let wanted = document(&services());
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(path, &wanted).unwrap();
    }
    assert!(fs::read_to_string(path).unwrap() == wanted, "docs/configuration.md is not up to date: make generate");
}

#[test]
fn every_setting_says_what_it_is_for() {
    for service in services() {
        for setting in service.settings {
            assert!(!setting.help.is_empty(), "{} of {}", setting.name, service.name);
        }
    }
}
