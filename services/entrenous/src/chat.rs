//! A terminal client. It does not encrypt, and says so: it talks only where the server takes clear text.

mod account;
mod device;
mod input;
mod room;
mod screen;
mod talk;

use std::path::PathBuf;

use anyhow::Context;
use entrenous_client::{Api, Url};
use entrenous_config::Secret;
use entrenous_model::ConversationId;

use crate::output::say;
use account::Account;
use device::DeviceSlot;
use room::Room;
use talk::Talk;

/// How to talk.
#[derive(Debug, clap::Args)]
pub struct ChatArgs {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    server: Url,
    /// Who you are.
    #[arg(long)]
    user: String,
    /// Your password; asked for where it is not given.
    #[arg(long, env = "ENTRENOUS_PASSWORD", hide_env_values = true)]
    password: Option<Secret>,
    /// Makes the account first.
    #[arg(long)]
    register: bool,
    #[command(flatten)]
    place: Place,
    /// Who is invited to the new group, by name.
    #[arg(long, value_delimiter = ',', requires = "new_group")]
    members: Vec<String>,
    /// How many earlier messages are shown.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    history: u32,
    /// Where this client remembers which device it is; by default ~/.local/state/entrenous.
    #[arg(long, env = "ENTRENOUS_STATE_DIR")]
    state_dir: Option<PathBuf>,
}

/// Where to talk; without any of them your conversations are listed.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Place {
    /// With one person, by name.
    #[arg(long)]
    with: Option<String>,
    /// In a conversation that you are a member of, by id.
    #[arg(long)]
    group: Option<ConversationId>,
    /// In a new group with this title.
    #[arg(long)]
    new_group: Option<String>,
}

/// Talks until the person leaves.
///
/// # Errors
/// When the server refuses the login or the conversation, or ends the login; in a sentence.
pub async fn run(arguments: ChatArgs) -> anyhow::Result<()> {
    let api = Api::new(arguments.server.clone())?;
    let password = match arguments.password {
        Some(password) => password,
        None => input::ask_password(&arguments.user)?,
    };
    if arguments.register {
        api.register(&arguments.user, password.expose(), None).await.context("cannot make the account")?;
        say(&format!("Account {} is made.", arguments.user));
    }
    let state = state_folder(arguments.state_dir)?;
    let slot = DeviceSlot::take(&state, &arguments.server, &arguments.user)?;
    let (account, tokens) = Account::login(api, arguments.user, password, slot).await?;
    let room = match (&arguments.place.with, arguments.place.group, &arguments.place.new_group) {
        (Some(name), _, _) => Room::direct(&account, name).await?,
        (_, Some(id), _) => Room::existing(&account, id).await?,
        (_, _, Some(title)) => Room::new_group(&account, title, &arguments.members).await?,
        (None, None, None) => return list(&account).await,
    };
    Talk::start(account, tokens, room, arguments.history).run(input::lines()?).await
}

fn state_folder(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match given {
        Some(folder) => Ok(folder),
        None => Ok(std::env::home_dir()
            .context("there is no home folder: give --state-dir")?
            .join(".local/state/entrenous")),
    }
}

async fn list(account: &Account) -> anyhow::Result<()> {
    let mut cursor = None;
    loop {
        let page = account.api().conversations(cursor.as_deref()).await?;
        for conversation in &page.items {
            say(&screen::conversation_line(conversation));
        }
        cursor = page.next;
        if !page.has_more || cursor.is_none() {
            break;
        }
    }
    say("Talk with --with NAME, --group ID or --new-group TITLE --members NAME,NAME.");
    Ok(())
}
