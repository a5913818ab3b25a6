//! What the pod tells through its termination message, and how it is read.

/// What the pod runs. It asks who it is, again where it has the variables and no answer yet (a new role is not known
/// everywhere at once), and whether it may list buckets; of those it tells no names. Nothing but a shell, `aws` and
/// `sleep` is needed. A termination message holds 4,096 bytes (Kubernetes documentation, "Determine the Reason
/// for Pod Failure").
pub const SCRIPT: &str = r#"set -f
tell() { printf '%.800s\n' "$*"; }
ask() { said=$("$@" --output text --cli-connect-timeout 5 --cli-read-timeout 10 2>&1); code=$?; }
tries=1
while :; do
  ask aws sts get-caller-identity --query Arn
  if [ "$code" -eq 0 ] || [ -z "$AWS_CONTAINER_CREDENTIALS_FULL_URI" ] || [ "$tries" -ge 12 ]; then break; fi
  tries=$((tries + 1))
  sleep 5
done
identity="$code $said"
ask aws s3api list-buckets --query 'length(Buckets)'
{
  tell podgrant-verify 1
  tell uri=$AWS_CONTAINER_CREDENTIALS_FULL_URI
  tell irsa=$AWS_ROLE_ARN
  tell keys=${AWS_ACCESS_KEY_ID:+set}
  tell tries=$tries
  tell identity=$identity
  tell buckets=$code $said
  tell end
} > "${PODGRANT_TOLD:-/dev/termination-log}"
"#;

/// The first line of what it tells: what it is, and its version.
const HEADING: &str = "podgrant-verify 1";

/// Its last.
const END: &str = "end";

/// What a pod told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`; none where it was not given.
    pub uri: Option<String>,
    /// `AWS_ROLE_ARN`: IAM roles for service accounts.
    pub irsa: Option<String>,
    /// Whether access keys are in its variables.
    pub has_keys: bool,
    /// How often it asked who it is.
    pub tries: u32,
    /// Its ARN, or why it has none.
    pub identity: Answer,
    /// How many buckets there are, or why it does not know.
    pub buckets: Answer,
}

/// What the AWS CLI answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Said(String),
    /// An error, in its own words.
    Failed(String),
}

/// Why what it told can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    Nothing,
    /// It begins well and lacks its end.
    Truncated,
    /// What was there instead.
    Other(String),
}

impl Telling {
    /// Reads a termination message.
    ///
    /// # Errors
    /// It is empty, cut off, or something else.
    pub fn read(message: &str) -> Result<Self, Unreadable> {
        if message.trim().is_empty() {
            return Err(Unreadable::Nothing);
        }
        let other = || Unreadable::Other(shortened(message));
        let mut lines = message.lines().map(str::trim_end);
        if lines.next() != Some(HEADING) {
            return Err(other());
        }
        let lines: Vec<&str> = lines.collect();
        if lines.last() != Some(&END) {
            return Err(Unreadable::Truncated);
        }
        let value = |key: &str| {
            let found = lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            found.ok_or_else(other)
        };
        let given = |key| Ok(Some(value(key)?.to_owned()).filter(|value| !value.is_empty()));
        Ok(Self {
            uri: given("uri")?,
            irsa: given("irsa")?,
            has_keys: !value("keys")?.is_empty(),
            tries: value("tries")?.parse().map_err(|_| other())?,
            identity: answer(value("identity")?).ok_or_else(other)?,
            buckets: answer(value("buckets")?).ok_or_else(other)?,
        })
    }
}

/// An exit code and what was said.
fn answer(text: &str) -> Option<Answer> {
    let (code, said) = text.split_once(' ').unwrap_or((text, ""));
    let code: u8 = code.parse().ok()?;
    let said = said.trim().to_owned();
    Some(if code == 0 { Answer::Said(said) } else { Answer::Failed(said) })
}

impl Unreadable {
    /// With how the container ended, where that says more.
    pub(super) fn of_exit(self, code: i32, reason: &str, message: &str) -> Self {
        match self {
            // A kubelet that could not start it says why in the message.
            Self::Other(_) | Self::Nothing if code != 0 => {
                let told = shortened(message);
                let told = if told.is_empty() { String::new() } else { format!(": {told}") };
                Self::Other(format!("{reason}, exit code {code}{told}"))
            }
            other => other,
        }
    }
}

/// The beginning of a text that somebody else wrote, in one line.
pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MOST {
        return line;
    }
    line.chars().take(MOST).chain(['…']).collect()
}
