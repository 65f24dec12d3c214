//! Settings: typed, from flags and environment, secrets also from files; the only crate that reads the environment.
//!
//! A settings struct derives [`clap::Parser`], with `#[arg(long, env)]` on each field: the field `nats_url` is the
//! variable `NATS_URL` and the flag `--nats-url`. Any variable may be given as `<NAME>_FILE` instead, naming a file
//! that holds the value. A wrong value stops the start with a sentence that names it.

use std::{ffi::OsString, fmt, str::FromStr};

use clap::{Command, Parser};

/// Exit status for wrong settings. Source: `EX_USAGE` of sysexits(3).
pub const EXIT_CODE_USAGE: u8 = 64;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is wrong, or help was asked for.
    #[error(transparent)]
    Clap(#[from] clap::Error),
    /// A `_FILE` cannot be read.
    #[error("{name}: cannot read the file")]
    File {
        /// The variable that names it.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// Values do not fit each other.
    #[error("{name}: {problem}")]
    Value {
        /// The variable.
        name: &'static str,
        /// What is wrong, without the value.
        problem: String,
    },
}

/// Reads the settings of this process from its flags, its environment and the files that it names.
///
/// # Errors
/// When a value is wrong or a file cannot be read; [`ConfigError::exit`] tells the person who started it.
pub fn load<T: Parser>() -> Result<T, ConfigError> {
    let mut arguments: Vec<OsString> = std::env::args_os().take(1).collect();
    arguments.extend(file_arguments(&T::command(), environment)?);
    arguments.extend(std::env::args_os().skip(1));
    Ok(T::try_parse_from(arguments)?)
}

/// Builds settings from names and values, as if they stood in the environment.
///
/// # Errors
/// When a value is wrong.
pub fn from_pairs<T: Parser>(pairs: &[(String, String)]) -> Result<T, ConfigError> {
    let command = T::command();
    let mut arguments: Vec<OsString> = vec![command.get_name().into()];
    for (name, value) in pairs {
        if let Some(flag) = flag_of(&command, name) {
            arguments.push(format!("--{flag}={value}").into());
        }
    }
    Ok(T::try_parse_from(arguments)?)
}

impl ConfigError {
    /// Prints what is wrong (or the help that was asked for) and ends the process.
    #[expect(clippy::print_stderr, reason = "there is no log before there are settings")]
    pub fn exit(self) -> std::process::ExitCode {
        match self {
            Self::Clap(error) if !error.use_stderr() => error.exit(),
            error => {
                eprintln!("{error}");
                std::process::ExitCode::from(EXIT_CODE_USAGE)
            }
        }
    }
}

fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn flag_of(command: &Command, name: &str) -> Option<String> {
    let argument = command.get_arguments().find(|argument| argument.get_env().is_some_and(|env| env == name))?;
    argument.get_long().map(str::to_owned)
}

fn file_arguments(
    command: &Command,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<OsString>, ConfigError> {
    let mut arguments = Vec::new();
    for argument in command.get_arguments() {
        let (Some(name), Some(flag)) = (argument.get_env().and_then(|name| name.to_str()), argument.get_long()) else {
            continue;
        };
        let name = format!("{name}_FILE");
        if let Some(path) = environment(&name) {
            let value = std::fs::read_to_string(&path).map_err(|source| ConfigError::File { name, source })?;
            arguments.push(format!("--{flag}={}", value.trim_end_matches(['\r', '\n'])).into());
        }
    }
    Ok(arguments)
}

/// A setting that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(value))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// One setting, for the documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The variable.
    pub name: String,
    /// The flag.
    pub flag: String,
    /// What it does.
    pub help: String,
    /// The value where none is given; none for what must be given or may be absent.
    pub default: Option<String>,
    /// Must be given.
    pub is_required: bool,
}

/// Every setting of a struct, in the order of its declaration.
pub fn settings<T: Parser>() -> Vec<Setting> {
    T::command()
        .get_arguments()
        .filter_map(|argument| {
            Some(Setting {
                name: argument.get_env()?.to_str()?.to_owned(),
                flag: argument.get_long()?.to_owned(),
                help: argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default(),
                default: argument.get_default_values().first().map(|value| value.to_string_lossy().into_owned()),
                is_required: argument.is_required_set(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(Debug, Parser)]
    struct Sample {
        /// A number.
        #[arg(long, env, default_value_t = 3)]
        sample_number: u16,
        /// A secret.
        #[arg(long, env)]
        sample_secret: Option<Secret>,
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_name() {
        let error = from_pairs::<Sample>(&pairs(&[("SAMPLE_NUMBER", "70000")])).unwrap_err();
        assert!(error.to_string().contains("SAMPLE_NUMBER"), "{error}");
    }

    #[test]
    fn secrets_do_not_print() {
        let sample: Sample = from_pairs(&pairs(&[("SAMPLE_SECRET", "hunter2")])).unwrap();
        assert_eq!(sample.sample_secret.as_ref().unwrap().expose(), "hunter2");
        assert!(!format!("{sample:?}").contains("hunter2"));
        assert_eq!(sample.sample_number, 3);
    }

    #[test]
    fn a_secret_may_stand_in_a_file() {
        let path = std::env::temp_dir().join(format!("entrenous-config-test-{}", std::process::id()));
        std::fs::write(&path, "hunter2\n").unwrap();
        let arguments = file_arguments(&Sample::command(), |name| {
            (name == "SAMPLE_SECRET_FILE").then(|| path.clone().into_os_string())
        })
        .unwrap();
        assert_eq!(arguments, [OsString::from("--sample-secret=hunter2")]);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn every_setting_is_listed() {
        let names: Vec<_> = settings::<Sample>().into_iter().map(|setting| setting.name).collect();
        assert_eq!(names, ["SAMPLE_NUMBER", "SAMPLE_SECRET"]);
    }
}
