"""What the documentation says of the API, against the code: names, defaults, words, references."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import attrs
import pytest

from lws_core import names, restart, tpu
from lws_core.bits import GroupSet, members
from lws_core.options import Options
from lws_core.rollout import Blocked, Budget, Decision, Done, Groups, Position, Step, choose_deletes, decide
from lws_core.schema import set_schema
from lws_core.values import FrozenMap, Json, as_list, as_map

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SOURCES = ("lws_core", "lws_sim", "lws_runtime", "tools", "examples", "deploy", "benchmarks")
REFERENCE = re.compile(r'docs/([\w-]+)\.md(?:,? \(?"([^"]+)"\)?)?')
TELLING = 6  # a piece of text shorter than this says nothing


@cache
def page(name: str) -> str:
    """A page on one line, without backticks, so that neither wrapping nor markup matters."""
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    return " ".join(text.replace("`", "").split())


@cache
def headings(name: str) -> frozenset[str]:
    text = re.sub(r"^```.*?^```", "", (DOCS / f"{name}.md").read_text(encoding="utf-8"), flags=re.M | re.S)
    return frozenset(re.findall(r"^#+ +(.*?) *$", text, flags=re.M))


def section(name: str, heading: str) -> str:
    """The text under a heading, subsections included."""
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, flags=re.M)
    assert found is not None, f"docs/{name}.md has no section {heading!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, flags=re.M)
    return rest[: end.start()] if end is not None else rest


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every row of every table in a text."""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("| ---"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def references() -> Iterator[tuple[str, str, str]]:
    """Every reference to a page in the code: where it stands, the page, the section or ""."""
    for package in SOURCES:
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix in (".py", ".yaml", ".md", ".toml") and path.stat().st_size < 200_000:
                text = re.sub(r"\s*\n\s*(# ?)?", " ", path.read_text(encoding="utf-8"))
                for found in REFERENCE.finditer(text):
                    yield str(path.relative_to(ROOT)), found[1], found[2] or ""


def strings(*nodes: ast.AST) -> Iterator[str]:
    """The literal texts in some nodes, each as it stands between the values put into it."""
    for node in nodes:
        match node:
            case ast.Constant(value=str(text)):
                yield text
            case ast.JoinedStr(values=values):
                yield from strings(*values)
            case ast.BinOp(left=left, right=right):
                yield from strings(left, right)
            case ast.IfExp(body=body, orelse=orelse):
                yield from strings(body, orelse)
            case _:
                pass


def details(module: str) -> Iterator[str]:
    """The words that a module of rules puts into faults: details, texts that are yielded, consequences."""
    tree = ast.parse((ROOT / "lws_core" / f"{module}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="FieldError"), args=[_, _, detail, *_]):
                yield from strings(detail)
            case ast.Yield(value=ast.expr() as text):
                yield from strings(text)
            case ast.Assign(targets=[ast.Name(id="detail" | "after" | "prefixed")], value=text):
                yield from strings(text)
            case ast.AnnAssign(target=ast.Name(id="_PERCENT" | "_NAME_PART"), value=ast.expr() as text):
                yield from strings(text)
            case ast.keyword(arg="consequence", value=text):
                yield from strings(text)
            case _:
                pass


def notes(module: str) -> Iterator[str]:
    """The words that a module puts into events."""
    tree = ast.parse((ROOT / "lws_core" / f"{module}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="Event"), args=[_, _, _, note, *_]):
                yield from strings(note)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="notices"), attr="append"), args=[note]):
                yield from strings(note)
            case ast.Assign(targets=[ast.Name(id="note" | "text")], value=text):
                yield from strings(text)
            case _:
                pass


def fields(schema: FrozenMap[Json], path: str) -> Iterator[tuple[str, FrozenMap[Json]]]:
    """Every field below a schema's top, by path."""
    for name, declared in as_map(schema.get("properties")).items():
        yield f"{path}.{name}", as_map(declared)
        yield from fields(as_map(declared), f"{path}.{name}")


SPEC_FIELDS = tuple(fields(as_map(as_map(set_schema()["properties"])["spec"]), "spec"))
STATUS_FIELDS = tuple(fields(as_map(as_map(set_schema()["properties"])["status"]), "status"))
WORDS = {
    name: value
    for name, value in vars(names).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, str)
}


def test_references_to_pages_must_name_a_page_and_a_section_of_it() -> None:
    wrong = []
    for where, name, heading in references():
        if not (DOCS / f"{name}.md").exists():
            wrong.append(f"{where}: there is no docs/{name}.md")
        elif heading and heading not in headings(name):
            wrong.append(f"{where}: docs/{name}.md has no section {heading!r}")
    assert wrong == []


def test_references_to_pages_must_be_found_at_all() -> None:
    found = {(name, heading) for _, name, heading in references()}
    assert {("api", "Fields"), ("api", "Validation"), ("rollout", "What is kept")} <= found


def test_pages_must_all_be_in_the_table_of_contents() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^[a-z][\w-]*$", index.split("```{toctree}")[1], flags=re.M)
    assert sorted(listed) == sorted(path.stem for path in DOCS.glob("*.md") if path.stem != "index")


@pytest.mark.parametrize("name", sorted(WORDS))
def test_words_of_the_wire_must_be_in_the_api_page(name: str) -> None:
    word = WORDS[name]
    after = "" if word.endswith("/") else r"(?![\w/-])"
    assert re.search(rf"(?<![\w./-]){re.escape(word)}{after}", page("api")) is not None


@pytest.mark.parametrize(
    "variable", [tpu.HOSTNAMES, tpu.WORKER_ID, tpu.NAME, tpu.PROCESS_ADDRESSES, tpu.PROCESS_PORT]
)
def test_tpu_variables_must_be_in_the_section_on_tpus(variable: str) -> None:
    assert f"`{variable}`" in section("api", "TPU environment")


def test_reasons_of_stalled_must_have_rows_in_the_order_of_their_urgency() -> None:
    found = [row[0].strip("`") for row in rows(section("api", "Stalled")) if row[0] != "Reason"]
    assert found == list(names.STALL_REASONS)


@pytest.mark.parametrize(("path", "declared"), SPEC_FIELDS, ids=[path for path, _ in SPEC_FIELDS])
def test_spec_fields_must_have_a_row_with_their_default_and_words(
    path: str, declared: FrozenMap[Json]
) -> None:
    found = [row for row in rows(section("api", "Fields")) if row[0] == f"`{path}`"]
    assert len(found) == 1, f"{path} has {len(found)} rows"
    _, _, default, remarks = found[0]
    if "default" in declared:
        assert default == f"`{declared['default']}`"
    else:
        assert default == "-" or "webhook" in default
    for word in as_list(declared.get("enum")):
        assert f"`{word}`" in remarks


def test_field_rows_must_be_of_fields_that_exist() -> None:
    known = {f"`{path}`" for path, _ in SPEC_FIELDS}
    assert {row[0] for row in rows(section("api", "Fields"))} - {"Field"} <= known


@pytest.mark.parametrize("path", [path for path, _ in STATUS_FIELDS])
def test_status_fields_must_have_a_row(path: str) -> None:
    assert f"`{path}`" in [row[0] for row in rows(section("api", "Status"))]


@pytest.mark.parametrize("field", attrs.fields(Options), ids=lambda field: field.name)
def test_options_must_have_a_row_with_their_default(field: attrs.Attribute[object]) -> None:
    found = [row for row in rows(section("api", "Options of an installation")) if row[0] == f"`{field.name}`"]
    assert [row[1] for row in found] == [f"`{field.default}`"]


@pytest.mark.parametrize("module", ["set_rules", "validation", "metadata_rules"])
def test_words_of_validation_must_be_in_the_api_page(module: str) -> None:
    # A text is a label's key, prefix or suffix of a larger one, so it is looked for piece by piece.
    pieces = {" ".join(text.replace("`", "").split()) for text in details(module)}
    told = [piece for piece in pieces if len(piece) >= TELLING]
    assert len(told) > 5
    assert [piece for piece in sorted(told) if piece not in page("api")] == []


@pytest.mark.parametrize("module", ["events", "answers", "reporting", "leading"])
def test_notes_of_events_must_be_in_the_section_on_events(module: str) -> None:
    events = " ".join(section("api", "Events").replace("`", "").split())
    told = [piece for piece in notes(module) if len(piece) >= TELLING]
    assert told != []
    assert [piece for piece in told if piece not in events] == []


# -- examples of rollouts


def groups_of(state: str) -> Groups:
    """The groups that a state of the page stands for; `b` is a broken one."""

    def those(letters: str) -> GroupSet:
        return members(*(index for index, letter in enumerate(state) if letter in letters))

    return Groups(those("nloxtb"), those("no"), those("oxtb"), those("t"), those("b"))


def numbers(text: str) -> tuple[int, ...]:
    """The numbers of a cell; of "4 to 6" the latter."""
    return tuple(int(number) for number in re.findall(r"(\d+)(?! to)(?=\D|$)", text))


def must_answer(decision: Decision, position: Position, text: str) -> None:
    """What a cell says of a decision is what was decided."""
    plain = text.replace("`", "")
    partition = re.search(r"partition (?:stays at )?(\d+)", plain)
    replicas = re.search(r"replicas (\d+)", plain)
    assert decision.partition == (int(partition[1]) if partition else position.partition)
    assert decision.replicas == (int(replicas[1]) if replicas else position.replicas)
    if plain.startswith("Blocked"):
        assert isinstance(decision, Blocked)
        assert f"Blocked, {decision.reason}" in plain
    elif plain.startswith("Done"):
        assert isinstance(decision, Done)
    else:
        assert isinstance(decision, Step)
        assert decision.over_budget == ("over budget" in plain)


def examples(heading: str, first: str) -> list[list[str]]:
    """The rows of the tables of a section whose first column is called `first`."""
    chosen, found = False, []
    for row in rows(section("rollout", heading)):
        if row[0].startswith(first):
            chosen = True
        elif chosen and not row[0].startswith(("Value", "Reason")):
            found.append(row)
    assert found != []
    return found


@pytest.mark.parametrize("row", examples("The stage table", "Stage"), ids=lambda row: f"stage {row[0]}")
def test_stage_table_must_say_what_is_decided(row: list[str]) -> None:
    _, state, before, _, after = row
    partition, replicas = numbers(before)
    budget, position = Budget(4, 2, 2, 0), Position(replicas, partition, 4)
    decision = decide(budget, position, groups_of(state.strip("`")), writes_template=state == "`oooo`")
    assert (decision.partition, decision.replicas) == numbers(after)
    assert isinstance(decision, Done) == ("done" in after)


@pytest.mark.parametrize("row", examples("The answer", "`R`"), ids=lambda row: f"{row[0]} {row[1]} {row[2]}")
def test_answers_must_say_what_is_decided(row: list[str]) -> None:
    budget, position, state = numbers(row[0]), Position(*numbers(row[1])), row[2]
    replicas, partition, max_unavailable, max_surge = budget
    decision = decide(
        Budget(replicas, max_unavailable, max_surge, partition),
        position,
        groups_of(state.split("`")[1]),
        writes_template="new template" in state,
    )
    must_answer(decision, position, row[3])


@pytest.mark.parametrize(
    "row", examples("When the partition rises", "`p`"), ids=lambda row: f"{row[0]} {row[1]}"
)
def test_rising_partitions_must_be_what_is_decided(row: list[str]) -> None:
    position = Position(6, int(row[0]), 6)
    must_answer(decide(Budget(6, 2), position, groups_of(row[1].strip("`"))), position, row[2])


@pytest.mark.parametrize("row", examples("Broken groups", "State"), ids=lambda row: row[0])
def test_broken_groups_must_get_what_is_decided(row: list[str]) -> None:
    position = Position(4, 4, 4)
    must_answer(decide(Budget(4, 1), position, groups_of(row[0].split("`")[1])), position, row[1])


@pytest.mark.parametrize("row", examples("Canary", "`N`"), ids=lambda row: f"{row[0]} {row[1]}")
def test_canaries_must_get_what_is_decided(row: list[str]) -> None:
    position, writes = Position(*numbers(row[0])), "new template" in row[1]
    groups = groups_of(row[1].split("`")[1])
    must_answer(decide(Budget(4, 1, 1, 3), position, groups, writes_template=writes), position, row[2])


@pytest.mark.parametrize(
    "row", examples("Scaling in mid-rollout", "`R`"), ids=lambda row: f"{row[0]} {row[1]} {row[2]}"
)
def test_scaled_sets_must_get_what_is_decided(row: list[str]) -> None:
    position = Position(*numbers(row[1]))
    must_answer(decide(Budget(*numbers(row[0])), position, groups_of(row[2].strip("`"))), position, row[3])


@pytest.mark.parametrize("row", examples("The pace", "`p`"), ids=lambda row: f"{row[0]} {row[1]}")
def test_deleted_leaders_must_be_those_that_are_chosen(row: list[str]) -> None:
    budget, position = Budget(4, 2, 2), Position(6, numbers(row[0])[0], 4)
    groups = groups_of(row[1].strip("`"))
    decision = decide(budget, position, groups)
    assert decision.partition == numbers(row[0])[-1]
    assert choose_deletes(budget, position, decision, groups, groups.outdated) == numbers(
        row[2].partition(":")[0]
    )


@pytest.mark.parametrize("row", list(rows(section("restart", "Back-off and limit")))[1:], ids=lambda r: r[0])
def test_waits_between_recreations_must_be_those_that_are_kept(row: list[str]) -> None:
    wait_s = 0 if row[1] == "none" else numbers(row[1])[0]
    assert restart.delay_s(numbers(row[0])[0]) == wait_s
