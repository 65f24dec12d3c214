//! One of our own access tokens is checked: what every connection and every REST call costs, the first with this token and
//! those after it.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be prepared ends")]

use divan::{Bencher, black_box};
use entrenous_auth::{Claims, Signer, Verifier};
use entrenous_model::{Clock, SystemClock};
use uuid::Uuid;

const ISSUER: &str = "entrenous";
/// Longer than the benchmark takes.
const LIFE_SECONDS: i64 = 3_600;

fn main() {
    divan::main();
}

/// A verifier with its keys, and a token that it takes.
fn good_token() -> (Verifier, serde_json::Value, String) {
    let (signer, _) = Signer::generate().expect("a key");
    let keys = serde_json::json!({"keys": [signer.jwk()]});
    let verifier = Verifier::new(ISSUER.to_owned(), ISSUER.to_owned());
    verifier.set_keys(&keys).expect("a key");
    let now = SystemClock.now().unix_seconds();
    let token = signer.issue(&Claims {
        sub: Uuid::from_u128(1).into(),
        device_id: Uuid::from_u128(2).into(),
        username: "alice".to_owned(),
        role: entrenous_protocol::rest::UserRole::default(),
        iat: now,
        exp: now + LIFE_SECONDS,
        iss: ISSUER.to_owned(),
        aud: ISSUER.to_owned(),
        sid: Uuid::from_u128(3).into(),
    });
    assert!(verifier.verify(&token).is_ok(), "a good token");
    (verifier, keys, token)
}

#[divan::bench]
fn verify_first(bencher: Bencher<'_, '_>) {
    let (verifier, keys, token) = good_token();
    bencher
        .with_inputs(|| verifier.set_keys(&keys).expect("a key"))
        .bench_values(|()| verifier.verify(black_box(&token)));
}

#[divan::bench]
fn verify_again(bencher: Bencher<'_, '_>) {
    let (verifier, _, token) = good_token();
    bencher.bench(|| verifier.verify(black_box(&token)));
}
