//! Waiting for a condition.

use std::{fmt::Display, time::Duration};

/// How long a condition may take to come true: late, because a busy machine is no failure.
const LIMIT: Duration = Duration::from_secs(30);

/// Between two looks.
const POLL: Duration = Duration::from_millis(10);

/// Looks again and again until the condition gives `Ok`, and hands on what it gives.
///
/// # Errors
/// After 30 s, with the last thing that the condition said instead.
pub async fn wait_for<T, E: Display>(
    what: &str,
    mut condition: impl AsyncFnMut() -> Result<T, E>,
) -> anyhow::Result<T> {
    let mut last = String::from("nothing");
    let poll = async {
        loop {
            match condition().await {
                Ok(value) => return value,
                Err(status) => last = status.to_string(),
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let result = tokio::time::timeout(LIMIT, poll).await;
    result.map_err(|_| anyhow::anyhow!("waited {} s for {what}; last status: {last}", LIMIT.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_hands_on_what_comes_at_last() {
        let mut looks = 0;
        let value = wait_for("three looks", async || {
            looks += 1;
            if looks == 3 { Ok("here") } else { Err(looks) }
        });
        assert_eq!(value.await.unwrap(), "here");
    }

    #[tokio::test(start_paused = true)]
    async fn it_gives_up_with_the_last_status() {
        let error = wait_for::<(), _>("a miracle", async || Err("still nothing")).await.unwrap_err();
        assert_eq!(error.to_string(), "waited 30 s for a miracle; last status: still nothing");
    }
}
