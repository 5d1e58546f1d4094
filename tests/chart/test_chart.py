"""The Helm chart: what it renders, what its values refuse, and what its service account may do on a real API server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from storage_operator.cli.main import app
from storage_operator.settings import PREFIX, OperatorSettings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "llmspell-storage"
READ_SECRETS = {"get", "list", "watch"}


def container(rendered: Any) -> dict[str, Any]:
    """Return the operator's container."""
    (found,) = rendered.one("Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_lint(chart: Any) -> None:
    """Helm's own linter finds nothing, strictly."""
    done = chart.run("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


def test_definitions_are_those_of_the_source(chart: Any) -> None:
    """The chart installs exactly crds/, each with the policy that keeps it at an uninstall."""
    rendered = {each["metadata"]["name"]: each for each in chart.template().of("CustomResourceDefinition")}
    for source in sorted((ROOT / "crds").glob("*.yaml")):
        wanted = yaml.safe_load(source.read_text(encoding="utf-8"))
        found = rendered.pop(wanted["metadata"]["name"])
        assert found["spec"] == wanted["spec"]
        assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert rendered == {}


def test_definitions_can_be_left_out_or_given_up(chart: Any) -> None:
    """Somebody else may install the definitions; and they need not be kept."""
    assert chart.template({"crds": {"create": False}}).of("CustomResourceDefinition") == []
    kept = chart.template({"crds": {"keep": False}}).of("CustomResourceDefinition")
    assert [each["metadata"].get("annotations") for each in kept] == [None] * 3


def test_pod_is_restricted(chart: Any) -> None:
    """The pod satisfies the restricted pod security standard, with a root file system that cannot be written."""
    pod = chart.template().one("Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = pod["containers"][0]["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)


def test_probes_ports_and_resources(chart: Any) -> None:
    """Probes ask /healthz on the port that the operator is told to serve, and memory is bounded."""
    operator = container(chart.template())
    probes = [operator[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
    assert probes == [{"path": "/healthz", "port": "http"}] * 3
    assert operator["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    assert "--http-port=8080" in operator["args"]
    assert operator["resources"]["limits"]["memory"]


def test_namespaced_by_default(chart: Any) -> None:
    """Without further values the operator watches, and reads Secrets in, the release's namespace only."""
    rendered = chart.template()
    assert {name for name, rule in rendered.rules("Role") if "secrets" in rule["resources"]} == {"storage"}
    assert not any("secrets" in rule["resources"] for _, rule in rendered.rules("ClusterRole"))
    assert [each for each in container(rendered)["args"] if "namespace=" in each and "lease" not in each] == [
        "--namespace=storage"
    ]


def test_listed_namespaces(chart: Any) -> None:
    """Each listed namespace gets a role and its binding, the release's own one only once."""
    rendered = chart.template({"watchNamespaces": ["team-a", "storage", "team-b"]})
    secrets = sorted(name for name, rule in rendered.rules("Role") if "secrets" in rule["resources"])
    assert secrets == ["storage", "team-a", "team-b"]
    bound = {each["metadata"]["namespace"] for each in rendered.of("RoleBinding")}
    assert bound == {"storage", "team-a", "team-b"}
    assert all(each["subjects"][0]["namespace"] == "storage" for each in rendered.of("RoleBinding"))
    assert {"--namespace=team-a", "--namespace=team-b"} <= set(container(rendered)["args"])


def test_secrets_of_the_whole_cluster_are_an_opt_in(chart: Any) -> None:
    """The opt-in watches everything, by a cluster role."""
    rendered = chart.template({"rbac": {"clusterWideSecrets": True}})
    verbs = [set(rule["verbs"]) for _, rule in rendered.rules("ClusterRole") if "secrets" in rule["resources"]]
    assert len(verbs) == 1
    assert verbs[0] >= READ_SECRETS
    assert "--all-namespaces" in container(rendered)["args"]
    assert not any(each.startswith("--namespace=") for each in container(rendered)["args"])


@pytest.mark.parametrize("values", [{}, {"rbac": {"clusterWideSecrets": True}}], ids=["namespaced", "cluster-wide"])
def test_no_wildcards_and_no_escalation(chart: Any, values: dict[str, Any]) -> None:
    """No rule uses a wildcard or touches roles, service accounts, pods or workloads."""
    rendered = chart.template(values)
    for _, rule in [*rendered.rules("Role"), *rendered.rules("ClusterRole")]:
        words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert "*" not in words
        assert not words & {"escalate", "bind", "impersonate", "pods", "serviceaccounts", "roles", "deployments"}


def test_leader_election_decides_the_strategy(chart: Any) -> None:
    """With a Lease the next process waits beside the old one; without, the old one goes first."""
    led = chart.template({"replicas": 2})
    alone = chart.template({"leaderElection": {"enabled": False}})
    assert led.one("Deployment")["spec"]["strategy"]["type"] == "RollingUpdate"
    assert "--lease-name=demo-llmspell-storage" in container(led)["args"]
    assert alone.one("Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert "--no-leader-election" in container(alone)["args"]
    assert not any("leases" in rule["resources"] for _, rule in alone.rules("Role"))


def test_the_operator_understands_its_arguments_and_environment(chart: Any) -> None:
    """What the Deployment passes is what the program takes: parsed by the operator's own settings."""
    operator = container(chart.template({"leaderElection": {"durationSeconds": 30}, "watchNamespaces": ["team-a"]}))
    environment = {each["name"]: each["value"] for each in operator["env"] if "value" in each}
    assert OperatorSettings.from_env(environment).lease_duration_seconds == 30.0
    known = {f"{PREFIX}{name.upper()}" for name in OperatorSettings.__dataclass_fields__}
    assert set(environment) <= known
    help_text = CliRunner().invoke(app, ["operator", "run", "--help"], env={"COLUMNS": "200"}).output
    for option in operator["args"][2:]:
        assert option.split("=")[0] in help_text


def test_optional_objects(chart: Any) -> None:
    """Budget and monitor are off by default, and select the operator's pods when on."""
    plain = chart.template()
    assert not plain.of("PodDisruptionBudget")
    assert not plain.of("ServiceMonitor")
    full = chart.template({"podDisruptionBudget": {"enabled": True}, "serviceMonitor": {"enabled": True}})
    labels = full.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    for each in (full.one("PodDisruptionBudget"), full.one("ServiceMonitor")):
        assert each["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert full.one("Service")["spec"]["selector"].items() <= labels.items()


def test_image_by_digest(chart: Any) -> None:
    """The tag is the release's version unless it or a digest is given."""
    digest = "sha256:" + "0" * 64
    assert container(chart.template())["image"] == "llmspell-storage:0.1.0"
    assert container(chart.template({"image": {"tag": "next"}}))["image"] == "llmspell-storage:next"
    assert container(chart.template({"image": {"digest": digest}}))["image"] == f"llmspell-storage@{digest}"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param({"replica": 2}, "replica", id="unknown-value"),
        pytest.param({"image": {"name": "x"}}, "name", id="unknown-nested-value"),
        pytest.param({"replicas": "two"}, "/replicas", id="type"),
        pytest.param({"watchNamespaces": ["Team_A"]}, "/watchNamespaces/0", id="namespace"),
        pytest.param({"watchNamespaces": "team-a"}, "/watchNamespaces", id="not-a-list"),
        pytest.param({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy", id="enumeration"),
        pytest.param({"image": {"digest": "sha256:12"}}, "/image/digest", id="digest"),
        pytest.param({"rbac": {"clusterWideSecrets": "yes"}}, "/rbac/clusterWideSecrets", id="boolean"),
        pytest.param({"log": {"level": "debug"}}, "/log/level", id="log-level"),
        pytest.param({"service": {"port": 0}}, "/service/port", id="port"),
        pytest.param({"serviceMonitor": {"interval": "30"}}, "/serviceMonitor/interval", id="interval"),
        pytest.param({"env": [{"value": "x"}]}, "/env/0", id="env-without-name"),
        pytest.param(
            {"replicas": 2, "leaderElection": {"enabled": False}}, "need leaderElection.enabled", id="two-without-lease"
        ),
        pytest.param(
            {"leaderElection": {"retryPeriodSeconds": 12}},
            "retryPeriodSeconds < renewDeadlineSeconds < durationSeconds",
            id="lease-times",
        ),
        pytest.param(
            {"rbac": {"clusterWideSecrets": True}, "watchNamespaces": ["a"]},
            "leave watchNamespaces empty",
            id="both-scopes",
        ),
    ],
)
def test_wrong_values_are_refused(chart: Any, values: dict[str, Any], says: str) -> None:
    """A value that is misspelt, mistyped or contradicts another ends with a message that names it."""
    done = chart.run("template", "demo", str(CHART), values=values)
    assert done.returncode != 0
    assert says in done.stderr


def test_every_value_has_a_schema() -> None:
    """No value of values.yaml is outside the schema, and every object of the schema is closed."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert set(values) == set(schema["properties"]) - {"global"}
    for name, node in schema["properties"].items():
        if "properties" in node:
            assert node["additionalProperties"] is False, name
            assert set(values[name]) <= set(node["properties"])


def test_generated_files_are_current() -> None:
    """The reference page and the chart's copies of the definitions follow from crds/."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "custom-resources"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.cluster
def test_install_and_uninstall(chart: Any, control_plane: Any, fresh_namespace: str) -> None:
    """The release installs on a real API server; its account may do what it needs and no more; definitions survive."""
    common = ("--kubeconfig", str(control_plane.kubeconfig), "--namespace", fresh_namespace)
    done = chart.run(
        "install", "demo", str(CHART), *common, "--take-ownership", "--force-conflicts", values={"watchNamespaces": []}
    )
    assert done.returncode == 0, done.stderr
    try:
        assert "kubectl explain tenant.spec" in done.stdout
        deployment = control_plane.get("deployment", "demo-llmspell-storage", "-n", fresh_namespace)
        assert deployment["spec"]["replicas"] == 1
        account = f"system:serviceaccount:{fresh_namespace}:demo-llmspell-storage"

        def may(verb: str, resource: str, namespace: str = fresh_namespace) -> bool:
            asked = control_plane.run("auth", "can-i", verb, resource, "-n", namespace, "--as", account, check=False)
            return bool(asked.stdout.strip() == "yes")

        allowed = [
            ("watch", "tenants.storage.llmspell.dev"),
            ("patch", "storageclusters.storage.llmspell.dev/status"),
            ("delete", "secrets"),
            ("create", "events"),
            ("create", "leases.coordination.k8s.io"),
            ("get", "namespaces"),
        ]
        refused = [
            ("create", "tenants.storage.llmspell.dev"),
            ("delete", "tenants.storage.llmspell.dev"),
            ("get", "pods"),
            ("create", "roles.rbac.authorization.k8s.io"),
            ("delete", "namespaces"),
            ("delete", "leases.coordination.k8s.io"),
        ]
        assert [each for each in allowed if not may(*each)] == []
        assert [each for each in refused if may(*each)] == []
        assert not may("get", "secrets", "kube-system")
        assert not may("list", "tenants.storage.llmspell.dev", "default")
    finally:
        gone = chart.run("uninstall", "demo", *common)
    assert gone.returncode == 0, gone.stderr
    control_plane.run("get", "crd", "tenants.storage.llmspell.dev")
    assert control_plane.run("get", "deployment", "-n", fresh_namespace, "-o", "name").stdout == ""


@pytest.mark.cluster
def test_objects_pass_the_restricted_standard(chart: Any, control_plane: Any, fresh_namespace: str) -> None:
    """In a namespace that enforces the restricted standard the pod template raises no warning."""
    label = "pod-security.kubernetes.io/warn=restricted"
    control_plane.run("label", "namespace", fresh_namespace, label)
    deployment = chart.template(namespace=fresh_namespace).one("Deployment")
    applied = control_plane.run("apply", "--dry-run=server", "-f", "-", manifest=deployment)
    assert "PodSecurity" not in applied.stderr
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    loosened = control_plane.run("apply", "--dry-run=server", "-f", "-", manifest=deployment)
    assert "PodSecurity" in loosened.stderr
