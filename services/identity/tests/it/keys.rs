//! The keys of access tokens.

use entrenous_auth::TokenError;
use entrenous_identity::Service;
use entrenous_protocol::rpc::{Done, identity::*};
use entrenous_runtime::Shutdown;
use entrenous_test_support::wait_for;

use crate::fixture::{Fixture, login_request};

const DAY: u64 = 24 * 3_600;

async fn key_ids(fixture: &Fixture) -> Vec<String> {
    let jwks = fixture.call::<Jwks>(Done {}).await.unwrap();
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// The id of the key that signs a new login.
async fn signing_key(fixture: &Fixture) -> String {
    let tokens = fixture.login(login_request("alice")).await.unwrap().tokens;
    let header = tokens.access_token.split('.').next().unwrap();
    let header = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

async fn wait_for_keys(fixture: &Fixture, count: usize) -> Vec<String> {
    let look = async || {
        let keys = key_ids(fixture).await;
        if keys.len() == count { Ok(keys) } else { Err(format!("{} keys", keys.len())) }
    };
    wait_for("keys", look).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_make_one_key() {
    let fixture = Fixture::with(3, &[]).await;
    assert_eq!(fixture.count("SELECT count(*) FROM identity.signing_keys").await, 1);
    let jwks = fixture.call::<Jwks>(Done {}).await.unwrap();
    let key = &jwks["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], &key["alg"], &key["use"]),
        (&"OKP".into(), &"Ed25519".into(), &"EdDSA".into(), &"sig".into())
    );
    assert!(key.get("d").is_none(), "the private half stays here");
    // Every replica takes what every other signs.
    fixture.register("alice").await;
    for _ in 0..6 {
        let tokens = fixture.login(login_request("alice")).await.unwrap().tokens;
        fixture.claims(&tokens).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_private_half_is_sealed_and_another_secret_stops_the_start() {
    let fixture = Fixture::start().await;
    // PKCS#8 of an Ed25519 key holds this. Source: RFC 8410 3.
    let sql =
        "SELECT count(*) FROM identity.signing_keys WHERE position('\\x06032b6570'::bytea in private_key_sealed) > 0";
    assert_eq!(fixture.count(sql).await, 0);
    let config = fixture.config(&[("IDENTITY_KEY_ENCRYPTION_KEY", "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=")]);
    let other = Service::build(&config, fixture.clock.clone()).await.unwrap();
    let error = format!("{:#}", other.serve(Shutdown::new()).await.unwrap_err());
    assert!(error.contains("IDENTITY_KEY_ENCRYPTION_KEY"), "{error}");
    assert_eq!(key_ids(&fixture).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_change_without_a_token_being_refused() {
    let fixture = Fixture::with(2, &[]).await;
    fixture.register("alice").await;
    let first = wait_for_keys(&fixture, 1).await;
    let stale_verifier = fixture.verifier().await;
    assert_eq!(signing_key(&fixture).await, first[0]);

    // Old enough: a second key is published, and does not sign yet.
    fixture.clock.advance(30 * DAY);
    let both = wait_for_keys(&fixture, 2).await;
    assert_eq!(both[0], first[0]);
    fixture.clock.advance(3_500);
    let old_token = fixture.login(login_request("alice")).await.unwrap().tokens;
    assert!(stale_verifier.verify(&old_token.access_token).is_ok());
    for _ in 0..4 {
        assert_eq!(signing_key(&fixture).await, first[0]);
    }

    // An hour later it signs, on both replicas; the old one still stands for its tokens.
    fixture.clock.advance(200);
    for _ in 0..4 {
        assert_eq!(signing_key(&fixture).await, both[1]);
    }
    let new_token = fixture.login(login_request("alice")).await.unwrap().tokens;
    assert_eq!(stale_verifier.verify(&new_token.access_token), Err(TokenError::UnknownKey));
    let verifier = fixture.verifier().await;
    assert!(verifier.verify(&old_token.access_token).is_ok());
    assert!(verifier.verify(&new_token.access_token).is_ok());
    assert_eq!(fixture.count("SELECT count(*) FROM identity.signing_keys").await, 2);

    // When none of its tokens can live any more, the old key goes.
    fixture.clock.advance(3_600);
    assert_eq!(wait_for_keys(&fixture, 1).await, both[1..]);
    let gone = async || match fixture.count("SELECT count(*) FROM identity.signing_keys").await {
        1 => Ok(()),
        count => Err(format!("{count} keys")),
    };
    wait_for("the old key to be deleted", gone).await.unwrap();
}
