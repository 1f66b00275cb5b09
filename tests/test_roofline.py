"""`nbprop roofline` and the pictures of benchmarks."""

import itertools
import json

import pytest

from nbprop.bench import picture, roofline
from nbprop.bench.cli import bench
from nbprop.bench.contest import Result
from nbprop.cli import main

COUNTED = Result("conv", "forward", 1.0, 2.0, "nchw", 8 * 10**9, 10**9, 0.25)
UNCOUNTED = COUNTED._replace(name="relu", pass_="forward+backward", flops=0)


def points(*results):
    return [roofline.Point(result, 16.0) for result in results]


def test_roofs():
    under_peak, under_copy, of_copy = points(COUNTED, COUNTED._replace(flops=2 * 10**9), UNCOUNTED)
    assert (under_peak.intensity, under_peak.of_roof) == (8, 8 / 16)
    assert (under_copy.intensity, under_copy.of_roof) == (2, 2 / 8)
    assert (of_copy.intensity, of_copy.of_roof) == (0, 1 / 4)
    assert of_copy.as_json()["intensity"] is None


def test_rows_stand_under_the_peaks_of_the_same_run(capsys):
    assert main(["roofline", "lenet_c1", "softmax_ce", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["peak_gflops"] > 0 and printed["copy_gbytes"] > 0
    assert [row["name"] for row in printed["rows"]] == ["lenet_c1"] * 3 + ["softmax_ce"]
    assert all(row["of_roof"] > 0 and row["gbytes"] > 0 for row in printed["rows"])


def test_table(capsys):
    assert main(["roofline", "lenet_c1", "--threads", "1"]) == 0
    first, header, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith("1 threads") and header.split()[:3] == ["row", "pass", "FLOP/byte"]
    assert [row.split()[1] for row in rows] == ["forward", "backward_input", "backward_weight"]


@pytest.mark.parametrize(("arguments", "message"), [
    (["roofline", "conv9"], "row is 'conv9'; expected one of lenet_c1, "),
    (["roofline", "--threads", "4096"], "--threads is 4096; expected 1 to "),
])  # fmt: skip
def test_bad_input(capsys, arguments, message):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_picture_wants_matplotlib(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for command in (["roofline"], ["bench", "conv"]):
        assert main([*command, "--plot", "a.png"]) == 2
        assert "--plot needs matplotlib, which is not installed: pip install 'nbprop[plot]'" in capsys.readouterr().err


def test_a_picture_has_an_ending_that_says_so():
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=r"--plot is a.txt; expected a file name that ends in .png, .svg, .pdf"):
        picture.check("a.txt")


@pytest.mark.parametrize("results", [[COUNTED], [UNCOUNTED], [COUNTED, UNCOUNTED]], ids=["counted", "not", "both"])
def test_pictures_name_every_row(results, tmp_path):
    pytest.importorskip("matplotlib")
    drawn = tmp_path / "a.svg"
    for draw in (lambda: picture.roofline(points(*results), 16.0, 4.0, drawn), lambda: picture.bars(results, drawn),
                 lambda: picture.bars([r._replace(peer_s=None) for r in results], drawn)):  # fmt: skip
        draw()
        text = drawn.read_text("utf-8")
        assert all(f"<!-- {result.name} -->" in text for result in results)


def test_names_fit_beside_each_other():
    places = picture._apart([0.1, 0.1, 0.11, 0.5, 1.0, 1.0])
    assert all(b - a > 0.029 for a, b in itertools.pairwise(places)) and places[0] == 0.1 and places[-1] < 1


def test_bench_draws(tmp_path):
    pytest.importorskip("matplotlib")
    assert bench("ops", ["softmax_ce"], plot=tmp_path / "a.png") == 0
    assert (tmp_path / "a.png").stat().st_size > 1000
