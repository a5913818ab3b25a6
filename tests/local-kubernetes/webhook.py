"""The webhook that kube-apiserver asks about tokens, and the control endpoint beside it. See README.md."""

import collections
import datetime
import http.server
import json
import logging
import threading

import identities
from kube_api import ROLES
from token_review import Refused, Token

AUTHENTICATE = "/authenticate"
KEPT_REVIEWS = 10_000

_log = logging.getLogger("token-review")


class Reviewer:
    """Says of each token who made it and which groups he is in; EKS's authenticator for one cluster."""

    def __init__(self, bindings):
        self._bindings = bindings
        self._lock = threading.Lock()
        self._known = self._aws = None
        self._reviews = collections.deque(maxlen=KEPT_REVIEWS)

    def set_known(self, document):
        known = identities.Known(document)
        with self._lock:
            self._known = known

    def set_aws(self, document):
        aws = identities.LocalAws(document)
        with self._lock:
            self._aws = aws

    def reviews(self):
        with self._lock:
            return list(self._reviews)

    def forget_reviews(self):
        with self._lock:
            self._reviews.clear()

    def review(self, text):
        """The status of a TokenReview."""
        record = {
            "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"),
            "cluster": None, "accessKey": None, "arn": None, "groups": [], "ok": False, "reason": None,
        }
        try:
            identity = self._identify(text, record)
            record["arn"] = identity.arn
            record["groups"] = [*identity.groups, *self._policy_groups(identity)]
            record["ok"] = True
        except Refused as reason:
            record["reason"] = str(reason)
        except Exception as error:  # a test must be told what broke, not see a bare 401
            _log.exception("the review failed")
            record["reason"] = f"the review itself failed, see its log: {error}"
        with self._lock:
            self._reviews.append(record)
        _log.info("%s", json.dumps(record))
        if not record["ok"]:
            return {"authenticated": False, "error": record["reason"]}
        user = {"username": record["arn"], "groups": record["groups"]}
        return {"authenticated": True, "user": user}

    def _identify(self, text, record):
        token = Token(text)
        record["accessKey"] = token.access_key
        with self._lock:
            known, aws = self._known, self._aws
        source = known if known and token.access_key in known else aws
        if not source:
            raise Refused(f"nobody has the access key {token.access_key}: PUT /identities or PUT /aws")
        record["cluster"] = source.cluster
        return source.identify(token)

    def _policy_groups(self, identity):
        for policy, namespace in identity.policies:
            if policy not in ROLES:
                _log.warning("%s has the policy %s, which nothing stands in for", identity.arn, policy)
                continue
            group = self._bindings.group(policy, namespace)
            if group:
                yield group


class Server(http.server.ThreadingHTTPServer):
    """Listens from the start, and answers once `serve` is called."""

    daemon_threads = True

    def __init__(self, reviewer):
        self.reviewer = reviewer
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def serve(self):
        threading.Thread(target=self.serve_forever, daemon=True, name="webhook").start()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet: parted, they would cost kube-apiserver 40 ms a call.
    wbufsize = -1

    def do_GET(self):
        if self.path == "/reviews":
            return self._answer({"reviews": self.server.reviewer.reviews()})
        return self._unknown()

    def do_DELETE(self):
        if self.path == "/reviews":
            self.server.reviewer.forget_reviews()
            return self._answer({})
        return self._unknown()

    def do_PUT(self):
        setters = {"/identities": self.server.reviewer.set_known, "/aws": self.server.reviewer.set_aws}
        setter = setters.get(self.path)
        document = self._document()
        if not setter:
            return self._unknown()
        try:
            setter(document)
        except identities.BadDocument as error:
            return self._answer({"error": str(error)}, 400)
        return self._answer({})

    def do_POST(self):
        document = self._document()
        if self.path != AUTHENTICATE:
            return self._unknown()
        try:
            text = document["spec"]["token"]
        except (KeyError, TypeError):
            return self._answer({"error": "no TokenReview"}, 400)
        status = self.server.reviewer.review(text)
        return self._answer({"apiVersion": document["apiVersion"], "kind": "TokenReview", "status": status})

    def _document(self):
        try:
            return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        except ValueError:
            return None

    def _unknown(self):
        known = "PUT /identities, PUT /aws, GET /reviews, DELETE /reviews"
        return self._answer({"error": f"no {self.command} {self.path} here, but {known}"}, 404)

    def _answer(self, document, status=200):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """The reviews themselves are logged, and that is enough."""
