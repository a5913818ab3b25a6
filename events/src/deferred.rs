//! Work that was put off: a fresh message that remembers when it began.

use podgrant_core::outcome::FollowUp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::SOURCE;
use crate::incoming::{Envelope, Malformed, ROLE_NAME, Trigger, Wake, cut, is_role_name};

/// The detail-type of deferred work. It goes straight to the queue, not over the bus.
pub const DEFERRED_WORK: &str = "Deferred Work";

/// A message that brings `follow_up` back, to be read by [`read`](crate::read).
///
/// `began` is when the work was first deferred, in seconds since 1970, and
/// `attempt` how often it has been deferred, this time included. The id follows
/// from what it is made of, so that a redelivered cause defers the same message.
///
/// # Errors
/// None that is known of: where work can't be written as JSON.
pub fn deferred(
    follow_up: &FollowUp,
    reason: &str,
    began: i64,
    attempt: u32,
    cause: &Wake,
) -> serde_json::Result<String> {
    // Once, and not by way of a Value: a part of a sweep has thousands of roles, and a sweep has a hundred parts.
    let work = serde_json::value::to_raw_value(follow_up)?;
    serde_json::to_string(&Message {
        version: "0",
        id: format!("{}.{attempt}.{:016x}", cause.id, fingerprint(work.get())),
        detail_type: DEFERRED_WORK,
        source: SOURCE,
        time: &cause.time,
        resources: [],
        detail: Detail {
            follow_up: &work,
            reason,
            began,
            attempt,
            asked_by: cause.asked_by.as_deref(),
            cause_id: &cause.id,
        },
    })
}

#[derive(Serialize)]
struct Message<'a> {
    version: &'a str,
    id: String,
    #[serde(rename = "detail-type")]
    detail_type: &'a str,
    source: &'a str,
    time: &'a str,
    resources: [&'a str; 0],
    detail: Detail<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Detail<'a> {
    follow_up: &'a RawValue,
    reason: &'a str,
    began: i64,
    attempt: u32,
    asked_by: Option<&'a str>,
    cause_id: &'a str,
}

/// Reads what [`deferred`] wrote.
pub(crate) fn read_deferred(event: &Envelope<'_>) -> Result<Wake, Malformed> {
    let work = event.value("/detail/followUp").unwrap_or(&Value::Null);
    let follow_up = FollowUp::deserialize(work).map_err(|error| {
        event.malformed_because("/detail/followUp", "deferred work", cut(&error.to_string()))
    })?;
    if let FollowUp::Role { name }
    | FollowUp::RoleUnseen { name }
    | FollowUp::RoleStale { name, .. }
    | FollowUp::RoleGone { name } = &follow_up
        && !is_role_name(name)
    {
        return Err(event.malformed("/detail/followUp/name", ROLE_NAME));
    }
    if let FollowUp::Orphans { roles_missed } = &follow_up
        && !roles_missed.iter().all(|name| is_role_name(name))
    {
        return Err(event.malformed("/detail/followUp/roles_missed", ROLE_NAME));
    }
    let number = |place: &str| {
        let value = event.value(place).and_then(Value::as_i64);
        value.ok_or_else(|| event.malformed(place, "a whole number"))
    };
    let attempt = u32::try_from(number("/detail/attempt")?)
        .map_err(|_| event.malformed("/detail/attempt", "how often the work was deferred"))?;
    Ok(Wake {
        id: event.label("/detail/causeId", "the id of the event that the work began with")?,
        time: event.time()?,
        trigger: Trigger::FollowUp(follow_up),
        asked_by: event.person("/detail/askedBy"),
        began: Some(number("/detail/began")?),
        attempt,
    })
}

/// FNV-1a, 64 bits: tells the follow-ups of one cause apart. Not for secrets.
fn fingerprint(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
