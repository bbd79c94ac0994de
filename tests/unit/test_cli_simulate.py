"""`lws simulate`: options, forms of output, golden files, exit codes, and input that cannot be used."""

from __future__ import annotations

import importlib.util
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from building import a_set
from click.testing import CliRunner, Result

from lws_core.values import FrozenMap, Json
from lws_runtime.cli import main, simulate
from lws_runtime.yaml_values import to_yaml

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "lws-rollout-strategy.yaml"
GUIDE = ROOT / "examples" / "scenarios" / "guide-stages.yaml"
SVG = "{http://www.w3.org/2000/svg}"
TEMPLATE = "spec.leaderWorkerTemplate"


def run(*arguments: str | int | Path, stdin: str | bytes | None = None) -> Result:
    result = CliRunner().invoke(main, ["simulate", *map(str, arguments)], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def written(path: Path, *values: FrozenMap[Json] | str) -> Path:
    texts = [value if isinstance(value, str) else to_yaml(value) for value in values]
    path.write_text("---\n".join(texts), encoding="utf-8")
    return path


def named(name: str, replicas: int = 2, **fields: Any) -> FrozenMap[Json]:
    return a_set({"replicas": replicas}, {"size": 2, **fields}, {"name": name})


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return written(tmp_path / "one.yaml", named("serve"))


def scenario(folder: Path, steps: str, cluster: str = "{}") -> Path:
    text = f"apiVersion: simulation.lws.x-k8s.io/v1\nkind: Scenario\ncluster: {cluster}\nsteps:\n{steps}\n"
    return written(folder / "scenario.yaml", text)


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code in (0, 3), result.output
    (item,) = json.loads(result.stdout)["items"]
    found: dict[str, Any] = item
    return found


def notes(result: Result) -> list[str]:
    return [stage["note"] for stage in document(result)["stages"]]


def refused(result: Result) -> list[str]:
    """The lines of a refusal: exit code 2, nothing printed, each line an error."""
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    lines = result.stderr.splitlines()
    assert all(line.startswith(("error: ", "note: ")) for line in lines), lines
    return [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]


# -- what is simulated


def test_manifest_alone_always_shows_what_a_new_template_does(one: Path) -> None:
    assert notes(run(one, "-o", "json")) == [
        "Before rolling update",
        "Rolling update started",
        "Partition changes from 2 to 1",
        "Partition changes from 1 to 0",
        "Rolling update completed",
    ]


def test_standard_input_always_is_read_for_a_dash() -> None:
    result = run("-", "-o", "json", stdin=to_yaml(named("piped")))
    assert document(result)["metadata"] == {"namespace": "default", "name": "piped"}


def test_every_set_of_a_file_and_a_directory_is_always_simulated(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    other = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"
    written(tmp_path / "a.yaml", named("a"), other, named("b"))
    written(tmp_path / "deep" / "c.json", json.dumps(yaml.safe_load(to_yaml(named("c")))))
    (tmp_path / "readme.txt").write_text("no manifest")
    result = run(tmp_path, "-o", "json")
    assert [item["metadata"]["name"] for item in json.loads(result.stdout)["items"]] == ["a", "b", "c"]
    assert result.stderr == f"note: {tmp_path / 'a.yaml'}[doc 2] Service/s: not simulated\n"


def test_same_set_is_never_simulated_twice(tmp_path: Path) -> None:
    path = written(tmp_path / "x.yaml", named("a"), named("a"))
    (line,) = refused(run(path))
    assert (
        line == f"{path}[doc 2] LeaderWorkerSet/a: {path}[doc 1] LeaderWorkerSet/a is the same set, default/a"
    )


def test_set_option_always_changes_each_field_at_once(one: Path) -> None:
    result = run(
        one, "--set", "spec.replicas=3", "--set", f"{TEMPLATE}.workerTemplate.spec.containers[0].image=v2",
        "--set", 'metadata.annotations.example.com/note="1"', "-o", "json",
    )  # fmt: skip
    found = document(result)
    assert found["stages"][-1]["replicas"] == 3
    assert [event["text"] for event in found["events"]] == [
        f"spec.replicas becomes 3, {TEMPLATE}.workerTemplate.spec.containers[0].image becomes v2, "
        "metadata.annotations.example.com/note becomes 1"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("spec.replicas", "is not PATH=VALUE"),
        ("=3", "is not PATH=VALUE"),
        ("replicas=3", "the path must begin with spec."),
        ("status.replicas=3", "the path must begin with spec."),
        ("spec.replicas=[1", "is not YAML"),
        ("spec.replicas=1\n---\n2", "is more than one value"),
        ("spec.replicas=.inf", ".inf is no number"),
        ("spec.=3", "is no path such as"),
        ("spec..replicas=3", "is no path such as"),
        ("spec.x[=3", "is no path such as"),
        (f"{TEMPLATE}.workerTemplate.spec.containers[7].image=x", "there is no item 7 in a list of 1"),
        ("spec.replicas.x=3", "2 has no field x"),
        ("spec.replicas=-1", "Invalid value: -1"),
        ("spec.replicas=five", 'Invalid value: "five"'),
        ("spec.replicas=3000000000", "Invalid value: 3000000000"),
        ("spec.replicas=1000000", "a simulation holds 20000 at most"),
        (f"{TEMPLATE}.size=0", "Invalid value: 0"),
        ("spec.replica=3", "Unknown field"),
        ("metadata.annotations.a=5", "must be a string"),
        ("metadata.labels=5", "Invalid value: 5"),
        ("spec.rolloutStrategy.rollingUpdateConfiguration.maxUnavailable=-5%", 'Invalid value: "-5%"'),
        ("spec.rolloutStrategy.rollingUpdateConfiguration.maxUnavailable=101%", 'Invalid value: "101%"'),
        ("spec.rolloutStrategy.rollingUpdateConfiguration.maxSurge=five", 'Invalid value: "five"'),
    ],
)
def test_field_that_cannot_be_set_is_always_refused_in_one_line(one: Path, text: str, problem: str) -> None:
    (line,) = refused(run(one, "--set", text))
    assert problem in line


@pytest.mark.parametrize("text", ["spec.replicas=0", "spec.replicas=", f"{TEMPLATE}.size=1"])
def test_smallest_values_that_are_valid_are_always_simulated(one: Path, text: str) -> None:
    assert document(run(one, "--set", text, "-o", "json"))["summary"]["finished"]


def test_to_always_tells_of_sets_that_are_changed_added_removed_and_as_they_were(tmp_path: Path) -> None:
    before = written(tmp_path / "before.yaml", named("a"), named("b"), named("c"))
    (tmp_path / "after").mkdir()
    after = written(tmp_path / "after" / "x.yaml", named("d"), named("c"), named("a", replicas=3))
    result = run(before, "--to", after.parent, "-o", "json")
    items = json.loads(result.stdout)["items"]
    assert [(item["metadata"]["name"], item["events"][0]["text"]) for item in items] == [
        ("a", "the manifest changes"),
        ("b", "the set is deleted"),
        ("d", "the set is created"),
    ]
    assert result.stderr.splitlines() == [
        f"note: {before}[doc 2] LeaderWorkerSet/b: is not in {after.parent}: it is deleted",
        f"note: {after}[doc 2] LeaderWorkerSet/c: does not change",
        f"note: {after}[doc 1] LeaderWorkerSet/d: is new",
    ]


def test_to_always_matches_sets_by_namespace_too(tmp_path: Path) -> None:
    elsewhere = a_set({"replicas": 1}, metadata={"name": "a", "namespace": "elsewhere"})
    before, after = written(tmp_path / "1.yaml", named("a")), written(tmp_path / "2.yaml", elsewhere)
    items = json.loads(run(before, "--to", after, "-o", "json").stdout)["items"]
    assert [item["metadata"]["namespace"] for item in items] == ["default", "elsewhere"]


def test_to_never_simulates_what_does_not_change(one: Path) -> None:
    result = run(one, "--to", one, "-o", "json")
    assert (result.exit_code, json.loads(result.stdout)["items"]) == (0, [])
    assert refused(run(one, "--to", one, "-o", "svg")) != []
    (line,) = refused(run(one, "--to", one, "--golden", one.parent / "g.yaml", "--update-golden"))
    assert line == "no set changes, so there is nothing that a golden file could record"


def test_to_always_takes_a_side_without_sets_but_never_both(tmp_path: Path, one: Path) -> None:
    none = written(tmp_path / "none.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n")
    assert notes(run(none, "--to", one, "-o", "json"))[0].startswith("The set is created")
    assert notes(run(one, "--to", none, "-o", "json"))[-1].startswith("The set is deleted")
    (line,) = refused(run(none, "--to", none))
    assert line == f"{none}, {none}: no LeaderWorkerSet in them"


def test_change_that_is_not_allowed_is_always_refused(tmp_path: Path, one: Path) -> None:
    policy = {"subGroupPolicy": {"subGroupSize": 2}}
    after = written(tmp_path / "after.yaml", named("serve", **policy))
    (line,) = refused(run(one, "--to", after))
    assert line.startswith(f"{after}[doc 1] LeaderWorkerSet/serve: {TEMPLATE}.SubGroupPolicy")


@pytest.mark.parametrize(
    "pair",
    [("--to", "--set"), ("--to", "--scenario"), ("--set", "--scenario")],
    ids=" and ".join,
)
def test_ways_to_change_a_set_are_never_mixed(one: Path, pair: tuple[str, str]) -> None:
    given = {"--to": str(one), "--set": "spec.replicas=1", "--scenario": str(GUIDE)}
    (line,) = refused(run(one, *(part for option in pair for part in (option, given[option]))))
    assert line.startswith("--to, --set and --scenario cannot be given together")


# -- the cluster


def test_load_always_is_how_long_pods_take_in_the_scenario_too(one: Path) -> None:
    path = scenario(one.parent, "- template: {}", "{load: 1h, stop: 0}")
    for arguments, load_s in (((), 60), (("--load", "10m"), 600), (("--load", "90"), 90)):
        found = document(run(one, *arguments, "-o", "json"))
        assert found["summary"]["seconds"] == 2 * load_s + 20
    assert document(run(one, "--scenario", path, "-o", "json"))["summary"]["seconds"] == 7200
    found = document(run(one, "--scenario", path, "--load", "1m30s", "-o", "json"))
    assert found["summary"]["seconds"] == 180


@pytest.mark.parametrize("load", ["never", "-1s", "5x", "", "inf", "nan"])
def test_load_that_is_no_duration_is_always_refused(one: Path, load: str) -> None:
    result = run(one, "--load", load)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "must be a duration such as" in result.stderr


@pytest.mark.parametrize("load", ["1000000001", "300000h", "9" * 400])
def test_load_that_is_too_long_always_is_told_how_long_it_may_be(one: Path, load: str) -> None:
    result = run(one, "--load", load)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "must be 1000000000 seconds at most" in result.stderr


def test_gate_always_is_of_the_cluster_and_goes_before_the_scenario_s(tmp_path: Path) -> None:
    # With the gate on the StatefulSet controller ends both leaders by itself, and in the same moment.
    budget = a_set({"replicas": 4}, {"size": 1}, rolling={"maxUnavailable": 2})
    path = written(tmp_path / "set.yaml", budget)
    on = scenario(tmp_path, "- template: {}", "{maxUnavailableStatefulSet: true}")
    tables = {run(path, *options, "-o", "markdown").stdout for options in ([], ["--gate"], ["--no-gate"])}
    assert len(tables) == 1, "what is shown is the same, by whomever leaders are ended"
    assert run(path, "--scenario", on, "--no-gate").exit_code == 0


def test_gang_always_makes_pod_groups_that_are_named_on_pods(one: Path) -> None:
    assert document(run(one, "--gang", "-o", "json"))["summary"]["finished"]


def test_one_seed_always_makes_one_trace(one: Path) -> None:
    first, again = (run(one, "--seed", "7", "-o", "json").stdout for _ in range(2))
    assert first == again
    assert run(one, "--seed", "x").exit_code == 2


def test_legend_never_is_an_empty_line(tmp_path: Path) -> None:
    path = written(tmp_path / "none.yaml", named("none", replicas=0))
    first, *others = run(path).stdout.splitlines()
    assert first.startswith("default/none: replicas 0")
    assert others[0] == ""
    assert others[1].startswith("Stage ")
    assert "\n\n\n" not in run(path, "-o", "markdown").stdout
    assert "<p></p>" not in run(path, "-o", "html").stdout


# -- scenarios


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ("- template: {}\n- crash: [9]", "steps[1]: there is no pod serve-9 at that moment"),
        ("- revert: true", "steps[0]: there is no earlier template to go back to"),
        ("- set: {spec.replicas: -1}", "steps[0]: spec.replicas: Invalid value: -1"),
        ("- set: {spec.x: 1}", "steps[0]: spec.x: Unknown field"),
        ("- scale: 1\n- scale: 1000000", "steps[1]: spec.replicas: 1000000 groups"),
        (
            "- scale: 1000001",
            "steps[0]: spec.replicas: Invalid value: 1000001: must be less than or equal to",
        ),
        (
            "- edit: {StatefulSet/serve: {spec.replicas: 10001}}",
            "steps[0]: StatefulSet serve: with 10001 replicas there would be 20002 pods; a simulation",
        ),
        (
            "- edit: {StatefulSet/serve-0: {spec.replicas: 10000}}\n"
            "  holdWatch: StatefulSet\n"
            "- edit: {StatefulSet/serve-1: {spec.replicas: 9999}}\n"
            "  events: 1",
            "steps[1]: StatefulSet serve-1: with 9999 replicas there would be 20001 pods",
        ),
        ("- when: {ready: 9}\n  scale: 1", "steps[0]: its condition never came true"),
        (
            "- after: 60s\n  scale: 1\n- at: 1s\n  scale: 2",
            "steps[1]: at 1 s is earlier than the step before",
        ),
    ],
)
def test_step_that_cannot_be_taken_is_always_named(one: Path, steps: str, problem: str) -> None:
    path = scenario(one.parent, steps)
    (line,) = refused(run(one, "--scenario", path))
    assert line.startswith(f"{one}[doc 1] LeaderWorkerSet/serve: {path}: {problem}")


def test_cluster_that_cannot_be_made_is_always_named(one: Path) -> None:
    path = scenario(one.parent, "- template: {}", "{nodes: [{allocatable: {cpu: lots}}]}")
    (line,) = refused(run(one, "--scenario", path))
    assert line.startswith(f"{one}[doc 1] LeaderWorkerSet/serve: {path}: cluster: nodes: allocatable cpu: ")


def test_pods_of_a_statefulset_that_was_edited_never_are_taken_for_a_storm(one: Path) -> None:
    """A storm would have made a second pass before the last of them."""
    edit = "- edit: {StatefulSet/serve-0: {spec.replicas: 1300}}\n  holdWatch: StatefulSet"
    path = scenario(one.parent, f"{edit}\n- events: 1200\n  restartOperator: true")
    events = document(run(one, "--scenario", path, "-o", "json"))["events"]
    assert [event["time"] for event in events] == [0, 0]


def test_every_fault_of_a_scenario_is_always_told_with_its_path(one: Path) -> None:
    path = scenario(one.parent, "- tempalte: {}\n- scale: -1\n- {at: 1s, after: 2s, scale: 1}")
    assert refused(run(one, "--scenario", path)) == [
        f'{path}[doc 1] Scenario: steps[0].tempalte: Unknown field: did you mean "template"?',
        f"{path}[doc 1] Scenario: steps[1].scale: Invalid value: -1: must be a whole number, 0 or more",
        f'{path}[doc 1] Scenario: steps[2].after: Invalid value: "2s": cannot be given together with at',
    ]


def test_scenario_always_is_one_document(one: Path) -> None:
    path = written(one.parent / "two.yaml", *[GUIDE.read_text("utf-8")] * 2)
    assert refused(run(one, "--scenario", path)) == [f"{path}: holds 2 documents, and a scenario is one"]


def test_set_that_was_deleted_always_can_come_back(one: Path) -> None:
    path = scenario(one.parent, "- deleteSet: true\n- scale: 3")
    summary = document(run(one, "--scenario", path, "-o", "json"))["summary"]
    assert (summary["finished"], summary["podsCreated"]) == (True, 6)


@pytest.mark.parametrize("deed", ["scale: 5", "template: {}", "deleteSet: true"])
def test_rollout_that_the_operator_has_not_seen_never_is_finished(one: Path, deed: str) -> None:
    held = f"- {{holdWatch: LeaderWorkerSet, {deed}}}" + "\n- createSet: true" * (deed == "deleteSet: true")
    shown = run(one, "--scenario", scenario(one.parent, held))
    assert shown.exit_code == 3
    assert "Blocked: the operator has not seen the set as it is now: its watch stands still." in shown.stdout
    released = scenario(one.parent, f"{held}\n- releaseWatch: LeaderWorkerSet")
    assert run(one, "--scenario", released).exit_code == 0


def test_group_that_the_operator_has_not_seen_fall_never_is_finished(one: Path) -> None:
    held = "- {holdWatch: Pod, unready: [0]}"
    shown = run(one, "--scenario", scenario(one.parent, held))
    assert shown.exit_code == 3
    text = "Blocked: the operator has not seen that a group is not ready: its watch stands still."
    assert text in shown.stdout
    released = scenario(one.parent, f"{held}\n- {{releaseWatch: Pod, ready: [0]}}")
    assert run(one, "--scenario", released).exit_code == 0


def strict(folder: Path, steps: str, cluster: str = "{}") -> Path:
    path = scenario(folder, steps, cluster)
    path.write_text(path.read_text("utf-8") + "strict: true\n", encoding="utf-8")
    return path


def test_strict_scenario_must_show_what_breaks_a_rule_of_the_whole_run(one: Path) -> None:
    edit = "- edit: {StatefulSet/serve: {metadata.labels.note: by-hand}}"
    assert run(one, "--scenario", scenario(one.parent, edit)).exit_code == 0
    broken = run(one, "--scenario", strict(one.parent, edit))
    assert broken.exit_code == 3
    assert "Breaks the rule end: " in broken.stdout
    assert "metadata.labels.note is left over" in broken.stdout
    faults = "- failRequests: {with: lost, count: 2}\n  template: {}\n- events: 5\n  kill: 1"
    assert run(one, "--scenario", strict(one.parent, faults)).exit_code == 0


def test_seed_of_a_scenario_must_be_that_of_the_command_which_goes_before_it(one: Path) -> None:
    steps = "- {template: {}}\n- {events: 7, crash: 0}\n- {events: 12, kill: 1}\n- {events: 25, kill: 0}"

    def told(cluster: str, *options: str | int) -> str:
        return run(one, "--scenario", scenario(one.parent, steps, cluster), "-o", "json", *options).stdout

    by_file = [told(f"{{seed: {number}}}") for number in range(3)]
    assert by_file == [told("{}", "--seed", number) for number in range(3)]
    assert len(set(by_file)) > 1
    assert told("{seed: 0}", "--seed", 2) == by_file[2]


def test_restart_of_the_operator_never_hides_what_happens_with_it(one: Path) -> None:
    for deeds in ("unready: [0]", "{unready: [0], restartOperator: true}"):
        summary = document(run(one, "--scenario", scenario(one.parent, f"- {deeds}"), "-o", "json"))[
            "summary"
        ]
        assert (summary["lowestReady"], summary["floor"]) == (1, 1)


def test_floor_always_is_told_where_nothing_happens(one: Path) -> None:
    path = scenario(one.parent, "- restoreNode: [0]")
    summary = document(run(one, "--scenario", path, "-o", "json"))["summary"]
    assert (summary["lowestReady"], summary["floor"]) == (2, 1)


# -- forms of output


class Page(HTMLParser):
    """Checks that a page's elements are closed in order, and keeps its text and the names of elements."""

    VOID = ("meta",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_table_always_has_the_stages_and_the_summary(one: Path) -> None:
    lines = run(one).stdout.splitlines()
    assert lines[0] == "default/serve: replicas 2, maxUnavailable 1, maxSurge 0, partition 0"
    assert lines[3].split() == ["Stage", "Time", "Partition", "Replicas", "R-0", "R-1", "Note"]
    assert len([line for line in lines if re.match(r"Stage\d", line)]) == 5
    assert lines[-3:] == [
        "Finished after 2m20s (2.33 load times).",
        "Ready groups: 1 at least; the budget allows 1.",
        "Pods: 4 at most, 4 created.",
    ]


def test_markdown_always_is_a_table_of_as_many_cells_in_each_row(one: Path) -> None:
    lines = run(one, "-o", "markdown").stdout.splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in rows} == {8}
    assert lines[0].startswith("### default/serve: ")


def test_json_and_yaml_always_say_the_same(one: Path) -> None:
    found = json.loads(run(one, "-o", "json").stdout)
    assert yaml.safe_load(run(one, "-o", "yaml").stdout) == found
    assert (found["apiVersion"], found["kind"]) == ("simulation.lws.x-k8s.io/v1", "TraceList")


def test_picture_always_is_well_formed_and_has_a_lane_for_each_group(one: Path) -> None:
    picture = ET.fromstring(run(one, "-o", "svg").stdout)
    assert picture.tag == f"{SVG}svg"
    titles = [title.text or "" for title in picture.iter(f"{SVG}title")]
    assert {found[1] for title in titles if (found := re.match(r"R-(\d+): ", title))} == {"0", "1"}


@pytest.mark.parametrize(("replicas", "staying"), [(1, {0}), (0, set())])
def test_picture_always_shows_groups_that_are_scaled_away_until_they_are_gone(
    one: Path, replicas: int, staying: set[int]
) -> None:
    picture = run(one, "--set", f"spec.replicas={replicas}", "-o", "svg").stdout
    for index in range(2):
        words = "up to date, ready, 0s to 10.4s" if index in staying else "terminating, 0s to 10s"
        assert re.findall(rf"<title>R-{index}: (.*)</title>", picture) == [words]


def test_picture_always_tells_all_that_is_done_in_lines_that_fit(one: Path) -> None:
    count, note = 30, "word " * 50
    steps = "\n".join(f"- set: {{metadata.labels.a-long-name-{index}: x}}" for index in range(count))
    path = scenario(one.parent, f"{steps}\n- set: {{metadata.annotations.note: {note}}}")
    picture = ET.fromstring(run(one, "--scenario", path, "-o", "svg").stdout)
    faint = [text for text in picture.iter(f"{SVG}text") if text.get("text-anchor") == "start"]
    lines = [str(text.text) for text in faint]
    heights = [float(str(text.get("y"))) for text in faint]
    assert all(f"metadata.labels.a-long-name-{index} becomes x" in " ".join(lines) for index in range(count))
    assert " ".join(lines).count("word") == 50
    assert max(map(len, lines)) <= 110
    assert heights == sorted(set(heights))
    (first,) = [text for text in picture.iter(f"{SVG}text") if text.text == "R-0"]
    assert heights[-1] < float(str(first.get("y"))) - 30


def _height(text: ET.Element) -> float:
    return float(str(text.get("y")))


def test_picture_always_has_a_long_title_in_lines_that_fit_above_all_else(tmp_path: Path) -> None:
    long = a_set({"replicas": 2}, {"size": 2}, {"name": "n" * 50, "namespace": "s" * 60})
    picture = ET.fromstring(run(written(tmp_path / "long.yaml", long), "-o", "svg").stdout)
    head = [text for text in picture.iter(f"{SVG}text") if text.get("font-size")]
    others = [text for text in picture.iter(f"{SVG}text") if not text.get("font-size")]
    lines = [str(text.text) for text in head]
    assert "".join(lines).startswith(f"{'s' * 60}/{'n' * 50}: replicas 2")
    assert max(map(len, lines)) <= 85
    assert _height(head[-1]) < min(map(_height, others)) - 15


def test_page_always_breaks_words_that_are_too_long_for_it(one: Path) -> None:
    assert "overflow-wrap:anywhere" in run(one, "-o", "html").stdout


def test_picture_never_shows_more_than_one_set(tmp_path: Path) -> None:
    path = written(tmp_path / "two.yaml", named("a"), named("b"))
    (line,) = refused(run(path, "-o", "svg"))
    assert line == "a picture shows one set, and there are 2: choose --output html"


def test_page_always_is_well_formed_and_holds_every_set(tmp_path: Path) -> None:
    path = written(tmp_path / "two.yaml", named("a"), named("b"))
    page = Page(run(path, "-o", "html").stdout)
    assert page.seen.count("svg") == page.seen.count("table") == 2
    assert "default/a" in page.text
    assert "default/b" in page.text
    assert "script" not in page.seen
    assert "prefers-color-scheme:dark" in run(path, "-o", "html").stdout


def test_page_of_many_groups_always_stays_readable(tmp_path: Path) -> None:
    rolling = {"maxUnavailable": "20%", "maxSurge": 10}
    path = written(tmp_path / "many.yaml", a_set({"replicas": 500}, {"size": 1}, rolling=rolling))
    text = run(path, "-o", "html").stdout
    page = Page(text)
    assert len(text) < 100_000, "neighbours that do the same are one lane, and one column"
    assert page.seen.count("th") <= 20
    (height,) = re.findall(r'viewBox="0 0 960 (\d+)', text)
    assert int(height) < 1000
    labels = re.findall(r">R-(\d+)</text>", text)
    assert len(labels) <= 60
    few = Page(run(EXAMPLE, "-o", "html").stdout)
    assert [few.text.count(f"R-{index}: ") > 0 for index in range(6)] == [True] * 6


HOSTILE = "<script>alert(1)</script>|`*_[x](y)&\"'\x1b[2J\u202e"


@pytest.mark.parametrize("output", ["table", "markdown", "html", "svg"])
def test_hostile_words_never_reach_the_output_as_they_are(one: Path, output: str) -> None:
    image = json.dumps(HOSTILE)
    result = run(one, "--set", f"{TEMPLATE}.workerTemplate.spec.containers[0].image={image}", "-o", output)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    if output != "table":
        assert "<script" not in result.stdout
    if output == "markdown":
        rows = [line for line in result.stdout.splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {8}
    if output == "svg":
        ET.fromstring(result.stdout)
    if output == "html":
        assert "<script>alert(1)</script>" in Page(result.stdout).text


def test_form_that_is_not_known_is_always_refused(one: Path) -> None:
    assert run(one, "-o", "pdf").exit_code == 2


# -- golden files


@pytest.fixture
def golden(one: Path) -> Path:
    path = one.parent / "rollout.golden.yaml"
    result = run(one, "--golden", path, "--update-golden")
    assert (result.exit_code, result.stderr) == (0, f"note: {path}: written\n")
    return path


def test_golden_file_that_matches_is_never_written_again(one: Path, golden: Path) -> None:
    before = golden.read_bytes()
    assert (run(one, "--golden", golden).exit_code, run(one, "--golden", golden).stderr) == (0, "")
    assert run(one, "--golden", golden, "--update-golden").stderr == f"note: {golden}: is up to date\n"
    assert golden.read_bytes() == before


def test_golden_file_never_holds_what_changes_by_itself(golden: Path) -> None:
    text = golden.read_text("utf-8")
    assert not re.search(r"20\d\d-|\d\d:\d\d|0\.1\.0", text)
    assert str(golden.parent) not in text


def test_golden_file_that_differs_always_is_told_line_by_line(one: Path, golden: Path) -> None:
    written(one, named("serve", replicas=3))
    result = run(one, "--golden", golden)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert "-strategy: replicas 2, maxUnavailable 1, maxSurge 0, partition 0" in lines
    assert "+strategy: replicas 3, maxUnavailable 1, maxSurge 0, partition 0" in lines
    assert lines[-1].startswith(f"error: {golden}: differs, see above")
    assert "Finished after" in result.stdout, "the rollout is shown all the same"


@pytest.mark.parametrize("no_colour", [False, True])
def test_difference_has_no_colours_where_they_are_not_wanted(
    one: Path, golden: Path, monkeypatch: pytest.MonkeyPatch, no_colour: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", "1" if no_colour else "")
    golden.write_text(golden.read_text("utf-8").replace("finished: true", "finished: false"), "utf-8")
    result = CliRunner().invoke(main, ["simulate", str(one), "--golden", str(golden)], color=True)
    assert result.exit_code == 1
    assert ("\x1b[" in result.stderr) != no_colour


@pytest.mark.parametrize("option", [(), ("--update-golden",)])
def test_golden_file_without_a_name_never_switches_the_check_off(one: Path, option: tuple[str, ...]) -> None:
    assert refused(run(one, "--golden", "", *option)) == ["--golden: names no file"]


def test_golden_file_that_is_missing_always_is_an_error_that_says_so(one: Path, tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert refused(run(one, "--golden", path)) == [
        f"{path}: there is no such golden file: --update-golden writes it"
    ]
    assert refused(run(one, "--update-golden")) == [
        "--update-golden needs --golden FILE: that is the file it writes"
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no manifest"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"a: [", "is not YAML"),
        (b"a: &a [*a]", "is inside what it stands for"),
        (b"[" * 5000, "is nested more than 100 levels deep"),
        (b"kind: Golden\n", "document 1 is no Golden of simulation.lws.x-k8s.io/v1"),
        (
            b"{apiVersion: simulation.lws.x-k8s.io/v1, kind: Golden, version: 99}",
            "document 1: version: 99 is not known",
        ),
    ],
)
def test_golden_file_that_is_none_always_is_refused_in_one_line(
    one: Path, tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    (line,) = refused(run(one, "--golden", path))
    assert line.startswith(f"{path}: ")
    assert problem in line


def test_golden_file_with_hostile_words_never_forges_a_line(one: Path, golden: Path) -> None:
    text = golden.read_text("utf-8").replace("Before rolling update", '"x\\n+forged\\e[2J\\u202e"', 1)
    golden.write_text(text, encoding="utf-8")
    result = run(one, "--golden", golden)
    assert result.exit_code == 1
    assert "\x1b" not in result.stderr
    assert "\u202e" not in result.stderr
    assert not any(line.startswith("+forged") for line in result.stderr.splitlines())


def test_golden_file_that_cannot_be_written_always_is_told(one: Path, tmp_path: Path) -> None:
    for path, why in (
        (tmp_path / "no" / "g.yaml", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        result = run(one, "--golden", path, "--update-golden")
        assert result.exit_code == 2
        assert result.stderr == f"error: {path}: cannot be written: {why}\n"
    assert refused(run(one, "--golden", tmp_path)) == [f"{tmp_path}: is a directory"]


# -- exit codes


@pytest.fixture
def stuck(one: Path) -> Path:
    return scenario(one.parent, "- template: {load: never}")


def test_rollout_that_cannot_finish_always_ends_with_3(one: Path, stuck: Path) -> None:
    result = run(one, "--scenario", stuck)
    assert result.exit_code == 3
    assert "Blocked: waiting for group 1 to be ready." in result.stdout


def test_exit_codes_always_go_bad_input_then_difference_then_failure(one: Path, stuck: Path) -> None:
    path = one.parent / "golden.yaml"
    arguments = (one, "--scenario", stuck, "--golden", path)
    assert run(*arguments).exit_code == 2
    assert run(*arguments, "--update-golden").exit_code == 0, "what is recorded is expected"
    assert run(*arguments).exit_code == 0
    path.write_text(path.read_text("utf-8").replace("floor: 1", "floor: 0"), encoding="utf-8")
    assert run(*arguments).exit_code == 1
    path.write_text("a: [", encoding="utf-8")
    assert run(*arguments).exit_code == 2


# -- input that cannot be used

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no manifest"),
        (b"# nothing\n---\n", "holds no manifest"),
        (b"a: [", "is not YAML: line 2, column 1"),
        (b"\xff\xfe\x00", "is not UTF-8 text: byte 1 is 0xff"),
        (b"- 1", "document 1 is not an object with apiVersion and kind"),
        (b"[" * 100_000, "is nested more than 100 levels deep"),
        (BOMB.encode(), "comes to more than 2000000 values"),
        (b"a: 1\na: 2\n", 'the field "a" is there twice'),
        (b"!!python/object/apply:os.system [x]", "is not known"),
        (b"apiVersion: v1\nkind: Service\nmetadata: {name: s}\n", "no LeaderWorkerSet in it"),
        (b"metadata: {name: s}\n", "kind: Required value"),
    ],
)
def test_file_that_is_no_manifest_is_always_refused_in_one_line(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    (line,) = refused(run(path))
    assert line.startswith(str(path))
    assert problem in line


def test_path_without_manifests_is_always_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("")
    (line,) = refused(run(tmp_path))
    assert line == f"{tmp_path}: holds no file that ends in .yaml, .yml or .json"
    (line,) = refused(run(tmp_path / "none.yaml"))
    assert line == f"{tmp_path / 'none.yaml'}: cannot be read: No such file or directory"


ROLLING = "rollingUpdateConfiguration"


@pytest.mark.parametrize(
    ("fields", "template", "rolling", "problem"),
    [
        ({"replicas": -1}, {}, {}, "spec.replicas: Invalid value: -1"),
        ({"replicas": 2**31}, {}, {}, "spec.replicas: Invalid value: 2147483648"),
        ({"replicas": 1_000_000}, {}, {}, "spec.replicas: 1000000 groups with their surge come to"),
        ({"replicas": "3"}, {}, {}, 'spec.replicas: Invalid value: "3"'),
        ({}, {"size": 0}, {}, "spec.leaderWorkerTemplate.size: Invalid value: 0"),
        ({}, {}, {"maxUnavailable": "-5%"}, f'{ROLLING}.maxUnavailable: Invalid value: "-5%"'),
        ({}, {}, {"maxUnavailable": "101%"}, f'{ROLLING}.maxUnavailable: Invalid value: "101%"'),
        ({}, {}, {"maxUnavailable": "five"}, f'{ROLLING}.maxUnavailable: Invalid value: "five"'),
        ({}, {}, {"maxUnavailable": 0, "maxSurge": 0}, ROLLING),
        ({}, {"restartPolicy": "RecreateGroupOnRestart"}, {}, '"RecreateGroupOnPodRestart"'),
        ({"surge": 1}, {}, {}, "spec.surge: Unknown field"),
    ],
)
def test_set_that_is_not_valid_always_has_a_line_for_each_rule_that_it_breaks(
    tmp_path: Path, fields: dict[str, Any], template: dict[str, Any], rolling: dict[str, Any], problem: str
) -> None:
    path = written(tmp_path / "bad.yaml", a_set(fields, template, rolling=rolling))
    lines = refused(run(path))
    assert all(line.startswith(f"{path}[doc 1] LeaderWorkerSet/serve: ") for line in lines)
    assert problem in lines[0]


@pytest.mark.parametrize(("fields", "size"), [({"replicas": 0}, 2), ({"replicas": 1}, 1)])
def test_smallest_set_is_always_simulated(tmp_path: Path, fields: dict[str, Any], size: int) -> None:
    path = written(tmp_path / "small.yaml", a_set(fields, {"size": size}))
    assert document(run(path, "-o", "json"))["summary"]["finished"]


def test_set_without_a_name_is_always_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x.yaml", a_set(metadata={"name": None, "generateName": "g-"}))
    (line,) = refused(run(path))
    assert line.endswith("metadata.name is needed: every object is named after it")


def test_command_never_needs_a_click_whose_types_take_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise TypeError("type 'ParamType' is not subscriptable")

    monkeypatch.setattr(click.ParamType, "__class_getitem__", refuse, raising=False)
    spec = importlib.util.spec_from_file_location("lws_runtime.cli.simulate_again", simulate.__file__)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
