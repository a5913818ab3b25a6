"""Checks the EKS, IAM and tagging APIs of the launcher, through boto3."""

import json
import unittest

import harness
from harness import HOME_REGION, LAMBDA_TRUST, POD_TRUST, Case

AGENT = "eks-pod-identity-agent"
VIEW = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"


def setUpModule():
    harness.start()


class PagingTest(Case):
    def test_eks_lists(self):
        eks = self.client("eks")
        names = [f"c{number:02}" for number in range(5)]
        for name in names:
            self.cluster(name)
        first = eks.list_clusters(maxResults=2)
        self.assertEqual(names[:2], first["clusters"])
        eks.delete_cluster(name="c01")
        second = eks.list_clusters(maxResults=2, nextToken=first["nextToken"])
        self.assertEqual(names[2:4], second["clusters"], "a deletion between pages hides nothing")
        last = eks.list_clusters(maxResults=2, nextToken=second["nextToken"])
        self.assertEqual((["c04"], False), (last["clusters"], "nextToken" in last))
        self.refused("InvalidParameterException", eks.list_clusters, nextToken="nobody-gave-this")

        self.role()
        for number in range(3):
            self.associate(service_account=f"sa-{number}", cluster="c00")
        self.associate(namespace="other", cluster="c00")
        pages = [
            [association["serviceAccount"] for association in page["associations"]]
            for page in eks.get_paginator("list_pod_identity_associations").paginate(
                clusterName="c00", namespace="payments", PaginationConfig={"PageSize": 2})
        ]
        self.assertEqual([2, 1], [len(page) for page in pages])
        self.assertEqual({"sa-0", "sa-1", "sa-2"}, set(sum(pages, [])))
        self.refused("InvalidParameterException", eks.list_pod_identity_associations,
                     clusterName="c00", nextToken=first["nextToken"])

        for name in ("vpc-cni", AGENT, "coredns"):
            eks.create_addon(clusterName="c00", addonName=name)
        pages = list(eks.get_paginator("list_addons").paginate(clusterName="c00", PaginationConfig={"PageSize": 2}))
        self.assertEqual([["coredns", AGENT], ["vpc-cni"]], [page["addons"] for page in pages])

    def test_iam_lists(self):
        iam = self.client("iam")
        for number in range(5):
            self.role(f"r{number}", Tags=[{"Key": "podgrant/grant", "Value": "a/b@c"}])
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        iam.create_policy(PolicyName="p", PolicyDocument=json.dumps(policy))
        first = iam.list_roles(MaxItems=2)
        self.assertEqual((["r0", "r1"], True), ([role["RoleName"] for role in first["Roles"]], first["IsTruncated"]))
        self.assertFalse(any("Tags" in role for role in first["Roles"]))
        rest = iam.list_roles(Marker=first["Marker"])
        self.assertEqual((["r2", "r3", "r4"], False), ([role["RoleName"] for role in rest["Roles"]], rest["IsTruncated"]))
        self.refused("ValidationError", iam.list_roles, Marker="nobody-gave-this")

        details = list(iam.get_paginator("get_account_authorization_details").paginate(
            Filter=["Role"], PaginationConfig={"PageSize": 2}))
        roles = [role for page in details for role in page["RoleDetailList"]]
        self.assertEqual([2, 2, 1], [len(page["RoleDetailList"]) for page in details])
        self.assertEqual([{"Key": "podgrant/grant", "Value": "a/b@c"}], roles[0]["Tags"])
        self.assertEqual(json.loads(POD_TRUST), roles[0]["AssumeRolePolicyDocument"])
        everything = list(iam.get_paginator("get_account_authorization_details").paginate(PaginationConfig={"PageSize": 4}))
        self.assertEqual([(4, 0), (1, 1)], [(len(page["RoleDetailList"]), len(page["Policies"])) for page in everything])
        self.refused("ValidationError", iam.get_account_authorization_details, Marker=first["Marker"])

    def test_role_details(self):
        iam = self.client("iam")
        boundary = "arn:aws:iam::aws:policy/ReadOnlyAccess"
        self.role("idle")
        self.role("used", PermissionsBoundary=boundary)
        self.control("POST", "settings", {"roleLastUsed": {"used": {"date": "2026-01-02T03:04:05Z", "region": "eu-west-1"}}})
        details = iam.get_account_authorization_details(Filter=["Role"])["RoleDetailList"]
        for idle, used in (details, [iam.get_role(RoleName=name)["Role"] for name in ("idle", "used")]):
            self.assertEqual({}, idle["RoleLastUsed"])
            self.assertEqual(("eu-west-1", 2026), (used["RoleLastUsed"]["Region"], used["RoleLastUsed"]["LastUsedDate"].year))
            self.assertNotIn("PermissionsBoundary", idle)
            self.assertEqual(boundary, used["PermissionsBoundary"]["PermissionsBoundaryArn"])

    def test_tag_index(self):
        self.role()
        cluster = self.cluster(tags={"env": "prod"})["arn"]
        eks = self.client("eks")
        addon = eks.create_addon(clusterName="prod", addonName=AGENT, tags={"podgrant/managed": "1"})["addon"]["addonArn"]
        associations = {
            self.associate(service_account=f"sa-{n}", tags={"podgrant/managed": "1"})["associationArn"] for n in range(3)}
        self.associate(service_account="untagged")
        self.cluster(region="us-west-2", tags={"podgrant/managed": "1"})

        tagging = self.client("resourcegroupstaggingapi")
        found = list(tagging.get_paginator("get_resources").paginate(
            TagFilters=[{"Key": "podgrant/managed"}], ResourcesPerPage=3))
        self.assertEqual([3, 1], [len(page["ResourceTagMappingList"]) for page in found])
        arns = {mapping["ResourceARN"] for page in found for mapping in page["ResourceTagMappingList"]}
        self.assertEqual(associations | {addon}, arns)
        only = tagging.get_resources(ResourceTypeFilters=["eks:podidentityassociation"])["ResourceTagMappingList"]
        self.assertEqual(associations, {mapping["ResourceARN"] for mapping in only})
        only = tagging.get_resources(TagFilters=[{"Key": "env", "Values": ["prod"]}])["ResourceTagMappingList"]
        self.assertEqual([{"ResourceARN": cluster, "Tags": [{"Key": "env", "Value": "prod"}]}], only)
        self.refused("InvalidParameterException", tagging.get_resources, PaginationToken="nobody-gave-this")


class ClusterTest(Case):
    def test_creation_takes_time_and_may_fail(self):
        eks = self.client("eks")
        self.control("POST", "settings", {"clusterCreatingSeconds": 3600, "addonCreatingSeconds": 3600,
                                          "clusterFails": ["doomed"]})
        for name in ("prod", "doomed"):
            created = self.cluster(name)
            self.assertEqual("CREATING", created["status"])
            self.assertNotIn("endpoint", created)
        described = eks.describe_cluster(name="prod")["cluster"]
        self.assertEqual("CREATING", described["status"])
        self.assertFalse({"endpoint", "certificateAuthority"} & set(described))
        self.refused("InvalidRequestException", eks.create_addon, clusterName="prod", addonName=AGENT)

        self.control("POST", "settings", {"clusterCreatingSeconds": 0})
        described = eks.describe_cluster(name="prod")["cluster"]
        self.assertEqual("ACTIVE", described["status"])
        self.assertTrue(described["endpoint"] and described["certificateAuthority"]["data"])
        self.assertEqual("FAILED", eks.describe_cluster(name="doomed")["cluster"]["status"])
        self.control("POST", "settings", {"clusterCreatingSeconds": 3600})
        self.assertEqual("ACTIVE", eks.describe_cluster(name="prod")["cluster"]["status"], "what is made stays made")

        self.assertEqual("CREATING", eks.create_addon(clusterName="prod", addonName=AGENT)["addon"]["status"])
        self.assertEqual("CREATING", eks.describe_addon(clusterName="prod", addonName=AGENT)["addon"]["status"])
        self.refused("ResourceInUseException", eks.update_addon, clusterName="prod", addonName=AGENT)
        self.control("POST", "settings", {"addonCreatingSeconds": 0})
        self.assertEqual("ACTIVE", eks.describe_addon(clusterName="prod", addonName=AGENT)["addon"]["status"])
        issue = {"code": "InsufficientNumberOfReplicas", "message": "0 of 3", "resourceIds": []}
        self.control("POST", "settings", {"addonHealth": {f"prod/{AGENT}": {"status": "DEGRADED", "issues": [issue]}}})
        addon = eks.describe_addon(clusterName="prod", addonName=AGENT)["addon"]
        self.assertEqual(("DEGRADED", [issue]), (addon["status"], addon["health"]["issues"]))

    def test_addons_and_associations_go_with_their_cluster(self):
        eks = self.client("eks")
        self.role()
        self.cluster()
        self.associate(tags={"a": "1"})
        eks.create_addon(clusterName="prod", addonName=AGENT, tags={"a": "1"})
        self.assertEqual("DELETING", eks.delete_cluster(name="prod")["cluster"]["status"])
        self.refused("ResourceNotFoundException", eks.describe_addon, clusterName="prod", addonName=AGENT)
        self.cluster()
        self.assertEqual([], eks.list_addons(clusterName="prod")["addons"])
        self.assertEqual([], eks.list_pod_identity_associations(clusterName="prod")["associations"])
        self.assertEqual([], self.client("resourcegroupstaggingapi").get_resources()["ResourceTagMappingList"])

    def test_tags_as_they_are_now(self):
        eks = self.client("eks")
        arn = self.cluster(tags={"a": "1", "b": "2", "c": "3"})["arn"]
        eks.tag_resource(resourceArn=arn, tags={"podgrant/enroll": "off", "a": "4"})
        eks.untag_resource(resourceArn=arn, tagKeys=["b", "c"])
        expected = {"podgrant/enroll": "off", "a": "4"}
        self.assertEqual(expected, eks.describe_cluster(name="prod")["cluster"]["tags"])
        self.assertEqual(expected, eks.list_tags_for_resource(resourceArn=arn)["tags"])
        self.refused("NotFoundException", eks.list_tags_for_resource, resourceArn=f"{arn}-x")


    def test_how_its_kubernetes_is_reached(self):
        eks = self.client("eks")
        plain = self.cluster()
        self.assertEqual("API_AND_CONFIG_MAP", plain["accessConfig"]["authenticationMode"])
        vpc = plain["resourcesVpcConfig"]
        self.assertEqual((True, False), (vpc["endpointPublicAccess"], vpc["endpointPrivateAccess"]))
        reach = {"endpointPublicAccess": False, "endpointPrivateAccess": True}
        eks.create_cluster(name="hidden", roleArn=f"arn:aws:iam::{self.account}:role/eks", resourcesVpcConfig=reach,
                           accessConfig={"authenticationMode": "API"})
        hidden = eks.describe_cluster(name="hidden")["cluster"]
        self.assertEqual("API", hidden["accessConfig"]["authenticationMode"])
        self.assertEqual(reach, {name: hidden["resourcesVpcConfig"][name] for name in reach})
        self.refused("InvalidParameterException", self.cluster, "wrong", accessConfig={"authenticationMode": "NONE"})

        own = {"endpoint": "https://127.0.0.1:1", "certificateAuthority": "Q0E="}
        self.control("POST", "settings", {"clusterEndpoint": {"hidden": own}})
        hidden = eks.describe_cluster(name="hidden")["cluster"]
        self.assertEqual(own, {"endpoint": hidden["endpoint"], "certificateAuthority": hidden["certificateAuthority"]["data"]})
        self.assertNotEqual(own["endpoint"], eks.describe_cluster(name="prod")["cluster"]["endpoint"])


class AccessEntryTest(Case):
    def entry(self, principal, cluster="prod", **more):
        return self.client("eks").create_access_entry(clusterName=cluster, principalArn=principal, **more)["accessEntry"]

    def test_from_creation_to_deletion(self):
        eks = self.client("eks")
        self.cluster()
        reader = self.role("reader", Path="/podgrant/")
        entry = self.entry(reader, kubernetesGroups=["viewers"], tags={"a": "1"}, clientRequestToken="once")
        self.assertEqual(entry, self.entry(reader, kubernetesGroups=["viewers"], tags={"a": "1"}, clientRequestToken="once"))
        arn = entry["accessEntryArn"]
        self.assertIn(f":access-entry/prod/role/{self.account}/reader/", arn)
        self.assertEqual(("STANDARD", ["viewers"], {"a": "1"}), (entry["type"], entry["kubernetesGroups"], entry["tags"]))
        self.assertEqual(f"arn:aws:sts::{self.account}:assumed-role/reader/{{{{SessionName}}}}", entry["username"])
        response = self.refused("ResourceInUseException", self.entry, reader)
        self.assertEqual("The specified access entry resource is already in use on this cluster.", response["Error"]["Message"])
        self.assertEqual(409, response["ResponseMetadata"]["HTTPStatusCode"])

        eks.tag_resource(resourceArn=arn, tags={"b": "2"})
        eks.untag_resource(resourceArn=arn, tagKeys=["a"])
        key = {"clusterName": "prod", "principalArn": reader}
        self.assertEqual({"b": "2"}, eks.describe_access_entry(**key)["accessEntry"]["tags"])
        self.assertEqual({"b": "2"}, eks.list_tags_for_resource(resourceArn=arn)["tags"])
        found = self.client("resourcegroupstaggingapi").get_resources(TagFilters=[{"Key": "b"}])["ResourceTagMappingList"]
        self.assertEqual([arn], [mapping["ResourceARN"] for mapping in found])
        self.refused("NotFoundException", eks.tag_resource, resourceArn=f"{arn}x", tags={"a": "1"})

        eks.delete_access_entry(**key)
        for call in (eks.describe_access_entry, eks.delete_access_entry, eks.list_associated_access_policies):
            response = self.refused("ResourceNotFoundException", call, **key)
            self.assertIn("principalArn could not be found", response["Error"]["Message"])
        self.entry(reader)
        eks.delete_cluster(name="prod")
        self.refused("ResourceNotFoundException", eks.describe_access_entry, **key)
        self.cluster()
        self.assertNotIn(reader, eks.list_access_entries(clusterName="prod")["accessEntries"])

    def test_what_can_not_be_is_refused(self):
        self.cluster()
        self.cluster("old", accessConfig={"authenticationMode": "CONFIG_MAP"})
        reader = self.role("reader", Path="/podgrant/")
        response = self.refused("InvalidRequestException", self.entry, reader, "old")
        self.assertIn("authentication mode must be set to one of [API, API_AND_CONFIG_MAP]", response["Error"]["Message"])
        self.refused("ResourceNotFoundException", self.entry, reader, "nowhere")
        for principal in ("reader", f"arn:aws:sts::{self.account}:assumed-role/reader/session", "arn:aws:iam::1:role/reader",
                          f"arn:aws:iam::{self.account}:role/reader", f"arn:aws:iam::{self.account}:role/nobody"):
            response = self.refused("InvalidParameterException", self.entry, principal)
            self.assertIn("invalid principal", response["Error"]["Message"])
        response = self.refused("InvalidParameterException", self.entry, reader, kubernetesGroups=["system:masters"])
        self.assertEqual("The kubernetes group name system:masters is invalid, it cannot start with system:",
                         response["Error"]["Message"])
        self.refused("InvalidParameterException", self.entry, reader, username="eks:me")
        self.refused("InvalidParameterException", self.entry, reader, type="EC2_LINUX", kubernetesGroups=["viewers"])
        self.control("POST", "settings", {"clusterCreatingSeconds": 3600})
        self.cluster("unborn")
        self.refused("InvalidRequestException", self.entry, reader, "unborn")

    def test_policies(self):
        eks = self.client("eks")
        self.cluster()
        key = {"clusterName": "prod", "principalArn": self.role()}
        self.refused("ResourceNotFoundException", eks.associate_access_policy, **key, policyArn=VIEW,
                     accessScope={"type": "cluster"})
        self.entry(key["principalArn"])
        scope = {"type": "namespace", "namespaces": ["payments"]}
        first = eks.associate_access_policy(**key, policyArn=VIEW, accessScope=scope)["associatedAccessPolicy"]
        again = eks.associate_access_policy(**key, policyArn=VIEW, accessScope={"type": "cluster"})["associatedAccessPolicy"]
        self.assertEqual((scope, "cluster"), (first["accessScope"], again["accessScope"]["type"]))
        self.assertEqual(first["associatedAt"], again["associatedAt"])
        other = VIEW.replace("View", "AdminView")
        eks.associate_access_policy(**key, policyArn=other, accessScope=scope)
        pages = list(eks.get_paginator("list_associated_access_policies").paginate(**key, PaginationConfig={"PageSize": 1}))
        policies = [policy for page in pages for policy in page["associatedAccessPolicies"]]
        self.assertEqual([1, 1], [len(page["associatedAccessPolicies"]) for page in pages])
        self.assertEqual([(other, "namespace"), (VIEW, "cluster")],
                         [(policy["policyArn"], policy["accessScope"]["type"]) for policy in policies])
        for policy, wrong in ((VIEW, {"type": "namespace"}), ("arn:aws:iam::aws:policy/ReadOnlyAccess", {"type": "cluster"})):
            self.refused("InvalidParameterException", eks.associate_access_policy, **key, policyArn=policy, accessScope=wrong)

        nodes = self.role("nodes")
        self.entry(nodes, type="EC2_LINUX")
        self.refused("InvalidParameterException", eks.associate_access_policy, clusterName="prod", principalArn=nodes,
                     policyArn=VIEW, accessScope={"type": "cluster"})
        pages = eks.get_paginator("list_access_entries").paginate(clusterName="prod", PaginationConfig={"PageSize": 1})
        # The creator has one as well.
        creator = f"arn:aws:iam::{self.account}:root"
        self.assertEqual([[nodes], [key["principalArn"]], [creator]], [page["accessEntries"] for page in pages])
        self.assertEqual([key["principalArn"]],
                         eks.list_access_entries(clusterName="prod", associatedPolicyArn=VIEW)["accessEntries"])


class AddonTest(Case):
    def test_versions(self):
        eks = self.client("eks")
        addons = eks.describe_addon_versions(addonName=AGENT, kubernetesVersion="1.32")["addons"]
        self.assertEqual([AGENT], [addon["addonName"] for addon in addons])
        fitting = {version["addonVersion"]: version for version in addons[0]["addonVersions"]}
        self.assertNotIn("v1.0.0-eksbuild.1", fitting)
        defaults = [name for name, version in fitting.items() if version["compatibilities"][0]["defaultVersion"]]
        self.assertEqual(["v1.3.8-eksbuild.2"], defaults)
        for version in fitting.values():
            self.assertEqual(["1.32"], [fit["clusterVersion"] for fit in version["compatibilities"]])
            self.assertIn("ec2", version["computeTypes"])
        self.assertEqual([], eks.describe_addon_versions(addonName=AGENT, kubernetesVersion="1.20")["addons"])
        self.assertIn("object", eks.describe_addon_configuration(
            addonName=AGENT, addonVersion="v1.3.8-eksbuild.2")["configurationSchema"])

        self.cluster(version="1.32")
        for wrong in ("v9.9.9-eksbuild.1", "v1.0.0-eksbuild.1"):
            response = self.refused(
                "InvalidParameterException", eks.create_addon, clusterName="prod", addonName=AGENT, addonVersion=wrong)
            self.assertEqual("Addon version specified is not supported", response["Error"]["Message"])
        self.refused("InvalidParameterException", eks.create_addon, clusterName="prod", addonName="no-such")
        addon = eks.create_addon(clusterName="prod", addonName=AGENT, tags={"a": "1"})["addon"]
        self.assertEqual(("v1.3.8-eksbuild.2", {"a": "1"}), (addon["addonVersion"], addon["tags"]))
        self.refused("ResourceInUseException", eks.create_addon, clusterName="prod", addonName=AGENT)
        eks.update_addon(clusterName="prod", addonName=AGENT, addonVersion="v1.3.10-eksbuild.1")
        addon = eks.describe_addon(clusterName="prod", addonName=AGENT)["addon"]
        self.assertEqual(("v1.3.10-eksbuild.1", "ACTIVE"), (addon["addonVersion"], addon["status"]))

    def test_configuration_must_fit_the_schema(self):
        eks = self.client("eks")
        self.cluster()
        agent = {"clusterName": "prod", "addonName": AGENT}
        schema = json.loads(eks.describe_addon_configuration(
            addonName=AGENT, addonVersion="v1.3.8-eksbuild.2")["configurationSchema"])
        self.assertIn("draft-06", schema["$schema"])
        self.refused("ResourceNotFoundException", eks.describe_addon_configuration, addonName=AGENT, addonVersion="v9")
        for values, error in (
            ('{"nodeSelectors":{}}',
             "$.nodeSelectors: is not defined in the schema and the schema does not allow additional properties"),
            ("tolerations: [1]", "$.tolerations[0]: integer found, object expected"),
            ('{"agent":{"additionalArgs":{"-b":true}}}', "$.agent.additionalArgs.-b: boolean found, string expected"),
            ("null", "$: null found, object expected"),
        ):
            response = self.refused("InvalidParameterException", eks.create_addon, **agent, configurationValues=values)
            self.assertEqual("ConfigurationValue provided in request is not supported: "
                             f"Json schema validation failed with error: [{error}]", response["Error"]["Message"])
        self.refused("InvalidParameterException", eks.create_addon, **agent, configurationValues="{")
        values = '{"affinity":null,"agent":{"additionalArgs":{"-b":"169.254.170.23"}},"resources":{"limits":{"cpu":"1"}}}'
        self.assertEqual(values, eks.create_addon(**agent, configurationValues=values)["addon"]["configurationValues"])
        self.refused("InvalidParameterException", eks.update_addon, **agent, configurationValues='{"port":80}')
        eks.update_addon(**agent, configurationValues="priorityClassName: system-node-critical")
        eks.create_addon(clusterName="prod", addonName="coredns", configurationValues='{"replicaCount":3}')

    def test_associations_an_addon_owns(self):
        eks = self.client("eks")
        role = self.role()
        self.cluster()
        addon = eks.create_addon(clusterName="prod", addonName="vpc-cni",
                                 podIdentityAssociations=[{"serviceAccount": "aws-node", "roleArn": role}])["addon"]
        owned, = eks.list_pod_identity_associations(clusterName="prod")["associations"]
        self.assertEqual((addon["addonArn"], "kube-system"), (owned["ownerArn"], owned["namespace"]))
        self.assertEqual([owned["associationArn"]], addon["podIdentityAssociations"])
        eks.update_addon(clusterName="prod", addonName="vpc-cni", configurationValues="{}")
        self.assertEqual(1, len(eks.list_pod_identity_associations(clusterName="prod")["associations"]))
        eks.update_addon(clusterName="prod", addonName="vpc-cni", podIdentityAssociations=[])
        self.assertEqual([], eks.list_pod_identity_associations(clusterName="prod")["associations"])


class AssociationTest(Case):
    def test_role_and_trust_are_checked(self):
        self.cluster()
        response = self.refused("InvalidParameterException", self.associate, role="nobody")
        self.assertIn("Role provided in the request does not exist", response["Error"]["Message"])
        self.role("for-lambda", LAMBDA_TRUST)
        response = self.refused("InvalidParameterException", self.associate, role="for-lambda")
        self.assertIn("Trust policy of the role provided is invalid", response["Error"]["Message"])
        self.role()
        self.refused("ResourceNotFoundException", self.associate, cluster="nowhere")
        self.refused("InvalidParameterException", self.associate, namespace="Not_A_Namespace")
        self.refused("InvalidParameterException", self.associate, policy="{}")
        association = self.associate()
        self.assertNotIn("ownerArn", association)
        self.assertEqual(19, len(association["associationId"]))
        response = self.refused("ResourceInUseException", self.associate)
        self.assertEqual(f"Association already exists: {association['associationId']}", response["Error"]["Message"])
        self.assertEqual(409, response["ResponseMetadata"]["HTTPStatusCode"])

    def test_update(self):
        eks = self.client("eks")
        self.cluster()
        self.role()
        other = self.role("other")
        target = "arn:aws:iam::999999999999:role/target"
        association = self.associate(targetRoleArn=target)
        key = {"clusterName": "prod", "associationId": association["associationId"]}
        self.assertEqual(target, association["targetRoleArn"])
        self.assertTrue(association["externalId"])
        changed = eks.update_pod_identity_association(**key, roleArn=other)["association"]
        self.assertEqual((other, target), (changed["roleArn"], changed["targetRoleArn"]))
        changed = eks.update_pod_identity_association(**key, targetRoleArn="", disableSessionTags=True)["association"]
        self.assertFalse({"targetRoleArn", "externalId"} & set(changed))
        self.assertTrue(changed["disableSessionTags"])
        self.refused("InvalidParameterException", eks.update_pod_identity_association, **key,
                     roleArn=f"arn:aws:iam::{self.account}:role/nobody")
        self.assertEqual(association["associationId"],
                         eks.delete_pod_identity_association(**key)["association"]["associationId"])
        self.refused("ResourceNotFoundException", eks.describe_pod_identity_association, **key)

    def test_same_token_same_association(self):
        self.cluster()
        self.role()
        first = self.associate(clientRequestToken="once", tags={"a": "1"})
        again = self.associate(clientRequestToken="once", tags={"a": "1"})
        self.assertEqual(first, again)
        self.refused("InvalidParameterException", self.associate, clientRequestToken="once", tags={"a": "2"})
        self.refused("ResourceInUseException", self.associate, clientRequestToken="other", tags={"a": "1"})

    def test_tags(self):
        eks = self.client("eks")
        self.cluster()
        self.role()
        association = self.associate(tags={"a": "1", "b": "2", "c": "3"})
        arn = association["associationArn"]
        eks.tag_resource(resourceArn=arn, tags={"d": "4"})
        eks.untag_resource(resourceArn=arn, tagKeys=["a", "b"])
        self.assertEqual({"c": "3", "d": "4"}, eks.list_tags_for_resource(resourceArn=arn)["tags"])
        described = eks.describe_pod_identity_association(
            clusterName="prod", associationId=association["associationId"])["association"]
        self.assertEqual({"c": "3", "d": "4"}, described["tags"])
        self.refused("NotFoundException", eks.tag_resource, resourceArn=f"{arn}x", tags={"a": "1"})


if __name__ == "__main__":
    unittest.main()
