"What every chapter relies on: whose a file is, who makes it, what is swept, what reaches a terminal."
import errno, fcntl, json, os, stat, subprocess, sys, threading, time
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from mmrec import core
from mmrec.core import (MAKING, NOTE, MmrecError, atomic_folder, atomic_path, claimed, complain, foreign, printable, publish, publish_free,
                        publish_into, read_json, sweep, unchanged, workplace, write_json)


def tree(folder):
    "Everything below a folder: kind and content by path, hidden names too."
    return {p.relative_to(folder).as_posix(): (stat.S_IFMT(p.lstat().st_mode), p.read_bytes() if p.is_file() else b"") for p in sorted(Path(folder).rglob("*"))}


def child(code, *argv, **kw):
    "A process of its own that runs some code on mmrec.core."
    return subprocess.Popen([sys.executable, "-c", "import os, sys, time; from pathlib import Path; from mmrec.core import *\n" + code, *map(str, argv)], stdout=subprocess.PIPE, text=True, **kw)


# what is the user's

@pytest.mark.parametrize("name", ["ssh", "git", "config", "data"])
def test_a_hidden_folder_of_the_users_stays(tmp_path, name):
    (tmp_path/f".{name}"/"objects").mkdir(parents=True)
    (tmp_path/f".{name}"/"objects"/"key").write_text("secret")
    before = tree(tmp_path)
    with atomic_folder(tmp_path/name) as making: (making/"a").write_text("x")
    with atomic_path(tmp_path/f"{name}.txt") as tmp: tmp.write_text("x")
    assert before.items() <= tree(tmp_path).items() and (tmp_path/name/"a").exists()


@pytest.mark.parametrize("note", [None, "", "{}", "[]", "null", '{"made_by": "somebody"}', "[" * 100_000, "\0" * 50])
def test_what_only_looks_like_ours_is_never_swept(tmp_path, note):
    place = tmp_path/f"{MAKING}0123456789abcdef"
    place.mkdir()
    (place/"diary.txt").write_text("dear diary")
    if note is not None: (place/NOTE).write_text(note)
    (tmp_path/f"{MAKING}file").write_text("a file")
    (tmp_path/f"{MAKING}link").symlink_to(place)
    before = tree(tmp_path)
    sweep(tmp_path)
    with atomic_folder(tmp_path/"new"): pass
    assert {k: v for k, v in tree(tmp_path).items() if not k.startswith("new")} == before


def test_a_note_that_is_a_link_or_a_pipe_is_not_followed(tmp_path):
    ours = json.dumps(dict(made_by="mmrec"))
    (tmp_path/"elsewhere.json").write_text(ours)
    for name, make in (("a", lambda p: p.symlink_to(tmp_path/"elsewhere.json")), ("b", os.mkfifo)):
        (place := tmp_path/f"{MAKING}{name}").mkdir()
        make(place/NOTE); (place/"diary.txt").write_text("x")
    sweep(tmp_path)
    assert all((tmp_path/f"{MAKING}{name}"/"diary.txt").exists() for name in "ab")


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file", "link", "dangling link"])
@pytest.mark.parametrize("late", [False, True])
def test_what_has_the_name_is_not_replaced(tmp_path, kind, late):
    path, elsewhere = tmp_path/"name", tmp_path/"elsewhere"
    elsewhere.mkdir()
    def appear():
        if kind.endswith("folder"): path.mkdir()
        if kind == "folder": (path/"mine").write_text("mine")
        if kind == "file": path.write_text("mine")
        if kind.endswith("link"): path.symlink_to(elsewhere if kind == "link" else tmp_path/"nowhere")
    if not late: appear(); before = tree(tmp_path)
    with pytest.raises(MmrecError, match="name: .*there"), atomic_folder(path) as making:
        (making/"a").write_text("x")
        if late: appear(); before = {k: v for k, v in tree(tmp_path).items() if not k.startswith(".")}
    assert tree(tmp_path) == before


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EINVAL, errno.ENOTSUP])
def test_where_the_system_cannot_rename_without_replacing(tmp_path, monkeypatch, number):
    monkeypatch.setattr(core, "_rename_call", lambda source, path: number)
    with atomic_folder(tmp_path/"new") as making: (making/"a").write_text("x")
    assert (tmp_path/"new"/"a").exists()
    with pytest.raises(MmrecError), atomic_folder(tmp_path/"late"): (tmp_path/"late").mkdir()
    (tmp_path/"file").write_text("mine"); (tmp_path/"made").write_text("ours")
    with pytest.raises(MmrecError): publish(tmp_path/"made", tmp_path/"file")
    assert (tmp_path/"file").read_text() == "mine" and not list((tmp_path/"late").iterdir())


def test_a_file_without_our_mark_is_not_written_over(tmp_path):
    path = tmp_path/"card.png"
    for content in (b"", b"holiday", b"x"*10**6):
        path.write_bytes(content)
        with pytest.raises(MmrecError, match="not made by mmrec"), atomic_path(path, b"drawn by mmrec"): pytest.fail("began to write")
        assert path.read_bytes() == content
    for ours in (b"drawn by mmrec" + b"x"*10**6, b"x"*10**6 + b"drawn by mmrec"):
        path.write_bytes(ours)
        with atomic_path(path, b"drawn by mmrec") as tmp: tmp.write_bytes(b"new: drawn by mmrec")
        assert path.read_bytes().startswith(b"new")
    path.unlink(); path.symlink_to(tmp_path/"elsewhere")
    with pytest.raises(MmrecError, match="not made by mmrec"), atomic_path(path, b"drawn by mmrec"): pass
    path.unlink()
    with pytest.raises(MmrecError, match="not made by mmrec|there already"), atomic_path(path, b"drawn by mmrec") as tmp: tmp.write_text("ours"); path.write_text("meanwhile")
    assert path.read_text() == "meanwhile"


def test_an_empty_folder_stays_and_is_filled(tmp_path):
    (tmp_path/"mine").mkdir(mode=0o700)
    number = (tmp_path/"mine").stat().st_ino
    with workplace(tmp_path, "x") as making:
        for name in "abc": (making/name).write_text(name)
        publish_into(making, tmp_path/"mine", last="a")
    assert (tmp_path/"mine").stat().st_ino == number and sorted(p.name for p in (tmp_path/"mine").iterdir()) == list("abc")
    with pytest.raises(MmrecError), workplace(tmp_path, "x") as making: publish_into(making, tmp_path/"mine")


# makers that die, and makers that live

STAY = 'with {0} as making:\n    (Path(making)/"half").write_text("x") if Path(making).is_dir() else None\n    print("in", flush=True); time.sleep(60)'

@pytest.mark.parametrize("maker", ['atomic_folder(Path(sys.argv[1])/"new")', 'atomic_path(Path(sys.argv[1])/"new.txt")', 'workplace(sys.argv[1], "run")', 'claimed(Path(sys.argv[1])/"new")'])
def test_the_next_sweeps_what_a_dead_maker_left_and_not_what_a_living_one_makes(tmp_path, maker):
    dead, alive = (child(STAY.format(maker.replace("new", name)), tmp_path) for name in ("dead", "alive"))
    for c in (dead, alive): assert c.stdout.readline() == "in\n"
    dead.kill(); dead.wait()
    assert len(core._places(tmp_path)) == 2
    write_json(tmp_path/"other.json", {})
    left, = core._places(tmp_path)
    note = read_json(Path(left)/NOTE)
    assert note["pid"] == alive.pid and note["host"] and abs(time.time() - note["started"]) < 60
    alive.kill(); alive.wait()
    with atomic_folder(tmp_path/"next"): pass
    assert core._places(tmp_path) == [] and {p.name for p in tmp_path.iterdir()} == {"other.json", "next"}


def test_a_sweep_that_was_cut_short_is_finished(tmp_path):
    maker = child(STAY.format('atomic_folder(Path(sys.argv[1])/"new")'), tmp_path)
    maker.stdout.readline(); maker.kill(); maker.wait()
    place = Path(core._places(tmp_path)[0])
    (place/"new"/"half").unlink(); (place/"new").rmdir() # the note goes last
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_maker_that_died_before_it_marked_its_place_leaves_nothing(tmp_path):
    "An empty place, or one with an empty note, goes; what a living maker holds and what has a name of another kind stay."
    for name in ("0"*16, "1"*16, "2"*16, "mine"): (tmp_path/f"{MAKING}{name}").mkdir()
    for name in ("1"*16, "2"*16): (tmp_path/f"{MAKING}{name}"/"maker.json").touch()
    with open(tmp_path/f"{MAKING}{'2'*16}"/"maker.json") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        sweep(tmp_path)
        assert {p.name.removeprefix(MAKING) for p in tmp_path.iterdir()} == {"2"*16, "mine"}
    sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [f"{MAKING}mine"]


def test_makers_at_once_take_turns(tmp_path):
    code = """
with claimed(Path(sys.argv[1])/"new", say=lambda line: None) as making:
    found = (Path(sys.argv[1])/"new").exists()
    if not found: making.mkdir(); (making/"a").write_text("x"*10**6); time.sleep(.2); publish(making, Path(sys.argv[1])/"new")
print("found" if found else "made")"""
    for _ in range(3):
        makers = [child(code, tmp_path) for _ in range(4)]
        said = sorted(m.communicate(timeout=60)[0].strip() for m in makers)
        assert said == ["found", "found", "found", "made"] and [p.name for p in tmp_path.iterdir()] == ["new"]
        (tmp_path/"new"/"a").unlink(); (tmp_path/"new").rmdir()


def test_who_waits_for_a_maker_that_is_killed_makes_it(tmp_path):
    first = child(STAY.format('claimed(Path(sys.argv[1])/"new")'), tmp_path)
    assert first.stdout.readline() == "in\n"
    said, second = [], []
    def make():
        with claimed(tmp_path/"new", said.append) as making: second.append(making); making.mkdir(); publish(making, tmp_path/"new")
    thread = threading.Thread(target=make); thread.start()
    while not said: time.sleep(.01)
    assert "waiting for it" in said[0] and not second
    first.kill(); first.wait(); thread.join(60)
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


def test_names_run_on(tmp_path):
    for _ in range(3):
        with workplace(tmp_path, "run") as making: publish_free(making, tmp_path/"run")
    (tmp_path/"run-4").symlink_to(tmp_path/"nowhere")
    with workplace(tmp_path, "run") as making: assert publish_free(making, tmp_path/"run").name == "run-5"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "run-2", "run-3", "run-4", "run-5"]


def test_many_threads_write_and_sweep_in_one_folder(tmp_path):
    def work(k):
        for i in range(40): write_json(tmp_path/f"{k}.json", dict(i=i))
    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert {p.name for p in tmp_path.iterdir()} == {f"{k}.json" for k in range(6)} and all(read_json(p) == dict(i=39) for p in tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(MmrecError, match="permission"), atomic_folder(tmp_path/"new"): pass


def test_names_that_no_system_takes(tmp_path):
    with pytest.raises(MmrecError, match="too long"), atomic_folder(tmp_path/("x"*300)): pass
    with atomic_folder(tmp_path/("x"*255)): pass
    name = os.fsdecode(b"caf\xe9")
    with atomic_folder(tmp_path/name) as making: write_json(making/f"{name}.json", {name: name})
    assert read_json(tmp_path/name/f"{name}.json") == {name: name}


# what changes while it is read

@pytest.mark.parametrize("touch", ["append", "same size, time put back", "another file", "gone", "a new shard"])
def test_a_source_that_changes_is_noticed(tmp_path, touch):
    (tmp_path/"shards").mkdir()
    path = tmp_path/"shards"/"a.csv"
    path.write_text("abc")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    with unchanged([tmp_path/"shards", path, tmp_path/"none"]): path.read_text()
    with pytest.raises(MmrecError, match="changed while it was read"), unchanged([tmp_path/"shards"]):
        if touch == "append": path.open("a").write("d")
        if touch.startswith("same"): path.write_text("xyz"); os.utime(path, ns=times)
        if touch == "another file": (tmp_path/"b").write_text("abc"); (tmp_path/"b").replace(path)
        if touch == "gone": path.unlink()
        if touch == "a new shard": (tmp_path/"shards"/"b.csv").write_text("x")


# what others have written

@given(st.binary(max_size=200) | st.text(max_size=60).map(lambda t: t.encode("utf8", "surrogatepass")))
@settings(max_examples=200, deadline=None)
def test_json_of_anybody_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp()/"any.json"
    path.write_bytes(data)
    try: read_json(path)
    except MmrecError as e: assert len(str(e).splitlines()) == 1


@pytest.mark.parametrize("text", ["["*100_000, '{"a":'*100_000, "9"*5000, "\0", '"\\ud800"', "NaN", "1e999", "", "\ufeff{}"])
def test_odd_json(tmp_path, text):
    (tmp_path/"a.json").write_text(text, encoding="utf8")
    with pytest.raises(MmrecError): read_json(tmp_path/"a.json", dict)


def test_foreign_keeps_what_is_no_error_and_what_has_its_line():
    with pytest.raises(KeyboardInterrupt), foreign("f", "bad", "mend"): raise KeyboardInterrupt
    with pytest.raises(MmrecError, match="^own$"), foreign("f", "bad", "mend"): raise MmrecError("own")
    for error in (RecursionError("deep"), MemoryError(), UnicodeDecodeError("utf8", b"\xff", 0, 1, "no"), AttributeError("\x1b[2J\nx")):
        with pytest.raises(MmrecError, match="^f: bad .*mend$") as e, foreign("f", "bad", "mend"): raise error
        assert str(e.value).isprintable()


# what reaches a terminal

@given(st.text())
@settings(max_examples=300, deadline=None)
def test_nothing_that_commands_a_terminal_is_left(text):
    for shown in (printable(text), str(MmrecError(text, where=text, fix=text))):
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xd800 <= ord(c) < 0xe000 or c in "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f" for c in shown)
        shown.encode("utf8")
    assert all(c == "\n" or c == "\t" or ord(c) >= 32 for c in printable(text, lines=True))
    if text.isprintable(): assert printable(text) == text


def test_what_people_write_stays():
    for text in ("naïve café", "日本語　全角", "می‌خواهم", "👩‍👧‍👦", "a\u00a0b", "🏳️‍🌈", "e\u0301"): assert printable(text) == text


def test_a_line_is_said_wherever_it_can_be(capfd, monkeypatch):
    complain("a\x1b[31mb\nc")
    assert capfd.readouterr().err == "a\\x1b[31mb\\nc\n"
    monkeypatch.setattr(sys, "stderr", None); complain("nobody hears")
