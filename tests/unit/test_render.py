from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from lws_core import names
from lws_runtime.cli.render import command

SET = """
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata:
  name: serve
  uid: {uid}
spec:
  replicas: 2
  networkConfig:
    subdomainPolicy: {policy}
  leaderWorkerTemplate:
    size: {size}
    workerTemplate:
      spec:
        containers:
        - name: main
          image: img
          resources:
            limits:
              cpu: 500m
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path, policy: str = "Shared", size: int = 3, uid: str = '""') -> Path:
    path = folder / "set.yaml"
    path.write_text(SET.format(policy=policy, size=size, uid=uid))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def objects(*arguments: object) -> list[dict[str, Any]]:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return list(yaml.safe_load_all(result.stdout))


def titles(found: list[dict[str, Any]]) -> list[str]:
    return [f"{item['kind']}/{item['metadata']['name']}" for item in found]


def test_render_always_prints_objects_in_the_order_they_are_made(manifest: Path) -> None:
    found = titles(objects(manifest))
    assert found[0].startswith("ControllerRevision/serve-")
    assert found[1:] == ["StatefulSet/serve", "Service/serve", "StatefulSet/serve-0", "StatefulSet/serve-1"]


def test_render_of_unique_subdomains_always_prints_a_service_for_each_group(tmp_path: Path) -> None:
    found = titles(objects(written(tmp_path, "UniquePerReplica")))
    assert found[2:] == ["Service/serve-0", "StatefulSet/serve-0", "Service/serve-1", "StatefulSet/serve-1"]


def test_render_of_leaders_alone_never_prints_workers(tmp_path: Path) -> None:
    assert titles(objects(written(tmp_path, size=1)))[1:] == ["StatefulSet/serve", "Service/serve"]


def test_render_with_pods_always_prints_them_as_admitted(manifest: Path) -> None:
    found = objects("--pods", "--group", "1", manifest)
    assert titles(found)[2:] == [
        "Service/serve",
        "Pod/serve-1",
        "StatefulSet/serve-1",
        "Pod/serve-1-1",
        "Pod/serve-1-2",
    ]
    last = found[-1]
    assert last["metadata"]["labels"][names.WORKER_INDEX] == "2"
    assert {"name": "LWS_LEADER_ADDRESS", "value": "serve-1.serve.default"} in last["spec"]["containers"][0][
        "env"
    ]


def test_render_for_gangs_always_prints_a_pod_group_for_each_group(manifest: Path) -> None:
    found = objects("--gang", "--pods", "--group", "0", manifest)
    (gang,) = (item for item in found if item["kind"] == "PodGroup")
    assert gang["spec"] == {"minMember": 3, "minResources": {"cpu": "1500m"}}
    pods = [item for item in found if item["kind"] == "Pod"]
    assert {pod["metadata"]["annotations"][names.POD_GROUP_NAME] for pod in pods} == {
        gang["metadata"]["name"]
    }


def test_render_never_prints_an_owner_whose_uid_is_not_known(tmp_path: Path) -> None:
    assert all("ownerReferences" not in item["metadata"] for item in objects("--pods", written(tmp_path)))
    owned = [
        item
        for item in objects("--pods", written(tmp_path, uid="u-1"))
        if "ownerReferences" in item["metadata"]
    ]
    assert [title.partition("/")[0] for title in titles(owned)] == [
        "ControllerRevision",
        "StatefulSet",
        "Service",
    ]


def test_render_of_an_unknown_group_is_always_refused(manifest: Path) -> None:
    result = run("--group", "2", manifest)
    assert result.exit_code == 2
    assert "there is no group 2: spec.replicas is 2" in result.stderr


def test_render_of_a_set_without_a_name_is_always_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text().replace("  name: serve", "  generateName: serve-"))
    result = run(path)
    assert result.exit_code == 2
    assert "metadata.name is needed" in result.stderr


def test_render_of_a_wrong_set_is_always_refused(tmp_path: Path) -> None:
    result = run(written(tmp_path, size=0))
    assert result.exit_code == 2
    assert "size must be equal or greater than 1" in result.stderr
    assert result.stdout == ""


def test_render_help_always_has_an_example() -> None:
    assert "lws render --pods --group 0 examples/lws.yaml" in run("--help").stdout
