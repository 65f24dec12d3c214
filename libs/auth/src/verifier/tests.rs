//! Everything that must be refused, whoever issues the tokens.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
        RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use entrenous_model::{IdGenerator, LoginId, Timestamp};
use entrenous_protocol::rest::UserRole;
use serde_json::json;

use super::*;
use crate::{SECRET_BYTES_MIN, Signer};

/// Who signs, and with what: each is a kind of issuer that a deployment may trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Issuer {
    /// Our own identity service.
    Own,
    /// An outside issuer with public keys.
    Outside(Algorithm),
    /// An outside issuer that shares a secret with us.
    Shared,
}

impl Issuer {
    const ALL: [Self; 6] = [
        Self::Own,
        Self::Outside(Algorithm::EdDSA),
        Self::Outside(Algorithm::ES256),
        Self::Outside(Algorithm::RS256),
        Self::Outside(Algorithm::PS256),
        Self::Shared,
    ];

    fn algorithm(self) -> String {
        match self {
            Self::Own => "EdDSA".into(),
            Self::Outside(algorithm) => format!("{algorithm:?}"),
            Self::Shared => "HS256".into(),
        }
    }

    /// Whether tokens name a key out of a set.
    fn has_keys(self) -> bool {
        self != Self::Shared
    }
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

struct Fixture {
    issuer: Issuer,
    verifier: Verifier,
    /// The public half, where there is one.
    jwk: Value,
    sign: Sign,
    claims: Claims,
    sid: String,
}

const KEY_ID: &str = "the key";
const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

fn now() -> i64 {
    SystemClock.now().unix_seconds()
}

/// A new key pair: the public half and how to sign with the private one.
fn key_pair(algorithm: Algorithm) -> (Value, Sign) {
    let random = SystemRandom::new();
    match algorithm {
        Algorithm::EdDSA => {
            let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
            let key = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
            let x = BASE64.encode(key.public_key());
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x});
            (jwk, Box::new(move |message| key.sign(message).as_ref().to_vec()))
        }
        Algorithm::ES256 => {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let (x, y) = key.public_key().as_ref()[1..].split_at(32);
            let jwk = json!({"kty": "EC", "crv": "P-256", "use": "sig", "x": BASE64.encode(x), "y": BASE64.encode(y)});
            (jwk, Box::new(move |message| key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()))
        }
        rsa => {
            let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            let public = key.public_key();
            let n = BASE64.encode(public.modulus().big_endian_without_leading_zero());
            let e = BASE64.encode(public.exponent().big_endian_without_leading_zero());
            let jwk = json!({"kty": "RSA", "key_ops": ["verify"], "n": n, "e": e});
            let padding: &'static dyn RsaEncoding =
                if rsa == Algorithm::RS256 { &RSA_PKCS1_SHA256 } else { &RSA_PSS_SHA256 };
            let sign = move |message: &[u8]| {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            };
            (jwk, Box::new(sign))
        }
    }
}

fn with_id(mut jwk: Value, key_id: &str) -> Value {
    jwk["kid"] = json!(key_id);
    jwk
}

fn hs256(secret: &[u8]) -> Sign {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    Box::new(move |message| hmac::sign(&key, message).as_ref().to_vec())
}

fn fixture(issuer: Issuer) -> Fixture {
    let names = || ("entrenous".to_owned(), "entrenous".to_owned());
    let (verifier, (jwk, sign)) = match issuer {
        Issuer::Own => (Verifier::new(names().0, names().1), key_pair(Algorithm::EdDSA)),
        Issuer::Outside(algorithm) => (Verifier::outside(names().0, names().1), key_pair(algorithm)),
        Issuer::Shared => {
            (Verifier::shared_secret(names().0, names().1, SECRET).unwrap(), (Value::Null, hs256(SECRET)))
        }
    };
    let jwk = if jwk.is_null() { jwk } else { with_id(jwk, KEY_ID) };
    verifier.set_keys(&json!({"keys": [jwk]})).unwrap();
    let sid: LoginId = IdGenerator.next();
    let claims = Claims {
        sub: IdGenerator.next(),
        device_id: IdGenerator.next(),
        username: "alice".into(),
        role: UserRole::User,
        iat: now(),
        exp: now() + 900,
        iss: "entrenous".into(),
        aud: "entrenous".into(),
        sid,
    };
    Fixture { issuer, verifier, jwk, sign, claims, sid: sid.to_string() }
}

/// Every kind of issuer in turn: what must hold holds for each.
fn fixtures() -> impl Iterator<Item = Fixture> {
    Issuer::ALL.into_iter().map(fixture)
}

impl Fixture {
    fn good_header(&self) -> Value {
        header(&self.issuer.algorithm())
    }

    fn payload(&self) -> Value {
        let mut payload = json!(self.claims);
        payload["sid"] = json!(self.sid);
        payload
    }

    /// A token with this header and payload, rightly signed.
    fn sign(&self, header: &Value, payload: &Value) -> String {
        signed(&self.sign, header, payload)
    }

    fn good(&self) -> String {
        self.sign(&self.good_header(), &self.payload())
    }

    fn refusal(&self, token: &str) -> TokenError {
        match self.verifier.verify(token) {
            Ok(_) => panic!("{:?} takes {token}", self.issuer),
            Err(refusal) => refusal,
        }
    }

    /// What becomes of a rightly signed token with another payload.
    fn verify_with(&self, change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Result<Claims, TokenError> {
        let mut payload = self.payload();
        change(payload.as_object_mut().unwrap());
        self.verifier.verify(&self.sign(&self.good_header(), &payload))
    }

    fn verify_claim(&self, claim: &str, value: &Value) -> Result<Claims, TokenError> {
        self.verify_with(|payload| drop(payload.insert(claim.into(), value.clone())))
    }
}

fn header(algorithm: &str) -> Value {
    json!({"typ": "JWT", "alg": algorithm, "kid": KEY_ID})
}

fn signed(sign: &Sign, header: &Value, payload: &Value) -> String {
    let message = unsigned(header, payload);
    format!("{message}.{}", BASE64.encode(sign(message.as_bytes())))
}

const SOME_ID: &str = "01900000-0000-7000-8000-000000000001";

fn unsigned(header: &Value, payload: &Value) -> String {
    format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(payload.to_string()))
}

#[test]
fn a_good_token_is_taken() {
    for fixture in fixtures() {
        // The other tests change one thing in this token.
        let claims = fixture.verifier.verify(&fixture.good()).unwrap();
        let sid = if fixture.issuer == Issuer::Own { fixture.claims.sid } else { claims.sid };
        assert_eq!(claims, Claims { sid, ..fixture.claims.clone() }, "{:?}", fixture.issuer);
    }
    let (signer, _) = Signer::generate().unwrap();
    let fixture = fixture(Issuer::Own);
    fixture.verifier.set_keys(&json!({"keys": [signer.jwk()]})).unwrap();
    assert_eq!(fixture.verifier.verify(&signer.issue(&fixture.claims)), Ok(fixture.claims));
}

#[test]
fn no_algorithm_but_the_keys_own_is_taken() {
    let algorithms =
        ["none", "None", "nOnE", "", "HS256", "HS384", "HS512", "RS256", "RS512", "PS256", "ES256", "EdDSA", "eddsa"];
    for fixture in fixtures() {
        let payload = fixture.payload();
        for algorithm in algorithms {
            let message = unsigned(&header(algorithm), &payload);
            assert_eq!(fixture.refusal(&format!("{message}.")), TokenError::Invalid, "{algorithm} without signature");
            if algorithm != fixture.issuer.algorithm() {
                let token = fixture.sign(&header(algorithm), &payload);
                assert_eq!(fixture.refusal(&token), TokenError::Invalid, "{:?}: {algorithm}", fixture.issuer);
            }
        }
    }
}

/// Rightly signed by somebody else's key of every kind, under every name of a key.
#[test]
fn a_signature_of_another_kind_is_refused() {
    let signers: Vec<(String, Sign)> = Issuer::ALL
        .into_iter()
        .map(|issuer| {
            let sign = if issuer == Issuer::Shared { hs256(&[7; 64]) } else { fixture(issuer).sign };
            (issuer.algorithm(), sign)
        })
        .collect();
    for fixture in fixtures() {
        for (algorithm, sign) in &signers {
            let token = signed(sign, &header(algorithm), &fixture.payload());
            assert_eq!(fixture.refusal(&token), TokenError::Invalid, "{:?}: {algorithm}", fixture.issuer);
        }
    }
}

/// The old confusion: the public key is known to all, so nobody may use it as a secret. Source: RFC 8725 2.1.
#[test]
fn a_token_signed_with_the_public_key_as_a_secret_is_refused() {
    for fixture in fixtures().filter(|fixture| fixture.issuer.has_keys()) {
        let member = if fixture.jwk["kty"] == "RSA" { "n" } else { "x" };
        let text = fixture.jwk[member].as_str().unwrap();
        let secrets = [BASE64.decode(text).unwrap(), text.into(), fixture.jwk.to_string().into()];
        for secret in secrets {
            let token = signed(&hs256(&secret), &header("HS256"), &fixture.payload());
            assert_eq!(fixture.refusal(&token), TokenError::Invalid);
        }
    }
}

#[test]
fn another_audience_or_issuer_is_refused() {
    for fixture in fixtures() {
        for claim in ["aud", "iss"] {
            for other in [json!("other"), json!(["other"]), json!([]), json!(""), json!(null), json!({"entrenous": 1})]
            {
                assert_eq!(fixture.verify_claim(claim, &other), Err(TokenError::Invalid), "{claim} {other}");
            }
        }
        let list = json!(["other", "entrenous"]);
        assert_eq!(fixture.verify_claim("iss", &list), Err(TokenError::Invalid));
        // Outside issuers may name several whom a token is for.
        let is_taken = fixture.verify_claim("aud", &list).is_ok();
        assert_eq!(is_taken, fixture.issuer != Issuer::Own, "{:?}", fixture.issuer);
    }
}

#[test]
fn an_expired_token_is_told_from_a_bad_one() {
    for fixture in fixtures() {
        for exp in [now() - LEEWAY_SECONDS, now() - 3_600, 0] {
            assert_eq!(fixture.verify_claim("exp", &json!(exp)), Err(TokenError::Expired), "{exp}");
        }
        let refusal = fixture.verify_with(|payload| {
            payload.insert("exp".into(), json!(0));
            payload.insert("aud".into(), json!("other"));
        });
        assert_eq!(refusal, Err(TokenError::Invalid));
    }
}

#[test]
fn a_token_for_longer_than_a_day_is_refused() {
    for fixture in fixtures() {
        assert!(fixture.verify_claim("exp", &json!(now() + LIFE_SECONDS_MAX - 60)).is_ok());
        for exp in [now() + LIFE_SECONDS_MAX + 60, 9_999_999_999, i64::MAX] {
            assert_eq!(fixture.verify_claim("exp", &json!(exp)), Err(TokenError::Invalid), "{exp}");
        }
    }
}

#[test]
fn a_token_for_later_is_refused() {
    for fixture in fixtures().filter(|fixture| fixture.issuer != Issuer::Own) {
        assert!(fixture.verify_claim("nbf", &json!(now())).is_ok());
        for nbf in [json!(now() + 60), json!(i64::MAX), json!("now"), json!(null), json!(1.5)] {
            assert_eq!(fixture.verify_claim("nbf", &nbf), Err(TokenError::Invalid), "{nbf}");
        }
    }
}

#[test]
fn the_end_is_where_the_clock_says() {
    #[derive(Debug, Default)]
    struct Later(AtomicU64);
    impl Clock for Later {
        fn now(&self) -> Timestamp {
            SystemClock.now() + Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }
    for issuer in Issuer::ALL {
        let clock = Arc::new(Later::default());
        let Fixture { verifier, sign, claims, .. } = fixture(issuer);
        let verifier = verifier.with_clock(Arc::<Later>::clone(&clock));
        let token = signed(&sign, &json!({"alg": issuer.algorithm(), "kid": KEY_ID}), &json!(claims));
        clock.0.store(890, Ordering::Relaxed);
        let read = verifier.verify(&token).unwrap();
        assert_eq!(verifier.verify(&token), Ok(read), "as it was read before");
        clock.0.store(910, Ordering::Relaxed);
        assert_eq!(verifier.verify(&token), Err(TokenError::Expired));
    }
}

#[test]
fn missing_or_confused_claims_are_refused() {
    for fixture in fixtures() {
        for claim in ["sub", "device_id", "username", "role", "iat", "exp", "iss", "aud", "sid"] {
            let without = fixture.verify_with(|payload| drop(payload.remove(claim)));
            let is_optional = fixture.issuer != Issuer::Own && ["username", "role"].contains(&claim);
            assert_eq!(without.is_ok(), is_optional, "{:?} without {claim}", fixture.issuer);
            for confused in [json!({}), json!([]), json!(true), json!(null), json!(1.5)] {
                assert_eq!(fixture.verify_claim(claim, &confused), Err(TokenError::Invalid), "{claim} {confused}");
            }
        }
        for id in ["", "alice", "00000000000070008000000000000001", "auth0|5f7c8ec7c33c6c004bbafe82"] {
            for claim in ["sub", "device_id"] {
                assert_eq!(fixture.verify_claim(claim, &json!(id)), Err(TokenError::Invalid), "{claim} {id}");
            }
        }
        assert_eq!(fixture.verify_claim("sid", &json!("")), Err(TokenError::Invalid));
        assert_eq!(fixture.verify_claim("role", &json!("owner")), Err(TokenError::Invalid));
        let later = 9_999_999_999_u64;
        for exp in [json!(later.to_string()), json!(1e300), json!(1e10), json!(u64::MAX), json!([later]), json!(-1)] {
            assert_eq!(fixture.verify_claim("exp", &exp), Err(TokenError::Invalid), "exp {exp}");
        }
    }
}

#[test]
fn an_outside_token_without_a_name_is_a_users_with_its_id_for_a_name() {
    for fixture in fixtures().filter(|fixture| fixture.issuer != Issuer::Own) {
        let claims = fixture.verify_with(|payload| {
            payload.remove("username");
            payload.remove("role");
        });
        let claims = claims.unwrap();
        assert_eq!(claims.username, fixture.claims.sub.to_string().replace('-', ""));
        assert_eq!(claims.role, UserRole::User);
        let admin = fixture.verify_claim("role", &json!("admin")).unwrap();
        assert_eq!(admin.role, UserRole::Admin);
    }
}

#[test]
fn a_session_of_an_outside_issuer_is_one_login_on_each_device() {
    let fixture = fixture(Issuer::Shared);
    let login = |claim: &str, value: &str| fixture.verify_claim(claim, &json!(value)).unwrap().sid;
    let own = fixture.verifier.verify(&fixture.good()).unwrap().sid;
    assert_eq!(own, login("username", "bob"));
    for (claim, value) in [("sid", "any text"), ("device_id", SOME_ID), ("sub", SOME_ID)] {
        assert_ne!(own, login(claim, value), "{claim}");
    }
    assert_eq!(own.as_uuid().get_version_num(), 8);
}

#[test]
fn only_the_issuers_own_keys_count() {
    for fixture in fixtures().filter(|fixture| fixture.issuer.has_keys()) {
        let algorithm = if let Issuer::Outside(algorithm) = fixture.issuer { algorithm } else { Algorithm::EdDSA };
        let (other_jwk, other) = key_pair(algorithm);
        let mut header = fixture.good_header();
        header["kid"] = json!("other");
        assert_eq!(fixture.refusal(&signed(&other, &header, &fixture.payload())), TokenError::UnknownKey);
        // Another key under our key's id, also when the token brings that key along.
        let mut header = fixture.good_header();
        for _ in 0..2 {
            assert_eq!(fixture.refusal(&signed(&other, &header, &fixture.payload())), TokenError::Invalid);
            header["jwk"] = with_id(other_jwk.clone(), KEY_ID);
        }
        let mut nameless = fixture.good_header();
        nameless.as_object_mut().unwrap().remove("kid");
        assert_eq!(fixture.refusal(&fixture.sign(&nameless, &fixture.payload())), TokenError::Invalid);
    }
}

#[test]
fn only_the_shared_secret_counts() {
    let fixture = fixture(Issuer::Shared);
    for secret in [&b"another secret of at least thirty-two bytes"[..], b"", &SECRET[..32]] {
        let token = signed(&hs256(secret), &fixture.good_header(), &fixture.payload());
        assert_eq!(fixture.refusal(&token), TokenError::Invalid);
    }
    // A secret has no name: tokens may give it one or not.
    assert!(fixture.verifier.verify(&fixture.sign(&json!({"alg": "HS256"}), &fixture.payload())).is_ok());
}

#[test]
fn a_short_secret_is_none() {
    let verifier = |length| Verifier::shared_secret("a".into(), "b".into(), &vec![b'x'; length]);
    assert!(verifier(SECRET_BYTES_MIN - 1).is_err());
    assert!(verifier(SECRET_BYTES_MIN).is_ok());
}

#[test]
fn critical_extensions_are_refused() {
    for fixture in fixtures() {
        let mut header = fixture.good_header();
        header["crit"] = json!(["exp"]);
        assert_eq!(fixture.refusal(&fixture.sign(&header, &fixture.payload())), TokenError::Invalid);
    }
}

#[test]
fn garbage_is_refused() {
    for fixture in fixtures() {
        let good = fixture.good();
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
}

#[test]
fn a_bad_key_set_leaves_the_old_one_in_force() {
    for fixture in fixtures().filter(|fixture| fixture.issuer.has_keys()) {
        let token = fixture.good();
        let changed = |member: &str, value: Value| {
            let mut jwk = fixture.jwk.clone();
            jwk[member] = value;
            jwk
        };
        let secret = json!({"kty": "oct", "kid": KEY_ID, "k": BASE64.encode(SECRET), "alg": "HS256"});
        let bad = [
            json!([]),
            json!([changed(if fixture.jwk["kty"] == "RSA" { "n" } else { "x" }, json!("AAAA"))]),
            json!([changed("use", json!("enc"))]),
            json!([changed("key_ops", json!(["sign"]))]),
            json!([changed("alg", json!("HS256"))]),
            json!([changed("alg", json!("RS512"))]),
            json!([changed("kty", json!("oct"))]),
            json!([changed("kid", json!(7))]),
            json!([secret]),
            json!([null, 1, "x"]),
        ];
        assert_eq!(fixture.verifier.set_keys(&json!([])), Err(KeysError::NotASet));
        for keys in bad {
            assert_eq!(fixture.verifier.set_keys(&json!({"keys": keys})), Err(KeysError::NoUsableKey), "{keys}");
        }
        assert!(fixture.verifier.verify(&token).is_ok());
    }
}

#[test]
fn our_own_issuer_has_keys_of_one_kind_alone() {
    let fixture = fixture(Issuer::Own);
    for algorithm in [Algorithm::ES256, Algorithm::RS256] {
        let jwk = with_id(key_pair(algorithm).0, "other");
        assert_eq!(fixture.verifier.set_keys(&json!({"keys": [jwk]})), Err(KeysError::NoUsableKey));
    }
}

#[test]
fn a_named_algorithm_is_the_only_one_of_its_key() {
    let fixture = fixture(Issuer::Outside(Algorithm::RS256));
    let mut jwk = fixture.jwk.clone();
    jwk["alg"] = json!("PS256");
    fixture.verifier.set_keys(&json!({"keys": [jwk]})).unwrap();
    assert_eq!(fixture.refusal(&fixture.good()), TokenError::Invalid);
}

#[test]
fn new_keys_replace_old_ones_and_others_are_left_out() {
    for fixture in fixtures().filter(|fixture| fixture.issuer.has_keys()) {
        let algorithm = if let Issuer::Outside(algorithm) = fixture.issuer { algorithm } else { Algorithm::EdDSA };
        let (next_jwk, next) = key_pair(algorithm);
        let useless = json!({"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"});
        // Known from here on; that must not outlive its key.
        assert!(fixture.verifier.verify(&fixture.good()).is_ok());
        fixture.verifier.set_keys(&json!({"keys": [useless, with_id(next_jwk, "next")]})).unwrap();
        let mut header = fixture.good_header();
        header["kid"] = json!("next");
        assert!(fixture.verifier.verify(&signed(&next, &header, &fixture.payload())).is_ok());
        assert_eq!(fixture.refusal(&fixture.good()), TokenError::UnknownKey);
        header["kid"] = json!("rsa");
        assert_eq!(fixture.refusal(&signed(&next, &header, &fixture.payload())), TokenError::UnknownKey);
    }
}

#[test]
fn before_the_first_keys_every_token_names_an_unknown_one() {
    for verifier in [
        Verifier::new("entrenous".into(), "entrenous".into()),
        Verifier::outside("entrenous".into(), "entrenous".into()),
    ] {
        assert_eq!(verifier.verify(&fixture(Issuer::Own).good()), Err(TokenError::UnknownKey));
    }
}
