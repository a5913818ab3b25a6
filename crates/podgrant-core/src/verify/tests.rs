use super::*;
use crate::explain::State;

fn run() -> Run {
    Run {
        id: RunId::at(1_772_446_530_123),
        cluster: "eu-west-1/prod-eu".parse().unwrap(),
        namespace: "default".parse().unwrap(),
    }
}

fn role() -> RoleArn {
    format!("arn:aws:iam::111122223333:role/podgrant-verify/{}", run().id.name()).parse().unwrap()
}

const DENIED: &str = "254 An error occurred (AccessDenied) when calling the ListBuckets operation: User: x is not \
                      authorized to perform: s3:ListAllMyBuckets";
const URI: &str = "http://169.254.170.23/v1/credentials";

fn message(uri: &str, irsa: &str, tries: u32, identity: &str, buckets: &str) -> String {
    format!(
        "podgrant-verify 1\nuri={uri}\nirsa={irsa}\nkeys=\ntries={tries}\nidentity={identity}\nbuckets={buckets}\nend\n"
    )
}

fn session(role: &str, session: &str) -> String {
    format!("0 arn:aws:sts::111122223333:assumed-role/{role}/{session}")
}

fn ended(message: &str) -> SeenPod {
    let terminated = Terminated { reason: "Completed".to_owned(), exit_code: 0, message: message.to_owned() };
    SeenPod { phase: "Succeeded".to_owned(), terminated: Some(terminated), ..SeenPod::default() }
}

fn waits(phase: &str, node: Option<&str>, waiting: Option<(&str, &str)>) -> SeenPod {
    SeenPod {
        phase: phase.to_owned(),
        node: node.map(str::to_owned),
        waiting: waiting.map(|(reason, message)| (reason.to_owned(), message.to_owned())),
        ..SeenPod::default()
    }
}

#[test]
fn what_a_pod_tells_proves_one_thing() {
    let mine = session(&run().id.name(), "eks-prod-eu-podgrant-v-1f0c");
    let failed = |text: &str| format!("255 {text}");
    let no_credentials =
        failed("Unable to locate credentials. You can configure credentials by running \"aws login\".");
    let agent_refuses = failed(
        "Error when retrieving credentials from container-role: Error retrieving metadata: Received non 200 response 400 \
         from container metadata: Error fetching credentials: AccessDeniedException",
    );
    let agent_is_silent = failed(
        "Error when retrieving credentials from container-role: Error retrieving metadata: Received error when \
         attempting to retrieve container metadata: Could not connect to the endpoint URL: \
         \"http://169.254.170.23/v1/credentials\"",
    );
    let no_sts = failed("Could not connect to the endpoint URL: \"https://sts.eu-west-1.amazonaws.com/\"");
    let sts_says_no = failed(
        "An error occurred (AccessDenied) when calling the GetCallerIdentity operation: no VPC endpoint policy allows the \
         sts:GetCallerIdentity action",
    );
    let bad_keys = failed(
        "An error occurred (InvalidClientTokenId) when calling the GetCallerIdentity operation: The security token \
         included in the request is invalid.",
    );
    let no_trust = failed(
        "An error occurred (AccessDenied) when calling the AssumeRoleWithWebIdentity operation: Not authorized",
    );
    let no_tls = failed(
        "SSL validation failed for https://sts.eu-west-1.amazonaws.com/ [SSL: CERTIFICATE_VERIFY_FAILED] certificate \
         verify failed: self-signed certificate in certificate chain",
    );
    let no_proxy = failed("Failed to connect to proxy URL: \"http://proxy.example:3128\"");
    let agent_has_no_way = failed(
        "Error when retrieving credentials from container-role: Error retrieving metadata: Received non 200 response 500 \
         from container metadata: SSL validation failed for https://eks-auth.eu-west-1.api.aws/",
    );
    let far = format!("https://{}.example/", "long.".repeat(80));
    let told_late = failed(&format!("Connect timeout on endpoint URL: \"{far}\" ({agent_is_silent})"));
    let no_s3 = failed("Connect timeout on endpoint URL: \"https://s3.eu-west-1.amazonaws.com/\"");
    let keys = message(URI, "", 1, &mine, DENIED).replace("keys=", "keys=set");
    let rows: Vec<(&str, SeenPod, Proof)> = vec![
        ("the right role", ended(&message(URI, "", 1, &mine, DENIED)), Proof::Works),
        ("after some tries", ended(&message(URI, "", 4, &mine, DENIED)), Proof::Works),
        ("listing is allowed", ended(&message(URI, "", 1, &mine, "0 7")), Proof::DoesNotWork),
        ("S3 can't be reached", ended(&message(URI, "", 1, &mine, &no_s3)), Proof::WorksInPart),
        (
            "another error of S3",
            ended(&message(URI, "", 1, &mine, "254 An error occurred (SlowDown)")),
            Proof::WorksInPart,
        ),
        ("STS can't be reached", ended(&message(URI, "", 12, &no_sts, &no_s3)), Proof::Nothing),
        ("STS says no", ended(&message(URI, "", 12, &sts_says_no, DENIED)), Proof::Nothing),
        ("no TLS to STS", ended(&message(URI, "", 12, &no_tls, &no_tls)), Proof::Nothing),
        ("no proxy to STS", ended(&message(URI, "", 12, &no_proxy, &no_proxy)), Proof::Nothing),
        (
            "STS says no to other keys",
            ended(&message(URI, "", 12, &bad_keys, DENIED).replace("keys=", "keys=set")),
            Proof::DoesNotWork,
        ),
        (
            "STS says no to the web identity",
            ended(&message(URI, "arn:aws:iam::111122223333:role/irsa", 12, &no_trust, &no_trust)),
            Proof::DoesNotWork,
        ),
        (
            "the agent has no TLS",
            ended(&message(URI, "", 12, &agent_has_no_way, &agent_has_no_way)),
            Proof::DoesNotWork,
        ),
        (
            "the agent's address comes late",
            ended(&message(URI, "", 12, &told_late, &told_late)),
            Proof::DoesNotWork,
        ),
        (
            "no variables, the node's role",
            ended(&message("", "", 1, &session("nodes", "i-0abc"), "0 7")),
            Proof::DoesNotWork,
        ),
        (
            "no variables, no credentials",
            ended(&message("", "", 1, &no_credentials, &no_credentials)),
            Proof::DoesNotWork,
        ),
        (
            "no variables, another's",
            ended(&message("", "", 1, &session("ci", "x"), DENIED)),
            Proof::DoesNotWork,
        ),
        (
            "IRSA",
            ended(&message(
                URI,
                "arn:aws:iam::111122223333:role/irsa",
                1,
                &session("irsa", "botocore-session-1"),
                DENIED,
            )),
            Proof::DoesNotWork,
        ),
        (
            "another role by the agent",
            ended(&message(URI, "", 1, &session("other", "eks-prod-eu-x"), DENIED)),
            Proof::DoesNotWork,
        ),
        (
            "a role whose name begins the same",
            ended(&message(URI, "", 1, &session(&format!("{}x", run().id.name()), "y"), DENIED)),
            Proof::DoesNotWork,
        ),
        (
            "the role of another account",
            ended(&message(URI, "", 1, &mine.replace("111122223333", "444455556666"), DENIED)),
            Proof::DoesNotWork,
        ),
        ("access keys", ended(&keys), Proof::DoesNotWork),
        (
            "the agent refuses",
            ended(&message(URI, "", 12, &agent_refuses, &agent_refuses)),
            Proof::DoesNotWork,
        ),
        (
            "the agent is silent",
            ended(&message(URI, "", 12, &agent_is_silent, &agent_is_silent)),
            Proof::DoesNotWork,
        ),
        ("nothing", ended(""), Proof::Nothing),
        ("garbage", ended("exec format error"), Proof::Nothing),
        ("truncated", ended(message(URI, "", 1, &mine, DENIED).trim_end_matches("end\n")), Proof::Nothing),
        ("a line too few", ended("podgrant-verify 1\nuri=\nend"), Proof::Nothing),
        ("no exit code", ended(&message(URI, "", 1, "well", DENIED)), Proof::Nothing),
        (
            "no shell",
            {
                let mut pod = ended("exec: \"sh\": executable file not found in $PATH");
                pod.terminated.as_mut().unwrap().exit_code = 127;
                pod.terminated.as_mut().unwrap().reason = "StartError".to_owned();
                pod
            },
            Proof::Nothing,
        ),
        (
            "image can't be pulled",
            waits("Pending", Some("ip-1"), Some(("ImagePullBackOff", "Back-off pulling image"))),
            Proof::Nothing,
        ),
        (
            "image name is none",
            waits("Pending", Some("ip-1"), Some(("InvalidImageName", "couldn't parse"))),
            Proof::Nothing,
        ),
        (
            "unschedulable",
            SeenPod {
                unschedulable: Some("0/2 nodes are available: 2 Insufficient cpu.".to_owned()),
                ..waits("Pending", None, None)
            },
            Proof::Nothing,
        ),
        ("no scheduler", waits("Pending", None, None), Proof::Nothing),
        ("never starts", waits("Pending", Some("ip-1"), Some(("ContainerCreating", ""))), Proof::Nothing),
        ("runs on", waits("Running", Some("ip-1"), None), Proof::Nothing),
        (
            "evicted",
            SeenPod {
                failed: Some(("Evicted".to_owned(), "The node was low on memory.".to_owned())),
                ..waits("Failed", Some("ip-1"), None)
            },
            Proof::Nothing,
        ),
        (
            "its deadline passed",
            SeenPod {
                failed: Some((
                    "DeadlineExceeded".to_owned(),
                    "Pod was active on the node longer than the specified deadline".to_owned(),
                )),
                ..ended("")
            },
            Proof::Nothing,
        ),
        ("on Fargate", SeenPod { on_fargate: true, ..waits("Pending", None, None) }, Proof::Nothing),
        (
            "on Fargate, and told",
            SeenPod { on_fargate: true, ..ended(&message(URI, "", 12, &agent_is_silent, &agent_is_silent)) },
            Proof::Nothing,
        ),
        ("being deleted", SeenPod { is_going: true, ..waits("Pending", Some("ip-1"), None) }, Proof::Nothing),
    ];
    let told = rows.iter().map(|(name, pod, proof)| {
        let end = may_go_on(&stage(Some(pod)), 300, 300).unwrap_err();
        let judged = judge(&run(), &role(), &end);
        assert_eq!(judged.proof, *proof, "{name}: {judged:?}");
        let links = judged.links.iter().map(|link| {
            let remedy = link.remedy.as_ref().map(|remedy| format!("\n    → {remedy}")).unwrap_or_default();
            format!("\n  {} {}: {}{remedy}", link.state, link.kind, link.told)
        });
        format!("{name}: {proof:?}{}", links.collect::<String>())
    });
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_pod_is_waited_for_as_long_as_it_may_come() {
    let limit = 300;
    let pulling = waits("Pending", Some("ip-1"), Some(("ErrImagePull", "toomanyrequests")));
    assert!(may_go_on(&stage(Some(&pulling)), 59, limit).is_ok());
    assert!(may_go_on(&stage(Some(&pulling)), 60, limit).is_err());
    let wrong = waits("Pending", Some("ip-1"), Some(("InvalidImageName", "")));
    assert!(may_go_on(&stage(Some(&wrong)), 0, limit).is_err());
    let waiting = [
        waits("Pending", None, None),
        waits("Pending", Some("ip-1"), None),
        waits("Running", Some("ip-1"), None),
    ];
    for pod in &waiting {
        assert!(may_go_on(&stage(Some(pod)), 299, limit).is_ok(), "{pod:?}");
        assert!(may_go_on(&stage(Some(pod)), 300, limit).is_err(), "{pod:?}");
    }
    // Kubernetes sets the message before the phase.
    assert!(matches!(stage(Some(&ended("garbage"))), Stage::Over(PodEnd::Unreadable(_))));
    assert!(matches!(stage(None), Stage::Over(PodEnd::Lost(_))));
}

#[test]
fn any_message_is_read_without_harm() {
    use proptest::prelude::*;
    let mut runner = proptest::test_runner::TestRunner::default();
    let texts = prop_oneof![
        ".{0,80}",
        "(podgrant-verify 1|uri=.{0,9}|identity=[0-9]{0,4} .{0,9}|tries=.{0,5}|end|\n){0,14}"
    ];
    runner
        .run(&texts, |text| {
            let _ = Telling::read(&text);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_run_tells_its_moment_in_one_spelling() {
    let id = RunId::at(1_772_446_530_123);
    assert_eq!((id.to_string().as_str(), id.began()), ("mm90wfgr", 1_772_446_530));
    for millis in [0, 35, 36, 1_772_446_530_123, 4_102_444_800_000] {
        assert_eq!(RunId::at(millis).to_string().parse(), Ok(RunId::at(millis)));
    }
    for text in
        ["", "MM90WFGR", "+m90wfgr", "-m90wfgr", "0mm90wfgr", "mm90wfg", "mm90wfg!", "zzzzzzzzzzzzzzzzzz"]
    {
        assert_eq!(text.parse::<RunId>(), Err(()), "{text}");
    }
    let of = RunId::of_name;
    assert_eq!(of(&id.name()), Some(id));
    assert_eq!(of(&id.pod_name(3)), Some(id));
    for name in [
        "podgrant-verify-",
        "podgrant-verify-me",
        "podgrant-verify-mm90wfgr-x",
        "podgrant-verify-mm90wfgr-",
        "podgrant-verify-mm90wfgr-1-2",
        "x-podgrant-verify-mm90wfgr",
    ] {
        assert_eq!(of(name), None, "{name}");
    }
}

#[test]
fn only_mark_and_name_together_make_a_thing_ours() {
    let run = run();
    let mark = run.mark();
    insta::assert_snapshot!(mark, @"mm90wfgr eu-west-1/prod-eu default 2026-03-02T10:15:30Z");
    assert_eq!(Run::of_mark(&mark).as_ref(), Some(&run));
    for damaged in [
        "",
        "mm90wfgr",
        "mm90wfgr eu-west-1/prod-eu default",
        "mm90wfgr eu-west-1/prod-eu default 2026-03-02T10:15:31Z",
        &format!("{mark} x"),
        &format!(" {mark}"),
    ] {
        assert_eq!(Run::of_mark(damaged), None, "{damaged}");
    }

    let of_role = |arn: &str, mark| Run::of_role(&arn.parse().unwrap(), mark);
    assert_eq!(Run::of_role(&role(), Some(&mark)).as_ref(), Some(&run));
    assert_eq!(Run::of_role(&role(), None), None);
    assert_eq!(of_role("arn:aws:iam::111122223333:role/podgrant-verify-mm90wfgr", Some(&mark)), None);
    assert_eq!(
        of_role("arn:aws:iam::111122223333:role/podgrant-verify/podgrant-verify-mm90wfgs", Some(&mark)),
        None
    );
    assert_eq!(of_role("arn:aws:iam::111122223333:role/podgrant-verify/payments", Some(&mark)), None);

    let of_association = |cluster: &str, place: (&str, &str), mark: Option<&str>| {
        let workload =
            Workload { namespace: place.0.parse().unwrap(), service_account: place.1.parse().unwrap() };
        Run::of_association(&cluster.parse().unwrap(), &workload, mark)
    };
    let name = run.id.name();
    assert_eq!(of_association("eu-west-1/prod-eu", ("default", &name), Some(&mark)).as_ref(), Some(&run));
    assert_eq!(of_association("eu-west-1/prod-eu", ("default", &name), None), None);
    assert_eq!(of_association("eu-west-1/prod-eu", ("other", &name), Some(&mark)), None);
    assert_eq!(of_association("us-east-1/prod-eu", ("default", &name), Some(&mark)), None);
    assert_eq!(of_association("eu-west-1/prod-eu", ("default", "api"), Some(&mark)), None);

    let of_object = |name: &str, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Run::of_object(&run.cluster, "default", name, &labels)
    };
    let managed = ("app.kubernetes.io/managed-by", "podgrant");
    let ours = ("podgrant/verify", "mm90wfgr");
    assert_eq!(of_object(&name, &[managed, ours]).as_ref(), Some(&run));
    assert_eq!(of_object(&run.id.pod_name(2), &[managed, ours]).as_ref(), Some(&run));
    assert_eq!(Run::of_object(&run.cluster, "default", &name, &run.labels()).as_ref(), Some(&run));
    assert_eq!(of_object(&name, &[ours]), None);
    assert_eq!(of_object(&name, &[managed]), None);
    assert_eq!(of_object(&name, &[managed, ("podgrant/verify", "mm90wfgs")]), None);
    assert_eq!(of_object("api", &[managed, ours]), None);

    assert!(!run.is_settled(1_772_446_530 + SETTLED - 1) && run.is_settled(1_772_446_530 + SETTLED));
    assert!(run.may_begin(1_772_446_530 + ASKED) && !run.may_begin(1_772_446_530 + ASKED + 1));
    // What begins last is over before it looks settled.
    let pause = i64::try_from(PAUSE).unwrap();
    let pods = i64::from(MOST_PODS) * (20 + pause);
    assert!(ASKED + ROLE_LIMIT + pods + 540 < SETTLED);
}

#[test]
fn lists_know_verifys_associations_by_their_names() {
    let place = |account: &str| Workload {
        namespace: "default".parse().unwrap(),
        service_account: account.parse().unwrap(),
    };
    let name = run().id.name();
    assert!(looks_like_verify(&place(&name), role().as_str()));
    assert!(!looks_like_verify(&place(&name), "arn:aws:iam::111122223333:role/payments"));
    assert!(!looks_like_verify(&place("api"), "arn:aws:iam::111122223333:role/podgrant-verify/api"));
}

#[test]
fn its_role_is_for_pods_of_one_cluster_and_may_do_nothing() {
    let arn = "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu";
    assert_eq!(account_of(arn), Some(("aws", "111122223333")));
    assert_eq!(account_of("arn:aws:eks:eu-west-1"), None);
    insta::assert_snapshot!(trust_policy(arn, "111122223333"), @r#"{"Statement":[{"Action":["sts:AssumeRole","sts:TagSession"],"Condition":{"ArnEquals":{"aws:SourceArn":"arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu"},"StringEquals":{"aws:SourceAccount":"111122223333"}},"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"}}],"Version":"2012-10-17"}"#);
    insta::assert_snapshot!(policy(), @r#"{"Statement":[{"Action":"sts:GetCallerIdentity","Effect":"Allow","Resource":"*"}],"Version":"2012-10-17"}"#);
    // By podgrant's own rules it is enough for just that place.
    let policy = crate::trust::TrustPolicy::read(&trust_policy(arn, "111122223333"));
    let cluster =
        crate::Cluster { arn: arn.to_owned(), ..crate::Cluster::in_short(run().cluster, BTreeMap::new()) };
    let workload = run().workload().unwrap();
    let usage = crate::trust::Use {
        account: "111122223333",
        session_tags_off: Some(false),
        place: Some((&cluster, &workload)),
    };
    assert_eq!(policy.allows(&usage), Ok(()));
}

#[test]
fn whoever_has_to_removes_it_by_hand() {
    let run = run();
    let commands = Thing::ALL.map(|thing| thing.by_hand(&run, &run.id.pod_name(1)));
    insta::assert_snapshot!(commands.join("\n"), @"
    aws iam delete-role-policy --role-name podgrant-verify-mm90wfgr --policy-name podgrant-verify; aws iam delete-role --role-name podgrant-verify-mm90wfgr
    aws eks delete-pod-identity-association --region eu-west-1 --cluster-name prod-eu --association-id $(aws eks list-pod-identity-associations --region eu-west-1 --cluster-name prod-eu --namespace default --service-account podgrant-verify-mm90wfgr --query 'associations[0].associationId' --output text)
    kubectl --namespace default delete serviceaccount podgrant-verify-mm90wfgr
    kubectl --namespace default delete pod podgrant-verify-mm90wfgr-1
    ");
}

#[test]
fn states_are_those_of_chains() {
    let link = Link::unknown(LinkKind::Pod, "x", "");
    assert_eq!((link.state, link.remedy), (State::Unknown, None));
}
