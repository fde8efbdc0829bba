"""The files for containers and clusters: they parse, agree with one another, and ask for what there is.

No image is built here and no cluster is asked: what only those can tell is not tested.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tuwen.cli.serve import serve
from tuwen.server.routes import health_router
from tuwen.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
STAGE = re.compile(r"^FROM (\S+) AS (\w+)\n(.*?)(?=^FROM |\Z)", re.MULTILINE | re.DOTALL)
STAGES = {name: body for _, name, body in STAGE.findall((DEPLOY / "Dockerfile").read_text(encoding="utf-8"))}
MANIFESTS = [
    manifest
    for name in ("qdrant.yaml", "tuwen.yaml")
    for manifest in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text(encoding="utf-8"))
]


def kinds(kind: str) -> dict[str, dict]:
    return {one["metadata"]["name"]: one for one in MANIFESTS if one["kind"] == kind}


def pods() -> Iterator[tuple[str, dict, dict]]:
    """The name, the pod and the spec of whatever runs pods."""
    for one in MANIFESTS:
        if one["kind"] in ("Deployment", "StatefulSet"):
            yield one["metadata"]["name"], one["spec"]["template"], one["spec"]


def test_there_is_an_image_for_each_use() -> None:
    assert set(STAGES) == {"wheel", "built", "export", "cuda", "cpu"}


@pytest.mark.parametrize("name", ["cpu", "cuda", "export"])
def test_nothing_runs_as_root(name: str) -> None:
    users = re.findall(r"^USER (\S+)$", STAGES[name], re.MULTILINE)
    assert users == ["10001"]
    assert STAGES[name].index("USER") < STAGES[name].index("ENTRYPOINT")


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_the_service_has_a_health_check(name: str) -> None:
    assert "/health/ready" in STAGES[name]


def test_every_base_has_a_version_and_every_copied_file_is_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert all(re.search(r":\S*\d", base) for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE))
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (DEPLOY.parent / name).exists(), name
            assert f"!{name}" in (DEPLOY.parent / ".dockerignore").read_text(encoding="utf-8"), name


def test_the_service_starts_with_what_is_set(tmp_path: Path) -> None:
    """`start`, with a `tuwen` that prints what it is called with."""
    (tmp_path / "tuwen").write_text('#!/bin/sh\nprintf "%s\\n" "$@" "$TUWEN_SERVE_KEY"\n', encoding="utf-8")
    (tmp_path / "tuwen").chmod(0o755)
    (tmp_path / "key").write_text("open sesame\n", encoding="utf-8")
    given = {"TUWEN_MODEL": "demo", "TUWEN_ROOT": "/photos", "TUWEN_KEY_FILE": str(tmp_path / "key")}
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", **given}
    command = [str(DEPLOY / "start"), "--allow-upload"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    assert words[:2] == ["serve", "--allow-upload"]
    assert words[-5:] == ["--model", "demo", "--root", "/photos", "open sesame"]
    assert {"serve_key", "serve_read_key"} <= set(Settings.model_fields)
    known = {name for option in serve.params for name in (*option.opts, *option.secondary_opts)}
    written = set(re.findall(r"(?<=[ (])--[a-z-]+", (DEPLOY / "start").read_text(encoding="utf-8")))
    assert written <= known


def test_compose_names_only_what_it_has() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    for service in compose["services"].values():
        assert set(service["networks"]) <= set(compose["networks"])
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        assert set(service.get("depends_on", [])) <= set(compose["services"])
        places = {volume.split(":")[0] for volume in service["volumes"]}
        assert {place for place in places if not place.startswith(".")} <= set(compose["volumes"])
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
    tuwen = compose["services"]["tuwen"]
    assert tuwen["build"]["target"] in STAGES
    assert tuwen["ports"] == ["127.0.0.1:8000:8000"]
    assert "ports" not in compose["services"]["qdrant"]


def test_every_manifest_is_of_a_stable_kind() -> None:
    stable = {"v1", "apps/v1", "policy/v1", "autoscaling/v2", "networking.k8s.io/v1"}
    assert {one["apiVersion"] for one in MANIFESTS} <= stable
    resources = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert all((DEPLOY / "kubernetes" / name).is_file() for name in resources)


def test_labels_meet() -> None:
    for name, template, spec in pods():
        assert template["metadata"]["labels"] == spec["selector"]["matchLabels"] == {"app": name}
        assert kinds("Service")[name]["spec"]["selector"] == {"app": name}
    assert kinds("PodDisruptionBudget")["tuwen"]["spec"]["selector"]["matchLabels"] == {"app": "tuwen"}
    scaled = kinds("HorizontalPodAutoscaler")["tuwen"]["spec"]["scaleTargetRef"]
    assert scaled["name"] in kinds(scaled["kind"])


def test_pods_are_let_do_little_and_mount_what_they_have() -> None:
    for _, template, spec in pods():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        claims = {one["metadata"]["name"] for one in spec.get("volumeClaimTemplates", [])}
        volumes = {one["name"] for one in pod["volumes"]} | claims
        for container in pod["containers"]:
            assert {one["name"] for one in container["volumeMounts"]} == volumes
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            ports = {port["name"] for port in container["ports"]}
            probes = [value for key, value in container.items() if key.endswith("Probe")]
            assert len(probes) >= 2
            assert {probe["httpGet"]["port"] for probe in probes} <= ports
            assert container["resources"]["limits"]["memory"]


def test_probes_ask_for_what_the_service_answers() -> None:
    (container,) = kinds("Deployment")["tuwen"]["spec"]["template"]["spec"]["containers"]
    asked = {value["httpGet"]["path"] for key, value in container.items() if key.endswith("Probe")}
    assert asked <= {route.path for route in health_router.routes}
    assert container["image"].removeprefix("tuwen:") in STAGES
