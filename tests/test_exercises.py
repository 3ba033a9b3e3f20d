"Every chapter's exercises: a question, a check that does not hold the answer, a solution that is folded away and right."
import json, re
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
from mmrec.core import MmrecError, answer_code, check_answer

NBS = Path(__file__).parents[1]/"nbs"
NAMES = sorted(p.stem for p in NBS.glob("[0-9]*.ipynb"))
FOLDED = dict(tags=["hide-cell"], jupyter=dict(source_hidden=True, outputs_hidden=True))
CHECK = re.compile(r'answer = \.\.\.\ncheck_answer\(answer, "([0-9a-f]{12})"(?:, digits=(\d))?(?:,\s+hint="[^"]+"(?:\s+"[^"]+")*)?\);')

WRONG = { # (chapter, number of the exercise): answers that one might give, and should not
    ("00_core", 1): [1, 0, 3], ("00_core", 2): [5, 3, 2], ("00_core", 3): [{"#E69F00", "#CC79A7"}, {"#0072B2", "#009E73"}],
    ("01_net", 1): [{"172.32.0.1"}, {"100.100.1.1", "172.32.0.1", "2002:808:808::1"}, "172.32.0.1"], ("01_net", 2): ["https://shop.example//cdn.example/c?d=1&e=2", "https://cdn.example/c?d=1&amp;e=2"], ("01_net", 3): [63.5, 15.5, 32],
    ("03_sim.world", 1): [.5, .325, .6], ("03_sim.world", 2): [.12, .22, .4],
    ("04_sim.pictures", 1): [15, 20, 10], ("04_sim.pictures", 2): [191, 63.8, 128],
    ("04_sim.pictures", 3): [{"yellow"}, {"pink", "orange", "blue", "red"}],
    ("05_sim.reviews", 1): [8, 6, 12], ("05_sim.reviews", 2): ["text + image", "image + hidden quality"],
    ("05_sim.reviews", 3): [.1, .2, .034],
    ("06_sim.shop", 1): [3956, 3958, 3998], ("06_sim.shop", 2): [.0685, .0567, .842],
    ("17_data.fetch", 1): [5, 15.5, 63], ("17_data.fetch", 2): [0, 20, 40, 100], ("17_data.fetch", 3): [0, 4, 6, 10],
    ("10_data.ratings", 1): [[1, 3, 5], [0, 1, 2], [1.5, 3, 4]], ("10_data.ratings", 2): ["1-7", "3-6", "1-6"], ("10_data.ratings", 3): [3, 5, 6],
    ("11_data.reading", 1): [1, 0, 3], ("11_data.reading", 2): [148, 150, 0, 300], ("11_data.reading", 3): [{"a"}, {"a", "b", "c"}, "a"],
    ("12_data.fields", 1): [[4, 4], [3, 3], [4, 3]], ("12_data.fields", 2): [12.5, 12, 50], ("12_data.fields", 3): [{"reader", "book", "score", "comment"}, {"book", "score", "avg_score", "comment"}],
    ("13_data.sampling", 1): [6, 7, 5], ("13_data.sampling", 2): [4000, 20_000], ("13_data.sampling", 3): [0],
    ("14_data.tables", 1): [.59, .6, .33], ("14_data.tables", 2): [.7, .67, 0], ("14_data.tables", 3): ["Heat (1995)", "A plot."],
    ("15_data.parquet", 1): [[1, 1], [10, 10], [1, 5]], ("15_data.parquet", 2): ["reviews.parquet", "items.parquet", "dataset.json"],
    ("16_data.card", 1): [.17, .01, 102], ("16_data.card", 2): [[.855, .979], [.979, .979]],
    ("18_data.images", 1): [[150, 100], [225, 150], [200, 300]], ("18_data.images", 2): [3.6, 22.5, 4],
    ("19_data.splits", 1): [7, 14, 9], ("19_data.splits", 2): [3, 4, 6], ("19_data.splits", 3): ["a", "b"],
    ("20_features.encode", 1): [.00098, .001, .00024], ("20_features.encode", 2): [6, 3, 5], ("20_features.encode", 3): [100, 1, 6],
    ("21_features.engines", 1): [31, 30, 999], ("21_features.engines", 2): [.0039, .00098, .0156], ("21_features.engines", 3): [7, 1],
    ("22_features.text", 1): ["a", "c", "d"], ("22_features.text", 2): [20, 24, 30], ("22_features.text", 3): ["a", "b"],
    ("24_features.vision", 1): [10, 20, 40], ("24_features.vision", 2): ["outlines", "textures", "shape"], ("24_features.vision", 3): [2048, 1000, 1024],
    ("26_features.fusion", 1): [1062, 1063], ("26_features.fusion", 2): [1.3, 2, 5],
    ("32_rating.baselines", 1): [.51, .69, 1.6], ("32_rating.baselines", 2): ["a", "c"],
    ("33_rating.network", 1): [6, 12], ("33_rating.network", 2): [.8, .69, .47], ("33_rating.network", 3): [1, 5, 6],
    ("34_rating.ordinal", 1): [1, 3], ("34_rating.ordinal", 2): [.25, .75, 1],
    ("35_rating.ensembles", 1): [1.1, 2.2, .48], ("35_rating.ensembles", 2): [3, 15, 20],
    ("30_eval.measures", 1): [0, 3, 7], ("30_eval.measures", 2): [1, 25], ("30_eval.measures", 3): [.3, .6],
    ("31_eval.statistics", 1): [2, 50, 100], ("31_eval.statistics", 2): [5, 7, 10], ("31_eval.statistics", 3): ["a", "c"],
    ("50_report.page", 1): [1, 2], ("50_report.page", 2): [4, 8, 18], ("50_report.page", 3): [.25, 2, 4],
    ("51_report.explorer", 1): [.6, .4, .2, -.3], ("51_report.explorer", 2): [[-1, .923], [.923, .923], [1, -1]], ("51_report.explorer", 3): [["B", "D", "B"], ["B", "C", "C"], ["B", "D"]],
    ("55_pipeline", 1): ["mmrec run", "mmrec run --split product --n-images 0 --epochs 50"], ("55_pipeline", 2): [3, 4, 5], ("55_pipeline", 3): ["b", "c"],
    ("60_evidence.trials", 1): [36, 12, 9], ("60_evidence.trials", 2): [15, 3, 7],
    ("61_evidence.worlds", 1): ["a", "b"], ("61_evidence.worlds", 2): [10, .1, 20, -10],
    ("62_evidence.leaks", 1): [901, 951, 850, 800], ("62_evidence.leaks", 2): ["course", "random", "item", "time"],
    ("63_evidence.before", 1): [4, 3.4, 5], ("63_evidence.before", 2): [1, .6, .625, 4.375],
    ("64_evidence.claims", 1): [[2, 1.5, 3.5], [2, -1.5, 3.5], [2, 3.5, 1.5], [62, 58.5, 3.5]], ("64_evidence.claims", 2): [10, 4, 3],
    ("66_report.paper", 1): ["Table 2", "Figure 1", "Figure 3"], ("66_report.paper", 2): ["makes a difference", "p"], ("66_report.paper", 3): [{"epochs", "items", "download"}, {"items"}, {"epochs"}],
    ("89_cli", 1): [[1, 1, 0, 1], [2, 2, 0, 2], [1, 2, 0, 1]], ("89_cli", 2): [6, 8, 9],
}


def text(cell): return "".join(cell["source"])

def said(cell): return "".join("".join(o["text"]) for o in cell["outputs"])

def cells(name): return json.loads((NBS/f"{name}.ipynb").read_text(encoding="utf8"))["cells"]

def exercises(name):
    "Question, check and solution of each exercise: three cells that follow each other."
    found = cells(name)
    return [found[i - 1:i + 2] for i, c in enumerate(found) if c["cell_type"] == "code" and text(c).startswith("answer = ...")]

ALL = [(name, k, *three) for name in NAMES for k, three in enumerate(exercises(name), 1)]
EACH = pytest.mark.parametrize("name, number, question, check, solution", ALL, ids=[f"{name}-{k}" for name, k, *_ in ALL])


@pytest.mark.parametrize("name", NAMES)
def test_each_chapter_has_exercises_with_checks(name):
    prose = "\n\n".join(text(c) for c in cells(name) if c["cell_type"] == "markdown")
    asked = re.findall(r"^\*\*(\d+)\.\*\* ", re.split(r"^## Exercises\s*$", prose, flags=re.M)[-1], re.M)
    assert len(asked) >= 2, f"{name}.ipynb: two exercises or more with a check under '## Exercises'"
    assert asked == [str(k) for k in range(1, len(exercises(name)) + 1)], f"{name}.ipynb: questions '**1.** …' and checks do not go together"


@EACH
def test_an_exercise_is_made_of_three_cells(name, number, question, check, solution):
    assert text(question).startswith(f"**{number}.** ")
    assert CHECK.fullmatch(text(check)), text(check)
    assert text(solution).startswith("# Solution\n# ") # of a folded cell the first line shows
    code, digits = CHECK.fullmatch(text(check)).groups()
    assert text(solution).endswith(f'assert check_answer(answer, "{code}"' + (f", digits={digits})" if digits else ")"))


@EACH
def test_the_solution_is_folded_away_and_was_run(name, number, question, check, solution):
    assert solution["metadata"] == FOLDED
    assert said(check) == "no answer yet: put yours in place of the three dots\n"
    assert said(solution).endswith("right\n")


def numbers_told(prose):
    "Numbers that stand in the prose itself, without those in code."
    return {float(n.replace(",", "")) for n in re.findall(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?(?![\w])", re.sub(r"```.*?```|`[^`]*`|^\*\*\d+\.\*\*", "", prose, flags=re.S))}

@EACH
def test_the_question_does_not_give_the_answer(name, number, question, check, solution):
    code, digits = CHECK.fullmatch(text(check)).groups()
    for n in numbers_told(text(question) + text(check)): assert not check_answer(n, code, int(digits or 3)), n

def test_numbers_told_sees_numbers():
    assert numbers_told("**1.** Of 1,234 rows and .5 or 2.5, `3` stand; 20-core.") >= {1234, 2.5} and 3 not in numbers_told("**3.** `3`")


@pytest.mark.parametrize("name, number", WRONG)
def test_wrong_answers_are_refused(name, number):
    code, digits = CHECK.fullmatch(text(exercises(name)[number - 1][1])).groups()
    for wrong in WRONG[name, number]: assert check_answer(wrong, code, int(digits or 3)) is False, wrong


def test_wrong_answers_are_known_for_every_exercise():
    assert {(name, k) for name, k, *_ in ALL} == set(WRONG)


def test_codes_differ():
    codes = [CHECK.fullmatch(text(check))[1] for *_, check, _ in ALL]
    assert len(set(codes)) == len(codes)


# check_answer itself

@pytest.mark.parametrize("right, same", [(3, [3.0, np.int64(3), np.float32(3), "3" and 3 + 1e-12]), (.6667, [2/3, np.float32(2/3), .667]), (True, [np.bool_(True)]), (None, [None]),
    ("Red wine", [" red  WINE ", "red\nwine"]), ([1, 2.5], [(1, 2.5), np.array([1, 2.5]), pd.Series([1, 2.5]), pd.Index([1, 2.5])]), ({"a", "b"}, [{"B", "a"}, frozenset("ab")]),
    ({"x": 1, "y": [2]}, [{"y": (2.0,), "x": np.int8(1)}]), (pd.DataFrame([[1, 2]]), [[[1, 2]]]), (float("nan"), [np.nan]), (0, [-0.0, 1e-17]), (10**20, [10**20, 1e20])])
def test_what_is_the_same_answer(right, same):
    for answer in same: assert check_answer(answer, answer_code(right)) is True, answer


@pytest.mark.parametrize("right, others", [(1, [True, "1", [1], 2, None]), (1234, [1230, 1235]), (.667, [.668, .66, 667]), ("ab", ["a b", ["ab"], {"ab"}]), ([1, 2], [[2, 1], {1, 2}, [1, 2, 3], 12]),
    ({"a": 1}, [{"a": 2}, {"b": 1}, ["a", 1]]), (["a,b"], [["a", "b"]]), (1e-12, [0, 2e-12])])
def test_what_is_another_answer(right, others):
    for answer in others: assert check_answer(answer, answer_code(right)) is False, answer


def test_a_number_at_a_border_may_be_rounded_either_way():
    for right, answer in ((.12449999, .1245001), ([.125, .335], [.12499, .3351]), (99.96, 99.949)): assert check_answer(answer, answer_code(right))
    assert not check_answer(.1242, answer_code(.1248))


def test_no_answer_is_neither_right_nor_wrong(capsys):
    for answer in (..., [...], [1, ...], {"a": ...}, (...,)): assert check_answer(answer, answer_code(1)) is None
    assert "not yet" not in capsys.readouterr().out


def test_hints_come_after_a_wrong_answer_only(capsys):
    code = answer_code(1)
    for answer in (..., 1, 2): check_answer(answer, code, hint="look again")
    assert capsys.readouterr().out.splitlines()[1:] == ["right", "not yet: look again"]


def test_slips_of_hand_are_named():
    for bad in (object(), 1j, answer_code):
        with pytest.raises(MmrecError, match="cannot be checked"): check_answer(bad, answer_code(1))
    for code in ("", "xyz", 12, answer_code(1)[:-1], answer_code(1).upper() + "0"):
        with pytest.raises(MmrecError, match="copy the twelve digits"): check_answer(1, code)
