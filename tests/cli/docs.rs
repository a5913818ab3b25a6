//! What the documents show is what is put out.

use podgrant_tests::fake::{Cluster, Role};

use crate::listing::fleet;
use crate::migrating;
use crate::person::{Person, US, role};
use crate::planning::busy;
use crate::restarting::{inside, motley};
use crate::uninstalling::installed;
use crate::verifying::verifier;

/// Whether a document shows these lines, in this order.
fn shown_in(document: &str, said: &str) {
    let path = format!("{}/../{document}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut lines = text.lines();
    for wanted in said.lines().filter(|line| !line.is_empty()) {
        assert!(
            lines.any(|line| line == wanted),
            "{document} does not show, or not there: {wanted}\n\n{said}"
        );
    }
}

#[tokio::test]
async fn the_documents_show_what_is_put_out() {
    let person = busy().await;
    let plan = person.types("plan", "").await.out;
    shown_in("docs/cli.md", &plan);
    shown_in("README.md", &plan);
    shown_in("docs/cli.md", &person.types("apply --yes --role payments-api", "").await.out);

    let person = fleet().await;
    shown_in("docs/cli.md", &person.types("list", "").await.out);
    let command = "list --cluster us-east-1/prod-us --output json";
    shown_in("docs/cli.md", &person.types(command, "").await.out);

    shown_in("docs/cli.md", &person.types("explain payments/api@prod-eu", "").await.out);
    shown_in("docs/cli.md", &person.types("doctor", "").await.out);
    person.aws.add_role(Role::named("broken").tag("podgrant/grant", "payments/web@prod-eu"));
    let explained = person.types("explain broken", "").await.out;
    shown_in("docs/cli.md", &explained);
    shown_in("README.md", &explained);

    shown_in("docs/cli.md", &verifier().await.0.types("verify --cluster prod-eu --yes", "").await.out);
    let person = installed().await;
    shown_in("docs/cli.md", &person.types("uninstall --confirm 'remove 7'", "").await.out);
    let (person, _) = motley().await;
    shown_in("docs/cli.md", &person.types("restart", "").await.out);
    let (person, _) = migrating::motley().await;
    shown_in("docs/cli.md", &person.types("migrate --cluster prod-eu", "").await.out);
    let moving = migrating::moving::Moving::new().await;
    shown_in("docs/cli.md", &moving.migrates("--apply --yes").await.out);
    let (person, _) = inside().await;
    let command = "restart payments/api@prod-eu --apply --yes --wait";
    shown_in("docs/cli.md", &person.types(command, "").await.out);

    let person = Person::new().await;
    person.aws.add_cluster(Cluster::named("prod-us").region(US).tag("env", "prod"));
    person.aws.add_role(role("payments-api", "payments/api@prod-eu"));
    person.granted(&role("payments-api", ""), "payments/api@prod-eu");
    let command = "grant payments-api payments/worker@env=prod --yes";
    shown_in("docs/cli.md", &person.types(command, "").await.out);
}
