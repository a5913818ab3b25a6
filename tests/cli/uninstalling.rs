use podgrant_core::{Mark, TagKeys};
use podgrant_tests::fake::{AGENT, AccessEntry, Addon, Association, Cluster, FakeAws, Fault, Role};

use crate::person::{EU, NOW, Person, Said, US, role};

const CLUSTERS: [(&str, &str); 2] = [(EU, "prod-eu"), (US, "prod-us")];
/// As somebody wrote it, white space and all.
const THEIRS: &str =
    r#"{ "Effect": "Allow",  "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole" }"#;
const OURS: &str = r#"{"Sid":"PodgrantManaged1","Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"],"Condition":{"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments","aws:RequestTag/kubernetes-service-account":["api","worker"]}}}"#;
const LOOKER: &str = "arn:aws:iam::111122223333:role/podgrant/install-agent";
const ADMIN: &str = "arn:aws:iam::111122223333:role/admin";

/// Everything that podgrant makes, and of each kind something that it did not make.
pub async fn installed() -> Person {
    let person = Person::new().await;
    let aws = &person.aws;
    aws.add_cluster(Cluster::named("prod-us").region(US).tag("podgrant/agent-version", "v1.3.8-eksbuild.2"));
    aws.add_addon(US, "prod-us", Addon::agent());
    let trust = format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{THEIRS},\n{OURS}]}}");
    let payments = role("payments-api", "payments/api@_ payments/worker@prod-eu").trust_policy(trust);
    aws.add_role(payments.clone().tag("podgrant/trust", "manage"));
    let idle = role("idle", "idle/app@gone").id("AROAIDLE").created_at(NOW - 90_000);
    aws.add_role(idle.tag("podgrant/orphaned-since", "2026-03-01T10:15:30Z AROAIDLE"));
    granted(aws, "eu-west-1/prod-eu", "payments/api@_");
    granted(aws, "eu-west-1/prod-eu", "payments/worker@prod-eu");
    granted(aws, "us-east-1/prod-us", "payments/api@_");
    let theirs = |account: &str| {
        Association::of("prod-us", "batch", account).region(US).role_arn(role("batch", "").arn())
    };
    aws.add_association(theirs("job"));
    aws.add_association(
        theirs("owned").owner("arn:aws:eks:us-east-1:111122223333:addon/prod-us/vpc-cni/0a1b"),
    );
    let looker = AccessEntry::of(LOOKER).group("podgrant");
    aws.add_access_entry(EU, "prod-eu", AccessEntry { tags: [marked()].into(), ..looker });
    aws.add_access_entry(EU, "prod-eu", AccessEntry::of(ADMIN));
    person
}

fn marked() -> (String, String) {
    ("podgrant/managed".to_owned(), "v1".to_owned())
}

/// Makes an association that podgrant made for payments-api.
fn granted(aws: &FakeAws, cluster: &str, subject: &str) {
    let role = aws.role("payments-api").unwrap();
    let mark = Mark {
        role_arn: role.arn().parse().unwrap(),
        role_id: role.id.parse().unwrap(),
        cluster: cluster.parse().unwrap(),
        subject: subject.parse().unwrap(),
        label: String::new(),
        session_tags_off: false,
        target_role: None,
    };
    let (region, name) = cluster.split_once('/').unwrap();
    let (namespace, account) = subject.split('@').next().unwrap().split_once('/').unwrap();
    let mut made = Association::of(name, namespace, account).region(region).role_arn(role.arn());
    made.tags = mark.to_tags(&TagKeys::default()).into_iter().collect();
    aws.add_association(made);
}

/// Other tags for what stands on prod-us for payments/api, where it stands.
fn retag(aws: &FakeAws, tags: &[(&str, &str)]) {
    let mut association = aws.delete_association(US, "prod-us", "payments", "api").unwrap();
    association.tags.extend(tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    aws.add_association(association);
}

/// What is there, line by line: podgrant's own, and all else.
fn there(aws: &FakeAws) -> (Vec<String>, Vec<String>) {
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for (region, name) in CLUSTERS {
        for association in aws.associations(region, name) {
            let is_ours = association.tags.contains_key("podgrant/managed");
            if is_ours { &mut ours } else { &mut others }.push(format!("{association:?}"));
        }
        if let Some(addon) = aws.addon(region, name, AGENT) {
            let is_ours = addon.tags.contains_key("podgrant/managed");
            if is_ours { &mut ours } else { &mut others }.push(format!("{addon:?}"));
        }
        for entry in [LOOKER, ADMIN].iter().filter_map(|arn| aws.access_entry(region, name, arn)) {
            let is_ours = entry.tags.contains_key("podgrant/managed");
            if is_ours { &mut ours } else { &mut others }.push(format!("{entry:?}"));
        }
        others.push(format!("{:?}", aws.cluster(region, name)));
    }
    for mut role in aws.roles() {
        if role.trust_policy.contains(OURS) {
            ours.push(format!("trust policy of {}", role.name));
            role.trust_policy = role.trust_policy.replace(&format!(",\n{OURS}"), "");
        }
        ours.extend(role.tags.remove("podgrant/orphaned-since"));
        others.push(format!("{role:?}"));
    }
    (ours, others)
}

#[tokio::test]
async fn all_that_podgrant_made_goes_from_the_fleet_and_nothing_else() {
    let person = installed().await.at_a_terminal().variable("NO_COLOR", "1");
    let (ours, others) = there(&person.aws);
    assert_eq!(ours.len(), 7);
    let said = person.story("uninstall", "remove 7\n").await;
    insta::assert_snapshot!(said.replace(['\x1b', '\r'], "^"), @"
    Roles and fleet
      ~ role idle  - orphaned since 2026-03-01T10:15:30Z  (podgrant is uninstalled)
      - role payments-api  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_, payments/worker@_
      = role idle  tags podgrant/grant
      = role payments-api  tags podgrant/grant, podgrant/trust

    eu-west-1/prod-eu: 2 service accounts lose their role
      - agent v1.3.10-eksbuild.2
      - access entry of arn:aws:iam::111122223333:role/podgrant/install-agent
      - payments/api  role payments-api  (podgrant is uninstalled)
      - payments/worker  role payments-api  (podgrant is uninstalled)

    us-east-1/prod-us: 1 service account loses its role
      - payments/api  role payments-api  (podgrant is uninstalled)
      = tags podgrant/agent-version = v1.3.8-eksbuild.2
      = batch/job  association a-000000000000004, made by somebody else
      = batch/owned  association a-000000000000005, of addon/prod-us/vpc-cni/0a1b
      = agent v1.3.10-eksbuild.2, not installed by podgrant

    Uninstall: 3 associations, 1 agent, 1 access entry, 1 trust policy's statements, 1 orphan mark to take away; 6 things stay that podgrant did not make.
    Pods lose their role with the association, at the latest when the credentials end that they have.
    Looked at: eu-west-1, us-east-1. What podgrant made in other regions stays: name them all (--region).
    Trust policies count in every region: in one that is not named, pods with podgrant's associations lose their role.
    Where podgrant's functions run, which is not seen from here, they make all of it again: delete the stacks first, or switch off their schedule and rules (docs/operate.md).

    ~ role idle  - orphaned since 2026-03-01T10:15:30Z  (podgrant is uninstalled) => done
    - eu-west-1/prod-eu  payments/api  role payments-api  (podgrant is uninstalled) => done
    - eu-west-1/prod-eu  payments/worker  role payments-api  (podgrant is uninstalled) => done
    - us-east-1/prod-us  payments/api  role payments-api  (podgrant is uninstalled) => done
    - role payments-api  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_, payments/worker@_ => done
    - eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => done
    - eu-west-1/prod-eu  access entry of arn:aws:iam::111122223333:role/podgrant/install-agent => done

    Applied: 7 done, 0 not yet, 0 dropped, 0 refused, 0 failed, 0 not begun.
    ---- stderr
    ^^[Kasking AWS …^^[Klooking for all that podgrant made …^^[KType remove 7 to take all of it away: ^^[Ktaking away 1 of 7 …^^[Ktaking away 2 of 7 …^^[Ktaking away 3 of 7 …^^[Ktaking away 4 of 7 …^^[Ktaking away 5 of 7 …^^[Ktaking away 6 of 7 …^^[Ktaking away 7 of 7 …^^[K
    ---- exit 0
    ");
    assert_eq!(there(&person.aws), (vec![], others.clone()));
    let trust = person.aws.role("payments-api").unwrap().trust_policy;
    assert_eq!(trust, format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{THEIRS}]}}"));
    let mut writes = person.writes();
    // What follows the associations goes side by side.
    writes[4..].sort();
    insta::assert_snapshot!(writes.join("\n"), @"
    iam UntagRole
    eks DeletePodIdentityAssociation
    eks DeletePodIdentityAssociation
    eks DeletePodIdentityAssociation
    eks DeleteAccessEntry
    eks DeleteAddon
    iam UpdateAssumeRolePolicy
    ");
    person.aws.clear_calls();
    insta::assert_snapshot!(person.story("uninstall", "").await.replace(['\x1b', '\r'], "^"), @"
    Roles and fleet
      = role idle  tags podgrant/grant
      = role payments-api  tags podgrant/grant, podgrant/trust

    us-east-1/prod-us
      = tags podgrant/agent-version = v1.3.8-eksbuild.2
      = batch/job  association a-000000000000004, made by somebody else
      = batch/owned  association a-000000000000005, of addon/prod-us/vpc-cni/0a1b
      = agent v1.3.10-eksbuild.2, not installed by podgrant

    Uninstall: nothing to take away; 6 things stay that podgrant did not make.
    ---- stderr
    ^^[Kasking AWS …^^[Klooking for all that podgrant made …^^[K
    ---- exit 0
    ");
    assert_eq!((person.writes(), there(&person.aws).1), (vec![], others));
}

#[tokio::test]
async fn one_cluster_leaves_podgrants_care_and_roles_stay_as_they_are() {
    let person = installed().await.at_a_terminal().variable("NO_COLOR", "1");
    let said = person.types("uninstall --cluster prod-eu", "prod-eu\n").await;
    insta::assert_snapshot!(said.out, @"
    eu-west-1/prod-eu: 2 service accounts lose their role
      - agent v1.3.10-eksbuild.2
      - access entry of arn:aws:iam::111122223333:role/podgrant/install-agent
      - payments/api  role payments-api  (podgrant is uninstalled)
      - payments/worker  role payments-api  (podgrant is uninstalled)

    Uninstall: 2 associations, 1 agent, 1 access entry to take away; 0 things stay that podgrant did not make.
    Pods lose their role with the association, at the latest when the credentials end that they have.
    Roles stay as they are, with podgrant's statements in their trust policies.
    Where podgrant's functions run they make it again: tag the cluster podgrant/enroll = off first, and keep that tag.

    - eu-west-1/prod-eu  payments/api  role payments-api  (podgrant is uninstalled) => done
    - eu-west-1/prod-eu  payments/worker  role payments-api  (podgrant is uninstalled) => done
    - eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => done
    - eu-west-1/prod-eu  access entry of arn:aws:iam::111122223333:role/podgrant/install-agent => done

    Applied: 4 done, 0 not yet, 0 dropped, 0 refused, 0 failed, 0 not begun.
    ");
    assert_eq!(said.code, 0);
    assert_eq!(person.aws.associations(EU, "prod-eu"), []);
    assert_eq!(person.aws.associations(US, "prod-us").len(), 3);
    assert!(person.writes().iter().all(|call| call.starts_with("eks ")), "{:?}", person.writes());
    assert!(person.aws.role("payments-api").unwrap().trust_policy.contains(OURS));

    person.aws.tag_cluster(US, "prod-us", "podgrant/enroll", "off");
    let said = person.types("uninstall --cluster us-east-1/prod-us", "us-east-1/prod-us\n").await;
    insta::assert_snapshot!(said.out, @"
    us-east-1/prod-us: 1 service account loses its role
      - payments/api  role payments-api  (podgrant is uninstalled)
      = tags podgrant/agent-version = v1.3.8-eksbuild.2, podgrant/enroll = off
      = batch/job  association a-000000000000004, made by somebody else
      = batch/owned  association a-000000000000005, of addon/prod-us/vpc-cni/0a1b
      = agent v1.3.10-eksbuild.2, not installed by podgrant

    Uninstall: 1 association to take away; 4 things stay that podgrant did not make.
    Pods lose their role with the association, at the latest when the credentials end that they have.
    Roles stay as they are, with podgrant's statements in their trust policies.

    - us-east-1/prod-us  payments/api  role payments-api  (podgrant is uninstalled) => done

    Applied: 1 done, 0 not yet, 0 dropped, 0 refused, 0 failed, 0 not begun.
    ");
    assert_eq!(said.code, 0);
}

#[tokio::test]
async fn an_agent_that_others_need_stays() {
    let person = installed().await;
    person.aws.add_addon(US, "prod-us", Addon::agent().tag("podgrant/managed", "v1"));
    let command = "uninstall --cluster prod-us --confirm prod-us";
    insta::assert_snapshot!(person.story(command, "").await, @"
    us-east-1/prod-us: 1 service account loses its role
      - payments/api  role payments-api  (podgrant is uninstalled)
      ! agent kept: podgrant installed it, and associations that stay need it: batch/job (a-000000000000004), batch/owned (a-000000000000005)
      = tags podgrant/agent-version = v1.3.8-eksbuild.2
      = batch/job  association a-000000000000004, made by somebody else
      = batch/owned  association a-000000000000005, of addon/prod-us/vpc-cni/0a1b

    Uninstall: 1 association to take away; 3 things stay that podgrant did not make.
    Pods lose their role with the association, at the latest when the credentials end that they have.
    Roles stay as they are, with podgrant's statements in their trust policies.
    Where podgrant's functions run they make it again: tag the cluster podgrant/enroll = off first, and keep that tag.

    - us-east-1/prod-us  payments/api  role payments-api  (podgrant is uninstalled) => done

    Applied: 1 done, 0 not yet, 0 dropped, 0 refused, 0 failed, 0 not begun.
    ---- exit 3
    ");
    assert!(person.aws.addon(US, "prod-us", AGENT).is_some());
    person.aws.delete_association(US, "prod-us", "batch", "job");
    person.aws.delete_association(US, "prod-us", "batch", "owned");
    insta::assert_snapshot!(person.story(command, "").await, @"
    us-east-1/prod-us
      - agent v1.3.10-eksbuild.2
      = tags podgrant/agent-version = v1.3.8-eksbuild.2

    Uninstall: 1 agent to take away; 1 thing stays that podgrant did not make.
    Roles stay as they are, with podgrant's statements in their trust policies.
    Where podgrant's functions run they make it again: tag the cluster podgrant/enroll = off first, and keep that tag.

    - us-east-1/prod-us  agent v1.3.10-eksbuild.2 => done

    Applied: 1 done, 0 not yet, 0 dropped, 0 refused, 0 failed, 0 not begun.
    ---- exit 0
    ");
}

#[tokio::test]
async fn what_cannot_be_read_stays_and_what_others_have_is_not_touched() {
    for fault in [
        Fault::on("eks", "ListPodIdentityAssociations").region(US).access_denied(),
        Fault::on("eks", "ListPodIdentityAssociations").region(US).throttle(),
        Fault::on("eks", "DescribeAddon").region(US).server_error(),
        Fault::on("eks", "DescribePodIdentityAssociation").region(US).access_denied(),
        Fault::on("eks", "ListClusters").region(US).access_denied(),
        Fault::on("eks", "DescribeCluster").region(US).access_denied(),
        Fault::on("iam", "GetAccountAuthorizationDetails").access_denied(),
    ] {
        let person = installed().await;
        let others = there(&person.aws).1;
        person.aws.fault(fault.clone());
        let said = person.types("uninstall", "").await;
        let typed = said.errors.split('"').nth(1).unwrap_or_else(|| panic!("{said}")).to_owned();
        let said = person.types(&format!("uninstall --confirm '{typed}'"), "").await;
        assert_eq!(said.code, 3, "{fault:?}\n{said}");
        assert_eq!(person.aws.associations(EU, "prod-eu"), [], "{fault:?}\n{said}");
        let is_whole = person.aws.associations(US, "prod-us").len() == 3;
        assert_eq!(is_whole, typed == "remove 4", "{fault:?}\n{said}");
        assert!(person.aws.role("payments-api").unwrap().trust_policy.contains(OURS), "{said}");
        assert!(person.aws.role("idle").unwrap().tags.contains_key("podgrant/orphaned-since"), "{said}");
        assert_eq!(there(&person.aws).1, others, "{fault:?}\n{said}");
        // When all can be read the rest goes.
        person.aws.clear_faults();
        finish(&person).await;
        assert_eq!(there(&person.aws), (vec![], others), "{fault:?}");
    }
}

/// Takes away what is left, as a script would.
async fn finish(person: &Person) {
    let said = person.types("uninstall", "").await;
    if said.code == 0 {
        return;
    }
    assert_eq!(said.code, 64, "{said}");
    let typed = said.errors.split('"').nth(1).unwrap();
    let said = person.types(&format!("uninstall --confirm '{typed}'"), "").await;
    assert_eq!(said.code, 0, "{said}");
}

#[tokio::test]
async fn a_partial_view_says_what_it_leaves() {
    let person = installed().await;
    let denied = Fault::on("eks", "ListPodIdentityAssociations").with("clusterName", "prod-us");
    person.aws.fault(denied.error("AccessDeniedException", 403, "no"));
    insta::assert_snapshot!(person.story("uninstall --confirm 'remove 4'", "").await, @"
    Roles and fleet
      ! withheld: role idle: a partial view deletes nothing: eks:ListPodIdentityAssociations us-east-1/prod-us: AccessDeniedException: no; it is looked at again when the view is whole
      ! withheld: role payments-api: a partial view deletes nothing: eks:ListPodIdentityAssociations us-east-1/prod-us: AccessDeniedException: no; it is looked at again when the view is whole
      = role idle  tags podgrant/grant
      = role payments-api  tags podgrant/grant, podgrant/trust

    eu-west-1/prod-eu: 2 service accounts lose their role
      - agent v1.3.10-eksbuild.2
      - access entry of arn:aws:iam::111122223333:role/podgrant/install-agent
      - payments/api  role payments-api  (podgrant is uninstalled)
      - payments/worker  role payments-api  (podgrant is uninstalled)

    us-east-1/prod-us
      ! not read: eks:ListPodIdentityAssociations us-east-1/prod-us: AccessDeniedException: no
      = tags podgrant/agent-version = v1.3.8-eksbuild.2
      = agent v1.3.10-eksbuild.2, not installed by podgrant

    Uninstall: 2 associations, 1 agent, 1 access entry to take away; 4 things stay that podgrant did not make.
    Pods lose their role with the association, at the latest when the credentials end that they have.
    Looked at: eu-west-1, us-east-1. What podgrant made in other regions stays: name them all (--region).
    Where podgrant's functions run, which is not seen from here, they make all of it again: delete the stacks first, or switch off their schedule and rules (docs/operate.md).

    - eu-west-1/prod-eu  payments/api  role payments-api  (podgrant is uninstalled) => done
    - eu-west-1/prod-eu  payments/worker  role payments-api  (podgrant is uninstalled) => done
    - eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => done
    - eu-west-1/prod-eu  access entry of arn:aws:iam::111122223333:role/podgrant/install-agent => done

    Applied: 4 done, 0 not yet, 0 dropped, 0 refused, 0 failed, 0 not begun.
    ---- exit 3
    ");
}

#[tokio::test]
async fn what_fails_is_said_and_the_next_run_goes_on() {
    let person = installed().await;
    let others = there(&person.aws).1;
    let denied = Fault::on("eks", "DeletePodIdentityAssociation").with("clusterName", "prod-us");
    person.aws.fault(denied.error("AccessDeniedException", 403, "no"));
    insta::assert_snapshot!(person.story("uninstall --confirm 'remove 7'", "").await, @"
    Roles and fleet
      ~ role idle  - orphaned since 2026-03-01T10:15:30Z  (podgrant is uninstalled)
      - role payments-api  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_, payments/worker@_
      = role idle  tags podgrant/grant
      = role payments-api  tags podgrant/grant, podgrant/trust

    eu-west-1/prod-eu: 2 service accounts lose their role
      - agent v1.3.10-eksbuild.2
      - access entry of arn:aws:iam::111122223333:role/podgrant/install-agent
      - payments/api  role payments-api  (podgrant is uninstalled)
      - payments/worker  role payments-api  (podgrant is uninstalled)

    us-east-1/prod-us: 1 service account loses its role
      - payments/api  role payments-api  (podgrant is uninstalled)
      = tags podgrant/agent-version = v1.3.8-eksbuild.2
      = batch/job  association a-000000000000004, made by somebody else
      = batch/owned  association a-000000000000005, of addon/prod-us/vpc-cni/0a1b
      = agent v1.3.10-eksbuild.2, not installed by podgrant

    Uninstall: 3 associations, 1 agent, 1 access entry, 1 trust policy's statements, 1 orphan mark to take away; 6 things stay that podgrant did not make.
    Pods lose their role with the association, at the latest when the credentials end that they have.
    Looked at: eu-west-1, us-east-1. What podgrant made in other regions stays: name them all (--region).
    Trust policies count in every region: in one that is not named, pods with podgrant's associations lose their role.
    Where podgrant's functions run, which is not seen from here, they make all of it again: delete the stacks first, or switch off their schedule and rules (docs/operate.md).

    ~ role idle  - orphaned since 2026-03-01T10:15:30Z  (podgrant is uninstalled) => done
    - eu-west-1/prod-eu  payments/api  role payments-api  (podgrant is uninstalled) => done
    - eu-west-1/prod-eu  payments/worker  role payments-api  (podgrant is uninstalled) => done
    - us-east-1/prod-us  payments/api  role payments-api  (podgrant is uninstalled) => failed: eks:DeletePodIdentityAssociation arn:aws:eks:us-east-1:111122223333:podidentityassociation/prod-us/a-000000000000003: AccessDeniedException: no
    - role payments-api  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_, payments/worker@_ => not yet: not all of the role's associations are gone
    - eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => done
    - eu-west-1/prod-eu  access entry of arn:aws:iam::111122223333:role/podgrant/install-agent => done

    Applied: 5 done, 1 not yet, 0 dropped, 0 refused, 1 failed, 0 not begun.
    Not all of it is gone: run it again, and it goes on with what is left.
    ---- exit 3
    ");
    person.aws.clear_faults();
    insta::assert_snapshot!(person.story("uninstall --confirm 'remove 2'", "").await, @"
    Roles and fleet
      - role payments-api  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_, payments/worker@_
      = role idle  tags podgrant/grant
      = role payments-api  tags podgrant/grant, podgrant/trust

    us-east-1/prod-us: 1 service account loses its role
      - payments/api  role payments-api  (podgrant is uninstalled)
      = tags podgrant/agent-version = v1.3.8-eksbuild.2
      = batch/job  association a-000000000000004, made by somebody else
      = batch/owned  association a-000000000000005, of addon/prod-us/vpc-cni/0a1b
      = agent v1.3.10-eksbuild.2, not installed by podgrant

    Uninstall: 1 association, 1 trust policy's statements to take away; 6 things stay that podgrant did not make.
    Pods lose their role with the association, at the latest when the credentials end that they have.
    Looked at: eu-west-1, us-east-1. What podgrant made in other regions stays: name them all (--region).
    Trust policies count in every region: in one that is not named, pods with podgrant's associations lose their role.
    Where podgrant's functions run, which is not seen from here, they make all of it again: delete the stacks first, or switch off their schedule and rules (docs/operate.md).

    - us-east-1/prod-us  payments/api  role payments-api  (podgrant is uninstalled) => done
    - role payments-api  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_, payments/worker@_ => done

    Applied: 2 done, 0 not yet, 0 dropped, 0 refused, 0 failed, 0 not begun.
    ---- exit 0
    ");
    assert_eq!(there(&person.aws), (vec![], others));

    let person = installed().await;
    person.aws.fault(Fault::on("eks", "DeletePodIdentityAssociation").access_denied());
    let said = person.types("uninstall --cluster prod-us --confirm prod-us", "").await;
    assert_eq!(said.code, 1, "{said}");
}

#[tokio::test]
async fn ctrl_c_ends_it_after_what_is_under_way_and_the_next_run_goes_on() {
    for (patience, done) in (1..=8).zip(0_usize..) {
        let person = installed().await;
        let others = there(&person.aws).1;
        person.patience.set(patience);
        let said = person.types("uninstall --confirm 'remove 7'", "").await;
        let left = there(&person.aws);
        assert_eq!((said.code, left.1), (if patience == 8 { 0 } else { 3 }, others.clone()), "{said}");
        assert_eq!(left.0.len(), 7 - done, "{said}");
        let unbegun = format!("{} not begun.", 7 - done);
        assert!(said.out.contains(&unbegun), "{said}");
        person.patience.set(u32::MAX);
        finish(&person).await;
        assert_eq!(there(&person.aws), (vec![], others));
    }
}

#[tokio::test]
async fn nothing_but_what_was_listed_confirms_it() {
    let person = installed().await.at_a_terminal().variable("NO_COLOR", "1");
    for answer in ["yes\n", "remove 6\n", "remove\n", "\n", ""] {
        let said = person.types("uninstall", answer).await;
        assert_eq!(said.code, 4, "{said}");
        assert!(said.errors.ends_with("Nothing was changed: that is not remove 7.\n"), "{said}");
    }
    let said = person.types("uninstall --cluster prod-eu", "prod-us\n").await;
    assert_eq!(said.code, 4, "{said}");
    let said = person.types("uninstall --confirm 'remove 8'", "").await;
    assert_eq!(said.code, 4, "{said}");
    assert_eq!(person.types("uninstall --yes", "").await.code, 64);
    assert_eq!(person.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn where_nobody_is_to_be_asked_it_lists_and_says_what_a_script_has_to_say() {
    let person = installed().await;
    let said = person.types("uninstall", "remove 7\n").await;
    assert!(said.out.contains("- payments/api  role payments-api"), "{said}");
    insta::assert_snapshot!(said.errors, @r#"
    podgrant: uninstall asks before it takes anything away, and there is nobody to ask
      run it on a terminal, or with --confirm "remove 7"
    "#);
    assert_eq!((said.code, person.writes()), (64, vec![]));
    insta::assert_snapshot!(person.types("uninstall --cluster prod-eu --output json", "").await.out, @r#"
    {
      "version": 1,
      "about": {
        "cluster": "eu-west-1/prod-eu",
        "regions": [
          "eu-west-1",
          "us-east-1"
        ]
      },
      "confirm": "prod-eu",
      "applied": false,
      "losing": {
        "eu-west-1/prod-eu": 2
      },
      "changes": [
        {
          "action": "delete",
          "thing": "agent",
          "cluster": "eu-west-1/prod-eu",
          "text": "- eu-west-1/prod-eu  agent v1.3.10-eksbuild.2"
        },
        {
          "action": "delete",
          "thing": "access-entry",
          "cluster": "eu-west-1/prod-eu",
          "text": "- eu-west-1/prod-eu  access entry of arn:aws:iam::111122223333:role/podgrant/install-agent"
        },
        {
          "action": "delete",
          "thing": "association",
          "cluster": "eu-west-1/prod-eu",
          "namespace": "payments",
          "serviceAccount": "api",
          "role": "arn:aws:iam::111122223333:role/payments-api",
          "grant": "payments/api@_",
          "text": "- eu-west-1/prod-eu  payments/api  role payments-api  (podgrant is uninstalled)"
        },
        {
          "action": "delete",
          "thing": "association",
          "cluster": "eu-west-1/prod-eu",
          "namespace": "payments",
          "serviceAccount": "worker",
          "role": "arn:aws:iam::111122223333:role/payments-api",
          "grant": "payments/worker@prod-eu",
          "text": "- eu-west-1/prod-eu  payments/worker  role payments-api  (podgrant is uninstalled)"
        }
      ],
      "findings": [],
      "waiting": [],
      "unread": [],
      "unchanged": 0,
      "left": []
    }
    "#);
}

#[tokio::test]
async fn a_program_reads_how_each_ended() {
    let person = installed().await;
    let command = "uninstall --cluster us-east-1/prod-us --confirm prod-us --output json";
    insta::assert_snapshot!(person.types(command, "").await.out, @r#"
    {
      "version": 1,
      "about": {
        "cluster": "us-east-1/prod-us",
        "regions": [
          "eu-west-1",
          "us-east-1"
        ]
      },
      "confirm": "prod-us",
      "applied": true,
      "losing": {
        "us-east-1/prod-us": 1
      },
      "changes": [
        {
          "action": "delete",
          "thing": "association",
          "cluster": "us-east-1/prod-us",
          "namespace": "payments",
          "serviceAccount": "api",
          "role": "arn:aws:iam::111122223333:role/payments-api",
          "grant": "payments/api@_",
          "text": "- us-east-1/prod-us  payments/api  role payments-api  (podgrant is uninstalled)",
          "outcome": {
            "verdict": "done"
          }
        }
      ],
      "findings": [],
      "waiting": [],
      "unread": [],
      "unchanged": 0,
      "left": [
        {
          "thing": "cluster-tags",
          "cluster": "us-east-1/prod-us",
          "text": "tags podgrant/agent-version = v1.3.8-eksbuild.2"
        },
        {
          "thing": "association",
          "cluster": "us-east-1/prod-us",
          "namespace": "batch",
          "serviceAccount": "job",
          "text": "batch/job  association a-000000000000004, made by somebody else"
        },
        {
          "thing": "association",
          "cluster": "us-east-1/prod-us",
          "namespace": "batch",
          "serviceAccount": "owned",
          "text": "batch/owned  association a-000000000000005, of addon/prod-us/vpc-cni/0a1b"
        },
        {
          "thing": "agent",
          "cluster": "us-east-1/prod-us",
          "text": "agent v1.3.10-eksbuild.2, not installed by podgrant"
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn what_changed_since_it_was_listed_is_looked_at_once_more() {
    type Meanwhile = fn(&FakeAws);
    let cases: [(&str, Meanwhile); 12] = [
        ("the role was tagged anew", |aws| {
            aws.tag_role("payments-api", "podgrant/grant", "payments/other@_")
        }),
        ("its role was made again, and asked", |aws| {
            aws.delete_role("payments-api");
            let id = aws.add_role(role("payments-api", "payments/api@_"));
            retag(aws, &[("podgrant/role-id", id.as_str())]);
        }),
        ("it was given to another role", |aws| {
            let other = role("other", "").arn();
            retag(
                aws,
                &[
                    ("podgrant/role", other.as_str()),
                    ("podgrant/role-name", "other"),
                    ("podgrant/role-id", "AROAOTHER"),
                ],
            );
        }),
        ("it has another label", |aws| retag(aws, &[("podgrant/label", "batch")])),
        ("its mark was taken off", |aws| retag(aws, &[("podgrant/managed", "")])),
        ("it is gone", |aws| drop(aws.delete_association(US, "prod-us", "payments", "api"))),
        ("another was granted", |aws| granted(aws, "us-east-1/prod-us", "payments/late@_")),
        ("somebody gave another the role", |aws| {
            let payments = role("payments-api", "").arn();
            aws.add_association(
                Association::of("prod-us", "payments", "worker").region(US).role_arn(payments),
            );
        }),
        ("the trust policy changed", |aws| {
            aws.change_role("payments-api", |role| {
                role.trust_policy = format!("{{\"Statement\":[{OURS},{THEIRS}]}}")
            });
        }),
        ("somebody's association needs the agent", |aws| {
            aws.add_association(Association::of("prod-eu", "x", "y").role_arn(role("batch", "").arn()));
        }),
        ("the agent is somebody's now", |aws| aws.add_addon(EU, "prod-eu", Addon::agent())),
        ("the access entry is somebody's now", |aws| {
            aws.delete_access_entry(EU, "prod-eu", LOOKER);
            aws.add_access_entry(EU, "prod-eu", AccessEntry::of(LOOKER));
        }),
    ];
    let mut table = String::new();
    for (name, happens) in cases {
        let person = installed().await;
        // What is taken first, before any association.
        person.aws.fault(Fault::on("iam", "UntagRole").nth(1).meanwhile(happens));
        let said = person.types("uninstall --confirm 'remove 7'", "").await;
        table += &format!("{name}: exit {}\n", said.code);
        let ended = said.out.lines().filter(|line| line.contains(" => ") && !line.ends_with("=> done"));
        ended.for_each(|line| table += &format!("    {line}\n"));
        let left = person.aws.associations(US, "prod-us");
        let left = left.iter().filter(|left| left.tags.contains_key("podgrant/managed"));
        left.for_each(|left| table += &format!("    there: {}/{}\n", left.namespace, left.service_account));
        person.aws.clear_faults();
    }
    let person = installed().await;
    let taken_up = Fault::on("iam", "GetRole").with("RoleName", "idle").nth(1);
    person.aws.fault(taken_up.meanwhile(|aws| aws.untag_role("idle", "podgrant/orphaned-since")));
    let said = person.types("uninstall --confirm 'remove 7'", "").await;
    assert!(said.out.contains("=> dropped: the mark of idle changed since it was looked at"), "{said}");
    insta::assert_snapshot!(table, @"
    the role was tagged anew: exit 0
    its role was made again, and asked: exit 3
        - us-east-1/prod-us  payments/api  role payments-api  (podgrant is uninstalled) => not yet: association a-000000000000003 was given to another role since it was listed
        - role payments-api  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_, payments/worker@_ => not yet: not all of the role's associations are gone
        there: payments/api
    it was given to another role: exit 3
        - us-east-1/prod-us  payments/api  role payments-api  (podgrant is uninstalled) => not yet: association a-000000000000003 was given to another role since it was listed
        - role payments-api  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_, payments/worker@_ => not yet: not all of the role's associations are gone
        there: payments/api
    it has another label: exit 0
    its mark was taken off: exit 3
        - us-east-1/prod-us  payments/api  role payments-api  (podgrant is uninstalled) => dropped: association a-000000000000003 is no longer podgrant's
        - role payments-api  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_, payments/worker@_ => not yet: not all of the role's associations are gone
        there: payments/api
    it is gone: exit 3
        - us-east-1/prod-us  payments/api  role payments-api  (podgrant is uninstalled) => dropped: association a-000000000000003 is gone already
        - role payments-api  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_, payments/worker@_ => not yet: not all of the role's associations are gone
    another was granted: exit 3
        - role payments-api  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_, payments/worker@_ => not yet: association a-000000000000006 of payments/late on us-east-1/prod-us was made since the list
        there: payments/late
    somebody gave another the role: exit 3
        - role payments-api  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_, payments/worker@_ => not yet: association a-000000000000006 of payments/worker on us-east-1/prod-us was made since the list
    the trust policy changed: exit 3
        - role payments-api  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_, payments/worker@_ => not yet: the trust policy of payments-api changed since it was planned for
    somebody's association needs the agent: exit 3
        - role payments-api  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_, payments/worker@_ => not yet: association a-000000000000006 of x/y on eu-west-1/prod-eu was made since the list
        - eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => not yet: looked at once more, x/y (a-000000000000006) needs the agent
    the agent is somebody's now: exit 3
        - eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => dropped: the agent is no longer podgrant's
    the access entry is somebody's now: exit 3
        - eu-west-1/prod-eu  access entry of arn:aws:iam::111122223333:role/podgrant/install-agent => dropped: the access entry is no longer podgrant's
    ");
}

#[tokio::test]
async fn copied_tags_do_not_tell_who_needs_the_statements() {
    let person = installed().await;
    let ours = person.aws.associations(US, "prod-us").into_iter().find(|it| it.namespace == "payments");
    let mut tags = ours.unwrap().tags;
    let other = role("other", "");
    tags.insert("podgrant/role".to_owned(), other.arn());
    tags.insert("podgrant/role-name".to_owned(), other.name);
    let copied = Association::of("prod-us", "payments", "worker").region(US);
    let role_arn = person.aws.role("payments-api").unwrap().arn();
    person.aws.add_association(Association { tags, ..copied.role_arn(role_arn) });
    let said = person.types("uninstall --confirm 'remove 6'", "").await;
    let kept = said.out.lines().find(|line| line.contains("! trust policy"));
    insta::assert_snapshot!(kept.unwrap_or_default().trim(), @"! trust policy: role payments-api: podgrant's statements stay: association a-000000000000006 of payments/worker on us-east-1/prod-us, that podgrant did not make, needs them");
    assert_eq!(said.code, 3, "{said}");
    assert!(person.aws.role("payments-api").unwrap().trust_policy.contains(OURS), "{said}");
    assert_eq!(person.aws.associations(US, "prod-us").len(), 3, "{said}");
}

#[tokio::test]
async fn statements_stay_where_it_is_not_known_who_came() {
    let person = installed().await;
    // The first is for the list that is shown.
    let denied = Fault::on("eks", "ListPodIdentityAssociations").with("clusterName", "prod-us").nth(2);
    person.aws.fault(denied.error("AccessDeniedException", 403, "no"));
    let said = person.types("uninstall --confirm 'remove 7'", "").await;
    let ended = said.out.lines().find(|line| line.contains("trust policy") && line.contains(" => "));
    insta::assert_snapshot!(ended.unwrap(), @"- role payments-api  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_, payments/worker@_ => refused: eks:ListPodIdentityAssociations us-east-1/prod-us: AccessDeniedException: no");
    assert_eq!(said.code, 3, "{said}");
    assert!(person.aws.role("payments-api").unwrap().trust_policy.contains(OURS), "{said}");
    finish(&person).await;
    assert_eq!(there(&person.aws).0, Vec::<String>::new());
}

#[tokio::test]
async fn whichever_call_fails_nothing_of_others_is_touched_and_the_next_run_finishes() {
    let person = installed().await;
    assert_eq!(person.types("uninstall --confirm 'remove 7'", "").await.code, 0);
    let mut counts = std::collections::BTreeMap::new();
    for call in person.aws.calls().iter() {
        *counts.entry((call.service.clone(), call.operation.clone())).or_insert(0_u64) += 1;
    }
    assert!(counts.len() > 10, "{counts:?}");
    for ((service, operation), count) in counts {
        for nth in 1..=count {
            for fault in [
                Fault::on(&service, &operation).nth(nth).access_denied(),
                Fault::on(&service, &operation).nth(nth).lose_response(),
                Fault::on(&service, &operation).from_nth(nth).server_error(),
            ] {
                let person = installed().await;
                let others = there(&person.aws).1;
                person.aws.fault(fault.clone());
                let said = person.types("uninstall --confirm 'remove 7'", "").await;
                assert_eq!(there(&person.aws).1, others, "{fault:?}\n{said}");
                person.aws.clear_faults();
                finish(&person).await;
                assert_eq!(there(&person.aws), (vec![], others), "{fault:?}\n{said}");
            }
        }
    }
}

#[tokio::test]
async fn what_was_adopted_goes_and_is_told() {
    let person = installed().await;
    let adopted = |said: &Said| said.out.lines().find(|line| line.contains("adopted")).map(str::to_owned);
    assert_eq!(adopted(&person.types("uninstall", "").await), None);
    person.aws.tag_role("payments-api", "podgrant/adopt", "on");
    let said = adopted(&person.types("uninstall", "").await);
    insta::assert_snapshot!(said.unwrap_or_default(), @"Associations that podgrant adopted from others go too (podgrant/adopt = on: payments-api): who wants to keep them takes podgrant's tags off them first.");
}

#[tokio::test]
async fn functions_that_are_deployed_are_told() {
    let person = installed().await;
    person.aws.add_role(Role::named("podgrant-InstallAgentRole-1A2B").path("/podgrant/"));
    let said = person.types("uninstall", "").await;
    insta::assert_snapshot!(said.out.lines().filter(|line| line.contains("function")).collect::<Vec<_>>().join("\n"), @"
      = role podgrant-InstallAgentRole-1A2B  of podgrant's own functions: a stack is deployed
    podgrant's functions are deployed, by the roles above, and make all of it again: delete the stacks first, or switch off their schedule and rules (docs/operate.md).
    ");
}

#[tokio::test]
async fn a_role_that_would_have_no_trust_policy_or_has_lost_policies_is_left_to_a_person() {
    let person = Person::new().await;
    person.aws.add_role(Role::named("a").trust_policy(format!("{{\"Statement\":[{OURS}]}}")));
    let begun = Role::named("b").id("AROAB").created_at(NOW - 90_000);
    person.aws.add_role(begun.tag("podgrant/orphaned-since", "2026-03-01T10:15:30Z AROAB begun"));
    insta::assert_snapshot!(person.story("uninstall --confirm 'remove 1'", "").await, @"
    Roles and fleet
      ! trust policy: role a: podgrant's statements stay: no other statement is in it, and IAM takes no policy without any
      ! half-deleted role: role b: its deletion was begun, so policies of it may be missing, and its tag podgrant/orphaned-since stays to say so: give them back, or delete the role, and then take the tag off by hand

    eu-west-1/prod-eu
      - agent v1.3.10-eksbuild.2

    Uninstall: 1 agent to take away; 0 things stay that podgrant did not make.
    Looked at: eu-west-1, us-east-1. What podgrant made in other regions stays: name them all (--region).
    Where podgrant's functions run, which is not seen from here, they make all of it again: delete the stacks first, or switch off their schedule and rules (docs/operate.md).

    - eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => done

    Applied: 1 done, 0 not yet, 0 dropped, 0 refused, 0 failed, 0 not begun.
    ---- exit 3
    ");
    insta::assert_snapshot!(person.story("uninstall", "").await, @"
    Roles and fleet
      ! trust policy: role a: podgrant's statements stay: no other statement is in it, and IAM takes no policy without any
      ! half-deleted role: role b: its deletion was begun, so policies of it may be missing, and its tag podgrant/orphaned-since stays to say so: give them back, or delete the role, and then take the tag off by hand

    Uninstall: nothing to take away; 0 things stay that podgrant did not make.
    ---- exit 3
    ");
}

#[tokio::test]
async fn a_profiles_region_is_not_the_fleet() {
    let person = installed().await.variable("PODGRANT_REGIONS", "");
    insta::assert_snapshot!(person.story("uninstall --confirm 'remove 5'", "").await, @"
    ---- stderr
    podgrant: which regions podgrant looked at is not said
      name all of them, with --region or in PODGRANT_REGIONS

    ---- exit 64
    ");
    assert_eq!(person.writes(), Vec::<String>::new());
    let said = person.types("uninstall --region eu-west-1 --region us-east-1", "").await;
    assert!(said.errors.contains("--confirm \"remove 7\""), "{said}");
    let said = person.types("uninstall --cluster prod-eu --confirm prod-eu", "").await;
    assert_eq!(said.code, 0, "{said}");
}

#[tokio::test]
async fn trouble_is_said_before_anything_is_asked() {
    let person = Person::new().await.without_credentials();
    assert_eq!(person.types("uninstall", "").await.code, 1);
    let person = Person::new().await;
    let help = person.types("uninstall -h", "").await.out;
    assert!(help.contains("--confirm <TEXT>") && help.contains("--cluster <[REGION/]CLUSTER>"), "{help}");
    insta::assert_snapshot!(person.story("uninstall --cluster nowhere", "").await, @"
    ---- stderr
    podgrant: there is no cluster nowhere in eu-west-1, us-east-1
      see whether the name is right, and name its region with --region

    ---- exit 1
    ");
    let person = Person::new().await.variable("PODGRANT_DRY_RUN", "on");
    insta::assert_snapshot!(person.story("uninstall", "").await, @"
    ---- stderr
    podgrant: PODGRANT_DRY_RUN is on, and forbids it
      unset it

    ---- exit 64
    ");
    let person = Person::new().await.cut_off();
    assert_eq!(person.types("uninstall", "").await.code, 1);
}
