"""What the launcher asks of the Kubernetes API, and the bindings that stand in for EKS's access policies."""

import base64
import json
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

# EKS's access policies by the Kubernetes cluster roles that they resemble: "The permissions contained in access
# policies are similar to the permissions in the Kubernetes user-facing cluster roles" (EKS user guide,
# access-policy-permissions). None but the last may read nodes.
ROLES = {
    "AmazonEKSViewPolicy": "view",
    "AmazonEKSEditPolicy": "edit",
    "AmazonEKSAdminPolicy": "admin",
    "AmazonEKSClusterAdminPolicy": "cluster-admin",
}
RBAC = "/apis/rbac.authorization.k8s.io/v1"


class ApiError(Exception):
    """The API's no."""

    def __init__(self, status, message):
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """The API, as one caller."""

    def __init__(self, server, authority, token):
        """`authority` as EKS gives it: a certificate in PEM, and that in base64."""
        self._server = server
        self._token = token
        context = ssl.create_default_context(cadata=base64.b64decode(authority).decode())
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context),
        )

    def call(self, method, path, document=None, content_type="application/json", seconds=5):
        request = urllib.request.Request(
            self._server + path, json.dumps(document).encode() if document is not None else None, method=method,
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": content_type},
        )
        try:
            with self._opener.open(request, timeout=seconds) as answer:
                body = answer.read().decode()
        except urllib.error.HTTPError as error:
            body = error.read().decode(errors="replace")
            try:
                body = json.loads(body)["message"]
            except (ValueError, KeyError, TypeError):
                pass
            raise ApiError(error.code, body) from None
        return json.loads(body) if body.startswith("{") else body


class Bindings:
    """A group for each policy and scope, bound to its cluster role when it is first needed."""

    def __init__(self):
        # Known only when the API server is up.
        self.api = None
        self._lock = threading.Lock()

    def group(self, policy, namespace=None, seconds=5):
        """The group's name; whoever is in it has the policy's rights when this returns. None for a namespace that is
        not there: nothing in it could be read anyway, and a binding has no place yet."""
        role = ROLES[policy]
        name = f"access:{policy}:{namespace}" if namespace else f"access:{policy}"
        kind, path = "ClusterRoleBinding", f"{RBAC}/clusterrolebindings"
        if namespace:
            kind, path = "RoleBinding", f"{RBAC}/namespaces/{urllib.parse.quote(namespace, safe='')}/rolebindings"
        group = {"kind": "Group", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name},
            "roleRef": {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"},
            "subjects": [group],
        }
        with self._lock:
            try:
                self.api.call("POST", path, binding)
            except ApiError as error:
                if error.status == 404 and namespace:
                    return None
                if error.status != 409:
                    raise
            self._wait(name, namespace, seconds)
        return name

    def _wait(self, group, namespace, seconds):
        """A binding works only when the API server's authorizer has heard of it."""
        attributes = {"verb": "list", "group": "apps", "resource": "daemonsets", "namespace": namespace or ""}
        review = {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": "nobody", "groups": [group], "resourceAttributes": attributes},
        }
        end = time.monotonic() + seconds
        while True:
            answer = self.api.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
            if answer["status"]["allowed"]:
                return
            if time.monotonic() > end:
                raise TimeoutError(f"the group {group} may still not list daemonsets after {seconds} s")
            time.sleep(0.02)
