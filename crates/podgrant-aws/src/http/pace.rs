//! No more calls than AWS takes. Its limits for EKS and IAM are not published, and are shared with whoever else is in the
//! account: so the pace is found, for each service and region, by what comes back. Nothing waits until AWS has said
//! once that it is too much.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_smithy_async::rt::sleep::AsyncSleep as _;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt;

/// Calls a second after the first no, when nothing is known but that it was too fast.
const FIRST: f64 = 5.0;
/// However often AWS says no, so many calls are tried in a second. With six side by side none waits longer than the
/// time that an attempt has.
const LEAST: f64 = 1.0;
/// Above this a pace is none: waiting would not be noticed.
const MOST: f64 = 100.0;
/// What is left of the pace after a no.
const BACK: f64 = 0.7;
/// Calls a second that are won back in each second without one.
const FORTH: f64 = 0.1;
/// Throttled calls that come back together are one no.
const ONE_NO: Duration = Duration::from_secs(1);

/// A client whose calls keep a pace, for each service and region by itself.
pub fn paced(client: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(Paced { client, paces: Arc::default() })
}

#[derive(Debug)]
struct Paced {
    client: SharedHttpClient,
    paces: Arc<Paces>,
}

/// By service and region, as a request is signed for them.
#[derive(Debug, Default)]
struct Paces(Mutex<BTreeMap<String, Pace>>);

/// How fast calls go to one service of one region.
#[derive(Debug)]
struct Pace {
    per_second: f64,
    /// When the next call may go.
    next: SystemTime,
    /// Until when the pace is known.
    known: SystemTime,
    last_no: SystemTime,
}

impl Paces {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Pace>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a call has to wait, which takes its place.
    fn wait(&self, of: &str, now: SystemTime) -> Duration {
        let mut paces = self.lock();
        let Some(pace) = paces.get_mut(of) else { return Duration::ZERO };
        pace.go_forth(now);
        if pace.per_second >= MOST {
            paces.remove(of);
            return Duration::ZERO;
        }
        let at = pace.next.max(now);
        pace.next = at + Duration::from_secs_f64(1.0 / pace.per_second);
        at.duration_since(now).unwrap_or_default()
    }

    /// AWS said that it is too much.
    fn no(&self, of: &str, now: SystemTime) {
        let mut paces = self.lock();
        let Some(pace) = paces.get_mut(of) else {
            let pace = Pace { per_second: FIRST, next: now + ONE_NO, known: now, last_no: now };
            paces.insert(of.to_owned(), pace);
            return;
        };
        if now.duration_since(pace.last_no).unwrap_or_default() < ONE_NO {
            return;
        }
        pace.go_forth(now);
        pace.per_second = (pace.per_second * BACK).max(LEAST);
        pace.last_no = now;
    }
}

impl Pace {
    fn go_forth(&mut self, now: SystemTime) {
        let passed = now.duration_since(self.known).unwrap_or_default().as_secs_f64();
        self.per_second += passed * FORTH;
        self.known = self.known.max(now);
    }
}

impl HttpClient for Paced {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(PacedConnector {
            connector: self.client.http_connector(settings, components),
            paces: Arc::clone(&self.paces),
            components: components.clone(),
        })
    }
}

#[derive(Debug)]
struct PacedConnector {
    connector: SharedHttpConnector,
    paces: Arc<Paces>,
    components: RuntimeComponents,
}

impl HttpConnector for PacedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (Some(of), Some(time), Some(sleep)) =
            (signed_for(&request), self.components.time_source(), self.components.sleep_impl())
        else {
            return self.connector.call(request);
        };
        let wait = self.paces.wait(&of, time.now());
        let (connector, paces) = (self.connector.clone(), Arc::clone(&self.paces));
        HttpConnectorFuture::new(async move {
            if wait > Duration::ZERO {
                sleep.sleep(wait).await;
            }
            let mut response = connector.call(request).await?;
            if is_a_no(&mut response).await {
                paces.no(&of, time.now());
            }
            Ok(response)
        })
    }
}

/// `region/service` of the credential scope (AWS Signature Version 4).
fn signed_for(request: &HttpRequest) -> Option<String> {
    let scope = request.headers().get("authorization")?.split_once("Credential=")?.1;
    let mut parts = scope.split('/').skip(2);
    let (region, service) = (parts.next()?, parts.next()?);
    Some(format!("{region}/{service}"))
}

/// EKS says it with a status of its own, the others in the body of a 400.
async fn is_a_no(response: &mut HttpResponse) -> bool {
    match response.status().as_u16() {
        429 => true,
        400 => {
            let body = std::mem::replace(response.body_mut(), SdkBody::taken());
            match body.collect().await {
                Ok(whole) => {
                    let whole = whole.to_bytes();
                    let said = String::from_utf8_lossy(&whole);
                    let no = ["Throttl", "TooManyRequests", "Rate exceeded"].iter().any(|w| said.contains(w));
                    *response.body_mut() = SdkBody::from(whole);
                    no
                }
                // An error without its body is an error still; which one can't be told.
                Err(_) => {
                    *response.body_mut() = SdkBody::empty();
                    false
                }
            }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: &str = "eu-west-1/eks";

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    /// How many calls go in ten seconds from here, one after the other.
    fn in_ten_seconds(paces: &Paces, from: u64) -> usize {
        let (mut now, mut calls) = (from, 0);
        while now < from + 10_000 {
            let wait = paces.wait(OF, at(now));
            now += u64::try_from(wait.as_millis()).unwrap().max(1);
            calls += 1;
        }
        calls
    }

    #[test]
    fn nothing_waits_before_aws_said_no() {
        let paces = Paces::default();
        assert!((0..1_000).all(|_| paces.wait(OF, at(0)) == Duration::ZERO));
    }

    #[test]
    fn after_a_no_calls_are_spread_and_the_pace_comes_back() {
        let paces = Paces::default();
        paces.no(OF, at(0));
        assert_eq!(paces.wait("us-east-1/eks", at(0)), Duration::ZERO);
        let slow = in_ten_seconds(&paces, 0);
        assert!((45..60).contains(&slow), "{slow}");
        let later = in_ten_seconds(&paces, 100_000);
        assert!(later > 2 * slow, "{later} after {slow}");
        assert!((0..1_000).all(|_| paces.wait(OF, at(2_000_000)) == Duration::ZERO));
    }

    #[test]
    fn noes_that_come_together_are_one_and_calls_never_stop() {
        let (together, apart) = (Paces::default(), Paces::default());
        (0..20).for_each(|_| together.no(OF, at(0)));
        assert!(in_ten_seconds(&together, 0) > 40);
        (0..20).for_each(|second| apart.no(OF, at(second * 1_000)));
        let slowest = in_ten_seconds(&apart, 20_000);
        assert!((10..25).contains(&slowest), "{slowest}");
    }
}
