mod back;
mod faults;
pub mod moving;

use podgrant_core::explain::evidence::NodeKind;
use podgrant_tests::fake::{Association, Cluster, Fault, Role};
use podgrant_tests::fake_kubernetes::{FakeKubernetes, Trouble};

use crate::person::{EU, NOW, Person, role};

const BEFORE: i64 = NOW - 3600;

/// A statement that lets a service account of prod-eu in by IRSA.
fn irsa(account: &str) -> String {
    let subject = account.replace('/', ":");
    format!(
        r#"{{"Effect":"Allow","Principal":{{"Federated":"arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/PROD-EU"}},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{{"StringEquals":{{"oidc.eks.eu-west-1.amazonaws.com/id/PROD-EU:sub":"system:serviceaccount:{subject}"}}}}}}"#
    )
}

const PODS: &str = r#"{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}"#;

fn trusting(role: Role, statements: &[String]) -> Role {
    role.trust_policy(format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(",")))
}

/// prod-eu with a service account of each kind.
pub async fn motley() -> (Person, FakeKubernetes) {
    let mut person = Person::new().await;
    let cluster = Cluster::named("prod-eu").tag("env", "prod");
    person.aws.add_cluster(cluster.endpoint("https://prod-eu.example", "bm8gY2VydGlmaWNhdGU="));
    let kubernetes = FakeKubernetes::of(&person.aws, "prod-eu");
    let account = |account: &str, role: &str| {
        let arn = if role.contains(':') { role.to_owned() } else { Role::named(role).arn() };
        kubernetes.add_account(account, Some(&arn));
    };
    let deploy = |account: &str, pods: usize| {
        let name = account.split('/').next_back().unwrap();
        kubernetes.deploy("Deployment", account, name, pods, BEFORE);
    };
    let associated = |account: &str, role: &str| {
        let (namespace, name) = account.split_once('/').unwrap();
        let mut made = Association::of("prod-eu", namespace, name).role_arn(Role::named(role).arn());
        (made.created_at, made.modified_at) = (NOW - 1800, NOW - 1800);
        person.aws.add_association(made);
    };

    account("payments/api", "payments");
    person.aws.add_role(trusting(Role::named("payments"), &[irsa("payments/api")]));
    deploy("payments/api", 2);

    account("reports/nightly", "reports");
    let reports = role("reports", "reports/nightly@prod-eu");
    person.aws.add_role(trusting(reports.clone(), &[irsa("reports/nightly"), PODS.to_owned()]));
    deploy("reports/nightly", 1);
    person.granted(&reports, "reports/nightly@prod-eu");

    account("web/front", "web");
    person.aws.add_role(trusting(Role::named("web"), &[PODS.to_owned()]));
    associated("web/front", "web");
    deploy("web/front", 3);

    account("kube-system/aws-load-balancer-controller", "balancer");
    let balancer = trusting(Role::named("balancer"), &[irsa("kube-system/aws-load-balancer-controller")]);
    person.aws.add_role(balancer);
    deploy("kube-system/aws-load-balancer-controller", 2);

    account("shared/app", "arn:aws:iam::999988887777:role/shared");
    deploy("shared/app", 1);

    account("farm/app", "farm");
    person.aws.add_role(trusting(Role::named("farm"), &[irsa("farm/app")]));
    deploy("farm/app", 1);
    kubernetes.run_on("farm/app", NodeKind::Fargate);

    account("old/app", "deleted");
    kubernetes.add_account("plain/app", None);
    person.kubernetes = Some(kubernetes.clone());
    (person, kubernetes)
}

#[tokio::test]
async fn each_service_account_is_told_what_is_next_and_nothing_is_changed() {
    let (person, kubernetes) = motley().await;
    insta::assert_snapshot!(person.story("migrate --cluster prod-eu", "").await, @"
    SERVICE ACCOUNT                           ROLE      PODS  STATE       WHY
    farm/app                                  farm      1     stays       pods of it run on Fargate, where Pod Identity does not work
    kube-system/aws-load-balancer-controller  balancer  2     stays       refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES
    old/app                                   deleted   0     mend first  there is no role arn:aws:iam::111122223333:role/deleted
    payments/api                              payments  2     to move     nothing is in the way
    reports/nightly                           reports   1     under way   its pods are to be made anew
    shared/app                                shared    1     stays       its role is in another account, 999988887777, and EKS takes none of another
    web/front                                 web       3     moved       all its pods have Pod Identity's variables

    farm/app
      → run it on EC2 nodes with Linux, if it is to move

    kube-system/aws-load-balancer-controller
      → IRSA goes on working for it, as it does for add-ons and their controllers; an EKS add-on is moved by itself: aws eks update-addon --pod-identity-associations

    old/app
      → its pods have no credentials by IRSA either: make the role, or take the annotation away

    payments/api
      1.       let podgrant add to the trust policy what it lacks
               aws iam tag-role --role-name payments --tags Key=podgrant/trust,Value=manage
      2.       ask for the place by the role's tag
               podgrant grant payments payments/api@eu-west-1/prod-eu
      3.       mend the trust policy, and make the association after it
               podgrant apply --role payments
      4.       0 of 2 pods have Pod Identity's variables
               podgrant restart payments/api@eu-west-1/prod-eu --apply --wait
      5.       take the annotation out where it is written (chart, manifest), for this cluster alone, or it comes back
               not while External Secrets' serviceAccountRef or the Secrets Store CSI driver reads it, and not with eksctl delete iamserviceaccount, which deletes the role
               kubectl --namespace payments annotate serviceaccount api eks.amazonaws.com/role-arn-
      6.       last, take statement 1 of the trust policy away: it is for this service account alone

    reports/nightly
      1. done  the trust policy lets Pod Identity assume the role
      2. done  the role's tag asks for the place
      3. done  the association stands, and the trust policy allows it
      4.       0 of 1 pods have Pod Identity's variables
               podgrant restart reports/nightly@eu-west-1/prod-eu --apply --wait
      5.       take the annotation out where it is written (chart, manifest), for this cluster alone, or it comes back
               not while External Secrets' serviceAccountRef or the Secrets Store CSI driver reads it, and not with eksctl delete iamserviceaccount, which deletes the role
               kubectl --namespace reports annotate serviceaccount nightly eks.amazonaws.com/role-arn-
      6.       last, take statement 1 of the trust policy away: it is for this service account alone

    shared/app
      → or give it a role of the cluster's account that has podgrant/target-role = that role's ARN and is allowed sts:AssumeRole and sts:TagSession on it, and have that role's trust policy allow it both

    web/front
      1. done  the trust policy lets Pod Identity assume the role
      2. done  somebody else made the association: no tag is needed
      3. done  the association stands, and the trust policy allows it
      4. done  3 of 3 pods have Pod Identity's variables
      5.       take the annotation out where it is written (chart, manifest), for this cluster alone, or it comes back
               not while External Secrets' serviceAccountRef or the Secrets Store CSI driver reads it, and not with eksctl delete iamserviceaccount, which deletes the role
               kubectl --namespace web annotate serviceaccount front eks.amazonaws.com/role-arn-
      6. done  the trust policy has no statement for it by this cluster's OIDC provider

    1 to move, 1 under way, 1 moved, 1 to mend first, 3 that stay, 0 unknown.
    Nothing was changed.
    ---- exit 2
    ");
    insta::assert_snapshot!(person.story("migrate --cluster prod-eu payments/api --output json", "").await, @r#"
    {
      "version": 1,
      "cluster": "eu-west-1/prod-eu",
      "applied": false,
      "accounts": [
        {
          "serviceAccount": "payments/api",
          "role": "arn:aws:iam::111122223333:role/payments",
          "pods": 2,
          "state": "to-move",
          "told": "nothing is in the way",
          "steps": [
            {
              "step": "trust",
              "done": false,
              "told": "let podgrant add to the trust policy what it lacks",
              "command": "aws iam tag-role --role-name payments --tags Key=podgrant/trust,Value=manage"
            },
            {
              "step": "tag",
              "done": false,
              "told": "ask for the place by the role's tag",
              "command": "podgrant grant payments payments/api@eu-west-1/prod-eu"
            },
            {
              "step": "association",
              "done": false,
              "told": "mend the trust policy, and make the association after it",
              "command": "podgrant apply --role payments"
            },
            {
              "step": "restart",
              "done": false,
              "told": "0 of 2 pods have Pod Identity's variables",
              "command": "podgrant restart payments/api@eu-west-1/prod-eu --apply --wait"
            },
            {
              "step": "annotation",
              "done": false,
              "told": "take the annotation out where it is written (chart, manifest), for this cluster alone, or it comes back",
              "caution": "not while External Secrets' serviceAccountRef or the Secrets Store CSI driver reads it, and not with eksctl delete iamserviceaccount, which deletes the role",
              "command": "kubectl --namespace payments annotate serviceaccount api eks.amazonaws.com/role-arn-"
            },
            {
              "step": "statement",
              "done": false,
              "told": "last, take statement 1 of the trust policy away: it is for this service account alone"
            }
          ]
        }
      ]
    }
    ---- stderr
    SERVICE ACCOUNT  ROLE      PODS  STATE    WHY
    payments/api     payments  2     to move  nothing is in the way

    payments/api
      1.       let podgrant add to the trust policy what it lacks
               aws iam tag-role --role-name payments --tags Key=podgrant/trust,Value=manage
      2.       ask for the place by the role's tag
               podgrant grant payments payments/api@eu-west-1/prod-eu
      3.       mend the trust policy, and make the association after it
               podgrant apply --role payments
      4.       0 of 2 pods have Pod Identity's variables
               podgrant restart payments/api@eu-west-1/prod-eu --apply --wait
      5.       take the annotation out where it is written (chart, manifest), for this cluster alone, or it comes back
               not while External Secrets' serviceAccountRef or the Secrets Store CSI driver reads it, and not with eksctl delete iamserviceaccount, which deletes the role
               kubectl --namespace payments annotate serviceaccount api eks.amazonaws.com/role-arn-
      6.       last, take statement 1 of the trust policy away: it is for this service account alone

    1 to move, 0 under way, 0 moved, 0 to mend first, 0 that stay, 0 unknown.
    Nothing was changed.

    ---- exit 2
    "#);
    assert_eq!(kubernetes.writes(), [""; 0]);
    assert_eq!(person.writes(), [""; 0]);
}

#[tokio::test]
async fn what_stays_is_no_finding_for_a_script() {
    let (person, _) = motley().await;
    insta::assert_snapshot!(person.story("migrate --cluster prod-eu shared/app plain/app", "").await, @"
    SERVICE ACCOUNT  ROLE    PODS  STATE  WHY
    shared/app       shared  1     stays  its role is in another account, 999988887777, and EKS takes none of another

    shared/app
      → or give it a role of the cluster's account that has podgrant/target-role = that role's ARN and is allowed sts:AssumeRole and sts:TagSession on it, and have that role's trust policy allow it both

    0 to move, 0 under way, 0 moved, 0 to mend first, 1 that stay, 0 unknown.
    plain/app has no annotation of IRSA, or is not there.
    Nothing was changed.
    ---- exit 0
    ");
}

#[tokio::test]
async fn what_is_refused_of_the_roles_other_grants_is_no_matter() {
    let (person, _) = motley().await;
    person.aws.tag_role("payments", "podgrant/grant/far", "payments/api@ap-south-1/other batch/_@prod-eu");
    let account = account(&person, "payments/api").await;
    assert_eq!(account["state"], "to-move", "{account}");
}

#[tokio::test]
async fn a_role_of_another_account_is_reached_as_was_advised() {
    let (mut person, kubernetes) = motley().await;
    let settling = kubernetes.clone();
    person.meanwhile = Box::new(move |_, passed| settling.settle(NOW + passed));
    let local = role("shared-here", "shared/app@prod-eu")
        .tag("podgrant/target-role", "arn:aws:iam::999988887777:role/shared");
    person.aws.add_role(trusting(local, &[PODS.to_owned()]));
    let said = person.types("apply --role shared-here --yes", "").await;
    assert_eq!(said.code, 0, "{said}");

    let account = account(&person, "shared/app").await;
    assert_eq!(account["state"], "under-way", "{account}");
    let steps = account["steps"].as_array().unwrap();
    let kinds: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["restart", "annotation", "statement"], "{account}");
    let command = steps[0]["command"].as_str().unwrap().strip_prefix("podgrant ").unwrap();
    let said = person.types(&format!("{command} --yes"), "").await;
    assert_eq!(said.code, 0, "{said}");
    let account = self::account(&person, "shared/app").await;
    assert_eq!(account["state"], "moved", "{account}");
}

/// What is said of a service account of prod-eu.
async fn account(person: &Person, account: &str) -> serde_json::Value {
    let said = person.types(&format!("migrate --cluster prod-eu {account} --output json"), "").await;
    let seen: serde_json::Value =
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said}"));
    seen["accounts"][0].clone()
}

/// The steps that it names are those that move an account: each command is typed, and what is next is asked again.
#[tokio::test]
async fn the_commands_that_it_names_lead_to_the_end() {
    let (mut person, kubernetes) = motley().await;
    let settling = kubernetes.clone();
    person.meanwhile = Box::new(move |_, passed| settling.settle(NOW + passed));
    let trusted = |person: &Person| person.aws.role("payments").unwrap().trust_policy.contains("pods.eks");
    // A naive look at whether the pods can have credentials: by IRSA, or by Pod Identity.
    let pods_have_access = |person: &Person| {
        let pods = kubernetes.pods().into_iter().filter(|pod| pod.namespace == "payments");
        let role = person.aws.role("payments");
        let by_oidc =
            role.as_ref().is_some_and(|role| role.trust_policy.contains("AssumeRoleWithWebIdentity"));
        let stands = person.aws.association(EU, "prod-eu", "payments", "api").is_some();
        pods.into_iter().all(|pod| {
            let has = |variable: &str| pod.containers[0].variables.contains_key(variable);
            (has("AWS_WEB_IDENTITY_TOKEN_FILE") && by_oidc)
                || (has("AWS_CONTAINER_CREDENTIALS_FULL_URI") && stands && trusted(person))
        })
    };
    let mut told = String::new();
    for _ in 0..8 {
        assert!(pods_have_access(&person), "{told}");
        let said = person.types("migrate --cluster prod-eu payments/api --output json", "").await;
        let seen: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let account = &seen["accounts"][0];
        let steps = account["steps"].as_array().unwrap();
        let next = steps.iter().find(|step| step["done"] == false).unwrap();
        told.push_str(&format!(
            "{} {}\n",
            account["state"].as_str().unwrap(),
            next["step"].as_str().unwrap()
        ));
        match next["command"].as_str().unwrap() {
            // The person does this with another tool.
            command if command.starts_with("aws iam tag-role") => {
                person.aws.tag_role("payments", "podgrant/trust", "manage");
            }
            command if command.starts_with("kubectl") => break,
            command => {
                let command = command.strip_prefix("podgrant ").unwrap();
                let command = format!("{command}{}", if command.contains("--yes") { "" } else { " --yes" });
                let said = person.types(&command, "").await;
                assert_eq!(said.code, 0, "{command}: {said}");
                // EKS's webhook knows of an association after a while.
                kubernetes.settle(NOW);
            }
        }
    }
    insta::assert_snapshot!(told, @"
    to-move trust
    to-move tag
    to-move association
    under-way restart
    moved annotation
    ");
}

#[tokio::test]
async fn what_can_not_be_seen_is_said() {
    let (person, kubernetes) = motley().await;
    kubernetes.trouble("accounts", None, Trouble::Cut);
    insta::assert_snapshot!(person.story("migrate --cluster prod-eu", "").await, @"
    ---- stderr
    podgrant: the service accounts of eu-west-1/prod-eu can't be seen: the cluster's Kubernetes API could not be reached: cut
      it needs AmazonEKSViewPolicy there, and a way to the cluster's endpoint

    ---- exit 1
    ");
    kubernetes.no_more_trouble();
    kubernetes.trouble("pods", None, Trouble::Cut);
    insta::assert_snapshot!(person.story("migrate --cluster prod-eu payments/api", "").await, @"
    SERVICE ACCOUNT  ROLE      PODS  STATE    WHY
    payments/api     payments  ?     unknown  the cluster's Kubernetes API could not be reached: cut

    0 to move, 0 under way, 0 moved, 0 to mend first, 0 that stay, 1 unknown.
    Nothing was changed.
    ---- exit 3
    ");
    kubernetes.no_more_trouble();
    let mut told = String::new();
    for (service, operation) in [
        ("iam", "GetRole"),
        ("eks", "ListPodIdentityAssociations"),
        ("eks", "DescribePodIdentityAssociation"),
        ("eks", "DescribeAddon"),
    ] {
        person.aws.fault(Fault::on(service, operation).access_denied());
        let said = person.types("migrate --cluster prod-eu payments/api web/front", "").await;
        person.aws.clear_faults();
        told.push_str(&format!("{service}:{operation}: exit {}\n", said.code));
        said.out.lines().filter(|line| line.contains("  payments  ") || line.contains("  web  ")).for_each(
            |line| {
                told.push_str(&format!(
                    "  {}\n",
                    line.split("  ").filter(|cell| !cell.is_empty()).nth(3).unwrap()
                ));
            },
        );
    }
    insta::assert_snapshot!(told, @"
    iam:GetRole: exit 3
       unknown
       unknown
    eks:ListPodIdentityAssociations: exit 3
       unknown
       unknown
    eks:DescribePodIdentityAssociation: exit 3
       to move
       unknown
    eks:DescribeAddon: exit 3
       unknown
       unknown
    ");
    insta::assert_snapshot!(person.story("migrate --cluster nowhere", "").await, @"
    ---- stderr
    podgrant: there is no cluster nowhere in eu-west-1, us-east-1
      see whether the name is right, and name its region with --region

    ---- exit 1
    ");
    insta::assert_snapshot!(person.story("migrate --cluster prod-eu api", "").await, @r#"
    ---- stderr
    error: invalid value 'api' for '[ACCOUNT]...': "api" names no namespace; write namespace/service-account, as in payments/api

    For more information, try '--help'.

    ---- exit 64
    "#);
}
