"""What programs do through the official Python client: `client.py PART KUBECONFIG NAMESPACE`.

Each part is a function below. It asserts what must hold and leaves its objects to the namespace's deletion.
"""

import sys
import threading

from kubernetes import client, config, dynamic, stream, watch
from kubernetes.client.rest import ApiException

IMAGE = "tiphys.local/hello:1"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


def config_map(name, labels=None, **data):
    meta = client.V1ObjectMeta(name=name, labels=labels)
    return client.V1ConfigMap(metadata=meta, data=data)


def refused(code, call, *args, **kwargs):
    """The error of a call that must be refused."""
    try:
        call(*args, **kwargs)
    except ApiException as error:
        assert error.status == code, error
        return error
    raise AssertionError(f"{call.__name__} was not refused")


def objects(ns):
    """Create, read, replace, list with selectors, delete; typed objects keep what they hold."""
    core = client.CoreV1Api()
    made = core.create_namespaced_config_map(ns, config_map("a", {"tier": "front"}, k="v"))
    assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo
    refused(409, core.create_namespaced_config_map, ns, config_map("a"))
    made.data["k"] = "w"
    changed = core.replace_namespaced_config_map("a", ns, made)
    assert changed.data == {"k": "w"} and changed.metadata.resource_version != made.metadata.resource_version
    error = refused(409, core.replace_namespaced_config_map, "a", ns, made)
    assert "the object has been modified" in error.body, error.body
    core.create_namespaced_config_map(ns, config_map("b"), dry_run="All")
    refused(404, core.read_namespaced_config_map, "b", ns)
    error = refused(422, core.create_namespaced_config_map, ns, config_map("Not A Name"))
    assert '"reason":"Invalid"' in error.body and "metadata.name" in error.body, error.body
    core.create_namespaced_config_map(ns, config_map("c", {"tier": "back"}))
    names = lambda **query: [m.metadata.name for m in core.list_namespaced_config_map(ns, **query).items]
    assert names(label_selector="tier in (front,back),tier!=back") == ["a"]
    assert names(field_selector="metadata.name=c") == ["c"]
    status = core.delete_namespaced_config_map("c", ns, body=client.V1DeleteOptions(propagation_policy="Background"))
    assert status.status == "Success", status
    core.delete_collection_namespaced_config_map(ns, label_selector="tier=front")
    assert "a" not in names()
    secret = client.V1Secret(metadata=client.V1ObjectMeta(generate_name="s-"), string_data={"k": "v"})
    made = core.create_namespaced_secret(ns, secret)
    assert made.metadata.name.startswith("s-") and made.data == {"k": "dg=="}, made
    version = client.VersionApi().get_code()
    assert version.minor == "36" and "v1" in [g.preferred_version.version for g in client.ApisApi().get_api_versions().groups]


def patches(ns):
    """All forms of PATCH, on the object, its scale and its status."""
    apps = client.AppsV1Api()
    template = {"metadata": {"labels": {"app": "p"}}, "spec": {"containers": [{"name": "c", "image": IMAGE}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "p"}}, "template": template}
    apps.create_namespaced_deployment(ns, {"metadata": {"name": "p"}, "spec": spec})
    patch = lambda body, form, **query: apps.patch_namespaced_deployment("p", ns, body, _content_type=form, **query)
    sidecar = {"spec": {"template": {"spec": {"containers": [{"name": "d", "image": IMAGE}]}}}}
    containers = patch(sidecar, STRATEGIC).spec.template.spec.containers
    assert [c.name for c in containers] == ["d", "c"], containers
    merged = patch({"metadata": {"annotations": {"note": "x"}}, "spec": {"minReadySeconds": None}}, MERGE)
    assert merged.metadata.annotations["note"] == "x"
    steps = [{"op": "test", "path": "/spec/replicas", "value": 0}, {"op": "remove", "path": "/metadata/annotations/note"}]
    assert "note" not in (patch(steps, JSON).metadata.annotations or {})
    refused(422, patch, [{"op": "test", "path": "/spec/replicas", "value": 7}], JSON)
    refused(415, patch, {}, "application/json")
    scale = apps.patch_namespaced_deployment_scale("p", ns, {"spec": {"replicas": 1}}, _content_type=MERGE)
    assert scale.spec.replicas == 1 and scale.kind == "Scale"
    condition = {"type": "Checked", "status": "True", "reason": "R", "message": "m"}
    status = apps.patch_namespaced_deployment_status("p", ns, {"status": {"conditions": [condition]}}, _content_type=STRATEGIC)
    assert "Checked" in [c.type for c in status.status.conditions]


def applies(ns):
    """Server-side apply: ownership, conflicts, force, withdrawal."""
    core = client.CoreV1Api()

    def apply(manager, data, **query):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data}
        return core.patch_namespaced_config_map("m", ns, body, field_manager=manager, _content_type=APPLY, **query)

    assert apply("one", {"a": "1", "b": "1"}).data == {"a": "1", "b": "1"}
    error = refused(409, apply, "two", {"a": "2"})
    assert 'conflict with \\"one\\": .data.a' in error.body, error.body
    assert apply("two", {"a": "2"}, force=True).data == {"a": "2", "b": "1"}
    left = apply("one", {"a": "2"})
    assert left.data == {"a": "2"}, "what no one applies is gone"
    managers = {m.manager: m for m in left.metadata.managed_fields}
    assert managers["one"].operation == "Apply" and "f:a" in managers["two"].fields_v1["f:data"]
    refused(422, core.patch_namespaced_config_map, "m", ns, {}, _content_type=APPLY)


def pages(ns):
    """Pages of a list: one snapshot, in order, with what remains."""
    core = client.CoreV1Api()
    for number in range(7):
        core.create_namespaced_config_map(ns, config_map(f"page-{number}", {"paged": "yes"}))
    seen, token, revisions = [], None, set()
    while True:
        page = core.list_namespaced_config_map(ns, label_selector="paged=yes", limit=3, _continue=token)
        revisions.add(page.metadata.resource_version)
        seen += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
        core.create_namespaced_config_map(ns, config_map(f"later-{len(seen)}", {"paged": "yes"}))
    assert seen == [f"page-{number}" for number in range(7)], seen
    assert len(revisions) == 1, revisions
    first = core.list_namespaced_config_map(ns, limit=1)
    assert first.metadata.remaining_item_count >= 7, first.metadata
    refused(400, core.list_namespaced_config_map, ns, limit=1, _continue="not a token")


def watches(ns):
    """A watch from a list, its bookmarks, its resumption after 410, and its end."""
    core = client.CoreV1Api()
    start = core.list_namespaced_config_map(ns, label_selector="w").metadata.resource_version
    core.create_namespaced_config_map(ns, config_map("w", {"w": ""}, k="1"))
    core.patch_namespaced_config_map("w", ns, {"data": {"k": "2"}})
    core.delete_namespaced_config_map("w", ns)
    seen = []
    watcher = watch.Watch()
    events = watcher.stream(core.list_namespaced_config_map, ns, label_selector="w", resource_version=start)
    for event in events:
        seen.append((event["type"], event["object"].data["k"]))
        if len(seen) == 3:
            watcher.stop()
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")], seen

    # More than the server keeps of the past, so that `start` is gone: the client lists anew.
    for number in range(32):
        body = {"metadata": {"name": "big"}, "data": {"k": str(number % 10) * 900_000}}
        core.patch_namespaced_config_map("big", ns, {**body, "apiVersion": "v1", "kind": "ConfigMap"},
                                         field_manager="w", _content_type=APPLY)
    listing = core.list_namespaced_config_map
    error = refused(410, lambda: list(watch.Watch().stream(listing, ns, resource_version=start, timeout_seconds=5)))
    assert "too old resource version" in error.reason, error
    again = listing(ns, label_selector="w").metadata.resource_version
    later = threading.Timer(0.2, core.create_namespaced_config_map, (ns, config_map("after", {"w": ""})))
    later.start()
    for event in watcher.stream(listing, ns, label_selector="w", resource_version=again):
        assert (event["type"], event["object"].metadata.name) == ("ADDED", "after"), event
        watcher.stop()
    later.join()
    # No events, but an end in time.
    assert list(watch.Watch().stream(listing, ns, label_selector="none", timeout_seconds=1)) == []


def streams(ns):
    """Logs, followed logs, and exec over a WebSocket with input, exit code and a terminal."""
    core = client.CoreV1Api()
    container = client.V1Container(name="c", image=IMAGE, ports=[client.V1ContainerPort(container_port=8080)])
    pod = client.V1Pod(metadata=client.V1ObjectMeta(name="p"), spec=client.V1PodSpec(containers=[container]))
    core.create_namespaced_pod(ns, pod)
    watcher = watch.Watch()
    for event in watcher.stream(core.list_namespaced_pod, ns, field_selector="metadata.name=p", timeout_seconds=60):
        if any(c.type == "Ready" and c.status == "True" for c in event["object"].status.conditions or []):
            watcher.stop()
    lines = watch.Watch().stream(core.read_namespaced_pod_log, name="p", namespace=ns)
    assert "listens on port 8080" in next(iter(lines))
    assert "listens" in core.read_namespaced_pod_log("p", ns, tail_lines=1)
    refused(400, core.read_namespaced_pod_log, "p", ns, container="other")
    execute = lambda command, **more: stream.stream(
        core.connect_get_namespaced_pod_exec, "p", ns, command=command, stdout=True, stderr=True, **more)
    assert "VERSION=1" in execute(["env"], stdin=False, tty=False)
    assert "TERM=xterm" in execute(["env"], stdin=True, tty=True)
    shell = execute(["cat"], stdin=True, tty=False, _preload_content=False)
    shell.write_stdin("to and fro\n")
    assert shell.readline_stdout(timeout=30) == "to and fro"
    shell.close()
    failed = execute(["/bin/false"], stdin=False, tty=False, _preload_content=False)
    failed.run_forever(timeout=30)
    assert failed.returncode == 1, failed.returncode
    forward = stream.portforward(core.connect_get_namespaced_pod_portforward, "p", ns, ports="8080")
    socket = forward.socket(8080)
    socket.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = b""
    while part := socket.recv(4096):
        answer += part
    assert b"Hello from pod p" in answer and forward.error(8080) is None, answer
    gone = core.delete_namespaced_pod("p", ns, grace_period_seconds=0)
    assert gone.metadata.name == "p"


def dynamics(ns):
    """The dynamic client: discovery, and kinds by name."""
    dyn = dynamic.DynamicClient(client.ApiClient())
    maps = dyn.resources.get(api_version="v1", kind="ConfigMap")
    assert maps.namespaced and "watch" in maps.verbs
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"}, "data": {"k": "1"}}
    made = maps.create(body=body, namespace=ns)
    maps.patch(body={"data": {"k": "2"}}, name="d", namespace=ns, content_type=MERGE)
    assert maps.get(name="d", namespace=ns).data.k == "2"
    applied = maps.server_side_apply(
        body={**body, "data": {"k": "3"}}, namespace=ns, field_manager="dyn", force_conflicts=True)
    assert applied.data.k == "3"
    for event in maps.watch(namespace=ns, name="d", resource_version=made.metadata.resourceVersion, timeout=10):
        assert event["type"] == "MODIFIED" and event["object"].metadata.name == "d", event
        break
    page = maps.get(namespace=ns, limit=1)
    assert len(page["items"]) == 1 and page.metadata["continue"]
    maps.delete(name="d", namespace=ns)
    refused(404, maps.get, name="d", namespace=ns)
    deployments = dyn.resources.get(api_version="apps/v1", kind="Deployment")
    assert deployments.get(namespace=ns).kind == "DeploymentList"
    assert dyn.resources.get(kind="Lease").group_version == "coordination.k8s.io/v1"


PARTS = [objects, patches, applies, pages, watches, streams, dynamics]

if __name__ == "__main__":
    part, kubeconfig, namespace = sys.argv[1:]
    config.load_kube_config(kubeconfig)
    {run.__name__: run for run in PARTS}[part](namespace)
