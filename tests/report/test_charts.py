"""The pictures: which a run has, what they show and leave out, and as files."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from harness.records import BlockConditions, OperatorProfile, OperatorTime, PlacedNode
from harness.report import render
from harness.report.charts import charts
from harness.report.figures import latency_files
from harness.report.operators import in_words
from harness.report.pictures import static_specs, write_pictures
from harness.report.trace_file import why_empty
from harness.report.view import view
from tests.fakes import records
from tests.report.test_html import Page

if TYPE_CHECKING:
    from pathlib import Path

    from harness.records import Block, CellResult, RuntimeRan
    from harness.report.spec import Chart
    from tests.fakes.records import FakeRun

MS = 1_000_000
PROFILE = OperatorProfile(
    source="onnxruntime-trace",
    inferences_ns=(4_000_000, 4_100_000),
    operators=tuple(
        OperatorTime(name=f"conv_{n}", kind="Conv", accelerator="CPUExecutionProvider", median_ns=1000.0 * (n + 1))
        for n in range(30)
    ),
)


def planned() -> RuntimeRan:
    """A runtime that says where it computes what, and not how long that takes."""
    nodes = (PlacedNode(name="x_1", kind="conv", accelerator="neural_engine"),)
    return msgspec.structs.replace(records.measurement().ran, nodes=nodes)


def named(run: FakeRun) -> dict[str, Chart]:
    return {chart.name.removesuffix("-host"): chart for chart in charts(view(run))}


def files(*sizes_and_times: tuple[float, float], **which: Any) -> list[Any]:
    precisions = ("fp32", "fp16", "int8")
    return [
        records.result(precision=precisions[index], size_mib=size, p50_ms=p50, **which)
        for index, (size, p50) in enumerate(sizes_and_times)
    ]


def test_the_front_is_what_no_other_file_of_the_model_beats_in_both() -> None:
    smaller_and_faster, larger, slower = (4.0, 5.0), (14.0, 3.0), (7.0, 9.0)

    chart = named(records.run(files(smaller_and_faster, larger, slower)))["size-latency"]

    assert [datum["front"] for datum in chart.data] == [True, True, False]


def test_a_file_that_computes_something_else_is_in_no_picture() -> None:
    wrong = records.result(precision="int8", p50_ms=0.1, measured={"parity": records.parity(passed=False)})

    chart = named(records.run([*files((14.0, 9.0), (7.0, 6.0)), wrong]))["size-latency"]

    assert len(chart.data) == 2


def test_an_emulated_device_has_no_picture_of_times() -> None:
    run = records.run(files((14.0, 9.0), (7.0, 6.0)), devices=[records.device(device_class="emulated")])

    assert charts(view(run)) == ()


def test_threads_are_shown_against_one_thread() -> None:
    run = records.run([records.result(threads=1, p50_ms=10.0), records.result(threads=2, p50_ms=4.0)])

    alone, both = named(run)["threads"].data

    assert alone["speedup"] == 1
    assert both["speedup"] == pytest.approx(2.5, rel=0.02)
    assert both["ideal"] == 2


def warm_block(ms: float, number: int, *, celsius: float, cap_hz: float, **changes: Any) -> Block:
    """A block with a temperature, a clock and its limit, `number` quarters of a second after the first."""
    conditions = BlockConditions(temperature_celsius=celsius, cpu_hz=cap_hz - 1e8, cpu_cap_hz=cap_hz)
    return records.block([int(ms * MS)] * 9, start_ns=5 * 10**9 + number * 250 * MS, conditions=conditions, **changes)


def test_blocks_over_time_have_seconds_temperature_and_clock_limit_and_say_which_do_not_count() -> None:
    calm = warm_block(10.0, 0, celsius=41.5, cap_hz=2.4e9)
    loud = warm_block(30.0, 2, celsius=48.0, cap_hz=1.8e9, discarded="steal")
    batched = records.block([40 * MS], start_ns=8 * 10**9, iterations_per_sample=4)
    run = records.run([records.result(processes=[records.process([calm, loud]), records.process([batched], index=1)])])

    chart = named(run)["over-time"]

    assert [(datum["process"], datum["seconds"], datum["p50_ms"]) for datum in chart.data] == [
        *(("1", 0.0, 10.0), ("1", 0.5, 30.0), ("2", 3.0, 10.0))
    ]
    assert [datum["counted"] for datum in chart.data] == ["counted", "discarded", "counted"]
    assert [datum["celsius"] for datum in chart.data] == [41.5, 48.0, None]
    assert [datum["cap_mhz"] for datum in chart.data] == [2400, 1800, None]
    assert [datum["cpu_mhz"] for datum in chart.data] == [2300, 1700, None]
    assert "upper limits; the clock is that of the processor on which a block ended." in chart.says
    panels = [panel["encoding"]["y"] for panel in chart.spec["vconcat"]]
    assert [(y["field"], y["title"]) for y in panels] == [
        *(("p50_ms", "block median, ms"), ("celsius", "temperature, °C")),
        *(("cpu_mhz", "clock, MHz"), ("cap_mhz", "clock limit, MHz")),
    ]


def test_a_process_that_does_not_count_takes_its_blocks_with_it() -> None:
    process = msgspec.structs.replace(records.process([[10 * MS] * 9]), discarded="9 of 16 blocks: steal")
    run = records.run([records.result(processes=[process, *records.calm_processes()])])

    counted = [datum["counted"] for datum in named(run)["over-time"].data if datum["process"] == "1"]

    assert counted[0] == "discarded"


def test_blocks_without_sensors_are_one_panel() -> None:
    chart = named(records.run([records.result()]))["over-time"]

    assert "vconcat" not in chart.spec
    assert "clock" not in chart.says


def test_memory_is_what_the_runtime_alone_took_and_what_the_model_added() -> None:
    memory = records.memory(baseline_bytes=60 * 2**20, peak_bytes=92 * 2**20)
    run = records.run([records.result(threads=n, measured={"memory": (memory,)}) for n in (1, 2)])

    chart = named(run)["memory"]

    parts = [(datum["part"], datum["mib"]) for datum in chart.data if datum["threads"] == 1]
    assert parts == [("runtime alone", 60), ("model", 32)]
    assert "read from VmHWM (clear_refs)" in chart.says


def test_memory_of_two_sources_is_two_pictures_that_say_theirs() -> None:
    other = records.memory(source="task_info phys_footprint")
    results = [
        records.result(model=model, threads=n, measured={"memory": (memory,)})
        for model, memory in (("a", records.memory()), ("b", other))
        for n in (1, 2)
    ]
    alone = records.result(model="c", measured={"memory": (records.memory(source="VmPeak"),)})

    found = {chart.name: chart for chart in charts(view(records.run([*results, alone]))) if "memory" in chart.name}

    assert list(found) == ["memory-host-1", "memory-host-2"]
    for chart, source, model in zip(
        found.values(), ("VmHWM (clear_refs)", "task_info phys_footprint"), ("a", "b"), strict=True
    ):
        assert chart.title.endswith(f"read from {source}")
        assert f"read from {source}." in chart.says
        assert {datum["model"] for datum in chart.data} == {model}


def test_runtimes_of_one_model_precision_and_threads_stand_on_one_line() -> None:
    results = [
        records.result(p50_ms=10.0),
        records.result(format="tflite", p50_ms=7.0),
        records.result(threads=2, p50_ms=6.0),
        records.result(format="tflite", precision="int8", p50_ms=2.0),
    ]

    data = named(records.run(results))["runtimes"].data

    assert [(datum["line"], datum["runtime"]) for datum in data] == [
        *(("mobilenet_v2 fp32, 1 thread", runtime) for runtime in ("onnxruntime", "litert"))
    ]
    assert [datum["p50_ms"] for datum in data] == [pytest.approx(ms, rel=0.02) for ms in (10.0, 7.0)]


def with_choice(result: CellResult, **changes: Any) -> CellResult:
    """The same cell, asked for otherwise."""
    choice = msgspec.structs.replace(result.cell.choice, **changes)
    other = " ".join(f"{name} {value}" for name, value in changes.items())
    cell = msgspec.structs.replace(result.cell, choice=choice, id=f"{result.cell.id} {other}")
    return msgspec.structs.replace(result, cell=cell)


def test_runtimes_are_compared_on_the_same_processors() -> None:
    each = (records.result(), records.result(format="tflite"))
    results = [with_choice(result, affinity=affinity) for affinity in ("big", "little") for result in each]

    data = named(records.run(results))["runtimes"].data

    lines = [f"mobilenet_v2 fp32, 1 thread, on {which} processors" for which in ("big", "little")]
    assert sorted((datum["line"], datum["runtime"]) for datum in data) == [
        (line, runtime) for line in lines for runtime in ("litert", "onnxruntime")
    ]


def test_one_runtime_with_two_settings_is_two_and_says_in_what_they_differ() -> None:
    onnx = records.result()
    results = [
        with_choice(onnx, graph_optimization="basic", options={"x": 1}),
        with_choice(onnx, graph_optimization="all", options={"x": 1}),
        records.result(format="tflite"),
    ]

    data = named(records.run(results))["runtimes"].data

    assert [datum["runtime"] for datum in data] == ["onnxruntime basic", "onnxruntime all", "litert"]
    assert len({datum["line"] for datum in data}) == 1


def test_what_a_picture_has_no_room_for_is_said() -> None:
    results = [records.result(model=f"net_{n:03}", threads=t, p50_ms=1.0 + n) for n in range(70) for t in (1, 2)]

    chart = named(records.run(results))["threads"]

    assert "The 60 slowest files of 70; the table has all." in chart.says
    assert {str(datum["of"]).split()[0] for datum in chart.data} == {f"net_{n:03}" for n in range(10, 70)}


def test_the_longest_operators_are_shown_with_their_share_of_all() -> None:
    run = records.run([records.result(measured={"profile": PROFILE})])

    data = named(run)["operators"].data

    assert [datum["operator"] for datum in data] == [f"conv_{n}" for n in range(29, 9, -1)]
    assert data[0]["title"] == "Conv conv_29", "a runtime's fused name hides what it is"
    assert named(run)["operators"].spec["encoding"]["y"]["field"] == "title"
    assert data[0]["share_pct"] == pytest.approx(100 * 30 / 465, rel=1e-4)


def test_a_colour_means_the_same_on_every_picture_of_a_page() -> None:
    results = [
        records.result(model=model, format=format_, threads=threads)
        for model in ("net_1", "net_2")
        for format_ in ("tflite", "onnx")
        for threads in (1, 2)
    ]
    run = records.run(results)
    drawn = named(run)

    def scale(name: str, layer: int) -> dict[str, str]:
        found = drawn[name].spec["layer"][layer]["encoding"]["color"]["scale"]
        return dict(zip(found["domain"], found["range"], strict=True))

    runtimes = {name.split(" ")[0]: colour for name, colour in scale("runtimes", -1).items()}
    assert runtimes == {"onnxruntime": "var(--kind0)", "litert": "var(--kind1)"}
    lines = re.findall(r'class="kind(\d)"><text[^>]*><title>(\w+)/', render(run, "html"))
    assert set(lines) == {("0", "onnx"), ("1", "tflite")}
    models = scale("size-latency", 0)
    assert models == scale("threads", 1) == {"net_1": "var(--kind3)", "net_2": "var(--kind4)"}
    static = static_specs(charts(view(run)))["runtimes-host"]
    assert "var(" not in json.dumps(static), "a file knows no names of colours"


def test_documents_without_pictures_name_the_longest_operators_in_a_line() -> None:
    results = [records.result(threads=n, measured={"profile": PROFILE}) for n in (1, 2, 3, 4)]
    (sentence,) = in_words(view(records.run(results)).devices[0])

    longest = "Conv conv_29 6 %, Conv conv_28 6 %, Conv conv_27 6 %"
    each = "; ".join(f"mobilenet_v2 onnx/fp32, {n}: {longest}" for n in ("1 thread", "2 threads", "3 threads"))
    assert sentence == f"Longest operators, share of their time: {each}; 1 more row on the page."
    assert "Longest operators" in render(records.run(results), "md")
    assert not in_words(view(records.run([records.result()])).devices[0])


def test_rows_that_a_page_has_no_room_for_are_counted_in_words() -> None:
    results = [
        records.result(model=f"net_{n:02}", measured={"profile": PROFILE} if n < 62 else {"ran": planned()})
        for n in range(124)
    ]
    run = records.run(results)

    drawn, said = named(run), " ".join(words for _, words in Page(render(run, "html")).texts)

    assert "The first 60 rows of 124; `harness report --to json` has all." in drawn["over-time"].says
    assert "The first 60 rows of 62; `harness report --to json` has all." in drawn["operators"].says
    assert "Operators timed: The first 60 rows of 62;" in said
    assert "Operations planned: The first 60 rows of 62;" in said
    few = named(records.run(results[:60]))
    assert "The first" not in few["over-time"].says + few["operators"].says


def test_a_trace_has_every_operator_end_to_end_and_a_process_a_row() -> None:
    run = records.run([records.result(), records.result(threads=2, measured={"profile": PROFILE})])

    trace = json.loads(render(run, "trace"))
    name, *operators = trace["traceEvents"]

    assert trace["otherData"]["times"].startswith("Not a real timeline")
    assert name["args"]["name"] == "mobilenet_v2 onnx/fp32, 2 threads on host"
    assert [each["name"] for each in operators] == [each.name for each in PROFILE.operators]
    assert [each["ts"] for each in operators[:3]] == [0, 1, 3]
    assert {each["pid"] for each in operators} == {name["pid"]}


def test_a_picture_of_one_row_at_a_time_is_a_file_for_each_row_with_its_own_data() -> None:
    run = records.run([records.result(), records.result(threads=2, p50_ms=4.0)])
    chart = named(run)["over-time"]

    specs = static_specs([chart])

    assert list(specs) == [f"over-time-host-mobilenet_v2-onnx-fp32-{many}" for many in ("1-thread", "2-threads")]
    spec = specs["over-time-host-mobilenet_v2-onnx-fp32-2-threads"]
    assert spec["title"]["subtitle"] == spec["params"][0]["value"] == "mobilenet_v2 onnx/fp32, 2 threads"
    assert {datum["label"] for datum in spec["data"]["values"]} == {"mobilenet_v2 onnx/fp32, 2 threads"}
    assert spec["data"]["values"][0]["p50_ms"] == pytest.approx(4.0, rel=0.05)


def test_rows_whose_names_are_alike_as_files_have_a_file_each() -> None:
    run = records.run([records.result(model="a b"), records.result(model="a+b")])

    names = list(static_specs([named(run)["over-time"]]))

    assert names == ["over-time-host-a-b-onnx-fp32-1-thread", "over-time-host-a-b-onnx-fp32-1-thread-2"]


@pytest.mark.parametrize(
    ("measured", "why"),
    [
        ({"profile": PROFILE}, ""),
        ({}, "measure with --profile-ops"),
        ({"profile_missing": "the Python worker does not take it"}, "were not: the Python worker does not take it"),
        ({"ran": planned()}, "`--to html` has that plan"),
    ],
)
def test_a_trace_that_would_be_empty_says_why_and_advises_only_what_helps(measured: dict[str, Any], why: str) -> None:
    said = why_empty(records.run([records.result(measured=measured)]))

    assert said.endswith(why)
    assert bool(said) is bool(why)


@pytest.mark.slow
def test_every_picture_of_the_page_is_also_a_file(tmp_path: Path) -> None:
    results = [
        records.result(format=format_, threads=threads, size_mib=size, measured={"profile": PROFILE})
        for format_, size in (("onnx", 14.0), ("tflite", 13.0))
        for threads in (1, 2)
    ]
    run = records.run(results)

    written = write_pictures(run, tmp_path / "pictures")

    drawn = ["latency-host-mobilenet_v2", *static_specs(charts(view(run)))]
    assert [path.name for path in written] == [f"{name}{suffix}" for name in drawn for suffix in (".svg", ".png")]
    assert all(path.read_bytes().startswith((b"<svg", b"\x89PNG")) for path in written)
    second = (tmp_path / "pictures/operators-host-mobilenet_v2-tflite-fp32-2-threads.svg").read_text(encoding="utf-8")
    assert "mobilenet_v2 tflite/fp32, 2 threads" in second
    assert "conv_29" in second


def test_a_long_title_of_a_file_goes_on_in_the_next_line() -> None:
    device = records.device(cpu="A processor whose maker gave it a name that is as long as a whole sentence")

    (svg,) = latency_files(view(records.run([records.result()], devices=[device])).devices).values()

    lines = re.findall(r'<text[^>]*class="title">([^<]*)</text>', svg)
    assert len(lines) == 2
    assert max(map(len, lines)) <= 100
    assert " ".join(lines).endswith("Debian GNU/Linux 13")


def test_the_operators_of_a_row_are_a_table_with_what_taking_them_cost_and_are_in_the_pages_data() -> None:
    run = records.run([records.result(measured={"profile": PROFILE}), records.result(threads=2)])
    text = render(run, "html")
    page = Page(text)

    assert [said for said in page.text_of("summary") if said.startswith("Operators")] == [
        "Operators of mobilenet_v2 onnx/fp32, 1 thread"
    ]
    said = " ".join(words for _, words in page.texts)
    assert "onnxruntime-trace: 2 inferences of 4.05 ms each while they were timed" in said
    assert f"10 more operators take {100 * 55 / 465:.1f} %" in said
    (embedded,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    data = json.loads(embedded)
    (operators,) = data["operators"].values()
    assert [each["name"] for each in operators] == [f"conv_{n}" for n in range(29, 9, -1)]
    assert "its operators take 465 µs together" in said
    assert list(data["operator_totals"].values()) == [
        {"inference_ns": 4_050_000, "all_operators_ns": 465_000, "operators": 30}
    ]
    assert (data["parameters"], data["macs"]) == ({"mobilenet_v2": 3_504_872}, {"mobilenet_v2": 300_774_272})
    (device,) = data["conditions"].values()
    for name, value in device.items():
        assert name in said
        assert value in said


def test_where_operations_are_planned_is_a_table_where_no_time_was_taken() -> None:
    run = records.run([records.result(measured={"ran": planned()})])

    page = Page(render(run, "html"))

    assert "Where mobilenet_v2 onnx/fp32, 1 thread is computed" in page.text_of("summary")
    assert "neural_engine" in page.text_of("td")
