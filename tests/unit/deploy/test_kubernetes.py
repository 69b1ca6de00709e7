"""deploy/kubernetes is valid by Kubernetes' JSON Schemas, and its files agree with each other and the settings."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from nexus_stream import __version__
from nexus_stream.settings import Settings, load_settings
from tests.deploy_files import KUBERNETES, kustomized

# The oldest supported version and the newest with a schema.
VERSIONS = ("1.31", kubernetes_validate.latest_version())
CUSTOM = json.loads((Path(__file__).parent / "custom_resources.json").read_text())
UNLISTED = {"secret.example.yaml"}

Object = dict[str, Any]


def every_document() -> list[Object]:
    """The documents of all files, even if no kustomization lists them."""
    return [
        document
        for path in sorted(KUBERNETES.rglob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document and path.name != "kustomization.yaml"
    ]


def name_of(item: Object) -> str:
    return f"{item['kind']}/{item['metadata']['name']}"


def pods(objects: list[Object]) -> dict[str, Object]:
    return {
        name_of(item): item["spec"]["template"]
        for item in objects
        if item["kind"] in {"Deployment", "StatefulSet", "Job"}
    }


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    """The objects that base, setup and the optional parts create."""
    found = [*kustomized("base"), *kustomized("autoscaling"), *kustomized("monitoring")]
    # setup contains the same configuration again.
    return [*found, *[item for item in kustomized("setup") if item not in found]]


@pytest.fixture(scope="module")
def settings(objects: list[Object]) -> Settings:
    data = next(item["data"] for item in objects if item["metadata"]["name"] == "nexus-settings")
    return load_settings("tool", {**data, "NEXUS_KAFKA_USERNAME": "user", "NEXUS_KAFKA_PASSWORD": "word"})


@pytest.mark.parametrize("item", every_document(), ids=name_of)
def test_it_fits_its_schema_without_unknown_fields(item: Object) -> None:
    if item["kind"] in CUSTOM:
        Draft202012Validator(CUSTOM[item["kind"]]).validate(item)
        return
    for version in VERSIONS:
        kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("kind", ["Deployment", "ScaledObject", "PodMonitor"])
def test_a_mistyped_field_is_found(kind: str) -> None:
    item = next(item for item in every_document() if item["kind"] == kind)
    broken = {**item, "spec": {**item["spec"], "replica": 2}}
    if kind in CUSTOM:
        assert not Draft202012Validator(CUSTOM[kind]).is_valid(broken)
    else:
        with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
            kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_every_file_is_listed_somewhere() -> None:
    listed = {
        (path.parent / resource).resolve()
        for path in KUBERNETES.rglob("kustomization.yaml")
        for resource in yaml.safe_load(path.read_text()).get("resources", [])
    }
    files = {path for path in KUBERNETES.rglob("*.yaml") if path.name not in {"kustomization.yaml"} | UNLISTED}
    assert files <= listed
    assert all(path.exists() for path in listed)


@pytest.mark.parametrize("folder", ["base", "setup", "example"])
def test_kubectl_builds_it(folder: str) -> None:
    """With patches and images, if kubectl is installed."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed; other tests check each file")
    answer = subprocess.run(
        [kubectl, "kustomize", str(KUBERNETES / folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stderr
    built = [document for document in yaml.safe_load_all(answer.stdout) if document]
    for item in built:
        if item["kind"] not in CUSTOM:
            kubernetes_validate.validate(item, VERSIONS[-1], strict=True)
    images = {
        container["image"]
        for template in pods(built).values()
        for container in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]
    }
    assert images == {f"registry.example.com/nexus-stream:{__version__}"}
    if folder == "example":
        owned = [item for item in built if item["kind"] == "ScaledObject"]
        targets = {(item["spec"]["scaleTargetRef"]["kind"], item["metadata"]["name"]) for item in owned}
        scaled = [item for item in built if (item["kind"], item["metadata"]["name"]) in targets]
        assert len(scaled) == len(owned) == 2
        assert all("replicas" not in item["spec"] for item in scaled)
        (config,) = [item for item in built if item["metadata"]["name"] == "nexus-settings"]
        enricher = next(item for item in owned if item["metadata"]["name"] == "nexus-enricher")
        assert float(config["data"]["NEXUS_CLAUDE_SHARE"]) * enricher["spec"]["maxReplicaCount"] <= 1


def test_all_kustomizations_name_one_image_of_this_version() -> None:
    images = [
        (image["name"], image["newName"], image["newTag"])
        for path in KUBERNETES.rglob("kustomization.yaml")
        for image in yaml.safe_load(path.read_text()).get("images", [])
    ]
    assert len(images) == 2
    assert set(images) == {("nexus-stream", "registry.example.com/nexus-stream", __version__)}


def test_every_container_runs_unprivileged(objects: list[Object]) -> None:
    for name, template in pods(objects).items():
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["serviceAccountName"] == "nexus", name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] == 10001, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["image"] == "nexus-stream", name


def test_every_container_can_read_the_certificates(objects: list[Object]) -> None:
    """Each connects to Kafka or to the database. Both may have a private CA."""
    source = {"name": "certificates", "configMap": {"name": "nexus-certificates", "optional": True}}
    mount = {"name": "certificates", "mountPath": "/etc/nexus/certificates", "readOnly": True}
    for name, template in pods(objects).items():
        pod = template["spec"]
        assert source in pod["volumes"], name
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert mount in container["volumeMounts"], f"{name}: {container['name']}"


def test_every_mount_has_its_volume(objects: list[Object]) -> None:
    for item in objects:
        if item["kind"] not in {"Deployment", "StatefulSet", "Job"}:
            continue
        pod = item["spec"]["template"]["spec"]
        claims = [claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])]
        volumes = {volume["name"] for volume in pod.get("volumes", [])} | set(claims)
        mounts = {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])}
        assert mounts == volumes, name_of(item)


def test_selectors_find_pods_and_ports_by_name(objects: list[Object]) -> None:
    templates = pods(objects)
    for item in objects:
        spec = item.get("spec", {})
        if item["kind"] == "Service":
            selector = spec["selector"]
        elif item["kind"] in {"PodDisruptionBudget", "Deployment", "StatefulSet", "PodMonitor"}:
            selector = spec["selector"]["matchLabels"]
        elif item["kind"] == "NetworkPolicy":
            selector = spec["podSelector"].get("matchLabels", {})
        else:
            continue
        found = [pod for pod in templates.values() if selector.items() <= pod["metadata"]["labels"].items()]
        assert found, name_of(item)
        named = {
            port["name"]
            for pod in found
            for container in pod["spec"]["containers"]
            for port in container.get("ports", [])
        }
        wanted = [port["targetPort"] for port in spec.get("ports", [])] if item["kind"] == "Service" else []
        wanted += [endpoint["port"] for endpoint in spec.get("podMetricsEndpoints", [])]
        wanted += [
            port["port"] for rule in spec.get("ingress", []) for port in rule["ports"] if isinstance(port["port"], str)
        ]
        assert set(wanted) <= named, name_of(item)


def test_all_long_running_parts_except_the_console_survive_a_drained_machine(objects: list[Object]) -> None:
    budgets = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "PodDisruptionBudget"}
    replicated = {
        item["metadata"]["name"]: item["spec"]["replicas"]
        for item in objects
        if item["kind"] in {"Deployment", "StatefulSet"} and item["spec"]["replicas"] > 1
    }
    assert set(replicated) == {"nexus-gateway", "nexus-enricher", "nexus-sink"} == set(budgets)
    assert all(budget["maxUnavailable"] < replicated[name] for name, budget in budgets.items())


def test_autoscaling_stays_within_the_limits_of_the_settings(objects: list[Object], settings: Settings) -> None:
    scaled = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "ScaledObject"}
    topics = {"nexus-enricher": settings.ingestion_topic, "nexus-sink": settings.enriched_topic}
    groups = {"nexus-enricher": settings.enricher_app_id, "nexus-sink": settings.sink_app_id}
    assert scaled.keys() == topics.keys()
    for name, spec in scaled.items():
        (trigger,) = spec["triggers"]
        assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"] <= settings.topic_partitions, name
        assert trigger["metadata"]["topic"] == topics[name]
        assert trigger["metadata"]["consumerGroup"] == groups[name]
        assert trigger["metadata"]["bootstrapServers"] == settings.kafka_bootstrap_servers
        assert trigger["metadata"]["sasl"] == settings.kafka_sasl_mechanism.lower().replace("-sha-", "_sha")
        assert trigger["metadata"]["tls"] == "enable"
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        # Each step is a rebalance. It must end before the next step.
        for direction in ("scaleUp", "scaleDown"):
            (policy,) = behavior[direction]["policies"]
            assert policy["value"] == 1
            assert policy["periodSeconds"] > 2 * settings.kafka_rebalance_timeout_seconds
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 900
    connections = scaled["nexus-sink"]["maxReplicaCount"] * settings.database_pool_max
    # The sinks, the console and the setup job stay within the limit of Supabase's session pooler.
    assert connections + 2 <= 15


def test_the_secret_example_has_every_secret_of_the_pods(objects: list[Object]) -> None:
    form = {
        (item["kind"], item["metadata"]["name"])
        for item in yaml.safe_load_all((KUBERNETES / "secret.example.yaml").read_text())
    }
    named = set()
    for template in pods(objects).values():
        for container in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]:
            for source in container["envFrom"]:
                ((kind, reference),) = source.items()
                named.add((kind, reference["name"]))
    secrets = {("Secret", name) for kind, name in named if kind == "secretRef"}
    assert secrets == {entry for entry in form if entry[0] == "Secret"}
    (authentication,) = [item for item in objects if item["kind"] == "TriggerAuthentication"]
    assert {("Secret", entry["name"]) for entry in authentication["spec"]["secretTargetRef"]} <= secrets


def test_only_connections_with_a_policy_are_allowed(objects: list[Object]) -> None:
    policies = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "NetworkPolicy"}
    closed = policies["nexus-closed"]
    assert set(closed["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in closed
    covered = closed["podSelector"]["matchLabels"].items()
    assert all(covered <= template["metadata"]["labels"].items() for template in pods(objects).values())
    broker_ports = {port["port"] for rule in closed["egress"] for port in rule["ports"]}
    settings = next(item["data"] for item in objects if item["metadata"]["name"] == "nexus-settings")
    assert int(settings["NEXUS_KAFKA_BOOTSTRAP_SERVERS"].rpartition(":")[2]) in broker_ports
    open_to_all = [
        name for name, spec in policies.items() if any("from" not in rule for rule in spec.get("ingress", []))
    ]
    assert open_to_all == ["nexus-gateway-from-anywhere"]
