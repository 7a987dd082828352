//! Which of a host's addresses is taken: the first that answers, as RFC 8305 has it. One that is
//! silent costs a quarter of a second, not the connection.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::timeout;

/// How long an address is tried alone before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);
/// The most addresses of one host that are tried.
const MOST_ADDRESSES: usize = 16;

/// Opens the first of some addresses that answers. They come in the system's order of preference; of
/// the two families one takes turns with the other, so that one without a way out holds up nobody.
///
/// # Errors
///
/// When all of them fail: what went wrong at one that could be reached, if there is such a one.
pub(super) async fn first<T, F>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    open: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut under_way = FuturesUnordered::new();
    let mut failure = None;
    for address in in_turns(addresses) {
        under_way.push(open(address));
        match timeout(HEAD_START, under_way.next()).await {
            Ok(Some(Ok(opened))) => return Ok(opened),
            Ok(Some(Err(error))) => failure = Some(more_telling(failure, error)),
            Ok(None) | Err(_) => (),
        }
    }
    while let Some(outcome) = under_way.next().await {
        match outcome {
            Ok(opened) => return Ok(opened),
            Err(error) => failure = Some(more_telling(failure, error)),
        }
    }
    Err(failure.unwrap_or_else(|| io::Error::new(ErrorKind::NotFound, "the name has no address")))
}

/// Begins with the family of the first.
fn in_turns(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.into_iter().peekable();
    let first_is_v6 = addresses.peek().is_some_and(SocketAddr::is_ipv6);
    let (same, other): (Vec<_>, Vec<_>) =
        addresses.partition(|address| address.is_ipv6() == first_is_v6);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut turns = Vec::new();
    loop {
        let before = turns.len();
        turns.extend(same.next());
        turns.extend(other.next());
        if turns.len() == before || turns.len() >= MOST_ADDRESSES {
            return turns;
        }
    }
}

/// That there is no way to one address says less than what another answered.
fn more_telling(earlier: Option<io::Error>, error: io::Error) -> io::Error {
    match earlier {
        Some(earlier) if !has_no_way(&earlier) => earlier,
        _ => error,
    }
}

fn has_no_way(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(
        kind,
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::AddrNotAvailable
    )
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Mutex};

    use tokio::time::{Instant, sleep};

    use super::*;

    /// What each address does: `silent`, `refuses`, `no way`, or answers after so many ms.
    async fn dial(addresses: &[(&str, &str)]) -> (Result<String, ErrorKind>, Vec<String>, u128) {
        let tried = Mutex::new(Vec::new());
        let began = Instant::now();
        let outcome = first(addresses.iter().map(|(at, _)| at.parse().unwrap()), |address| {
            let at = address.to_string();
            tried.lock().unwrap().push(at.clone());
            let (_, does) = addresses.iter().find(|(known, _)| *known == at).unwrap();
            async move {
                match *does {
                    "silent" => pending().await,
                    "refuses" => Err(ErrorKind::ConnectionRefused.into()),
                    "no way" => Err(ErrorKind::NetworkUnreachable.into()),
                    answers => {
                        sleep(Duration::from_millis(answers.parse().unwrap())).await;
                        Ok(at)
                    }
                }
            }
        });
        let outcome = outcome.await.map_err(|error| error.kind());
        (outcome, tried.into_inner().unwrap(), began.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_first_address_does_not_keep_us_from_the_second() {
        let (reached, tried, ms) = dial(&[("10.0.0.1:1", "silent"), ("10.0.0.2:1", "30")]).await;
        assert_eq!(reached.as_deref(), Ok("10.0.0.2:1"));
        assert_eq!((tried.len(), ms), (2, 280));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_address_is_not_given_up_for_a_slower_one() {
        let (reached, _, ms) = dial(&[("10.0.0.1:1", "900"), ("10.0.0.2:1", "800")]).await;
        assert_eq!((reached.as_deref(), ms), (Ok("10.0.0.1:1"), 900));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_answers_is_the_only_one_that_is_tried() {
        let (_, tried, _) = dial(&[("10.0.0.1:1", "200"), ("10.0.0.2:1", "0")]).await;
        assert_eq!(tried, ["10.0.0.1:1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn families_take_turns_and_a_refusal_has_the_next_tried_at_once() {
        let (reached, tried, ms) = dial(&[
            ("[2001:db8::1]:1", "refuses"),
            ("[2001:db8::2]:1", "refuses"),
            ("10.0.0.1:1", "no way"),
            ("10.0.0.2:1", "1"),
        ])
        .await;
        assert_eq!((reached.as_deref(), ms), (Ok("10.0.0.2:1"), 1));
        assert_eq!(tried, ["[2001:db8::1]:1", "10.0.0.1:1", "[2001:db8::2]:1", "10.0.0.2:1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_the_one_that_could_be_reached_says_why() {
        for order in [["no way", "refuses"], ["refuses", "no way"]] {
            let (failed, ..) = dial(&[("[::1]:1", order[0]), ("10.0.0.1:1", order[1])]).await;
            assert_eq!(failed, Err(ErrorKind::ConnectionRefused));
        }
        assert_eq!(dial(&[]).await.0, Err(ErrorKind::NotFound));
    }
}
