//! The protocols: EKS's REST-JSON, IAM's query and XML, and the others' JSON 1.0 and 1.1.

use std::fmt::Write;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::calls::Call;
use super::params::{Answer, Params, Refusal};
use super::state::{State, uuid};
use super::{eks, iam, messages, tagging};

/// The services that the fake knows, by the names that requests are signed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Eks,
    Iam,
    Tagging,
    Events,
    Sqs,
}

impl Service {
    fn named(name: &str) -> Option<Self> {
        [Self::Eks, Self::Iam, Self::Tagging, Self::Events, Self::Sqs]
            .into_iter()
            .find(|found| found.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Eks => "eks",
            Self::Iam => "iam",
            Self::Tagging => "tagging",
            Self::Events => "events",
            Self::Sqs => "sqs",
        }
    }

    /// The code for a parameter that can't be.
    fn invalid(self) -> &'static str {
        match self {
            Self::Eks | Self::Tagging => "InvalidParameterException",
            Self::Iam => "ValidationError",
            Self::Events => "ValidationException",
            Self::Sqs => "InvalidParameterValue",
        }
    }

    pub fn throttle(self) -> Refusal {
        let (status, code) = match self {
            Self::Eks => (429, "ThrottlingException"),
            Self::Iam => (400, "Throttling"),
            Self::Tagging => (400, "ThrottledException"),
            Self::Events => (400, "ThrottlingException"),
            Self::Sqs => (400, "RequestThrottled"),
        };
        Refusal::new(status, code, "Rate exceeded")
    }

    pub fn server_error(self) -> Refusal {
        let code = match self {
            Self::Eks => "ServerException",
            Self::Iam => "ServiceFailure",
            Self::Tagging => "InternalServiceException",
            Self::Events => "InternalException",
            Self::Sqs => "InternalFailure",
        };
        Refusal::new(500, code, "The request processing has failed because of an unknown error.")
    }

    pub fn access_denied(self, operation: &str) -> Refusal {
        let (status, code) = match self {
            Self::Eks => (403, "AccessDeniedException"),
            Self::Iam => (403, "AccessDenied"),
            Self::Tagging | Self::Events | Self::Sqs => (400, "AccessDeniedException"),
        };
        let prefix = if self == Self::Tagging { "tag" } else { self.name() };
        let account = super::things::ACCOUNT;
        let user = format!("arn:aws:sts::{account}:assumed-role/podgrant/test");
        Refusal::new(status, code, format!("User: {user} is not authorized to perform: {prefix}:{operation}"))
    }
}

/// The region that IAM's calls are recorded under.
const IAM_REGION: &str = "us-east-1";

/// A request, understood: what to do, and for whom.
#[derive(Debug)]
pub(super) struct Asked {
    pub service: Service,
    pub region: String,
    pub operation: String,
    pub params: Params,
}

impl Asked {
    pub fn call(&self) -> Call {
        Call {
            service: self.service.name().to_owned(),
            operation: self.operation.clone(),
            region: self.region.clone(),
            detail: Value::Object(self.params.map.clone()),
            status: 0,
            error: String::new(),
        }
    }

    /// Does it.
    pub fn run(&self, state: &mut State) -> Answer {
        let (region, operation, params) = (self.region.as_str(), self.operation.as_str(), &self.params);
        match self.service {
            Service::Eks => eks::handle(state, region, operation, params),
            Service::Iam => iam::handle(state, operation, params),
            Service::Tagging => tagging::handle(state, region, operation, params),
            Service::Events => messages::put_events(state, region, operation, params),
            Service::Sqs => messages::sqs(state, region, operation, params),
        }
    }
}

/// `<key>/<date>/<region>/<service>/aws4_request` of `AWS4-HMAC-SHA256 Credential=…, …`. Empty where it is missing;
/// `None` for a request that is not signed.
fn credential(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok())?;
    let credential = header.split("Credential=").nth(1).and_then(|rest| rest.split(',').next());
    Some(credential.unwrap_or_default())
}

/// Who signed a request.
pub(super) fn access_key(parts: &Parts) -> String {
    credential(parts).unwrap_or_default().split('/').next().unwrap_or_default().to_owned()
}

/// Region and service in a request's signature, which is not checked any further.
pub(super) fn scope(parts: &Parts) -> Result<(String, Service), Refusal> {
    let refuse = |message: &str| Refusal::new(403, "MissingAuthenticationToken", message);
    let credential = credential(parts).ok_or_else(|| refuse("The request is not signed"))?;
    match credential.split('/').collect::<Vec<_>>().as_slice() {
        [.., region, service, "aws4_request"] => match Service::named(service) {
            // IAM is global. With a set endpoint, SDKs sign for whatever region they were given.
            Some(Service::Iam) => Ok((IAM_REGION.to_owned(), Service::Iam)),
            Some(service) => Ok(((*region).to_owned(), service)),
            None => Err(Refusal::new(
                400,
                "UnknownService",
                format!("The fake does not know the service {service}"),
            )),
        },
        _ => Err(refuse("The request's signature has no credential scope")),
    }
}

/// Understands a request.
pub(super) fn read(parts: &Parts, body: &Bytes, region: String, service: Service) -> Result<Asked, Refusal> {
    let (operation, map) = match service {
        Service::Eks => read_rest(parts, body)?,
        Service::Iam => read_query(body)?,
        Service::Tagging | Service::Events | Service::Sqs => {
            let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
            let operation = target.and_then(|target| target.rsplit('.').next()).unwrap_or_default();
            if operation.is_empty() {
                return Err(Refusal::new(400, "UnknownOperationException", "X-Amz-Target is missing"));
            }
            (operation.to_owned(), read_json(body)?)
        }
    };
    Ok(Asked { service, region, operation, params: Params::new(map, service.invalid()) })
}

fn malformed(message: impl Into<String>) -> Refusal {
    Refusal::new(400, "SerializationException", message)
}

fn read_json(body: &Bytes) -> Result<Map<String, Value>, Refusal> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body).map_err(|error| malformed(format!("The body is not a JSON object: {error}")))
}

fn read_rest(parts: &Parts, body: &Bytes) -> Result<(String, Map<String, Value>), Refusal> {
    let segments = parts.uri.path().trim_start_matches('/').split('/');
    let path: Result<Vec<String>, _> = segments
        .map(|part| percent_decode_str(part).decode_utf8().map(std::borrow::Cow::into_owned))
        .collect();
    let path = path.map_err(|_| malformed("The path is not UTF-8"))?;
    let (operation, in_path) = eks::route(parts.method.as_str(), &path).ok_or_else(|| {
        let message = format!("{} {} is no operation that the fake knows", parts.method, parts.uri.path());
        Refusal::new(404, "UnknownOperationException", message)
    })?;
    let mut map = read_json(body)?;
    for (name, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
        let value = match value.parse::<u64>() {
            Ok(number) if name == "maxResults" => number.into(),
            _ => Value::String(value.into_owned()),
        };
        if eks::QUERY_LISTS.contains(&name.as_ref()) {
            let list = map.entry(name.into_owned()).or_insert_with(|| json!([]));
            list.as_array_mut().ok_or_else(|| malformed("A list came twice"))?.push(value);
        } else {
            map.insert(name.into_owned(), value);
        }
    }
    map.extend(in_path);
    Ok((operation.to_owned(), map))
}

fn read_query(body: &Bytes) -> Result<(String, Map<String, Value>), Refusal> {
    let mut root = Map::new();
    for (name, value) in form_urlencoded::parse(body) {
        let parts: Vec<&str> = name.split('.').collect();
        let Some((last, folders)) = parts.split_last().filter(|_| parts.len() <= 8) else {
            return Err(malformed("A parameter's name is too deep"));
        };
        let mut here = &mut root;
        for folder in folders {
            let next = here.entry(*folder).or_insert_with(|| json!({}));
            here = next
                .as_object_mut()
                .ok_or_else(|| malformed(format!("{name} is both a value and a structure")))?;
        }
        here.insert((*last).to_owned(), value.into_owned().into());
    }
    root.remove("Version");
    let action = root.remove("Action");
    let action = action.as_ref().and_then(Value::as_str).filter(|action| !action.is_empty());
    let action = action.ok_or_else(|| Refusal::new(400, "MissingAction", "Action is missing"))?.to_owned();
    let mut map: Map<String, Value> =
        root.into_iter().map(|(name, value)| (name, with_lists(value))).collect();
    for name in iam::LISTS {
        // An empty list comes as an empty text.
        if map.get(name).is_some_and(|value| value == "") {
            map.insert(name.to_owned(), json!([]));
        }
    }
    Ok((action, map))
}

/// Makes lists of `{"member": {"1": …, "2": …}}`.
fn with_lists(value: Value) -> Value {
    let Value::Object(mut map) = value else { return value };
    if map.len() == 1
        && let Some(Value::Object(members)) = map.get_mut("member").map(Value::take)
    {
        let mut members: Vec<(u32, Value)> =
            members.into_iter().map(|(number, value)| (number.parse().unwrap_or(u32::MAX), value)).collect();
        members.sort_by_key(|(number, _)| *number);
        return members.into_iter().map(|(_, value)| with_lists(value)).collect();
    }
    map.into_iter().map(|(name, value)| (name, with_lists(value))).collect::<Map<_, _>>().into()
}

/// An answer as the service sends it.
pub(super) fn write(
    service: Service,
    operation: &str,
    answer: &Answer,
    request: u64,
) -> Response<Full<Bytes>> {
    let id = uuid(request);
    let (status, code, body) = match (service, answer) {
        (Service::Iam, Ok(result)) => (200, None, xml_result(operation, result, &id)),
        (Service::Iam, Err(refusal)) => (refusal.status, None, xml_error(refusal, &id)),
        (_, Ok(value)) => (200, None, value.to_string()),
        (_, Err(refusal)) => (refusal.status, Some(refusal.code.as_str()), json_error(refusal)),
    };
    let content_type = match service {
        Service::Eks => "application/json",
        Service::Iam => "text/xml",
        Service::Tagging | Service::Events => "application/x-amz-json-1.1",
        Service::Sqs => "application/x-amz-json-1.0",
    };
    let mut response = Response::builder()
        .status(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .header(CONTENT_TYPE, content_type)
        .header("x-amzn-requestid", id);
    if let Some(code) = code {
        response = response.header("x-amzn-errortype", code.rsplit('#').next().unwrap_or_default());
    }
    // Fails only where a test's own error code can't stand in a header.
    response.body(Full::from(body)).unwrap_or_else(|error| {
        let mut response = Response::new(Full::from(error.to_string()));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

fn json_error(refusal: &Refusal) -> String {
    let mut body = json!({ "__type": refusal.code, "message": refusal.message });
    for (member, value) in &refusal.members {
        body[*member] = value.as_str().into();
    }
    body.to_string()
}

const NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";

fn xml_result(operation: &str, result: &Value, id: &str) -> String {
    let mut xml = format!("<{operation}Response xmlns=\"{NAMESPACE}\">");
    if !result.is_null() {
        put_element(&mut xml, &format!("{operation}Result"), result);
    }
    put_element(&mut xml, "ResponseMetadata", &json!({ "RequestId": id }));
    xml + &format!("</{operation}Response>")
}

fn xml_error(refusal: &Refusal, id: &str) -> String {
    let kind = if refusal.status < 500 { "Sender" } else { "Receiver" };
    let mut xml = format!("<ErrorResponse xmlns=\"{NAMESPACE}\">");
    put_element(&mut xml, "Error", &json!({"Type": kind, "Code": refusal.code, "Message": refusal.message}));
    put_element(&mut xml, "RequestId", &json!(id));
    xml + "</ErrorResponse>"
}

fn put_element(xml: &mut String, name: &str, value: &Value) {
    // Writing to a String does not fail.
    let _ = write!(xml, "<{name}>");
    match value {
        Value::Null => {}
        Value::Object(members) => members.iter().for_each(|(name, value)| put_element(xml, name, value)),
        Value::Array(items) => items.iter().for_each(|item| put_element(xml, "member", item)),
        Value::String(text) => put_text(xml, text),
        Value::Bool(_) | Value::Number(_) => xml.push_str(&value.to_string()),
    }
    let _ = write!(xml, "</{name}>");
}

fn put_text(xml: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            // XML readers make a line feed of a bare carriage return.
            '\r' => xml.push_str("&#13;"),
            // No XML can hold these.
            '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                xml.push('\u{fffd}')
            }
            c => xml.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_become_lists_and_structures() {
        let body = Bytes::from_static(
            b"Action=TagRole&Version=2010-05-08&RoleName=a%2Bb&Tags.member.2.Key=k2&Tags.member.2.Value=\
              &Tags.member.10.Key=k10&Tags.member.10.Value=v&TagKeys=",
        );
        let (action, map) = read_query(&body).unwrap();
        let expected = json!({
            "RoleName": "a+b",
            "Tags": [{"Key": "k2", "Value": ""}, {"Key": "k10", "Value": "v"}],
            "TagKeys": [],
        });
        assert_eq!((action.as_str(), Value::Object(map)), ("TagRole", expected));
    }

    #[test]
    fn nonsense_is_refused_and_not_fatal() {
        let deep = "a.".repeat(100_000);
        for body in ["", "Action", "Action=&x=1", "Action=X&a=1&a.b=2", &format!("Action=X&{deep}=1")] {
            assert!(read_query(&Bytes::from(body.to_owned())).is_err());
        }
        assert!(read_json(&Bytes::from("[".repeat(100_000))).is_err());
    }

    #[test]
    fn xml_is_escaped() {
        let mut xml = String::new();
        put_element(&mut xml, "A", &json!({"B": ["<&>", "é\r\u{1}"], "C": {}}));
        assert_eq!(xml, "<A><B><member>&lt;&amp;&gt;</member><member>é&#13;\u{fffd}</member></B><C></C></A>");
    }
}
