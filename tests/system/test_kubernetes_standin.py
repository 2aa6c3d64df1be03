"""The stand-in for a Kubernetes API server answers as a real one did: one test for each row of what was noted there.

The rows were written down from a server of version 1.20.2. Those about containers are in test_kubernetes.py, beside a
Docker engine.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import requests

from .hub_process import wait_for
from .kubernetes import Cluster

pytestmark = pytest.mark.timeout(120)

Object = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
SECRETS = "/api/v1/namespaces/default/secrets"
JSON = {"Content-Type": "application/json"}


class Client:
    """Somebody with a token; without, somebody unknown."""

    def __init__(self, cluster: Cluster, token: str = "") -> None:
        self.cluster, self.session = cluster, requests.Session()
        self.session.verify = str(cluster.authority)
        # Else a name from ~/.netrc or a variable for certificates goes before what is said here.
        self.session.trust_env = False
        if token:
            self.session.headers["Authorization"] = f"Bearer {token}"

    def ask(self, method: str, path: str, body: Any = None, **kwargs: Any) -> requests.Response:
        if isinstance(body, dict):
            kwargs["data"] = json.dumps(body)
            kwargs.setdefault("headers", JSON)
        elif body is not None:
            kwargs["data"] = body
        return self.session.request(method, self.cluster.address + path, timeout=30, **kwargs)

    def create(self, path: str, body: Object) -> Object:
        answer = self.ask("POST", path, body)
        assert answer.status_code == 201, answer.text
        made: Object = answer.json()
        return made

    def events(self, path: str, **query: Any) -> list[tuple[str, Object]]:
        """Return what a watch tells until the server ends it."""
        answer = self.ask("GET", path, params={"watch": "true", "timeoutSeconds": 1, **query})
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.headers["Transfer-Encoding"] == "chunked"
        return [(each["type"], each["object"]) for each in map(json.loads, answer.text.splitlines())]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Client:
    return Client(cluster, cluster.admin)


def pod(name: str = "p1", *, labels: Object | None = None, container: Object | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"containers": [{"name": "c", "image": "i", **(container or {})}], **spec},
    }


def claim(name: str = "c1") -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def assert_refused(answer: requests.Response, code: int, reason: str, message: str) -> Object:
    status: Object = answer.json()
    assert answer.status_code == status["code"] == code, answer.text
    assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
    assert status["reason"] == reason
    assert message in status["message"], status["message"]
    return status


def on_a_node(cluster: Cluster, name: str = "p1", **status: Any) -> None:
    """Do what the scheduler does, and the kubelet when it says that a pod runs."""

    async def place() -> None:
        (found,) = [each for key, each in cluster.store.everything() if key[2] == name]
        found["spec"]["nodeName"] = "node-1"
        found["status"] = {"phase": "Running", **status}
        (resource,) = [key[0] for key, _ in cluster.store.everything() if key[2] == name]
        cluster.store.update_own(resource, "default", name, found)

    cluster.call(place)


# Who asks


def test_without_a_token_everybody_is_anonymous_and_may_nothing(cluster: Cluster) -> None:
    status = assert_refused(
        Client(cluster).ask("GET", PODS), 403, "Forbidden",
        'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "default"',
    )  # fmt: skip
    assert status["details"] == {"kind": "pods"}


def test_an_unknown_token_is_unauthorized(cluster: Cluster) -> None:
    status = assert_refused(Client(cluster, "made-up").ask("GET", PODS), 401, "Unauthorized", "Unauthorized")
    assert status["message"] == "Unauthorized"


def test_a_token_may_what_its_role_says_where_it_holds(cluster: Cluster, client: Client) -> None:
    client.create("/api/v1/namespaces", {"metadata": {"name": "other"}})
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]
    hub = Client(cluster, cluster.account("hub", rules, "default"))
    assert hub.ask("GET", PODS).status_code == 200
    for method, path, body, what in (
        ("GET", "/api/v1/namespaces/other/pods", None, 'cannot list resource "pods" in API group "" in the namespace "other"'),
        ("GET", "/api/v1/pods", None, 'cannot list resource "pods" in API group "" at the cluster scope'),
        ("GET", f"{PODS}?watch=1", None, 'cannot watch resource "pods"'),
        ("POST", PODS, pod(), 'cannot create resource "pods"'),
        ("DELETE", f"{PODS}/p1", None, 'pods "p1" is forbidden: User "hub" cannot delete resource "pods"'),
        ("GET", SECRETS, None, 'User "hub" cannot list resource "secrets"'),
        ("GET", f"{PODS}/p1/log", None, 'cannot get resource "pods/log"'),
    ):
        assert_refused(hub.ask(method, path, body), 403, "Forbidden", what)


# Made and found


def test_what_is_made_has_a_uid_and_a_version_and_a_name_is_given_once(client: Client) -> None:
    made = client.create(PODS, pod())
    assert made["metadata"]["uid"] and int(made["metadata"]["resourceVersion"]) > 0
    assert made["metadata"]["namespace"] == "default" and made["status"]["phase"] == "Pending"
    status = assert_refused(client.ask("POST", PODS, pod()), 409, "AlreadyExists", 'pods "p1" already exists')
    assert status["details"] == {"name": "p1", "kind": "pods"}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_is_not_there_is_not_found(client: Client, method: str) -> None:
    status = assert_refused(client.ask(method, f"{PODS}/nope"), 404, "NotFound", 'pods "nope" not found')
    assert status["message"] == 'pods "nope" not found'
    assert status["details"] == {"name": "nope", "kind": "pods"}


@pytest.mark.parametrize(
    ("given", "start", "field"),
    [
        (pod("A_b"), 'Pod "A_b" is invalid: metadata.name: Invalid value: "A_b":', "metadata.name"),
        (pod(labels={"a": "x" * 64}), 'Pod "p1" is invalid: metadata.labels: Invalid value:', "metadata.labels"),
        (pod(labels={"a": "ada@example.org"}), 'Pod "p1" is invalid: metadata.labels: Invalid value:', "metadata.labels"),
    ],
)
def test_names_and_labels_have_rules(client: Client, given: Object, start: str, field: str) -> None:
    status = assert_refused(client.ask("POST", PODS, given), 422, "Invalid", start)
    assert status["message"].startswith(start)
    (cause,) = status["details"]["causes"]
    assert set(cause) == {"reason", "message", "field"}
    assert (cause["reason"], cause["field"]) == ("FieldValueInvalid", field)


@pytest.mark.parametrize(
    ("given", "reason", "field", "message"),
    [
        (pod() | {"spec": {}}, "FieldValueRequired", "spec.containers", "Required value"),
        (
            pod(container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
            "FieldValueNotFound", "spec.containers[0].volumeMounts[0].name", 'Not found: "v"',
        ),
        (
            pod(container={"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}),
            "FieldValueInvalid", "spec.containers[0].resources.requests", "must be less than or equal to memory limit",
        ),
    ],
)  # fmt: skip
def test_pods_have_rules(client: Client, given: Object, reason: str, field: str, message: str) -> None:
    status = assert_refused(client.ask("POST", PODS, given), 422, "Invalid", f"{field}: ")
    (cause,) = status["details"]["causes"]
    assert (cause["reason"], cause["field"]) == (reason, field)
    assert message in cause["message"]


@pytest.mark.parametrize(
    "given",
    [
        pod(containers="c"),
        pod(container={"env": [{"name": "A", "value": 7}]}),
        pod(container={"resources": {"limits": {"memory": "1X"}}}),
    ],
)
def test_what_cannot_be_decoded_is_a_bad_request(client: Client, given: Object) -> None:
    start = 'Pod in version "v1" cannot be handled as a Pod: '
    status = assert_refused(client.ask("POST", PODS, given), 400, "BadRequest", start)
    assert status["message"].startswith(start)


def test_an_unknown_field_is_taken_and_noted_as_a_complaint(cluster: Cluster, client: Client) -> None:
    client.create(PODS, pod("fine"))
    assert cluster.complaints == []
    client.create(PODS, pod(container={"imagePulPolicy": "Never"}))
    (complaint,) = cluster.complaints
    assert complaint.startswith("Pod p1: spec.containers.0:") and "imagePulPolicy" in complaint
    client.ask("DELETE", f"{PODS}/fine", {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 1})
    client.ask("DELETE", f"{PODS}/p1", {"gracePeriodSecond": 1})
    assert len(cluster.complaints) == 2 and "gracePeriodSecond" in cluster.complaints[-1]


def test_namespaces_must_agree_and_be_there(client: Client) -> None:
    other = pod()
    other["metadata"]["namespace"] = "other"
    why = "the namespace of the provided object does not match the namespace sent on the request"
    assert_refused(client.ask("POST", PODS, other), 400, "BadRequest", why)
    answer = client.ask("POST", "/api/v1/namespaces/nons/pods", pod())
    assert_refused(answer, 404, "NotFound", 'namespaces "nons" not found')


@pytest.mark.parametrize("body", ["no JSON", "[1]", ""])
def test_a_body_must_be_an_object_in_json(client: Client, body: str) -> None:
    assert client.ask("POST", PODS, body, headers=JSON).status_code == 400


def test_a_secret_is_read_back_as_data_only(client: Client) -> None:
    client.create(SECRETS, {"metadata": {"name": "s"}, "stringData": {"key": "open sesame"}})
    found = client.ask("GET", f"{SECRETS}/s").json()
    assert "stringData" not in found
    assert found["data"] == {"key": base64.b64encode(b"open sesame").decode()}


# Changed


def test_a_patch_says_which_kind_it_is(client: Client) -> None:
    client.create(PODS, pod(labels={"kept": "yes"}))
    patch = {"metadata": {"labels": {"a": "b"}}}
    assert_refused(client.ask("PATCH", f"{PODS}/p1", patch), 415, "UnsupportedMediaType", "unknown format")
    for kind in ("merge", "strategic-merge"):
        headers = {"Content-Type": f"application/{kind}-patch+json"}
        answer = client.ask("PATCH", f"{PODS}/p1", patch, headers=headers)
        assert answer.status_code == 200
        assert answer.json()["metadata"]["labels"] == {"kept": "yes", "a": "b"}


def test_a_pods_spec_stays_but_for_its_image(client: Client) -> None:
    found = client.create(PODS, pod())
    found["spec"]["containers"][0]["command"] = ["other"]
    status = assert_refused(
        client.ask("PUT", f"{PODS}/p1", found), 422, "Invalid",
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`",
    )  # fmt: skip
    assert status["details"]["causes"][0]["field"] == "spec"
    del found["spec"]["containers"][0]["command"]
    found["spec"]["containers"][0]["image"] = "newer"
    assert client.ask("PUT", f"{PODS}/p1", found).status_code == 200


def test_an_old_version_is_a_conflict(client: Client) -> None:
    old = client.create(PODS, pod())
    new = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
    assert client.ask("PUT", f"{PODS}/p1", new).status_code == 200
    assert_refused(
        client.ask("PUT", f"{PODS}/p1", old), 409, "Conflict",
        "the object has been modified; please apply your changes to the latest version and try again",
    )  # fmt: skip


# Selected, and in pages


def test_selectors(client: Client) -> None:
    for name, labels in (("p1", {"a": "x"}), ("p2", {"a": "y", "b": ""}), ("p3", {})):
        client.create(PODS, pod(name, labels=labels))

    def found(**query: str) -> list[str]:
        answer = client.ask("GET", PODS, params=query)
        assert answer.status_code == 200, answer.text
        return [each["metadata"]["name"] for each in answer.json()["items"]]

    for selector, names in (
        ("a=x", ["p1"]), ("a==y", ["p2"]), ("a!=x", ["p2", "p3"]), ("a in (x,y)", ["p1", "p2"]), ("a notin (x)", ["p2", "p3"]),
        ("a", ["p1", "p2"]), ("!a", ["p3"]), ("a=y,b", ["p2"]), ("a==", []), ("b==", ["p2"]),
    ):  # fmt: skip
        assert found(labelSelector=selector) == names, selector
    assert found(fieldSelector="metadata.name=p2") == ["p2"]
    assert found(fieldSelector="status.phase!=Pending") == []
    answer = client.ask("GET", PODS, params={"fieldSelector": "spec.foo=x"})
    assert_refused(answer, 400, "BadRequest", "field label not supported: spec.foo")


def test_a_long_list_comes_in_pages_of_one_moment(client: Client, cluster: Cluster) -> None:
    for name in ("p1", "p2", "p3"):
        client.create(PODS, pod(name))
    first = client.ask("GET", PODS, params={"limit": 1}).json()
    assert [each["metadata"]["name"] for each in first["items"]] == ["p1"]
    assert first["metadata"]["remainingItemCount"] == 2
    client.ask("DELETE", f"{PODS}/p2")
    client.create(PODS, pod("p4"))
    query = {"limit": 5, "continue": first["metadata"]["continue"]}
    rest = client.ask("GET", PODS, params=query).json()
    assert [each["metadata"]["name"] for each in rest["items"]] == ["p2", "p3"]
    assert rest["metadata"] == {"resourceVersion": first["metadata"]["resourceVersion"]}
    assert client.ask("GET", PODS, params={"limit": 1, "continue": "made-up"}).status_code == 400

    async def forget() -> None:
        cluster.store.forget()

    cluster.call(forget)
    assert_refused(client.ask("GET", PODS, params=query), 410, "Expired", "continue parameter is too old")


# Watched


def test_a_watch_tells_what_changes_and_ends_without_a_word(client: Client) -> None:
    version = client.ask("GET", PODS).json()["metadata"]["resourceVersion"]
    client.create(PODS, pod())
    merge = {"Content-Type": "application/merge-patch+json"}
    client.ask("PATCH", f"{PODS}/p1", {"metadata": {"labels": {"a": "b"}}}, headers=merge)
    client.create(PODS, pod("p2"))
    client.ask("DELETE", f"{PODS}/p1")
    began = time.monotonic()
    told = client.events(PODS, resourceVersion=version)
    assert time.monotonic() - began == pytest.approx(1, abs=0.7)
    assert [(kind, each["metadata"]["name"]) for kind, each in told] == [
        ("ADDED", "p1"), ("MODIFIED", "p1"), ("ADDED", "p2"), ("MODIFIED", "p1"), ("DELETED", "p1"),
    ]  # fmt: skip
    versions = [int(each["metadata"]["resourceVersion"]) for _, each in told]
    assert versions == sorted(set(versions))
    assert all(each["kind"] == "Pod" for _, each in told)
    # What leaves the selection is gone for whoever selects.
    told = client.events(PODS, resourceVersion=version, labelSelector="!a")
    assert [(kind, each["metadata"]["name"]) for kind, each in told] == [("ADDED", "p1"), ("DELETED", "p1"), ("ADDED", "p2")]
    assert [kind for kind, _ in client.events(PODS)] == ["ADDED"], "without a version, what is there comes first"


def test_a_watch_hears_of_what_happens_while_it_waits(client: Client, cluster: Cluster) -> None:
    url, query = cluster.address + PODS, {"watch": "1", "timeoutSeconds": "20"}
    with closing(client.session.get(url, params=query, stream=True, timeout=30)) as answer:
        lines = answer.iter_lines(chunk_size=1)
        Client(cluster, cluster.admin).create(PODS, pod())
        assert json.loads(next(lines))["object"]["metadata"]["name"] == "p1"


def test_bookmarks_come_to_those_who_ask(client: Client) -> None:
    client.create(PODS, pod())
    version = client.ask("GET", PODS).json()["metadata"]["resourceVersion"]
    assert client.events(PODS, resourceVersion=version) == []
    ((kind, found),) = client.events(PODS, resourceVersion=version, allowWatchBookmarks="true")
    assert (kind, found["kind"], found["metadata"]["resourceVersion"]) == ("BOOKMARK", "Pod", version)


def test_a_watch_from_a_forgotten_version_gets_an_error_as_its_only_line(client: Client, cluster: Cluster) -> None:
    version = client.create(PODS, pod())["metadata"]["resourceVersion"]
    client.create(PODS, pod("p2"))

    async def forget() -> int:
        cluster.store.forget()
        return cluster.store.oldest

    oldest = cluster.call(forget)
    ((kind, status),) = client.events(PODS, resourceVersion=version)
    assert kind == "ERROR"
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 410, "Expired")
    assert status["message"] == f"too old resource version: {version} ({oldest})"


def test_a_watch_from_a_version_to_come_is_silent(client: Client) -> None:
    client.create(PODS, pod())
    assert client.events(PODS, resourceVersion="100000") == []


def test_a_server_that_is_away_ends_watches_and_keeps_what_it_had(client: Client, cluster: Cluster) -> None:
    version = client.create(PODS, pod())["metadata"]["resourceVersion"]
    with cluster.away():
        with pytest.raises(requests.ConnectionError):
            client.ask("GET", PODS)
    assert client.ask("GET", f"{PODS}/p1").json()["metadata"]["resourceVersion"] == version


# Deleted


def test_a_pod_that_no_node_has_goes_at_once(client: Client) -> None:
    version = client.create(PODS, pod())["metadata"]["resourceVersion"]
    answer = client.ask("DELETE", f"{PODS}/p1")
    assert answer.status_code == 200 and answer.json()["metadata"]["deletionTimestamp"]
    told = client.events(PODS, resourceVersion=version)
    assert [kind for kind, _ in told] == ["MODIFIED", "DELETED"]


def test_a_running_pod_has_its_time(client: Client, cluster: Cluster) -> None:
    client.create(PODS, pod())
    on_a_node(cluster)
    before = time.time()
    answer = client.ask("DELETE", f"{PODS}/p1", {"gracePeriodSeconds": 5})
    assert answer.status_code == 200
    metadata = client.ask("GET", f"{PODS}/p1").json()["metadata"]
    assert metadata["deletionGracePeriodSeconds"] == 5
    ahead = time.mktime(time.strptime(metadata["deletionTimestamp"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone - before
    assert 3 < ahead < 7
    # The kubelet, when the containers have ended.
    assert client.ask("DELETE", f"{PODS}/p1", params={"gracePeriodSeconds": 0}).status_code == 200
    assert client.ask("GET", f"{PODS}/p1").status_code == 404


def test_a_claim_waits_for_its_finalizer(client: Client) -> None:
    client.create(CLAIMS, claim())
    assert client.ask("DELETE", f"{CLAIMS}/c1").status_code == 200
    found = client.ask("GET", f"{CLAIMS}/c1").json()
    assert found["metadata"]["deletionTimestamp"]
    found["metadata"]["finalizers"] = []
    assert client.ask("PUT", f"{CLAIMS}/c1", found).status_code == 200
    assert client.ask("GET", f"{CLAIMS}/c1").status_code == 404


# Quotas


def test_a_pod_over_a_quota_is_forbidden(client: Client) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "rq"}, "spec": {"hard": {"pods": "0"}}}
    client.create("/api/v1/namespaces/default/resourcequotas", quota)
    status = assert_refused(client.ask("POST", PODS, pod("p")), 403, "Forbidden", "exceeded quota")
    assert status["message"] == (
        'pods "p" is forbidden: exceeded quota: rq, requested: pods=1, used: pods=0, limited: pods=0'
    )


def test_a_quota_counts_what_the_others_have(client: Client) -> None:
    hard = {"limits.memory": "1Gi"}
    client.create("/api/v1/namespaces/default/resourcequotas", {"metadata": {"name": "rq"}, "spec": {"hard": hard}})
    large: Object = {"resources": {"limits": {"memory": "768Mi"}}}
    client.create(PODS, pod(container=large))
    message = "exceeded quota: rq, requested: limits.memory=768Mi, used: limits.memory=768Mi, limited: limits.memory=1Gi"
    assert_refused(client.ask("POST", PODS, pod("p2", container=large)), 403, "Forbidden", message)
    assert_refused(client.ask("POST", PODS, pod("p2")), 403, "Forbidden", "must specify limits.memory")
    client.ask("DELETE", f"{PODS}/p1")
    wait_for(lambda: client.ask("POST", PODS, pod("p2", container=large)).status_code == 201, "there is room", 5)


# What it does not do


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/apis/apps/v1/namespaces/default/deployments", 404),
        ("DELETE", PODS, 405),
        ("POST", "/api/v1/pods", 405),
        ("GET", f"{PODS}/p1/exec", 404),
    ],
)
def test_what_it_does_not_do_is_refused(client: Client, method: str, path: str, code: int) -> None:
    assert client.ask(method, path).status_code == code
