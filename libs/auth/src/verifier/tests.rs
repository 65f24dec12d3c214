//! Everything that must be refused.

use aws_lc_rs::{hmac, signature::Ed25519KeyPair};
use entrenous_model::{IdGenerator, Timestamp};
use entrenous_protocol::rest::UserRole;
use serde_json::json;

use super::*;
use crate::Signer;

struct Fixture {
    verifier: Verifier,
    signer: Signer,
    key: Ed25519KeyPair,
    claims: Claims,
}

fn now() -> i64 {
    SystemClock.now().unix_seconds()
}

fn fixture() -> Fixture {
    let (signer, private_key) = Signer::generate().unwrap();
    let verifier = Verifier::new("entrenous".into(), "entrenous".into());
    verifier.set_keys(&json!({"keys": [signer.jwk()]})).unwrap();
    let claims = Claims {
        sub: IdGenerator.next(),
        device_id: IdGenerator.next(),
        username: "alice".into(),
        role: UserRole::User,
        iat: now(),
        exp: now() + 900,
        iss: "entrenous".into(),
        aud: "entrenous".into(),
        sid: IdGenerator.next(),
    };
    Fixture { verifier, signer, key: Ed25519KeyPair::from_pkcs8(&private_key).unwrap(), claims }
}

impl Fixture {
    fn header(&self, algorithm: &str) -> Value {
        json!({"typ": "JWT", "alg": algorithm, "kid": self.signer.key_id()})
    }

    /// A token with this header and payload, rightly signed.
    fn sign(&self, header: &Value, payload: &Value) -> String {
        let message = unsigned(header, payload);
        format!("{message}.{}", BASE64.encode(self.key.sign(message.as_bytes())))
    }

    fn refusal(&self, token: &str) -> TokenError {
        self.verifier.verify(token).unwrap_err()
    }

    /// How a rightly signed token with another payload is refused.
    fn refusal_of(&self, change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> TokenError {
        let mut payload = json!(self.claims);
        change(payload.as_object_mut().unwrap());
        self.refusal(&self.sign(&self.header("EdDSA"), &payload))
    }
}

fn unsigned(header: &Value, payload: &Value) -> String {
    format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(payload.to_string()))
}

#[test]
fn a_good_token_is_taken() {
    let fixture = fixture();
    assert_eq!(fixture.verifier.verify(&fixture.signer.issue(&fixture.claims)), Ok(fixture.claims.clone()));
    // The other tests change one thing in this token.
    let by_hand = fixture.sign(&fixture.header("EdDSA"), &json!(fixture.claims));
    assert_eq!(fixture.verifier.verify(&by_hand), Ok(fixture.claims));
}

#[test]
fn no_algorithm_but_ours_is_taken() {
    let fixture = fixture();
    let payload = json!(fixture.claims);
    for algorithm in ["none", "None", "nOnE", "", "HS256", "HS512", "RS256", "PS256", "ES256", "eddsa"] {
        let message = unsigned(&fixture.header(algorithm), &payload);
        assert_eq!(fixture.refusal(&format!("{message}.")), TokenError::Invalid, "{algorithm} without signature");
        let signed = fixture.sign(&fixture.header(algorithm), &payload);
        assert_eq!(fixture.refusal(&signed), TokenError::Invalid, "{algorithm} with our signature");
    }
    assert_eq!(fixture.refusal(&format!("{}.", unsigned(&fixture.header("EdDSA"), &payload))), TokenError::Invalid);
}

#[test]
fn a_token_signed_with_the_public_key_as_a_secret_is_refused() {
    let fixture = fixture();
    let jwk = fixture.signer.jwk();
    let secrets = [fixture.signer.public_key().to_vec(), jwk["x"].as_str().unwrap().into(), jwk.to_string().into()];
    for secret in secrets {
        let message = unsigned(&fixture.header("HS256"), &json!(fixture.claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
        assert_eq!(fixture.refusal(&format!("{message}.{}", BASE64.encode(tag))), TokenError::Invalid);
    }
}

#[test]
fn another_audience_or_issuer_is_refused() {
    let fixture = fixture();
    for claim in ["aud", "iss"] {
        for other in [json!("other"), json!(["entrenous"]), json!(["entrenous", "other"]), json!(""), json!(null)] {
            let refusal = fixture.refusal_of(|payload| drop(payload.insert(claim.into(), other.clone())));
            assert_eq!(refusal, TokenError::Invalid, "{claim} {other}");
        }
    }
}

#[test]
fn an_expired_token_is_told_from_a_bad_one() {
    let fixture = fixture();
    for exp in [now() - LEEWAY_SECONDS, now() - 3_600, 0] {
        let refusal = fixture.refusal_of(|payload| drop(payload.insert("exp".into(), json!(exp))));
        assert_eq!(refusal, TokenError::Expired, "{exp}");
    }
    let refusal = fixture.refusal_of(|payload| {
        payload.insert("exp".into(), json!(0));
        payload.insert("aud".into(), json!("other"));
    });
    assert_eq!(refusal, TokenError::Invalid);
}

#[test]
fn the_end_is_where_the_clock_says() {
    #[derive(Debug)]
    struct Fixed(Timestamp);
    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            self.0
        }
    }
    let fixture = fixture();
    let token = fixture.signer.issue(&fixture.claims);
    let verify_at = |seconds: u64| {
        let clock = Fixed(SystemClock.now() + std::time::Duration::from_secs(seconds));
        let verifier = Verifier::with_clock("entrenous".into(), "entrenous".into(), Arc::new(clock));
        verifier.set_keys(&json!({"keys": [fixture.signer.jwk()]})).unwrap();
        verifier.verify(&token).map(drop)
    };
    assert_eq!(verify_at(890), Ok(()));
    assert_eq!(verify_at(910), Err(TokenError::Expired));
}

#[test]
fn missing_or_confused_claims_are_refused() {
    let fixture = fixture();
    for claim in ["sub", "device_id", "username", "role", "iat", "exp", "iss", "aud", "sid"] {
        assert_eq!(fixture.refusal_of(|payload| drop(payload.remove(claim))), TokenError::Invalid, "without {claim}");
        for confused in [json!({}), json!([]), json!(true), json!(null), json!(1.5)] {
            let refusal = fixture.refusal_of(|payload| drop(payload.insert(claim.into(), confused.clone())));
            assert_eq!(refusal, TokenError::Invalid, "{claim} {confused}");
        }
    }
    let later = 9_999_999_999_u64;
    for exp in [json!(later.to_string()), json!(1e300), json!(1e10), json!(u64::MAX), json!([later]), json!(-1)] {
        let refusal = fixture.refusal_of(|payload| drop(payload.insert("exp".into(), exp.clone())));
        assert_eq!(refusal, TokenError::Invalid, "exp {exp}");
    }
}

#[test]
fn only_our_own_keys_count() {
    let fixture = fixture();
    let (other, other_private_key) = Signer::generate().unwrap();
    assert_eq!(fixture.refusal(&other.issue(&fixture.claims)), TokenError::UnknownKey);
    // Another key under our key's id, also when the token brings that key along.
    let other_key = Ed25519KeyPair::from_pkcs8(&other_private_key).unwrap();
    let mut header = fixture.header("EdDSA");
    for _ in 0..2 {
        let message = unsigned(&header, &json!(fixture.claims));
        let token = format!("{message}.{}", BASE64.encode(other_key.sign(message.as_bytes())));
        assert_eq!(fixture.refusal(&token), TokenError::Invalid);
        header["jwk"] = other.jwk();
    }
    let mut nameless = fixture.header("EdDSA");
    nameless.as_object_mut().unwrap().remove("kid");
    assert_eq!(fixture.refusal(&fixture.sign(&nameless, &json!(fixture.claims))), TokenError::Invalid);
}

#[test]
fn critical_extensions_are_refused() {
    let fixture = fixture();
    let mut header = fixture.header("EdDSA");
    header["crit"] = json!(["exp"]);
    assert_eq!(fixture.refusal(&fixture.sign(&header, &json!(fixture.claims))), TokenError::Invalid);
}

#[test]
fn garbage_is_refused() {
    let fixture = fixture();
    let good = fixture.signer.issue(&fixture.claims);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let other_payload = BASE64.encode(json!({"sub": "x"}).to_string());
    let bad = [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        "garbage".into(),
        "a.b.c".into(),
        "\u{0}.\u{0}.\u{0}".into(),
        message.into(),
        format!("{message}."),
        format!("{good}."),
        format!("{good}.{signature}"),
        format!("{good}="),
        format!(" {good}"),
        format!("{header}.{other_payload}.{signature}"),
        format!("{payload}.{header}.{signature}"),
        format!("{header}.{payload}.{}", BASE64.encode([0_u8; 64])),
        "A".repeat(10 * TOKEN_BYTES_MAX),
    ];
    for token in bad {
        assert_eq!(fixture.refusal(&token), TokenError::Invalid, "{token}");
    }
}

#[test]
fn a_bad_key_set_leaves_the_old_one_in_force() {
    let fixture = fixture();
    let token = fixture.signer.issue(&fixture.claims);
    let mut short = fixture.signer.jwk();
    short["x"] = json!("AAAA");
    let mut for_encryption = fixture.signer.jwk();
    for_encryption["use"] = json!("enc");
    let secret = json!({"kty": "oct", "kid": fixture.signer.key_id(), "k": "AAAA", "alg": "HS256"});
    assert_eq!(fixture.verifier.set_keys(&json!([])), Err(KeysError::NotASet));
    for keys in [json!([]), json!([short]), json!([for_encryption]), json!([secret]), json!([null, 1, "x"])] {
        assert_eq!(fixture.verifier.set_keys(&json!({"keys": keys})), Err(KeysError::NoUsableKey));
    }
    assert!(fixture.verifier.verify(&token).is_ok());
}

#[test]
fn new_keys_replace_old_ones_and_others_are_left_out() {
    let fixture = fixture();
    let (next, _) = Signer::generate().unwrap();
    let rsa = json!({"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"});
    fixture.verifier.set_keys(&json!({"keys": [rsa, next.jwk()]})).unwrap();
    assert!(fixture.verifier.verify(&next.issue(&fixture.claims)).is_ok());
    assert_eq!(fixture.refusal(&fixture.signer.issue(&fixture.claims)), TokenError::UnknownKey);
}

#[test]
fn before_the_first_keys_every_token_names_an_unknown_one() {
    let fixture = fixture();
    let verifier = Verifier::new("entrenous".into(), "entrenous".into());
    assert_eq!(verifier.verify(&fixture.signer.issue(&fixture.claims)), Err(TokenError::UnknownKey));
}
