//! The terminal client, as two people use it.

use std::{path::Path, process::Stdio, time::Duration};

use entrenous_client::Url;
use entrenous_system_tests::{PASSWORD, Shape, System};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// How long an expected line may take.
const LINE_LIMIT: Duration = Duration::from_secs(20);

struct Terminal {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Terminal {
    fn open(server: &Url, user: &str, state: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(entrenous_system_tests::program().unwrap())
            .args(["chat", "--server", server.as_str(), "--user", user, "--state-dir"])
            .arg(state)
            .args(more)
            .env("ENTRENOUS_PASSWORD", PASSWORD)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, input, output }
    }

    async fn say(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Reads on until a line contains this.
    async fn wait_for(&mut self, part: &str) -> String {
        let found = async {
            while let Some(line) = self.output.next_line().await.unwrap() {
                if line.contains(part) {
                    return line;
                }
            }
            panic!("the output ended without {part:?}");
        };
        tokio::time::timeout(LINE_LIMIT, found).await.unwrap_or_else(|_| panic!("{part:?} never came"))
    }

    /// Ends the input and waits for the end.
    async fn end(self) -> (bool, String) {
        drop(self.input);
        let output = tokio::time::timeout(LINE_LIMIT, self.child.wait_with_output()).await.unwrap().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[tokio::test]
async fn two_people_talk_in_two_terminals() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let open = |user: &str, more: &[&str]| Terminal::open(system.gateway(), user, state.path(), more);
    let mut alice = open("alice", &["--register"]);
    alice.wait_for("Account alice is made").await;
    assert!(alice.end().await.0);
    let mut bob = open("bob", &["--register", "--with", "alice"]);
    bob.wait_for("does not encrypt").await;
    bob.say("hello alice").await;
    bob.wait_for("bob: hello alice").await;
    let mut alice = open("alice", &["--with", "bob"]);
    alice.wait_for("bob: hello alice").await;
    alice.say("hello bob").await;
    alice.say("//not a command").await;
    bob.wait_for("alice: hello bob").await;
    bob.wait_for("alice: /not a command").await;
    bob.say("/who").await;
    bob.wait_for("* alice (").await;
    let (is_success, error) = alice.end().await;
    assert!(is_success, "{error}");
    bob.say("/quit").await;
    assert!(bob.end().await.0);
    a_pipe_is_sent_whole(&system, state.path()).await;
    nothing_is_pretended(&system, state.path()).await;
    system.stop().await;
}

async fn a_pipe_is_sent_whole(system: &System, state: &Path) {
    let mut bob = Terminal::open(system.gateway(), "bob", state, &["--new-group", "numbers", "--members", "alice"]);
    let banner = bob.wait_for("group numbers").await;
    let id = banner.split(['(', ')']).nth(1).unwrap().to_owned();
    for number in 0..50 {
        bob.say(&format!("line {number}.")).await;
    }
    let (is_success, error) = bob.end().await;
    assert!(is_success, "{error}");
    let mut alice = Terminal::open(system.gateway(), "alice", state, &["--group", &id, "--history", "50"]);
    for number in 0..50 {
        alice.wait_for(&format!("bob: line {number}.")).await;
    }
    assert!(alice.end().await.0);
    let alice = entrenous_client::Api::new(system.gateway().clone()).unwrap();
    let device = entrenous_protocol::rest::LoginDevice { id: None, name: "counting".to_owned(), platform: None };
    let tokens = alice.login("alice", PASSWORD, device).await.unwrap();
    let devices = alice.with_token(&tokens.access_token).devices().await.unwrap();
    assert_eq!(devices.items.len(), 2, "three terminals one after the other are one device");
}

async fn nothing_is_pretended(system: &System, state: &Path) {
    let carol = entrenous_system_tests::Person::new(system.gateway(), "carol").await.unwrap();
    let alice = carol.api.user_by_name("alice").await.unwrap().unwrap();
    let mut sealed = crate::support::conversation(entrenous_protocol::entry::ConversationKind::Direct, &[]);
    sealed.encryption = entrenous_protocol::entry::Encryption::E2ee;
    sealed.members = vec![alice.id];
    carol.api.create_conversation(&sealed).await.unwrap();
    let (is_success, error) = Terminal::open(system.gateway(), "alice", state, &["--with", "carol"]).end().await;
    assert!(!is_success && error.contains("does not encrypt"), "{error}");
}
