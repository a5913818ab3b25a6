use crate::person::Person;

#[tokio::test]
async fn help_says_what_there_is() {
    let person = Person::new().await;
    insta::assert_snapshot!(person.story("--help", "").await, @"
    Access for pods by tags on IAM roles, looked at and done by hand: the same decisions as podgrant's functions make, with your own credentials

    Usage: podgrant [OPTIONS] <COMMAND>

    Commands:
      plan         Show what would be done, and what not and why; change nothing
      apply        Show the same, ask, and do it
      list         List the associations of the fleet: whose they are, and whether their roles are there
      explain      Explain every link from a role's tag to a pod's credentials: which is right, which is broken, and what mends it
      doctor       Name what keeps pods from their credentials, the likeliest cause first, and what to do about it
      report       Write who can be whom, where: one page for a browser, or Markdown
      verify       Prove that pods of a cluster get their role: make a role and a pod for it, ask the pod, and remove both
      restart      List the workloads with pods that must be made anew to get their credentials, and have Kubernetes do so
      migrate      Show which service accounts can move from IRSA to Pod Identity, in which steps, and which should stay; move them, and back
      uninstall    Take away all that podgrant made, and nothing else: it is listed first, and goes when it was confirmed by name or number
      grant        Grant a role to service accounts: write its tags
      revoke       Withdraw a role from service accounts: take them out of its tags
      completions  Print completions for a shell
      man          Print a manual page, in roff
      help         Print this message or the help of the given subcommand(s)

    Options:
          --profile <NAME>
              Profile of ~/.aws/config to use [default: AWS_PROFILE, or the SDK's own way]

          --region <REGION>
              Region whose clusters are in the fleet; many times, or parted by commas [default: PODGRANT_REGIONS, or the profile's region]

          --tag-prefix <PREFIX>
              What podgrant's tags begin with [default: PODGRANT_TAG_PREFIX, or podgrant/]

          --output <FORMAT>
              How results are put out

              Possible values:
              - text: For people
              - json: For programs: docs/cli.md has the shapes
              
              [default: text]

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Exit codes:
      0   done, or nothing to do
      1   failed
      2   plan: something is to be done; explain, doctor, verify: something is wrong;
          restart: something is to be restarted; migrate: something can move
      3   done in part: something could not be read, is refused or withheld, or is still to come
      4   asked, and declined
      64  bad usage
    ---- exit 0
    ");
    insta::assert_snapshot!(person.story("apply --help", "").await, @"
    Show the same, ask, and do it

    Usage: podgrant apply [OPTIONS]

    Options:
          --profile <NAME>
              Profile of ~/.aws/config to use [default: AWS_PROFILE, or the SDK's own way]

          --role <ROLE>
              Only what this role's tags ask for: a name or ARN

          --cluster <[REGION/]CLUSTER>
              Only this cluster's agent and grants

          --region <REGION>
              Region whose clusters are in the fleet; many times, or parted by commas [default: PODGRANT_REGIONS, or the profile's region]

          --tag-prefix <PREFIX>
              What podgrant's tags begin with [default: PODGRANT_TAG_PREFIX, or podgrant/]

          --thorough
              Describe every association, one call each, also those that the tag index shows to be right

          --no-kubernetes
              Ask no cluster's Kubernetes API about its agent

          --output <FORMAT>
              How results are put out

              Possible values:
              - text: For people
              - json: For programs: docs/cli.md has the shapes
              
              [default: text]

          --yes
              Do not ask

          --allow-deletions <N>
              Let this many associations go from each cluster [default: PODGRANT_MAX_DELETIONS, or 100]

          --allow-share <SHARE>
              Let this share of the associations go, 0 to 1 [default: PODGRANT_MAX_DELETION_SHARE, or 0.2]

          --allow-role-deletions <N>
              Let this many roles go [default: PODGRANT_MAX_ROLE_DELETIONS, or 5]

          --event-bus <BUS>
              Event bus that is told what was done: name or ARN [default: none is told]

      -h, --help
              Print help (see a summary with '-h')
    ---- exit 0
    ");
    insta::assert_snapshot!(person.story("verify -h", "").await, @"
    Prove that pods of a cluster get their role: make a role and a pod for it, ask the pod, and remove both

    Usage: podgrant verify [OPTIONS]

    Options:
          --cluster <[REGION/]CLUSTER>  The cluster; with --clean only what was left there
          --profile <NAME>              Profile of ~/.aws/config to use [default: AWS_PROFILE, or the SDK's own way]
          --clean                       Remove what earlier runs left that were ended before they could
          --region <REGION>             Region whose clusters are in the fleet; many times, or parted by commas [default: PODGRANT_REGIONS, or the profile's region]
          --namespace <NAMESPACE>       Where the pod and its service account are made [default: default]
          --tag-prefix <PREFIX>         What podgrant's tags begin with [default: PODGRANT_TAG_PREFIX, or podgrant/]
          --image <IMAGE>               The pod's image: one with sh and the AWS CLI [default: amazon/aws-cli:2.31.29]
          --output <FORMAT>             How results are put out [default: text] [possible values: text, json]
          --wait-limit <SECONDS>        Seconds to wait for the pod at most [default: 300]
          --yes                         Do not ask
      -h, --help                        Print help (see more with '--help')
    ---- exit 0
    ");
    insta::assert_snapshot!(person.story("grant -h", "").await, @"
    Grant a role to service accounts: write its tags

    Usage: podgrant grant [OPTIONS] <ROLE> <SUBJECT>...

    Arguments:
      <ROLE>        The role: a name or ARN
      <SUBJECT>...  namespace/service-account@clusters, such as payments/api@prod-eu

    Options:
          --label <LABEL>         Write podgrant/grant/LABEL instead of podgrant/grant
          --profile <NAME>        Profile of ~/.aws/config to use [default: AWS_PROFILE, or the SDK's own way]
          --region <REGION>       Region whose clusters are in the fleet; many times, or parted by commas [default: PODGRANT_REGIONS, or the profile's region]
          --yes                   Do not ask
          --tag-prefix <PREFIX>   What podgrant's tags begin with [default: PODGRANT_TAG_PREFIX, or podgrant/]
          --wait                  Wait until it is so
          --output <FORMAT>       How results are put out [default: text] [possible values: text, json]
          --wait-limit <SECONDS>  Seconds to wait at most [default: 300]
      -h, --help                  Print help (see more with '--help')
    ---- exit 0
    ");
}

#[tokio::test]
async fn bad_usage_has_a_code_of_its_own() {
    let person = Person::new().await;
    insta::assert_snapshot!(person.story("paln", "").await, @"
    ---- stderr
    error: unrecognized subcommand 'paln'

      tip: some similar subcommands exist: 'man', 'plan'

    Usage: podgrant [OPTIONS] <COMMAND>

    For more information, try '--help'.

    ---- exit 64
    ");
    insta::assert_snapshot!(person.story("plan --role a --cluster b", "").await, @"
    ---- stderr
    error: the argument '--role <ROLE>' cannot be used with '--cluster <[REGION/]CLUSTER>'

    Usage: podgrant plan --role <ROLE>

    For more information, try '--help'.

    ---- exit 64
    ");
    insta::assert_snapshot!(person.story("plan --region europe", "").await, @r#"
    ---- stderr
    error: invalid value 'europe' for '--region <REGION>': "europe" is not an AWS region such as eu-west-1

    For more information, try '--help'.

    ---- exit 64
    "#);
    insta::assert_snapshot!(person.story("apply --allow-share 20", "").await, @"
    ---- stderr
    error: invalid value '20' for '--allow-share <SHARE>': expected 0 to 1, such as 0.5

    For more information, try '--help'.

    ---- exit 64
    ");
    insta::assert_snapshot!(person.story("grant payments-api payments/api", "").await, @r#"
    ---- stderr
    podgrant: "payments/api": column 13: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing

    ---- exit 64
    "#);
    insta::assert_snapshot!(person.story("man paln", "").await, @"
    ---- stderr
    podgrant: there is no command paln
      the commands are plan, apply, list, explain, doctor, report, verify, restart, migrate, uninstall, grant, revoke, completions, man, help

    ---- exit 64
    ");
    assert_eq!(person.types("--version", "").await.code, 0);
    assert!(
        person.aws.calls().iter().next().is_some(),
        "what only the core's grammar knows is asked after AWS"
    );
}

#[tokio::test]
async fn completions_and_manual_ask_nobody() {
    let person = Person::new().await.cut_off().without_credentials();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let said = person.types(&format!("completions {shell}"), "").await;
        assert!(said.code == 0 && said.out.contains("allow-deletions"), "{shell}");
    }
    let page = person.types("man", "").await;
    assert!(page.code == 0 && page.out.contains(".TH podgrant 1") && page.out.contains("withheld"), "{page}");
    let page = person.types("man apply", "").await;
    assert!(page.code == 0 && page.out.contains("allow\\-role\\-deletions"), "{page}");
}
