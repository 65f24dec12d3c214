//! An outside service that judges clear text.

use std::{collections::HashMap, sync::Arc};

use aws_lc_rs::hmac;
use entrenous_protocol::{Code, rpc::store::AppendResult};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
};

use crate::fixture::{Fixture, Replica, clear, into, payload, refused, sealed, stored, user};

const SECRET: &str = "a secret of at least thirty-two bytes";

/// Answers by the text that it is asked about, and tells what it was asked.
struct Judge {
    url: String,
    asked: mpsc::UnboundedReceiver<Value>,
    release: Arc<Notify>,
}

impl Judge {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/judge", listener.local_addr().unwrap());
        let (tell, asked) = mpsc::unbounded_channel();
        let release = Arc::new(Notify::new());
        let waiting = Arc::clone(&release);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, tell.clone(), Arc::clone(&waiting)));
            }
        });
        Self { url, asked, release }
    }
}

async fn serve(stream: TcpStream, tell: mpsc::UnboundedSender<Value>, release: Arc<Notify>) {
    let mut stream = BufReader::new(stream);
    loop {
        let Some((headers, body)) = read_request(&mut stream).await else { return };
        check_signature(&headers["entrenous-signature"], &body);
        let question: Value = serde_json::from_slice(&body).unwrap();
        let text = question["content"]["text"].as_str().unwrap().to_owned();
        tell.send(question).unwrap();
        let answer = match text.as_str() {
            "rude" => json!({"action": "refuse", "reason": "be nice"}),
            "shout" => json!({"action": "replace", "text": "<b>whisper</b>"}),
            "slow" => {
                release.notified().await;
                json!({"action": "allow"})
            }
            "gone" => return,
            "odd" => json!({"action": "dance"}),
            _ => json!({"action": "allow"}),
        };
        let answer = answer.to_string();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.get_mut().write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(HashMap<String, String>, Vec<u8>)> {
    let mut headers = HashMap::new();
    let mut line = String::new();
    while stream.read_line(&mut line).await.ok()? > 2 {
        if let Some((name, value)) = line.trim_end().split_once(": ") {
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        line.clear();
    }
    let mut body = vec![0; headers.get("content-length")?.parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some((headers, body))
}

fn check_signature(header: &str, body: &[u8]) {
    let (time, signature) = header.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let signature: Vec<u8> = signature.as_bytes().chunks(2).map(digits).collect();
    let message = [format!("{time}.").as_bytes(), body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hmac::verify(&key, &message, &signature).unwrap();
}

async fn replica(fixture: &Fixture, judge: &Judge, silence: &str) -> Replica {
    let settings = [
        ("MODERATION_WEBHOOK_URL", judge.url.as_str()),
        ("MODERATION_WEBHOOK_SECRET", SECRET),
        ("MODERATION_WEBHOOK_TIMEOUT_MS", "5000"),
        ("MODERATION_WEBHOOK_SILENCE", silence),
    ];
    fixture.replica_with(&settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_allows_refuses_and_replaces() {
    let fixture = Fixture::without_identity().await;
    fixture.serve_identity().await;
    let mut judge = Judge::start().await;
    let replica = replica(&fixture, &judge, "refuse").await;
    let (group, secret) = (fixture.clear_group(&[1, 2]).await, fixture.group(&[1, 2]).await.id);
    // Ciphertext, and who is no member, are not its affair.
    stored(&fixture.append_one(into(secret, 1, sealed("a"))).await);
    assert_eq!(refused(&fixture.append_one(into(group, 9, clear("rude"))).await), Code::NotFound);

    let fine = into(group, 1, clear("<i>fine</i>"));
    let result = until_judged(&fixture, &fine).await;
    assert_eq!(stored(&result).seq, 2);
    let asked = judge.asked.recv().await.unwrap();
    assert_eq!(asked["content"], json!({"text": "fine"}));
    assert_eq!(asked["sender_id"], user(1).to_string());
    assert_eq!(asked["id"], fine.message.id.to_string());

    let AppendResult::Refused(rude) = until_judged(&fixture, &into(group, 1, clear("rude"))).await else { panic!() };
    assert_eq!((rude.code, rude.errors[0].field.as_str()), (Code::Invalid, "content.text"));
    assert_eq!(rude.errors[0].message, "be nice");
    let shout = into(group, 1, clear("shout"));
    let result = stored(&until_judged(&fixture, &shout).await);
    assert!(result.may_differ);
    let log = fixture.log(Some(2), group).await;
    assert_eq!(payload(&log.entries[2].frame).content.unwrap().get(), r#"{"text":"whisper"}"#);
    // A repeat is not asked about.
    while judge.asked.try_recv().is_ok() {}
    assert_eq!(stored(&fixture.append_one(shout).await).seq, result.seq);
    assert!(judge.asked.try_recv().is_err());
    for silent in ["gone", "odd"] {
        let result = until_judged(&fixture, &into(group, 1, clear(silent))).await;
        assert_eq!(refused(&result), Code::Unavailable);
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_silence_may_be_taken_for_a_yes() {
    let fixture = Fixture::without_identity().await;
    fixture.serve_identity().await;
    let judge = Judge::start().await;
    let replica = replica(&fixture, &judge, "allow").await;
    let group = fixture.clear_group(&[1, 2]).await;
    assert_eq!(stored(&until_judged(&fixture, &into(group, 1, clear("gone"))).await).seq, 2);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_it_holds_up_nobody_else() {
    let fixture = Fixture::without_identity().await;
    fixture.serve_identity().await;
    let mut judge = Judge::start().await;
    let replica = replica(&fixture, &judge, "refuse").await;
    let (group, other) = (fixture.clear_group(&[1, 2]).await, fixture.group(&[1, 2]).await.id);
    let slow = into(group, 1, clear("slow"));
    let results = fixture.append(vec![slow.clone(), into(other, 1, sealed("a")), into(group, 2, clear("b"))]).await;
    assert_eq!((&results[0], &results[2]), (&AppendResult::Busy, &AppendResult::Busy), "what comes behind waits");
    assert_eq!(stored(&results[1]).seq, 2);
    let mut asked = [judge.asked.recv().await.unwrap(), judge.asked.recv().await.unwrap()]
        .map(|question| question["content"]["text"].as_str().unwrap().to_owned());
    asked.sort_unstable();
    assert_eq!(asked, ["b", "slow"], "both at once");
    assert_eq!(fixture.append_one(slow.clone()).await, AppendResult::Busy);
    judge.release.notify_one();
    assert_eq!(stored(&until_judged(&fixture, &slow).await).seq, 2);
    // It was asked once.
    while let Ok(question) = judge.asked.try_recv() {
        assert_ne!(question["content"]["text"], "slow");
    }
    replica.stop().await;
}

/// Offers a message until it has a verdict, as gateways do.
async fn until_judged(fixture: &Fixture, message: &entrenous_protocol::rpc::store::AppendMessage) -> AppendResult {
    loop {
        match fixture.append_one(message.clone()).await {
            AppendResult::Busy => tokio::task::yield_now().await,
            result => return result,
        }
    }
}
