"Pictures on disk: paths as other machines write them, names in sub-folders, what may not be read, and a word on each."
import os, random, time
from pathlib import Path
import pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from mmrec.core import MmrecError
from mmrec.data.tables import CleaningLog, _Disk, find_images, load_dataset, place_images

OUTSIDE = "picture: outside the table's folder, not read: --images FOLDER allows a folder"
RESPELLED, ENDS = "picture: path read in another spelling (blanks, backslashes, suffix)", "picture: path of another place, found by its end"
BY_NAME, ZEROS = "picture not at its path, found by the item's name", "picture found by the item's number with or without leading zeros"
SEVERAL, LOST, SHARED = "several pictures have the item's name: the first by depth, suffix and name", "picture file not found", "picture: several paths end at one file: it is taken for none"


def shop(folder, *files):
    for f in files: (folder/f).parent.mkdir(parents=True, exist_ok=True); (folder/f).write_bytes(b"a picture")
    return folder


def placed(folder, cells, images=None):
    "What became of the items `cells` (dict from item to cell): dict from item to path below `folder`, and the rules of the log."
    log = CleaningLog()
    table = place_images(pd.DataFrame(dict(item=pd.Series(list(cells), dtype="str"), image=pd.Series(list(cells.values()), dtype="str"))), folder, images, log)
    short = lambda p: os.path.relpath(p, folder) if p else ""
    return {i: short(p) for i, p in zip(table.item, table.image_path)}, {rule: n for (_, rule, _), (n, _) in log.entries.items()}


# one cell, read in many ways

@pytest.mark.parametrize("cell, file", [
    ("pics/a b 1.jpg", "pics/a b 1.jpg"), ("./pics/a b 1.jpg", "pics/a b 1.jpg"), ("pics/a%20b%201.jpg", "pics/a b 1.jpg"), ("pics\\a b 1.jpg", "pics/a b 1.jpg"), (".\\pics\\a%20b%201.jpg", "pics/a b 1.jpg"),
    ("pics/c.jpg", "pics/c.JPG"), ("pics/c", "pics/c.JPG"), ("pics/d.jpg", "pics/d.webp"), ("pics/100% wool.png", "pics/100% wool.png"), ("pics/e%20f.png", "pics/e%20f.png"), ("pics/größe 图.jpg", "pics/größe 图.jpg"),
    ("pics/gr%C3%B6%C3%9Fe%20%E5%9B%BE.jpg", "pics/größe 图.jpg"), ("pics/gro\u0308ße 图.jpg", "pics/größe 图.jpg"), ("pics/v1.0.jpg", "pics/v1.0.jpg"), ("pics//c.JPG", "pics/c.JPG"), ("pics/sub/../c.JPG", "pics/c.JPG"),
    ("C:\\shop\\pics\\c.JPG", "pics/c.JPG"), ("D:/other/shop/pics/v1.0.jpg", "pics/v1.0.jpg"), ("/old/machine/pics/c.jpg", "pics/c.JPG"), ("\\\\server\\share\\pics\\c.JPG", "pics/c.JPG"), ("file:///old/pics/c.JPG", "pics/c.JPG")])
def test_a_path_as_another_machine_wrote_it(tmp_path, cell, file):
    shop(tmp_path/"s", "pics/a b 1.jpg", "pics/c.JPG", "pics/d.webp", "pics/100% wool.png", "pics/e%20f.png", "pics/größe 图.jpg", "pics/v1.0.jpg", "pics/sub/x.jpg")
    found, rules = placed(tmp_path/"s", {"i": cell})
    assert Path(found["i"]) == Path(file) or (tmp_path/"s"/found["i"]).samefile(tmp_path/"s"/file)
    assert set(rules) <= {RESPELLED, ENDS}


@pytest.mark.parametrize("cell", ["", "nothing.jpg", "pics/nothing.jpg", "pics", "pics/", ".", "..", "/", "C:\\", "\\", "%", "%2e%2e%2f", "a\0b.jpg", "x"*5000, "pics/" + "y"*300 + ".jpg", "~/c.JPG", "$HOME/c.JPG", "pics/notes.txt", "|", "con:", "file://", "C:c.JPG"])
def test_what_names_no_picture(tmp_path, cell):
    shop(tmp_path/"s", "pics/c.JPG", "pics/notes.md")
    found, rules = placed(tmp_path/"s", {"i": cell})
    assert found == {"i": ""} and set(rules) <= {LOST, OUTSIDE}


def test_cells_are_decided_one_by_one(tmp_path):
    shop(tmp_path/"s", "t.jpg", "pics/red hat.jpg", "pics/B.jpg", "pics/sub/C.png", "pics/0007.jpg")
    cells = {"A": "red hat.jpg", "B": "", "C": "gone.jpg", "D": "https://h/d.jpg", "7": "", "E": "gone.jpg", "T": "t.jpg"}
    found, rules = placed(tmp_path/"s", cells, tmp_path/"s"/"pics")
    assert found == {"A": "pics/red hat.jpg", "B": "pics/B.jpg", "C": "pics/sub/C.png", "D": "", "7": "pics/0007.jpg", "E": "", "T": "t.jpg"}
    assert rules == {BY_NAME: 1, LOST: 1, ZEROS: 1}


@pytest.mark.parametrize("cell", ["pics/a.jpg", "deep/pics/a.jpg", "Pics\\a.JPG", "./pics/a.jpg"])
def test_the_folder_named_twice(tmp_path, cell):
    shop(tmp_path/"deep", "pics/a.jpg"); (tmp_path/"tables").mkdir()
    log = CleaningLog()
    table = place_images(pd.DataFrame(dict(item=["i"], image=[cell])), tmp_path/"tables", tmp_path/"deep"/"pics", log)
    assert table.image_path[0] == str(tmp_path/"deep"/"pics"/"a.jpg")


def test_one_end_is_not_taken_for_two_pictures(tmp_path):
    "men/1.jpg and women/1.jpg are two pictures; the one 1.jpg here is neither's for sure. The same cell twice is one picture."
    shop(tmp_path/"s", "1.jpg", "2.jpg")
    found, rules = placed(tmp_path/"s", {"A": "C:\\men\\1.jpg", "B": "C:\\women\\1.jpg", "C": "C:\\men\\2.jpg", "D": "C:/men/2.jpg"})
    assert found == {"A": "", "B": "", "C": "2.jpg", "D": "2.jpg"} and rules[SHARED] == 2 and rules[ENDS] == 2


def test_the_named_folder_goes_before_the_tables(tmp_path):
    shop(tmp_path, "a.jpg", "pics/a.jpg", "pics/b.jpg")
    assert placed(tmp_path, {"A": "a.jpg"}, tmp_path/"pics")[0] == {"A": "pics/a.jpg"} and placed(tmp_path, {"A": "a.jpg"})[0] == {"A": "a.jpg"}


# what may not be read

@pytest.fixture
def home(tmp_path):
    "A table's folder with a private picture beside it, and links that lead there."
    shop(tmp_path, "home/passport.png", "home/sub/x.jpg", "s/pics/a.jpg")
    (tmp_path/"s"/"link.png").symlink_to(tmp_path/"home"/"passport.png")
    (tmp_path/"s"/"away").symlink_to(tmp_path/"home")
    (tmp_path/"s"/"hop.png").symlink_to("link.png")
    return tmp_path


CELLS = ["{home}/passport.png", "../home/passport.png", "pics/../../home/passport.png", "link.png", "hop.png", "away/passport.png", "away/sub/x.jpg", "..\\home\\passport.png", "%2e%2e/home/passport.png", "..%2Fhome%2Fpassport.png",
         "file://{home}/passport.png", "file://localhost{home}/passport.png", "{home}/passport", "../home/passport.jpg", "./../home/./passport.png", "//{home}/passport.png", "{home}//passport.png", "pics/../link.png"]

@pytest.mark.parametrize("cell", CELLS)
def test_a_picture_outside_the_folder_is_not_read(home, cell):
    cell = cell.format(home=home/"home")
    found, rules = placed(home/"s", {"i": cell})
    assert found == {"i": ""} and (cell.startswith("//") or rules == {OUTSIDE: 1})


@pytest.mark.parametrize("cell", CELLS)
def test_it_is_read_where_the_user_names_its_folder(home, cell):
    if cell.startswith("//"): pytest.skip("an address without a scheme")
    found, rules = placed(home/"s", {"i": cell.format(home=home/"home")}, home/"home")
    assert (home/"s"/found["i"]).samefile(home/"home"/("sub/x.jpg" if "sub" in cell else "passport.png")) and OUTSIDE not in rules


def test_names_do_not_lead_outside_either(home):
    shop(home, "s/pics/b.jpg")
    (home/"s"/"pics"/"evil.jpg").symlink_to(home/"home"/"passport.png")
    (home/"s"/"pics"/"ok.jpg").symlink_to("b.jpg")
    found, _ = placed(home/"s", {"evil": "", "ok": "", "b": "", "../home/passport": "", "passport": ""}, home/"s"/"pics")
    assert found == {"evil": "", "ok": "pics/ok.jpg", "b": "pics/b.jpg", "../home/passport": "", "passport": ""}
    assert find_images(["..", "b", "../home/passport"], f"{home}/s/{{item}}/passport.png") == [""]*3
    assert find_images(["b", "../home/passport"], f"{home}/s/pics/{{item}}.jpg") == [f"{home}/s/pics/b.jpg", ""]


def test_pipes_devices_and_folders_are_no_pictures(tmp_path):
    shop(tmp_path, "pics/a.jpg"); os.mkfifo(tmp_path/"pics"/"pipe.jpg"); (tmp_path/"pics"/"dir.jpg").mkdir()
    (tmp_path/"pics"/"zero.jpg").symlink_to("/dev/zero"); (tmp_path/"pics"/"round.jpg").symlink_to("round.jpg")
    found, _ = placed(tmp_path, {n: f"pics/{n}.jpg" for n in ("a", "pipe", "dir", "zero", "round")} | {"z": "/dev/zero", "p": "/proc/self/environ"})
    assert {i for i, p in found.items() if p} == {"a"}


def test_a_foreign_table_does_not_reach_the_users_pictures(home):
    "From the files to the tables, as `mmrec describe` reads them."
    rows = [f"u{k},i{k % 3},{k % 5 + 1},words {k}" for k in range(30)]
    (home/"s"/"r.csv").write_text("user,item,rating,text\n" + "\n".join(rows) + "\n")
    (home/"s"/"m.csv").write_text(f"item,title,image\ni0,Hat,{home}/home/passport.png\ni1,Cap,../home/passport.png\ni2,Coat,pics/a.jpg\n")
    data = load_dataset(home/"s"/"r.csv", home/"s"/"m.csv")
    assert dict(zip(data.items.item, data.items.image_path)) == {"i0": "", "i1": "", "i2": str(home/"s"/"pics"/"a.jpg")}
    said = data.log[data.log.rule == OUTSIDE].iloc[0]
    assert said.rows == 2 and "--images" in said.rule and "i0" in said.examples
    data = load_dataset(home/"s"/"r.csv", home/"s"/"m.csv", images=home/"home")
    assert data.items.set_index("item").image_path["i0"] == str(home/"home"/"passport.png")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "pics", "away", "home", "link.png", "passport.png", "a.jpg", "/", "\\", "%2e%2e", "%2f", "C:", "file://", "", "//", " ", "passport", "sub"]), max_size=7), st.sampled_from(["/", "\\", ""]))
def test_no_path_whatever_leaves_the_folder(tmp_path_factory, parts, by):
    top = tmp_path_factory.getbasetemp()/"walk"
    if not top.exists():
        shop(top, "home/passport.png", "s/pics/a.jpg")
        (top/"s"/"link.png").symlink_to(top/"home"/"passport.png"); (top/"s"/"away").symlink_to(top/"home")
    path, _ = _Disk([top/"s"]).find(by.join(parts), [str(top/"s")])
    assert not path or Path(path).resolve().is_relative_to((top/"s").resolve())


# names

def test_templates_find_any_suffix(tmp_path):
    shop(tmp_path, "p/a.jpg", "p/b.JPG", "p/c.jpeg", "p/d.png", "p/e.WEBP", "p/f.txt", "p/sub/g.jpg", "p/x.y.png", "p/12/front.PNG", "p/13/front.jpg", "p/13/back.jpg", "p/im_7_1.jpg")
    name = lambda paths: [os.path.relpath(p, tmp_path/"p") if p else "" for p in paths]
    for suffix in (".jpg", ".png", "", ".JPEG"):
        assert name(find_images(list("abcdefg") + ["x.y"], f"{tmp_path}/p/{{item}}{suffix}")) == ["a.jpg", "b.JPG", "c.jpeg", "d.png", "e.WEBP", "", "", "x.y.png"]
    assert name(find_images(["12", "13", "14"], f"{tmp_path}/p/{{item}}/front.jpg")) == ["12/front.PNG", "13/front.jpg", ""]
    assert name(find_images(["7", "8"], f"{tmp_path}/p/im_{{item}}_1.png")) == ["im_7_1.jpg", ""]


def test_templates_with_signs_and_twice_the_item(tmp_path):
    shop(tmp_path, "p (1)/[a]+a.jpg", "p (1)/[a]+b.jpg", "b/b.jpg", "b/c.jpg")
    assert find_images(["a", "b"], f"{tmp_path}/p (1)/[a]+{{item}}.jpg") == [f"{tmp_path}/p (1)/[a]+a.jpg", f"{tmp_path}/p (1)/[a]+b.jpg"]
    assert find_images(["b", "c"], f"{tmp_path}/{{item}}/{{item}}.jpg") == [f"{tmp_path}/b/b.jpg", ""]


def test_sub_folders_as_shops_have_them(tmp_path):
    items = [f"0{k:09}" for k in range(1, 400)]
    for i in items: shop(tmp_path, f"images/{i[:7]}/{i}.jpg")
    shop(tmp_path, "images/.thumbs/x.jpg", "images/__MACOSX/._0000000001.jpg")
    assert find_images(items + ["x", "._0000000001"], tmp_path/"images") == [f"{tmp_path}/images/{i[:7]}/{i}.jpg" for i in items] + ["", ""]


def test_the_first_of_several_and_a_word_on_it(tmp_path):
    shop(tmp_path, "p/a.png", "p/a.jpg", "p/b.JPG", "p/b.jpg", "p/sub/c.jpg", "p/c.tiff", "p/y/d.jpg", "p/x/d.jpg")
    log = CleaningLog()
    assert [os.path.relpath(p, tmp_path/"p") for p in find_images(list("abcd"), tmp_path/"p", log)] == ["a.jpg", "b.jpg", "c.tiff", "x/d.jpg"]
    assert log.entries[("items", SEVERAL, "kept")] == [4, list("abc")]
    order = list("abcd"); random.Random(0).shuffle(order)
    assert dict(zip(order, find_images(order, tmp_path/"p"))) == dict(zip("abcd", find_images(list("abcd"), tmp_path/"p")))


@pytest.mark.parametrize("items, files, found", [
    (["108", "4000"], ["0108", "4000"], {"108": "0108", "4000": "4000"}), (["0108", "4000"], ["108", "4000"], {"0108": "108", "4000": "4000"}), (["108", "0108"], ["00108"], {}), (["108", "0108"], ["0108"], {"0108": "0108"}),
    (["108", "7"], ["0108", "07"], {}), (["7"], ["007", "0007"], {}), (["7", "12"], ["007", "012", "0100"], {}), (["7", "a"], ["007", "a", "b1"], {"7": "007", "a": "a"}), (["0"], ["000"], {"0": "000"}), (["٧"], ["07"], {})])
def test_zeros_lost_on_one_side(tmp_path, items, files, found):
    shop(tmp_path, *(f"p/{f}.jpg" for f in files))
    log = CleaningLog()
    got = {i: Path(p).stem for i, p in zip(items, find_images(items, tmp_path/"p", log)) if p}
    assert got == found
    assert sum(n for (_, rule, _), (n, _) in log.entries.items() if rule == ZEROS) == sum(i != f for i, f in found.items())


def test_nothing_found_is_an_error_with_a_remedy(tmp_path):
    shop(tmp_path, "p/a.jpg")
    with pytest.raises(MmrecError, match="no item has a picture there — name files after items"): placed(tmp_path, {"X": ""}, tmp_path/"p")
    with pytest.raises(MmrecError, match="q: .*check the spelling"): placed(tmp_path, {"X": ""}, tmp_path/"q")
    with pytest.raises(MmrecError, match="check the spelling"): placed(tmp_path, {"X": ""}, f"{tmp_path}/q/{{item}}.jpg")
    assert placed(tmp_path, {}, tmp_path/"p")[0] == {}


def test_a_hundred_thousand_cells_take_seconds(tmp_path):
    shop(tmp_path, *(f"p/{k}.jpg" for k in range(200)))
    start = time.monotonic()
    found, rules = placed(tmp_path, {str(k): f"p\\{k % 250}.png" for k in range(30_000)})
    assert sum(map(bool, found.values())) == 24_000 and rules == {RESPELLED: 24_000, LOST: 6_000} and time.monotonic() - start < 30
