//! What the pod runs, run by this machine's own shells, with an `aws` of the test's.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use podgrant_core::verify::{Answer, SCRIPT, Telling};

struct Image(PathBuf);

impl Image {
    /// `aws` says this.
    fn with(name: &str, aws: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("podgrant-verify-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let image = Self(folder);
        image.program("aws", aws);
        image.program("sleep", "echo slept >> \"$COUNT\"");
        image
    }

    fn program(&self, name: &str, body: &str) {
        let path = self.0.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs the script as the pod does; what it told, and how often it slept.
    fn tells(&self, shell: &str, variables: &[(&str, &str)]) -> (String, usize) {
        let (told, count) = (self.0.join("told"), self.0.join("count"));
        for file in [&told, &count] {
            std::fs::write(file, "").unwrap();
        }
        let status = Command::new(shell)
            .args(["-c", SCRIPT])
            .env_clear()
            .env("PATH", &self.0)
            .env("PODGRANT_TOLD", &told)
            .env("COUNT", &count)
            .envs(variables.iter().copied())
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        (text(&told), text(&count).lines().count())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const GIVEN: [(&str, &str); 1] =
    [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials")];

/// The shells that there are: sh may be any.
fn shells() -> Vec<&'static str> {
    let shells = ["/bin/sh", "/bin/bash", "/bin/dash"];
    shells.into_iter().filter(|shell| Path::new(shell).exists()).collect()
}

#[test]
fn the_script_tells_what_aws_says() {
    let image = Image::with(
        "good",
        r#"case "$*" in
  "sts get-caller-identity --query Arn --output text"*) echo arn:aws:sts::111122223333:assumed-role/r/s ;;
  "s3api list-buckets --query length(Buckets) --output text"*)
    printf '\nAn error occurred (AccessDenied) when calling the ListBuckets operation: * is\nnot "authorized" $HOME\n' >&2; exit 254 ;;
  *) echo "$*"; exit 2 ;;
esac"#,
    );
    for shell in shells() {
        let (told, slept) = image.tells(shell, &GIVEN);
        let telling = Telling::read(&told).unwrap();
        let expected = Telling {
            uri: Some(GIVEN[0].1.to_owned()),
            irsa: None,
            has_keys: false,
            tries: 1,
            identity: Answer::Said("arn:aws:sts::111122223333:assumed-role/r/s".to_owned()),
            buckets: Answer::Failed(
                "An error occurred (AccessDenied) when calling the ListBuckets operation: * is not \"authorized\" $HOME"
                    .to_owned(),
            ),
        };
        assert_eq!((telling, slept), (expected, 0), "{shell}");
    }
}

#[test]
fn it_asks_again_where_it_has_the_variables_and_fits_the_message() {
    let image = Image::with(
        "bad",
        "i=0; while [ $i -lt 400 ]; do echo \"no credentials $i\"; i=$((i+1)); done; exit 255",
    );
    for shell in shells() {
        let (told, slept) = image.tells(shell, &GIVEN);
        assert!(told.len() < 4096, "{}", told.len());
        let telling = Telling::read(&told).unwrap();
        assert!(
            matches!(&telling.identity, Answer::Failed(why) if why.starts_with("no credentials 0 no credentials 1"))
        );
        assert_eq!((telling.tries, slept), (12, 11), "{shell}");
        let keys =
            [("AWS_ACCESS_KEY_ID", "AKIDOFTHEPOD"), ("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/irsa")];
        let (told, slept) = image.tells(shell, &keys);
        assert!(!told.contains("AKIDOFTHEPOD"), "{told}");
        let telling = Telling::read(&told).unwrap();
        assert!(telling.has_keys && telling.irsa.is_some() && telling.uri.is_none(), "{telling:?}");
        assert_eq!((telling.tries, slept), (1, 0), "{shell}");
    }
}
