//! Every action by everybody, held against one table that was written by hand from docs/protocol.md.

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use entrenous_model::{ConversationId, EntryId, IdGenerator};
use entrenous_protocol::{
    Act, Code, Failure,
    act::{DeleteScope, Reaction},
    entry::Role,
    rest::NewInvite,
    rpc::store::{
        self, ActRequest, AppendResult, ConversationRequest, History, HistoryFilter, HistoryPosition, HistoryRequest,
        ListBans, ListInvites, ListMembersRequest, ListUnread, ListUnreadRequest, MemberRequest, ReadCursor,
        RevokeInvite, RevokeInviteRequest, SetOwnSettings, SetOwnSettingsRequest, UnbanMember,
    },
};
use futures::{FutureExt, future::BoxFuture};
use serde_json::json;

use crate::fixture::{Fixture, connect, device, into, sealed, user};

/// Somebody at a conversation of their own, and others there.
struct Case<'a> {
    fixture: &'a Fixture,
    room: ConversationId,
    /// The first number of the people of this case.
    base: u128,
    token: String,
}

type Outcome<'a> = BoxFuture<'a, Result<(), Failure>>;

/// An action and what comes of it: `+` done, `f` forbidden, `n` not found. Of members with the roles owner, moderator, member
/// and reader; of the same whom all the others have blocked; of who was removed, was banned, and was never there.
struct Row {
    name: &'static str,
    act: for<'a> fn(&'a Case<'a>) -> Outcome<'a>,
    groups: &'static str,
    /// Where it is another.
    channels: &'static str,
}

const fn row(
    name: &'static str,
    act: for<'a> fn(&'a Case<'a>) -> Outcome<'a>,
    groups: &'static str,
    channels: &'static str,
) -> Row {
    Row { name, act, groups, channels }
}

const ROLES: [Role; 4] = [Role::Owner, Role::Moderator, Role::Member, Role::Reader];
/// Who is there beside the caller; the last two are no members.
const OWNER: u128 = 1;
const MODERATOR: u128 = 2;
const MEMBER: u128 = 3;
const OUTSIDER: u128 = 4;
const BANNED: u128 = 5;

fn table() -> Vec<Row> {
    vec![
        row("see it", |c| done(c.fixture.get(c.caller(), c.room)), "++++ ++++ nnn", ""),
        row("see the members", |c| done(c.fixture.members(c.caller(), c.room)), "++++ ++++ nnn", "++ff ++ff nnn"),
        row("read history", |c| c.history().boxed(), "++++ ++++ nnn", ""),
        row("count unread", |c| c.unread().boxed(), "++++ ++++ nnn", ""),
        row("post", |c| c.post().boxed(), "+++f +++f nnn", "++ff ++ff nnn"),
        row(
            "react",
            |c| c.act(|message_id| Act::React(Reaction { message_id, reaction: "x".to_owned() })),
            "++++ ++++ nnn",
            "",
        ),
        row("pin", |c| c.act(|message_id| Act::Pin { message_id }), "++ff ++ff nnn", ""),
        row("erase another's", |c| c.act(|id| deletion(id, DeleteScope::All)), "++ff ++ff nnn", ""),
        row("hide another's", |c| c.act(|id| deletion(id, DeleteScope::Me)), "++++ ++++ nnn", ""),
        row("add somebody", |c| c.add(OUTSIDER, Role::Member), "++ff ++ff nnn", ""),
        row("add a moderator", |c| c.add(OUTSIDER, Role::Moderator), "++ff ++ff nnn", ""),
        row("add an owner", |c| c.add(OUTSIDER, Role::Owner), "+fff +fff nnn", ""),
        row("add who is banned", |c| c.add(BANNED, Role::Member), "ffff ffff nnn", ""),
        row("remove a member", |c| c.remove(MEMBER), "++ff ++ff nnn", ""),
        row("remove a moderator", |c| c.remove(MODERATOR), "+fff +fff nnn", ""),
        row("remove an owner", |c| c.remove(OWNER), "+fff +fff nnn", ""),
        row("leave", |c| c.remove(CALLER), "++++ ++++ ++n", ""),
        row("mute a member", |c| c.give(MEMBER, Role::Reader), "++ff ++ff nnn", ""),
        row("raise a member", |c| c.give(MEMBER, Role::Moderator), "+fff +fff nnn", ""),
        row("lower a moderator", |c| c.give(MODERATOR, Role::Member), "+fff +fff nnn", ""),
        row("lower an owner", |c| c.give(OWNER, Role::Member), "+fff +fff nnn", ""),
        row("name an owner", |c| c.give(MEMBER, Role::Owner), "+fff +fff nnn", ""),
        row("raise oneself", |c| c.give(CALLER, Role::Owner), "+fff +fff nnn", ""),
        row("mute oneself", |c| c.give(CALLER, Role::Reader), "+ff+ +ff+ nnn", ""),
        row("set own settings", |c| c.set_own().boxed(), "++++ ++++ nnn", ""),
        row("set the title", |c| c.update(json!({"title": "x"})), "++ff ++ff nnn", ""),
        row("set retention", |c| c.update(json!({"retention_seconds": 9})), "++ff ++ff nnn", ""),
        row("make it public", |c| c.update(json!({"is_public": true})), "+fff +fff nnn", ""),
        row("set its size", |c| c.update(json!({"max_members": 7})), "+fff +fff nnn", ""),
        row("delete it", |c| done(c.fixture.delete(c.caller(), c.room)), "+fff +fff nnn", ""),
        row("ban a member", |c| c.ban(MEMBER), "++ff ++ff nnn", ""),
        row("ban a moderator", |c| c.ban(MODERATOR), "+fff +fff nnn", ""),
        row("ban an owner", |c| c.ban(OWNER), "+fff +fff nnn", ""),
        row("ban an outsider", |c| c.ban(OUTSIDER), "++ff ++ff nnn", ""),
        row("unban", |c| c.unban().boxed(), "++ff ++ff nnn", ""),
        row("list bans", |c| c.list_bans().boxed(), "++ff ++ff nnn", ""),
        row("invite", |c| done(c.fixture.invite(c.caller(), c.room, NewInvite::default())), "++ff ++ff nnn", ""),
        row("list invites", |c| c.list_invites().boxed(), "++ff ++ff nnn", ""),
        row("revoke an invite", |c| c.revoke().boxed(), "++ff ++ff nnn", ""),
        row("join", |c| done(c.fixture.join(c.caller(), c.room)), "++++ ++++ nnn", ""),
        row("join what is public", |c| c.join_public().boxed(), "++++ ++++ +f+", ""),
        row("join by an invite", |c| done(c.fixture.join_by(c.caller(), &c.token)), "++++ ++++ +f+", ""),
    ]
}

/// What comes of the same between two people: of one of them, of one whom the other has blocked, and of a stranger.
const BETWEEN_TWO: [(&str, &str); 42] = [
    ("see it", "++n"),
    ("see the members", "++n"),
    ("read history", "++n"),
    ("count unread", "++n"),
    ("post", "+fn"),
    ("react", "+fn"),
    ("pin", "+fn"),
    ("erase another's", "ffn"),
    ("hide another's", "++n"),
    ("add somebody", "ffn"),
    ("add a moderator", "ffn"),
    ("add an owner", "ffn"),
    ("add who is banned", "ffn"),
    ("remove a member", "ffn"),
    ("remove a moderator", "nnn"),
    ("remove an owner", "nnn"),
    ("leave", "ffn"),
    ("mute a member", "ffn"),
    ("raise a member", "ffn"),
    ("lower a moderator", "nnn"),
    ("lower an owner", "nnn"),
    ("name an owner", "ffn"),
    ("raise oneself", "ffn"),
    ("mute oneself", "ffn"),
    ("set own settings", "++n"),
    ("set the title", "ffn"),
    ("set retention", "++n"),
    ("make it public", "ffn"),
    ("set its size", "ffn"),
    ("delete it", "ffn"),
    ("ban a member", "ffn"),
    ("ban a moderator", "ffn"),
    ("ban an owner", "ffn"),
    ("ban an outsider", "ffn"),
    ("unban", "ffn"),
    ("list bans", "ffn"),
    ("invite", "ffn"),
    ("list invites", "ffn"),
    ("revoke an invite", "ffn"),
    ("join", "++n"),
    ("join what is public", "++n"),
    ("join by an invite", "nnn"),
];

/// The caller among the people of a case.
const CALLER: u128 = 9;
/// Numbers that a case has for its people.
const PEOPLE: u128 = 10;

fn deletion(message_id: EntryId, scope: DeleteScope) -> Act {
    Act::Delete { message_id, scope }
}

fn done<'a, T>(act: impl Future<Output = Result<T, Failure>> + Send + 'a) -> Outcome<'a> {
    async move { act.await.map(drop) }.boxed()
}

impl Case<'_> {
    fn number(&self, person: u128) -> u128 {
        self.base + person
    }

    fn caller(&self) -> u128 {
        self.number(CALLER)
    }

    async fn history(&self) -> Result<(), Failure> {
        let (caller, position) = (user(self.caller()), HistoryPosition::Latest);
        let request =
            HistoryRequest { caller, conversation_id: self.room, position, limit: 1, filter: HistoryFilter::default() };
        self.fixture.call::<History>(&request).await.map(drop)
    }

    async fn unread(&self) -> Result<(), Failure> {
        let cursor = ReadCursor { conversation_id: self.room, read_seq: 0 };
        let request = ListUnreadRequest { user_id: user(self.caller()), cursor };
        self.fixture.call::<ListUnread>(&request).await.map(drop)
    }

    async fn post(&self) -> Result<(), Failure> {
        match self.fixture.append_one(into(self.room, self.caller(), sealed("a"))).await {
            AppendResult::Stored(_) => Ok(()),
            AppendResult::Refused(refusal) => Err(refusal),
            AppendResult::Busy | AppendResult::Done => panic!("nobody else is there"),
        }
    }

    /// Does something with the message of a member.
    fn act(&self, act: impl FnOnce(EntryId) -> Act) -> Outcome<'_> {
        let request = ActRequest {
            conversation_id: self.room,
            caller: user(self.caller()),
            device_id: device(self.caller()),
            origin: 0,
            id: IdGenerator.next(),
            act: act(self.room.as_uuid().into()),
            not_after: None,
        };
        async move {
            match self.fixture.call::<store::Act>(&request).await? {
                AppendResult::Refused(refusal) => Err(refusal),
                AppendResult::Stored(_) | AppendResult::Done => Ok(()),
                AppendResult::Busy => panic!("nobody else is there"),
            }
        }
        .boxed()
    }

    fn add(&self, person: u128, role: Role) -> Outcome<'_> {
        done(self.fixture.add(self.caller(), self.room, self.number(person), Some(role)))
    }

    fn remove(&self, person: u128) -> Outcome<'_> {
        done(self.fixture.remove(self.caller(), self.room, self.number(person)))
    }

    fn give(&self, person: u128, role: Role) -> Outcome<'_> {
        done(self.fixture.give(self.caller(), self.room, self.number(person), role))
    }

    fn update(&self, change: serde_json::Value) -> Outcome<'_> {
        done(self.fixture.update(self.caller(), self.room, change))
    }

    fn ban(&self, person: u128) -> Outcome<'_> {
        done(self.fixture.ban(self.caller(), self.room, self.number(person)))
    }

    async fn unban(&self) -> Result<(), Failure> {
        let (caller, user_id) = (user(self.caller()), user(self.number(BANNED)));
        let request = MemberRequest { caller, conversation_id: self.room, user_id };
        self.fixture.call::<UnbanMember>(&request).await.map(drop)
    }

    async fn list_bans(&self) -> Result<(), Failure> {
        let caller = user(self.caller());
        let request = ListMembersRequest { caller, conversation_id: self.room, after: None, limit: 1 };
        self.fixture.call::<ListBans>(&request).await.map(drop)
    }

    async fn list_invites(&self) -> Result<(), Failure> {
        let request = ConversationRequest { caller: user(self.caller()), conversation_id: self.room };
        self.fixture.call::<ListInvites>(&request).await.map(drop)
    }

    async fn revoke(&self) -> Result<(), Failure> {
        let (caller, invite_id) = (user(self.caller()), IdGenerator.next());
        let request = RevokeInviteRequest { caller, conversation_id: self.room, invite_id };
        self.fixture.call::<RevokeInvite>(&request).await.map(drop)
    }

    async fn set_own(&self) -> Result<(), Failure> {
        let (caller, settings) = (user(self.caller()), serde_json::from_str(r#"{"pinned": true}"#).unwrap());
        let request = SetOwnSettingsRequest { caller, conversation_id: self.room, settings };
        self.fixture.call::<SetOwnSettings>(&request).await.map(drop)
    }

    async fn join_public(&self) -> Result<(), Failure> {
        let public = format!(
            "UPDATE messaging.conversations SET is_public = true WHERE id = '{}' AND kind <> 'direct'",
            self.room
        );
        self.fixture.execute(&public).await;
        self.fixture.join(self.caller(), self.room).await.map(drop)
    }
}

/// How the caller stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Member(Role),
    Blocked(Role),
    Removed(Role),
    Banned(Role),
    Stranger,
}

impl State {
    /// All of them, each with its place in the table.
    fn all() -> impl Iterator<Item = (Self, usize)> {
        let of_roles = (0..).zip(ROLES).flat_map(|(at, role)| {
            [
                (Self::Member(role), at),
                (Self::Blocked(role), 5 + at),
                (Self::Removed(role), 10),
                (Self::Banned(role), 11),
            ]
        });
        of_roles.chain([(Self::Stranger, 12)])
    }
}

/// Puts a conversation and its people there.
async fn set_up<'a>(
    fixture: &'a Fixture,
    connection: &mut AsyncPgConnection,
    kind: &str,
    state: State,
    base: u128,
) -> Case<'a> {
    let token = format!("token of {base}");
    let is_direct = kind == "direct";
    let id = |person: u128| user(base + person).to_string();
    let room: ConversationId =
        if is_direct { ConversationId::direct(user(base + MEMBER), user(base + CALLER)) } else { IdGenerator.next() };
    // Of two people the number orders the ids.
    let id_if_direct = |person| if is_direct { format!("'{}'", id(person)) } else { "NULL".to_owned() };
    let (low, high) = (id_if_direct(MEMBER), id_if_direct(CALLER));
    let mut text = vec![format!(
        "INSERT INTO messaging.conversations (id, kind, posting, max_members, member_count, created_by, direct_low_id, \
                                              direct_high_id) \
         VALUES ('{room}', '{kind}', '{}', 8, 4, '{}', {low}, {high}); \
         INSERT INTO messaging.heads (conversation_id, last_seq, countable_no) VALUES ('{room}', 1, 1); \
         INSERT INTO messaging.log (conversation_id, seq, id, kind, sender_id, message_type, content, countable_no, sent_at) \
         VALUES ('{room}', 1, '{room}', 'message', '{}', 'text', '{{}}', 1, now()); ",
        if kind == "channel" { "moderators" } else { "everyone" },
        id(OWNER),
        id(MEMBER),
    )];
    let mut member = |person: u128, role: Role, left: &str| {
        text.push(format!(
            "INSERT INTO messaging.members (conversation_id, user_id, role, joined_seq, joined_at, left_seq, left_at) \
             VALUES ('{room}', '{}', '{role}', 1, now(), {left}); ",
            id(person)
        ));
    };
    if is_direct {
        member(MEMBER, Role::Member, "NULL, NULL");
    } else {
        for (person, role) in [(OWNER, Role::Owner), (MODERATOR, Role::Moderator), (MEMBER, Role::Member)] {
            member(person, role, "NULL, NULL");
        }
    }
    match state {
        State::Member(role) | State::Blocked(role) => member(CALLER, role, "NULL, NULL"),
        State::Removed(role) | State::Banned(role) => member(CALLER, role, "1, now()"),
        State::Stranger if is_direct => member(OUTSIDER, Role::Member, "NULL, NULL"),
        State::Stranger => {}
    }
    let ban = |person: u128| {
        format!("INSERT INTO messaging.bans VALUES ('{room}', '{}', '{}', now()); ", id(person), id(OWNER))
    };
    if !is_direct {
        text.push(ban(BANNED));
        text.push(format!(
            "INSERT INTO messaging.invites (id, conversation_id, token_digest, created_by, created_at) \
             VALUES (gen_random_uuid(), '{room}', sha256('{token}'), '{}', now()); ",
            id(OWNER)
        ));
    }
    if matches!(state, State::Banned(_)) {
        text.push(ban(CALLER));
    }
    if matches!(state, State::Blocked(_)) {
        for person in [OWNER, MODERATOR, MEMBER, OUTSIDER] {
            text.push(format!(
                "INSERT INTO messaging.privacy VALUES ('{0}', 1, 'shared', 'everyone', true); \
                 INSERT INTO messaging.blocks VALUES ('{0}', '{1}'); ",
                id(person),
                id(CALLER)
            ));
        }
    }
    connection.batch_execute(&text.concat()).await.unwrap();
    Case { fixture, room, base, token }
}

fn letter(outcome: &Result<(), Failure>) -> char {
    match outcome {
        Ok(()) => '+',
        Err(Failure { code: Code::Forbidden, .. }) => 'f',
        Err(Failure { code: Code::NotFound, .. }) => 'n',
        Err(_) => '?',
    }
}

/// What was otherwise than the table says.
async fn wrong(kind: &str, cases: Vec<(Row, State, char)>) -> Vec<String> {
    let (fixture, replica) = Fixture::start().await;
    let mut connection = connect(&fixture.postgres).await;
    let mut wrong = Vec::new();
    for (case, (row, state, wanted)) in (1_u128..).zip(cases) {
        let case = set_up(&fixture, &mut connection, kind, state, case * PEOPLE).await;
        let outcome = (row.act)(&case).await;
        if letter(&outcome) != wanted {
            wrong.push(format!("{}, {state:?}: {outcome:?}, not {wanted}", row.name));
        }
    }
    replica.stop().await;
    wrong
}

fn cases(pick: impl Fn(&Row) -> &'static str) -> Vec<(Row, State, char)> {
    let rows = table().into_iter().flat_map(|one| {
        let wanted = pick(&one);
        let Row { name, act, groups, channels } = one;
        State::all().map(move |(state, at)| (row(name, act, groups, channels), state, wanted.chars().nth(at).unwrap()))
    });
    rows.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_do_in_groups_what_the_table_says() {
    let wrong = wrong("group", cases(|row| row.groups)).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_do_in_channels_what_the_table_says() {
    let wrong = wrong("channel", cases(|row| if row.channels.is_empty() { row.groups } else { row.channels })).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_may_do_what_the_table_says() {
    let states = [State::Member(Role::Member), State::Blocked(Role::Member), State::Stranger];
    let wanted = BETWEEN_TWO.into_iter().zip(table()).flat_map(|((name, letters), one)| {
        assert_eq!(name, one.name);
        let Row { name, act, .. } = one;
        states.into_iter().zip(letters.chars()).map(move |(state, wanted)| (row(name, act, "", ""), state, wanted))
    });
    let wrong = wrong("direct", wanted.collect()).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}
