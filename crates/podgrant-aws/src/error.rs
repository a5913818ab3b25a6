//! One table of what AWS's errors mean.

use std::error::Error;
use std::fmt;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// What an error means for the work at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The thing asked for does not exist.
    NotFound,
    /// The place is taken, or was deleted so recently that EKS still thinks so.
    AlreadyExists,
    /// EKS does not see a new role yet.
    RoleNotVisible,
    /// EKS finds the role's trust policy wanting.
    TrustPolicy,
    /// A quota is used up.
    LimitExceeded,
    /// Too many calls.
    Throttled,
    /// We may not.
    AccessDenied,
    /// There are no credentials to ask with.
    NoCredentials,
    /// AWS does not take the credentials, or not any more.
    BadCredentials,
    /// The endpoint can't be reached, or does not answer in time.
    Unreachable,
    /// The thing is in a state that does not allow it now.
    WrongState,
    /// The request is wrong; trying again would not help.
    Invalid,
    /// Anything else that may go away by itself, such as 5xx.
    Transient,
}

/// An error from AWS: which call, about what, and what it means.
#[derive(Debug, Clone)]
pub struct AwsError {
    pub operation: &'static str,
    pub about: String,
    pub meaning: Meaning,
    pub message: String,
}

impl AwsError {
    /// Whether what was asked was certainly not done. What may answer a second attempt, after a first that was done and not
    /// answered, is no such word.
    pub fn is_a_no(&self) -> bool {
        matches!(
            self.meaning,
            Meaning::AccessDenied
                | Meaning::Invalid
                | Meaning::LimitExceeded
                | Meaning::TrustPolicy
                | Meaning::RoleNotVisible
        )
    }

    pub(crate) fn new(
        operation: &'static str,
        about: impl Into<String>,
        meaning: Meaning,
        message: impl Into<String>,
    ) -> Self {
        Self { operation, about: about.into(), meaning, message: message.into() }
    }

    /// Reads an SDK error.
    pub(crate) fn of<E, R>(operation: &'static str, about: impl Into<String>, error: SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: fmt::Debug,
    {
        let (meaning, message) = match error.as_service_error() {
            Some(service) => {
                let code = service.code().unwrap_or("no code");
                let text = service.message().unwrap_or("no message");
                (meaning_of(code, text), format!("{code}: {text}"))
            }
            None => without_code(&error),
        };
        Self::new(operation, about, meaning, message)
    }

    pub fn is(&self, meaning: Meaning) -> bool {
        self.meaning == meaning
    }
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.operation, self.about, self.message)
    }
}

impl std::error::Error for AwsError {}

/// Time-outs, connections and credentials have no code.
fn without_code<E, R>(error: &SdkError<E, R>) -> (Meaning, String)
where
    E: Error + 'static,
    R: fmt::Debug,
{
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = next {
        if cause.is::<CredentialsError>() {
            return (Meaning::NoCredentials, chain(cause));
        }
        next = cause.source();
    }
    let meaning = match error {
        SdkError::TimeoutError(_) => Meaning::Unreachable,
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => Meaning::Unreachable,
        _ => Meaning::Transient,
    };
    (meaning, chain(error))
}

/// An error with what it comes from, in their own words.
fn chain(error: &dyn Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let said = error.to_string();
        // Some tell their source's words as their own.
        if words.last().is_none_or(|last| !last.ends_with(&said)) {
            words.push(said);
        }
        next = error.source();
    }
    words.join(": ")
}

/// EKS's words for a trust policy that it finds wanting (terraform-provider-aws).
pub(crate) const TRUST_POLICY_INVALID: &str = "Trust policy of the role provided is invalid";

/// Codes and texts as AWS's service models and terraform-provider-aws have them.
fn meaning_of(code: &str, message: &str) -> Meaning {
    match code {
        // EKS says it without the first word where it is about tags.
        "ResourceNotFoundException" | "NotFoundException" | "NoSuchEntity" | "NoSuchEntityException" => {
            Meaning::NotFound
        }
        "ResourceInUseException" | "EntityAlreadyExists" | "EntityAlreadyExistsException" => {
            Meaning::AlreadyExists
        }
        "ResourceLimitExceededException" | "LimitExceeded" | "LimitExceededException" => {
            Meaning::LimitExceeded
        }
        // EKS does not model its throttling; IAM says just `Throttling`.
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded" => Meaning::Throttled,
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => Meaning::AccessDenied,
        // Each protocol has its own words for them (IAM, EKS and Resource Groups Tagging API references, common errors).
        "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "InvalidAccessKeyId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature" => Meaning::BadCredentials,
        "InvalidParameterException" if message.contains("Role provided in the request does not exist") => {
            Meaning::RoleNotVisible
        }
        "InvalidParameterException" if message.contains(TRUST_POLICY_INVALID) => Meaning::TrustPolicy,
        // IAM: policies or instance profiles that came meanwhile.
        "InvalidRequestException" | "DeleteConflict" | "DeleteConflictException" => Meaning::WrongState,
        "ServerException"
        | "ServiceUnavailableException"
        | "ServiceUnavailable"
        | "ServiceFailure"
        | "ServiceFailureException"
        | "InternalFailure"
        | "InternalServiceException"
        | "ConcurrentModification"
        | "RequestTimeout" => Meaning::Transient,
        // IAM: a role that is AWS's own.
        "UnmodifiableEntity" | "UnmodifiableEntityException" => Meaning::Invalid,
        code if code.contains("Invalid") || code.contains("Validation") || code.contains("Malformed") => {
            Meaning::Invalid
        }
        _ => Meaning::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_texts_have_one_meaning() {
        let cases = [
            ("ResourceNotFoundException", "No cluster found for name: x.", Meaning::NotFound),
            ("NotFoundException", "The resource x is not found", Meaning::NotFound),
            ("NoSuchEntity", "The role with name x cannot be found.", Meaning::NotFound),
            ("ResourceInUseException", "Association already exists: a-1", Meaning::AlreadyExists),
            ("EntityAlreadyExists", "Role with name x already exists.", Meaning::AlreadyExists),
            ("ThrottlingException", "Rate exceeded", Meaning::Throttled),
            ("Throttling", "Rate exceeded", Meaning::Throttled),
            (
                "InvalidParameterException",
                "Role provided in the request does not exist.",
                Meaning::RoleNotVisible,
            ),
            (
                "InvalidParameterException",
                "Trust policy of the role provided is invalid.",
                Meaning::TrustPolicy,
            ),
            ("InvalidParameterException", "namespace is too long", Meaning::Invalid),
            ("DeleteConflict", "Cannot delete entity, must detach all policies first.", Meaning::WrongState),
            ("UnmodifiableEntity", "Cannot perform the operation on the protected role", Meaning::Invalid),
            ("ResourceLimitExceededException", "5000", Meaning::LimitExceeded),
            ("AccessDenied", "no", Meaning::AccessDenied),
            (
                "ExpiredToken",
                "The security token included in the request is expired",
                Meaning::BadCredentials,
            ),
            ("SomethingNew", "?", Meaning::Transient),
        ];
        for (code, message, expected) in cases {
            assert_eq!(meaning_of(code, message), expected, "{code}: {message}");
        }
    }
}
