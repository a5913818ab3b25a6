use podgrant_tests::fake::{Cluster, Fault, Role};

use crate::listing::fleet;
use crate::person::{EU, role};

#[tokio::test]
async fn who_can_be_whom_where_for_a_pull_request() {
    let person = fleet().await;
    person.aws.add_role(role("broken", "payments/Api@prod-eu"));
    person.aws.add_cluster(Cluster::named("left-alone").region(EU).tag("podgrant/enroll", "off"));
    insta::assert_snapshot!(person.story("report --as markdown", "").await, @r#"
    # Who can be whom, where

    5 associations, 3 clusters, 3 roles, 2 findings · eu-west-1, us-east-1 · as AWS was at 2026-03-02T10:15:30Z

    ## Findings

    * **bad tag** role broken: tag podgrant/grant: column 10: expected a service account of lower-case letters, digits, - and ., found "Api"
    * **cluster opted out** eu-west-1/left-alone: the cluster carries podgrant/enroll = off

    ## eu-west-1/left-alone

    | namespace | service account | role | whose | |
    | --- | --- | --- | --- | --- |

    ## eu-west-1/prod-eu

    | namespace | service account | role | whose | |
    | --- | --- | --- | --- | --- |
    | again | app | again | podgrant, for again/app@\_ | the role was deleted and made again |
    | kube-system | aws-node | again | addon/prod-eu/vpc-cni/0a1b |  |
    | old | app | deleted | podgrant, for old/app@prod-eu | the role is gone |
    | payments | api | payments-api | podgrant, for payments/api@prod-eu |  |

    ## us-east-1/prod-us

    | namespace | service account | role | whose | |
    | --- | --- | --- | --- | --- |
    | reports | nightly | terraformed | somebody else | the role is gone |

    ## Roles

    | role | asks for | has | |
    | --- | --- | --- | --- |
    | again |  | 2 |  |
    | broken | ! tag podgrant/grant: column 10: expected a service account of lower-case letters, digits, - and ., found "Api" | 0 |  |
    | payments-api | payments/api@prod-eu | 1 |  |
    ---- exit 0
    "#);
}

#[tokio::test]
async fn one_page_that_escapes_what_it_shows_and_fetches_nothing() {
    let person = fleet().await;
    person.aws.add_role(Role::named("odd").tag("podgrant/grant", "<script>alert(1)</script>"));
    let said = person.types("report", "").await;
    assert_eq!(said.code, 0, "{}", said.errors);
    let page = said.out;
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"), "{page}");
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script>alert"), "{page}");
    assert!(!page.contains("http://") && !page.contains("https://"), "it fetches something");
    let payments = "<td class=\"of\">payments</td><td>api</td><td data-is=\"→\" \
                    title=\"arn:aws:iam::111122223333:role/payments-api\">payments-api</td>";
    assert!(page.contains(payments), "{page}");
}

#[tokio::test]
async fn as_json_into_a_file_and_of_what_could_be_read() {
    let person = fleet().await;
    person.aws.fault(
        Fault::on("eks", "ListPodIdentityAssociations").with("clusterName", "prod-us").access_denied(),
    );
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join("report.json");
    let said = person.types(&format!("report --output json --file {}", file.display()), "").await;
    assert_eq!((said.code, said.out.as_str()), (3, ""), "{}", said.errors);
    assert!(said.errors.ends_with("4 associations, 2 clusters, 2 roles, 0 findings\n"), "{}", said.errors);
    let page: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(page["version"], 1);
    assert_eq!(page["clusters"][0]["access"][0]["serviceAccount"], "app");
    let unseen = page["unseen"].as_array().unwrap();
    assert!(unseen[0].as_str().unwrap().contains("eks:ListPodIdentityAssociations"), "{unseen:?}");
    let nowhere = folder.join("none/report.html");
    let said = person.types(&format!("report --file {}", nowhere.display()), "").await;
    assert_eq!(said.code, 1);
    assert!(said.errors.contains("could not be written"), "{}", said.errors);
}
