"Pictures of which some lie on disk and others have an address."
import pandas as pd
import pytest
from PIL import Image
from mmrec.data.tables import load_dataset
from mmrec.pipeline import RunConfig, find_pictures


@pytest.mark.parametrize("limit,statuses", [(0, ["ok", "failed", "ok", "no file"]), (2, ["ok", "failed", "not asked", "no file"]), (1, ["ok", "not asked", "not asked", "no file"])])
def test_each_item_gets_its_own(tmp_path, monkeypatch, limit, statuses):
    for name in ("a.png", "c.png"): Image.new("RGB", (40, 40), "red").save(tmp_path/name)
    pd.DataFrame(dict(user=list("uvwxyz")*2, item=list("ABCD")*3, rating=[1, 2, 3, 4, 5, 4]*2)).to_csv(tmp_path/"r.csv", index=False)
    pd.DataFrame(dict(item=list("ABCD"), title=list("abcd"), image=["a.png", "http://host.invalid/b.png", "c.png", ""])).to_csv(tmp_path/"i.csv", index=False)
    data = load_dataset(tmp_path/"r.csv", tmp_path/"i.csv")
    items, table = find_pictures(data, RunConfig(reviews=str(tmp_path/"r.csv"), n_images=limit, data=str(tmp_path/"data")), "head")
    found = table.set_index("item").status.loc[list("ABCD")].tolist()
    assert [("failed" if s not in ("ok", "not asked", "no file", "no url", "bad url") else "no file" if s in ("no url", "bad url") else s) for s in found] == statuses
    assert (items.set_index("item").image_path != "").loc[list("ABCD")].tolist() == [s == "ok" for s in statuses]
