//! Refresh tokens: traded, lost, stolen.

use entrenous_protocol::Code;

use crate::fixture::{Fixture, code, next_ended};

#[tokio::test(flavor = "multi_thread")]
async fn each_token_is_traded_for_the_next() {
    let fixture = Fixture::start().await;
    let (_, mut tokens) = fixture.user("alice").await;
    let login = fixture.claims(&tokens).await;
    let mut seen = vec![tokens.refresh_token.clone()];
    for _ in 0..5 {
        fixture.clock.advance(800);
        tokens = fixture.refresh(&tokens.refresh_token).await.unwrap();
        assert!(!seen.contains(&tokens.refresh_token));
        seen.push(tokens.refresh_token.clone());
        let claims = fixture.claims(&tokens).await;
        assert_eq!((claims.sid, claims.sub, claims.device_id), (login.sid, login.sub, login.device_id));
        assert_eq!(claims.exp - claims.iat, 900);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_given_again() {
    let fixture = Fixture::start().await;
    let (_, tokens) = fixture.user("alice").await;
    let next = fixture.refresh(&tokens.refresh_token).await.unwrap();
    for _ in 0..3 {
        fixture.clock.advance(3);
        let again = fixture.refresh(&tokens.refresh_token).await.unwrap();
        assert_eq!(again.refresh_token, next.refresh_token);
        assert_ne!(again.access_token, next.access_token, "fresh");
        fixture.claims(&again).await;
    }
    assert_eq!(code(fixture.refresh(&next.refresh_token).await), Ok(()));
    assert_eq!(fixture.revoked().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_token_whose_successor_was_shown_ends_the_login() {
    let fixture = Fixture::start().await;
    let mut live = fixture.bus.subscribe_live().await.unwrap();
    let (user, first) = fixture.user("alice").await;
    let login_id = fixture.claims(&first).await.sid;
    let second = fixture.refresh(&first.refresh_token).await.unwrap();
    let third = fixture.refresh(&second.refresh_token).await.unwrap();
    // Within the ten seconds all the same.
    assert_eq!(code(fixture.refresh(&first.refresh_token).await), Err(Code::RefreshTokenReused));
    assert_eq!(next_ended(&mut live, user.id).await, [login_id]);
    assert_eq!(fixture.revoked().await, [login_id]);
    // The thief's and the owner's newest token are worth nothing now; old ones answer as before.
    assert_eq!(code(fixture.refresh(&third.refresh_token).await), Err(Code::Unauthenticated));
    assert_eq!(code(fixture.refresh(&second.refresh_token).await), Err(Code::RefreshTokenReused));
    assert_eq!(code(fixture.refresh(&first.refresh_token).await), Err(Code::RefreshTokenReused));
    assert_eq!(fixture.count("SELECT count(*) FROM identity.audit WHERE action = 'refresh_token_reused'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_token_that_comes_late_ends_the_login() {
    let fixture = Fixture::start().await;
    let (_, first) = fixture.user("alice").await;
    let (_, other) = fixture.user("bob").await;
    let second = fixture.refresh(&first.refresh_token).await.unwrap();
    fixture.clock.advance(11);
    assert_eq!(code(fixture.refresh(&first.refresh_token).await), Err(Code::RefreshTokenReused));
    assert_eq!(code(fixture.refresh(&second.refresh_token).await), Err(Code::Unauthenticated));
    assert_eq!(code(fixture.refresh(&other.refresh_token).await), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_with_one_token_get_one_answer() {
    let fixture = Fixture::with(2, &[]).await;
    let (_, mut tokens) = fixture.user("alice").await;
    for _ in 0..5 {
        let refreshes = (0..12).map(|_| fixture.refresh(&tokens.refresh_token));
        let results = futures::future::join_all(refreshes).await;
        let next = results.first().unwrap().as_ref().unwrap().clone();
        for result in results {
            assert_eq!(result.unwrap().refresh_token, next.refresh_token);
        }
        tokens = next;
    }
    assert_eq!(fixture.count("SELECT count(*) FROM identity.refresh_tokens").await, 6);
    assert_eq!(fixture.count("SELECT count(*) FROM identity.refresh_tokens WHERE spent_at IS NULL").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_old_tokens_are_refused() {
    let fixture = Fixture::start().await;
    let (_, tokens) = fixture.user("alice").await;
    for garbage in ["", "x", "\0", &tokens.access_token, &format!("{} ", tokens.refresh_token), &"x".repeat(100_000)] {
        assert_eq!(code(fixture.refresh(garbage).await), Err(Code::Unauthenticated));
    }
    fixture.clock.advance(30 * 24 * 3_600 + 1);
    assert_eq!(code(fixture.refresh(&tokens.refresh_token).await), Err(Code::Unauthenticated));
}
